"""Chunks that are read ahead come in order, a few at a time, and fail where their turn has come."""

from __future__ import annotations

import threading
from itertools import islice

import pytest

from refloat.errors import Damaged
from refloat.vault.ahead import CHUNKS_AHEAD, read_ahead, read_in_order

NAMES = [bytes([n // 3]) for n in range(90)]  # each three times in a row, as in the holes of a sparse file


@pytest.mark.parametrize("read", [read_ahead, read_in_order])
def test_the_chunks_come_in_order_and_one_that_comes_again_is_read_once(read) -> None:
    asked: list[bytes] = []

    def chunk(name: bytes) -> bytes:
        asked.append(name)
        return name * 2

    assert list(read(chunk, NAMES)) == [name * 2 for name in NAMES]
    assert sorted(asked) == sorted(set(NAMES))


def test_the_next_chunks_are_read_while_one_is_written_and_no_more_than_these() -> None:
    asked: list[bytes] = []
    come = threading.Semaphore(0)

    def chunk(name: bytes) -> bytes:
        asked.append(name)
        come.release()
        return name

    chunks = read_ahead(chunk, [bytes([n]) for n in range(50)])
    assert next(chunks) == b"\0"
    for _ in range(1 + CHUNKS_AHEAD):
        assert come.acquire(timeout=60), "nobody reads ahead"
    assert next(chunks) == b"\1"
    assert come.acquire(timeout=60)
    assert len(asked) == 2 + CHUNKS_AHEAD, "memory is bounded"
    chunks.close()
    assert len(asked) == 2 + CHUNKS_AHEAD, "nothing is read once nobody wants it"


def test_what_fails_is_raised_where_its_turn_has_come() -> None:
    def chunk(name: bytes) -> bytes:
        if name == b"\5":
            raise Damaged("not whole", next="repair")
        return name

    chunks = read_ahead(chunk, [bytes([n]) for n in range(9)])
    assert list(islice(chunks, 5)) == [bytes([n]) for n in range(5)]
    with pytest.raises(Damaged):
        next(chunks)
