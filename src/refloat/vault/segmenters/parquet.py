"""Segmenter 5: Parquet, whose footer says where each column chunk of each row group stands.

https://github.com/apache/parquet-format (``parquet.thrift``) and the Thrift compact protocol,
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md. Only the few fields that say where
the columns are are read; all others are walked over.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from refloat.limits import MIB
from refloat.vault.segmenters.spans import SPANS_MAX, RandomAccess, Span, read_exactly

ID = 5
NAME = "parquet"

MAGIC = b"PAR1"
ENCRYPTED = b"PARE"
FOOTER_BYTES_MAX = 16 * MIB  # about 100,000 column chunks with statistics
STEPS_MAX = 4_000_000  # fields and elements: 40 a column chunk; a million takes a second or two
DEPTH_MAX = 16  # the schema of the footer nests 8 deep
PATH_NAMES_MAX = 64  # names that lead to one column
VARINT_BYTES_MAX = 10
_TAIL_BYTES = 8

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_UUID = 13


def recognised(head: bytes, size: int) -> bool:
    """Whether a file of ``size`` bytes that starts with ``head`` is Parquet with a footer that can be read."""
    return head.startswith(MAGIC) and size >= 2 * len(MAGIC) + _TAIL_BYTES


def spans(file: RandomAccess) -> list[Span]:
    """The column chunks. Raises ``ValueError`` for a footer that is encrypted, damaged, or does not fit the file."""
    length, magic = struct.unpack("<I4s", read_exactly(file, file.size - _TAIL_BYTES, _TAIL_BYTES))
    if magic == ENCRYPTED:
        raise ValueError("the footer of a Parquet file is encrypted")
    if magic != MAGIC or length > FOOTER_BYTES_MAX:
        raise ValueError("a Parquet file has no footer, or one that is too long")
    footer = _Footer(read_exactly(file, file.size - _TAIL_BYTES - length, length))
    limit = file.size - _TAIL_BYTES - length
    found = sorted(footer.columns(), key=lambda span: (span.start, span.length))
    end = 0
    for span in found:
        if span.start < end:
            raise ValueError(f"column chunk {span.name[:80]!r} overlaps what is before it")
        end = span.start + span.length
    if end > limit:
        raise ValueError("a Parquet footer tells of more bytes than the file has")
    return [span for span in found if span.length]


@dataclass(slots=True)
class _Column:
    """What the footer says of one column chunk."""

    elsewhere: bool = False
    path: list[str] = field(default_factory=list)
    length: int = 0
    data_page: int = 0
    dictionary_page: int = 0

    def span(self, group: int) -> Span | None:
        """Where it stands; None for one in another file, or without metadata that can be read."""
        starts = [page for page in (self.dictionary_page, self.data_page) if page > 0]  # 0 is none
        if self.elsewhere or not starts:
            return None
        start = min(starts)
        if self.length < 0 or start + self.length > 2**62:
            raise ValueError("a Parquet footer has a length that is none")
        return Span(start, self.length, 1, f"{'.'.join(self.path)}/{group}")


class _Footer:
    """A walk over Thrift compact bytes, forward only: each step takes at least one byte, and depth is bounded."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0
        self._steps = 0
        self._found: list[Span] = []
        self._groups = 0

    def columns(self) -> list[Span]:
        """All column chunks, in the order of the footer."""
        self._struct({4: (_LIST, lambda: self._each(_STRUCT, self._row_group))})
        return self._found

    def _row_group(self) -> None:
        self._struct({1: (_LIST, lambda: self._each(_STRUCT, self._column_chunk))})
        self._groups += 1

    def _column_chunk(self) -> None:
        column = _Column()
        self._struct(
            {
                1: (_BINARY, lambda: self._elsewhere(column)),
                3: (_STRUCT, lambda: self._metadata(column)),
            }
        )
        if (span := column.span(self._groups)) is not None:
            self._found.append(span)
        if len(self._found) > SPANS_MAX:
            raise ValueError(f"a Parquet footer of more than {SPANS_MAX} column chunks")

    def _elsewhere(self, column: _Column) -> None:
        column.elsewhere = self._binary() != b""

    def _name(self, column: _Column) -> None:
        column.path.append(self._binary().decode())
        if len(column.path) > PATH_NAMES_MAX:
            raise ValueError("a Parquet column lies too deep")

    def _metadata(self, column: _Column) -> None:
        def numbers(name: str) -> tuple[int, Callable[[], None]]:
            return _I64, lambda: setattr(column, name, self._zigzag())

        self._struct(
            {
                3: (_LIST, lambda: self._each(_BINARY, lambda: self._name(column))),
                7: numbers("length"),
                9: numbers("data_page"),
                11: numbers("dictionary_page"),
            }
        )

    # ---------------------------------------------------------------------------------------- the compact protocol

    def _struct(self, wanted: dict[int, tuple[int, Callable[[], None]]], depth: int = 0) -> None:
        """Walk over a struct; a wanted field of the type it must have is read by its own reader."""
        self._step()
        for number, kind in self._fields():
            self._step()
            type_wanted, read = wanted.get(number, (0, None))
            if read is None:
                self._skip(kind, depth + 1)
            elif kind == type_wanted:
                read()
            else:
                raise ValueError("a Parquet footer has a field of another type")

    def _fields(self) -> Iterator[tuple[int, int]]:
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            yield number, head & 15

    def _each(self, kind_wanted: int, read: Callable[[], None]) -> None:
        kind, count = self._list_head()
        if count and kind != kind_wanted:
            raise ValueError("a Parquet footer has a list of another type")
        for _ in range(count):
            read()

    def _list_head(self) -> tuple[int, int]:
        head = self._byte()
        count = head >> 4
        if count == 15:
            count = self._varint()
        self._fits(count)  # each element takes a byte at least
        return head & 15, count

    def _step(self) -> None:
        self._steps += 1
        if self._steps > STEPS_MAX:
            raise ValueError(f"a Parquet footer of more than {STEPS_MAX} fields")

    def _skip(self, kind: int, depth: int) -> None:
        self._step()
        if depth > DEPTH_MAX:
            raise ValueError("a Parquet footer is nested too deeply")
        if kind in (_TRUE, _FALSE):
            return
        if kind == _BYTE:
            self._byte()
        elif kind in (_I16, _I32, _I64):
            self._varint()
        elif kind in (_DOUBLE, _UUID):
            self._take(8 if kind == _DOUBLE else 16)
        elif kind == _BINARY:
            self._binary()
        elif kind == _STRUCT:
            self._struct({}, depth)
        elif kind in (_LIST, _SET, _MAP):
            self._skip_all(kind, depth)
        else:
            raise ValueError("a Parquet footer has a field of no type")

    def _skip_all(self, kind: int, depth: int) -> None:
        if kind == _MAP:
            count = self._varint()
            self._fits(count)
            kinds = self._byte() if count else 0
            inner = [kinds >> 4, kinds & 15]
        else:
            one, count = self._list_head()
            inner = [one]
        for _ in range(count):
            for each in inner:
                self._skip(_BYTE if each in (_TRUE, _FALSE) else each, depth + 1)

    def _byte(self) -> int:
        self._fits(1)
        self._at += 1
        return self._raw[self._at - 1]

    def _varint(self) -> int:
        value = 0
        for place in range(VARINT_BYTES_MAX):
            byte = self._byte()
            value |= (byte & 127) << (7 * place)
            if byte < 128:
                return value
        raise ValueError("a Parquet footer has a number that does not end")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _binary(self) -> bytes:
        return self._take(self._varint())

    def _take(self, length: int) -> bytes:
        self._fits(length)
        self._at += length
        return self._raw[self._at - length : self._at]

    def _fits(self, length: int) -> None:
        if length > len(self._raw) - self._at:
            raise ValueError("a Parquet footer ends early")
