"""Segmenter 1: FastCDC with normalized chunking, for files whose format has no seams that we know.

Xia et al., The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems,
https://ieeexplore.ieee.org/document/9055082.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from pyfastcdc import FastCDC

ID = 1


def cut(stream: BinaryIO, *, minimum: int, average: int, maximum: int) -> Iterator[bytes]:
    """The stream in pieces of ``minimum`` to ``maximum`` bytes (the last may be shorter).

    Equal runs of bytes are cut alike wherever they stand in a stream. At most two pieces are in memory.
    """
    cutter = FastCDC(average, min_size=minimum, max_size=maximum)
    for piece in cutter.cut_stream(stream):
        yield bytes(piece.data)  # the library reuses its buffer for the next piece
