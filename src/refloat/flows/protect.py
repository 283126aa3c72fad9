"""Protect a pipeline: manifest -> facts -> snapshots -> groups -> point, in every region that answers."""

from __future__ import annotations

import io
import platform
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from refloat.clock import Clock
from refloat.contracts import Progress, Silent
from refloat.digest import Json, json_form
from refloat.durable import scratch_folder
from refloat.errors import RefloatError, Refused, StoreError, UsageError, VaultError, most_hopeful
from refloat.flows import baselines, points, verify
from refloat.flows.anew import known_anew
from refloat.flows.components import Components
from refloat.flows.measured import measure_with
from refloat.flows.opening import require_region
from refloat.flows.suspects import suspects
from refloat.manifest.model import Group, Manifest
from refloat.manifest.resolve import redact
from refloat.point import invariants
from refloat.point.capture import Capture, Captured, Member
from refloat.point.evaluate import Evaluator
from refloat.point.model import Grade, GroupRecord, Point, Snapshot
from refloat.registry import refloat_version
from refloat.units import format_time
from refloat.vault.missed_records import are_as_many, make_up_records
from refloat.vault.replica import Replica
from refloat.vault.vault import Vault
from refloat.vault.witness import anew_message, begin_anew, not_recoverable
from refloat.vault.writer import RegionResult, Writer


@dataclass(frozen=True)
class Protected:
    """What came of one protect. ``errors`` holds the components that could not be captured.

    ``required`` is the worst grade that is good enough. ``warnings`` say which files were not cut at their seams, and
    which log was lost.
    ``suspect`` holds, by component, why the point is never the newest good one. ``measured`` holds the components that
    were measured with it, each with why that is not kept, or None; ``doubts`` what could not be verified if the point
    were recovered now.
    """

    name: str
    point: Point
    copies_required: int
    regions: Mapping[str, RegionResult]
    errors: Mapping[str, RefloatError]
    required: Grade = Grade.FUZZY
    warnings: tuple[str, ...] = ()
    suspect: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    measured: Mapping[str, str | None] = field(default_factory=dict)
    doubts: baselines.Doubts = field(default_factory=dict)

    @property
    def incomplete(self) -> list[str]:
        """The regions in which it is not complete."""
        return [name for name, result in self.regions.items() if not result.complete]

    @property
    def copies(self) -> int:
        """In how many regions the point is complete, and a recovery would take it."""
        return sum(result.complete for result in self.regions.values())

    @property
    def ok(self) -> bool:
        """Whether the point is what was asked for: consistent, not suspect, everywhere it must be, nothing left out."""
        enough = self.copies >= self.copies_required
        return enough and not self.suspect and not self.errors and self.point.grade.rank <= self.required.rank

    def document(self) -> dict[str, Json]:
        """The JSON document of `protect`."""
        return {
            "point": self.name,
            "grade": str(self.point.grade),
            "created_at": format_time(self.point.created_at),
            "copies_required": self.copies_required,
            "regions": {
                name: {"complete": result.complete, "error": result.error}
                for name, result in self.regions.items()
            },
            "groups": {
                name: {
                    "grade": str(group.grade),
                    "reason": group.reason,
                    "invariants": [json_form(verdict) for verdict in group.invariants],
                }
                for name, group in self.point.groups.items()
            },
            "components": {
                name: {
                    "snapshot": snapshot.tree,
                    "as_of": format_time(snapshot.as_of),
                    "carried": snapshot.carried and name not in self.point.not_captured,
                    "bytes": snapshot.bytes,
                    "new_bytes": snapshot.new_bytes,
                    "stored_bytes": snapshot.stored_bytes,
                    "seconds": snapshot.seconds,
                    "error": self.point.not_captured.get(name),
                    "suspect": list(self.suspect.get(name, ())),
                }
                for name, snapshot in self.point.components.items()
            },
            "measured": dict(self.measured),
            "unverifiable": baselines.document(self.doubts),
        }


