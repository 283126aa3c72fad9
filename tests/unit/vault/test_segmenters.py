"""A stream in pieces is the stream, and what did not change is cut alike."""

from __future__ import annotations

import io
import random

from hypothesis import given
from hypothesis import strategies as st

from refloat.limits import CHUNK_BYTES_AVG, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN
from refloat.vault.layout import Chunking
from refloat.vault.segmenters import FASTCDC, RESERVED, SEGMENTERS, WHOLE, segments

SMALL = Chunking(min=64, avg=256, max=1024)


class Trickle:
    """A stream that gives a few bytes at a time, as pipes and sockets do."""

    def __init__(self, content: bytes, step: int) -> None:
        self._stream = io.BytesIO(content)
        self._step = step

    def read(self, size: int, /) -> bytes:
        return self._stream.read(min(size, self._step))


@given(st.binary(max_size=5000), st.integers(1, 700))
def test_the_pieces_are_the_stream_however_it_trickles_in(content: bytes, step: int) -> None:
    _, pieces = segments(Trickle(content, step), SMALL)
    cut = list(pieces)
    assert b"".join(cut) == content
    assert all(0 < len(piece) <= SMALL.max for piece in cut)
    assert all(len(piece) >= SMALL.min for piece in cut[:-1])
    assert cut == list(segments(io.BytesIO(content), SMALL)[1])


def test_a_small_file_is_one_piece_and_an_empty_one_is_none() -> None:
    assert segments(io.BytesIO(b""), SMALL)[0] == WHOLE
    assert list(segments(io.BytesIO(b""), SMALL)[1]) == []
    segmenter, pieces = segments(io.BytesIO(b"x" * SMALL.min), SMALL)
    assert (segmenter, list(pieces)) == (WHOLE, [b"x" * SMALL.min])
    assert segments(io.BytesIO(b"x" * (SMALL.min + 1)), SMALL)[0] == FASTCDC


def test_an_insertion_changes_only_the_pieces_around_it() -> None:
    content = random.Random(3).randbytes(100_000)
    changed = content[:50_000] + b"inserted" + content[50_000:]
    before = set(segments(io.BytesIO(content), SMALL)[1])
    after = list(segments(io.BytesIO(changed), SMALL)[1])
    assert len([piece for piece in after if piece not in before]) <= 3


def test_the_limits_of_the_format_are_ones_that_the_cutter_takes() -> None:
    chunking = Chunking(min=CHUNK_BYTES_MIN, avg=CHUNK_BYTES_AVG, max=CHUNK_BYTES_MAX)
    content = random.Random(5).randbytes(CHUNK_BYTES_MIN + 12345)
    assert b"".join(segments(io.BytesIO(content), chunking)[1]) == content


def test_the_tables_have_one_meaning_for_each_id() -> None:
    assert SEGMENTERS == {0: "whole", 1: "fastcdc"}
    assert not set(SEGMENTERS) & set(RESERVED)
