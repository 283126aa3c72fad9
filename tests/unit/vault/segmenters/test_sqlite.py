"""Databases of SQLite are cut at whole pages; a few changed pages change few segments."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refloat.limits import KIB
from refloat.testing.memory_file import Held
from refloat.vault.segmenters.spans import SPANS_MAX, Segment, Span, cut
from refloat.vault.segmenters.sqlite import ID, recognised, spans


def database(path: Path, *, page_bytes: int = 4096, rows: int = 2000) -> bytes:
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA page_size={page_bytes}")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, content BLOB)")
        connection.executemany("INSERT INTO t VALUES (?, zeroblob(300))", [(row,) for row in range(rows)])
    connection.close()
    return path.read_bytes()


def segments(content: bytes) -> list[Segment]:
    return cut(spans(Held(content)), len(content))


@pytest.mark.parametrize("page_bytes", [512, 4096, 65536])
def test_segments_are_whole_pages(tmp_path: Path, page_bytes: int) -> None:
    content = database(tmp_path / "a.db", page_bytes=page_bytes)
    assert ID == 6
    assert recognised(content[:64], len(content))
    found = segments(content)
    assert [segment.length for segment in found[:-1]] == [256 * KIB] * (len(found) - 1)
    assert all(segment.length % page_bytes == 0 for segment in found)
    assert [segment.key for segment in found[:2]] == ["page 1", f"page {256 * KIB // page_bytes + 1}"]


def test_a_changed_row_changes_the_first_segment_and_its_own(tmp_path: Path) -> None:
    before = database(tmp_path / "a.db", rows=6000)
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("UPDATE t SET content=zeroblob(299) WHERE id=4000")
    connection.close()
    after = (tmp_path / "a.db").read_bytes()
    pieces = [
        (before[each.start :][: each.length], after[each.start :][: each.length]) for each in segments(before)
    ]
    assert segments(before) == segments(after)
    assert len(pieces) > 5
    assert sum(one != other for one, other in pieces) <= 2


def header(**fields: bytes) -> bytes:
    raw = bytearray(b"SQLite format 3\0\x10\0\1\1\0\x40\x20\x20" + bytes(100 - 24))
    for name, value in fields.items():
        at = int(name[2:])
        raw[at : at + len(value)] = value
    return bytes(raw)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        header()[:99],
        header() + bytes(4000),
        header(at16=b"\0\0") + bytes(3996),
        header(at16=b"\x0f\xff") + bytes(3996),
        header(at16=b"\0\x80") + bytes(3996),
        header(at21=b"\0") + bytes(3996),
        header(at0=b"X") + bytes(3996),
    ],
)
def test_a_header_that_lies_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        spans(Held(content))
    assert spans(Held(header() + bytes(3996))) == [Span(0, 4096, 1, "page 1")]


def test_a_database_of_any_size_has_a_bounded_number_of_segments() -> None:
    assert len(spans(Held(header(), SPANS_MAX * 256 * KIB + 4096))) == SPANS_MAX // 2 + 1
    with pytest.raises(ValueError, match="too large"):
        spans(Held(header(), 2**63))


def test_what_is_no_database_is_not_recognised() -> None:
    assert not recognised(b"SQLite format 4\0", 4096)
    assert not recognised(b"SQLite format 3\0", 100)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64), st.integers(0, 99), st.integers(0, 2**40))
def test_fuzz_sqlite(change: bytes, at: int, size: int) -> None:
    raw = header()
    raw = (raw[:at] + change + raw[at + len(change) :])[:size]
    try:
        found = spans(Held(raw, size // 512 * 512))
    except ValueError as error:
        assert str(error)
        return
    assert found[-1].start + found[-1].length == size // 512 * 512