def protect(
    components: Components,
    files: Mapping[str, bytes],
    vault: Vault,
    clock: Clock,
    *,
    region: str | None = None,
    require: Grade = Grade.FUZZY,
    due: Collection[str] | None = None,
    progress: Progress | None = None,
) -> Protected:
    """Capture every component in ``region`` (the primary) into one recovery point, in every replica.

    ``files`` are what the point carries beside the snapshots; ``require`` is the worst grade that is good enough.
    Where ``due`` names some components, one or more, a unit without any of them is not even looked at: it is carried
    over with the age that it has, unless the vault lacks some of it. A unit that cannot be captured, whatever its
    connector raised, is carried over whole from the newest point, so that its members still belong together, and its
    error is reported.
    Raises the error of the first such unit where there is no earlier point from this region, or where no
    unit at all could be captured; ``Refused`` (rule ``primary_moved``) where no ``region`` is named and the
    newest point is of another one than the primary; ``UsageError`` for a region that the manifest does not
    know; ``StoreError`` where no region took the point. A region whose log of points is damaged or was rolled back
    takes it, and is not complete: nothing is recovered from it. A log that was lost begins anew.
    """
    manifest = components.manifest
    replicas = list(vault.replicas.values())
    begun = [anew_message(region, seen) for region, seen in begin_anew(replicas).items()]
    wrong = not_recoverable(replicas)
    region, previous = previous_of(replicas, manifest, region)
    with (
        Writer(replicas, progress or Silent()) as writer,
        scratch_folder() as scratch,
        Evaluator() as evaluator,
    ):
        capture = Capture(writer, clock, run=secrets.token_hex(8), scratch=scratch, progress=progress)
        taken = _Taken(components, region, previous, evaluator)
        taken.units(due, capture, writer.holds)
        point = Point(
            pipeline=manifest.pipeline,
            primary=region,
            created_at=clock.now(),
            manifest=_store_files(writer, files),
            components=taken.snapshots,
            groups=taken.groups,
            versions={"refloat": refloat_version(), "python": platform.python_version()},
            not_captured=taken.not_captured,
        )
        body = json_form(point)
        points.checked(body, "the new point")  # as whoever recovers will read it
        name, regions = writer.commit(body)
    answering = [replica for replica in replicas if regions[replica.region].complete]
    _make_up_records(answering)
    regions = {**regions, **{region: _none(error) for region, error in vault.unreachable.items()}}
    regions.update((region, _none(error)) for region, error in wrong.items() if regions[region].complete)
    required = min(manifest.copies_required, len(regions))
    known = baselines.kept(answering) if manifest.verify else ()
    measured, added = measure_with(point, components, files, answering, known, clock, progress)
    return Protected(
        name,
        point,
        required,
        regions,
        taken.errors,
        require,
        (*begun, *writer.warnings),
        suspects(answering).get(name, {}),
        measured,
        baselines.doubts([*known, *added], point, manifest, files),
    )


def _none(error: RefloatError) -> RegionResult:
    return RegionResult(complete=False, error=error.told)


def _make_up_records(replicas: Sequence[Replica]) -> None:
    """Bring each region the baselines and the evidence that it missed. The point stands, whatever becomes of it."""
    with suppress(StoreError, VaultError):
        if not are_as_many(replicas):
            make_up_records(replicas)


def captured_of(previous: Point | None, manifest: Manifest) -> dict[str, Snapshot]:
    """What a point holds that the next one can build on: each component that is still of the kind that it was."""
    held = previous.components if previous else {}
    kinds = {name: component.kind for name, component in manifest.components.items()}
    return {name: snapshot for name, snapshot in held.items() if kinds.get(name) == snapshot.kind}


def previous_of(
    replicas: Sequence[Replica], manifest: Manifest, region: str | None
) -> tuple[str, Point | None]:
    """Where the pipeline runs, and the newest point that was made there of it, on which the next one builds.

    What was captured elsewhere holds the addresses of that region. Raises ``UsageError`` for a region that the manifest
    does not know, as ``_running``, and the error of a replica where none can be read.
    """
    if region is not None:
        require_region(region, manifest.regions)
    earlier = points.newest(replicas)
    previous = earlier[1] if earlier and earlier[1].pipeline == manifest.pipeline else None
    region = region or _running(manifest, previous)
    return region, previous if previous and previous.primary == region else None


def required_grade(require: str | None) -> Grade:
    """The worst grade that is good enough: ``exact`` where that is required. Raises ``UsageError``."""
    if require not in (None, Grade.EXACT):
        raise UsageError(f"require takes exact, not {require!r}", next="leave it out, or require exact")
    return Grade.EXACT if require else Grade.FUZZY


def carried_files(components: Components, content: bytes, folder: Path) -> dict[str, bytes]:
    """What a point carries beside the snapshots: the manifest's ``content``, and the golden sets it names.

    Raises ``ManifestError`` for a golden set that cannot be read.
    """
    return {points.MANIFEST: content, **verify.golden_files(components, folder)}


def _running(manifest: Manifest, previous: Point | None) -> str:
    """Where the pipeline runs, as far as can be told without asking: in the primary.

    Raises ``Refused`` where the newest point says otherwise: what the old primary still holds is stale, and
    a point of it would be the newest, and be recovered from.
    """
    if previous is not None and previous.primary != manifest.primary:
        raise Refused(
            "primary_moved",
            f"the newest point was made in {previous.primary}, and the manifest's primary is {manifest.primary}",
            region=manifest.primary,
            next=f"name where it runs now: refloat protect --region {previous.primary}; or correct `primary`",
        )
    return manifest.primary


