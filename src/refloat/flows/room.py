"""Whether there is room for what a recovery brings: where its bytes will lie is what its connectors say."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path

from refloat.contracts import EntryType, Passing, Sited
from refloat.durable import partial_of
from refloat.errors import Refused, plug_in
from refloat.room import Need, Room, rooms, short, taken_bytes
from refloat.run.target import ComponentTarget

TARGET_FULL = "target_full"
"""The rule against filling a file system that has no room for all of it."""


def room_for(components: Iterable[ComponentTarget], scratch: Path) -> list[Room]:
    """The file systems that components are staged on, beside what is live there, and by way of ``scratch``.

    Raises ``ConnectorError``.
    """
    needs: list[Need] = []
    for component in components:
        with plug_in(f"asking where the bytes of {component.name} will lie", component=component.name):
            needs += needs_of(component, scratch)
    return rooms(needs)


def needs_of(component: ComponentTarget, scratch: Path) -> Iterator[Need]:
    """What a component needs, where its connector can say where; a snapshot is read only where it is split."""
    connector, place, snapshot = component.connector, component.place, component.snapshot
    passing = connector.passing(place) if isinstance(connector, Passing) else None
    sites = dict(connector.sites(place)) if isinstance(connector, Sited) else {}
    parts = {part for part in (*sites, passing) if part}
    sizes = _sizes(component, parts) if parts else {}
    sizes[""] = (snapshot.bytes, snapshot.files)
    for part, path in sites.items():
        yield Need(component.name, path.parent, *sizes[part])
    if passing is not None:
        yield Need(component.name, scratch, *sizes[passing])


def _sizes(component: ComponentTarget, parts: AbstractSet[str]) -> dict[str, tuple[int, int]]:
    """How many bytes and files lie in each of some folders of a snapshot."""
    found: dict[str, list[int]] = {part: [] for part in parts}
    for entry in component.source(lambda size: None, threading.Event()).entries():
        part = entry.path.partition("/")[0]
        if part in found and entry.type is EntryType.FILE:
            found[part].append(entry.size)
    return {part: (sum(sizes), len(sizes)) for part, sizes in found.items()}


def require_room_in(into: Path, needs: Mapping[str, tuple[int, int]], *, next: str) -> None:
    """Refuse to fill a folder with bytes and files, by component, for which its file system has no room.

    What an earlier attempt has left there is kept or removed, so the room that it takes counts as free. Raises
    ``Refused`` (rule ``target_full``).
    """
    left = taken_bytes(into) + taken_bytes(partial_of(into))
    found = [
        replace(one, path=into, free_bytes=one.free_bytes + left)
        for one in rooms(Need(name, into, *size) for name, size in needs.items())
    ]
    if lacking := short(found):
        raise Refused(TARGET_FULL, f"there is not room for all of it: {lacking}", next=next)
