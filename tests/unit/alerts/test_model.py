"""An alarm is told once on each channel, again while it lasts, and once more when it is over."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from refloat.alerts.model import Alarm, Event, Kind, Standing, document, news, seen, told

START = datetime(2026, 11, 1, tzinfo=UTC)
REMIND_S = 4 * 3600.0


def alarm(
    subject: str = "pages", *, kind: Kind = Kind.RPO_BREACH, occasion: str = "", message: str = "old"
) -> Alarm:
    return Alarm(kind=kind, subject=subject, message=message, next="refloat status", occasion=occasion)


@dataclass
class Ear:
    """What is heard on the channels of one machine, from one command to the next."""

    channels: Sequence[str] = ("webhook",)
    standing: list[Standing] = field(default_factory=list)

    def hears(
        self,
        *alarms: Alarm,
        after_s: float = 0,
        silent: Collection[str] = (),
        looked: Collection[Kind] = tuple(Kind),
    ) -> list[tuple[str, str, str]]:
        now = START + timedelta(seconds=after_s)
        self.standing = seen(self.standing, alarms, lambda one: one.kind in looked, now)
        heard = [
            (channel, str(one.event), one.standing.alarm.subject)
            for channel in self.channels
            for one in news(self.standing, channel, now, REMIND_S)
        ]
        delivered = [channel for channel in self.channels if channel not in silent]
        self.standing = told(self.standing, self.channels, delivered, now, REMIND_S)
        return [one for one in heard if one[0] not in silent]


def test_an_alarm_is_told_once() -> None:
    ear = Ear()
    assert ear.hears(alarm()) == [("webhook", "raised", "pages")]
    assert ear.hears(alarm(message="older"), after_s=60) == []


def test_it_is_told_again_while_it_lasts() -> None:
    ear = Ear()
    ear.hears(alarm())
    assert ear.hears(alarm(), after_s=REMIND_S - 1) == []
    assert ear.hears(alarm(), after_s=REMIND_S) == [("webhook", "reminder", "pages")]
    assert ear.hears(alarm(), after_s=REMIND_S + 60) == []
    assert ear.hears(alarm(), after_s=2 * REMIND_S) == [("webhook", "reminder", "pages")]


def test_it_is_told_when_it_is_over_and_then_forgotten() -> None:
    ear = Ear()
    ear.hears(alarm())
    assert ear.hears(after_s=60) == [("webhook", "ended", "pages")]
    assert ear.standing == []
    assert ear.hears(alarm(), after_s=120) == [("webhook", "raised", "pages")]


def test_a_command_ends_only_what_it_looks_at() -> None:
    ear = Ear()
    ear.hears(alarm("us", kind=Kind.RECOVERY_FAILED))
    assert ear.hears(after_s=60, looked=[Kind.RPO_BREACH]) == []
    assert ear.hears(after_s=90, looked=[Kind.RECOVERY_FAILED]) == [("webhook", "ended", "us")]


def test_another_run_is_another_alarm() -> None:
    ear = Ear()
    first, second = (alarm("us", kind=Kind.RECOVERY_FAILED, occasion=run) for run in ("a", "b"))
    ear.hears(first)
    assert ear.hears(first, after_s=60) == []
    assert ear.hears(second, after_s=120) == [("webhook", "raised", "us")]


def test_what_did_not_arrive_is_told_the_next_time_on_that_channel_alone() -> None:
    ear = Ear(("webhook", "command"))
    assert ear.hears(alarm(), silent=["webhook"]) == [("command", "raised", "pages")]
    assert ear.hears(alarm(), after_s=60) == [("webhook", "raised", "pages")]
    assert ear.hears(after_s=120, silent=["command"]) == [("webhook", "ended", "pages")]
    assert ear.hears(after_s=180) == [("command", "ended", "pages")]
    assert ear.standing == []


def test_what_nobody_heard_of_ends_in_silence() -> None:
    ear = Ear()
    ear.hears(alarm(), silent=["webhook"])
    assert ear.hears(after_s=60) == []
    assert ear.standing == []


def test_what_is_back_before_its_end_was_told_never_ended() -> None:
    ear = Ear()
    ear.hears(alarm())
    ear.hears(after_s=60, silent=["webhook"])
    assert ear.hears(alarm(), after_s=120) == []


def test_a_channel_that_is_gone_holds_no_alarm_back() -> None:
    ear = Ear(("webhook", "command"))
    ear.hears(alarm())
    ear.channels = ("command",)
    assert ear.hears(after_s=60) == [("command", "ended", "pages")]
    assert ear.standing == []


def test_a_clock_that_was_ahead_once_keeps_nothing_silent() -> None:
    ear = Ear()
    ear.hears(alarm(), after_s=1_000_000)
    assert ear.hears(alarm(), after_s=0) == []
    assert ear.hears(alarm(), after_s=REMIND_S) == [("webhook", "reminder", "pages")]


def test_the_document_says_all_of_it_and_no_secret() -> None:
    standing = seen([], [alarm(message="hunter2 is old")], lambda one: True, START)
    found = news(standing, "webhook", START, REMIND_S)
    assert document("small", found, START, lambda text: text.replace("hunter2", "***")) == {
        "schema": 1,
        "pipeline": "small",
        "sent_at": "2026-11-01T00:00:00.000000Z",
        "text": "small: rpo_breach: *** is old",
        "alarms": [
            {
                "event": "raised",
                "alarm": "rpo_breach",
                "subject": "pages",
                "message": "*** is old",
                "next": "refloat status",
                "since": "2026-11-01T00:00:00.000000Z",
            }
        ],
    }


@pytest.mark.parametrize(
    ("event", "begins"), [(Event.REMINDER, "small: still: "), (Event.ENDED, "small: over: ")]
)
def test_the_text_says_which_news_it_is(event: Event, begins: str) -> None:
    (standing,) = seen([], [alarm()], lambda one: True, START)
    if event is Event.ENDED:
        standing = standing.model_copy(update={"over": True})
    standing = standing.model_copy(update={"told": {"webhook": START - timedelta(days=1)}})
    found = news([standing], "webhook", START, REMIND_S)
    assert str(document("small", found, START, str)["text"]).startswith(begins)
