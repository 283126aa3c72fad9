"""Recovery points as the flows read them from a replica."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from refloat.contracts import Facts
from refloat.errors import Damaged, Missing, RefloatError, StoreError, VaultError
from refloat.point.model import Grade, Point
from refloat.point.select import Candidate
from refloat.vault.layout import POINTS
from refloat.vault.replica import CommittedPoint, Replica

MANIFEST = "refloat.yaml"
"""The path under which a point carries the manifest."""


def read(replica: Replica, name: str) -> Point:
    """The body of a point, its signature checked. Raises ``Missing`` or ``Damaged``."""
    return Point.model_validate(replica.read_point(name))


def candidates(replica: Replica) -> list[Candidate]:
    """Every point committed in a region, oldest first, as its log tells."""
    return [candidate(point) for point in replica.points()]


def stored(replica: Replica) -> list[Candidate]:
    """Every point whose signed body lies in a region, oldest first, whatever its log says; damaged ones not."""
    found = []
    for entry in replica.store.list(POINTS):
        name = entry.name.removeprefix(POINTS)
        with contextlib.suppress(Missing, Damaged):
            point = read(replica, name)
            found.append(Candidate(name, point.created_at, point.grade))
    return sorted(found, key=lambda candidate: (candidate.created_at, candidate.name))


def candidate(point: CommittedPoint) -> Candidate:
    """What choosing needs to know of a committed point."""
    return Candidate(point.name, point.created_at, Grade(point.grade))


def newest(replicas: Sequence[Replica]) -> tuple[str, Point, Replica] | None:
    """The newest point that any of the replicas holds, with one that holds it.

    A replica that does not answer, or whose newest point is not whole, is passed over. Raises its error
    where none is left.
    """
    heads: list[tuple[CommittedPoint, Point, Replica]] = []
    silent: list[RefloatError] = []
    for replica in replicas:
        try:
            last = replica.last_point()
            heads += [(last, read(replica, last.name), replica)] if last else []
        except (StoreError, VaultError) as error:
            silent.append(error.at(region=replica.region))
    if not heads:
        if silent and len(silent) == len(replicas):
            raise silent[0]
        return None
    committed, point, replica = max(heads, key=lambda head: (head[0].created_at, head[0].name))
    return committed.name, point, replica


def manifest_files(replica: Replica, point: Point) -> dict[str, bytes]:
    """The manifest and the files it names, as a point carries them: path to bytes."""
    source = replica.source(point.manifest, Facts())
    found = {}
    for entry in source.entries():
        if entry.type == "file":
            with source.open(entry.path) as file:
                found[entry.path] = file.read()
    if MANIFEST not in found:
        raise Missing("the point carries no manifest", file=point.manifest, next="choose another point")
    return found
