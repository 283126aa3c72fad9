"""Seams as values: the spans that a format's header tells of, and the segments that become chunks.

A span is only a hint where to cut: segments always tile the file, so what is restored is the file, whatever a header
said. That sharing chunks needs seams at the tensors is from Xia et al., see ``fastcdc``, and from measurement.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from refloat.limits import KIB, MIB

PIECE_BYTES = 4 * MIB  # measured best for checkpoints, see ``CHUNK_BYTES_AVG``
SPANS_MAX = 200_000  # large checkpoints have 100,000 tensors; each takes some microseconds of Python
SMALL_BYTES = 256 * KIB  # shorter spans are joined: each chunk costs fixed work and a line in the index
JOINED_BYTES_MAX = 1 * MIB  # a change of one bias rewrites no more than this
PADDING_BYTES_MAX = 64  # a gap shorter than this is alignment, no content of its own
ASKEW_BYTES_MAX = 16 * KIB  # elements out of step are joined all the same below this: little is lost
NAME_CHARS_MAX = 1024  # longer is no name of a tensor, and each segment would carry it
WIDTHS = (1, 2, 4, 8)


class RandomAccess(Protocol):
    """What a segmenter needs of a file."""

    @property
    def size(self) -> int:
        """How long the file is, in bytes."""

    def read_at(self, start: int, length: int) -> bytes:
        """``length`` bytes from ``start`` on; fewer where the file ends."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of bytes that belongs together, as a format's header says.

    ``width`` is the length of an element in bytes, 1 where it is unknown. ``name`` is the same for the same tensor
    in another file of the same model; a span without a name is never joined with its neighbours.
    """

    start: int
    length: int
    width: int = 1
    name: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of bytes that will be one chunk. ``key`` is unique within the file, or empty."""

    start: int
    length: int
    width: int = 1
    key: str = ""


@dataclass(slots=True)
class _Run:
    """Small neighbours that become one segment: ``[start, end)``; ``of`` is the width that all of them have."""

    start: int
    end: int
    of: int
    width: int
    name: str
    count: int = 1

    def takes(self, span: Span) -> bool:
        """Whether ``span``, which comes next, is joined."""
        askew = (span.start - self.start) % self.of != 0
        return (
            _is_small(span)
            and span.width == self.of
            and span.start - self.end < PADDING_BYTES_MAX
            and span.start + span.length - self.start <= JOINED_BYTES_MAX
            and (not askew or span.length < ASKEW_BYTES_MAX)
        )

    def add(self, span: Span) -> None:
        """Join ``span``; elements out of step with the first ones have no width any more."""
        if (span.start - self.start) % self.of:
            self.width = 1
        self.end = span.start + span.length
        self.count += 1

    def segment(self) -> Segment:
        """What has been joined."""
        key = f"{self.name}+{self.count - 1}" if self.count > 1 else self.name
        return Segment(self.start, self.end - self.start, self.width, key)


def read_exactly(file: RandomAccess, start: int, length: int) -> bytes:
    """``length`` bytes from ``start`` on. Raises ``ValueError`` where the file does not have them."""
    if start < 0 or length < 0 or start + length > file.size:
        raise ValueError("a header points outside the file")
    content = file.read_at(start, length)
    if len(content) != length:
        raise ValueError("the file ends early")
    return content


def cut(spans: Sequence[Span], size: int, *, piece_bytes: int = PIECE_BYTES) -> list[Segment]:
    """Segments of at most ``piece_bytes`` that tile ``[0, size)``, cut at the seams that ``spans`` tell of.

    The same spans always give the same segments. A longer span is cut at multiples of ``piece_bytes`` from its start,
    short named neighbours of one width are joined, and gaps become segments without a key; so does what has the key
    of another before it. Raises ``ValueError`` when spans are out of order, overlap, or leave the file.
    """
    if piece_bytes <= 0 or piece_bytes % max(WIDTHS):
        raise ValueError(f"pieces of {piece_bytes} bytes would split elements")
    _check(spans, size)
    return _with_unique_keys(_segments(spans, size, piece_bytes))


def _check(spans: Sequence[Span], size: int) -> None:
    if len(spans) > SPANS_MAX:
        raise ValueError(f"more than {SPANS_MAX} spans")
    end = 0
    for span in spans:
        if span.width not in WIDTHS:
            raise ValueError(f"no element is {span.width} bytes wide")
        if span.start < end or span.length < 0:
            raise ValueError("spans overlap or are out of order")
        end = span.start + span.length
    if end > size:
        raise ValueError("a span leaves the file")


def _segments(spans: Sequence[Span], size: int, piece_bytes: int) -> Iterator[Segment]:
    at = 0
    for span in _joined(spans, piece_bytes):
        yield from _pieces(Span(at, span.start - at), piece_bytes)
        yield from _pieces(span, piece_bytes)
        at = span.start + span.length
    yield from _pieces(Span(at, size - at), piece_bytes)


def _joined(spans: Sequence[Span], piece_bytes: int) -> Iterator[Span | Segment]:
    run: _Run | None = None
    for span in spans:
        if span.length == 0:
            continue
        if run is not None and run.takes(span) and span.start + span.length - run.start <= piece_bytes:
            run.add(span)
            continue
        if run is not None:
            yield run.segment()
        run = None
        if _is_small(span):
            run = _Run(span.start, span.start + span.length, span.width, span.width, span.name)
        else:
            yield span
    if run is not None:
        yield run.segment()


def _is_small(span: Span) -> bool:
    return span.name != "" and span.length < SMALL_BYTES


def _pieces(whole: Span | Segment, piece_bytes: int) -> Iterator[Segment]:
    name = whole.name if isinstance(whole, Span) else whole.key
    for piece, at in enumerate(range(0, whole.length, piece_bytes)):
        key = f"{name}#{piece}" if name and whole.length > piece_bytes else name
        yield Segment(whole.start + at, min(piece_bytes, whole.length - at), whole.width, key)


def _with_unique_keys(segments: Iterator[Segment]) -> list[Segment]:
    seen: set[str] = set()
    unique = []
    for segment in segments:
        known = segment.key in seen or len(segment.key) > NAME_CHARS_MAX
        if known:
            segment = Segment(segment.start, segment.length, segment.width)
        seen.add(segment.key)
        unique.append(segment)
    return unique
