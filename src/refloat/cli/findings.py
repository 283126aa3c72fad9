"""What is wrong with a pipeline's protection: from what was seen to a list of problems."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from refloat.contracts import Facts, Health
from refloat.errors import Missing, RefloatError, Retry
from refloat.flows.baselines import Doubts, unverified
from refloat.flows.newer import Behind
from refloat.flows.rejoin import Standing
from refloat.manifest import graph
from refloat.manifest.model import Manifest
from refloat.point.model import Verdict
from refloat.units import format_duration
from refloat.vault.layout import Descriptor
from refloat.vault.replica import REPAIR
from refloat.vault.witness import rolled_back_message


class Level(StrEnum):
    """Whether a problem stands in the way."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where in the manifest, what, and what to do; ``line`` and ``column`` count from 1.

    ``retry`` says whether asking again can help, ``file`` what was asked for in vain, where that is known.
    """

    level: Level
    where: str
    message: str
    next: str | None = None
    line: int | None = None
    column: int | None = None
    retry: Retry = Retry.NEVER
    file: str | None = None


@dataclass(frozen=True)
class ComponentSeen:
    """One component in the primary region: its facts and health, or why they could not be had.

    ``ailment`` is why it is not healthy, as far as its connector can say; ``remarks`` are what else it has to say.
    """

    facts: Facts | None = None
    health: Health = Health.UNKNOWN
    ailment: str = ""
    remarks: Sequence[RefloatError] = ()
    error: RefloatError | None = None


@dataclass(frozen=True)
class RegionSeen:
    """One region: the pipeline that its vault is for and how many points it holds, or why neither is known.

    ``points`` is None where no key was given; ``descriptor`` is what the replica says it is.
    """

    url: str
    pipeline: str | None = None
    points: int | None = None
    descriptor: Descriptor | None = None
    error: RefloatError | None = None
    occupied: bool = False
    """Whether something lies there, though no descriptor says what."""

    def is_place_of(self, other: RegionSeen) -> bool:
        """Whether both are one place: by what lies there, since an address has many spellings, else by the address."""
        return self.url == other.url or (self.descriptor is not None and self.descriptor == other.descriptor)

    @property
    def reachable(self) -> bool:
        """Whether the store answered, be it that there is no vault."""
        return self.error is None or isinstance(self.error, Missing)


@dataclass(frozen=True)
class Seen:
    """All that ``check`` looked at. ``protected`` names what the newest point holds; None: not looked at."""

    manifest: Manifest
    components: Mapping[str, ComponentSeen]
    regions: Mapping[str, RegionSeen]
    protected: frozenset[str] | None = None
    missing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    verdicts: Mapping[str, Sequence[Verdict]] = field(default_factory=dict)
    standings: Mapping[str, Standing] = field(default_factory=dict)
    behind: Mapping[str, Behind] = field(default_factory=dict)
    """The regions that lack a newer point for longer than it takes to arrive."""
    unknown: Mapping[str, RefloatError] = field(default_factory=dict)
    """The regions of which nobody can tell whether they lack a newer point, or how their log stands: why."""
    unheard: Sequence[str] = ()
    """What ``notify`` refers to and is not there."""
    verification: Sequence[Problem] = ()
    overlapping: Sequence[Problem] = ()
    doubts: Doubts = field(default_factory=dict)
    """What could not be verified if the newest point were recovered now."""


def problems(seen: Seen) -> list[Problem]:
    """Every problem, errors first."""
    found = [
        *_unreachable_components(seen),
        *_regions(seen),
        *_unresolved(seen),
        *_unheard(seen),
        *_unprotected(seen),
        *_unverifiable(seen),
        *_impossible(seen.manifest),
        *seen.overlapping,
        *_shared_fate(seen),
        *_invariants(seen),
        *seen.verification,
        *_not_acted_on(seen.manifest),
    ]
    return sorted(found, key=lambda problem: problem.level is not Level.ERROR)


def _unverifiable(seen: Seen) -> Iterator[Problem]:
    for name, bounds in seen.doubts.items():
        message = f"the newest point: {unverified({name: bounds})}"
        yield _warning(f"verify.{name}", message, "while it answers well: refloat verify --save-baseline")


def _error(where: str, message: str, next: str | None = None) -> Problem:
    return Problem(Level.ERROR, where, message, next)


def _met(where: str, error: RefloatError) -> Problem:
    """What was met in asking."""
    return Problem(Level.ERROR, where, error.message, error.next_step, retry=error.retry, file=error.file)


def _warning(where: str, message: str, next: str | None = None) -> Problem:
    return Problem(Level.WARNING, where, message, next)


def _unreachable_components(seen: Seen) -> Iterator[Problem]:
    for name, component in seen.components.items():
        where = f"components.{name}"
        if component.error is not None:
            yield _met(where, component.error)
        elif component.health is Health.SICK:
            message = component.ailment or "answers, but is not healthy"
            yield _error(where, message, "see whether it runs, and what it says itself")
        elif component.health is Health.UNKNOWN:
            message = component.ailment or "does not say whether it is healthy"
            yield _warning(where, message, "see whether it runs, and what it says itself")
        yield from (_warning(where, remark.message, remark.next_step) for remark in component.remarks)


def _regions(seen: Seen) -> Iterator[Problem]:
    others = any(region.descriptor is not None for region in seen.regions.values())
    for name, region in seen.regions.items():
        where = f"regions.{name}"
        if isinstance(region.error, Missing) and region.occupied:
            message = f"{region.url} is not empty, and nothing there says which vault it is"
            yield _warning(where, message, "refloat vault repair")
        elif isinstance(region.error, Missing) and others:
            message = f"there is no replica in {region.url}, and other regions have one"
            yield _warning(where, message, f"refloat vault add-region {name}")
        elif isinstance(region.error, Missing):
            yield _warning(where, f"there is no vault in {region.url} yet", "refloat vault init")
        elif region.error is not None:
            yield _met(where, region.error)
        elif region.pipeline != seen.manifest.pipeline:
            message = f"the vault in {region.url} is for the pipeline {region.pipeline!r}"
            yield _error(where, message, "give this pipeline a vault of its own, or correct `pipeline`")
        elif name in seen.unknown:
            yield _met(where, seen.unknown[name])
        elif name in seen.standings:
            yield from _standing(where, seen.standings[name], seen.behind.get(name))


def _standing(where: str, standing: Standing, behind: Behind | None) -> Iterator[Problem]:
    """How a region's log of points stands to the others."""
    if standing.is_old:
        message = (
            rolled_back_message(standing.region, *standing.rolled_back)
            if standing.rolled_back
            else f"its log of points went on by itself: it lacks {len(standing.lacks)} points that others have"
        )
        yield _warning(where, message, f"refloat vault rejoin {standing.region}")
    elif behind is not None:
        yield _error(where, behind.told, REPAIR)
    elif standing.missed:
        message = f"it lacks {len(standing.missed)} points that another region has"
        yield _warning(where, message, REPAIR)


