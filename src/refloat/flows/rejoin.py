"""How each region stands to the others, and what lets one that came back with an old state count again.

A region's log that lost its end, or that went on from an old state, is contradicted by every other region, and
nothing is recovered from it. What it missed is brought to it first, and only then does its admin say that what was
seen of the log and is not there is gone: so nothing old ever passes for the newest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from refloat.contracts import Progress
from refloat.digest import Json
from refloat.errors import UsageError, VaultError
from refloat.units import format_time
from refloat.vault import layout
from refloat.vault.forgotten import forgotten_points
from refloat.vault.keys import Role
from refloat.vault.missed import MadeUp, commit_points, missed_points
from refloat.vault.missed_records import make_up_records, records_alone
from refloat.vault.replica import CommittedPoint, Replica
from refloat.vault.replicate import catch_up
from refloat.vault.vault import Vault
from refloat.vault.witness import accept_gone, rolled_back


@dataclass(frozen=True)
class Standing:
    """How a region's log of points stands to those of the other regions that answer.

    ``rolled_back``: how many entries of it were seen, and how many of them are there; None where all are. ``missed``
    are points that it gets by itself, with the next commit. ``lacks`` are those that only others list, ``alone`` those
    that only it lists, both oldest first.
    """

    region: str
    rolled_back: tuple[int, int] | None = None
    missed: tuple[CommittedPoint, ...] = ()
    lacks: tuple[CommittedPoint, ...] = ()
    alone: tuple[CommittedPoint, ...] = ()
    parted: bool = False
    """Whether its log went on by itself: no other one has its last point, and it lacks some of theirs."""

    @property
    def is_old(self) -> bool:
        """Whether the region must rejoin before it counts as a copy of what the others hold."""
        return self.rolled_back is not None or self.parted


def standings(replicas: Sequence[Replica]) -> dict[str, Standing]:
    """How every region stands whose log can be read. Raises ``StoreError``."""
    shorter = rolled_back(replicas)
    logs = {replica: points for replica in replicas if (points := _points(replica)) is not None}
    gone = frozenset[str]().union(*map(forgotten_points, logs))
    return {replica.region: _standing(replica, logs, gone, shorter.get(replica.region)) for replica in logs}


def _points(replica: Replica) -> list[CommittedPoint] | None:
    try:
        return replica.points()
    except VaultError:
        return None


def _standing(
    replica: Replica,
    logs: Mapping[Replica, Sequence[CommittedPoint]],
    gone: frozenset[str],
    shorter: tuple[int, int] | None,
) -> Standing:
    own = logs[replica]
    others = {other: points for other, points in logs.items() if other is not replica}
    here = {point.name for point in own}
    there = {point.name: point for points in others.values() for point in points}
    lacks = _oldest_first(point for name, point in there.items() if name not in here | gone)
    alone = tuple(point for point in own if point.name not in there.keys() | gone)
    missed = {point.name: point for other in others for point in missed_points(other, replica)}
    parted = bool(own and lacks) and own[-1].name not in there
    return Standing(
        replica.region, shorter, _oldest_first(missed.values()), lacks, alone if others else (), parted
    )


def _oldest_first(points: Iterable[CommittedPoint]) -> tuple[CommittedPoint, ...]:
    return tuple(sorted(points, key=lambda point: (point.created_at, point.name)))


# --------------------------------------------------------------------------------------------- rejoining


@dataclass(frozen=True)
class Alone:
    """What one region holds and no other that answers: points, objects and their bytes, records by log."""

    points: tuple[CommittedPoint, ...] = ()
    objects: int = 0
    bytes: int = 0
    records: Mapping[str, int] = field(default_factory=dict)

    def document(self) -> dict[str, Json]:
        """As JSON tells it."""
        return {
            "points": [
                {"point": point.name, "created_at": format_time(point.created_at), "grade": point.grade}
                for point in self.points
            ],
            "objects": self.objects,
            "bytes": self.bytes,
            **self.records,
        }


@dataclass(frozen=True)
class Rejoining:
    """What is to be done for a region: ``missed`` is committed there; ``left_out`` are older than its last point."""

    standing: Standing
    alone: Alone
    missed: tuple[CommittedPoint, ...]
    left_out: tuple[CommittedPoint, ...]


@dataclass(frozen=True)
class Rejoined:
    """What was done. ``newer`` is the newest point of another region that its log cannot take any more, by name.

    ``gone`` are the entries that the admin says are gone, ``records`` those that were brought, in any direction.
    """

    points: MadeUp
    gone: int = 0
    records: int = 0
    newer: str | None = None

    @property
    def counts(self) -> bool:
        """Whether the region's log is again one to recover from."""
        return self.newer is None and not self.points.lacking


