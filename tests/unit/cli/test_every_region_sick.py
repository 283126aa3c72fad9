"""No region answers: each verb ends with an error that says whether trying again helps, and what was asked for."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract_pins import printed, require_pinned
from refloat.cli.main import run
from refloat.errors import Damaged, Retry, StoreError, WrongKey, most_hopeful
from refloat.testing.toxic import ToxicProxy, answer, hang, reset
from small_bucket import NAME, Bucket
from small_desk import Desk, seated
from test_sick_region import PATIENT, QUICK, Sick, reach

REGIONS = f"""\
regions:
  eu: {{{{vault: "s3://{NAME}/eu"}}}}
  us: {{{{vault: "s3://{NAME}/us"}}}}
"""
BUSY = answer(503, "SlowDown")
FORBIDDEN = answer(403, "AccessDenied")
SICK = {
    "503": Sick(lambda: BUSY),
    "reset": Sick(lambda: reset),
    "hang": Sick(lambda: hang, patience=QUICK),
}
VERBS = {
    "recover": ("recover", "--to", "us"),
    "protect": ("protect",),
    "status": ("status",),
    "check": ("check",),
    "points list": ("points", "list"),
    "plan": ("plan", "--to", "us"),
    "export": ("vault", "export", "latest", "--into", "out"),
    "vault check": ("vault", "check"),
    "vault repair": ("vault", "repair"),
    "vault ls": ("vault", "ls", "latest"),
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


@pytest.fixture
def desk(
    vault: tuple[Path, dict[str, bytes]],
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Desk:
    folder, objects = vault
    bucket.objects.clear()
    bucket.objects.update(objects)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return seated(tmp_path, monkeypatch, capsys)


@pytest.fixture
def proxy(bucket: Bucket) -> Iterator[ToxicProxy]:
    with ToxicProxy(bucket.endpoint) as proxy:
        yield proxy


def told(desk: Desk, verb: str) -> list[dict[str, Any]]:
    """What a command says of the regions, each with whether trying again helps."""
    code, document = desk.answer(*VERBS[verb])
    assert code == 1, document
    assert "Traceback" not in desk.said
    if verb == "check":
        return [one for one in document["problems"] if one["where"].startswith("regions.")]
    return [document["error"]]


@pytest.mark.parametrize("sick", SICK.values(), ids=SICK)
@pytest.mark.parametrize("verb", VERBS)
def test_where_no_region_answers_the_error_says_to_try_again_and_what_was_asked_for(
    desk: Desk, proxy: ToxicProxy, monkeypatch: pytest.MonkeyPatch, sick: Sick, verb: str
) -> None:
    # faults 7, 8
    reach(monkeypatch, proxy.url, sick.patience)
    proxy.poison(sick.toxic(), method=sick.method)
    errors = told(desk, verb)
    assert errors
    for error in errors:
        assert error["retry"] == "later", error
        assert error["file"] == "vault.json", error
        assert f"s3://{NAME}/" in error["message"] and error["next"]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("check", "recover", "plan")])
def test_the_most_hopeful_region_is_spoken_of_though_another_comes_first(
    desk: Desk, proxy: ToxicProxy, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    # fault 7
    reach(monkeypatch, proxy.url, PATIENT)
    proxy.poison(FORBIDDEN, path="/eu")
    proxy.poison(BUSY, path="/us")
    proxy.poison(BUSY)  # a listing has its folder in the query
    (error,) = told(desk, verb)
    assert (error["retry"], error["file"]) == ("later", "vault.json"), error


@pytest.mark.parametrize(
    "verb", ["protect", "status", "points list", "vault check", "vault ls", "recover", "plan"]
)
def test_regions_that_fall_silent_once_they_were_opened_are_told_of_so_too(
    desk: Desk, proxy: ToxicProxy, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    # fault 7
    reach(monkeypatch, proxy.url, PATIENT)
    proxy.poison(BUSY, path="/log/points")
    proxy.poison(BUSY, path="/packs/")
    (error,) = told(desk, verb)
    assert error["retry"] == "later" and error["file"], error


@pytest.mark.parametrize("verb", VERBS)
def test_an_outage_at_the_very_first_request_is_waited_out(
    desk: Desk, proxy: ToxicProxy, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    # fault 7
    reach(monkeypatch, proxy.url, PATIENT)
    proxy.poison(BUSY, times=PATIENT.attempts_max - 2)
    _, document = desk.answer(*VERBS[verb])
    assert "error" not in document, document
    assert all(
        "error" not in region or region["error"] is None for region in document.get("regions", {}).values()
    )


def test_check_says_of_each_region_that_asking_again_helps(
    desk: Desk, proxy: ToxicProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # fault 7
    reach(monkeypatch, proxy.url, PATIENT)
    proxy.poison(BUSY)
    require_pinned("check", "no region answers", printed(desk, "check", exits=1))


def test_of_several_causes_the_first_that_trying_again_helps_is_the_most_hopeful() -> None:
    never, later, again, now = (
        Damaged("never"),
        StoreError("later", retry=Retry.LATER),
        StoreError("again", retry=Retry.LATER),
        StoreError("now", retry=Retry.NOW),
    )
    assert most_hopeful([never, WrongKey("none")]) is never
    assert most_hopeful([never, later, again]) is later
    assert most_hopeful([never, later, now]) is now
