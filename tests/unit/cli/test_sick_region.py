"""Two regions, ``us`` behind a toxic proxy: what each command does for the one that is well, and says of the other."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from contract_pins import require_pinned
from refloat.cli.main import run
from refloat.flows import newer
from refloat.testing.toxic import (
    Line,
    Toxic,
    ToxicProxy,
    answer,
    cut_body,
    drip,
    hang,
    late,
    lie,
    lose_reply,
    reset,
)
from refloat.vault import first_word
from refloat.vault.stores.patience import Patience
from small_bucket import NAME, Bucket
from small_desk import Desk, seated

REGIONS = f"""\
regions:
  eu: {{{{vault: "eu/vault"}}}}
  us: {{{{vault: "s3://{NAME}/v"}}}}
"""
US = f"s3://{NAME}/v"
PATIENT = Patience(wait_first_s=0.001, wait_max_s=0.002)
"""As a user's, but for the waits."""
QUICK = Patience(
    first_word_s=0.3,
    silence_s=0.3,
    again_s=0.1,
    bytes_per_s_min=10**9,
    request_s=0.5,
    call_s=0.5,
    wait_first_s=0.001,
    wait_max_s=0.002,
)
"""For a line that never answers, so that nothing is waited for in vain."""


@dataclass(frozen=True)
class Sick:
    """What is wrong with ``us``: which requests it spoils, and whether reading and writing there still succeed."""

    toxic: Callable[[], Toxic]
    method: str | None = None
    reads: bool = False
    writes: bool = False
    patience: Patience = PATIENT


def after(count: int, toxic: Toxic) -> Callable[[], Toxic]:
    """All is well for so many requests, and never again."""

    def made() -> Toxic:
        left = iter(range(count))
        return lambda line: toxic(line) if next(left, None) is None else pass_on(line)

    return made


def pass_on(line: Line) -> None:
    line.reply(line.forward())


BUSY = answer(503, "SlowDown")
SICK = {
    "latency": Sick(lambda: late(0.002), reads=True, writes=True),
    "reset": Sick(lambda: reset),
    "503": Sick(lambda: BUSY),
    "hang before the reply": Sick(lambda: hang, patience=QUICK),
    "hang in the body": Sick(lambda: drip(1), method="GET", patience=QUICK),
    "lost reply": Sick(lambda: lose_reply, method="PUT", reads=True, writes=True),
    "truncated body": Sick(lambda: cut_body, method="GET"),
    "lying success": Sick(lambda: lie, method="PUT", reads=True),
    "full": Sick(lambda: answer(507, "InsufficientStorage"), method="PUT", reads=True),
    "503 once it was opened": Sick(after(12, BUSY)),
    "hang once it was opened": Sick(after(12, hang), patience=QUICK),
}


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with Bucket().serving() as serving:
        yield serving


