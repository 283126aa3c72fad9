"""Segments tile the file, whatever the spans; equal spans give equal segments, and small neighbours share one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refloat.limits import KIB, MIB
from refloat.vault.segmenters.spans import (
    JOINED_BYTES_MAX,
    PIECE_BYTES,
    SMALL_BYTES,
    SPANS_MAX,
    WIDTHS,
    Segment,
    Span,
    cut,
    read_exactly,
)

ROWS = st.lists(
    st.tuples(
        st.integers(0, 100) | st.integers(0, 3 * MIB),
        st.integers(0, 100_000) | st.integers(0, 9 * MIB),
        st.sampled_from(WIDTHS),
        st.sampled_from(["", "a", "b", "a#1", "a+1", "long" * 300]),
    ),
    max_size=30,
)


def placed(rows: list[tuple[int, int, int, str]]) -> list[Span]:
    spans, at = [], 0
    for gap, length, width, name in rows:
        spans.append(Span(at + gap, length, width, name))
        at += gap + length
    return spans


def tiles(segments: list[Segment], size: int) -> bool:
    at = 0
    for segment in segments:
        if segment.start != at or segment.length <= 0:
            return False
        at += segment.length
    return at == size


@settings(max_examples=150, deadline=None)
@given(ROWS, st.integers(0, 5 * MIB), st.sampled_from([8, 64 * KIB, PIECE_BYTES]))
def test_segments_tile_the_file_and_have_keys_of_their_own(
    rows: list[tuple[int, int, int, str]], more: int, piece_bytes: int
) -> None:
    if piece_bytes == 8:
        rows = [(gap % 50, length % 200, width, name) for gap, length, width, name in rows]
        more %= 100
    spans = placed(rows)
    size = (spans[-1].start + spans[-1].length if spans else 0) + more
    segments = cut(spans, size, piece_bytes=piece_bytes)
    assert tiles(segments, size)
    assert all(segment.length <= piece_bytes and segment.width in WIDTHS for segment in segments)
    keys = [segment.key for segment in segments if segment.key]
    assert len(set(keys)) == len(keys)
    assert segments == cut(spans, size, piece_bytes=piece_bytes)


def test_a_file_without_spans_is_cut_into_nameless_pieces() -> None:
    assert cut([], 0) == []
    assert cut([], 10, piece_bytes=8) == [Segment(0, 8), Segment(8, 2)]


def test_a_long_span_is_cut_from_its_own_start_and_each_piece_has_a_key() -> None:
    assert cut([Span(3, 20, 4, "w")], 25, piece_bytes=8) == [
        Segment(0, 3),
        Segment(3, 8, 4, "w#0"),
        Segment(11, 8, 4, "w#1"),
        Segment(19, 4, 4, "w#2"),
        Segment(23, 2),
    ]


def test_a_tensor_behind_a_longer_header_keeps_its_keys_and_lengths() -> None:
    def shifted(header: int) -> list[tuple[int, int, str]]:
        rows = [(0, header, 1, ""), (0, 9 * MIB, 4, "w"), (0, 100, 4, "bias"), (0, 200, 4, "scale")]
        segments = cut(placed(rows), header + 9 * MIB + 300)
        return [(segment.length, segment.width, segment.key) for segment in segments[1:]]

    assert shifted(800) == shifted(80_008)
    assert shifted(800)[-1] == (300, 4, "bias+1")


def test_small_neighbours_of_one_width_are_joined_and_the_padding_between_them() -> None:
    spans = [Span(0, 100, 4, "a"), Span(128, 40, 4, "b"), Span(168, 8, 4, "c"), Span(176, 8, 2, "d")]
    assert cut(spans, 184) == [Segment(0, 176, 4, "a+2"), Segment(176, 8, 2, "d")]


def test_a_gap_that_is_more_than_padding_stands_alone() -> None:
    spans = [Span(0, 100, 4, "a"), Span(164, 40, 4, "b")]
    assert [segment.length for segment in cut(spans, 204)] == [100, 64, 40]


def test_a_span_without_a_name_is_not_joined() -> None:
    assert cut([Span(0, 8), Span(8, 4, 1, "a"), Span(12, 4, 1, "b")], 16) == [
        Segment(0, 8),
        Segment(8, 8, 1, "a+1"),
    ]


def test_joined_segments_stop_at_their_limit() -> None:
    spans = [Span(number * 100_000, 100_000, 4, f"b{number}") for number in range(30)]
    segments = cut(spans, 3_000_000)
    assert all(segment.length <= JOINED_BYTES_MAX for segment in segments)
    assert [segment.key for segment in segments] == ["b0+9", "b10+9", "b20+9"]


def test_large_neighbours_are_not_joined() -> None:
    spans = [Span(0, SMALL_BYTES, 1, "a"), Span(SMALL_BYTES, SMALL_BYTES, 1, "b")]
    assert [segment.key for segment in cut(spans, 2 * SMALL_BYTES)] == ["a", "b"]


def test_elements_out_of_step_are_joined_only_where_little_is_lost_and_then_have_no_width() -> None:
    tiny = [Span(0, 8, 4, "a"), Span(9, 8, 4, "b"), Span(17, 8, 4, "c")]
    assert cut(tiny, 25) == [Segment(0, 25, 1, "a+2")]
    large = [Span(0, 8, 4, "a"), Span(9, 20 * KIB, 4, "b")]
    assert [segment.width for segment in cut(large, 9 + 20 * KIB)] == [4, 1, 4]


def test_a_million_tiny_tensors_are_refused_and_as_many_as_are_allowed_become_few_segments() -> None:
    spans = [Span(number * 8, 8, 4, f"b{number}") for number in range(20_000)]
    assert len(cut(spans, 160_000)) == 1
    with pytest.raises(ValueError, match="more than"):
        cut([Span(0, 0)] * (SPANS_MAX + 1), 10)


@pytest.mark.parametrize(
    "spans",
    [
        [Span(0, 11)],
        [Span(0, 2**63)],
        [Span(-1, 4)],
        [Span(4, -1)],
        [Span(0, 4), Span(3, 4)],
        [Span(4, 4), Span(0, 4)],
        [Span(0, 4, 3)],
        [Span(0, 4, 0)],
    ],
)
def test_spans_that_cannot_be_are_refused(spans: list[Span]) -> None:
    with pytest.raises(ValueError, match=r"span|element"):
        cut(spans, 10)


@pytest.mark.parametrize("piece_bytes", [0, -8, 12])
def test_pieces_that_would_split_elements_are_refused(piece_bytes: int) -> None:
    with pytest.raises(ValueError, match="split elements"):
        cut([], 10, piece_bytes=piece_bytes)


class Shrinking:
    """A file that is shorter than it said."""

    size = 100

    def read_at(self, start: int, length: int) -> bytes:
        return bytes(length)[: max(0, 50 - start)]


def test_what_a_file_does_not_have_is_not_read() -> None:
    assert read_exactly(Shrinking(), 40, 10) == bytes(10)
    for start, length in [(40, 11), (90, 11), (-1, 2), (0, -1), (2**63, 1)]:
        with pytest.raises(ValueError, match="file"):
            read_exactly(Shrinking(), start, length)
