"""A newer point that a region lacks and another one holds: it is named, and nothing older passes for the newest.

A region that lost the end of its log of points, or missed what was committed elsewhere, looks whole by itself. What is
newer the logs tell, and never the clocks: what another region commits after the last point that both have. Where
neither log has the other's last point nobody can tell, and nothing is called newer (``rejoin`` is for those).
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from refloat.digest import Json
from refloat.errors import RefloatError, Refused, StoreError, UsageError, VaultError
from refloat.flows.points import candidate, in_order
from refloat.flows.prepare import Prepared, Wanted
from refloat.run.target import SOURCE_AHEAD
from refloat.units import format_time
from refloat.vault.missed import missed_points
from refloat.vault.replica import CommittedPoint, Replica

BEHIND_GRACE_S = 300.0  # a protect may still be sending to the region, whose lane goes at its own pace
REPAIR = "refloat vault repair"


@dataclass(frozen=True)
class Behind:
    """A region that lacks points which come after its last one: the newest of them, and the regions that hold it.

    ``address`` is that of the first holder. ``missed`` are the names of all of them, oldest first, and ``since`` is
    when the first was committed elsewhere, by the clock of its writer.
    """

    region: str
    newest: CommittedPoint
    held_by: tuple[str, ...]
    address: str
    missed: tuple[str, ...]
    since: datetime

    @property
    def told(self) -> str:
        """What is wrong, for people."""
        made, holders = format_time(self.newest.created_at), " and ".join(self.held_by)
        return f"{self.region} lacks the newer point {self.newest.name[:12]} of {made}, which is in {holders}"

    def document(self) -> dict[str, Json]:
        """As JSON tells it."""
        return {
            "point": self.newest.name,
            "held_by": list(self.held_by),
            "since": format_time(self.since),
            "message": self.told,
            "next": REPAIR,
        }

    def way(self, to: str) -> str:
        """How a recovery into a region comes by the point."""
        there = shlex.quote(self.address)
        return f"{REPAIR}, and begin again; or take it from there: refloat recover --to {to} --vault {there}"

    def is_late(self, now: datetime) -> bool:
        """Whether it is behind for longer than a point takes to arrive."""
        return now - self.since > timedelta(seconds=BEHIND_GRACE_S)


def behind(replica: Replica, others: Iterable[Replica], but: Collection[str] = ()) -> Behind | None:
    """What a region lacks of what the others commit after its last point, but for points of these names.

    A log that cannot be read says nothing here.
    """
    missed: dict[Replica, list[CommittedPoint]] = {}
    for other in others:
        if other is not replica:
            with suppress(VaultError, StoreError):
                missed[other] = [one for one in missed_points(other, replica) if one.name not in but]
    order = in_order([[candidate(point) for point in points] for points in missed.values()])
    if not order:
        return None
    every = [point for points in missed.values() for point in points]
    holders = [other for other, points in missed.items() if any(one.name == order[-1] for one in points)]
    return Behind(
        region=replica.region,
        newest=next(point for point in every if point.name == order[-1]),
        held_by=tuple(holder.region for holder in holders),
        address=holders[0].store.url,
        missed=tuple(order),
        since=min(point.time for point in every),
    )


def late(replicas: Collection[Replica], but: Collection[str] = ()) -> dict[str, Behind]:
    """The regions that lack a newer point for longer than it takes to arrive."""
    found = ((replica, behind(replica, replicas, but)) for replica in replicas)
    return {
        replica.region: one for replica, one in found if one is not None and one.is_late(replica.clock.now())
    }


@contextmanager
def naming_newer(replica: Replica, others: Iterable[Replica], wanted: Wanted) -> Iterator[None]:
    """Let the error of a choice in one region's log name the point that was meant, where another region holds it."""
    try:
        yield
    except UsageError as error:
        found = behind(replica, others)
        if found is not None and _is_meant(found, replica, wanted):
            error.message = f"{error.message}; {found.told}"
            error.next = found.way(wanted.to)
        raise


def _is_meant(found: Behind, replica: Replica, wanted: Wanted) -> bool:
    if wanted.point is not None:
        return any(name.startswith(wanted.point) for name in found.missed)
    with suppress(RefloatError):
        return replica.last_point() is None
    return False


def newer_than(prepared: Prepared, wanted: Wanted, replicas: Iterable[Replica]) -> list[str]:
    """What is to be said of a newer point that the region lacks from which a recovery was prepared.

    Nothing where a point or a time was asked for. Raises ``Refused`` (rule ``source_ahead``) for a move, which may lose
    nothing.
    """
    found = behind(prepared.replica, replicas)
    if found is None or wanted.point is not None:
        return []
    if wanted.at is not None and found.newest.created_at > wanted.at:
        return []
    if wanted.scenario.moves and SOURCE_AHEAD not in wanted.overrides:
        raise Refused(
            SOURCE_AHEAD,
            f"{found.told}, and what it alone holds would be lost",
            region=found.region,
            next=f"{REPAIR}, and begin again, or name the rule: --override {SOURCE_AHEAD}",
        )
    return [f"{found.told}; an older one is taken; next: {found.way(wanted.to)}"]
