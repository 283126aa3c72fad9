"""The store that fails on request: every fault does what it says, once, at the operation that was named."""

from __future__ import annotations

from pathlib import Path

import pytest

from refloat.contracts import Put, Store
from refloat.errors import Missing, StoreError
from refloat.testing.disk import torn
from refloat.testing.store_contract import StoreContract
from refloat.vault.stores.faulty import Crash, FaultyStore, Operation, When
from refloat.vault.stores.local import LocalStore
from refloat.vault.stores.memory import MemoryStore


class TestFaultyStoreWithoutFaults(StoreContract):
    def make(self, tmp_path: Path) -> Store:
        return FaultyStore(MemoryStore())


@pytest.mark.parametrize(("when", "stored"), [(When.BEFORE, False), (When.AFTER, True), (When.TORN, False)])
@pytest.mark.parametrize("dies", [False, True])
def test_a_create_in_a_folder_that_was_torn_leaves_half_of_it_unseen(
    tmp_path: Path, when: When, stored: bool, dies: bool
) -> None:  # fault 1
    inner = LocalStore(tmp_path)
    inner.create("a/a", b"1")
    store = FaultyStore(inner, torn=torn(tmp_path))
    (store.crash if dies else store.fail)(1, when)
    with pytest.raises(Crash if dies else StoreError):
        store.create("a/b", b"2222")
    left = [path.read_bytes() for path in tmp_path.rglob("*~")]
    assert left == ([b"22"] if when is When.TORN else [])
    assert sorted(entry.name for entry in inner.list("")) == (["a/a", "a/b"] if stored else ["a/a"])
    assert inner.create("a/b", b"3333") is (Put.EXISTS if stored else Put.CREATED)


def test_only_a_create_can_be_torn(tmp_path: Path) -> None:
    inner = LocalStore(tmp_path)
    inner.create("a", b"1")
    store = FaultyStore(inner, fail_at=1, when=When.TORN, torn=torn(tmp_path))
    with pytest.raises(StoreError):
        store.delete("a")
    assert inner.get("a") == b"1"


@pytest.mark.parametrize(("when", "stored"), [(When.BEFORE, False), (When.AFTER, True), (When.TORN, False)])
def test_the_operation_named_fails_and_the_next_does_not(when: When, stored: bool) -> None:
    store = FaultyStore(MemoryStore(), fail_at=2, when=when)
    store.create("a", b"1")
    with pytest.raises(StoreError, match="operation 2"):
        store.create("b", b"2")
    assert (store.size("b") is not None) is stored


def test_a_lying_create_says_created_and_stores_nothing() -> None:
    store = FaultyStore(MemoryStore(), fail_at=1, when=When.LYING)
    assert store.create("a", b"1") is Put.CREATED
    assert store.size("a") is None


def test_a_lost_reply_is_settled_when_the_same_bytes_are_created_again() -> None:
    store = FaultyStore(MemoryStore())
    store.lose_reply(1)
    with pytest.raises(StoreError):
        store.create("a", b"1")
    assert store.create("a", b"1") is Put.EXISTS


@pytest.mark.parametrize(("when", "stored"), [(When.BEFORE, False), (When.AFTER, True)])
def test_after_a_crash_nothing_more_happens(when: When, stored: bool) -> None:
    inner = MemoryStore()
    store = FaultyStore(inner, crash_at=1, when=when)
    with pytest.raises(Crash):
        store.create("a", b"1")
    with pytest.raises(Crash):
        store.create("b", b"2")
    assert (inner.size("a") is not None) is stored
    assert inner.size("b") is None


def test_a_crash_is_not_caught_by_a_handler_of_exceptions() -> None:
    assert not issubclass(Crash, Exception)


def test_the_trace_lists_every_operation_in_order() -> None:
    store = FaultyStore(MemoryStore())
    store.create("a", b"1")
    store.get("a")
    list(store.list("a"))
    store.size("a")
    store.delete("a")
    asked = [(operation.op, operation.name) for operation in store.trace]
    assert asked == [("create", "a"), ("get", "a"), ("list", "a"), ("size", "a"), ("delete", "a")]
    assert store.trace[-1] == Operation(5, "delete", "a")
    assert store.operations == 5


def test_a_store_that_is_down_fails_until_it_is_up() -> None:
    store = FaultyStore(MemoryStore())
    store.down = True
    for _ in range(2):
        with pytest.raises(StoreError):
            store.size("a")
    store.down = False
    assert store.size("a") is None


@pytest.mark.parametrize("seed", range(3))
def test_one_bit_of_a_stored_object_is_flipped_at_rest_and_the_seed_repeats_it(
    tmp_path: Path, seed: int
) -> None:
    flipped = []
    for inner in (LocalStore(tmp_path / str(seed)), MemoryStore()):
        store = FaultyStore(inner, seed=seed)
        store.create("a", b"\0" * 64)
        bit = store.flip_bit("a")
        assert sum(byte.bit_count() for byte in inner.get("a")) == 1
        assert inner.get("a")[bit // 8] == 1 << bit % 8
        flipped.append(bit)
    assert flipped[0] == flipped[1]


def test_a_dropped_object_is_missing() -> None:
    store = FaultyStore(MemoryStore())
    store.create("a", b"1")
    store.drop("a")
    with pytest.raises(Missing):
        store.get("a")


def test_a_misdirected_object_comes_back_with_another_ones_bytes() -> None:
    store = FaultyStore(MemoryStore())
    store.create("a", b"1")
    store.create("b", b"22")
    store.misdirect("a", "b")
    assert store.get("a") == b"22"
    assert store.size("a") == 2
    assert store.get("b") == b"22"


def test_latency_is_waited_before_every_operation() -> None:
    waited: list[float] = []
    store = FaultyStore(MemoryStore(), latency_s=0.25, sleep=waited.append)
    store.create("a", b"1")
    store.get("a")
    assert waited == [0.25, 0.25]


def test_something_else_may_happen_before_an_operation() -> None:
    inner = MemoryStore()

    def first(operation: Operation) -> None:
        if operation == Operation(1, "create", "a"):
            inner.create("a", b"theirs")

    store = FaultyStore(inner, at_each=first)
    assert store.create("a", b"ours") is Put.EXISTS
    assert store.get("a") == b"theirs"


def test_a_crash_may_be_set_for_a_later_operation() -> None:
    store = FaultyStore(MemoryStore())
    store.create("a", b"1")
    store.crash(store.operations + 1, When.AFTER)
    with pytest.raises(Crash):
        store.create("b", b"2")
    assert store.crashed
