"""Sorted runs, of which an index is made: rows in the order of chunk names, and the packs that they speak of.

A run never changes. Many small ones are merged into few large ones, as in a log-structured merge tree (O'Neil et
al., 1996), so that a row is moved no oftener than the logarithm of the index.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from refloat.vault.pack import ENTRY, Directory, PackRecord

Rows = npt.NDArray[np.void]
Prefixes = npt.NDArray[np.uint64]

ROW = np.dtype(
    [
        ("name", "V32"),
        ("pack", "<u4"),
        ("offset", "<u8"),
        ("stored", "<u4"),
        ("raw", "<u4"),
        ("codec", "u1"),
        ("base", "V32"),
    ]
)
"""One chunk in one pack; ``pack`` is that pack's number in the run."""

PREFIX_MAX = 2**64 - 1
_FIELDS = struct.Struct("<32sIQIIB32s")
_LISTED = ("name", "offset", "stored", "raw", "codec", "base")  # what a row and a directory's entry share


@dataclass(frozen=True)
class Location:
    """Where one chunk lies: ``stored_length`` bytes at ``offset`` of ``pack`` hold ``raw_length`` bytes."""

    pack: PackRecord
    offset: int
    stored_length: int
    raw_length: int
    codec: int
    base: bytes


@dataclass(frozen=True)
class Told:
    """What an index object says of a pack; ``source`` names the object, and is empty where the pack itself was read.

    ``digest`` (32 bytes) is of all that is said, so that the same is not taken in twice.
    """

    record: PackRecord
    source: str
    digest: bytes


class Run(Protocol):
    """Rows that are found by chunk name and read in their order."""

    def __len__(self) -> int:
        """How many rows it has."""

    def packs(self) -> Sequence[Told]:
        """What is said of each pack; a row's ``pack`` is a place in it."""

    def find(self, name: bytes) -> Iterator[Location]:
        """Every place of a chunk. Raises ``Damaged`` where the rows are not what was written."""

    def between(self, first: int, last: int) -> Rows:
        """The rows whose prefix lies between these two, both included. Raises ``Damaged``."""


def told(record: PackRecord, directory: Directory, source: str) -> Told:
    """What is said of a pack, by which index object."""
    said = blake3(f"{record.name} {record.size} {record.key_id.hex()} {record.writer} ".encode())
    return Told(record, source, said.update(directory.entries.tobytes()).digest())


def rows_of(directories: Sequence[Directory]) -> Rows:
    """What directories list, as rows of packs with the numbers in which they come."""
    listed = [directory.entries for directory in directories]
    entries = np.frombuffer(b"".join(some.tobytes() for some in listed), ENTRY)
    rows = np.zeros(len(entries), ROW)
    for column in _LISTED:
        rows[column] = entries[column]
    rows["pack"] = np.repeat(np.arange(len(listed)), [len(some) for some in listed])
    return rows


def prefix_of(name: bytes) -> np.uint64:
    """The first eight bytes of a chunk name, which rows are sorted by."""
    return np.uint64(int.from_bytes(name[:8], "big"))


def prefixes_of(rows: Rows) -> Prefixes:
    """The prefix of each row."""
    names = np.frombuffer(rows["name"].tobytes(), np.uint8).reshape(len(rows), 32)
    return names[:, :8].copy().view(">u8").reshape(len(rows)).astype(np.uint64)


def located(stored: memoryview, at: int, record: Callable[[int], PackRecord]) -> Location:
    """The row at a byte of stored rows, as a place in the pack that its number stands for."""
    _, pack, offset, length, raw_length, codec, base = _FIELDS.unpack_from(stored, at)
    return Location(record(pack), offset, length, raw_length, codec, base)


class MemoryRun:
    """A run in memory, of rows in any order; of one name, those that came first are found first."""

    def __init__(self, packs: Sequence[Told], rows: Rows) -> None:
        prefixes = prefixes_of(rows)
        order = np.argsort(prefixes, kind="stable")
        self._packs = packs
        self._rows = rows[order]
        self._prefixes = prefixes[order]
        self._stored = memoryview(self._rows.view(np.uint8).reshape(-1).data)

    def __len__(self) -> int:
        return len(self._rows)

    def packs(self) -> Sequence[Told]:
        """What is said of each pack."""
        return self._packs

    def find(self, name: bytes) -> Iterator[Location]:
        """Every place of a chunk."""
        prefix = prefix_of(name)
        at = int(np.searchsorted(self._prefixes, prefix))
        while at < len(self._rows) and self._prefixes[at] == prefix:
            start = at * ROW.itemsize
            if self._stored[start : start + len(name)] == name:
                yield located(self._stored, start, lambda number: self._packs[number].record)
            at += 1

    def between(self, first: int, last: int) -> Rows:
        """The rows whose prefix lies between these two, both included."""
        start = np.searchsorted(self._prefixes, np.uint64(first), "left")
        end = np.searchsorted(self._prefixes, np.uint64(last), "right")
        return self._rows[start:end]


class Merge:
    """Runs as one: the packs that ``wanted`` leaves of them, and their rows by name, a window at a time."""

    def __init__(self, runs: Iterable[Run], wanted: Callable[[Told], bool] = lambda one: True) -> None:
        self.packs: list[Told] = []
        self._parts = [(run, self._numbers(run, wanted)) for run in runs]

    def _numbers(self, run: Run, wanted: Callable[[Told], bool]) -> npt.NDArray[np.int64]:
        """The number of each of a run's packs among all, and -1 for one that is left out."""
        packs = run.packs()
        numbers = np.full(len(packs), -1, np.int64)
        for at, one in enumerate(packs):
            if wanted(one):
                numbers[at] = len(self.packs)
                self.packs.append(one)
        return numbers

    def _gathered(self, first: int, last: int) -> Rows:
        """The rows whose prefix lies between these two, run by run."""
        parts = [np.zeros(0, ROW)]
        for run, numbers in self._parts:
            rows = run.between(first, last).copy()
            given = numbers[rows["pack"]]
            rows["pack"] = np.maximum(given, 0)
            parts.append(rows[given >= 0])
        return np.concatenate(parts)

    def windows(self, rows_max: int) -> Iterator[Rows]:
        """All rows in order, about ``rows_max`` at a time: names are hashes, so they lie evenly."""
        count = -(-sum(len(run) for run, _ in self._parts) // rows_max) or 1
        bounds = [PREFIX_MAX * number // count for number in range(count + 1)]
        for number in range(count):
            last = bounds[number + 1] - (number + 1 < count)
            rows = self._gathered(bounds[number], last)
            yield rows[np.argsort(prefixes_of(rows), kind="stable")]

    def in_memory(self) -> MemoryRun:
        """All of it as one run in memory."""
        return MemoryRun(self.packs, self._gathered(0, PREFIX_MAX))
