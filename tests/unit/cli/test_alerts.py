"""What a person hears of: breaches, failed protects, broken points and recoveries, once each, and when it is over."""

from __future__ import annotations

import json
import shutil

import pytest

from refloat.cli.main import run
from refloat.connectors.files import Files
from refloat.connectors.predictions import Predictions
from refloat.errors import ConnectorError
from small_desk import GROUP, VERIFY, Desk, set_clock

NOTIFY = """\
notify:
  command: [sh, -c, "cat >> sent.jsonl"]
  remind: 4h
"""
Heard = list[tuple[str, str, str]]


@pytest.fixture
def desk(desk, monkeypatch) -> Desk:
    """A moment after its first point, however long this machine takes."""
    set_clock(desk, monkeypatch, 1)
    return desk


@pytest.fixture
def told(desk) -> Desk:
    """A protected pipeline whose alerts are kept in a file."""
    desk.write_manifest(GROUP, NOTIFY)
    return desk


def heard(desk) -> Heard:
    """What was sent since the last look: event, alarm and subject of each."""
    sent = desk.root / "sent.jsonl"
    lines = sent.read_text().splitlines() if sent.exists() else []
    sent.unlink(missing_ok=True)
    alarms = [alarm for line in lines for alarm in json.loads(line)["alarms"]]
    return [(alarm["event"], alarm["alarm"], alarm["subject"]) for alarm in alarms]


def fails(self, *arguments: object) -> None:
    raise ConnectorError("the disk is gone", next="look at the disk")


# -------------------------------------------------------------------------------------------------- protect


def test_what_goes_well_is_not_told(told) -> None:
    told.ask("protect")
    told.ask("protect", "--due")
    assert heard(told) == []


def test_a_broken_point_is_told_once_and_when_it_is_over(told) -> None:
    told.release(2, pages=7)
    told.ask("protect", exits=1)
    assert heard(told) == [("raised", "point_broken", "serving")]
    told.ask("protect", exits=1)
    assert heard(told) == []
    told.release(3)
    told.ask("protect")
    assert heard(told) == [("ended", "point_broken", "serving")]


def test_it_is_told_again_after_four_hours(told, monkeypatch) -> None:
    told.release(2, pages=7)
    told.ask("protect", exits=1)
    heard(told)
    set_clock(told, monkeypatch, 4 * 3600 + 60)
    told.ask("protect", exits=1)
    assert ("reminder", "point_broken", "serving") in heard(told)


def test_a_component_that_could_not_be_captured_is_told(told, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Predictions, "inspect", fails)
        patch.setattr(Predictions, "capture", fails)
        told.ask("protect", exits=1)
        assert heard(told) == [("raised", "protect_failed", "answers")]
    set_clock(told, monkeypatch, 40)
    told.ask("protect", "--due")
    assert heard(told) == [], "the answers were not due, so nobody knows"
    told.ask("protect")
    assert heard(told) == [("ended", "protect_failed", "answers")]


