"""Large runs of an index on this machine's disk, where a command finds them that begins later.

It is a cache, no part of the vault: what is missing, damaged or of another time is read from the vault again. A
row is found by reading one block, so neither the time to open nor the memory depends on the number of rows.

    rows      85 bytes each, by chunk name, in blocks of 128
    fences    24 bytes a block: the prefix of its first row, and what verifies the block
    packs     100 bytes each: what an index object says of a pack
    sources   32 bytes each: the names of those index objects
    writers   32 bytes each: who signed them
    tail      32 bytes that verify all behind the rows, and how many there are of each

Whatever verifies is BLAKE3 with a key that nobody has who does not hold the vault's catalogue key; it is another
one whenever the vault vouches for somebody else, so that nothing counts that was signed by who was removed.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from refloat.digest import Json, json_digest
from refloat.errors import Damaged
from refloat.limits import MIB
from refloat.vault.indexrun import (
    ROW,
    Location,
    Merge,
    Rows,
    Told,
    located,
    prefix_of,
    prefixes_of,
)
from refloat.vault.keys import Keyring
from refloat.vault.layout import damaged
from refloat.vault.pack import PackRecord

BLOCK_ROWS = 128  # 11 KB: to read and verify it takes no longer than to ask the disk for it
BLOCK_BYTES = BLOCK_ROWS * ROW.itemsize
BLOCKS_KEPT = 256  # 3 MB of those that were asked for last
WINDOW_ROWS = 200_000  # that are merged at once: 17 MB, some copies of which are in memory then
SUFFIX = ".run"
PARTIAL = ".partial"

_MAC_BYTES = 16  # what verifies a block needs to withstand no birthday: it has its place and its key
_FENCE = np.dtype([("prefix", "<u8"), ("mac", f"V{_MAC_BYTES}")])
_PACK = np.dtype(
    [
        ("name", "V32"),
        ("size", "<u8"),
        ("key_id", "V16"),
        ("writer", "<u4"),
        ("source", "<u4"),
        ("digest", "V32"),
    ]
)
_NUMBER, _NUMBER_AT = struct.Struct("<I"), 32  # the pack of a row
_TAIL = struct.Struct("<32sQQQQ")


class Shelf:
    """The folder with the runs of one replica, for one holder of its keys. Where it cannot be used, nothing is kept."""

    def __init__(self, folder: Path, keyring: Keyring) -> None:
        self._folder = folder
        trusted = blake3(b"refloat index cache:" + _vouched(keyring).encode(), key=keyring.catalogue_key)
        self._key = trusted.digest()

    def runs(self) -> list[FileRun]:
        """Those that are whole and say what no other says, the largest first; the others are removed."""
        found: list[FileRun] = []
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            try:
                found.append(FileRun(path, self._key))
            except (Damaged, OSError):
                _remove(path)
        covered: set[str] = set()
        kept: list[FileRun] = []
        for run in sorted(found, key=len, reverse=True):
            if covered.issuperset(run.sources):
                _remove(run.path)
            else:
                covered.update(run.sources)
                kept.append(run)
        return kept

    def put(self, merge: Merge) -> FileRun | None:
        """Write what runs hold as one; None where that cannot be, as on a full disk. Raises ``Damaged``.

        Nothing is synced: what a power failure leaves of it is not what was written, and is removed.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sweep()
            partial = self._folder / f".{os.getpid()}-{threading.get_ident()}{PARTIAL}"
            with partial.open("wb", buffering=MIB) as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    mac = _write(file, merge, self._key)
                    file.flush()
                    path = partial.replace(self._folder / f"{mac.hex()}{SUFFIX}")
                finally:
                    _remove(partial)
            return FileRun(path, self._key)
        except OSError:
            return None

    def _sweep(self) -> None:
        """Remove what commands have begun to write that were killed."""
        for path in self._folder.glob(f".*{PARTIAL}"):
            with suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody writes it any more
                _remove(path)

    def drop(self, run: FileRun) -> None:
        """Remove a run, which whoever has it open goes on reading."""
        _remove(run.path)


