"""One pack: a header, sealed chunks back to back, a sealed directory of them, a footer.

    offset       size   field
    0            16     object header, kind PACK (see ``seal``)
    16           16     id of the content key that its records are sealed for; zero: the catalogue key
    32           ...    records, in the directory's order, without gaps
    end-8-n      n      directory, sealed; bound to the 32 bytes above and the vault
    end-8        4      n, big-endian
    end-4        4      "RFLT"

The directory is one 84-byte entry a record: name 32, offset 8, stored length 4, raw length 4, codec 1,
zero 3, base 32, big-endian. It repeats what the index says, so that the index can be made again from packs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refloat.digest import object_name
from refloat.durable import pages
from refloat.errors import VaultError, WrongKey
from refloat.limits import CHUNK_BYTES_MAX, PACK_BYTES_MAX
from refloat.vault.chunk import RECORD_BYTES_MAX, SealedChunk, open_chunk
from refloat.vault.keyfile import SEAL_BYTES
from refloat.vault.keys import Keyring
from refloat.vault.layout import damaged
from refloat.vault.seal import HEADER_BYTES, MAGIC, Kind, check_header, seal, unseal

CATALOGUE_KEY = bytes(16)
KEY_ID_BYTES = 16
PACK_HEADER_BYTES = HEADER_BYTES + KEY_ID_BYTES
_FOOTER = struct.Struct(">I4s")

ENTRY = np.dtype(
    [
        ("name", "V32"),
        ("offset", ">u8"),
        ("stored", ">u4"),
        ("raw", ">u4"),
        ("codec", "u1"),
        ("zero", "V3"),
        ("base", "V32"),
    ]
)
"""One directory entry, as it is stored in packs and index objects."""

Entries = npt.NDArray[np.void]
ReadRange = Callable[[int, int], bytes]
"""Reads (start, length) of an object's bytes; may return fewer at its end."""


@dataclass(frozen=True)
class Directory:
    """What a pack says it holds: the key that its records are sealed for, and ``ENTRY`` rows by offset."""

    key_id: bytes
    entries: Entries


@dataclass(frozen=True)
class PackRecord:
    """A pack that the index knows. ``writer`` signed for it; empty where only the pack itself was read."""

    name: str
    size: int
    key_id: bytes
    writer: str = ""


@dataclass(frozen=True)
class SealedPack:
    """A pack as it is stored: what the index says of it, its directory and its bytes."""

    record: PackRecord
    directory: Directory
    stored: memoryview


class PackRoom:
    """Memory for one pack, in which its records are sealed where they will lie, so that none is copied.

    One room serves many packs, and a disk takes its pages as they are.
    """

    def __init__(self, size: int) -> None:
        self._bytes = pages(size)
        self.clear()

    def __len__(self) -> int:
        return len(self._bytes)

    @property
    def taken(self) -> int:
        """Bytes of records that have their place."""
        return self._end - PACK_HEADER_BYTES

    def clear(self) -> None:
        """Be empty again. What was there is nobody's any more."""
        self._end = PACK_HEADER_BYTES

    def take(self, length: int) -> memoryview:
        """Memory for the next record."""
        start, self._end = self._end, self._end + length
        return self._bytes[start : self._end]

    def closed(self, header: bytes, tail: bytes) -> memoryview:
        """The pack: what was taken, between its header and what comes after the last record."""
        self._bytes[: len(header)] = header
        self.take(len(tail))[:] = tail
        return self._bytes[: self._end]


def _copied(chunks: Sequence[SealedChunk]) -> PackRoom:
    room = PackRoom(overhead_bytes(len(chunks)) + sum(len(chunk.record) for chunk in chunks))
    for chunk in chunks:
        room.take(len(chunk.record))[:] = chunk.record
    return room


def overhead_bytes(records: int) -> int:
    """What a pack of ``records`` takes beside the records themselves."""
    return PACK_HEADER_BYTES + records * ENTRY.itemsize + SEAL_BYTES + _FOOTER.size


def _directory_of(chunks: Sequence[SealedChunk]) -> Entries:
    entries = np.zeros(len(chunks), ENTRY)
    offset = PACK_HEADER_BYTES
    for row, chunk in enumerate(chunks):
        entries[row] = (
            chunk.name, offset, len(chunk.record), chunk.raw_length, chunk.codec, bytes(3), chunk.base
        )  # fmt: skip
        offset += len(chunk.record)
    return entries


def seal_pack(
    keyring: Keyring, key_id: bytes, chunks: Sequence[SealedChunk], room: PackRoom | None = None
) -> SealedPack:
    """One pack of ``chunks``, its directory read back from its own bytes before it is returned.

    Their records lie in ``room`` already, one after the other, or are copied together. Raises ``Damaged`` where it
    does not read back.
    """
    header = Kind.PACK.header + key_id
    entries = _directory_of(chunks)
    directory = seal(keyring, Kind.PACK, entries.tobytes(), header=header)
    room = _copied(chunks) if room is None else room
    stored = room.closed(header, directory + _FOOTER.pack(len(directory), MAGIC))
    name = object_name(stored)
    reread = directory_of(keyring, stored, what=name)
    return SealedPack(PackRecord(name, len(stored), key_id, keyring.writer), reread, stored)


