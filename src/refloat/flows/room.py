"""Whether there is room for what a recovery brings: where its bytes will lie is what its connectors say."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from refloat.contracts import Sited, Source
from refloat.durable import partial_of
from refloat.errors import Refused, plug_in
from refloat.room import Need, Room, rooms, short, standing, taken_bytes
from refloat.run.target import ComponentTarget

TARGET_FULL = "target_full"
"""The rule against filling a file system that has no room for all of it."""


def room_for(components: Iterable[ComponentTarget]) -> list[Room]:
    """The file systems that components are staged on, beside what is live there. Raises ``ConnectorError``."""
    needs: list[Need] = []
    for component in components:
        with plug_in(f"asking where the bytes of {component.name} will lie", component=component.name):
            needs += needs_of(component)
    return rooms(needs)


def needs_of(component: ComponentTarget) -> Iterator[Need]:
    """What a component needs, where its connector can say where; a snapshot is read only where it is split."""
    connector, snapshot = component.connector, component.snapshot
    sites = connector.sites(component.place) if isinstance(connector, Sited) else {}
    if list(sites) == [""]:
        yield Need(component.name, sites[""].parent, snapshot.bytes, snapshot.files)
    elif len({standing(path.parent).stat().st_dev for path in sites.values()}) == 1 and snapshot.bytes:
        yield Need(component.name, next(iter(sites.values())).parent, snapshot.bytes, snapshot.files)
    elif sites:
        yield from _split(component.name, sites, component.source(lambda size: None, threading.Event()))


def _split(name: str, sites: Mapping[str, Path], source: Source) -> Iterator[Need]:
    sizes: dict[str, list[int]] = {prefix: [] for prefix in sites}
    for entry in source.entries():
        prefix = entry.path.partition("/")[0]
        if prefix in sizes and entry.type == "file":
            sizes[prefix].append(entry.size)
    for prefix, path in sites.items():
        yield Need(name, path.parent, sum(sizes[prefix]), len(sizes[prefix]))


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
