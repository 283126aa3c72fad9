"""The closed table of segmenters: where a file is cut into chunks.

The table is part of the vault format, although a reader needs none of it: chunks in order are the file.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import BinaryIO, Protocol, cast

from refloat.limits import KIB
from refloat.vault.layout import Chunking
from refloat.vault.segmenters import fastcdc, npy, parquet, safetensors, sqlite, torch_zip
from refloat.vault.segmenters.spans import PIECE_BYTES, WIDTHS, RandomAccess, Segment, cut

WHOLE = 0
FASTCDC = fastcdc.ID
FORMATS: tuple[ModuleType, ...] = (safetensors, torch_zip, npy, parquet, sqlite)
SEGMENTERS: Mapping[int, str] = {
    WHOLE: "whole",
    FASTCDC: "fastcdc",
    **{format.ID: format.NAME for format in FORMATS},
}
HEAD_BYTES = 4 * KIB  # what a format is recognised by


class Readable(Protocol):
    """What a segmenter needs of a stream."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""


@dataclass(frozen=True)
class Piece:
    """What becomes one chunk: its bytes, how many of them an element has, and what it is called in its file.

    ``start`` is where it stands in the file; ``key`` is empty where it has no name.
    """

    raw: bytes
    start: int
    width: int = 1
    key: str = ""


@dataclass(frozen=True)
class Cut:
    """A stream in its pieces, in order, and the segmenter that cut it. ``refused`` is why its own was not used."""

    segmenter: int
    pieces: Iterator[Piece]
    refused: str = ""


class OpenFile:
    """A file as segmenters read it, by a descriptor that stays the caller's."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read_at(self, start: int, length: int) -> bytes:
        """``length`` bytes from ``start`` on; fewer where the file ends."""
        parts: list[bytes] = []
        while length > 0 and (part := os.pread(self._descriptor, length, start)):
            parts.append(part)
            start, length = start + len(part), length - len(part)
        return b"".join(parts)


class _Joined(io.RawIOBase):
    """What was read already, then the rest of the stream."""

    def __init__(self, head: bytes, rest: Readable) -> None:
        self._head = memoryview(head)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer is wider
        piece = self._head[: len(buffer)] if self._head else self._rest.read(len(buffer))
        self._head = self._head[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)


def _read_exactly(stream: Readable, length: int) -> bytes:
    parts: list[bytes] = []
    while length > 0 and (part := stream.read(length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def layout(file: RandomAccess, chunking: Chunking) -> tuple[int, list[Segment]] | None:
    """The segmenter of a file's format and its segments; None where no format has seams that we know.

    Raises ``ValueError`` with the reason where a file has the beginning of a format and not the rest.
    """
    if file.size <= chunking.min:
        return None
    head = file.read_at(0, HEAD_BYTES)
    for format in FORMATS:
        if format.recognised(head, file.size):
            return format.ID, cut(format.spans(file), file.size, piece_bytes=_piece_bytes(chunking))
    return None


def _piece_bytes(chunking: Chunking) -> int:
    return min(PIECE_BYTES, chunking.max // max(WIDTHS) * max(WIDTHS))


def segments(stream: Readable, chunking: Chunking, file: RandomAccess | None = None) -> Cut:
    """A stream in its pieces; none when it is empty. ``file`` is where the same bytes can be looked at before."""
    refused = ""
    try:
        found = None if file is None else layout(file, chunking)
    except ValueError as error:
        found, refused = None, str(error)
    if found is not None:
        return Cut(found[0], _at_seams(stream, found[1], chunking.max))
    head = _read_exactly(stream, chunking.min + 1)
    if len(head) <= chunking.min:
        return Cut(WHOLE, iter([Piece(head, 0)] if head else []), refused)
    joined = cast(BinaryIO, _Joined(head, stream))
    cuts = fastcdc.cut(joined, minimum=chunking.min, average=chunking.avg, maximum=chunking.max)
    return Cut(FASTCDC, _numbered(cuts), refused)


def _numbered(cuts: Iterator[bytes]) -> Iterator[Piece]:
    start = 0
    for raw in cuts:
        yield Piece(raw, start)
        start += len(raw)


def _at_seams(stream: Readable, found: list[Segment], longest: int) -> Iterator[Piece]:
    """The stream at these seams. It may have become shorter, or longer, since they were looked up."""
    end = 0
    for segment in found:
        raw = _read_exactly(stream, segment.length)
        end = segment.start + len(raw)
        if len(raw) < segment.length:
            if raw:
                yield Piece(raw, segment.start)
            return
        yield Piece(raw, segment.start, segment.width, segment.key)
    while raw := _read_exactly(stream, longest):
        yield Piece(raw, end)
        end += len(raw)
