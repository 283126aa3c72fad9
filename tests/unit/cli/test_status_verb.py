"""``refloat status``: how much would be lost with each region, and whether that keeps the objective."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta

import pytest

from refloat.cli.status import _lost
from refloat.cli.system import SystemClock
from refloat.flows.status import ComponentStatus, Status
from refloat.point.exposure import Exposure
from refloat.vault.keyfile import KeyFile

KEYS = {"pipeline", "well", "runs_in", "newest", "regions", "exposure", "components"}
NEWEST_KEYS = {"point", "created_at", "grade", "not_captured", "unverifiable"}
REGION_KEYS = {"reachable", "head", "lock_s", "locked_until", "lock_lapsed"}
COMPONENT_KEYS = {"tier", "rpo_objective_s", "as_of", "exposure", "state", "suspect"}


def test_the_document_has_exactly_these_keys(desk, monkeypatch) -> None:
    look_later(desk, monkeypatch, 12)
    document = desk.ask("status")
    assert document.keys() == KEYS
    assert document["newest"].keys() == NEWEST_KEYS
    assert document["well"] is True
    assert (document["pipeline"], document["runs_in"]) == ("small", "eu")
    assert {region: seen.keys() for region, seen in document["regions"].items()} == {
        "eu": REGION_KEYS,
        "us": REGION_KEYS,
    }
    assert {lost: loss.keys() for lost, loss in document["exposure"].items()} == {
        "eu": {"seconds", "reason"},
        "us": {"seconds", "reason"},
    }
    for component in document["components"].values():
        assert component.keys() == COMPONENT_KEYS
        assert all(loss.keys() == {"seconds", "reason"} for loss in component["exposure"].values())


def look_later(desk, monkeypatch, seconds: float) -> None:
    """From now on it is so many seconds after the newest copy of the pages, for whoever asks."""
    _, document = desk.answer("status")  # which it is now hangs on how long ago the desk was made ready
    as_of = datetime.fromisoformat(document["components"]["pages"]["as_of"])
    monkeypatch.setattr(SystemClock, "now", lambda self: as_of + timedelta(seconds=seconds))


def test_losing_the_primary_costs_what_came_after_the_newest_copy_elsewhere(desk, monkeypatch) -> None:
    desk.ask("protect")
    look_later(desk, monkeypatch, 12)
    document = desk.ask("status")
    pages = document["components"]["pages"]
    assert (pages["tier"], pages["rpo_objective_s"], pages["state"]) == ("critical", 60, "ok")
    assert pages["exposure"]["eu"]["seconds"] == pytest.approx(12, abs=0.002)
    assert document["exposure"]["eu"]["seconds"] == max(
        part["exposure"]["eu"]["seconds"] for part in document["components"].values()
    )


def test_losing_another_region_costs_no_data(desk, monkeypatch) -> None:
    look_later(desk, monkeypatch, 12)
    assert desk.ask("status")["exposure"]["us"]["seconds"] == 0


@pytest.mark.parametrize(("age", "state"), [(30, "ok"), (50, "warn"), (61, "breach")])
def test_the_state_follows_the_age(desk, monkeypatch, age: int, state: str) -> None:
    look_later(desk, monkeypatch, age)
    components = desk.ask("status", exits=int(state == "breach"))["components"]
    assert components["pages"]["state"] == state
    assert components["ledger"]["state"] == "ok"  # its objective is half an hour


def test_a_broken_point_does_not_count_as_a_copy_and_is_told_of(desk, monkeypatch) -> None:
    look_later(desk, monkeypatch, 12)
    before = desk.ask("status")["components"]["pages"]["as_of"]
    desk.release(2, pages=7)
    broken = desk.ask("protect", exits=1)["point"]
    document = desk.ask("status", exits=1)
    assert document["components"]["pages"]["as_of"] == before
    assert (document["well"], document["newest"]["point"], document["newest"]["grade"]) == (
        False,
        broken,
        "broken",
    )
    assert f"the newest point {broken[:12]}" in desk.said and "is broken, and does not count" in desk.said
    assert "pages.current.version == ledger.version" in desk.said


def test_a_component_that_could_not_be_captured_is_told_of_until_it_is(desk, monkeypatch) -> None:
    look_later(desk, monkeypatch, 12)
    log = desk.root / "eu" / "answers.jsonl"
    log.rename(aside := log.with_suffix(".aside"))
    desk.ask("protect", exits=1)
    document = desk.ask("status", exits=1)
    assert list(document["newest"]["not_captured"]) == ["answers"]
    assert document["components"]["answers"]["state"] == "ok", "its last copy is young enough"
    assert "answers could not be captured with the newest point, and is as old as before" in desk.said
    aside.rename(log)
    desk.ask("protect")
    assert desk.ask("status")["newest"]["not_captured"] == {}


def test_a_point_that_could_not_be_verified_is_told_of_until_there_is_a_baseline(
    verified, monkeypatch
) -> None:
    look_later(verified, monkeypatch, 12)
    assert verified.ask("status")["well"] is True
    verified.release(2)
    verified.ask("protect")
    document = verified.ask("status", exits=1)
    assert document["newest"]["unverifiable"]["pages"].keys() == {"accuracy", "exact_match"}
    assert "could not be verified if it were recovered now: pages: accuracy, exact_match" in verified.said
    assert verified.pasted("verify --save-baseline") in verified.said
    verified.ask("verify", "--save-baseline")
    assert verified.ask("status")["newest"]["unverifiable"] == {}


def test_a_region_that_does_not_answer_makes_it_unknown_and_not_safe_and_exits_1(desk) -> None:
    shutil.rmtree(desk.vault("us"))
    document = desk.ask("status", exits=1)
    assert document["regions"]["us"]["reachable"] is False
    assert document["regions"]["us"]["head"] is None
    assert document["regions"]["us"]["error"]
    assert document["components"]["pages"]["state"] == "unknown"
    assert document["exposure"]["eu"]["seconds"] is None
    assert document["regions"]["eu"]["reachable"] is True
    assert document["exposure"]["us"]["seconds"] == 0  # what the others say is said all the same
    assert "warning: us does not answer" in desk.said


def test_with_one_region_it_says_unprotected_and_gives_the_age(unprotected, monkeypatch) -> None:
    desk = unprotected
    shutil.rmtree(desk.vault("eu"))
    desk.write_manifest(regions='regions: {{eu: {{vault: "eu/vault"}}}}\n')
    desk.ask("vault", "init", "--key", str(desk.root / "one.key"))
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(desk.root / "one.key"))
    desk.ask("protect")
    look_later(desk, monkeypatch, 12)
    pages = desk.ask("status")["components"]["pages"]
    assert pages["state"] == "unprotected"
    assert pages["exposure"]["eu"]["seconds"] == pytest.approx(12, abs=0.002)
    assert "no other region" in pages["exposure"]["eu"]["reason"]
    look_later(desk, monkeypatch, 61)
    assert desk.ask("status", exits=1)["components"]["ledger"]["state"] == "unprotected"


def test_without_any_point_everything_is_unprotected(unprotected) -> None:
    document = unprotected.ask("status", exits=1)
    components = document["components"]
    assert document["newest"] is None
    assert {part["state"] for part in components.values()} == {"unprotected"}
    assert {part["as_of"] for part in components.values()} == {None}


def test_the_key_of_another_vault_exits_4_and_says_which_region(desk, monkeypatch) -> None:
    KeyFile.create("0" * 32, "small").save(desk.root / "other.key")
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(desk.root / "other.key"))
    error = desk.error("status", exits=4)
    assert error["code"] == "vault_wrong_key"
    assert error["region"] in ("eu", "us")


def test_a_key_file_that_is_none_exits_4(desk) -> None:
    desk.key.write_text("not a key")
    assert desk.error("status", exits=4)["code"] == "vault_wrong_key"


def test_people_read_one_column_a_loss(desk) -> None:
    out = desk.read("status")
    assert "if eu is lost" in out and "if us is lost" in out
    assert "nothing" in out


def test_a_component_that_no_other_region_holds_is_worse_than_any_age() -> None:
    def component(loss: Exposure) -> ComponentStatus:
        return ComponentStatus("critical", 60, None, {"eu": loss})

    old = component(Exposure(50.0, "the newest copy is in us", "warn"))
    alone = component(Exposure(1.0, "no other region holds a copy", "unprotected"))
    found = Status("small", "eu", {"eu": {}}, {"old": old, "alone": alone}, newest=None)
    assert found.exposure("eu") == (1.0, "alone: no other region holds a copy")


def test_people_are_not_told_a_loss_that_is_not_known_or_a_small_one_where_all_is_lost() -> None:
    assert _lost(Exposure(1.0, "no other region holds a copy", "unprotected")) == "all of it (1s old)"
    assert _lost(Exposure(None, "no other region holds a copy", "unprotected")) == "all of it"
    assert _lost(Exposure(None, "us does not answer", "unknown")) == "not known"
    assert _lost(Exposure(0.0, "dated ahead of this clock", "unknown")) == "not known"
    assert _lost(Exposure(0.0, "the pipeline runs in eu", "ok")) == "nothing"
