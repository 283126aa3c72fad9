"""Which points stay and which are forgotten, why, and what speaks against forgetting any now.

Each region's own points are judged by themselves, and a point is forgotten only where no region would keep it: so
what is left after the loss of a region is what `keep` promises. Periods are of the calendar in UTC. Of a period the
newest point stays that is consistent and not suspect, and one that is where there is no other.

Never forgotten is, of each region, the last point of its log, the newest exact one, the newest that a recovery would
choose, the newest that was recovered and verified, one that a run which is not over names, one that is newer than
the clock, and one that cannot be read.

A point that a person names goes for no reason but that: a run and a hold keep it, and to let go of a region's newest
good one takes an override.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain

from refloat.manifest.model import Keep
from refloat.point.model import Grade
from refloat.point.suspicion import SHRANK, SOURCE_REWRITTEN, SOURCE_SHRANK, Part, Suspects, less
from refloat.units import format_time

CLOCK_BEHIND = "clock_behind"
FORGETS_MOST = "forgets_most"
RUN_UNREADABLE = "run_unreadable"
LAST_GOOD = "last_good"
RULES = (CLOCK_BEHIND, FORGETS_MOST, LAST_GOOD, RUN_UNREADABLE, SOURCE_REWRITTEN, SOURCE_SHRANK)
"""The safety rules that are asked before a point is forgotten, and can be overridden."""

SKEW_MAX = timedelta(hours=1)  # two writers' clocks differ by less; one that runs back further was set wrong
DAYS_LOST = 0.5  # of the days with a point; the number of points says little where one is made every minute
TOLD_MAX = 3  # of the points or components that an objection names

_PERIODS: Mapping[str, Callable[[datetime], str]] = {
    "hourly": lambda made: f"{made:%Y-%m-%dT%H}",
    "daily": lambda made: f"{made:%Y-%m-%d}",
    "weekly": lambda made: f"{made:%G-W%V}",
    "monthly": lambda made: f"{made:%Y-%m}",
    "yearly": lambda made: f"{made:%Y}",
}


@dataclass(frozen=True)
class Listed:
    """A point as the log of a region lists it; one that was unknown graded anew, where a recovery would."""

    name: str
    slot: int
    created_at: datetime
    grade: Grade


@dataclass(frozen=True)
class Seen:
    """Everything that is decided by.

    ``regions`` are the points that each region lists and has not forgotten. ``parts`` are the components of each
    point that can be read. ``gone`` are those whose body is in no region, of which all answer, and which one has
    forgotten.
    ``suspects`` are what ``suspicion.judge`` found. ``accepted`` are by safety rule the points that were there when a
    person overrode it,
    ``unreadable_runs`` those that may name any point. ``malformed`` are signed and no points: nothing can be recovered
    from them, so they go when their time has come. ``maybe_verified`` are named by evidence that this version cannot
    read.
    """

    now: datetime
    regions: Mapping[str, Sequence[Listed]]
    parts: Mapping[str, Mapping[str, Part]] = field(default_factory=dict)
    verified: Collection[str] = frozenset()
    maybe_verified: Collection[str] = frozenset()
    in_use: Collection[str] = frozenset()
    gone: Collection[str] = frozenset()
    accepted: Mapping[str, Collection[str]] = field(default_factory=dict)
    suspects: Suspects = field(default_factory=dict)
    unreadable_runs: Sequence[str] = ()
    malformed: Collection[str] = frozenset()

    @property
    def points(self) -> list[Listed]:
        """Every point once, newest first."""
        known = {point.name: point for point in chain.from_iterable(self.regions.values())}
        return sorted(known.values(), key=_made, reverse=True)

    def unaccepted(self, rule: str) -> list[Listed]:
        """The points that no person has spoken of yet when overriding ``rule``, newest first."""
        return [point for point in self.points if point.name not in self.accepted.get(rule, ())]


@dataclass(frozen=True)
class Decided:
    """A point, the regions that list it, and why it is kept; it is forgotten where there is no reason."""

    point: Listed
    regions: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def kept(self) -> bool:
        """Whether it stays."""
        return bool(self.reasons)


@dataclass(frozen=True)
class Objection:
    """A safety rule against forgetting anything now: what was seen, and what to do."""

    rule: str
    message: str
    next: str


def decide(seen: Seen, keep: Keep, holds: Mapping[str, float]) -> tuple[Decided, ...]:
    """What becomes of every point, newest first. ``holds`` are in seconds, by component."""
    listed: dict[str, list[str]] = {}
    reasons: dict[str, list[str]] = {}
    for region, points in seen.regions.items():
        for point in points:
            listed.setdefault(point.name, []).append(region)
        own: dict[str, list[str]] = {}
        for name, reason in _reasons(points, seen, keep, holds):
            if name not in seen.gone:
                own.setdefault(name, []).append(reason)
        for name, found in own.items():
            first = listed[name] == [region]
            reasons.setdefault(name, found if first else [f"{reason} in {region}" for reason in found])
    return tuple(
        Decided(point, tuple(listed[point.name]), tuple(reasons.get(point.name, ()))) for point in seen.points
    )


def decide_named(seen: Seen, name: str, holds: Mapping[str, float]) -> Decided:
    """What becomes of the point that a person names, whether it can be read or not; only a run and a hold keep it."""
    point = next(point for point in seen.points if point.name == name)
    listing = {region: points for region, points in seen.regions.items() if name in {p.name for p in points}}
    bound = (_bound(points, seen, holds) for points in listing.values())
    reasons = dict.fromkeys(reason for found, reason in chain.from_iterable(bound) if found == name)
    return Decided(point, tuple(listing), tuple(reasons))


def named_objections(seen: Seen, named: Decided) -> tuple[Objection, ...]:
    """The safety rules that say no to letting go of one point that a person names."""
    found = (_last_good(seen, named), _run_unreadable(seen, [named]))
    return tuple(one for one in found if one is not None)


def objections(seen: Seen, decided: Sequence[Decided]) -> tuple[Objection, ...]:
    """The safety rules that say no; none where nothing would be forgotten."""
    if all(one.kept for one in decided):
        return ()
    asked = (_clock_behind, _source_shrank, _source_rewritten, _forgets_most, _run_unreadable)
    return tuple(found for ask in asked if (found := ask(seen, decided)) is not None)


# ----------------------------------------------------------------------------------------------- why one stays


def _reasons(
    points: Sequence[Listed], seen: Seen, keep: Keep, holds: Mapping[str, float]
) -> Iterator[tuple[str, str]]:
    """The points that a region keeps by itself, each with a reason; a point may have several."""
    newest_first = sorted(points, key=lambda point: point.slot, reverse=True)

    for place, point in enumerate(newest_first[: keep.last], 1):
        yield point.name, f"last {place}"
    for period, label in _PERIODS.items():
        yield from _of_periods(points, seen, period, getattr(keep, period), label)
    yield from _good_ones(newest_first, seen)
    for point in points:
        if point.created_at > seen.now:
            yield point.name, "newer than the clock"
        if point.name not in seen.parts and point.name not in seen.malformed:
            yield point.name, "cannot be read"
        if point.name in seen.maybe_verified:
            yield point.name, "named by evidence that cannot be read"
    yield from _bound(points, seen, holds)


def _good_ones(newest_first: Sequence[Listed], seen: Seen) -> Iterator[tuple[str, str]]:
    """The points that a region falls back on, whatever its policy says."""

    def good(point: Listed) -> bool:
        return point.grade.consistent and point.name not in seen.suspects

    yield from _newest(newest_first, lambda point: good(point) and point.grade is Grade.EXACT, "newest exact")
    yield from _newest(newest_first, good, "newest consistent")
    yield from _newest(newest_first, lambda point: point.name in seen.verified, "last verified")


def _bound(points: Sequence[Listed], seen: Seen, holds: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """The points that nobody may let go of yet."""
    for point in points:
        if point.name in seen.in_use:
            yield point.name, "named by a run that is not over"
    yield from _held(points, seen, holds)


def _newest(
    newest_first: Sequence[Listed], fits: Callable[[Listed], bool], reason: str
) -> Iterator[tuple[str, str]]:
    found = next((point for point in newest_first if fits(point)), None)
    if found is not None:
        yield found.name, reason


def _of_periods(
    points: Sequence[Listed], seen: Seen, period: str, count: int, label: Callable[[datetime], str]
) -> Iterator[tuple[str, str]]:
    """The best point of each of the newest ``count`` periods that have one. What is newer than the clock fills none."""
    best: dict[str, Listed] = {}
    for point in points:
        if point.created_at <= seen.now:
            known = best.get(label(point.created_at), point)
            best[label(point.created_at)] = max(known, point, key=lambda one: _worth(one, seen))
    for key in sorted(best, reverse=True)[:count]:
        yield best[key].name, f"{period} {key}"


def _held(points: Sequence[Listed], seen: Seen, holds: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """A hold runs from the newest point, or from now if that is earlier: a clock that is ahead ends none."""
    until = min(seen.now, max((point.created_at for point in points), default=seen.now))
    for point in points:
        age_s = (until - point.created_at).total_seconds()
        for component in seen.parts.get(point.name, ()):
            if component in holds and age_s <= holds[component]:
                yield point.name, f"hold of {component}"


def _worth(point: Listed, seen: Seen) -> tuple[bool, datetime, int]:
    return point.grade.consistent and point.name not in seen.suspects, point.created_at, point.slot


def _made(point: Listed) -> tuple[datetime, str]:
    return point.created_at, point.name


# ------------------------------------------------------------------------------------- what speaks against all


def _clock_behind(seen: Seen, decided: Sequence[Decided]) -> Objection | None:
    """The clock is before a point, or a log runs back: then no age is known."""
    unaccepted = seen.unaccepted(CLOCK_BEHIND)
    hint = "set the clocks right; the points stay as they are"
    if unaccepted and unaccepted[0].created_at > seen.now:
        made, now = (format_time(time) for time in (unaccepted[0].created_at, seen.now))
        message = f"the clock says {now}, and the point {unaccepted[0].name[:12]} was made at {made}"
        return Objection(CLOCK_BEHIND, message, hint)
    names = {point.name for point in unaccepted}
    for region, points in seen.regions.items():
        latest: Listed | None = None
        for point in sorted((p for p in points if p.name in names), key=lambda p: p.slot):
            if latest is not None and latest.created_at - point.created_at > SKEW_MAX:
                message = (
                    f"the point {point.name[:12]} in {region} says that it was made at "
                    f"{format_time(point.created_at)}, and one before it at {format_time(latest.created_at)}"
                )
                return Objection(CLOCK_BEHIND, message, hint)
            latest = point if latest is None or point.created_at > latest.created_at else latest
    return None


def _source_shrank(seen: Seen, decided: Sequence[Decided]) -> Objection | None:
    """A point that would go, or the one kept before the newest, holds twice of a component what the newest does."""
    names = {point.name for point in seen.unaccepted(SOURCE_SHRANK)}
    readable = [one for one in decided if one.point.name in seen.parts and one.point.created_at <= seen.now]
    before = next((one for one in readable[1:] if one.kept), None)
    for one in readable[1:]:
        if one.point.name not in names or (one.kept and one is not before):
            continue
        left = seen.parts[readable[0].point.name]
        for component, part in seen.parts[one.point.name].items():
            if (rest := less(part, left.get(component))) is not None:
                message = (
                    f"the newest point holds {rest} of {component} that point {one.point.name[:12]} holds"
                )
                return Objection(
                    SOURCE_SHRANK,
                    message,
                    f"see what became of it: refloat points diff {one.point.name[:12]} {readable[0].point.name[:12]}",
                )
    return None


def _source_rewritten(seen: Seen, decided: Sequence[Decided]) -> Objection | None:
    """In some point a component looks encrypted, and no person has accepted that."""
    for point in reversed(seen.points):
        for component, reasons in seen.suspects.get(point.name, {}).items():
            if set(reasons) - {SHRANK}:
                message = f"in the point {point.name[:12]} most of {component} is new, and looks encrypted"
                hint = f"see that nobody else wrote it: refloat vault ls {point.name[:12]} {component}"
                return Objection(SOURCE_REWRITTEN, message, hint)
    return None


def _forgets_most(seen: Seen, decided: Sequence[Decided]) -> Objection | None:
    """More than half of the days that have a point would have none."""
    days = {one.point.created_at.date() for one in decided}
    left = {one.point.created_at.date() for one in decided if one.kept}
    if len(days) - len(left) <= len(days) * DAYS_LOST:
        return None
    message = f"of {len(days)} days that have a point, {len(days) - len(left)} would have none"
    hint = (
        "see what `keep` says, and what goes: refloat points forget --dry-run; the first time it may be right"
    )
    return Objection(FORGETS_MOST, message, hint)


def _last_good(seen: Seen, named: Decided) -> Objection | None:
    """The point can be read, and a region falls back on it, or may."""
    if named.point.name in seen.maybe_verified:
        message = (
            f"the point {named.point.name[:12]} is named by evidence that cannot be read, and may be verified"
        )
        return Objection(LAST_GOOD, message, "see that a newer point is good: refloat points list")
    for region in named.regions if named.point.name in seen.parts else ():
        newest_first = sorted(seen.regions[region], key=lambda point: point.slot, reverse=True)
        for name, reason in _good_ones(newest_first, seen):
            if name == named.point.name:
                message = f"the point {name[:12]} is the {reason} of {region}"
                return Objection(LAST_GOOD, message, "refloat protect, so that there is a newer one")
    return None


def _run_unreadable(seen: Seen, decided: Sequence[Decided]) -> Objection | None:
    if not seen.unreadable_runs:
        return None
    runs = ", ".join(seen.unreadable_runs[:TOLD_MAX])
    message = f"which point a run needs cannot be told, its journal is damaged: {runs}"
    return Objection(RUN_UNREADABLE, message, "see that none of these runs will be resumed")
