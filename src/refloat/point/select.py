"""Which point a recovery uses, and why each other one was passed over."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from refloat.errors import Refused, UsageError
from refloat.point.model import Grade
from refloat.point.suspicion import spoken
from refloat.units import format_time

POINT_SUSPECT = "point_suspect"
"""The rule against a recovery from a point that ransomware or a mass deletion may have made."""


@dataclass(frozen=True)
class Candidate:
    """A point that is committed in the region asked, as its log entry tells it.

    ``suspect`` holds the reasons by component, see ``suspicion``.
    """

    name: str
    created_at: datetime
    grade: Grade
    forgotten: bool = False
    suspect: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Considered:
    """One point, whether it was chosen, and the reason in a sentence."""

    name: str
    chosen: bool
    reason: str


@dataclass(frozen=True)
class Choice:
    """The chosen point and every candidate's reason, newest first.

    ``passed_over`` are the newer ones that were not chosen because they are suspect.
    """

    point: str
    considered: tuple[Considered, ...]
    passed_over: tuple[Candidate, ...] = ()


def select(
    candidates: Sequence[Candidate],
    *,
    point: str | None = None,
    at: datetime | None = None,
    overrides: Collection[str] = (),
) -> Choice:
    """Choose a point: the named one, else the newest consistent one (not after ``at``).

    ``candidates`` are oldest first. A fuzzy point is chosen like an exact one, since a newer point loses
    less. A forgotten point is used only by name, while its data is there, and a broken or suspect one only by
    name and with the override ``group_broken`` or ``point_suspect``.
    Raises ``Refused`` for such a one, ``UsageError`` where nothing fits.
    """
    if point is not None:
        return _named(candidates, point, overrides)
    chosen: str | None = None
    considered = []
    passed_over = []
    for candidate in reversed(candidates):
        reason = _passed_over(candidate, at, chosen)
        if reason is None:
            chosen = candidate.name
            reason = f"the newest consistent point; graded {candidate.grade}"
            considered.append(Considered(candidate.name, True, reason))
        else:
            considered.append(Considered(candidate.name, False, reason))
            if chosen is None and _is_suspect(candidate, at):
                passed_over.append(candidate)
    if chosen is None:
        raise _nothing_fits(candidates, at)
    return Choice(chosen, tuple(considered), tuple(passed_over))


def _is_suspect(candidate: Candidate, at: datetime | None) -> bool:
    """Whether only that stands against a candidate."""
    fits = at is None or candidate.created_at <= at
    return (
        fits and bool(candidate.suspect) and not candidate.forgotten and candidate.grade is not Grade.BROKEN
    )


def _passed_over(candidate: Candidate, at: datetime | None, chosen: str | None) -> str | None:
    """Why a candidate is not the one; None where it is."""
    if at is not None and candidate.created_at > at:
        return f"made at {format_time(candidate.created_at)}, after the time asked for"
    if candidate.forgotten:
        return "forgotten: it is beyond what is kept, and its data may go"
    if candidate.grade is Grade.BROKEN:
        return "graded broken: a group breaks an invariant"
    if candidate.suspect:
        return f"suspect: {spoken(candidate.suspect)}"
    if chosen is not None:
        return "an older point; a newer one is consistent"
    return None


def _named(candidates: Sequence[Candidate], point: str, overrides: Collection[str]) -> Choice:
    named = [candidate for candidate in candidates if candidate.name.startswith(point)]
    matching = [candidate for candidate in named if not candidate.forgotten] or named
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
    if candidate.suspect and POINT_SUSPECT not in overrides:
        raise Refused(
            POINT_SUSPECT,
            f"the point {candidate.name[:12]} is suspect: {spoken(candidate.suspect)}",
            next=f"see what changed: refloat points diff; choose an older point, say that it is good: "
            f"refloat points accept, or break the glass with --override {POINT_SUSPECT}",
        )
    return Choice(candidate.name, (Considered(candidate.name, True, "named by the operator"),))


def _nothing_fits(candidates: Sequence[Candidate], at: datetime | None) -> UsageError | Refused:
    if not candidates:
        return UsageError("this vault holds no point yet", next="run `refloat protect` first")
    kept = [candidate for candidate in candidates if not candidate.forgotten]
    earlier = [candidate for candidate in kept if at is None or candidate.created_at <= at]
    if not kept:
        return UsageError(
            "every point is forgotten", next="name one whose data is still there: --point POINT"
        )
    if not earlier:
        oldest = format_time(kept[0].created_at)
        return UsageError(
            f"no point was made before that time; the oldest that is kept is from {oldest}",
            next="`refloat points list` shows when each was made",
        )
    if any(_is_suspect(candidate, at) for candidate in earlier):
        return Refused(
            POINT_SUSPECT,
            "every point that fits is suspect or graded broken",
            next="`refloat points why` names the reasons; naming one with --point and "
            f"--override {POINT_SUSPECT} uses it all the same",
        )
    return Refused(
        "group_broken",
        "every point that fits is graded broken",
        next="`refloat points why ID` names the invariant; naming one with --point and "
        "--override group_broken uses it all the same",
    )