def plan_rejoin(vault: Vault, region: str) -> Rejoining:
    """What rejoining a region takes, and what it alone holds. Nothing is written.

    Raises the error of a region that cannot be opened, ``UsageError`` where no other one has a whole log, and
    ``VaultError`` where its own log is damaged.
    """
    replica, others = _parties(vault, region)
    own = replica.points()  # of a log that is damaged this says what is wrong
    standing = standings([replica, *others])[region]
    newer = tuple(point for point in standing.lacks if not own or point.created_at > own[-1].created_at)
    older = tuple(point for point in standing.lacks if point not in newer)
    return Rejoining(standing, _alone(replica, others, standing), newer, older)


def rejoin(vault: Vault, plan: Rejoining, progress: Progress | None = None) -> Rejoined:
    """Bring a region what it missed, in this order: objects, points, records; then let its log count again.

    Cut anywhere, it is begun again and does what is left. Raises ``WrongKey`` without the roles of writer, operator
    and admin, and ``StoreError``.
    """
    replica, others = _parties(vault, plan.standing.region)
    for role in (Role.WRITER, Role.OPERATOR, Role.ADMIN):
        replica.keyring.signer(role)
    for other in others:
        catch_up(other, replica, progress)
    heads = {one.region: head for one in (replica, *others) if (head := one.head()) is not None}
    made = commit_points(replica, plan.missed, heads)
    records = sum(make_up_records([replica, *others]).values())
    newer = _newest_lacking(replica, others)
    if made.lacking or newer:
        return Rejoined(made, 0, records, newer)
    return Rejoined(made, accept_gone(replica, others), records)


def _parties(vault: Vault, region: str) -> tuple[Replica, list[Replica]]:
    """The region's replica, and those of the others whose logs are whole."""
    if region in vault.unreachable:
        raise vault.unreachable[region]
    replicas = list(vault.replicas.values())
    shorter = rolled_back(replicas)
    others = [one for one in replicas if one.region not in {region, *shorter} and _points(one)]
    if not others:
        silent = "".join(
            f"; {one} does not answer: {error.message}" for one, error in vault.unreachable.items()
        )
        raise UsageError(
            f"no other region that answers has a whole log of points, so what {region} missed cannot be told{silent}",
            region=region,
            next="refloat check",
        )
    return vault.replicas[region], others


def _newest_lacking(replica: Replica, others: Sequence[Replica]) -> str | None:
    """The last point of another region that is not in the region's log: what is in there is not the newest then."""
    here = {point.name for point in replica.points()}
    last = _oldest_first(point for one in others if (point := one.last_point()) is not None)
    return next((point.name for point in reversed(last) if point.name not in here), None)


def _alone(replica: Replica, others: Sequence[Replica], standing: Standing) -> Alone:
    sizes = {}
    for prefix in layout.OBJECTS:
        elsewhere = set[str]().union(*(layout.objects(one.store, prefix) for one in others))
        found = layout.objects(replica.store, prefix)
        sizes.update({name: size for name, size in found.items() if name not in elsewhere})
    return Alone(standing.alone, len(sizes), sum(sizes.values()), records_alone(replica, others))
