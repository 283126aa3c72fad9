"""docs/SCENARIOS.md, typed as it stands, and what a scenario refuses; the page and the table name the same."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pages import sections, typed
from refloat import api
from refloat.digest import Json
from refloat.errors import ConnectorError, StoreError, UsageError
from refloat.flows import recover as recovering
from refloat.flows.prepare import Prepared
from refloat.plan.model import Step
from refloat.plan.scenario import SCENARIOS
from refloat.point.model import Point
from refloat.run.actions.stage import Stage
from refloat.run.context import Context

PAGE = "SCENARIOS.md"
TIME = "2026-11-01T11:30:00Z"


def points(desk) -> list[dict[str, str]]:
    """Newest first."""
    return desk.ask("points", "list")["points"]


def releases(ledger: Path) -> list[tuple[int]]:
    with contextlib.closing(sqlite3.connect(ledger)) as database:
        return database.execute("SELECT version FROM release").fetchall()


def data_lost(desk) -> set[float]:
    """In the newest recovery, of any component, in seconds."""
    run = desk.ask("evidence", "list")["evidence"][0]["run"]
    return {part["rpo"]["seconds"] for part in desk.ask("evidence", "show", run)["components"].values()}


def test_the_page_has_a_section_for_each_scenario() -> None:
    assert list(sections(PAGE)) == list(SCENARIOS)


def test_a_region_that_is_gone_comes_back_whole_from_the_newest_point(desk) -> None:
    desk.release(2)
    newest = desk.ask("protect")["point"]
    live = desk.pages("eu")
    for path in ("pages", "vault"):
        shutil.rmtree(desk.root / "eu" / path)
    for line in sections(PAGE)["region_loss"]:
        typed(desk, line)
    assert desk.pages("us") == live
    assert desk.ask("evidence", "list")["evidence"][0]["point"] == newest


def test_what_was_made_after_the_corruption_began_is_not_taken_and_stays_to_be_looked_at(desk) -> None:
    (good,), live = points(desk), desk.pages("eu")
    began = datetime.now(UTC).isoformat()
    desk.release(2)
    assert desk.ask("protect")["point"] != good["point"]
    corrupt = desk.pages("eu")
    for line in sections(PAGE)["corruption"]:
        typed(desk, line.replace(TIME, began))
    assert (desk.pages("us"), desk.pages("eu")) == (live, corrupt)
    assert desk.ask("evidence", "list")["evidence"][0]["point"] == good["point"]


def test_a_pipeline_moves_and_moves_back_and_nothing_is_lost(desk) -> None:
    desk.release(2)
    live, there = desk.pages("eu"), releases(desk.root / "eu" / "ledger.db")
    for line in sections(PAGE)["planned_move"]:
        typed(desk, line)
    assert (desk.pages("us"), releases(desk.root / "us" / "ledger.db")) == (live, there)
    assert data_lost(desk) == {0.0}
    before = desk.root / "eu" / "before"
    before.mkdir()
    for name in ("pages", "ledger.db", "answers.jsonl"):
        (desk.root / "eu" / name).rename(before / name)
    with (desk.root / "us" / "answers.jsonl").open("a") as log:
        log.write(json.dumps({"id": "in us", "time": "2026-11-02T00:00:00Z"}) + "\n")
    for line in sections(PAGE)["failback"]:
        typed(desk, line)
    assert (desk.pages("eu"), releases(desk.root / "eu" / "ledger.db")) == (live, there)
    assert "in us" in (desk.root / "eu" / "answers.jsonl").read_text()


def changed(desk) -> str:
    with (desk.root / "eu" / "answers.jsonl").open("a") as log:
        log.write(json.dumps({"id": "late", "time": "2026-11-02T00:00:00Z"}) + "\n")
    return "answers has changed"


def rewritten(desk) -> str:
    """No count and no answer of the database tells; its token does."""
    with contextlib.closing(sqlite3.connect(desk.root / "eu" / "ledger.db")) as database, database:
        database.execute("CREATE TABLE notes (text)")
        database.execute("INSERT INTO notes VALUES ('as it was')")
    desk.ask("protect")
    with contextlib.closing(sqlite3.connect(desk.root / "eu" / "ledger.db")) as database, database:
        database.execute("UPDATE notes SET text = 'late edit'")
    return "ledger has changed"


def not_there(desk) -> str:
    (desk.root / "eu" / "ledger.db").unlink()
    return "ledger cannot be looked at"


@pytest.mark.parametrize("happens", [changed, rewritten, not_there])
def test_a_move_names_what_it_would_leave_behind_and_stages_nothing(desk, happens) -> None:
    desk.ask("protect")  # of the desk as it stands: it is a copy, whose files are not those of its point
    said = happens(desk)
    moving = ("recover", "--to", "us", "--scenario", "planned_move")
    error = desk.ask(*moving, exits=3)["error"]
    assert error["rule"] == "source_ahead" and said in error["message"] and "pages" not in error["message"]
    assert not (desk.root / "us" / "pages").exists()
    assert desk.ask(*moving, "--override", "source_ahead")["overrides"] == ["source_ahead"]
    assert 0.0 not in data_lost(desk)


def test_a_move_goes_elsewhere(desk) -> None:
    error = desk.error("plan", "--to", "eu", "--scenario", "planned_move", exits=2)
    assert "made in eu, and a move leads elsewhere" in error["message"]


def test_a_move_takes_the_last_word_or_none(desk) -> None:
    desk.release(2, pages=7)
    newest = desk.ask("protect", exits=1)["point"]
    error = desk.error("plan", "--to", "us", "--scenario", "planned_move", exits=3)
    assert error["rule"] == "source_ahead" and newest[:12] in error["message"]


def test_a_move_from_where_the_pipeline_runs_no_more_is_refused(desk, monkeypatch) -> None:
    """It was recovered in ``us``, and no point could be made there: the last one still says ``eu``."""
    with monkeypatch.context() as patch:
        patch.setattr("refloat.flows.recover.protect", none_made)
        run = desk.ask("recover", "--to", "us")["run"]
    for to in ("us", "eu"):
        error = desk.error("recover", "--to", to, "--scenario", "planned_move", exits=3)
        assert (
            error["rule"] == "source_ahead" and f"run {run} brought the pipeline into us" in error["message"]
        )


def none_made(*_: object, **__: object) -> None:
    raise StoreError("no region takes it", next="later")


def test_what_is_written_while_it_moves_is_not_left_behind(desk, monkeypatch) -> None:
    real = Stage.do

    def written(stage: Stage, step: Step, context: Context) -> Mapping[str, Json]:
        if step.component == "pages":
            changed(desk)
        return real(stage, step, context)

    desk.ask("protect")
    monkeypatch.setattr(Stage, "do", written)
    done = desk.ask("recover", "--to", "us", "--scenario", "planned_move", exits=1)
    assert done["state"] == "rolled_back" and done["error"]["rule"] == "source_ahead"
    assert not (desk.root / "us" / "pages").exists()


def test_a_component_that_is_gone_comes_back_beside_what_is_live(desk) -> None:
    ledger = desk.root / "eu" / "ledger.db"
    live, there = desk.pages("eu"), releases(ledger)
    ledger.unlink()
    for line in sections(PAGE)["component_loss"]:
        typed(desk, line)
    assert (desk.pages("eu"), releases(ledger)) == (live, there)


def test_a_bad_model_goes_back_with_what_it_is_grouped_with_and_the_data_stays(desk) -> None:
    live = desk.pages("eu")
    began = datetime.now(UTC).isoformat()
    desk.release(2)
    desk.ask("protect")
    answers = (desk.root / "eu" / "answers.jsonl").read_bytes()
    for line in sections(PAGE)["bad_model"]:
        typed(desk, line.replace(TIME, began))
    assert (desk.pages("eu"), releases(desk.root / "eu" / "ledger.db")) == (live, [(1,)])
    assert (desk.root / "eu" / "answers.jsonl").read_bytes() == answers


def test_a_bad_model_is_not_taken_back_where_the_pipeline_lives_unless_a_person_says_so(desk) -> None:
    before = desk.pages("eu")
    asked = ("--scenario", "bad_model", "--only", "ledger", "--before", "2999-01-01T00:00:00Z")
    refused = desk.ask("recover", "--to", "eu", *asked, exits=3)
    assert refused["error"]["rule"] == "target_primary" and desk.pages("eu") == before


@pytest.mark.parametrize("answers_well", [True, False])
def test_what_stays_is_verified_where_its_answers_depend_on_what_came_back(
    verified, endpoint, answers_well: bool
) -> None:
    desk = verified
    (desk.root / "eu" / "ledger.db").unlink()
    if not answers_well:
        endpoint.topic_of = str.title
    done = desk.ask(
        "recover",
        *("--to", "eu", "--scenario", "component_loss", "--only", "ledger"),
        exits=0 if answers_well else 1,
    )
    assert done["verified"] is answers_well and {check["component"] for check in done["checks"]} == {"pages"}
    assert (desk.root / "eu" / "ledger.db").exists() is answers_well


def test_what_stays_is_held_against_the_baseline_of_what_it_is_now(verified, endpoint) -> None:
    """What changed since the point was made, and in no invariant, has a baseline of its own, which counts."""
    desk = verified
    (desk.root / "eu" / "pages" / "more.txt").write_text("more")
    endpoint.topic_of = str.title
    desk.ask("verify", "--save-baseline")
    (desk.root / "eu" / "ledger.db").unlink()
    done = desk.ask("recover", "--to", "eu", "--scenario", "component_loss", "--only", "ledger")
    assert done["verified"] is True and "could not be verified" not in desk.said


def test_what_stays_and_cannot_be_looked_at_leaves_it_to_a_person(verified, monkeypatch) -> None:
    desk, real = verified, recovering.with_what_stays

    def locked(prepared: Prepared, name: str) -> Point:
        real(prepared, name)
        raise ConnectorError("the database is locked", next="see who holds it")

    monkeypatch.setattr(recovering, "with_what_stays", locked)
    (desk.root / "eu" / "ledger.db").unlink()
    error = desk.error("recover", "--to", "eu", "--scenario", "component_loss", "--only", "ledger", exits=5)
    assert "stays as it is until a person decides" in error["message"]
    assert (desk.root / "eu" / "ledger.db").exists()


def test_the_plan_speaks_of_what_comes_back_as_the_evidence_will(verified) -> None:
    planned = verified.ask("plan", "--to", "eu", "--scenario", "component_loss", "--only", "ledger")
    assert planned["rto"]["components"].keys() == {"ledger"}
    assert "verify.verify:pages" in [step["id"] for phase in planned["phases"] for step in phase["steps"]]


def test_before_is_before_and_not_at_the_same_moment(desk) -> None:
    (good,) = points(desk)
    asked = ("plan", "--to", "us", "--scenario", "corruption", "--before")
    assert "no point was made" in desk.error(*asked, good["created_at"], exits=2)["message"]


def test_a_suspect_point_from_before_is_passed_over(desk) -> None:
    for number in range(20):
        (desk.root / "eu" / "pages" / f"more-{number}.txt").write_text(f"{number}\n" * 50_000)
    good = desk.ask("protect")["point"]
    for path in (desk.root / "eu" / "pages").glob("more-*"):
        path.unlink()
    hit = desk.ask("protect", exits=1)["point"]
    asked = ("--scenario", "corruption", "--before", "2999-01-01T00:00:00Z", "--override", "point_suspect")
    assert desk.ask("plan", "--to", "us", *asked)["point"] == good != hit


@pytest.mark.parametrize("verb", ["recover", "plan"])
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--scenario", "corupption"), "no scenario is called 'corupption'"),
        (("--scenario", "corruption"), "the scenario corruption needs --before"),
        (("--before", TIME), "--before says nothing without a scenario"),
        (
            ("--scenario", "region_loss", "--only", "pages"),
            "--only does not go with the scenario region_loss",
        ),
        (("--scenario", "region_loss", "--before", TIME), "--before does not go with"),
        (("--scenario", "corruption", "--before", TIME, "--point", "abc"), "--point does not go with"),
        (("--scenario", "corruption", "--before", TIME, "--at", TIME), "--at does not go with"),
        (("--scenario", "corruption", "--before", TIME, "--only", "pages"), "--only does not go with"),
        (("--scenario", "corruption", "--before", "noon"), "--before: "),
        (("--scenario", "planned_move", "--only", "pages"), "--only does not go with"),
        (("--scenario", "component_loss"), "the scenario component_loss needs --only"),
        (("--scenario", "bad_model", "--only", "ledger"), "the scenario bad_model needs --before"),
        (("--scenario", "bad_model", "--before", TIME), "the scenario bad_model needs --only"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_touched(desk, verb, asked, said) -> None:
    assert said in desk.error(verb, "--to", "us", *asked, exits=2)["message"]
    assert not (desk.root / "us" / "pages").exists()


@pytest.mark.parametrize("asked", [("--scenario", "region_loss"), ("--before", TIME)])
def test_a_scenario_says_nothing_of_bytes_in_a_folder(desk, asked) -> None:
    assert "begins no run" in desk.error("recover", "--into", "there", *asked, exits=2)["message"]


def test_a_run_that_was_begun_is_given_no_scenario(desk) -> None:
    run = desk.ask("recover", "--to", "us")["run"]
    again = ("recover", "--to", "us", "--resume", run, "--scenario", "region_loss")
    assert "keeps its point" in desk.error(*again, exits=2)["message"]


def test_the_same_from_python(desk) -> None:
    vault = api.Vault.open(str(desk.vault("us")), key=desk.key)
    with pytest.raises(UsageError, match="needs --before"):
        api.recover(vault, to="us", scenario="corruption")
    live = desk.pages("eu")
    began = datetime.now(UTC)
    done = api.recover(vault, to="us", scenario="corruption", before=began)
    assert done.ok and desk.pages("us") == live, json.dumps(done.document(), default=str)
