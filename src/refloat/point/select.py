"""Which point a recovery uses, and why each other one was passed over."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from refloat.errors import Refused, UsageError
from refloat.point.model import Grade
from refloat.point.suspicion import spoken
from refloat.units import format_time

GROUP_BROKEN = "group_broken"
"""The rule against a recovery from a point whose parts are not known to belong together."""

LATEST = "latest"
"""The newest point or run, as a name: none is called so, since names are hexadecimal."""

POINT_SUSPECT = "point_suspect"
"""The rule against a recovery from a point that ransomware or a mass deletion may have made."""


_UNKNOWN = "its invariants could not be evaluated, neither when it was made nor now"


@dataclass(frozen=True)
class Candidate:
    """A point that is committed in the region asked, as its log entry and its body tell it.

    ``suspect`` holds the reasons by component, see ``suspicion``. ``malformed`` is true where its body is signed and no
    point at all: it is then graded broken, whatever the log says.
    """

    name: str
    created_at: datetime
    grade: Grade
    forgotten: bool = False
    suspect: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    malformed: bool = False

    @property
    def doubt(self) -> str | None:
        """Why it is not taken though nothing is known to be wrong with it; None where something is, or nothing."""
        if self.grade is Grade.UNKNOWN:
            return f"graded unknown: {_UNKNOWN}"
        return f"suspect: {spoken(self.suspect)}" if self.suspect and self.grade.consistent else None


@dataclass(frozen=True)
class Considered:
    """One point, whether it was chosen, and the reason in a sentence."""

    name: str
    chosen: bool
    reason: str


@dataclass(frozen=True)
class Choice:
    """The chosen point and every candidate's reason, newest first.

    ``passed_over`` are the newer ones that were not chosen because they are suspect or unknown.
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
    less. A forgotten point is used only by name, while its data is there, and a broken, unknown or suspect one only by
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
            if chosen is None and candidate.doubt and may_be_chosen(candidate, at=at):
                passed_over.append(candidate)
    if chosen is None:
        raise _nothing_fits(candidates, at)
    return Choice(chosen, tuple(considered), tuple(passed_over))


def called(names: Sequence[str], start: str) -> list[str]:
    """Those of ``names``, the newest last, that a person may mean: by how it begins, all of it, or ``latest``."""
    if start == LATEST:
        return list(names[-1:])
    return [start] if start in names else [name for name in names if name.startswith(start)]


def meant(candidates: Sequence[Candidate], point: str | None) -> str | None:
    """What a person calls a point: ``latest`` is the newest that is not forgotten, whatever it is worth."""
    kept = [candidate for candidate in candidates if not candidate.forgotten]
    if point != LATEST or not kept:
        return point
    return max(kept, key=lambda candidate: (candidate.created_at, candidate.name)).name


def may_be_chosen(candidate: Candidate, point: str | None = None, at: datetime | None = None) -> bool:
    """Whether a choice is about a candidate at all: it is the one that is named, or none is and it fits."""
    if point is not None:
        return candidate.name.startswith(point)
    return not candidate.forgotten and (at is None or candidate.created_at <= at)


def _passed_over(candidate: Candidate, at: datetime | None, chosen: str | None) -> str | None:
    """Why a candidate is not the one; None where it is."""
    if at is not None and candidate.created_at > at:
        return f"made at {format_time(candidate.created_at)}, after the time asked for"
    if candidate.forgotten:
        return "forgotten: it is beyond what is kept, and its data may go"
    if candidate.malformed:
        return "malformed: its writer signed it, and it is no recovery point"
    if candidate.grade is Grade.BROKEN:
        return "graded broken: a group breaks an invariant"
    if candidate.doubt:
        return candidate.doubt
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
    if not candidate.malformed and not candidate.grade.consistent and GROUP_BROKEN not in overrides:
        known = candidate.grade is Grade.BROKEN
        why = "its parts do not belong together" if known else _UNKNOWN
        raise Refused(
            GROUP_BROKEN,
            f"the point {candidate.name[:12]} is graded {candidate.grade}: {why}",
            next=f"`refloat points why {candidate.name[:12]}` names the invariant; choose another point, "
            f"or break the glass with --override {GROUP_BROKEN}",
        )
    if candidate.suspect and POINT_SUSPECT not in overrides:
        raise Refused(
            POINT_SUSPECT,
            f"the point {candidate.name[:12]} is suspect: {spoken(candidate.suspect)}",
            next=f"see what is in it: refloat vault ls {candidate.name[:12]}; choose an older point, or say that this "
            f"one is good: refloat points accept {candidate.name[:12]} --because TEXT, or break the glass with "
            f"--override {POINT_SUSPECT}",
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
    bad = {candidate.grade for candidate in earlier if not candidate.grade.consistent}
    grades = " or ".join(sorted(bad))
    if any(candidate.suspect and candidate.grade.consistent for candidate in earlier):
        return Refused(
            POINT_SUSPECT,
            f"every point that fits is suspect or graded {grades or Grade.BROKEN}",
            next="`refloat points why` names the reasons; naming one with --point and "
            f"--override {POINT_SUSPECT} uses it all the same",
        )
    return Refused(
        GROUP_BROKEN,
        f"every point that fits is graded {grades}",
        next="`refloat points why` names what is wrong with each; naming one with --point and "
        f"--override {GROUP_BROKEN} uses it all the same",
    )
