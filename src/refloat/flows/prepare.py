"""From a vault to a plan: choose a point, read the manifest it carries, and lay out what will be done."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, partial
from pathlib import Path

from refloat.attributes import Withheld
from refloat.contracts import Facts, Health, Occupied, Staging, Tokened
from refloat.deadline import within
from refloat.errors import RefloatError, Refused, StoreError, UsageError, VaultError, plug_in
from refloat.evidence.model import Evidence
from refloat.evidence.seal import Unread, each_record, records
from refloat.flows import baselines, points
from refloat.flows.anew import point_anew
from refloat.flows.apart import lived_in
from refloat.flows.components import Components
from refloat.flows.room import room_for
from refloat.flows.suspects import marked
from refloat.limits import HEALTH_SECONDS_MAX
from refloat.manifest.graph import answers_depend_on, with_their_groups
from refloat.manifest.model import Manifest
from refloat.manifest.parse import parse
from refloat.manifest.resolve import Resolver
from refloat.plan.build import build
from refloat.plan.estimate import estimate
from refloat.plan.learn import StepTiming, took
from refloat.plan.model import SIZED, Action, Plan
from refloat.plan.scenario import UNNAMED, Scenario
from refloat.point.capture import inspected
from refloat.point.model import Point
from refloat.point.select import Candidate, Choice, meant, select
from refloat.room import Room
from refloat.run.target import SOURCE_AHEAD, ComponentTarget, Target
from refloat.vault.anywhere import Anywhere
from refloat.vault.replica import Replica
from refloat.vault.unfolded import Totals
from refloat.vault.whole import missing_for

Put = Callable[[Manifest, dict[str, bytes]], tuple[Manifest, dict[str, bytes]]]
"""What a recovery makes of the manifest and the files that a point carries."""

LOG_DAMAGED = "log_damaged"
"""The rule against a recovery where the log of points is not what was written."""


@dataclass(frozen=True)
class Prepared:
    """Everything that a recovery needs to know before it begins.

    ``replica`` is the target's own; the bytes are read by ``reader``, which asks it first.
    """

    replica: Replica
    reader: Anywhere
    choice: Choice
    point: Point
    components: Components
    files: dict[str, bytes]
    plan: Plan
    known_points: frozenset[str] = frozenset()
    homes: frozenset[str] = frozenset()
    remarks: tuple[str, ...] = ()
    """What is wrong with regions that are not needed: for people."""
    doubts: baselines.Doubts = field(default_factory=dict)
    """What could not be verified, whatever is measured."""
    withheld: Withheld = field(default_factory=Withheld)
    """What was written without its owner or attributes, which whoever recovers may not set."""

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
    scenario: Scenario = UNNAMED

    @property
    def narrowed(self) -> bool:
        """Whether a point, a time or some components only are asked for."""
        return bool(self.point or self.at or self.only)

    @property
    def needs(self) -> tuple[str, ...] | None:
        """The regions that must be waited for as long as their stores are, see ``Vault.open``; None is all.

        A move may lose nothing, so whoever may hold something newer is heard.
        """
        return None if self.scenario.moves else (self.to,)


def prepare(
    replica: Replica,
    wanted: Wanted,
    resolver: Callable[[], Resolver],
    others: Sequence[Replica] = (),
    put: Put = lambda manifest, files: (manifest, files),
) -> Prepared:
    """Choose the point and build the plan; ``others`` tell more of the points' past.

    Raises ``Refused`` or ``UsageError`` where none fits."""
    there = candidates(replica, wanted.overrides)
    named = meant(there, wanted.point)
    known = marked(there, [replica, *others], point=named, at=wanted.at)
    choice = select(known, point=named, at=wanted.at, overrides=wanted.overrides)
    point = point_anew(_read(replica, choice.point, known))
    reader = Anywhere([replica])
    reader.reading_also(others)
    files = points.manifest_files(reader, point)
    manifest, files = put(parse(files[points.MANIFEST], file=points.MANIFEST), files)
    if wanted.to not in manifest.regions:
        regions = ", ".join(manifest.regions)
        raise UsageError(f"the manifest knows no region {wanted.to!r}", next=f"its regions are {regions}")
    components = Components(manifest, resolver())
    if wanted.scenario.moves and SOURCE_AHEAD not in wanted.overrides:
        kept = [candidate for candidate in known if not candidate.forgotten]
        _require_last(point, kept[-1], choice, [replica, *others])
    plan = build(
        choice.point,
        point,
        manifest,
        wanted.to,
        components.specs(),
        only=_only(manifest, wanted),
        scenario=wanted.scenario,
    )
    known_points = frozenset(candidate.name for candidate in known)
    planned = estimate(plan, point, timings(replica, plan.to))
    homes = _homes(replica, known, point, manifest)
    return Prepared(replica, reader, choice, point, components, files, planned, known_points, homes)


def _only(manifest: Manifest, wanted: Wanted) -> Sequence[str]:
    """The components that are brought; none named is all of them."""
    if wanted.scenario.drill:
        return tried_with(manifest, wanted.only)
    return with_their_groups(manifest, wanted.only) if wanted.scenario.grouped else wanted.only


def tried_with(manifest: Manifest, names: Collection[str]) -> Sequence[str]:
    """Components with all that their answers may depend on: what else there is need not be brought to ask them."""
    known = [answers_depend_on(manifest, name) if name in manifest.components else (name,) for name in names]
    return tuple(dict.fromkeys(name for each in known for name in each))


def with_doubts(prepared: Prepared, replicas: Iterable[Replica]) -> Prepared:
    """The same, with what could not be verified of it; ``replicas`` keep the baselines that count."""
    verified = [step.subject for step in prepared.plan.steps if step.action is Action.VERIFY]
    if not verified:
        return prepared
    known = baselines.kept(replicas)
    found: dict[str, Mapping[str, str]] = {}
    for name in verified:
        looking = partial(with_what_stays, prepared, name)
        try:
            point = within(HEALTH_SECONDS_MAX, "looking at what stays", looking)
        except RefloatError:  # what that is must be known when it is verified, not yet
            point = prepared.point
        found[name] = baselines.doubts_on(
            name, known, point, prepared.manifest, prepared.files, prepared.plan.to
        )
    return replace(prepared, doubts={name: bounds for name, bounds in found.items() if bounds})


def _require_last(point: Point, newest: Candidate, choice: Choice, replicas: Sequence[Replica]) -> None:
    """What a move takes along must be the last word of where the pipeline runs.

    Raises ``Refused`` (rule ``source_ahead``) where a newer point was not chosen, and where a run since led elsewhere.
    """
    override = f"or name the rule: --override {SOURCE_AHEAD}"
    if newest.name != choice.point:
        raise Refused(
            SOURCE_AHEAD,
            f"{newest.name[:12]} is newer than {choice.point[:12]}, and what it alone holds would be lost",
            next=f"refloat points why {newest.name[:12]}, mend what is wrong and protect again, {override}",
        )
    run = _led_elsewhere(point, replicas)
    if isinstance(run, Unread):
        raise Refused(
            SOURCE_AHEAD,
            f"{run.name} cannot be read here, and may tell of a run that brought the pipeline elsewhere",
            next=f"recover with the refloat that wrote it, {override}",
        )
    if run is not None:
        raise Refused(
            SOURCE_AHEAD,
            f"run {run.run} brought the pipeline into {run.to} after the last point was made in {point.primary}",
            next=f"refloat protect --region {run.to}, and begin again, {override}",
        )


def _led_elsewhere(point: Point, replicas: Sequence[Replica]) -> Evidence | Unread | None:
    """A run that brought the whole pipeline elsewhere after the point was made, as far as a log can be read.

    Otherwise a record that this version cannot read, and that may tell of one.
    """
    unread: Unread | None = None
    for replica in replicas:
        with contextlib.suppress(VaultError, StoreError):
            for run in each_record(replica):
                if isinstance(run, Unread):
                    unread = run if run.may_tell_after(point.created_at) else unread
                    continue
                whole = run.state == "done" and "partial" not in run.flags
                if whole and run.to != point.primary and run.finished_at > point.created_at:
                    return run
    return unread


def candidates(replica: Replica, overrides: Collection[str] = ()) -> list[Candidate]:
    """The points that the region's log commits; with the override ``log_damaged``, those that are stored.

    Raises ``VaultError`` for a log that is damaged.
    """
    try:
        return points.candidates(replica)
    except VaultError as error:
        if LOG_DAMAGED in overrides:
            return points.stored(replica)
        error.next = (
            "recover from another region's vault; or go by the points themselves, each of which is signed: "
            f"--override {LOG_DAMAGED}"
        )
        raise


def _read(replica: Replica, name: str, known: Sequence[Candidate]) -> Point:
    try:
        return points.read(replica, name)
    except VaultError as error:
        older = [candidate.name for candidate in known if candidate.name != name and not candidate.forgotten]
        if older:
            error.next = (
                f"recover from another region's vault, or choose an older point: --point {older[-1][:12]}"
            )
        raise


def _homes(replica: Replica, known: Sequence[Candidate], point: Point, manifest: Manifest) -> frozenset[str]:
    """Where the pipeline lives: by its manifest, by the chosen point, and by the newest that can be read."""
    for candidate in reversed(known):
        with contextlib.suppress(VaultError):
            return frozenset({manifest.primary, point.primary, points.read(replica, candidate.name).primary})
    return frozenset({manifest.primary, point.primary})


def timings(replica: Replica, to: str) -> list[StepTiming]:
    """``history``, or nothing of it where it is damaged: a recovery does not depend on its estimates."""
    try:
        return list(history(replica, to))
    except VaultError:
        return []


def history(replica: Replica, to: str) -> Iterator[StepTiming]:
    """How long every step of earlier runs took, those into ``to`` and all others, as the evidence tells.

    With what went by before each began, as long as one sitting was enough for the run: nobody waits for a person then.
    """
    for evidence in records(replica):
        took_s = {step.id: step.seconds for step in evidence.steps}
        if evidence.foreseen is not None and evidence.foreseen.seconds is not None:
            took_s = took([(step.id, step.started_s, step.seconds) for step in evidence.steps])
        for step in evidence.steps:
            part = evidence.components.get(step.component or "")
            action = Action(step.id.partition(".")[2].partition(":")[0])
            tried = evidence.kind == "drill" and step.result == "undone" and not step.error
            if (step.result == "done" or tried) and not step.observed:
                yield StepTiming(
                    step_id=step.id,
                    action=action,
                    kind=part.kind if part else "",
                    bytes=part.bytes if part and action in SIZED else 0,
                    seconds=took_s[step.id],
                    run=evidence.run,
                    here=evidence.to == to,
                )


def target(prepared: Prepared, scratch: Path) -> Target:
    """The region that a plan leads into, as the run's actions need it."""
    plan, point = prepared.plan, prepared.point
    names = _recovered(prepared)
    elsewhere = cache(lambda: lived_in(prepared.components, plan.to, prepared.homes))
    return Target(
        region=plan.to,
        point_name=plan.point,
        point=point,
        components={name: _component(prepared, name) for name in names},
        scratch=scratch,
        groups=prepared.manifest.groups,
        known_points=prepared.known_points,
        homes=prepared.homes,
        lives_in=lambda name: elsewhere().get(name),
        missing=lambda: missing_for(prepared.reader, _trees(point, names)),
        source_health=lambda: {
            region: source_health(prepared.components, region)
            for region in _may_serve(prepared.manifest, point, plan.to)
        },
        beside=lambda: beside(prepared.components, plan.to, names),
        live=lambda name: live(prepared.components, plan.to, name),
        moves=plan.moves,
        token_in_source=lambda name: token(prepared.components, point.primary, name),
        room=lambda: room(prepared, scratch),
        drill=plan.drill,
    )