def _unresolved(seen: Seen) -> Iterator[Problem]:
    for region, references in seen.missing.items():
        if references:
            message = f"not to be had on this machine: {', '.join(references)}"
            yield _warning(
                f"regions.{region}", message, f"see that they are there when recovering to {region}"
            )


def _unheard(seen: Seen) -> Iterator[Problem]:
    if seen.unheard:
        message = f"no alert could be sent: not to be had on this machine: {', '.join(seen.unheard)}"
        yield _warning("notify", message, "see that they are there where `refloat protect` runs")


def _unprotected(seen: Seen) -> Iterator[Problem]:
    if seen.protected is None or all(region.error is not None for region in seen.regions.values()):
        return
    if not seen.protected:
        yield _warning("components", "nothing is protected yet: no vault holds a point", "refloat protect")
        return
    for name in seen.manifest.components:
        if name not in seen.protected:
            yield _warning(f"components.{name}", "is in no point yet", "refloat protect")


def _impossible(manifest: Manifest) -> Iterator[Problem]:
    for unit in graph.units(manifest):
        cadence_s = min(manifest.cadence_s(name) for name in unit)
        for name in unit:
            yield from _impossible_for(manifest, name, cadence_s)


def _impossible_for(manifest: Manifest, name: str, cadence_s: float) -> Iterator[Problem]:
    tier = manifest.tier(name)
    if cadence_s > tier.rpo:
        cadence, objective = format_duration(cadence_s), format_duration(tier.rpo)
        yield _error(
            f"components.{name}.protect",
            f"captured every {cadence}, it can never meet an RPO of {objective}",
            f"protect it at least every {objective}, or give it another tier",
        )
    if tier.copies > len(manifest.regions):
        yield _warning(
            f"components.{name}.tier",
            f"asks for {tier.copies} copies, and there are {len(manifest.regions)} regions",
            "add a region, or change `copies` of the tier",
        )


def _shared_fate(seen: Seen) -> Iterator[Problem]:
    regions, told = seen.manifest.regions, {problem.where for problem in seen.overlapping}
    for one, other in itertools.combinations(regions, 2):
        if (
            one in seen.regions
            and other in seen.regions
            and seen.regions[one].is_place_of(seen.regions[other])
            and f"regions.{other}.vault" not in told
        ):
            message = f"keeps its replica in the same place as {one}"
            yield _error(f"regions.{other}.vault", message, "give each region a store of its own")
        for key in ("site", "account"):
            shared = getattr(regions[one].domain, key)
            if shared is not None and shared == getattr(regions[other].domain, key):
                message = f"shares the {key} {shared!r} with {one}; both can fail at once"
                yield _warning(f"regions.{other}.domain", message)


def _invariants(seen: Seen) -> Iterator[Problem]:
    for group, verdicts in seen.verdicts.items():
        for verdict in verdicts:
            if not verdict.evaluated:
                hint = "give it less to do; a point taken now would be unknown, and evaluated anew when it is needed"
                yield _error(f"groups.{group}.must", f"`{verdict.must}` was {verdict.reason}", hint)
            elif verdict.holds is not True:
                absent = [path for path, value in verdict.values.items() if value is None]
                reason = f"no fact is called {', '.join(absent)}" if absent else verdict.reason
                message = "does not hold now" if verdict.holds is False else f"cannot be told: {reason}"
                hint = "a point taken now would be broken: correct the pipeline, or the expression"
                yield _error(f"groups.{group}.must", f"`{verdict.must}` {message}", hint)


def _not_acted_on(manifest: Manifest) -> Iterator[Problem]:
    for key in ("people", "witness", "drills"):
        if key in manifest.model_fields_set:
            yield _warning(key, "is accepted, but this version does nothing with it")
    for name, component in manifest.components.items():
        if "profiles" in component.model_fields_set:
            yield _warning(
                f"components.{name}.profiles", "is accepted, but this version does nothing with it"
            )
