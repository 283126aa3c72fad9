"""A stream in pieces is the stream, and what did not change is cut alike."""

from __future__ import annotations

import io
import random
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat.limits import CHUNK_BYTES_AVG, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN
from refloat.vault.layout import Chunking
from refloat.vault.segmenters import FASTCDC, SEGMENTERS, WHOLE, OpenFile, Readable, segments
from refloat.vault.segmenters.spans import RandomAccess

SMALL = Chunking(min=64, avg=256, max=1024)


def raws(stream: Readable, chunking: Chunking = SMALL, file: RandomAccess | None = None) -> list[bytes]:
    """The pieces of a stream."""
    return [piece.raw for piece in segments(stream, chunking, file).pieces]


class Trickle:
    """A stream that gives a few bytes at a time, as pipes and sockets do."""

    def __init__(self, content: bytes, step: int) -> None:
        self._stream = io.BytesIO(content)
        self._step = step

    def read(self, size: int, /) -> bytes:
        return self._stream.read(min(size, self._step))


@given(st.binary(max_size=5000), st.integers(1, 700))
def test_the_pieces_are_the_stream_however_it_trickles_in(content: bytes, step: int) -> None:
    cut = raws(Trickle(content, step))
    assert b"".join(cut) == content
    assert all(0 < len(piece) <= SMALL.max for piece in cut)
    assert all(len(piece) >= SMALL.min for piece in cut[:-1])
    assert cut == raws(io.BytesIO(content))


def test_a_small_file_is_one_piece_and_an_empty_one_is_none() -> None:
    assert segments(io.BytesIO(b""), SMALL).segmenter == WHOLE
    assert raws(io.BytesIO(b"")) == []
    assert segments(io.BytesIO(b"x" * SMALL.min), SMALL).segmenter == WHOLE
    assert raws(io.BytesIO(b"x" * SMALL.min)) == [b"x" * SMALL.min]
    assert segments(io.BytesIO(b"x" * (SMALL.min + 1)), SMALL).segmenter == FASTCDC


def test_an_insertion_changes_only_the_pieces_around_it() -> None:
    content = random.Random(3).randbytes(100_000)
    changed = content[:50_000] + b"inserted" + content[50_000:]
    before = set(raws(io.BytesIO(content)))
    after = raws(io.BytesIO(changed))
    assert len([piece for piece in after if piece not in before]) <= 3


def test_the_limits_of_the_format_are_ones_that_the_cutter_takes() -> None:
    chunking = Chunking(min=CHUNK_BYTES_MIN, avg=CHUNK_BYTES_AVG, max=CHUNK_BYTES_MAX)
    content = random.Random(5).randbytes(CHUNK_BYTES_MIN + 12345)
    assert b"".join(raws(io.BytesIO(content), chunking)) == content


def test_the_tables_have_one_meaning_for_each_id() -> None:
    assert SEGMENTERS == {
        0: "whole",
        1: "fastcdc",
        2: "safetensors",
        3: "torch zip",
        4: "npy",
        5: "parquet",
        6: "sqlite",
    }


def array(folder: Path, count: int = 1000) -> Path:
    np.save(folder / "vectors.npy", np.arange(count, dtype="<f4"))
    return folder / "vectors.npy"


@pytest.mark.parametrize("change", [b"", b"more" * 1000, None], ids=["as it was", "longer", "shorter"])
def test_a_file_that_changes_while_it_is_read_is_what_was_read(tmp_path: Path, change: bytes | None) -> None:
    with array(tmp_path).open("rb") as file:
        content = file.read()
        content = content[:2000] if change is None else content + change
        cut = segments(Trickle(content, 100), SMALL, OpenFile(file.fileno()))
        pieces = list(cut.pieces)
    assert cut.segmenter == 4
    assert b"".join(piece.raw for piece in pieces) == content
    assert [piece.start for piece in pieces] == list(accumulate((len(p.raw) for p in pieces[:-1]), initial=0))
    assert all(len(piece.raw) <= SMALL.max for piece in pieces)


def test_a_file_with_a_lying_header_is_cut_by_content_and_says_why(tmp_path: Path) -> None:  # fault 53
    path = array(tmp_path)
    content = path.read_bytes().replace(b"(1000,)", b"(9999,)")
    path.write_bytes(content)
    with path.open("rb") as file:
        cut = segments(file, SMALL, OpenFile(file.fileno()))
        assert b"".join(piece.raw for piece in cut.pieces) == content
    assert cut.segmenter == FASTCDC
    assert cut.refused
