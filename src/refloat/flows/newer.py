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
from refloat.errors import Malformed, RefloatError, Refused, StoreError, UsageError, VaultError
from refloat.flows.points import candidate, in_order, read
from refloat.flows.prepare import Prepared, Wanted
from refloat.point.select import LATEST
from refloat.run.target import SOURCE_AHEAD
from refloat.units import format_time
from refloat.vault.missed import missed_points
from refloat.vault.replica import REPAIR, CommittedPoint, Replica

BEHIND_GRACE_S = 300.0  # a protect may still be sending to the region, whose lane goes at its own pace


@dataclass(frozen=True)
class Behind:
    """A region that lacks points which come after its last one: all of them, oldest first, and who holds the newest.

    ``address`` is that of the first holder.
    """

    region: str
    missed: tuple[CommittedPoint, ...]
    held_by: tuple[str, ...]
    address: str

    @property
    def newest(self) -> CommittedPoint:
        """The last of what it lacks."""
        return self.missed[-1]

    @property
    def since(self) -> datetime:
        """When the first of them was committed elsewhere, by the clock of its writer."""
        return min(point.time for point in self.missed)

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
        """Whether it is behind for longer than a point takes to arrive; a time to come is that of a wrong clock."""
        return abs(now - self.since) > timedelta(seconds=BEHIND_GRACE_S)


def behind(
    replica: Replica,
    others: Iterable[Replica],
    until: datetime | None = None,
    unknown: dict[str, RefloatError] | None = None,
) -> Behind | None:
    """What a region lacks of what the others commit after its last point, as far as it was made by ``until``.

    A damaged log says nothing here, nor does a point that is signed and none. Where a store does not answer, nobody
    can tell: ``unknown`` has why, by the region that may lack something.
    """
    missed: dict[Replica, dict[str, CommittedPoint]] = {}
    for other in others:
        if other is replica:
            continue
        try:
            missed[other] = {
                one.name: one
                for one in missed_points(other, replica)
                if (until is None or one.created_at <= until) and not _is_malformed(other, one.name)
            }
        except StoreError as error:
            if unknown is not None:
                unknown.setdefault(replica.region, _unknown(replica, other, error))
        except VaultError:
            pass
    order = in_order([[candidate(point) for point in points.values()] for points in missed.values()])
    if not order:
        return None
    every = {name: point for points in missed.values() for name, point in points.items()}
    holders = [other for other, points in missed.items() if order[-1] in points]
    return Behind(
        region=replica.region,
        missed=tuple(every[name] for name in order),
        held_by=tuple(holder.region for holder in holders),
        address=holders[0].store.url,
    )


def _unknown(replica: Replica, other: Replica, error: StoreError) -> StoreError:
    return StoreError(
        f"whether {replica.region} lacks a newer point that {other.region} holds is not known: {error.message}",
        region=replica.region,
        file=error.file,
        retry=error.retry,
        next=error.next,
    )


def _is_malformed(replica: Replica, name: str) -> bool:
    """Whether a point is signed and none, which no recovery would take; damage may be mended, and is not that."""
    try:
        read(replica, name)
    except Malformed:
        return True
    except (VaultError, StoreError):
        pass
    return False


def late(replicas: Collection[Replica], unknown: dict[str, RefloatError] | None = None) -> dict[str, Behind]:
    """The regions that lack a newer point for longer than it takes to arrive; ``unknown`` as for ``behind``."""
    found = ((replica, behind(replica, replicas, unknown=unknown)) for replica in replicas)
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
    if wanted.point and wanted.point != LATEST:
        return any(point.name.startswith(wanted.point) for point in found.missed)
    with suppress(RefloatError):
        return replica.last_point() is None
    return False


def newer_than(prepared: Prepared, wanted: Wanted, replicas: Iterable[Replica]) -> list[str]:
    """What is to be said of a newer point that the region lacks from which a recovery was prepared.

    Nothing where a point was asked for by its name; of a time, what was made by then. Raises ``Refused`` (rule
    ``source_ahead``) for a move, which may lose nothing.
    """
    if wanted.point not in (None, LATEST):
        return []
    unknown: dict[str, RefloatError] = {}
    found = behind(prepared.replica, replicas, wanted.at, unknown)
    said = [error.message for error in unknown.values()]
    if found is None:
        return said
    if wanted.scenario.moves and SOURCE_AHEAD not in wanted.overrides:
        raise Refused(
            SOURCE_AHEAD,
            f"{found.told}, and what it alone holds would be lost",
            region=found.region,
            next=f"{REPAIR}, and begin again, or name the rule: --override {SOURCE_AHEAD}",
        )
    return [f"{found.told}; an older one is taken; next: {found.way(wanted.to)}", *said]
