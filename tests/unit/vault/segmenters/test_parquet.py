"""Parquet is cut at its column chunks; a footer that lies is refused, in little time and memory."""

from __future__ import annotations

import io
import struct
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refloat.testing.memory_file import Held
from refloat.vault.segmenters import parquet
from refloat.vault.segmenters.parquet import FOOTER_BYTES_MAX, ID, recognised, spans
from refloat.vault.segmenters.spans import Span, cut


def written(table: pa.Table, **options: object) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream.getvalue()


def table(rows: int = 1000) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(range(rows), pa.int64()),
            "text": pa.array([f"text {row % 7}" for row in range(rows)]),
            "vector": pa.array([[1.0, 2.0]] * rows, pa.list_(pa.float32())),
            "inner": pa.array([{"a": row, "b": None} for row in range(rows)]),
        }
    )


WHOLE = written(table(), row_group_size=400)


@pytest.mark.parametrize("compression", ["none", "zstd", "snappy"])
@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("version", ["1.0", "2.6"])
def test_each_column_chunk_is_a_span(compression: str, dictionary: bool, version: str) -> None:
    whole = written(
        table(),
        row_group_size=400,
        compression=compression,
        use_dictionary=dictionary,
        version=version,
        data_page_version=version[0] + ".0",
        write_page_index=True,
        store_decimal_as_integer=False,
    )
    assert ID == 5
    assert recognised(whole[:64], len(whole))
    metadata = pq.read_metadata(io.BytesIO(whole))
    expected = []
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            start = column.dictionary_page_offset or column.data_page_offset
            expected.append(Span(start, column.total_compressed_size, 1, f"{column.path_in_schema}/{group}"))
    assert spans(Held(whole)) == expected
    assert expected[0].name == "id/0"
    assert expected[0].start == 4


def test_the_columns_of_an_empty_table_have_only_dictionaries() -> None:
    whole = written(table(0))
    assert [span.name for span in spans(Held(whole))][:2] == ["id/0", "text/0"]


def test_many_columns_share_segments() -> None:
    whole = written(pa.table({f"column {number}": [1, 2, 3] for number in range(100)}))
    assert len(cut(spans(Held(whole)), len(whole))) == 3


# ------------------------------------------------------------------------------------------- footers made by hand


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def number(value: int) -> bytes:
    return varint(value * 2 if value >= 0 else -value * 2 - 1)


def listed(kind: int, *items: bytes) -> bytes:
    return bytes([0xF0 | kind]) + varint(len(items)) + b"".join(items)


def column(start: int = 4, length: int = 10, path: bytes = b"\1a", more: bytes = b"") -> bytes:
    """A column chunk: fields 3, 7 and 9 of its metadata, which are field 3."""
    metadata = b"\x39" + listed(8, path) + b"\x46" + number(length) + b"\x26" + number(start)
    return b"\x3c" + metadata + b"\0" + more + b"\0"


