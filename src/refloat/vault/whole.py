"""Is everything that some snapshots need in this replica? Asked before a recovery begins."""

from __future__ import annotations

from collections.abc import Iterable

from refloat.errors import VaultError
from refloat.vault import layout
from refloat.vault.index import is_there
from refloat.vault.indexrun import Location
from refloat.vault.replica import Replica
from refloat.vault.tree import chunk_names


def missing_for(replica: Replica, trees: Iterable[str]) -> list[str]:
    """What the snapshots with these root trees (hex) need and the replica lacks: chunks and packs by name.

    Every folder is opened; of the packs that hold file contents only the sizes are compared, since reading
    them is what the recovery itself does.
    """
    wholeness = Wholeness(replica)
    return list(dict.fromkeys(name for tree in trees for name in wholeness.missing(tree)))


class Wholeness:
    """What a replica lacks of one snapshot after the other; what several share is looked at once."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._sizes: dict[str, int | None] = {}
        self._missing: dict[str, list[str]] = {}

    def missing(self, tree: str) -> list[str]:
        """What one snapshot needs and the replica lacks."""
        if tree not in self._missing:
            self._missing[tree] = self._look(tree)
        return self._missing[tree]

    def _look(self, tree: str) -> list[str]:
        missing: dict[str, None] = {}
        try:
            for name in chunk_names(bytes.fromhex(tree), self._replica.read_chunk):
                if not is_there(name, self._replica.locate, self._is_whole):
                    missing[f"chunk {name.hex()}"] = None
        except VaultError as error:
            missing[error.file or f"tree {tree}"] = None
        return list(missing)

    def _is_whole(self, place: Location) -> bool:
        pack = layout.pack_name(place.pack.name)
        if pack not in self._sizes:
            self._sizes[pack] = self._replica.store.size(pack)
        return self._sizes[pack] == place.pack.size
