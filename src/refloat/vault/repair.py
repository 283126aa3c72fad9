"""Mends a replica from the others: an object that is missing or damaged is fetched where it verifies.

An object's name is the BLAKE3 of its bytes, so no key is needed to know a good copy, and a damaged one is
never copied onward. A region's log is its own: its entries have no copy elsewhere, and are not mended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from refloat.contracts import Store
from refloat.digest import object_name
from refloat.errors import Missing, StoreError
from refloat.limits import OBJECT_BYTES_MAX
from refloat.vault import layout
from refloat.vault.replica import Replica
from refloat.vault.replicate import store_checked


@dataclass(frozen=True)
class Repaired:
    """What was mended, by object name, with the region that it came from; and what could not be, and why.

    ``again``: keys were mended, so what could not be verified without them must be checked anew.
    """

    mended: dict[str, str]
    left: dict[str, str]
    again: bool = False


def repair(replica: Replica, damaged: Iterable[str], others: Sequence[Replica]) -> Repaired:
    """Replace each damaged object of ``replica`` by a copy from ``others`` that verifies.

    ``damaged`` are names as ``check`` reports them. The bad object is removed only once a good copy is in
    hand. Raises ``StoreError`` where the replica itself does not take a write.
    """
    mended: dict[str, str] = {}
    left: dict[str, str] = {}
    again = False
    for name in sorted(dict.fromkeys(damaged), key=lambda name: not name.startswith(layout.KEYS)):
        if name == layout.KEYS:
            keys = _lacking_keys(replica, others)
            mended |= keys
            left |= {} if keys else {name: "no other region that answers has a key that is lacking here"}
            continue
        if not name.startswith((layout.PACKS, layout.INDEX, layout.POINTS, layout.KEYS)):
            if any(fetched.startswith(layout.KEYS) for fetched in mended):
                again = True
                continue
            left[name] = "it is this region's own, and has no copy elsewhere"
            continue
        found = _good_copy(name, others)
        if found is None:
            left[name] = "no other region that answers has a good copy"
            continue
        region, content = found
        replica.store.delete(name)
        store_checked(replica.store, name, content)
        mended[name] = region
    return Repaired(mended, left, again)


def _lacking_keys(replica: Replica, others: Sequence[Replica]) -> dict[str, str]:
    """Copy every key object that is whole elsewhere and not here: what lacks says whom it is for, not its name."""
    mended = {}
    for other in others:
        for entry in other.store.list(layout.KEYS):
            content = _read(other.store, entry.name)
            whole = content is not None and object_name(content) == entry.name.rpartition("/")[2]
            if content is not None and whole and replica.store.size(entry.name) is None:
                store_checked(replica.store, entry.name, content)
                mended[entry.name] = other.region
    return mended


def _good_copy(name: str, others: Sequence[Replica]) -> tuple[str, bytes] | None:
    for other in others:
        content = _read(other.store, name)
        if content is not None and object_name(content) == name.rpartition("/")[2]:
            return other.region, content
    return None


def _read(store: Store, name: str) -> bytes | None:
    try:
        return store.get(name, 0, OBJECT_BYTES_MAX + 1)
    except (Missing, StoreError):
        return None
