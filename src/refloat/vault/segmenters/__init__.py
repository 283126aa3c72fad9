"""The closed table of segmenters: where a file is cut into chunks.

The table is part of the vault format, although a reader needs none of it: chunks in order are the file.
``RESERVED`` ids belong to segmenters that the format has a place for and this version does not use.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Protocol, cast

from refloat.vault.layout import Chunking
from refloat.vault.segmenters import fastcdc

WHOLE = 0
FASTCDC = fastcdc.ID
SEGMENTERS: Mapping[int, str] = {WHOLE: "whole", FASTCDC: "fastcdc"}
RESERVED: Mapping[int, str] = {2: "safetensors", 3: "torch zip", 4: "npy", 5: "parquet", 6: "sqlite"}


class Readable(Protocol):
    """What a segmenter needs of a stream."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""


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


def segments(stream: Readable, chunking: Chunking) -> tuple[int, Iterator[bytes]]:
    """The segmenter that suits a stream, and the stream in its pieces, in order; none when it is empty."""
    head = _read_exactly(stream, chunking.min + 1)
    if len(head) <= chunking.min:
        return WHOLE, iter([head] if head else [])
    joined = cast(BinaryIO, _Joined(head, stream))
    cuts = fastcdc.cut(joined, minimum=chunking.min, average=chunking.avg, maximum=chunking.max)
    return FASTCDC, cuts
