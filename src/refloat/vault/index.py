"""Where each chunk lies: index objects as they are stored, and all of them as sorted runs.

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

A prune leaves packs out of it that no point needs any more. The word of a writer is its own, so what counts instead is
the same object, whole, under the admin's signature (``Kind.REDUCED_INDEX``):

    4      number of packs that are left out
    32 n   their names, ascending
           the index object as its writer signed it
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, pairwise

from refloat.digest import object_name
from refloat.errors import Damaged
from refloat.limits import PACK_BYTES_MAX
from refloat.vault.chunk import BASES_MAX, NO_BASE
from refloat.vault.indexfile import FileRun, Shelf
from refloat.vault.indexrun import Location, MemoryRun, Merge, Run, Told, rows_of, told
from refloat.vault.keys import Keyring
from refloat.vault.layout import damaged
from refloat.vault.pack import ENTRY, KEY_ID_BYTES, Directory, Entries, PackRecord, parse_entries
from refloat.vault.seal import Kind, open_signed, seal_signed

GROWTH = 2  # how much larger a run is than the next, so that there are few of them
MEMORY_ROWS_MAX = 300_000  # 26 MB; more than that goes to the disk, where there is a place for it
SHELVED_ROWS_MIN = 50_000  # of fewer, the index objects are read from the vault as quickly
REDUCED_BYTES_MORE = 1024  # of a reduced index object beside these names and what is reduced, at most
LEFT_OUT_BYTES = 32  # of each pack that is left out: its name
_COUNT = struct.Struct(">I")
_PACK = struct.Struct(f">32sQ{KEY_ID_BYTES}sI")


def seal_index(keyring: Keyring, packs: Sequence[tuple[PackRecord, Directory]]) -> bytes:
    """The index object of one flush of packs.

    Raises ``WrongKey`` without the writer's role, ``Damaged`` for what ``open_index`` would not read.
    """
    content = index_content(packs)
    _parse(
        content, keyring.writer, what="the new index object"
    )  # by its own reader: nothing else is committed
    return seal_signed(keyring, Kind.INDEX, content)


def index_content(packs: Sequence[tuple[PackRecord, Directory]]) -> bytes:
    """What an index object of these packs says, before it is sealed."""
    parts = [_COUNT.pack(len(packs))]
    for record, directory in packs:
        rows = directory.entries
        parts.append(_PACK.pack(bytes.fromhex(record.name), record.size, record.key_id, len(rows)))
        parts.append(rows.tobytes())
    return b"".join(parts)


def open_index(
    keyring: Keyring, name: str, stored: bytes, *, what: str
) -> list[tuple[PackRecord, Directory]]:
    """The packs of an index object and their directories, verified. Raises ``Damaged``."""
    left_out, written = _as_written(keyring, name, stored, what=what)
    written_name = object_name(written) if left_out else name
    writer, content = open_signed(keyring, Kind.INDEX, written_name, written, what=what)
    try:
        packs = _parse(content, writer, what=what)
    except struct.error:
        raise damaged(what, "it ends in the middle of an entry") from None
    return [(record, directory) for record, directory in packs if record.name not in left_out]


def reduced_index(keyring: Keyring, name: str, stored: bytes, packs: Collection[str], *, what: str) -> bytes:
    """An index object that counts in the place of another, and leaves these packs out as well, by their names.

    The same bytes whenever it is made. Raises ``Damaged``, ``WrongKey`` without the admin's role.
    """
    left_out, written = _as_written(keyring, name, stored, what=what)
    names = [bytes.fromhex(pack) for pack in sorted({*left_out, *packs})]
    return seal_signed(keyring, Kind.REDUCED_INDEX, _COUNT.pack(len(names)) + b"".join(names) + written)


def _as_written(keyring: Keyring, name: str, stored: bytes, *, what: str) -> tuple[frozenset[str], bytes]:
    """The packs that the admin has left out of an index object, and that object as a writer signed it."""
    if not stored.startswith(Kind.REDUCED_INDEX.header):
        return frozenset(), stored
    _, content = open_signed(keyring, Kind.REDUCED_INDEX, name, stored, what=what)
    count = int.from_bytes(content[: _COUNT.size], "big")
    end = _COUNT.size + count * LEFT_OUT_BYTES
    names = [
        content[at : at + LEFT_OUT_BYTES].hex()
        for at in range(_COUNT.size, min(end, len(content)), LEFT_OUT_BYTES)
    ]
    if not names or end > len(content) or names != sorted(set(names)):
        raise damaged(what, "it does not say what is left out of it")
    return frozenset(names), content[end:]


def _parse(content: bytes, writer: str, *, what: str) -> list[tuple[PackRecord, Directory]]:
    (count,) = _COUNT.unpack_from(content)
    at = _COUNT.size
    packs: list[tuple[PackRecord, Directory]] = []
    for _ in range(count):
        name, size, key_id, rows = _PACK.unpack_from(content, at)
        at += _PACK.size
        end = at + rows * ENTRY.itemsize
        entries = parse_entries(content[at:end], what=what)
        if size > PACK_BYTES_MAX:
            raise damaged(what, f"it gives pack {name.hex()} an impossible size")
        if len(entries) != rows or _end(entries) > size:
            raise damaged(what, f"it lists chunks beyond the end of pack {name.hex()}")
        packs.append((PackRecord(name.hex(), size, key_id, writer), Directory(key_id, entries)))
        at = end
    if at != len(content):
        raise damaged(what, "it is longer than what it lists")
    return packs


def _end(entries: Entries) -> int:
    """Where the last of these records ends; an offset at the end of 64 bits does not come round to a small one."""
    if not len(entries):
        return 0
    furthest = int(entries["offset"].max())
    return furthest if furthest > PACK_BYTES_MAX else int((entries["offset"] + entries["stored"]).max())


def is_there(
    name: bytes,
    places: Callable[[bytes], Iterable[Location]],
    there: Callable[[Location], bool],
    depth: int = 0,
) -> bool:
    """Whether one of a chunk's ``places`` is ``there``, and one of what it rests on. ``depth`` chunks rest on it."""
    return depth <= BASES_MAX and any(
        there(place) and (place.base == NO_BASE or is_there(place.base, places, there, depth + 1))
        for place in places(name)
    )


