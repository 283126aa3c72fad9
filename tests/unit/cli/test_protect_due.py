"""``refloat protect --due``: what cadence and RPO ask for now, and nothing else; safe from cron."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta

import pytest

from contract_pins import printed, require_pinned
from refloat.cli.system import local_state_dir
from refloat.connectors.files import Files
from refloat.connectors.predictions import Predictions
from refloat.connectors.sqlite import SQLite
from refloat.errors import ConnectorError
from refloat.flows.opening import late_values, read_manifest
from refloat.flows.turn import folder_of, turn
from small_desk import Desk, set_clock

GROUPED = ("pages", "ledger")  # critical, every 30 s; the answers are operational, every 15 minutes


@pytest.fixture
def desk(desk, monkeypatch) -> Desk:
    """The same, a moment after its first point, however long this machine takes."""
    set_clock(desk, monkeypatch, 1)
    return desk


def due(document) -> dict[str, str]:
    return {name: unit["why"] for unit in document["units"] if unit["due"] for name in unit["components"]}


def forbid(monkeypatch: pytest.MonkeyPatch, *connectors: type) -> None:
    """Whoever so much as looks at a component of these kinds fails."""

    def refused(self, *arguments: object) -> None:
        raise AssertionError("it was not due")

    for connector in connectors:
        for method in ("inspect", "capture", "token"):
            if hasattr(connector, method):
                monkeypatch.setattr(connector, method, refused)


def test_everything_is_due_before_the_first_point(unprotected) -> None:
    document = printed(unprotected, "protect", "--due")
    assert due(document) == dict.fromkeys(("pages", "ledger", "answers"), "never captured")
    assert document["protect"]["grade"] == "exact"
    oldest = min(document["protect"]["components"][name]["as_of"] for name in GROUPED)
    assert datetime.fromisoformat(document["next_at"]) == datetime.fromisoformat(oldest) + timedelta(
        seconds=27
    )
    require_pinned("protect due", "first", document)


def test_nothing_is_due_right_after_a_protect_and_nothing_is_written(desk, monkeypatch) -> None:
    forbid(monkeypatch, Files, SQLite, Predictions)
    before = {path: path.stat().st_mtime_ns for path in desk.vault("us").rglob("*")}
    document = printed(desk, "protect", "--due")
    assert (due(document), document["protect"], document["at_work"]) == ({}, None, False)
    assert {path: path.stat().st_mtime_ns for path in desk.vault("us").rglob("*")} == before
    require_pinned("protect due", "nothing", document)
    assert desk.read("protect", "--due").startswith("nothing is due\nnext: 20")


def test_a_group_is_captured_at_its_fastest_member_s_cadence_and_the_rest_is_not_looked_at(
    desk, monkeypatch
) -> None:
    first = desk.ask("points", "show", desk.ask("points", "list")["points"][0]["point"])["components"]
    desk.release(2)
    set_clock(desk, monkeypatch, 40)
    forbid(monkeypatch, Predictions)
    document = printed(desk, "protect", "--due")
    assert due(document) == dict.fromkeys(GROUPED, "its age")
    made = document["protect"]["components"]
    assert {name: part["carried"] for name, part in made.items()} == {
        "pages": False,
        "ledger": False,
        "answers": True,
    }
    assert made["answers"]["as_of"] == first["answers"]["as_of"], "its age is that of its bytes"
    assert (made["answers"]["seconds"], made["answers"]["new_bytes"]) == (0, 0)
    require_pinned("protect due", "some", document)


def test_what_was_not_looked_at_is_captured_when_it_is_due(desk, monkeypatch) -> None:
    desk.release(2)
    set_clock(desk, monkeypatch, 40)
    desk.ask("protect", "--due")
    set_clock(desk, monkeypatch, 15 * 60)
    document = desk.ask("protect", "--due")
    assert due(document).keys() == {*GROUPED, "answers"}
    assert not document["protect"]["components"]["answers"]["carried"]


def test_a_point_of_which_the_rest_was_carried_is_recovered_whole(desk, monkeypatch) -> None:
    desk.release(2)
    set_clock(desk, monkeypatch, 40)
    desk.ask("protect", "--due")
    brought = desk.ask("recover", "--into", "brought")
    assert brought["components"].keys() == {*GROUPED, "answers"}
    assert (desk.root / "brought" / "pages" / "content" / "2.txt").exists()
    assert (desk.root / "brought" / "answers" / "log.jsonl").read_text().count("\n") == 1


def test_what_the_vault_has_lost_is_captured_though_it_is_not_due(desk, monkeypatch) -> None:
    for region in ("eu", "us"):
        shutil.rmtree(desk.vault(region) / "packs")
        (desk.vault(region) / "packs").mkdir()
    set_clock(desk, monkeypatch, 40)
    made = desk.ask("protect", "--due")["protect"]
    assert not made["components"]["answers"]["carried"]


def test_a_region_that_is_back_gets_what_it_missed_though_nothing_is_old(desk, monkeypatch) -> None:
    (desk.root / "us").rename(desk.root / "gone")
    set_clock(desk, monkeypatch, 600)
    desk.ask("protect", exits=1)
    set_clock(desk, monkeypatch, 610)
    assert due(desk.ask("protect", "--due")) == {}, "nothing can be brought to a region that does not answer"
    (desk.root / "gone").rename(desk.root / "us")
    document = desk.ask("protect", "--due")
    assert due(document) == dict.fromkeys(GROUPED, "a region lacks its newest copy")
    assert document["protect"]["regions"]["us"]["complete"]
    assert due(desk.ask("protect", "--due")) == {}


def test_a_capture_that_fails_is_due_again_at_once(desk, monkeypatch) -> None:
    def fails(self, *arguments: object) -> None:
        raise ConnectorError("the disk is gone")

    set_clock(desk, monkeypatch, 15 * 60)
    with monkeypatch.context() as patch:
        patch.setattr(Predictions, "capture", fails)
        patch.setattr(Predictions, "inspect", fails)
        assert desk.ask("protect", "--due", exits=1)["protect"]["components"]["answers"]["error"]
    document = desk.ask("protect", "--due")
    assert due(document) == {"answers": "its age"}
    assert document["protect"]["components"]["pages"]["carried"]


def test_the_second_of_two_at_once_finds_the_first_at_work(desk, monkeypatch) -> None:
    set_clock(desk, monkeypatch, 40)
    late = late_values(desk.root, {})
    manifest, _ = read_manifest(desk.manifest)
    with turn(folder_of(local_state_dir(), manifest, late)) as ours:
        assert ours
        document = printed(desk, "protect", "--due")
        assert document["at_work"] and document["protect"] is None
        require_pinned("protect due", "at work", document)
        assert "another protect of this pipeline is at work" in desk.read("protect", "--due")
        assert desk.ask("protect")["grade"] == "exact", "who asks for a point now gets one"
    assert not desk.ask("protect", "--due")["at_work"]


def test_a_machine_that_keeps_no_state_protects_all_the_same(unprotected, monkeypatch) -> None:
    (unprotected.root / "taken").write_text("a file")
    monkeypatch.setenv("XDG_STATE_HOME", str(unprotected.root / "taken"))
    assert unprotected.ask("protect", "--due")["protect"]["grade"] == "exact"
    assert "cannot be told" in unprotected.said


def test_a_pipeline_that_runs_elsewhere_is_refused_also_where_nothing_would_be_due(desk) -> None:
    desk.manifest.write_text(desk.manifest.read_text().replace("primary: eu", "primary: us"))
    assert desk.error("protect", "--due", exits=3)["rule"] == "primary_moved"


def test_a_region_that_does_not_exist_is_a_mistake(desk) -> None:
    assert desk.error("protect", "--due", "--region", "ap", exits=2)["code"] == "usage"