def _may_serve(manifest: Manifest, point: Point, to: str) -> list[str]:
    """Where the pipeline may still serve: where the point was made, and in the primary unless that is the target."""
    primary = [] if manifest.primary in (point.primary, to) else [manifest.primary]
    return [point.primary, *primary]


def room(prepared: Prepared, scratch: Path) -> list[Room]:
    """The file systems that the plan stages on: what all components need there, and what is free."""
    return room_for((_component(prepared, name) for name in _recovered(prepared)), scratch)


def _recovered(prepared: Prepared) -> list[str]:
    only = prepared.plan.only
    return [name for name in prepared.point.components if not only or name in only]


def _trees(point: Point, names: Sequence[str]) -> list[str]:
    return [point.manifest, *(point.components[name].tree for name in names)]


def _component(prepared: Prepared, name: str) -> ComponentTarget:
    components, plan, snapshot = prepared.components, prepared.plan, prepared.point.components[name]
    facts, priority = (
        Facts(snapshot.identity, snapshot.position),
        prepared.manifest.components[name].priority,
    )
    return ComponentTarget(
        name=name,
        connector=components.connector(name),
        place=components.place(name, plan.to, source=prepared.point.primary),
        snapshot=snapshot,
        source=lambda heard, cancelled: prepared.reader.source(
            snapshot.tree,
            facts,
            priority=priority,
            heard=heard,
            cancelled=cancelled,
            totals=Totals(snapshot.files, snapshot.bytes),
            withheld=prepared.withheld,
        ),
        parts=components.parts(name),
    )