def directory_of(keyring: Keyring, stored: bytes | memoryview, *, what: str) -> Directory:
    """The directory of a whole pack, checked as by ``open_directory``."""
    return open_directory(
        keyring, lambda start, length: bytes(stored[start : start + length]), len(stored), what=what
    )


def open_directory(keyring: Keyring, read: ReadRange, size: int, *, what: str) -> Directory:
    """The directory of a pack of ``size`` bytes, read in three ranges and checked.

    Raises ``Damaged``, ``VaultError`` for a newer format.
    """
    if not overhead_bytes(0) <= size <= PACK_BYTES_MAX:
        raise damaged(what, f"it has an impossible size for a pack: {size} bytes")
    header = read(0, PACK_HEADER_BYTES)
    check_header(Kind.PACK, header, what=what)
    footer = read(size - _FOOTER.size, _FOOTER.size)
    if len(header) != PACK_HEADER_BYTES or len(footer) != _FOOTER.size:
        raise damaged(what, "it is shorter than the store says")
    length, magic = _FOOTER.unpack(footer)
    start = size - _FOOTER.size - length
    if magic != MAGIC or start < PACK_HEADER_BYTES:
        raise damaged(what, "it has no footer; it was cut short")
    plain = unseal(keyring, Kind.PACK, read(start, length), what=what, header=header)
    entries = parse_entries(plain, what=what)
    _check_dense(entries, start, what=what)
    return Directory(header[HEADER_BYTES:], entries)


def parse_entries(plain: bytes, *, what: str) -> Entries:
    """Directory entries from their stored form; lengths are within limits. Raises ``Damaged``."""
    if len(plain) % ENTRY.itemsize:
        raise damaged(what, "it has a directory of an impossible length")
    entries = np.frombuffer(plain, ENTRY)
    if len(entries) and (
        entries["stored"].max() > RECORD_BYTES_MAX or entries["raw"].max() > CHUNK_BYTES_MAX
    ):
        raise damaged(what, "it lists a chunk larger than any that refloat writes")
    return entries


def _check_dense(entries: Entries, end: int, *, what: str) -> None:
    stored = entries["stored"].astype(np.uint64)
    ends = PACK_HEADER_BYTES + np.cumsum(stored, dtype=np.uint64)
    starts = ends - stored
    if (
        not np.array_equal(entries["offset"], starts)
        or (int(ends[-1]) if len(ends) else PACK_HEADER_BYTES) != end
    ):
        raise damaged(what, "it has a directory that does not fit its records")


def record_secret(keyring: Keyring, key_id: bytes) -> bytes:
    """The secret that a pack's records are sealed for. Raises ``WrongKey`` where this holder has it not."""
    if key_id == CATALOGUE_KEY:
        return keyring.catalogue_key
    return keyring.open_content_key(key_id)


def can_open(keyring: Keyring, key_id: bytes) -> bool:
    """Whether this holder can open the records of a pack."""
    try:
        record_secret(keyring, key_id)
    except WrongKey:
        return False
    return True


def sealed_chunk(row: np.void, record: bytes | memoryview) -> SealedChunk:
    """A chunk as it lies in a pack: its directory row and the bytes of its record."""
    return SealedChunk(
        row["name"].tobytes(), int(row["codec"]), row["base"].tobytes(), int(row["raw"]), record
    )


@dataclass(frozen=True)
class Opened:
    """The records of a pack that were opened, ``length`` bytes together, and the bases that were not to be had."""

    length: int
    lost: frozenset[bytes]


def open_records(
    keyring: Keyring, stored: bytes, directory: Directory, *, what: str, read: Callable[[bytes], bytes]
) -> Opened:
    """Open every record of a whole pack; ``read`` gives the raw bytes of a base. Raises ``Damaged``.

    What rests on a base that cannot be read is not opened: that is no fault of this pack.
    """
    secret = record_secret(keyring, directory.key_id)
    bases = Bases(read)
    opened = 0
    whole = memoryview(stored)
    for row in directory.entries:
        start = int(row["offset"])
        chunk = sealed_chunk(row, whole[start : start + int(row["stored"])])
        try:
            opened += len(
                open_chunk(chunk, name_key=keyring.chunk_name_key, secret=secret, what=what, read=bases)
            )
        except VaultError:
            if chunk.base not in bases.lost:
                raise
    return Opened(opened, frozenset(bases.lost))


class Bases:
    """Gives the raw bytes of bases as ``read`` does, and remembers in ``lost`` which could not be read."""

    def __init__(self, read: Callable[[bytes], bytes]) -> None:
        self._read = read
        self.lost: set[bytes] = set()

    def __call__(self, name: bytes) -> bytes:
        """The bytes of a base. Raises what ``read`` raises."""
        try:
            return self._read(name)
        except VaultError:
            self.lost.add(name)
            raise
