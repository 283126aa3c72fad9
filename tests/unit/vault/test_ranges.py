"""Parts of packs are what the store holds, and whoever reads on finds them there already."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from refloat.errors import Retry, StoreError
from refloat.limits import KIB, MIB
from refloat.vault.ranges import BLOCK_BYTES, BLOCKS_KEPT, PACKS_AT_ONCE, WINDOW_BYTES, WINDOWS_KEPT, Ranges

PACK_BYTES = 30 * MIB + 12_345
RECORD_BYTES = 3 * MIB


class Packs:
    """A store of packs that notes what it is asked for; ``held`` lets requests wait, ``failing`` lets them fail."""

    def __init__(self, names: str = "a") -> None:
        self.bytes = {name: np.random.default_rng(ord(name)).bytes(PACK_BYTES) for name in names}
        self.asked: list[tuple[str, int, int]] = []
        self.failing = False
        self.let_go = threading.Event()
        self.let_go.set()

    def get(self, pack: str, start: int, length: int) -> bytes:
        self.asked.append((pack, start, length))
        assert self.let_go.wait(30)
        if self.failing:
            raise StoreError("the store is away", retry=Retry.LATER)
        return self.bytes[pack][start : start + length]


def read(ranges: Ranges, packs: Packs, start: int, length: int, pack: str = "a") -> None:
    assert ranges.read(pack, PACK_BYTES, start, length) == packs.bytes[pack][start : start + length]


def records(count: int) -> list[int]:
    return [number * RECORD_BYTES for number in range(count)]


def test_a_pack_read_from_end_to_end_is_asked_for_in_blocks_each_once() -> None:
    packs = Packs()
    ranges = Ranges(packs.get, far_seconds=0.0)
    for start in records(PACK_BYTES // RECORD_BYTES):
        read(ranges, packs, start, RECORD_BYTES)
    read(ranges, packs, PACK_BYTES - 1000, 5000)  # it ends where the pack does
    blocks = [start for _, start, length in packs.asked if length == BLOCK_BYTES]
    assert len(packs.asked) - len(blocks) == 1  # before it was seen that one follows the other
    assert len(blocks) == len(set(blocks)) <= -(-PACK_BYTES // BLOCK_BYTES)


def test_what_comes_next_is_on_its_way_before_anybody_asks() -> None:
    packs = Packs()
    ranges = Ranges(packs.get, far_seconds=0.0)
    for start in records(3):
        read(ranges, packs, start, RECORD_BYTES)
    wanted = [8 * MIB, 12 * MIB]
    for _ in range(1000):
        if {start for _, start, length in packs.asked if length == BLOCK_BYTES} >= set(wanted):
            break
        threading.Event().wait(0.01)
    packs.failing = True
    read(ranges, packs, 8 * MIB, 8 * MIB)


def test_a_store_that_answers_at_once_is_asked_for_what_is_wanted_and_no_more() -> None:
    packs = Packs()
    ranges = Ranges(packs.get, far_seconds=30.0)
    for start in records(6):
        read(ranges, packs, start, RECORD_BYTES)
    assert packs.asked == [("a", start, RECORD_BYTES) for start in records(6)]


def test_what_lies_far_apart_is_read_alone() -> None:
    packs = Packs()
    ranges = Ranges(packs.get, far_seconds=0.0)
    places = [0, 20 * MIB, 5 * MIB, 28 * MIB, 9 * MIB]
    for start in places:
        read(ranges, packs, start, MIB)
    assert packs.asked == [("a", start, MIB) for start in places]


def test_small_neighbours_come_with_one_request() -> None:
    packs = Packs()
    ranges = Ranges(packs.get, far_seconds=30.0)
    read(ranges, packs, 10 * KIB, KIB)
    read(ranges, packs, WINDOW_BYTES - KIB, 2 * KIB)  # across two windows
    assert packs.asked == [("a", 0, WINDOW_BYTES), ("a", WINDOW_BYTES, WINDOW_BYTES)]


def test_many_packs_side_by_side_keep_no_more_than_a_few_blocks() -> None:
    names = "abcdefghij"
    packs = Packs(names)
    ranges = Ranges(packs.get, far_seconds=0.0)
    for start in records(8):
        for name in names:
            read(ranges, packs, start, RECORD_BYTES, name)
            assert len(ranges._blocks) <= BLOCKS_KEPT
    assert {length for _, _, length in packs.asked} == {RECORD_BYTES}, (
        f"over {PACKS_AT_ONCE} packs none is read ahead"
    )


def test_a_block_that_failed_is_asked_for_again() -> None:  # fault 7
    packs = Packs()
    ranges = Ranges(packs.get, far_seconds=0.0)
    read(ranges, packs, 0, RECORD_BYTES)
    packs.failing = True
    with pytest.raises(StoreError, match="away"):
        ranges.read("a", PACK_BYTES, RECORD_BYTES, RECORD_BYTES)
    packs.failing = False
    for start in records(10):
        for _ in range(3):  # what was fetched ahead meanwhile has failed as well
            try:
                read(ranges, packs, start, RECORD_BYTES)
            except StoreError:
                continue
            break
        else:
            pytest.fail("it never came")


def test_after_forgetting_everything_is_read_anew() -> None:
    packs = Packs()
    ranges = Ranges(packs.get, far_seconds=0.0)
    for start in records(6):
        read(ranges, packs, start, RECORD_BYTES)
    packs.bytes["a"] = np.random.default_rng(2).bytes(PACK_BYTES)
    ranges.forget("a")
    for start in records(6):
        read(ranges, packs, start, RECORD_BYTES)


def test_forgetting_a_pack_keeps_what_was_read_of_others() -> None:
    packs = Packs("ab")
    ranges = Ranges(packs.get, far_seconds=30.0)
    for name in "abab":
        read(ranges, packs, 0, KIB, name)
    ranges.forget("a")
    for name in "ab":
        read(ranges, packs, 0, KIB, name)
    assert [pack for pack, _, _ in packs.asked] == ["a", "b", "a"]


def test_of_many_windows_the_latest_are_kept() -> None:
    names = [chr(ord("a") + number) for number in range(3)]
    packs = Packs("".join(names))
    ranges = Ranges(packs.get, far_seconds=30.0)
    read(ranges, packs, 0, KIB)
    for name in names[1:]:
        for number in range(WINDOWS_KEPT // 2):
            read(ranges, packs, number * WINDOW_BYTES, KIB, name)
            read(ranges, packs, 0, KIB)  # what is read again and again stays
    assert packs.asked.count(("a", 0, WINDOW_BYTES)) == 1
    assert len(ranges._windows) == WINDOWS_KEPT


def test_threads_that_read_side_by_side_share_what_is_fetched() -> None:
    packs = Packs()
    ranges = Ranges(packs.get, far_seconds=0.0)
    starts = iter(records(10))
    lock = threading.Lock()

    def some() -> None:
        while True:
            with lock:
                start = next(starts, None)
            if start is None:
                return
            read(ranges, packs, start, RECORD_BYTES)
            done.append(start)

    done: list[int] = []
    threads = [threading.Thread(target=some) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == records(10)
    blocks = [start for _, start, length in packs.asked if length == BLOCK_BYTES]
    assert len(blocks) == len(set(blocks))
