"""``refloat check`` looks at everything, changes nothing, and says what is wrong."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from refloat.cli import check as verb
from refloat.cli.findings import ComponentSeen, Level, Problem, RegionSeen, Seen, problems
from refloat.cli.main import run
from refloat.cli.system import SystemClock
from refloat.connectors.files import Files
from refloat.contracts import Facts, Health
from refloat.deadline import within
from refloat.errors import ConnectorError, Damaged, Missing, StoreError
from refloat.manifest.model import Manifest
from refloat.point.model import Point, Snapshot, Verdict
from refloat.vault.keyfile import KeyFile
from refloat.vault.replica import create_vault
from refloat.vault.stores import open_store
from refloat.vault.writer import Writer

# ------------------------------------------------------------------------------------- from seen to problems


def manifest(**changed: object) -> Manifest:
    document = {
        "version": 1,
        "pipeline": "notes",
        "regions": {"eu": {"vault": "/v/eu"}, "us": {"vault": "/v/us"}},
        "primary": "eu",
        "components": {"docs": {"kind": "files"}, "web": {"kind": "process"}},
    }
    return Manifest.model_validate({**document, **changed})


def seen(world: Manifest | None = None, **changed: object) -> Seen:
    """A world where all is well, except what a test changes."""
    world = world or manifest()
    well: dict[str, object] = {
        "components": {name: ComponentSeen(Facts(), Health.HEALTHY) for name in world.components},
        "regions": {name: RegionSeen(f"/v/{name}", "notes", 3) for name in world.regions},
        "protected": frozenset(world.components),
    }
    return Seen(world, **{**well, **changed})  # type: ignore[arg-type]


def told(world: Seen) -> list[tuple[str, str]]:
    return [(str(problem.level), problem.where) for problem in problems(world)]


def only(world: Seen) -> Problem:
    (problem,) = problems(world)
    return problem


def test_where_all_is_well_there_is_nothing_to_tell():
    assert problems(seen()) == []


def test_a_component_that_does_not_answer_is_an_error():
    gone = ComponentSeen(error=ConnectorError("no such folder", next="make it"))
    problem = only(seen(components={"docs": gone}))
    assert problem == Problem(Level.ERROR, "components.docs", "no such folder", "make it")


@pytest.mark.parametrize(("health", "level"), [(Health.SICK, "error"), (Health.UNKNOWN, "warning")])
def test_health_that_is_not_good_is_told(health: Health, level: str):
    assert told(seen(components={"web": ComponentSeen(Facts(), health)})) == [(level, "components.web")]


def test_a_region_without_a_vault_is_only_a_warning():
    regions = {"us": RegionSeen("/v/us", error=Missing("none"))}
    problem = only(seen(regions=regions))
    assert (problem.level, problem.next) == (Level.WARNING, "refloat vault init")


@pytest.mark.parametrize("error", [StoreError("no answer"), Damaged("garbage")])
def test_a_region_that_does_not_answer_is_an_error(error: Exception):
    assert told(seen(regions={"us": RegionSeen("/v/us", error=error)})) == [("error", "regions.us")]  # type: ignore[arg-type]


def test_the_vault_of_another_pipeline_is_an_error():
    assert "'other'" in only(seen(regions={"us": RegionSeen("/v/us", "other", 0)})).message


def test_what_is_in_no_point_is_unprotected():
    problem = only(seen(protected=frozenset({"docs"})))
    assert (problem.where, problem.next) == ("components.web", "refloat protect")


def test_a_vault_without_a_point_is_told_once():
    assert told(seen(protected=frozenset())) == [("warning", "components")]


def test_without_a_key_nothing_is_said_of_points():
    assert problems(seen(protected=None)) == []


def test_an_rpo_shorter_than_the_cadence_is_impossible():
    world = manifest(components={"docs": {"kind": "files", "protect": {"every": "2h"}}})
    problem = only(seen(world))
    assert problem.level is Level.ERROR
    assert problem.message == "captured every 2h, it can never meet an RPO of 30m"


def test_a_group_is_captured_as_often_as_its_fastest_member():
    components = {"docs": {"kind": "files", "protect": {"every": "2h"}}, "web": {"kind": "files"}}
    assert told(seen(manifest(components=components))) == [("error", "components.docs.protect")]
    grouped = manifest(components=components, groups={"g": {"members": ["docs", "web"]}})
    assert problems(seen(grouped)) == []


def test_more_copies_than_regions_is_told():
    world = manifest(regions={"eu": {"vault": "/v/eu"}})
    assert told(seen(world)) == [("warning", "components.docs.tier"), ("warning", "components.web.tier")]


@pytest.mark.parametrize("key", ["site", "account"])
def test_regions_that_can_fail_together_are_told(key: str):
    regions = {name: {"vault": f"/v/{name}", "domain": {key: "x", "provider": "p"}} for name in ("eu", "us")}
    assert told(seen(manifest(regions=regions))) == [("warning", "regions.us.domain")]


def test_two_replicas_in_one_place_are_an_error():
    regions = {name: RegionSeen("/v/same", "notes", 1) for name in ("eu", "us")}
    assert told(seen(regions=regions)) == [("error", "regions.us.vault")]


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (Verdict(must="a.x == b.x", holds=False), "does not hold now"),
        (Verdict(must="a.x == b.x", holds=None, values={"a.x": 1, "b.x": None}), "no fact is called b.x"),
        (Verdict(must="a.x == b.x", holds=None, reason="too slow"), "too slow"),
        (
            Verdict(must="a.x == b.x", holds=None, reason="not evaluated: it hung"),
            "was not evaluated: it hung",
        ),
    ],
)
def test_an_invariant_that_is_not_true_is_an_error(verdict: Verdict, words: str):
    problem = only(seen(verdicts={"g": [Verdict(must="fine", holds=True), verdict]}))
    assert (problem.level, problem.where) == (Level.ERROR, "groups.g.must")
    assert words in problem.message


def test_what_another_region_would_lack_is_a_warning():
    problem = only(seen(missing={"eu": [], "us": ["env:A", "file:/b"]}))
    assert problem.message == "not to be had on this machine: env:A, file:/b"


def test_what_this_version_does_nothing_with_is_told():
    world = manifest(
        witness="/w",
        drills={"full": "yearly"},
        people={"a": {"name": "A", "contact": "a"}},
        components={"docs": {"kind": "files", "hold": "7y", "profiles": {}}},
    )
    assert [where for _, where in told(seen(world))] == [
        "people",
        "witness",
        "drills",
        "components.docs.profiles",
    ]


def test_errors_come_first():
    components = {
        "web": ComponentSeen(Facts(), Health.UNKNOWN),
        "docs": ComponentSeen(error=ConnectorError("x")),
    }
    assert [level for level, _ in told(seen(components=components))] == ["error", "warning"]


# -------------------------------------------------------------------------------------------- the whole verb

Check = Callable[..., tuple[int, Mapping[str, object]]]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder and a database to protect into two regions, and no vault yet."""
    for name in ("REFLOAT_KEY_FILE", "REFLOAT_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "limits.json").write_text('{"most": 5}')
    with sqlite3.connect(tmp_path / "state.db") as database:
        database.execute("create table steps (name)")
    database.close()
    write(tmp_path)
    return tmp_path


def write(root: Path, more: str = "", **settings: str) -> None:
    docs = settings.get("docs", f'{{path: "{root}/docs", expose: {{limits: limits.json}}}}')
    (root / "refloat.yaml").write_text(
        f"""\
version: 1
pipeline: notes
regions:
  eu: {{vault: "{root}/vault/eu", domain: {{site: here}}}}
  us: {{vault: "{settings.get("us", f"{root}/vault/us")}", domain: {{site: there}}}}
primary: eu
components:
  docs: {{kind: {settings.get("kind", "files")}, with: {docs}}}
  state: {{kind: sqlite, with: {{path: "{root}/state.db"}}}}
{more}
"""
    )


@pytest.fixture
def check(world: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    def look() -> tuple[int, Mapping[str, object]]:
        code = run(["-f", str(world / "refloat.yaml"), "check", "--json"])
        return code, json.loads(capsys.readouterr().out)

    return look


def wheres(document: Mapping[str, object], level: str) -> list[str]:
    return [problem["where"] for problem in document["problems"] if problem["level"] == level]  # type: ignore[attr-defined]


def protect(world: Path, monkeypatch: pytest.MonkeyPatch, components: list[str]) -> None:
    """A vault in both regions with one point that holds ``components``."""
    key = KeyFile.create("v1", "notes")
    key.save(world / "key")
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(world / "key"))
    stores = {region: open_store(f"{world}/vault/{region}") for region in ("eu", "us")}
    replicas = create_vault(stores, key, SystemClock(), "notes")
    now = datetime.now(UTC)
    with Writer(list(replicas.values())) as writer:
        tree = writer.sink().finish().tree
        snapshot = Snapshot(
            kind="files", tree=tree, identity={}, position={}, as_of=now, captured_from=now, captured_to=now
        )
        point = Point(
            pipeline="notes",
            primary="eu",
            created_at=now,
            manifest=tree,
            components=dict.fromkeys(components, snapshot),
        )
        writer.commit(point.model_dump(mode="json"))


def test_a_new_pipeline_is_ready_but_for_its_vaults(check: Check, world: Path):
    before = sorted(world.rglob("*"))
    code, document = check()
    assert (code, document["ok"]) == (0, True)
    assert wheres(document, "warning") == ["regions.eu", "regions.us"]
    assert document["components"]["docs"] == {  # type: ignore[index]
        "kind": "files",
        "tier": "operational",
        "reachable": True,
        "health": "healthy",
        "protected": None,
    }
    assert sorted(world.rglob("*")) == before


def test_a_protected_pipeline_has_no_problems(check: Check, world: Path, monkeypatch: pytest.MonkeyPatch):
    protect(world, monkeypatch, ["docs", "state"])
    code, document = check()
    assert (code, document["problems"]) == (0, [])
    assert document["regions"]["us"] == {  # type: ignore[index]
        "vault": f"{world}/vault/us",
        "reachable": True,
        "exists": True,
        "points": 1,
    }


def test_what_the_newest_point_lacks_is_unprotected(
    check: Check, world: Path, monkeypatch: pytest.MonkeyPatch
):
    protect(world, monkeypatch, ["docs"])
    code, document = check()
    assert code == 0
    assert wheres(document, "warning") == ["components.state"]
    assert document["components"]["state"]["protected"] is False  # type: ignore[index]


def test_a_component_that_is_not_there_makes_it_fail(check: Check, world: Path):
    (world / "state.db").unlink()
    code, document = check()
    assert (code, document["ok"]) == (1, False)
    assert wheres(document, "error") == ["components.state"]


@pytest.mark.parametrize("call", ["inspect", "health"])
def test_a_connector_with_a_defect_fails_by_itself(
    check: Check, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def raising(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(Files, call, raising)
    code, document = check()
    assert (code, wheres(document, "error")) == (1, ["components.docs"])
    (problem,) = [each for each in document["problems"] if each["level"] == "error"]  # type: ignore[attr-defined]
    assert "ZeroDivisionError" in problem["message"] and "defect" in problem["next"]


def test_facts_that_are_no_json_fail_by_themselves(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Files, "inspect", lambda *_: Facts({"share": float("nan")}))
    code, document = check()
    assert (code, wheres(document, "error")) == (1, ["components.docs"])


def test_a_region_that_cannot_be_used_makes_it_fail(check: Check, world: Path):
    (world / "vault" / "us").mkdir(parents=True)
    (world / "vault" / "us" / "vault.json").write_text("{")
    code, document = check()
    assert code == 1
    assert wheres(document, "error") == ["regions.us"]


def test_a_component_that_hangs_is_given_up(check: Check, monkeypatch: pytest.MonkeyPatch):
    import threading

    from refloat.connectors.sqlite import SQLite

    def hurried(seconds: float, what: str, call: Callable[[], object]) -> object:
        """The one that hangs is not waited for; the others may be as slow as this machine."""
        assert seconds == verb.LOOK_SECONDS_MAX
        return within(0.2 if what == "inspecting state" else 60.0, what, call)

    over = threading.Event()
    monkeypatch.setattr("refloat.deadline.within", hurried)
    monkeypatch.setattr(SQLite, "inspect", lambda self, place: over.wait(600))
    code, document = check()
    over.set()
    assert code == 1
    (problem,) = [found for found in document["problems"] if found["level"] == "error"]  # type: ignore[attr-defined]
    assert "inspecting state took longer than 0.2 s" in problem["message"]


@pytest.mark.parametrize(
    ("must", "words"),
    [
        ("docs.limits.most == 5", None),
        ("docs.limits.most == 6", "does not hold now"),
        ("docs.limits.lest == 5", "no fact is called docs.limits.lest"),
    ],
)
def test_invariants_are_tried_on_what_is_live(check: Check, world: Path, must: str, words: str | None):
    write(world, more=f"groups: {{g: {{members: [docs, state], must: ['{must}']}}}}")
    code, document = check()
    errors = [found["message"] for found in document["problems"] if found["level"] == "error"]  # type: ignore[attr-defined]
    assert code == (0 if words is None else 1)
    assert [words in error for error in errors if words] == ([] if words is None else [True])


@pytest.mark.parametrize(
    ("more", "settings", "line", "words"),
    [
        ("", {"kind": "fils"}, 8, "nothing installed is called 'fils'"),
        ("", {"docs": "{pth: /a}"}, 8, "components.docs.with"),
        ("groups: {g: {members: [docs], must: ['docs.a = 1']}}", {}, 10, "is not an expression"),
        ("verify: {docs: {probe: {htp: x}, golden: g, bounds: {errors: {at_most: 1}}}}", {}, 10, "'htp'"),
    ],
)
def test_a_wrong_manifest_is_told_with_its_line(
    check: Check, world: Path, more: str, settings: dict[str, str], line: int, words: str
):
    write(world, more, **settings)
    code, document = check()
    assert code == 2
    error = document["error"]
    assert words in error["message"]  # type: ignore[index]
    assert error["file"].startswith(f"{world}/refloat.yaml:{line}:")  # type: ignore[index]


def test_all_missing_variables_are_told_at_once(check: Check, world: Path):
    write(world, docs='{path: "${env:RF_ONE}/${env:RF_TWO}"}')
    code, document = check()
    assert code == 2
    assert "RF_ONE, RF_TWO" in document["error"]["message"]  # type: ignore[index]


def test_what_only_another_region_needs_is_no_error_here(check: Check, world: Path):
    write(world, docs=f'{{path: "{world}/docs"}}, at: {{us: {{path: "${{env:RF_US}}"}}}}')
    code, document = check()
    assert code == 0
    assert "env:RF_US" in [found["message"] for found in document["problems"]][-1]  # type: ignore[attr-defined]


def test_people_read_tables(world: Path, capsys: pytest.CaptureFixture[str]):
    (world / "state.db").unlink()
    assert run(["-f", str(world / "refloat.yaml"), "check"]) == 1
    out = capsys.readouterr().out
    assert "error: components.state:" in out
    assert "not ready" in out
    assert "no vault yet" in out


def test_a_newest_point_that_could_not_be_verified_is_a_warning(verified) -> None:
    assert not any(problem["where"] == "verify.pages" for problem in verified.ask("check")["problems"])
    verified.release(2)
    verified.ask("protect")
    (told,) = [problem for problem in verified.ask("check")["problems"] if problem["where"] == "verify.pages"]
    assert told["level"] == "warning"
    assert "could not be verified if it were recovered now: pages: accuracy, exact_match" in told["message"]
    assert told["next"] == f"while it answers well: {verified.pasted('verify --save-baseline')}"
