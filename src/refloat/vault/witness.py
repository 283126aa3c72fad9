"""What replicas know of each other: a log that is shorter than somebody saw it, points that nobody has any more.

Each entry of a region's log names the heads of the other regions as its writer last saw them, so a region
that was rolled back is contradicted by every other, and a point that only a lost region held leaves a trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refloat.vault.replica import CommittedPoint, Replica


def rolled_back(replicas: Sequence[Replica]) -> dict[str, tuple[int, int]]:
    """Each region whose log is shorter than another saw it: (slots seen, slots there)."""
    logs = {replica.region: replica.points() for replica in replicas}
    found = {}
    for region, own in logs.items():
        others = (points for other, points in logs.items() if other != region)
        seen = max((_slot(point, region) for points in others for point in points), default=-1)
        last = own[-1].slot if own else -1
        if seen > last:
            found[region] = (seen + 1, last + 1)
    return found


def lost_points(replicas: Sequence[Replica]) -> list[str]:
    """Points that some log saw in another region and that no replica here has in its own."""
    logs = [replica.points() for replica in replicas]
    here = {point.name for points in logs for point in points}
    seen = {
        str(head["point"]) for points in logs for p in points for head in p.heads.values() if "point" in head
    }
    return sorted(seen - here)


def _slot(point: CommittedPoint, region: str) -> int:
    head: Mapping[str, object] = point.heads.get(region, {})
    return int(str(head.get("slot", -1)))