class Index:
    """Every chunk that a replica holds, in sorted runs: large ones on a shelf, where there is one, the rest in memory.

    Threads may look something up while another one adds: runs are exchanged as a whole, and never change.
    """

    def __init__(self, shelf: Shelf | None = None) -> None:
        self._shelf = shelf
        self._files: list[FileRun] = shelf.runs() if shelf else []
        self._recent: list[MemoryRun] = []
        self._sources: set[str] = set()
        self._gone: set[str] = set()
        self._again: dict[bytes, set[str]] = {}
        self._digests: set[bytes] | None = None
        self._names: set[str] | None = None
        self._expose()

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    @property
    def packs(self) -> Sequence[PackRecord]:
        """The packs that it knows, in the order in which they were added; what two objects tell of one, twice."""
        recent = (one.record for run in self._recent for one in run.packs())
        return (*chain.from_iterable(run.counting() for run in self._files), *recent)

    @property
    def sources(self) -> set[str]:
        """The names of the index objects that are in it."""
        return self._sources.union(*(run.sources for run in self._files))

    def listing(self, packs: Collection[str]) -> set[frozenset[str]]:
        """For each thing that is told of these packs, the names of the index objects that tell it."""
        told_of = (one for run in self._runs for one in run.packs() if one.record.name in packs)
        by = ({one.source, *self._again.get(one.digest, ())} - self._gone - {""} for one in told_of)
        return {frozenset(sources) for sources in by if sources}

    def knows(self, pack: str) -> bool:
        """Whether a pack's chunks are in it."""
        if self._names is None:
            self._names = {record.name for record in self.packs}
        return pack in self._names

    def add(self, packs: Iterable[tuple[PackRecord, Directory]], source: str = "") -> None:
        """Take in packs with their directories, each once, from the index object of this name.

        Where two index objects say different things of a pack, both are kept: reading tries each, so that one
        that lies hides nothing that another tells.
        """
        added: list[Told] = []
        directories: list[Directory] = []
        for record, directory in packs:
            one = told(record, directory, source)
            if self._is_new(one):
                added.append(one)
                directories.append(directory)
            elif source:
                self._again.setdefault(one.digest, set()).add(source)
        if source:
            self._sources.add(source)
        if added:
            self._recent.append(MemoryRun(added, rows_of(directories)))
            while len(self._recent) > 1 and len(self._recent[-2]) < GROWTH * len(self._recent[-1]):
                self._recent[-2:] = [Merge(self._recent[-2:]).in_memory()]
            self._expose()
        if self._shelf is not None and sum(map(len, self._recent)) > MEMORY_ROWS_MAX:
            self._put_on(self._shelf)

    def _is_new(self, one: Told) -> bool:
        if self._digests is None:
            recent = (one.digest for run in self._recent for one in run.packs())
            self._digests = set(recent).union(*(run.told() for run in self._files))
        if one.digest in self._digests:
            return False
        self._digests.add(one.digest)
        if self._names is not None:
            self._names.add(one.record.name)
        return True

    def _expose(self) -> None:
        self._runs: tuple[Run, ...] = (*self._files, *self._recent)

    # -------------------------------------------------------------------------------------------- on the shelf

    def let_count(self, listed: Collection[str]) -> None:
        """Let of the index objects on the shelf only those count that are ``listed``, as they are in the vault."""
        self._gone = set().union(*(run.sources for run in self._files)).difference(listed)
        if sum(run.let_count(listed) for run in self._files):
            self._digests = self._names = None
            self._sources = {
                one.source for run in self._recent for one in run.packs()
            }  # others may say the same

    def settle(self) -> None:
        """Put on the shelf what is large, and merge what lies there where that makes it few runs."""
        if self._shelf is None:
            return
        if sum(map(len, self._recent)) >= SHELVED_ROWS_MIN:
            self._put_on(self._shelf)
        worn = [run for run in self._files if run.worn]
        rest = sorted((run for run in self._files if not run.worn), key=len)
        alike = [at + 1 for at, (one, larger) in enumerate(pairwise(rest)) if len(larger) < GROWTH * len(one)]
        merged = worn + (rest[: alike[-1] + 1] if alike else [])
        if merged:
            self._rewrite(self._shelf, [run for run in self._files if run in merged])

    def _put_on(self, shelf: Shelf) -> None:
        """Write to the shelf what index objects say; what only packs say of themselves stays in memory."""
        merge = Merge(self._recent, lambda one: bool(one.source))
        file = shelf.put(merge) if merge.packs else None
        if file is not None:
            rest = Merge(self._recent, lambda one: not one.source).in_memory()
            self._files = [*self._files, file]
            self._recent = [rest] if len(rest) else []
            self._sources.difference_update(file.sources)
            self._expose()

    def _rewrite(self, shelf: Shelf, files: list[FileRun]) -> None:
        """Put one run in the place of some, without what does not count any more."""
        try:
            file = shelf.put(Merge(files, lambda one: one.source not in self._gone))
        except Damaged:
            for run in files:
                self._lose(run)
            return
        if file is not None:
            self._files = [run for run in self._files if run not in files] + [file]
            self._expose()
            for run in files:
                shelf.drop(run)

    def _lose(self, run: FileRun) -> None:
        """Do without a run that is not what was written: what it said is read from the vault again."""
        if self._shelf is not None and run in self._files:
            self._shelf.drop(run)
            self._files = [other for other in self._files if other is not run]
            self._digests = self._names = None
            self._expose()

    # -------------------------------------------------------------------------------------------- looking up

    def locations(self, name: bytes) -> Iterator[Location]:
        """Every place where a chunk lies, the oldest first."""
        for run in self._runs:
            try:
                yield from run.find(name)
            except (Damaged, OSError):
                if isinstance(run, FileRun):
                    self._lose(run)

    def with_bases(self, names: Iterable[bytes]) -> Iterator[bytes]:
        """These chunks, and those that one of their places rests on, each once."""
        seen: set[bytes] = set()
        for name in names:
            left = [name]
            while left:
                if (name := left.pop()) not in seen:
                    seen.add(name)
                    yield name
                    left += [place.base for place in self.locations(name) if place.base != NO_BASE]

    def lookup(self, name: bytes) -> Location | None:
        """The first place where a chunk lies; None where it is unknown."""
        return next(self.locations(name), None)
