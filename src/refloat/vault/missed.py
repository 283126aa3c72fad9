"""Points that a region missed count there, too, once everything that they need is there.

A region that did not answer, or that was lost and made anew, gets the objects from another one; that its own log
commits them takes a writer's key. What holds:

1. a point is committed only where its body verifies and every chunk of it is in a pack that is there, whole in size;
2. the order of points is that of the log that committed them, so only those that come after the last one which both
   regions have are made up for, and before anything newer;
3. a point that either region has forgotten is left alone;
4. in a vault with a lock, all that a point needs is locked before it is committed, as in any other commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from refloat.digest import Json
from refloat.errors import VaultError
from refloat.vault import layout
from refloat.vault.anywhere import Anywhere
from refloat.vault.forgotten import forgotten_points
from refloat.vault.keys import Role
from refloat.vault.layout import POINTS_STREAM
from refloat.vault.lock import lock_entries, lock_point
from refloat.vault.points import committing_entry, roots
from refloat.vault.replica import CommittedPoint, Replica
from refloat.vault.tree import chunk_names
from refloat.vault.whole import Wholeness

Heads = Mapping[str, Mapping[str, Json]]
"""By region, the last entry of its log of points as last seen."""


@dataclass(frozen=True)
class MadeUp:
    """The names of points that a region commits now, of those that are not whole there, and how many records came."""

    committed: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    records: int = 0

    def document(self) -> dict[str, Json]:
        """As JSON tells it."""
        return {"committed": list(self.committed), "lacking": list(self.lacking), "records": self.records}


def missed_points(source: Replica, target: Replica, *, up_to: str | None = None) -> list[CommittedPoint]:
    """What ``source`` commits after the last point that ``target`` has, oldest first; at most up to a named one.

    Empty where the last point of ``target`` is not one of the source's: then nobody can tell what came before what.
    Raises ``Damaged``, ``StoreError``.
    """
    ours, last = target.last_point(), source.last_point()
    if last is None or (ours is not None and ours.name == last.name):
        return []
    theirs = source.points()
    names = [point.name for point in theirs]
    if ours is not None and ours.name not in names:
        return []
    start = 0 if ours is None else names.index(ours.name) + 1
    end = names.index(up_to) + 1 if up_to in names else len(names)
    gone = {*forgotten_points(source), *forgotten_points(target), *(point.name for point in target.points())}
    return [point for point in theirs[start:end] if point.name not in gone]


def commit_points(target: Replica, missed: Iterable[CommittedPoint], heads: Heads) -> MadeUp:
    """Commit in ``target`` the points that it missed and that are whole there; ``heads`` are those of all regions.

    Raises ``WrongKey`` without the writer's role, and ``StoreError``.
    """
    target.recover_index()
    wholeness = Wholeness(Anywhere([target]))
    others = {region: head for region, head in heads.items() if region != target.region}
    committed, lacking = [], []
    for point in missed:
        body = _whole_body(target, point.name, wholeness)
        if body is None:
            lacking.append(point.name)
            continue
        log = target.log(POINTS_STREAM, Role.WRITER)
        if target.keyring.lock is not None:
            lock_point(target, point.name, _packs(target, body), log.last_slot() + 1)
        entry = committing_entry(point.name, body, others)
        landed = log.append(entry, refs=(layout.point_name(point.name),))
        lock_entries(target, point.name, landed.slot, landed.slot)
        committed.append(point.name)
    return MadeUp(tuple(committed), tuple(lacking))


def _packs(replica: Replica, body: Mapping[str, Json]) -> frozenset[str]:
    """The packs that hold a chunk of a point, in every copy."""
    trees = map(bytes.fromhex, roots(body))
    names = (name for tree in trees for name in chunk_names(tree, replica.read_chunk))
    found = replica.index.with_bases(names)
    return frozenset(place.pack.name for name in found for place in replica.index.locations(name))


def _whole_body(replica: Replica, point: str, wholeness: Wholeness) -> Mapping[str, Json] | None:
    """The body of a point of which everything is there."""
    try:
        body = replica.read_point(point)
        return None if any(wholeness.missing(tree) for tree in roots(body)) else body
    except (VaultError, ValueError):
        return None