def beside(components: Components, region: str, recovered: Collection[str]) -> list[str]:
    """The components that are in a region already and stay as they are; also where that cannot be told."""
    return [
        name for name in components.names if name not in recovered and _may_be_there(components, region, name)
    ]


def _may_be_there(components: Components, region: str, name: str) -> bool:
    connector = components.connector(name)
    if not isinstance(connector, Occupied):
        return connector.spec.staging is not Staging.NONE
    try:
        with plug_in(f"asking who holds {name}"):
            return connector.holder(components.place(name, region)) is not None
    except RefloatError:
        return True


def with_what_stays(prepared: Prepared, component: str) -> Point:
    """The point as it is around a component once it is recovered: what is there and stays is as it is live now.

    Raises what the connector of something that stays raises.
    """
    point, to, components = prepared.point, prepared.plan.to, prepared.components
    stays = set(answers_depend_on(prepared.manifest, component)).difference(_recovered(prepared))
    now = {
        name: point.components[name].model_copy(update={"identity": live(components, to, name).identity})
        for name in stays.intersection(point.components)
        if _may_be_there(components, to, name)
    }
    return point.model_copy(update={"components": {**point.components, **now}})


def live(components: Components, region: str, name: str) -> Facts:
    """What is live of a component in a region. Raises what its connector raises, as an error of the component."""
    with plug_in(f"looking at {name}", component=name, region=region):
        return inspected(components.connector(name), components.place(name, region))


def token(components: Components, region: str, name: str) -> str | None:
    """The token of what is live of a component in a region; None where there is none. Raises as ``live``."""
    connector = components.connector(name)
    with plug_in(f"looking at {name}", component=name, region=region):
        place = components.place(name, region)
        found = connector.token(place) if isinstance(connector, Tokened) else None
        return found or inspected(connector, place).token


def source_health(components: Components, region: str) -> dict[str, Health]:
    """How everything that runs in a region is; unknown where it cannot even be asked."""
    found = {}
    for name in components.names:
        connector = components.connector(name)
        if connector.spec.runnable:
            try:
                with plug_in(f"asking {name} for its health"):
                    found[name] = connector.health(components.place(name, region))
            except RefloatError:
                found[name] = Health.UNKNOWN
    return found
