"""Where each chunk lies: index objects as they are stored, and all of them in memory as sorted arrays.

The content of an index object (sealed and signed, see ``seal``) is, big-endian:

    size   field
    4      number of packs
    and for each pack
    32     its name
    8      its size in bytes
    16     id of the content key of its records; zero: the catalogue key
    4      number of entries
    84 n   entries, as in the pack's directory

Everything in it can be read from the packs themselves; it spares a recovery from reading each of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from refloat.vault.keys import Keyring
from refloat.vault.layout import damaged
from refloat.vault.pack import ENTRY, KEY_ID_BYTES, Directory, PackRecord, parse_entries
from refloat.vault.seal import Kind, open_signed, seal_signed

RECENT_ROWS_MAX = 4096  # rows that are sorted again with every addition, before they join the rest
_COUNT = struct.Struct(">I")
_PACK = struct.Struct(f">32sQ{KEY_ID_BYTES}sI")
_ROW = np.dtype(
    [
        ("name", "V32"),
        ("pack", "u4"),
        ("offset", "u8"),
        ("stored", "u4"),
        ("raw", "u4"),
        ("codec", "u1"),
        ("base", "V32"),
    ]
)


@dataclass(frozen=True)
class Location:
    """Where one chunk lies: ``stored_length`` bytes at ``offset`` of ``pack`` hold ``raw_length`` bytes."""

    pack: PackRecord
    offset: int
    stored_length: int
    raw_length: int
    codec: int
    base: bytes


def seal_index(keyring: Keyring, packs: Sequence[tuple[PackRecord, Directory]]) -> bytes:
    """The index object of one flush of packs. Raises ``WrongKey`` without the writer's role."""
    parts = [_COUNT.pack(len(packs))]
    for record, directory in packs:
        rows = directory.entries
        parts.append(_PACK.pack(bytes.fromhex(record.name), record.size, record.key_id, len(rows)))
        parts.append(rows.tobytes())
    return seal_signed(keyring, Kind.INDEX, b"".join(parts))


def open_index(
    keyring: Keyring, name: str, stored: bytes, *, what: str
) -> list[tuple[PackRecord, Directory]]:
    """The packs of an index object and their directories, verified. Raises ``Damaged``."""
    writer, content = open_signed(keyring, Kind.INDEX, name, stored, what=what)
    try:
        return _parse(content, writer, what=what)
    except struct.error:
        raise damaged(what, "it ends in the middle of an entry") from None


def _parse(content: bytes, writer: str, *, what: str) -> list[tuple[PackRecord, Directory]]:
    (count,) = _COUNT.unpack_from(content)
    at = _COUNT.size
    packs: list[tuple[PackRecord, Directory]] = []
    for _ in range(count):
        name, size, key_id, rows = _PACK.unpack_from(content, at)
        at += _PACK.size
        end = at + rows * ENTRY.itemsize
        entries = parse_entries(content[at:end], what=what)
        if len(entries) != rows or (rows and int((entries["offset"] + entries["stored"]).max()) > size):
            raise damaged(what, f"it lists chunks beyond the end of pack {name.hex()}")
        packs.append((PackRecord(name.hex(), size, key_id, writer), Directory(key_id, entries)))
        at = end
    if at != len(content):
        raise damaged(what, "it is longer than what it lists")
    return packs


class _Sorted:
    """Rows sorted by the first eight bytes of the chunk name, which are kept beside them."""

    def __init__(self, rows: npt.NDArray[np.void] | None = None) -> None:
        rows = np.zeros(0, _ROW) if rows is None else rows
        prefixes = _prefixes(rows)
        order = np.argsort(prefixes, kind="stable")
        self.prefixes = prefixes[order]
        self.rows = rows[order]

    def __len__(self) -> int:
        return len(self.rows)

    def find(self, name: bytes, prefix: np.uint64) -> Iterator[np.void]:
        at = int(np.searchsorted(self.prefixes, prefix))
        while at < len(self.rows) and self.prefixes[at] == prefix:
            row = cast(np.void, self.rows[at])
            if row["name"].tobytes() == name:
                yield row
            at += 1


def _prefixes(rows: npt.NDArray[np.void]) -> npt.NDArray[np.uint64]:
    names = np.frombuffer(rows["name"].tobytes(), np.uint8).reshape(len(rows), 32)
    return names[:, :8].copy().view(">u8").reshape(len(rows)).astype(np.uint64)


class Index:
    """Every chunk that a replica holds, in two sorted arrays of 85 bytes a row: a large one, a recent one."""

    def __init__(self) -> None:
        self._packs: list[PackRecord] = []
        self._numbers: dict[str, int] = {}
        self._main = _Sorted()
        self._recent = _Sorted()

    def __len__(self) -> int:
        return len(self._main) + len(self._recent)

    @property
    def packs(self) -> Sequence[PackRecord]:
        """The packs that it knows, in the order in which they were added."""
        return tuple(self._packs)

    def knows(self, pack: str) -> bool:
        """Whether a pack's chunks are in it."""
        return pack in self._numbers

    def add(self, packs: Iterable[tuple[PackRecord, Directory]]) -> None:
        """Take in packs with their directories; those that it knows already are left as they are."""
        added = [self._rows(record, directory) for record, directory in packs if not self.knows(record.name)]
        if not added:
            return
        recent = _Sorted(np.concatenate([self._recent.rows, *added]))
        if len(recent) > RECENT_ROWS_MAX:
            self._main = _Sorted(np.concatenate([self._main.rows, recent.rows]))
            recent = _Sorted()
        self._recent = recent

    def _rows(self, record: PackRecord, directory: Directory) -> npt.NDArray[np.void]:
        self._numbers[record.name] = len(self._packs)
        self._packs.append(record)
        rows = np.zeros(len(directory.entries), _ROW)
        for column in ("name", "offset", "stored", "raw", "codec", "base"):
            rows[column] = directory.entries[column]
        rows["pack"] = self._numbers[record.name]
        return rows

    def locations(self, name: bytes) -> Iterator[Location]:
        """Every place where a chunk lies, the oldest first."""
        prefix = np.uint64(int.from_bytes(name[:8], "big"))
        for rows in (self._main, self._recent):
            for row in rows.find(name, prefix):
                yield self._location(row)

    def lookup(self, name: bytes) -> Location | None:
        """The first place where a chunk lies; None where it is unknown."""
        return next(self.locations(name), None)

    def _location(self, row: np.void) -> Location:
        pack = self._packs[int(row["pack"])]
        offset, stored, raw = int(row["offset"]), int(row["stored"]), int(row["raw"])
        return Location(pack, offset, stored, raw, int(row["codec"]), row["base"].tobytes())
