"""Packs that were read and are not what was written: no capture relies on one until it is mended, whoever found it.

An empty object ``quarantine/<name of the pack>`` in the region where it was found. Nobody signs it: whoever can put one
there can only let what lies in a pack be stored once more. A recovery does not ask: it verifies each piece that it
reads, and most of a damaged pack is whole. In a vault with a lock there is none, since what is read there is locked.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from refloat.contracts import Keeping, Store
from refloat.errors import StoreError
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


def lift(store: Store, packs: Iterable[str]) -> None:
    """Let captures rely on packs again. Raises ``StoreError``."""
    for pack in packs:
        store.delete(_note(pack))


def _note(pack: str) -> str:
    return QUARANTINE + pack.rpartition("/")[2]
