"""Which point a recovery uses, and why each other one was passed over."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from refloat.errors import Refused, UsageError
from refloat.point.model import Grade
from refloat.units import format_time


@dataclass(frozen=True)
class Candidate:
    """A point that is committed in the region asked, as its log entry tells it."""

    name: str
    created_at: datetime
    grade: Grade


@dataclass(frozen=True)
class Considered:
    """One point, whether it was chosen, and the reason in a sentence."""

    name: str
    chosen: bool
    reason: str


@dataclass(frozen=True)
class Choice:
    """The chosen point and every candidate's reason, newest first."""

    point: str
    considered: tuple[Considered, ...]


def select(
    candidates: Sequence[Candidate],
    *,
    point: str | None = None,
    at: datetime | None = None,
    overrides: Collection[str] = (),
) -> Choice:
    """Choose a point: the named one, else the newest consistent one (not after ``at``).

    ``candidates`` are oldest first. A fuzzy point is chosen like an exact one, since a newer point loses
    less. A broken point is used only by name and with the override ``group_broken``.
    Raises ``Refused`` for a broken one, ``UsageError`` where nothing fits.
    """
    if point is not None:
        return _named(candidates, point, overrides)
    chosen: str | None = None
    considered = []
    for candidate in reversed(candidates):
        reason = _passed_over(candidate, at, chosen)
        if reason is None:
            chosen = candidate.name
            reason = f"the newest consistent point; graded {candidate.grade}"
            considered.append(Considered(candidate.name, True, reason))
        else:
            considered.append(Considered(candidate.name, False, reason))
    if chosen is None:
        raise _nothing_fits(candidates, at)
    return Choice(chosen, tuple(considered))


def _passed_over(candidate: Candidate, at: datetime | None, chosen: str | None) -> str | None:
    """Why a candidate is not the one; None where it is."""
    if at is not None and candidate.created_at > at:
        return f"made at {format_time(candidate.created_at)}, after the time asked for"
    if candidate.grade is Grade.BROKEN:
        return "graded broken: a group breaks an invariant"
    if chosen is not None:
        return "an older point; a newer one is consistent"
    return None


def _named(candidates: Sequence[Candidate], point: str, overrides: Collection[str]) -> Choice:
    matching = [candidate for candidate in candidates if candidate.name.startswith(point)]
    if len({candidate.name for candidate in matching}) != 1:
        problem = "no point here is called" if not matching else "more than one point begins with"
        raise UsageError(f"{problem} {point!r}", next="`refloat points list` shows the points of this vault")
    candidate = matching[-1]
    if candidate.grade is Grade.BROKEN and "group_broken" not in overrides:
        raise Refused(
            "group_broken",
            f"the point {candidate.name[:12]} is graded broken: its parts do not belong together",
            next=f"`refloat points why {candidate.name[:12]}` names the invariant; choose another point, "
            "or break the glass with --override group_broken",
        )
    return Choice(candidate.name, (Considered(candidate.name, True, "named by the operator"),))


def _nothing_fits(candidates: Sequence[Candidate], at: datetime | None) -> UsageError | Refused:
    if not candidates:
        return UsageError("this vault holds no point yet", next="run `refloat protect` first")
    earlier = [candidate for candidate in candidates if at is None or candidate.created_at <= at]
    if not earlier:
        oldest = format_time(candidates[0].created_at)
        return UsageError(f"no point was made before that time; the oldest is from {oldest}")
    return Refused(
        "group_broken",
        "every point that fits is graded broken",
        next="`refloat points why ID` names the invariant; naming one with --point and "
        "--override group_broken uses it all the same",
    )
