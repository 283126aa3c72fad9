"""From a vault to a plan: choose a point, read the manifest it carries, and lay out what will be done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from refloat.contracts import Facts, Health
from refloat.errors import RefloatError, UsageError
from refloat.evidence.seal import records
from refloat.flows import points
from refloat.flows.components import Components
from refloat.manifest.model import Manifest
from refloat.manifest.parse import parse
from refloat.manifest.resolve import Resolver
from refloat.plan.build import build
from refloat.plan.estimate import StepTiming, estimate
from refloat.plan.model import Action, Plan
from refloat.point.model import Point
from refloat.point.select import Choice, select
from refloat.run.target import ComponentTarget, Target
from refloat.vault.replica import Replica
from refloat.vault.whole import missing_for


@dataclass(frozen=True)
class Prepared:
    """Everything that a recovery needs to know before it begins."""

    replica: Replica
    choice: Choice
    point: Point
    components: Components
    files: dict[str, bytes]
    plan: Plan

    @property
    def manifest(self) -> Manifest:
        """The manifest as the point carries it."""
        return self.components.manifest


@dataclass(frozen=True)
class Wanted:
    """What is asked of a recovery: the region, and where wished the point, a time, some components only."""

    to: str
    point: str | None = None
    at: datetime | None = None
    only: tuple[str, ...] = ()
    overrides: frozenset[str] = frozenset()


def prepare(replica: Replica, wanted: Wanted, resolver: Callable[[], Resolver]) -> Prepared:
    """Choose the point and build the plan. Raises ``Refused`` or ``UsageError`` where none fits."""
    choice = select(points.candidates(replica), point=wanted.point, at=wanted.at, overrides=wanted.overrides)
    point = points.read(replica, choice.point)
    files = points.manifest_files(replica, point)
    manifest = parse(files[points.MANIFEST], file=points.MANIFEST)
    if wanted.to not in manifest.regions:
        known = ", ".join(manifest.regions)
        raise UsageError(f"the manifest knows no region {wanted.to!r}", next=f"its regions are {known}")
    components = Components(manifest, resolver())
    plan = build(choice.point, point, manifest, wanted.to, components.specs(), only=wanted.only)
    return Prepared(replica, choice, point, components, files, estimate(plan, point, list(history(replica))))


def history(replica: Replica) -> Iterator[StepTiming]:
    """How long every step of earlier runs into this region took, from its evidence."""
    for evidence in records(replica):
        for step in evidence.steps:
            part = evidence.components.get(step.component or "")
            if step.result == "done":
                yield StepTiming(
                    step_id=step.id,
                    action=Action(step.id.partition(".")[2].partition(":")[0]),
                    kind=part.kind if part else "",
                    bytes=part.bytes if part else 0,
                    seconds=step.seconds,
                )


def target(prepared: Prepared, scratch: Path) -> Target:
    """The region that a plan leads into, as the run's actions need it."""
    plan, point, replica = prepared.plan, prepared.point, prepared.replica
    names = [name for name in point.components if not plan.only or name in plan.only]
    return Target(
        region=plan.to,
        point_name=plan.point,
        point=point,
        components={name: _component(prepared, name) for name in names},
        scratch=scratch,
        groups=prepared.manifest.groups,
        known_points=frozenset(candidate.name for candidate in points.candidates(replica)),
        missing=lambda: missing_for(replica, _trees(point, names)),
        source_health=lambda: source_health(prepared.components, point.primary),
    )


def _trees(point: Point, names: Sequence[str]) -> list[str]:
    return [point.manifest, *(point.components[name].tree for name in names)]


def _component(prepared: Prepared, name: str) -> ComponentTarget:
    components, plan, snapshot = prepared.components, prepared.plan, prepared.point.components[name]
    return ComponentTarget(
        name=name,
        connector=components.connector(name),
        place=components.place(name, plan.to, source=prepared.point.primary),
        snapshot=snapshot,
        source=lambda: prepared.replica.source(snapshot.tree, Facts(snapshot.identity, snapshot.position)),
        parts=components.parts(name),
    )


def source_health(components: Components, region: str) -> dict[str, Health]:
    """How everything that runs in a region is; unknown where it cannot even be asked."""
    found = {}
    for name in components.names:
        connector = components.connector(name)
        if connector.spec.runnable:
            try:
                found[name] = connector.health(components.place(name, region))
            except RefloatError:
                found[name] = Health.UNKNOWN
    return found
