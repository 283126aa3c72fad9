"""What a region has forgotten: points that it listed and that nobody needs it to keep any more; and what is accepted.

The log ``forgotten`` of each region, signed by the admin, so that a stolen writer's key forgets nothing. The log of
points stays as it is; a point counts as forgotten in a region once an entry of this log there names it:

    {"points": {point: why, ...}, "seen": slot, "overrides": [rule, ...], "accepted": {point: why, ...}}

``seen`` is the last slot of the region's log of points when that was decided. ``accepted``, mostly left out, are points
that looked suspect and that a person found good. What holds:

1. a point is forgotten in a region before anything that it needs there is marked, let alone removed;
2. a region that was not told goes on needing all that its points need, and what one region needs no other removes;
3. behind damage in this log nothing is forgotten: what the points need is then more, never less.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refloat.digest import Json
from refloat.errors import VaultError
from refloat.limits import SLOT_DIGITS
from refloat.vault.keyfile import Hex32
from refloat.vault.keys import Role
from refloat.vault.layout import FORGOTTEN_STREAM, damaged, slot_name
from refloat.vault.replica import CommittedPoint, Replica
from refloat.vault.slotlog import Entry, SlotLog

FORGOTTEN_MAX = 10_000  # points of one entry, so that it fits a slot; more take several
"""See ``slotlog.ENTRY_BYTES_MAX``: a name and why take about 200 bytes sealed."""


class Told(BaseModel):
    """What an entry must say; more may stand in it."""

    model_config = ConfigDict(frozen=True, strict=True)

    points: dict[Hex32, str]
    seen: int = Field(ge=0, lt=10**SLOT_DIGITS)
    overrides: list[str]
    accepted: dict[Hex32, str] = {}


@dataclass(frozen=True)
class Forgotten:
    """All that a region has forgotten, and why; the slot of the next entry.

    ``accepted`` are the safety rules that were overridden, each with the last slot of the log of points then;
    ``good`` the points that a person found good, and why.
    """

    points: Mapping[str, str]
    accepted: Mapping[str, int]
    next_slot: int
    good: Mapping[str, str] = field(default_factory=dict)


def forgotten_log(replica: Replica) -> SlotLog:
    """The log itself. Writing to it takes the admin's role."""
    return replica.log(FORGOTTEN_STREAM, Role.ADMIN)


def told(entry: Entry) -> Told:
    """What an entry says. Raises ``Damaged``."""
    try:
        return Told.model_validate(entry.body)
    except ValidationError as error:
        what = slot_name(FORGOTTEN_STREAM, entry.slot)
        raise damaged(what, "it does not say which points are forgotten") from error


def forgotten(replica: Replica) -> Forgotten:
    """All that the region has forgotten. Raises ``Damaged``, ``StoreError``."""
    points: dict[str, str] = {}
    accepted: dict[str, int] = {}
    good: dict[str, str] = {}
    slot = 0
    for entry in forgotten_log(replica).entries():
        said = told(entry)
        points |= said.points
        accepted |= dict.fromkeys(said.overrides, said.seen)
        good |= said.accepted
        slot = entry.slot + 1
    return Forgotten(points, accepted, slot, good)


def forgotten_points(replica: Replica) -> frozenset[str]:
    """The names of the points that the region has forgotten, up to the first damage. Raises ``StoreError``."""
    names: set[str] = set()
    with suppress(VaultError):
        for entry in forgotten_log(replica).entries():
            names.update(told(entry).points)
    return frozenset(names)


def kept_points(replica: Replica) -> list[CommittedPoint]:
    """The points that the region lists and has not forgotten, oldest first. Raises ``Damaged``, ``StoreError``."""
    points = replica.points()
    gone = forgotten_points(replica) if points else frozenset()
    return [point for point in points if point.name not in gone]


def write_forgotten(
    replica: Replica, slot: int, points: Mapping[str, str], *, seen: int, overrides: Collection[str] = ()
) -> None:
    """Forget ``points``, in as many entries from ``slot`` on as they take; a cut leaves some of them.

    Raises ``SlotTaken`` where somebody else has written there since, ``WrongKey`` without the admin's role.
    """
    for number, part in enumerate(_parts(points)):
        body: dict[str, Json] = {"points": dict(part), "seen": seen, "overrides": sorted(overrides)}
        forgotten_log(replica).append_at(slot + number, body)


def write_accepted(replica: Replica, slot: int, point: str, because: str, *, seen: int) -> None:
    """Say at ``slot`` that a point is good though it looked suspect. Raises as ``write_forgotten``."""
    body: dict[str, Json] = {"points": {}, "seen": seen, "overrides": [], "accepted": {point: because}}
    forgotten_log(replica).append_at(slot, body)


def _parts(points: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    names = sorted(points)
    for start in range(0, max(len(names), 1), FORGOTTEN_MAX):
        yield {name: points[name] for name in names[start : start + FORGOTTEN_MAX]}
