"""What a tensor may be stored as the difference from: the same tensor in an earlier file of its component.

Files whose paths differ only in numbers are a series, as those of checkpoints are (``step-100/model.pt``). A file that
is the first of its series may be another one's offspring, as a fine-tuned model is: then any earlier file will do.
The bytes of a base are taken from the earlier file itself, where it still lies beside the new one, and else from the
vault, where this key may read it. Either way they are held against the base's name: a wrong guess costs a read, and is
never stored.

A base is a chunk that rests on nothing itself wherever one can be had, so that any tensor is opened with one more
read, however long its series is.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from refloat.vault.chunk import Base
from refloat.vault.layout import Chunking
from refloat.vault.segmenters import OpenFile, Piece, layout

FILES_LOOKED_AT_MAX = 16  # in the snapshot before: a base is nearly always in the newest
STORED_CHUNKS_MAX = 16  # fetched for a header alone
_NUMBER = re.compile(r"\d+")

_Key = tuple[str, int, int]
"""The key, length and width of a piece."""


@dataclass(frozen=True)
class EarlierFile:
    """A file that the vault has: where it lay in the component, its size and its chunks in order."""

    path: str
    size: int
    mtime_ns: int
    chunks: tuple[bytes, ...]


@dataclass(frozen=True)
class _Place:
    file: Path
    start: int
    length: int


class Bases:
    """The bases of one component's capture. Its own thread asks for them; what it is given is read by others.

    ``earlier`` lists the files of the snapshot before. ``rests_on`` says what a stored chunk rests on, ``name_of`` what
    a chunk of these bytes is called, and ``fetch`` gives a chunk's bytes out of the vault, or None.
    """

    def __init__(
        self,
        chunking: Chunking,
        earlier: Callable[[], Iterator[EarlierFile]],
        rests_on: Callable[[bytes], bytes | None],
        name_of: Callable[[bytes], bytes],
        fetch: Callable[[bytes], bytes | None],
    ) -> None:
        self._chunking = chunking
        self._earlier = earlier
        self._rests_on = rests_on
        self._name_of = name_of
        self._fetch = fetch
        self._latest: dict[str, dict[_Key, bytes]] = defaultdict(dict)
        self._anywhere: dict[_Key, bytes] = {}
        self._places: dict[bytes, _Place] = {}
        self._series_seen: set[str] = set()
        self._by_series: dict[str, list[EarlierFile]] | None = None

    def of(self, path: str, piece: Piece, source: Path | None) -> Callable[[], Base | None] | None:
        """How to get the base of a piece of a file; None where nothing earlier is known of it."""
        if not piece.key:
            return None
        series = _series(path)
        self._see(series, path, source)
        key = (piece.key, len(piece.raw), piece.width)
        name = self._latest[series].get(key) or self._anywhere.get(key)
        return None if name is None else lambda: self._load(name, len(piece.raw))

    def stored(self, path: str, piece: Piece, length: int, name: bytes, source: Path | None) -> None:
        """A piece of a file, ``length`` bytes, is in the vault, and may be the base of what comes."""
        if not piece.key:
            return
        self._latest[_series(path)][piece.key, length, piece.width] = name
        self._anywhere[piece.key, length, piece.width] = name
        if source is not None:
            self._places.setdefault(name, _Place(source, piece.start, length))

    def _load(self, name: bytes, length: int) -> Base | None:
        """The chunk that this one rests on, else itself; None where its bytes are not to be had."""
        for each in filter(None, (self._rests_on(name), name)):
            raw = self._read(each)
            if raw is None:
                raw = self._fetch(each)
            if raw is not None and len(raw) == length:
                return Base(each, raw)
        return None

    def _read(self, name: bytes) -> bytes | None:
        place = self._places.get(name)
        if place is None:
            return None
        with suppress(OSError), place.file.open("rb", buffering=0) as file:
            raw = OpenFile(file.fileno()).read_at(place.start, place.length)
            if self._name_of(raw) == name:
                return raw
        return None

    # ------------------------------------------------------------------------------- the snapshot before

    def _see(self, series: str, path: str, source: Path | None) -> None:
        """Learn what the earlier files of a series hold, once."""
        if series in self._series_seen:
            return
        self._series_seen.add(series)
        if self._by_series is None:
            self._by_series = {}
            for file in self._earlier():
                self._by_series.setdefault(_series(file.path), []).append(file)
        found = self._by_series.get(series) or [file for each in self._by_series.values() for file in each]
        oldest_first = sorted(found, key=lambda file: (file.mtime_ns, file.path))
        for file in oldest_first[-FILES_LOOKED_AT_MAX:]:
            self._learn(series, file, _beside(source, path, file.path))

    def _learn(self, series: str, file: EarlierFile, source: Path | None) -> None:
        """Which chunk of an earlier file is which tensor, as its header says, there or in the vault."""
        found = None
        if source is not None:
            with suppress(OSError, ValueError), source.open("rb", buffering=0) as there:
                opened = OpenFile(there.fileno())
                found = layout(opened, self._chunking) if opened.size == file.size else None
        if found is None or len(found[1]) != len(file.chunks):
            source = None
            with suppress(ValueError):
                found = layout(_Stored(file, self._fetch), self._chunking)
        if found is None or len(found[1]) != len(file.chunks):
            return
        for segment, name in zip(found[1], file.chunks, strict=True):
            if segment.key:
                self._latest[series][segment.key, segment.length, segment.width] = name
                if source is not None:
                    self._places[name] = _Place(source, segment.start, segment.length)


class _Stored:
    """A file in the vault, as far as its header: chunks are fetched in order, and the last ones from the end."""

    def __init__(self, file: EarlierFile, fetch: Callable[[bytes], bytes | None]) -> None:
        self.size = file.size
        self._names = file.chunks
        self._fetch = fetch
        self._head: list[bytes] = []
        self._tail: list[bytes] = []

    def read_at(self, start: int, length: int) -> bytes:
        """Bytes near the beginning or the end. Raises ``ValueError`` for others, and where nothing can be fetched."""
        end = min(start + length, self.size)
        if start < self.size // 2:
            self._extend(self._head, self._names, end)
            return b"".join(self._head)[start:end]
        self._extend(self._tail, self._names[::-1], self.size - start)
        tail = b"".join(reversed(self._tail))
        at = start - (self.size - len(tail))
        return tail[at : at + end - start]

    def _extend(self, parts: list[bytes], names: tuple[bytes, ...], length: int) -> None:
        while sum(map(len, parts)) < length:
            if len(parts) >= STORED_CHUNKS_MAX:
                raise ValueError("its header is too far inside")
            raw = self._fetch(names[len(parts)]) if len(parts) < len(names) else None
            if raw is None:
                raise ValueError("its header cannot be read")
            parts.append(raw)


def _series(path: str) -> str:
    return _NUMBER.sub("#", path)


def _beside(source: Path | None, path: str, other: str) -> Path | None:
    """Where another path of the component lies on the disk, when ``path`` lies at ``source``."""
    if source is None:
        return None
    names, there = PurePosixPath(path).parts, source.parts
    common = 0
    while common < min(len(names), len(there)) and names[-1 - common] == there[-1 - common]:
        common += 1
    inside = PurePosixPath(other).parts
    above = names[: len(names) - common]
    if not common or inside[: len(above)] != above:
        return None
    return Path(*there[: len(there) - common], *inside[len(above) :])


def path_of(descriptor: int) -> Path | None:
    """Where an open file lies; None where the system does not say."""
    try:
        return Path(f"/proc/self/fd/{descriptor}").readlink()
    except OSError:
        return None
