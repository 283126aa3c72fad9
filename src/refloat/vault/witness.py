"""What replicas know of each other: a log that is shorter than somebody saw it, points that nobody has any more.

Each entry of a region's log names the heads of the other regions as its writer last saw them, so a region
that was rolled back is contradicted by every other, and a point that only a lost region held leaves a trace.
Where all of them were rolled back at once, the key file contradicts them: it keeps the heads that it saw last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from refloat.errors import Damaged, StoreError, VaultError
from refloat.vault.keys import Role
from refloat.vault.layout import POINTS_STREAM, stream_prefix
from refloat.vault.renewed import renewed_hashes, write_renewed
from refloat.vault.replica import CommittedPoint, Replica, committed
from refloat.vault.slotlog import Entry


def rolled_back(replicas: Sequence[Replica]) -> dict[str, tuple[int, int]]:
    """Each region whose log is not the one that was seen: (entries seen, entries of them still there).

    Witnesses are the other regions' logs, and the key file, which nobody with a store alone can roll back. The
    log is shorter, or it was shorter and has been written on since: then an entry is not the one that was
    seen in its slot. A log that cannot be read says nothing here.
    """
    return _rolled_back(replicas, _logs(replicas))


def _rolled_back(replicas: Sequence[Replica], logs: Mapping[str, _Log]) -> dict[str, tuple[int, int]]:
    return {
        replica.region: contradicted
        for replica in replicas
        if replica.region in logs and (contradicted := _contradicted(replica, logs))
    }


def not_recoverable(replicas: Sequence[Replica]) -> dict[str, VaultError]:
    """Each region from which nothing is recovered as its log of points stands: why, as damage or a rollback."""
    wrong: dict[str, VaultError] = {}
    for region, seen in _rolled_back(replicas, _logs(replicas, wrong)).items():
        message, log = rolled_back_message(region, *seen), stream_prefix(POINTS_STREAM)
        wrong[region] = Damaged(message, region=region, file=log, next=f"refloat vault rejoin {region}")
    return wrong


def rolled_back_message(region: str, seen: int, there: int) -> str:
    """What is said of a log that was cut, rolled back or replaced, or that is gone."""
    if not there:
        return f"the log of points in {region} is gone: of {seen} entries that were seen there, none is left"
    return f"the log of points in {region} was rolled back: of {seen} entries that were seen there, {there} are left"


def anew_message(region: str, seen: int) -> str:
    """What is said of a log that ``begin_anew`` let begin anew."""
    return f"the log of points in {region} was lost with {seen} entries, and begins anew"


def _contradicted(replica: Replica, logs: Mapping[str, _Log]) -> tuple[int, int] | None:
    """How many entries of a log were seen, and how many of them are there; None where all are."""
    seen = _gone(replica, logs)
    return (max(seen) + 1, min(len(logs[replica.region].entries), *seen)) if seen else None


def _gone(replica: Replica, logs: Mapping[str, _Log]) -> dict[int, str]:
    """By slot, the hash of each entry that was seen and is not there, but of those of a log that is renewed."""
    region, own = replica.region, logs[replica.region].entries
    others = [point for other, log in logs.items() if other != region for point in log.points]
    seen = [*replica.keyring.pinned(region), *(_heads(p)[region][:2] for p in others if region in _heads(p))]
    if all(slot < len(own) and own[slot].hash == hash for slot, hash in seen):
        return {}
    gone = renewed_hashes(replica)
    return {
        slot: hash for slot, hash in seen if (slot >= len(own) or own[slot].hash != hash) and hash not in gone
    }


def begin_anew(replicas: Sequence[Replica]) -> dict[str, int]:
    """Let each empty log that was lost begin anew, beside another region's whole one; entries seen of it, by region.

    Nothing is done without the admin's role. Raises ``StoreError``.
    """
    logs = _logs(replicas)
    whole = [r for r in replicas if r.region in logs and logs[r.region].points and not _gone(r, logs)]
    begun = {}
    for replica in replicas:
        if not whole or replica.region not in logs or logs[replica.region].entries:
            continue
        seen = _gone(replica, logs)
        if seen and replica.keyring.can(Role.ADMIN):
            _renew(replica, seen)
            begun[replica.region] = max(seen) + 1
    return begun


def accept_gone(replica: Replica, others: Sequence[Replica]) -> int:
    """Say, as the admin, that what was seen of a log and is not there any more is gone; how many entries.

    Only once all that the others' whole logs commit is in it: else something old would pass for the newest. Raises
    ``WrongKey`` without the admin's role, ``StoreError``.
    """
    seen = _gone(replica, _logs([replica, *others]))
    if seen:
        _renew(replica, seen)
    return len(seen)


def _renew(replica: Replica, seen: Mapping[int, str]) -> None:
    write_renewed(replica, [seen[slot] for slot in sorted(seen)])


def lost_points(replicas: Sequence[Replica], than: datetime) -> list[str]:
    """Points that were seen in another region, that no replica here lists, and that are newer ``than`` that capture.

    When they were made nobody knows any more. Newer are those behind what an entry saw of that region which is itself
    not older: that saw the region end before them. What an admin said is gone is not told again.
    """
    logs = _logs(replicas)
    here = {point.name for log in logs.values() for point in log.points}
    gone = frozenset[str]().union(*map(renewed_hashes, replicas))
    entries = [point for log in logs.values() for point in log.points]
    ends: dict[str, int] = {}
    for point in entries:
        for region, (slot, _, _) in _heads(point).items():
            if point.created_at >= than:
                ends[region] = min(slot, ends.get(region, slot))
    return sorted(
        {
            name
            for point in entries
            for region, (slot, hash, name) in _heads(point).items()
            if name not in here and hash not in gone and slot > ends.get(region, slot)
        }
    )


def _heads(point: CommittedPoint) -> dict[str, tuple[int, str, str]]:
    """By region the slot, the hash and the point of its head as the writer of ``point`` saw it."""
    heads: Mapping[str, Mapping[str, object]] = point.heads
    return {
        region: (int(str(head["slot"])), str(head["hash"]), str(head["point"]))
        for region, head in heads.items()
        if head.keys() >= {"slot", "hash", "point"}
    }


@dataclass(frozen=True)
class _Log:
    """All entries of a log of points, and the points that count."""

    entries: list[Entry]
    points: list[CommittedPoint]


def _logs(replicas: Sequence[Replica], wrong: dict[str, VaultError] | None = None) -> dict[str, _Log]:
    """The logs that can be read; in ``wrong``, why one that is there is none."""
    logs = {}
    for replica in replicas:
        try:
            with suppress(StoreError):
                entries = replica.entries()
                logs[replica.region] = _Log(
                    entries, [committed(entry) for entry in entries if not entry.void]
                )
        except VaultError as error:
            if wrong is not None:
                wrong[replica.region] = error.at(region=replica.region)
    return logs
