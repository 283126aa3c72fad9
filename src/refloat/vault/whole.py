"""Is everything that some snapshots need in this replica? Asked before a recovery begins."""

from __future__ import annotations

from collections.abc import Iterable

from refloat.errors import VaultError
from refloat.vault import layout
from refloat.vault.replica import Replica
from refloat.vault.tree import chunk_names


def missing_for(replica: Replica, trees: Iterable[str]) -> list[str]:
    """What the snapshots with these root trees (hex) need and the replica lacks: chunks and packs by name.

    Every folder is opened; of the packs that hold file contents only the sizes are compared, since reading
    them is what the recovery itself does.
    """
    sizes: dict[str, int | None] = {}
    missing: dict[str, None] = {}
    for tree in trees:
        try:
            for name in chunk_names(bytes.fromhex(tree), replica.read_chunk):
                if not _is_there(replica, name, sizes):
                    missing[f"chunk {name.hex()}"] = None
        except VaultError as error:
            missing[error.file or f"tree {tree}"] = None
    return list(missing)


def _is_there(replica: Replica, name: bytes, sizes: dict[str, int | None]) -> bool:
    for place in replica.locate(name):
        pack = layout.pack_name(place.pack.name)
        if pack not in sizes:
            sizes[pack] = replica.store.size(pack)
        if sizes[pack] == place.pack.size:
            return True
    return False
