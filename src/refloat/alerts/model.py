"""Alarms as values: what stands, what of it is still to be told on which channel, and what is known when it was."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from refloat.digest import Json
from refloat.units import format_time

SCHEMA = 1  # of the document that is sent


class Kind(StrEnum):
    """What an alarm is about."""

    RPO_BREACH = "rpo_breach"
    PROTECT_FAILED = "protect_failed"
    POINT_BROKEN = "point_broken"
    RECOVERY_FAILED = "recovery_failed"
    RECOVERY_WAITING = "recovery_waiting"


class Event(StrEnum):
    """Why an alarm is told."""

    RAISED = "raised"
    REMINDER = "reminder"
    ENDED = "ended"


class Alarm(BaseModel):
    """One thing that is wrong. ``subject`` is the component, group, region or pipeline that it is about.

    Another ``occasion``, such as another run, makes another alarm of it, which is told anew.
    """

    model_config = ConfigDict(frozen=True)

    kind: Kind
    subject: str
    message: str
    next: str = ""
    occasion: str = ""

    @property
    def key(self) -> tuple[Kind, str]:
        """What tells it from others that stand at the same time."""
        return self.kind, self.subject


class Standing(BaseModel):
    """An alarm that stands, or is ``over`` and not yet told so everywhere; ``told`` is when, by channel."""

    model_config = ConfigDict(frozen=True)

    alarm: Alarm
    since: datetime
    over: bool = False
    told: Mapping[str, datetime] = Field(default_factory=dict)


@dataclass(frozen=True)
class News:
    """What is to be told of one alarm."""

    event: Event
    standing: Standing


Looked = Callable[[Alarm], bool]
"""Whether a command would have found an alarm that stands, were it so still."""


def seen(
    known: Sequence[Standing], alarms: Collection[Alarm], looked: Looked, now: datetime
) -> list[Standing]:
    """What stands now: what was found, and of what was known before all that nobody looked at.

    What was looked at and is no more is over.
    """
    before = {standing.alarm.key: standing for standing in known}
    found = {alarm.key: alarm for alarm in alarms}
    still = [_again(before[key], alarm) if key in before else None for key, alarm in found.items()]
    new = [Standing(alarm=alarm, since=now) for alarm in found.values()]
    rest = [standing for key, standing in before.items() if key not in found]
    return [
        *(old or fresh for old, fresh in zip(still, new, strict=True)),
        *(s.model_copy(update={"over": s.over or looked(s.alarm)}) for s in rest),
    ]


def _again(standing: Standing, alarm: Alarm) -> Standing | None:
    """The same alarm as it is now; None where it is another occasion, which was not told yet."""
    if standing.alarm.occasion != alarm.occasion:
        return None
    return standing.model_copy(update={"alarm": alarm, "over": False})


def news(standing: Sequence[Standing], channel: str, now: datetime, remind_s: float) -> list[News]:
    """What is to be told on a channel: what it has not heard, what it heard long ago, and what is over."""
    events = ((_event(one, channel, now, remind_s), one) for one in standing)
    return [News(event, one) for event, one in events if event is not None]


def _event(standing: Standing, channel: str, now: datetime, remind_s: float) -> Event | None:
    told = standing.told.get(channel)
    if standing.over:
        return Event.ENDED if told else None
    if told is None:
        return Event.RAISED
    return Event.REMINDER if (now - told).total_seconds() >= remind_s else None


def told(
    standing: Sequence[Standing],
    channels: Collection[str],
    delivered: Collection[str],
    now: datetime,
    remind_s: float,
) -> list[Standing]:
    """What is known once the news were ``delivered`` on some of the ``channels``; what is over and told is forgotten.

    A clock that was wrong makes no alarm silent for long: nothing counts as told later than now.
    """
    result = []
    for one in standing:
        heard = {channel: min(at, now) for channel, at in one.told.items() if channel in channels}
        for channel in delivered:
            if one.over:
                heard.pop(channel, None)
            elif _event(one, channel, now, remind_s) is not None:
                heard[channel] = now
        if heard or not one.over:
            result.append(one.model_copy(update={"told": heard}))
    return result


def document(
    pipeline: str, found: Sequence[News], now: datetime, hide: Callable[[str], str]
) -> dict[str, Json]:
    """What is sent: one document for all news of a moment. ``hide`` takes secrets out of every text."""
    alarms: list[Json] = [
        {
            "event": str(one.event),
            "alarm": str(one.standing.alarm.kind),
            "subject": one.standing.alarm.subject,
            "message": hide(one.standing.alarm.message),
            "next": hide(one.standing.alarm.next) or None,
            "since": format_time(one.standing.since),
        }
        for one in found
    ]
    return {
        "schema": SCHEMA,
        "pipeline": pipeline,
        "sent_at": format_time(now),
        "text": hide("\n".join(f"{pipeline}: {line(one)}" for one in found)),
        "alarms": alarms,
    }


def line(one: News) -> str:
    """One alarm in one line, for people."""
    prefix = {Event.RAISED: "", Event.REMINDER: "still: ", Event.ENDED: "over: "}[one.event]
    return f"{prefix}{one.standing.alarm.kind}: {one.standing.alarm.message}"