def footer(*columns: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    """FileMetaData with one row group; ``before`` are fields with the long form of their number."""
    return before + b"\x09" + number(4) + listed(12, b"\x19" + listed(12, *columns) + b"\0") + after + b"\0"


def file_of(raw: bytes, magic: bytes = b"PAR1", length: int | None = None) -> Held:
    return Held(
        b"PAR1" + bytes(60) + raw + struct.pack("<I4s", len(raw) if length is None else length, magic)
    )


def test_a_footer_by_hand_is_read() -> None:
    assert spans(file_of(footer(column(), column(start=20, path=b"\1b")))) == [
        Span(4, 10, 1, "a/0"),
        Span(20, 10, 1, "b/0"),
    ]


def test_a_column_in_another_file_or_without_metadata_has_no_span() -> None:
    elsewhere = b"\x18\1x" + b"\x2c" + column()[1:]
    assert spans(file_of(footer(elsewhere, b"\0"))) == []


def test_what_we_do_not_know_is_walked_over() -> None:
    kinds = {1: b"", 2: b"", 3: b"\5", 4: b"\5", 6: b"\xff\1", 7: bytes(8), 8: b"\2ab", 13: bytes(16)}
    kinds |= {9: b"\x21\1\2", 10: b"\x25\1\2", 11: b"\1\x85\1x\2", 12: b"\x15\2\0"}
    more = b"".join(bytes([kind]) + number(100) + value for kind, value in kinds.items())
    more += b"\x0b" + number(101) + b"\0"
    assert spans(file_of(footer(column(), before=more, after=more.replace(number(100), number(200))))) == [
        Span(4, 10, 1, "a/0")
    ]


def test_an_encrypted_footer_is_refused() -> None:
    with pytest.raises(ValueError, match="encrypted"):
        spans(file_of(footer(), magic=b"PARE"))
    assert not recognised(b"PARE" + bytes(60), 1000)


DEEP = b"\x0c" + number(100)


@pytest.mark.parametrize(
    "file",
    [
        Held(b""),
        Held(b"PAR1PAR1"),
        file_of(footer(), magic=b"PAR2"),
        file_of(footer(), length=2**32 - 1),
        file_of(footer(), length=1000),
        file_of(b""),
        file_of(footer()[:-1]),
        file_of(footer(column(start=2**62))),
        file_of(footer(column(start=70))),
        file_of(footer(column(length=-1))),
        file_of(footer(column(length=61))),
        file_of(footer(column(), column())),
        file_of(footer(column(path=b"\1\xff"))),
        file_of(footer(column(path=b"\x7fa"))),
        file_of(footer(b"\x3c\x39" + listed(8, *[b"\1a"] * 65) + b"\0\0")),
        file_of(footer(b"\x3c\x38\1a\0\0")),
        file_of(footer(b"\x3c\x39" + listed(5, b"\1") + b"\0\0")),
        file_of(footer(before=b"\x0c" + number(100) + b"\x1c" * 1000)),
        file_of(footer(before=b"\x09" + number(100) + b"\x19" * 1000)),
        file_of(footer(before=b"\x09" + number(100) + b"\xfc" + varint(2**63))),
        file_of(footer(before=b"\x0b" + number(100) + varint(2**63) + b"\xcc")),
        file_of(footer(before=b"\x08" + number(100) + varint(2**63))),
        file_of(footer(before=b"\x06" + number(100) + b"\xff" * 20)),
        file_of(footer(before=b"\x0f" + number(100))),
        file_of(footer(before=b"\x09" + number(100) + b"\x20\0\0")),
    ],
)
def test_a_footer_that_lies_is_refused(file: Held) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        spans(file)


def test_a_footer_that_unfolds_to_much_is_refused_or_read_in_bounded_time() -> None:
    began = time.thread_time()
    with pytest.raises(ValueError, match="too long"):
        spans(Held(struct.pack("<I4s", FOOTER_BYTES_MAX + 1, b"PAR1"), 8))
    with pytest.raises(ValueError, match=r"\w"):
        spans(file_of(footer(*[column()] * 20_000)))
    spans(file_of(footer(before=b"\x09" + number(100) + listed(12, *[b"\0"] * 200_000))))
    assert time.thread_time() - began < 5


@pytest.mark.parametrize("kind", [3, 5, 8, 12])
def test_a_footer_of_too_many_fields_is_not_walked_to_its_end(
    kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "STEPS_MAX", 1000)
    for raw in [
        footer(before=b"\x09" + number(100) + listed(kind, *[b"\0"] * 1000)),
        footer(*[b"\0"] * 1000),
        footer(b"\x3c" + (b"\x06" + number(7) + b"\0") * 1000 + b"\0\0"),
    ]:
        with pytest.raises(ValueError, match="more than 1000 fields"):
            spans(file_of(raw))


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    whole = draw(st.sampled_from([WHOLE, file_of(footer(column(), column(start=20))).content]))
    end = len(whole) - 8
    start = end - struct.unpack_from("<I", whole, end)[0]
    raw = bytearray(draw(st.binary(max_size=200)) if draw(st.booleans()) else whole[start:end])
    for at in draw(st.lists(st.integers(0, max(0, len(raw) - 1)), max_size=4)):
        raw[at : at + 1] = draw(st.binary(max_size=2))
    content = whole[:start] + raw + struct.pack("<I4s", len(raw), b"PAR1")
    return content[draw(st.just(0) | st.integers(0, len(content))) :]


@settings(max_examples=200, deadline=None)
@given(broken())
def test_fuzz_parquet(content: bytes) -> None:
    try:
        found = spans(Held(content))
        cut(found, len(content))
    except ValueError as error:
        assert str(error)