def _vouched(keyring: Keyring) -> str:
    """A digest of whose word counts, and up to where."""
    known: list[Json] = [f"{one.role} {one.id}" for one in keyring.known() if one.removed_at is None]
    return json_digest(
        {"known": known, "removed": sorted(name for one in keyring.removals() for name in one.objects)}
    )


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


# ----------------------------------------------------------------------------------------------------- writing


def _write(file: BinaryIO, merge: Merge, key: bytes) -> bytes:
    """Write the rows of runs in windows, then what is known of them; what verifies it."""
    fences: list[npt.NDArray[np.void]] = []
    count, left = 0, np.zeros(0, ROW)
    for window in merge.windows(WINDOW_ROWS):
        rows = np.concatenate([left, window])
        whole = len(rows) // BLOCK_ROWS * BLOCK_ROWS
        fences.append(_write_blocks(file, rows[:whole], key, count // BLOCK_ROWS))
        count, left = count + whole, rows[whole:]
    fences.append(_write_blocks(file, left, key, count // BLOCK_ROWS))
    sources = _numbered(one.source for one in merge.packs)
    writers = _numbered(one.record.writer for one in merge.packs)
    behind = np.concatenate(fences).tobytes() + _table(merge.packs, sources, writers).tobytes()
    behind += b"".join(bytes.fromhex(source) for source in sources)
    behind += b"".join(writer.encode("ascii") for writer in writers)
    counts = (count + len(left), len(merge.packs), len(sources), len(writers))
    mac = _mac_of_tail(key, counts, behind)
    file.write(behind + _TAIL.pack(mac, *counts))
    return mac


def _write_blocks(file: BinaryIO, rows: Rows, key: bytes, first: int) -> npt.NDArray[np.void]:
    """Write rows, and what stands in the fences of their blocks, the first of which has this number."""
    fences = np.zeros(-(-len(rows) // BLOCK_ROWS), _FENCE)
    fences["prefix"] = prefixes_of(rows[::BLOCK_ROWS])
    for at in range(len(fences)):
        block = rows[at * BLOCK_ROWS : (at + 1) * BLOCK_ROWS].tobytes()
        fences[at]["mac"] = np.void(_mac_of_block(key, first + at, block))
        file.write(block)
    return fences


def _numbered(names: Iterator[str]) -> dict[str, int]:
    """Each name once, with its number."""
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def _table(packs: Sequence[Told], sources: dict[str, int], writers: dict[str, int]) -> npt.NDArray[np.void]:
    table = np.zeros(len(packs), _PACK)
    for at, one in enumerate(packs):
        record = one.record
        name = bytes.fromhex(record.name)
        table[at] = (
            name,
            record.size,
            record.key_id,
            writers[record.writer],
            sources[one.source],
            one.digest,
        )
    return table


def _mac_of_block(key: bytes, number: int, block: bytes) -> bytes:
    return blake3(number.to_bytes(8, "little") + block, key=key).digest(_MAC_BYTES)


def _mac_of_tail(key: bytes, counts: Sequence[int], behind: bytes) -> bytes:
    return blake3(struct.pack("<4Q", *counts) + behind, key=key).digest()


# ----------------------------------------------------------------------------------------------------- reading


class FileRun:
    """A run in a file. What the index objects say of it that are not ``listed`` any more is not found.

    Raises ``Damaged`` where what stands behind the rows is not what was written, ``OSError`` where it cannot be read.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        self.path = path
        self._key = key
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        size = os.fstat(self._file).st_size
        tail = self._read(max(size - _TAIL.size, 0), _TAIL.size)
        mac, self._count, packs, sources, writers = _TAIL.unpack(tail)
        blocks = -(-self._count // BLOCK_ROWS)
        start = self._count * ROW.itemsize
        lengths = (blocks * _FENCE.itemsize, packs * _PACK.itemsize, sources * 32, writers * 32)
        if start + sum(lengths) + _TAIL.size != size:
            raise damaged(str(path), "it is not as long as it says")
        behind = self._read(start, sum(lengths))
        if _mac_of_tail(key, (self._count, packs, sources, writers), behind) != mac:
            raise damaged(str(path), "it is not what was written")
        fences = np.frombuffer(behind, _FENCE, blocks)
        self._prefixes = fences["prefix"].astype(np.uint64)
        self._macs = fences["mac"].tobytes()
        self._table = np.frombuffer(behind, _PACK, packs, lengths[0])
        names = behind[lengths[0] + lengths[1] :]
        self.sources = [names[at : at + 32].hex() for at in range(0, lengths[2], 32)]
        self._writers = [names[at : at + 32].decode() for at in range(lengths[2], len(names), 32)]
        self._counts = np.ones(sources, bool)
        self._record = lru_cache(BLOCKS_KEPT)(self._read_record)
        self._block = lru_cache(BLOCKS_KEPT)(self._read_block)

    def __len__(self) -> int:
        return int(self._count)

    @property
    def worn(self) -> bool:
        """Whether more than a quarter of what is said in it does not count any more."""
        return bool(4 * np.count_nonzero(~self._counts[self._table["source"]]) > len(self._table))

    def told(self) -> frozenset[bytes]:
        """The digests of what is said in it and counts."""
        digests = self._table["digest"][self._counts[self._table["source"]]]
        return frozenset(digest.tobytes() for digest in digests)

    def let_count(self, listed: Collection[str]) -> bool:
        """Let only these index objects count, as those that are still in the vault; whether that changed anything."""
        before, self._counts = self._counts, np.array([source in listed for source in self.sources], bool)
        return not np.array_equal(before, self._counts)

    def packs(self) -> Sequence[Told]:
        """What is said of each pack, by whatever index object."""
        sources = (self.sources[number] for number in self._table["source"])
        digests = (digest.tobytes() for digest in self._table["digest"])
        records = map(self._read_record, range(len(self._table)))
        return [Told(*one) for one in zip(records, sources, digests, strict=True)]

    def counting(self) -> Iterator[PackRecord]:
        """The packs of which something is said that counts."""
        return map(self._read_record, np.flatnonzero(self._counts[self._table["source"]]).tolist())

    def find(self, name: bytes) -> Iterator[Location]:
        """Every place of a chunk that counts. Raises ``Damaged``, ``OSError``."""
        prefix = prefix_of(name)
        number = max(int(np.searchsorted(self._prefixes, prefix)) - 1, 0)
        while number < len(self._prefixes) and self._prefixes[number] <= prefix:
            block = self._block(number)
            at = block.find(name)
            while at >= 0:
                if at % ROW.itemsize == 0 and self._is_counted(block, at):
                    yield located(memoryview(block), at, self._record)
                at = block.find(name, at + 1)
            number += 1

    def between(self, first: int, last: int) -> Rows:
        """The rows whose prefix lies between these two, both included. Raises ``Damaged``, ``OSError``."""
        start = max(int(np.searchsorted(self._prefixes, np.uint64(first))) - 1, 0)
        end = int(np.searchsorted(self._prefixes, np.uint64(last), "right"))
        rows = np.frombuffer(b"".join(map(self._read_block, range(start, end))), ROW)
        prefixes = prefixes_of(rows)
        return rows[(prefixes >= np.uint64(first)) & (prefixes <= np.uint64(last))]

    def _is_counted(self, block: bytes, at: int) -> bool:
        number: int = _NUMBER.unpack_from(block, at + _NUMBER_AT)[0]
        return bool(self._counts[self._table["source"][number]])

    def _read_record(self, number: int) -> PackRecord:
        name, size, key_id, writer, _, _ = self._table[number]
        return PackRecord(name.tobytes().hex(), int(size), key_id.tobytes(), self._writers[writer])

    def _read_block(self, number: int) -> bytes:
        at = number * BLOCK_BYTES
        block = self._read(at, min(BLOCK_BYTES, self._count * ROW.itemsize - at))
        if _mac_of_block(self._key, number, block) != self._macs[number * _MAC_BYTES :][:_MAC_BYTES]:
            raise damaged(str(self.path), "a part of it is not what was written")
        return block

    def _read(self, start: int, length: int) -> bytes:
        content = os.pread(self._file, length, start)
        if len(content) != length:
            raise damaged(str(self.path), "it is shorter than it says")
        return content