class _Taken:
    """What has been captured so far."""

    def __init__(
        self, components: Components, region: str, previous: Point | None, evaluator: Evaluator
    ) -> None:
        self._components = components
        self._region = region
        self._previous = previous
        self._evaluator = evaluator
        self.snapshots: dict[str, Snapshot] = {}
        self.groups: dict[str, GroupRecord] = {}
        self.errors: dict[str, RefloatError] = {}
        self.not_captured: dict[str, str] = {}
        self._captured = 0

    def units(self, due: Collection[str] | None, capture: Capture, is_stored: Callable[[str], bool]) -> None:
        """Every unit: captured, or carried over where nothing of it is due. Raises where nothing was captured."""
        for unit in self._components.units():
            if due is None or not set(unit).isdisjoint(due) or not self.keeps(unit, is_stored):
                self.add(unit, capture)
            else:
                self.carry(unit)
        self.require_something()

    def add(self, unit: Sequence[str], capture: Capture) -> None:
        """Capture a unit and grade its groups, or carry it over whole from the previous point."""
        try:
            captured = capture.unit([self._member(name) for name in unit])
        except RefloatError as error:
            if not self._holds(unit):
                raise
            self.carry(unit)
            self._lack(unit, error)
        else:
            self._captured += 1
            self.snapshots.update(captured.snapshots)
            self._grade(unit, captured)

    def _lack(self, unit: Sequence[str], error: RefloatError) -> None:
        failed = error.component or unit[0]
        self.errors[failed] = error
        beside = f"it is captured together with {failed}, which could not be"
        told = redact(error.told, self._components.resolver.secrets)
        self.not_captured |= {name: told if name == failed else beside for name in unit}

    def require_something(self) -> None:
        """Raise the first error where nothing was captured: the point would only repeat the one before."""
        if not self._captured:
            raise most_hopeful(self.errors.values())

    def _member(self, name: str) -> Member:
        return Member(
            name=name,
            connector=self._components.connector(name),
            place=self._components.place(name, self._region),
            deadline_s=self._components.deadline_s(name),
            parts=self._components.parts(name),
            previous=captured_of(self._previous, self._components.manifest).get(name),
        )

    def _grade(self, unit: Sequence[str], captured: Captured) -> None:
        for name, group in self._components.manifest.groups.items():
            if not set(group.members) <= set(unit):
                continue
            verdicts = self._evaluator.evaluate(group.must, captured.facts())
            moved = [member for member in captured.moved if member in group.members]
            skew = captured.skew_s(group.members)
            self.groups[name] = invariants.grade(group.members, verdicts, moved, skew, group.skew)

    def keeps(self, unit: Sequence[str], is_stored: Callable[[str], bool]) -> bool:
        """Whether a unit can be carried over, and all of it is still stored."""
        return self._holds(unit) and all(is_stored(self._earlier(name).tree) for name in unit)

    def carry(self, unit: Sequence[str]) -> None:
        """Keep the unit as it was in the previous point, with its age; there is no half of a unit."""
        carried = {name: self._earlier(name) for name in unit}
        self.snapshots.update(carried)
        lacking = self._previous.not_captured if self._previous else {}
        self.not_captured |= {name: lacking[name] for name in unit if name in lacking}
        for name, group in self._components.manifest.groups.items():
            if set(group.members) <= set(unit):
                self.groups[name] = self._carried_grade(name, group, carried)

    def _holds(self, unit: Sequence[str]) -> bool:
        """Whether the previous point holds every component of a unit, and of the kind that it is now."""
        earlier = captured_of(self._previous, self._components.manifest)
        return all(name in earlier for name in unit)

    def _earlier(self, name: str) -> Snapshot:
        assert self._previous is not None  # ``_holds`` has said so
        update = {"carried": True, "new_bytes": 0, "stored_bytes": 0, "seconds": 0.0}
        return self._previous.components[name].model_copy(update=update)

    def _carried_grade(self, name: str, group: Group, carried: Mapping[str, Snapshot]) -> GroupRecord:
        """A group's grade as it was; asked anew where it is unknown, or the manifest has another group by that name."""
        known = self._previous.groups.get(name) if self._previous else None
        if known and (known.members, known.must) == (group.members, group.must):
            return known_anew(known, carried, self._evaluator)
        members = {member: carried[member] for member in group.members}
        facts = {member: snapshot.facts for member, snapshot in members.items()}
        verdicts = self._evaluator.evaluate(group.must, facts)
        spans = [(s.captured_from.timestamp(), s.captured_to.timestamp()) for s in members.values()]
        return invariants.grade(group.members, verdicts, (), invariants.skew_s(spans), group.skew)


def _store_files(writer: Writer, files: Mapping[str, bytes]) -> str:
    sink = writer.sink()
    for path, content in sorted(files.items()):
        sink.file(path, io.BytesIO(content))
    return sink.finish().tree
