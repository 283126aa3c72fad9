"""Segmenter 6: SQLite databases, cut every so many whole pages.

https://www.sqlite.org/fileformat2.html#the_database_header. SQLite rewrites pages in place, so equal positions are
what two states of a database share. 256 KiB is a compromise: a change of a few pages rewrites no more than that for
each, and a database of a gigabyte takes 4,096 chunks, whose fixed work is small beside reading them. All page sizes
divide it.
"""

from __future__ import annotations

from refloat.limits import KIB
from refloat.vault.segmenters.spans import PIECE_BYTES, SPANS_MAX, RandomAccess, Span, read_exactly

ID = 6
NAME = "sqlite"

STRETCH_BYTES = 256 * KIB
MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_FRACTIONS = bytes((64, 32, 32))  # which the format fixes, at 21


def recognised(head: bytes, size: int) -> bool:
    """Whether a file of ``size`` bytes that starts with ``head`` is an SQLite database."""
    return head.startswith(MAGIC) and size >= 512


def spans(file: RandomAccess) -> list[Span]:
    """Stretches of whole pages, each named by its first. Raises ``ValueError`` for a header that cannot be."""
    page_bytes = _page_bytes(read_exactly(file, 0, _HEADER_BYTES))
    if file.size % page_bytes:
        raise ValueError(f"an SQLite database is not made of whole pages of {page_bytes} bytes")
    stretch = STRETCH_BYTES
    while file.size > stretch * SPANS_MAX:
        stretch *= 2
        if stretch > PIECE_BYTES:
            raise ValueError("an SQLite database is too large to cut at its pages")
    return [
        Span(start, min(stretch, file.size - start), 1, f"page {start // page_bytes + 1}")
        for start in range(0, file.size, stretch)
    ]


def _page_bytes(header: bytes) -> int:
    """The page size that stands at 16; 1 is 65,536."""
    if not header.startswith(MAGIC) or header[21:24] != _FRACTIONS:
        raise ValueError("an SQLite header is damaged")
    size = int.from_bytes(header[16:18], "big")
    size = 65536 if size == 1 else size
    if size < 512 or size & (size - 1):
        raise ValueError(f"an SQLite header tells of pages of {size} bytes")
    return size