@pytest.fixture(scope="module")
def vault(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A folder and a bucket with one point in both regions, to begin every test with."""
    folder = tmp_path_factory.mktemp("sick")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        desk = seated(folder, patch)
        reach(patch, bucket.endpoint, PATIENT)
        desk.write_manifest(regions=REGIONS)
        desk.release(1)
        assert run(["-q", "vault", "init", "--key", "small.key"]) == 0
        assert run(["-q", "protect"]) == 0
    return folder, dict(bucket.objects)


def reach(patch: pytest.MonkeyPatch, endpoint: str, patience: Patience) -> None:
    credentials = {"AWS_ACCESS_KEY_ID": "writer", "AWS_SECRET_ACCESS_KEY": "of-the-writer"}
    for name, value in {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1", **credentials}.items():
        patch.setenv(name, value)
    patch.setattr("refloat.vault.stores.object.Patience", lambda: patience)


@dataclass
class Clinic:
    """A desk whose second region can fall sick."""

    desk: Desk
    proxy: ToxicProxy
    patch: pytest.MonkeyPatch

    def fall(self, sick: Sick) -> None:
        reach(self.patch, self.proxy.url, sick.patience)
        self.proxy.poison(sick.toxic(), method=sick.method)

    def heal(self) -> None:
        self.proxy.heal()
        reach(self.patch, self.proxy.url, PATIENT)

    def ask(self, *arguments: str, well: bool) -> dict[str, Any]:
        """A command's document; where not all is well it ends with 1."""
        document = self.desk.ask(*arguments, exits=0 if well else 1)
        assert "Traceback" not in self.desk.said
        return document

    def page(self, region: str, point: str, version: int) -> str:
        """A page of a point, as one region alone has it."""
        address = US if region == "us" else str(self.desk.vault("eu"))
        read = self.desk.read("vault", "cat", point, "pages", f"content/{version}.txt", "--vault", address)
        assert read, self.desk.said
        return read


@pytest.fixture
def clinic(
    vault: tuple[Path, dict[str, bytes]],
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Clinic]:
    folder, objects = vault
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    bucket.objects.clear()
    bucket.objects.update(objects)
    with ToxicProxy(bucket.endpoint) as proxy:
        reach(monkeypatch, proxy.url, PATIENT)
        yield Clinic(seated(tmp_path, monkeypatch, capsys), proxy, monkeypatch)


sick = pytest.mark.parametrize("sick", SICK.values(), ids=SICK)


def is_told(error: str) -> bool:
    """Whether an error says what to do next, and nothing of the library that met it."""
    return "next: " in error and "Error performing" not in error and "HTTP error" not in error


@sick
def test_a_point_is_complete_where_all_is_well_and_every_acknowledged_copy_can_be_read(
    clinic: Clinic, sick: Sick
) -> None:
    # faults 1, 4, 6, 7, 8, 9
    clinic.fall(sick)
    clinic.desk.release(2)
    done = clinic.ask("protect", well=sick.writes)
    regions = done["regions"]
    assert regions["eu"] == {"complete": True, "error": None}
    assert regions["us"]["complete"] is sick.writes
    assert sick.writes or is_told(regions["us"]["error"])
    clinic.heal()
    text = (clinic.desk.root / "eu" / "pages" / "2.txt").read_text()
    listed = clinic.desk.ask("points", "list")["points"][0]
    assert (listed["point"], listed["regions"]) == (done["point"], ["eu", "us"] if sick.writes else ["eu"])
    assert {region: clinic.page(region, done["point"], 2) for region in listed["regions"]} == dict.fromkeys(
        listed["regions"], text
    )


@sick
def test_a_recovery_from_the_well_region_brings_everything_back(clinic: Clinic, sick: Sick) -> None:
    # faults 6, 7, 8
    live = clinic.desk.pages("eu")
    clinic.fall(sick)
    done = clinic.desk.ask("recover", "--to", "us", "--vault", str(clinic.desk.vault("eu")))
    assert done["state"] == "done"
    assert clinic.desk.pages("us") == live


@sick
def test_a_recovery_from_the_sick_region_is_whole_or_ends_with_an_error_that_names_it(
    clinic: Clinic, sick: Sick
) -> None:
    # faults 6, 7, 8
    live = clinic.desk.pages("eu")
    clinic.fall(sick)
    code, document = clinic.desk.answer("recover", "--to", "us")
    if sick.reads and sick.writes:
        assert (code, clinic.desk.pages("us")) == (0, live)
        return
    error = document["error"]
    assert code in (1, 4) and error["code"] in ("store", "vault_damaged")
    assert (error["region"], bool(error["file"]), bool(error["next"])) == ("us", True, True)
    assert clinic.desk.pages("us") == {}
    assert clinic.desk.pages("eu") == live


@sick
def test_status_tells_of_both_what_it_knows(clinic: Clinic, sick: Sick) -> None:
    # faults 7, 8
    before = clinic.desk.answer("status")[1]["regions"]  # how it ends depends on the age of the point as well
    clinic.fall(sick)
    code, found = clinic.desk.answer("status")
    regions = found["regions"]
    assert sick.reads or (code, found["well"]) == (1, False)
    assert regions["eu"] == before["eu"]
    assert sick.reads == (regions["us"] == before["us"])
    assert sick.reads or regions["us"]["error"]


@sick
def test_a_check_reads_the_well_region_and_says_that_the_other_does_not_answer(
    clinic: Clinic, sick: Sick
) -> None:
    # faults 6, 7, 8
    address = ("--vault", str(clinic.desk.vault("eu")))
    alone = clinic.desk.ask("vault", "check", "--read-data", *address)
    both = clinic.desk.ask("vault", "check", "--read-data")
    clinic.fall(sick)
    found = clinic.ask("vault", "check", "--read-data", well=sick.reads)
    counted = ("packs", "chunks", "bytes_read", "damaged")
    expected = both if sick.reads else alone
    assert {what: found[what] for what in counted} == {what: expected[what] for what in counted}
    assert found["unreachable"] == ([] if sick.reads else ["us"])


@sick
def test_a_repair_goes_over_the_well_region_and_says_that_the_other_does_not_answer(
    clinic: Clinic, sick: Sick
) -> None:
    # faults 6, 7, 8
    clinic.fall(sick)
    found = clinic.ask("vault", "repair", well=sick.reads)
    assert set(found["regions"]) == ({"eu", "us"} if sick.reads else {"eu"})
    assert all(not region["mended"] and not region["left"] for region in found["regions"].values())
    assert found["unreachable"] == ([] if sick.reads else ["us"])


ENDLESS = Patience(first_word_s=3600.0, first_call_s=3600.0, silence_s=3600.0)
"""A verb that waits for the region as long as its store does would not end."""
GO_ON = {
    "protect": ("protect",),
    "status": ("status",),
    "check": ("check",),
    "vault check": ("vault", "check"),
    "vault repair": ("vault", "repair"),
    "points list": ("points", "list"),
    "plan": ("plan", "--to", "eu"),
    "recover": ("recover", "--to", "us", "--vault", "eu/vault"),
}
READERS = ("points list", "plan", "recover")
"""Verbs that have all they need in one region, so that they end well."""


@pytest.mark.parametrize("verb", GO_ON)
def test_no_verb_waits_long_for_a_region_that_never_says_a_word_and_each_names_it(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    # fault 8
    monkeypatch.setattr(first_word, "FIRST_WORD_S", 0.05)
    clinic.fall(Sick(lambda: hang, patience=ENDLESS))
    code, found = clinic.desk.answer(*GO_ON[verb])
    assert code == (0 if verb in READERS else 1), clinic.desk.said
    assert "us was not heard" in f"{found}{clinic.desk.said}"


def test_check_tells_that_it_could_not_compare_the_logs_instead_of_calling_nobody_behind(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    # fault 7
    compare = newer.late

    def late_once_it_is_busy(*arguments: Any) -> Any:
        clinic.proxy.poison(BUSY)
        return compare(*arguments)

    monkeypatch.setattr(newer, "late", late_once_it_is_busy)
    found = clinic.ask("check", well=False)
    told = {one["where"]: one for one in found["problems"] if "not known" in one["message"]}
    assert set(told) == {"regions.eu", "regions.us"}
    assert {(one["level"], one["retry"]) for one in told.values()} == {("error", "later")}


def test_status_and_vault_check_are_not_well_where_nobody_can_tell_who_is_behind(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    # fault 7
    compare = newer.late

    def late_in_an_outage(*arguments: Any) -> Any:
        clinic.proxy.poison(BUSY)
        try:
            return compare(*arguments)
        finally:
            clinic.proxy.heal()

    monkeypatch.setattr(newer, "late", late_in_an_outage)
    found = clinic.ask("status", well=False)
    assert not found["well"] and all("not known" in one["unknown"] for one in found["regions"].values())
    checked = clinic.ask("vault", "check", well=False)
    assert not checked["ok"] and set(checked["unknown"]) == {"eu", "us"}
    require_pinned("status", "who is behind is not known", found)
    require_pinned("vault check", "who is behind is not known", checked)
