"""What a schedule asks for now: which units of capture are due, why, and when each other one will be.

A unit is due when its oldest member has the age that its fastest member may have: its cadence, or its RPO where that
is shorter. It is also due where a region that answers lacks the newest point, and what it holds instead is older
than the RPO: the next point brings it everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from refloat.point.exposure import SKEW_S

EARLY_SHARE = (
    0.1  # of the interval, and at most so many seconds: what a timer at just that interval finds is captured
)
EARLY_S_MAX = 60.0  # a little after the last tick, and would be captured at every second tick only


class Why(StrEnum):
    """Why a unit is due."""

    NEVER = "never captured"
    AGE = "its age"
    COPIES = "a region lacks its newest copy"
    CLOCK = "dated ahead of this clock"


@dataclass(frozen=True)
class Unit:
    """What is captured together, and how old it may become: seconds between captures, and the RPO of each member."""

    members: tuple[str, ...]
    every_s: float
    rpo_s: Mapping[str, float]

    @property
    def interval_s(self) -> float:
        """How old its oldest member may become before it is captured again."""
        return min(self.every_s, *self.rpo_s.values())


@dataclass(frozen=True)
class Known:
    """What the vault holds of each component that another capture would build on.

    ``newest`` is the ``as_of`` of each in the newest point; ``behind`` the same for every region that answers, is not
    where the pipeline runs, and does not hold that point. None of the two knows a component that was never captured.
    """

    newest: Mapping[str, datetime] = field(default_factory=dict)
    behind: Mapping[str, Mapping[str, datetime]] = field(default_factory=dict)
    elsewhere: bool = False
    """Whether another region than that where the pipeline runs holds the newest point."""


@dataclass(frozen=True)
class UnitDue:
    """One unit: why it is due now, or None; and when it is. ``at`` is None for one that was never captured."""

    members: tuple[str, ...]
    every_s: float
    why: Why | None
    at: datetime | None


@dataclass(frozen=True)
class Due:
    """What is due at one moment."""

    units: tuple[UnitDue, ...]

    @property
    def now(self) -> frozenset[str]:
        """The components that are to be captured now."""
        return frozenset(name for unit in self.units if unit.why is not None for name in unit.members)

    @property
    def next_at(self) -> datetime | None:
        """When the next unit of those that are not due will be; None where all are."""
        return min((unit.at for unit in self.units if unit.why is None and unit.at is not None), default=None)


def due(units: Sequence[Unit], known: Known, now: datetime) -> Due:
    """What is to be captured now, and when the rest."""
    return Due(tuple(_unit(unit, known, now) for unit in units))


def _unit(unit: Unit, known: Known, now: datetime) -> UnitDue:
    at = _falls_due(unit, known)
    return UnitDue(unit.members, unit.interval_s, _why(unit, known, now, at), at)


def _falls_due(unit: Unit, known: Known) -> datetime | None:
    if any(name not in known.newest for name in unit.members):
        return None
    early_s = min(unit.interval_s * EARLY_SHARE, EARLY_S_MAX)
    oldest = min(known.newest[name] for name in unit.members)
    return oldest + timedelta(seconds=unit.interval_s - early_s)


def _why(unit: Unit, known: Known, now: datetime, at: datetime | None) -> Why | None:
    if at is None:
        return Why.NEVER
    if any((known.newest[name] - now).total_seconds() > SKEW_S for name in unit.members):
        return Why.CLOCK
    if at <= now:
        return Why.AGE
    return Why.COPIES if _is_behind(unit, known, now) else None


def _is_behind(unit: Unit, known: Known, now: datetime) -> bool:
    """Whether losing where it runs would cost more than the RPO, and a region that answers could hold more."""
    if known.elsewhere:
        return False

    def overdue(name: str) -> bool:
        held = [copies[name] for copies in known.behind.values() if name in copies]
        return not held or (now - max(held)).total_seconds() > unit.rpo_s[name]

    return bool(known.behind) and any(overdue(name) for name in unit.members)
