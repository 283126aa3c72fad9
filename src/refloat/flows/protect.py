"""Protect a pipeline: manifest -> facts -> snapshots -> groups -> point, in every region that answers."""

from __future__ import annotations

import io
import platform
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from refloat.clock import Clock
from refloat.contracts import Progress, Silent
from refloat.digest import Json
from refloat.errors import RefloatError
from refloat.flows import points
from refloat.flows.components import Components
from refloat.point import invariants
from refloat.point.capture import Capture, Captured, Member
from refloat.point.evaluate import evaluate
from refloat.point.model import Grade, GroupRecord, Point, Snapshot
from refloat.units import format_time
from refloat.vault.vault import Vault
from refloat.vault.writer import RegionResult, Writer


@dataclass(frozen=True)
class Protected:
    """What came of one protect. ``errors`` holds the components that could not be captured."""

    name: str
    point: Point
    copies_required: int
    regions: Mapping[str, RegionResult]
    errors: Mapping[str, RefloatError]

    @property
    def copies(self) -> int:
        """In how many regions the point is complete."""
        return sum(result.complete for result in self.regions.values())

    @property
    def ok(self) -> bool:
        """Whether the point is what was asked for: consistent, everywhere it must be, nothing left out."""
        enough = self.copies >= self.copies_required
        return enough and not self.errors and self.point.grade is not Grade.BROKEN

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
                    "invariants": [verdict.model_dump(mode="json") for verdict in group.invariants],
                }
                for name, group in self.point.groups.items()
            },
            "components": {
                name: {
                    "snapshot": snapshot.tree,
                    "as_of": format_time(snapshot.as_of),
                    "carried": snapshot.carried,
                    "bytes": snapshot.bytes,
                    "new_bytes": snapshot.new_bytes,
                    "stored_bytes": snapshot.stored_bytes,
                    "seconds": snapshot.seconds,
                    "error": self.errors[name].message if name in self.errors else None,
                }
                for name, snapshot in self.point.components.items()
            },
        }


def protect(
    components: Components,
    files: Mapping[str, bytes],
    vault: Vault,
    clock: Clock,
    *,
    region: str | None = None,
    progress: Progress | None = None,
) -> Protected:
    """Capture every component in ``region`` (the primary) into one recovery point, in every replica.

    ``files`` are the manifest and the files it names. A unit that cannot be captured is carried over whole
    from the newest point, so that its members still belong together, and its error is reported.
    Raises the error of the first such unit where there is no earlier point, and ``StoreError`` where no
    region took the point.
    """
    manifest = components.manifest
    region = region or manifest.primary
    replicas = list(vault.replicas.values())
    earlier = points.newest(replicas)
    previous = earlier[1] if earlier and earlier[1].pipeline == manifest.pipeline else None
    with (
        Writer(replicas, clock, progress or Silent()) as writer,
        tempfile.TemporaryDirectory(prefix="refloat-") as scratch,
    ):
        capture = Capture(writer, clock, run=secrets.token_hex(8), scratch=Path(scratch), progress=progress)
        taken = _Taken(components, region, previous)
        for unit in components.units():
            taken.add(unit, capture)
        point = Point(
            pipeline=manifest.pipeline,
            primary=region,
            created_at=clock.now(),
            manifest=_store_files(writer, files),
            components=taken.snapshots,
            groups=taken.groups,
            versions={"refloat": version("refloat"), "python": platform.python_version()},
        )
        name, regions = writer.commit(point.model_dump(mode="json"))
    lost = {r: RegionResult(complete=False, error=e.message, slot=None) for r, e in vault.unreachable.items()}
    required = min(manifest.copies_required, len(regions) + len(lost))
    return Protected(name, point, required, {**regions, **lost}, taken.errors)


class _Taken:
    """What has been captured so far."""

    def __init__(self, components: Components, region: str, previous: Point | None) -> None:
        self._components = components
        self._region = region
        self._previous = previous
        self.snapshots: dict[str, Snapshot] = {}
        self.groups: dict[str, GroupRecord] = {}
        self.errors: dict[str, RefloatError] = {}

    def add(self, unit: Sequence[str], capture: Capture) -> None:
        """Capture a unit and grade its groups, or carry it over whole from the previous point."""
        try:
            captured = capture.unit([self._member(name) for name in unit])
        except RefloatError as error:
            self._carry(unit, error)
        else:
            self.snapshots.update(captured.snapshots)
            self._grade(unit, captured)

    def _member(self, name: str) -> Member:
        earlier = self._previous.components.get(name) if self._previous else None
        kind = self._components.manifest.components[name].kind
        return Member(
            name=name,
            connector=self._components.connector(name),
            place=self._components.place(name, self._region),
            deadline_s=self._components.deadline_s(name),
            parts=self._components.parts(name),
            previous=earlier if earlier and earlier.kind == kind else None,
        )

    def _grade(self, unit: Sequence[str], captured: Captured) -> None:
        for name, group in self._components.manifest.groups.items():
            if not set(group.members) <= set(unit):
                continue
            verdicts = evaluate(group.must, captured.facts())
            moved = [member for member in captured.moved if member in group.members]
            skew = captured.skew_s(group.members)
            self.groups[name] = invariants.grade(group.members, verdicts, moved, skew, group.skew)

    def _carry(self, unit: Sequence[str], error: RefloatError) -> None:
        """Keep the unit as it was in the previous point, with its age; there is no half of a unit."""
        if self._previous is None or not set(unit) <= set(self._previous.components):
            raise error
        for name in unit:
            earlier = self._previous.components[name]
            self.snapshots[name] = earlier.model_copy(
                update={"carried": True, "new_bytes": 0, "stored_bytes": 0}
            )
        for name, group in self._previous.groups.items():
            if set(group.members) <= set(unit):
                self.groups[name] = group
        self.errors[error.component or unit[0]] = error


def _store_files(writer: Writer, files: Mapping[str, bytes]) -> str:
    sink = writer.sink()
    for path, content in sorted(files.items()):
        sink.file(path, io.BytesIO(content))
    return sink.finish().tree
