"""Bringing one replica what another one holds: objects verified by name, none of them opened.

A region's log is its own and is never copied: it says what was complete *there*, and when.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from refloat.contracts import ObjectInfo, Progress, Put, Silent, Store
from refloat.digest import object_name
from refloat.errors import Damaged, Missing, Retry, StoreError
from refloat.limits import OBJECT_BYTES_MAX
from refloat.vault import layout
from refloat.vault.index import open_index
from refloat.vault.replica import Replica


@dataclass(frozen=True)
class Copied:
    """What was copied. ``damaged`` names what was left behind because it is not whole at the source."""

    objects: int = 0
    bytes: int = 0
    damaged: tuple[str, ...] = ()


def catch_up(source: Replica, target: Replica, progress: Progress | None = None) -> Copied:
    """Copy the keys, packs, index objects and points that ``target`` lacks.

    Order of writes, so that a crash leaves nothing that names what is not there: keys, packs, index objects
    whose packs are all there, points. Damaged bytes are never copied. Raises ``StoreError``.
    """
    copy = _Copy(source, target, progress or Silent())
    copy.all_of(layout.KEYS)
    copy.all_of(layout.PACKS)
    copy.all_of(layout.INDEX)
    copy.all_of(layout.POINTS)
    target.refresh_index()
    return Copied(copy.objects, copy.bytes, tuple(copy.damaged))


def _by_name(store: Store, prefix: str) -> dict[str, ObjectInfo]:
    return {entry.name: entry for entry in store.list(prefix)}


class _Copy:
    def __init__(self, source: Replica, target: Replica, progress: Progress) -> None:
        self._source = source
        self._target = target
        self._progress = progress
        self._task = f"copy {source.region} to {target.region}"
        self.objects = 0
        self.bytes = 0
        self.damaged: list[str] = []

    def all_of(self, prefix: str) -> None:
        lacking = list(self._lacking(prefix))
        self._progress.start(self._task, sum(entry.size for entry in lacking))
        for entry in lacking:
            self._one(entry.name)
        self._progress.finish(self._task)

    def _lacking(self, prefix: str) -> Iterator[ObjectInfo]:
        there = _by_name(self._target.store, prefix)
        for name, entry in sorted(_by_name(self._source.store, prefix).items()):
            if name not in there and (prefix != layout.INDEX or self._packs_are_there(name)):
                yield entry

    def _packs_are_there(self, index: str) -> bool:
        """Whether the target holds every pack that an index object of the source names, at its full size."""
        name = index.removeprefix(layout.INDEX)
        try:
            packs = open_index(self._source.keyring, name, self._read(index), what=index)
        except (Damaged, Missing):
            self.damaged.append(index)
            return False
        return all(self._target.store.size(layout.pack_name(pack.name)) == pack.size for pack, _ in packs)

    def _read(self, name: str) -> bytes:
        return self._source.store.get(name, 0, OBJECT_BYTES_MAX + 1)

    def _one(self, name: str) -> None:
        try:
            content = self._read(name)
        except Missing:
            content = b""
        if object_name(content) != name.rpartition("/")[2]:
            self.damaged.append(name)
            return
        store_checked(self._target.store, name, content)
        self.objects += 1
        self.bytes += len(content)
        self._progress.advance(self._task, len(content))


def store_checked(store: Store, name: str, content: bytes) -> Put:
    """Create an object and ask whether it is there, whole in size: an answer alone is not a copy.

    Raises ``StoreError`` where the store took it and does not hold it.
    """
    put = store.create(name, content)
    size = store.size(name)
    if size != len(content):
        raise StoreError(
            f"{store.url} took {name} ({len(content)} bytes), but holds {size or 'nothing'}",
            file=name,
            retry=Retry.LATER,
            next="check the store; refloat vault check says what else is not there",
        )
    return put
