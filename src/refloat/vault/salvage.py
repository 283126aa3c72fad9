"""What is whole of a pack of which no region has a whole copy goes into a pack of its own, and the rest counts as gone.

A record is bound to its chunk, not to its pack, so it moves without being sealed anew; one that no copy of the pack
holds whole is left behind. What nobody claims to hold any more the next capture stores again, out of the source, and
then every point that needs it is whole again: a chunk is called after its bytes. Order of writes, so that a cut loses
nothing and the next try ends it: the new pack, the index object that lists it, the index objects that no longer list
the old one, and only then the old ones go, the pack last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from refloat.contracts import Keeping
from refloat.digest import object_name
from refloat.errors import Missing, VaultError
from refloat.limits import OBJECT_BYTES_MAX
from refloat.vault import layout
from refloat.vault.chunk import SealedChunk, open_chunk
from refloat.vault.index import open_index, seal_index
from refloat.vault.keys import Keyring, Role
from refloat.vault.listed import replace_index
from refloat.vault.pack import (
    Bases,
    Directory,
    can_open,
    directory_of,
    record_secret,
    seal_pack,
    sealed_chunk,
)
from refloat.vault.quarantine import lift, stored_whole
from refloat.vault.replica import Replica
from refloat.vault.replicate import store_checked


@dataclass(frozen=True)
class Salvaged:
    """How many of a pack's records are whole, in its new pack or in others that were there, and how many there were."""

    kept: int
    of: int

    @property
    def told(self) -> str:
        """What became of the pack, for people."""
        if self.kept == self.of:
            return f"its {self.of} pieces are whole, and lie in other packs now"
        return (
            f"{self.kept} of its {self.of} pieces are whole, and lie in other packs now; the others are gone"
        )


def salvage(replica: Replica, name: str, others: Sequence[Replica]) -> Salvaged | None:
    """Take what is whole of a pack, by the name of its object, out of every region's copy; None where nothing was done.

    That is where the vault has a lock, where this holder cannot sign as a writer or open what the pack holds, where
    nobody says what lies in it, where some copy is whole after all, and where there is no copy and its pieces lie in no
    other pack. Raises ``StoreError`` where a region does not answer, or not with all: what it holds is not known to be
    gone.
    """
    keyring = replica.keyring
    if isinstance(replica.store, Keeping) or not keyring.can(Role.WRITER):
        return None
    copies = [stored for one in (replica, *others) if (stored := _copy(name, one)) is not None]
    if any(layout.has_its_name(name, stored) for stored in copies):
        return None
    listing = _listing(replica, name)
    directory = next(iter(listing.values()), None) or _told_by(keyring, name, copies)
    if directory is None or not can_open(keyring, directory.key_id):
        return None
    secret = record_secret(keyring, directory.key_id)
    rows = [(row, _whole(replica, name, row, copies, secret)) for row in directory.entries]
    whole = [chunk for _, chunk in rows if chunk is not None]
    elsewhere = sum(_is_elsewhere(replica, name, row) for row, chunk in rows if chunk is None)
    if not copies and elsewhere < len(rows):
        return None  # it is not there: nothing is gained by forgetting that it was
    if whole:
        pack = seal_pack(keyring, directory.key_id, whole)
        store_checked(replica.store, layout.pack_name(pack.record.name), pack.stored)
        index = seal_index(keyring, [(pack.record, pack.directory)])
        store_checked(replica.store, layout.index_name(object_name(index)), index)
    for listed in listing:
        replace_index(replica, listed, [name])
        replica.store.delete(listed)
    replica.store.delete(name)
    lift(replica.store, [name])
    return Salvaged(len(whole) + elsewhere, len(rows))


def _copy(name: str, replica: Replica) -> bytes | None:
    """All that a region has of a pack; None where it has none. Raises ``StoreError`` where less of it came."""
    try:
        return stored_whole(replica.store, name)
    except Missing:
        return None


def _listing(replica: Replica, name: str) -> dict[str, Directory]:
    """The index objects of a region that list a pack, and what each says lies in it."""
    found: dict[str, Directory] = {}
    for index in layout.objects(replica.store, layout.INDEX):
        with suppress(VaultError):
            stored = replica.store.get(index, 0, OBJECT_BYTES_MAX + 1)
            packs = open_index(replica.keyring, index.removeprefix(layout.INDEX), stored, what=index)
            for pack, told in packs:
                if layout.pack_name(pack.name) == name:
                    found[index] = told
    return found


def _told_by(keyring: Keyring, name: str, copies: Iterable[bytes]) -> Directory | None:
    """What the first copy whose directory is whole says of itself."""
    for stored in copies:
        with suppress(VaultError):
            return directory_of(keyring, stored, what=name)
    return None


def _is_elsewhere(replica: Replica, name: str, row: np.void) -> bool:
    """Whether another pack that is there is said to hold the chunk, too."""
    places = replica.index.locations(row["name"].tobytes())
    others = ((layout.pack_name(place.pack.name), place.pack.size) for place in places)
    return any(replica.store.size(other) == size for other, size in others if other != name)


def _whole(
    replica: Replica, name: str, row: np.void, copies: Iterable[bytes], secret: bytes
) -> SealedChunk | None:
    """A record out of the first copy that holds it whole; so also one of which only the base is lost."""
    name_key, start = replica.keyring.chunk_name_key, int(row["offset"])
    for stored in copies:
        chunk = sealed_chunk(row, stored[start : start + int(row["stored"])])
        bases = Bases(replica.read_chunk)
        try:
            open_chunk(chunk, name_key=name_key, secret=secret, what=name, read=bases)
        except VaultError:
            if chunk.base not in bases.lost:
                continue
        return chunk
    return None
