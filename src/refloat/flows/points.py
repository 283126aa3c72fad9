"""Recovery points as the flows read them from a replica."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import ValidationError

from refloat.contracts import Facts
from refloat.digest import Json
from refloat.errors import (
    Damaged,
    Malformed,
    Missing,
    RefloatError,
    StoreError,
    UsageError,
    VaultError,
    most_hopeful,
)
from refloat.point.model import Grade, Point
from refloat.point.select import Candidate, meant
from refloat.vault.anywhere import Anywhere
from refloat.vault.forgotten import forgotten_points, kept_points
from refloat.vault.keys import Role
from refloat.vault.layout import POINTS, malformed, point_name
from refloat.vault.replica import CommittedPoint, Replica
from refloat.vault.unfolded import MANIFEST_TOTALS

MANIFEST = "refloat.yaml"
"""The path under which a point carries the manifest."""


def read(replica: Replica, name: str) -> Point:
    """The body of a point, its signature checked. Raises ``Missing``, ``Damaged``, or ``Malformed`` for no point."""
    try:
        body = replica.read_point(name)
    except Missing as error:
        if name in forgotten_points(replica):
            raise _pruned(replica, name) from error
        raise
    return checked(body, point_name(name))


def checked(body: Mapping[str, Json], what: str) -> Point:
    """A body as a point, before it is sealed and after it was read. Raises ``Malformed``."""
    try:
        return Point.model_validate(body)
    except ValidationError as error:
        raise malformed(what, f"{error.error_count()} of its fields are wrong") from error


def _pruned(replica: Replica, name: str) -> Missing:
    return Missing(
        f"the point {name[:12]} was forgotten in {replica.region}, and its data has been removed since",
        region=replica.region,
        file=point_name(name),
        next="choose another point: refloat points list",
    )


def candidates(replica: Replica) -> list[Candidate]:
    """Every point committed in a region, oldest first, as its log tells; also those that are forgotten."""
    gone = forgotten_points(replica)
    return [replace(candidate(point), forgotten=point.name in gone) for point in replica.points()]


def in_order(logs: Sequence[Sequence[Candidate]]) -> list[str]:
    """The names of the points of several regions, oldest first, as their logs have them.

    Only between points that no log has one after the other the clocks of their writers decide.
    """
    left = [{known.name: known for known in log} for log in logs]
    order: list[str] = []
    while left := [log for log in left if log]:
        heads = [next(iter(log.values())) for log in left]
        free = [
            one for one in heads if all(one.name == next(iter(log)) or one.name not in log for log in left)
        ]
        chosen = min(free or heads, key=lambda known: (known.created_at, known.name)).name
        order.append(chosen)
        for log in left:
            log.pop(chosen, None)
    return order


def stored(replica: Replica) -> list[Candidate]:
    """Every point whose signed body lies in a region, oldest first, whatever its log says; damaged ones not.

    Nor those of a writer that was removed: without a log nothing says which of them it made before.
    """
    found = []
    gone = forgotten_points(replica)
    for entry in replica.store.list(POINTS):
        name = entry.name.removeprefix(POINTS)
        with contextlib.suppress(Missing, Damaged):
            signer, body = replica.signed_point(name)
            if replica.keyring.removal(Role.WRITER, signer) is None:
                point = checked(body, point_name(name))
                found.append(Candidate(name, point.created_at, point.grade, name in gone))
    return sorted(found, key=lambda candidate: (candidate.created_at, candidate.name))


def candidate(point: CommittedPoint) -> Candidate:
    """What choosing needs to know of a committed point."""
    return Candidate(point.name, point.created_at, Grade(point.grade))


def find(replicas: Sequence[Replica], start: str) -> tuple[str, Point, Replica]:
    """The one point whose name begins so, or ``latest``, rather one that is not forgotten, and a replica that holds it.

    Raises ``UsageError``.
    """
    found: dict[str, Replica] = {}
    kept: dict[str, Replica] = {}
    listed = [(known, replica) for replica in replicas for known in candidates(replica)]
    wanted = meant([known for known, _ in listed], start) or start
    for known, replica in listed:
        if known.name.startswith(wanted):
            (found if known.forgotten else kept)[known.name] = replica
    found = kept or found
    if len(found) != 1:
        problem = "no point is called" if not found else "more than one point begins with"
        raise UsageError(f"{problem} {start!r}", next="refloat points list")
    ((name, replica),) = found.items()
    return name, read(replica, name), replica


def newest(replicas: Sequence[Replica]) -> tuple[str, Point, Replica] | None:
    """The newest point that any of the replicas holds, with one that holds it.

    A replica that does not answer, or whose newest point is not whole, is passed over. A malformed point is none: the
    one before it counts. Raises the error of the first replica where none is left.
    """
    heads: list[tuple[CommittedPoint, Point, Replica]] = []
    silent: list[RefloatError] = []
    for replica in replicas:
        try:
            last = replica.last_point()
            found = _newest_formed(replica, last) if last else None
            heads += [(*found, replica)] if found else []
        except (StoreError, VaultError) as error:
            silent.append(error.at(region=replica.region))
    if not heads:
        if silent and len(silent) == len(replicas):
            raise most_hopeful(silent)
        return None
    committed, point, replica = max(heads, key=lambda head: (head[0].created_at, head[0].name))
    return committed.name, point, replica


def _newest_formed(replica: Replica, last: CommittedPoint) -> tuple[CommittedPoint, Point] | None:
    """The newest point of a replica that is well formed, from the last one back; None where there is none."""
    with contextlib.suppress(Malformed):
        return last, read(replica, last.name)
    for committed in reversed(kept_points(replica)):
        with contextlib.suppress(Malformed):
            return committed, read(replica, committed.name)
    return None


def manifest_files(place: Replica | Anywhere, point: Point) -> dict[str, bytes]:
    """The manifest and the files it names, as a point carries them: path to bytes."""
    source = place.source(point.manifest, Facts(), totals=MANIFEST_TOTALS)
    found = {}
    for entry in source.entries():
        if entry.type == "file":
            with source.open(entry.path) as file:
                found[entry.path] = file.read()
    if MANIFEST not in found:
        raise Missing("the point carries no manifest", file=point.manifest, next="choose another point")
    return found