def test_a_protect_that_makes_no_point_is_told_and_its_error_stays_its_own(told, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        for connector in (Files, Predictions):
            patch.setattr(connector, "inspect", fails)
            patch.setattr(connector, "capture", fails)
        error = told.error("protect", exits=1)
        assert error["message"] == "the disk is gone"
        assert heard(told) == [("raised", "protect_failed", error["component"])]
    told.ask("protect")
    assert heard(told) == [("ended", "protect_failed", error["component"])]


def test_a_vault_that_does_not_answer_at_all_is_told(told) -> None:
    for region in ("eu", "us"):
        told.vault(region).rename(told.root / f"gone-{region}")
    told.error("protect", "--due", exits=4)
    assert heard(told) == [("raised", "protect_failed", "small")]


def test_a_region_that_misses_the_point_is_told(told) -> None:
    shutil.rmtree(told.vault("us"))
    told.ask("protect", exits=1)
    assert ("raised", "protect_failed", "us") in heard(told)


# ---------------------------------------------------------------------------------------------- the objective


def test_a_breach_is_found_by_the_schedule_though_another_region_is_away(told, monkeypatch) -> None:
    told.vault("us").rename(told.root / "gone")
    set_clock(told, monkeypatch, 120)
    told.ask("protect", exits=1)
    (told.root / "gone").rename(told.vault("us"))
    told.ask("status", "--notify", exits=1)
    assert ("raised", "rpo_breach", "pages") in heard(told)
    told.ask("protect", "--due")
    assert ("ended", "rpo_breach", "pages") in heard(told)


def test_a_watch_from_elsewhere_sends_and_status_alone_does_not(told, monkeypatch) -> None:
    set_clock(told, monkeypatch, 120)
    told.ask("status", exits=1)
    assert heard(told) == []
    told.ask("status", "--notify", exits=1)
    assert heard(told) == [("raised", "rpo_breach", "pages")]
    told.ask("status", "--notify", exits=1)
    assert heard(told) == []


def test_one_region_alone_raises_no_alarm_that_nothing_could_end(told) -> None:
    told.write_manifest(GROUP, NOTIFY, regions='regions:\n  eu: {{vault: "eu/vault"}}\n')
    told.ask("protect", "--due")
    told.ask("status", "--notify")
    assert heard(told) == []


# --------------------------------------------------------------------------------------------------- recover


def test_a_recovery_that_fails_is_told_and_the_next_that_succeeds_ends_it(told, monkeypatch) -> None:
    told.ask("protect")
    with monkeypatch.context() as patch:
        patch.setattr(Files, "stage", fails)
        told.ask("recover", "--to", "us", exits=1)
    assert heard(told) == [("raised", "recovery_failed", "us")]
    told.ask("recover", "--to", "us", "--override", "source_alive")
    assert heard(told) == [("ended", "recovery_failed", "us")]


@pytest.fixture
def waiting(verified, endpoint) -> tuple[Desk, str]:
    """A recovery that waits, since another identity came back than was measured; the alarm is told; the run."""
    verified.write_manifest(GROUP, VERIFY, NOTIFY, url=endpoint.url)
    verified.release(2)
    verified.ask("protect")
    heard(verified)
    verified.ask("recover", "--to", "us", exits=5)
    assert heard(verified) == [("raised", "recovery_waiting", "us")]
    return verified, verified.ask("run", "list", "--to", "us")["runs"][0]["run"]


def test_a_recovery_that_waits_is_told_once_and_is_over_when_its_run_ends(waiting) -> None:
    desk, run = waiting
    desk.ask("recover", "--to", "us", "--resume", run, exits=5)
    assert heard(desk) == []
    desk.ask("verify", "--save-baseline")
    desk.ask("recover", "--to", "us", "--resume", run)
    assert heard(desk) == [("ended", "recovery_waiting", "us")]


def test_whoever_puts_back_what_waits_ends_its_alarm(waiting) -> None:
    desk, run = waiting
    desk.ask("run", "abort", run, "--to", "us")
    assert heard(desk) == [("ended", "recovery_waiting", "us")]


def test_a_recovery_that_a_rule_refuses_is_told_to_whoever_typed_it(told) -> None:
    told.ask("protect")
    assert told.error("recover", "--to", "eu", exits=3)["rule"] == "target_primary"
    assert heard(told) == []


# ---------------------------------------------------------------------------------- what cannot be delivered


def test_an_alert_that_cannot_be_delivered_fails_nothing_and_names_no_secret(desk, monkeypatch) -> None:
    monkeypatch.setenv("ALERTS_URL", "http://127.0.0.1:1/hunter2-token")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    desk.write_manifest(GROUP, 'notify: {{webhook: "${{env:ALERTS_URL}}"}}\n')
    desk.ask("protect")
    assert desk.said == "" or "warning" not in desk.said
    desk.release(2, pages=7)
    desk.ask("protect", exits=1)
    assert "warning: notify.webhook: an alert was not delivered" in desk.said
    assert "hunter2" not in desk.said
    assert not any(b"hunter2" in path.read_bytes() for path in desk.root.rglob("*") if path.is_file())


def test_a_variable_that_is_not_set_is_a_warning_when_there_is_something_to_send(desk) -> None:
    desk.write_manifest(GROUP, 'notify: {{webhook: "${{env:NOT_SET_ANYWHERE}}"}}\n')
    desk.ask("protect")
    assert "NOT_SET_ANYWHERE" not in desk.said
    desk.release(2, pages=7)
    desk.ask("protect", exits=1)
    assert "NOT_SET_ANYWHERE" in desk.said


def test_check_says_beforehand_what_an_alert_would_lack(desk) -> None:
    desk.write_manifest(GROUP, 'notify: {{webhook: "${{env:NOT_SET_ANYWHERE}}"}}\n')
    problems = desk.ask("check")["problems"]
    (problem,) = [one for one in problems if one["where"] == "notify"]
    assert (problem["level"], "env:NOT_SET_ANYWHERE" in problem["message"]) == ("warning", True)


def test_a_machine_that_keeps_no_state_tells_each_time(told, monkeypatch) -> None:
    (told.root / "taken").write_text("a file")
    monkeypatch.setenv("XDG_STATE_HOME", str(told.root / "taken"))
    told.release(2, pages=7)
    for _ in range(2):
        told.ask("protect", exits=1)
        assert heard(told) == [("raised", "point_broken", "serving")]
        assert "sent each time" in told.said


def test_an_interruption_is_no_failure(told, monkeypatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("refloat.flows.protect.protect", interrupted)
    assert run(["-f", str(told.manifest), "-q", "protect"]) == 130
    assert heard(told) == []
