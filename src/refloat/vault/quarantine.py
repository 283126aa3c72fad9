"""Packs that were read and are not what was written: no capture relies on one until it is mended, whoever found it.

An empty object ``quarantine/<name of the pack>`` in the region where it was found. Nobody signs it: whoever can put one
there can only let what lies in a pack be stored once more. A recovery does not ask: it verifies each piece that it
reads, and most of a damaged pack is whole. Whoever comes upon a bad piece reads its pack whole and puts it in here, as
far as they may write. In a vault with a lock there is none, since what is read there is locked.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from refloat.contracts import Keeping, Store
from refloat.errors import Missing, Retry, StoreError
from refloat.limits import OBJECT_BYTES_MAX
from refloat.vault import layout

QUARANTINE = "quarantine/"


def quarantined(store: Store) -> frozenset[str]:
    """The packs that nobody relies on, as their objects are called. Raises ``StoreError``."""
    names = (info.name.removeprefix(QUARANTINE) for info in store.list(QUARANTINE))
    return frozenset(map(layout.pack_name, names))


def quarantine(store: Store, pack: str) -> None:
    """Let no capture rely on a pack, by the name of its object; where nothing can be written, nothing is."""
    if not isinstance(store, Keeping):
        with suppress(StoreError):
            store.create(_note(pack), b"")


def is_whole(store: Store, name: str, stored: bytes) -> bool:
    """Whether the bytes that were read of an object are those that were written; a pack that rotted gets its mark.

    Fewer bytes than the store has are no rot: an answer may be cut short on its way, and says nothing of the pack.
    """
    if layout.has_its_name(name, stored):
        return True
    if name.startswith(layout.PACKS):
        with suppress(StoreError, Missing):
            if store.size(name) == len(stored):
                quarantine(store, name)
    return False


def stored_whole(store: Store, name: str) -> bytes:
    """All bytes that a store has of an object, before something is taken out of them and the object removed.

    Raises ``Missing``, and ``StoreError`` where fewer came than the store has.
    """
    stored = store.get(name, 0, OBJECT_BYTES_MAX + 1)
    size = store.size(name)
    if size is not None and len(stored) < min(size, OBJECT_BYTES_MAX + 1):
        raise StoreError(
            f"{name} was cut short on its way: {len(stored)} of {size} bytes came",
            file=name,
            retry=Retry.LATER,
            next="refloat vault check --read-data",
        )
    return stored


def lift(store: Store, packs: Iterable[str]) -> None:
    """Let captures rely on packs again. Raises ``StoreError``."""
    for pack in packs:
        store.delete(_note(pack))


def _note(pack: str) -> str:
    return QUARANTINE + pack.rpartition("/")[2]
