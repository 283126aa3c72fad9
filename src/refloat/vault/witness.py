"""What replicas know of each other: a log that is shorter than somebody saw it, points that nobody has any more.

Each entry of a region's log names the heads of the other regions as its writer last saw them, so a region
that was rolled back is contradicted by every other, and a point that only a lost region held leaves a trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from refloat.errors import StoreError, VaultError
from refloat.vault.replica import CommittedPoint, Replica


def rolled_back(replicas: Sequence[Replica]) -> dict[str, tuple[int, int]]:
    """Each region whose log is not the one that another saw: (entries seen, entries of them still there).

    It is shorter, or it was shorter and has been written on since: then an entry is not the one that was
    seen in its slot. A log that cannot be read says nothing here.
    """
    logs = _logs(replicas)
    found = {}
    for region, own in logs.items():
        others = [point for other, points in logs.items() if other != region for point in points]
        seen = [head for point in others if (head := _head(point, region)) is not None]
        contradicted = [slot for slot, hash in seen if slot >= len(own) or own[slot].hash != hash]
        if contradicted:
            found[region] = (max(slot for slot, _ in seen) + 1, min(len(own), *contradicted))
    return found


def lost_points(replicas: Sequence[Replica]) -> list[str]:
    """Points that some log saw in another region and that no replica here has in its own."""
    logs = _logs(replicas).values()
    here = {point.name for points in logs for point in points}
    seen = {
        str(head["point"]) for points in logs for p in points for head in p.heads.values() if "point" in head
    }
    return sorted(seen - here)


def _logs(replicas: Sequence[Replica]) -> dict[str, list[CommittedPoint]]:
    logs = {}
    for replica in replicas:
        with suppress(VaultError, StoreError):
            logs[replica.region] = replica.points()
    return logs


def _head(point: CommittedPoint, region: str) -> tuple[int, str] | None:
    """The slot and hash of a region's head as the writer of ``point`` saw it."""
    head: Mapping[str, object] = point.heads.get(region, {})
    return (int(str(head["slot"])), str(head["hash"])) if "slot" in head and "hash" in head else None
