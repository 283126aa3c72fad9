"""Is everything that some snapshots need there to be read? Asked before a recovery begins."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from refloat.errors import StoreError, VaultError
from refloat.vault import layout
from refloat.vault.anywhere import Anywhere
from refloat.vault.chunk import BASES_MAX, NO_BASE
from refloat.vault.indexrun import Location
from refloat.vault.replica import Replica
from refloat.vault.tree import chunk_names


def missing_for(reader: Anywhere, trees: Iterable[str]) -> list[str]:
    """What the snapshots with these root trees (hex) need and no region has: chunks and packs by name.

    Every folder is opened; of the packs that hold file contents only the sizes are compared, since reading
    them is what the recovery itself does.
    """
    wholeness = Wholeness(reader)
    return list(dict.fromkeys(name for tree in trees for name in wholeness.missing(tree)))


class Wholeness:
    """What is lacking of one snapshot after the other; what several share is looked at once."""

    def __init__(self, reader: Anywhere) -> None:
        self._reader = reader
        self._sizes: dict[tuple[str, str], int | None] = {}
        self._missing: dict[str, list[str]] = {}

    def missing(self, tree: str) -> list[str]:
        """What one snapshot needs and no region has."""
        if tree not in self._missing:
            self._missing[tree] = self._look(tree)
        return self._missing[tree]

    def _look(self, tree: str) -> list[str]:
        missing: dict[str, None] = {}
        try:
            for name in chunk_names(bytes.fromhex(tree), self._reader.read_chunk):
                if not self._is_there(name):
                    missing[f"chunk {name.hex()}"] = None
        except VaultError as error:
            missing[error.file or f"tree {tree}"] = None
        return list(missing)

    def _is_there(self, name: bytes) -> bool:
        """Whether some region has a chunk, and some region, maybe another, what it rests on: so it is read."""
        silent: list[StoreError] = []
        found = self._is_somewhere(name, silent)
        if silent and not found:
            raise silent[0]
        return found

    def _is_somewhere(self, name: bytes, silent: list[StoreError], depth: int = 0) -> bool:
        try:
            return depth <= BASES_MAX and self._reader.any(partial(self._is_in, name, silent, depth))
        except StoreError as error:  # of a base, it says nothing of the region that has the difference
            silent.append(error)
            return False

    def _is_in(self, name: bytes, silent: list[StoreError], depth: int, replica: Replica) -> bool:
        return any(
            self._is_whole(replica, place)
            and (place.base == NO_BASE or self._is_somewhere(place.base, silent, depth + 1))
            for place in replica.locate(name)
        )

    def _is_whole(self, replica: Replica, place: Location) -> bool:
        pack = layout.pack_name(place.pack.name)
        key = (replica.region, pack)
        if key not in self._sizes:
            self._sizes[key] = replica.store.size(pack)
        return self._sizes[key] == place.pack.size
