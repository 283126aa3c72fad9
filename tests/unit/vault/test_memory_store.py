"""The store in memory, the names that every store takes, and how an address becomes a store."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat.contracts import Put, Store
from refloat.errors import UsageError
from refloat.testing.store_contract import StoreContract
from refloat.vault.stores import open_store
from refloat.vault.stores.local import LocalStore
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.stores.names import checked, is_name
from refloat.vault.stores.traced import Call, TracedStore


class TestMemoryStore(StoreContract):
    def make(self, tmp_path: Path) -> Store:
        return MemoryStore()


class TestTracedMemoryStore(StoreContract):
    def make(self, tmp_path: Path) -> Store:
        return TracedStore(MemoryStore())


def test_one_name_is_one_store_in_memory_and_another_name_another() -> None:
    open_store("memory://shared_by_name").create("a", b"1")
    assert open_store("memory://shared_by_name").get("a") == b"1"
    assert open_store("memory://another_name").size("a") is None


def test_equal_bytes_that_were_there_already_are_no_creation() -> None:
    store, content = MemoryStore(), b"the very same object in memory"
    assert store.create("a", content) is Put.CREATED
    assert store.create("a", content) is Put.EXISTS


def test_a_path_and_a_file_url_open_the_same_directory(tmp_path: Path) -> None:
    place = tmp_path / "a place"
    for address in (str(place), place.as_uri()):
        store = open_store(address)
        assert isinstance(store, LocalStore)
        assert store.root == place
        assert store.url == place.as_uri()


@pytest.mark.parametrize("address", ["", "ftp://x/y", "memory://", "file://elsewhere/x", "s3://", "://"])
def test_an_address_that_names_no_store_is_refused_with_advice(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(address)
    assert caught.value.next


@given(st.text(max_size=12) | st.from_regex(r"[a-z0-9_./-]{0,12}", fullmatch=True))
def test_a_checked_name_stays_inside_the_root_of_any_store(name: str) -> None:
    if is_name(name):
        assert checked(name) == name
        path = Path("/vault") / name
        assert path.resolve().is_relative_to("/vault") and str(path) == f"/vault/{name}"


def test_a_trace_names_operation_object_bytes_and_time() -> None:
    told: list[Call] = []
    store = TracedStore(MemoryStore(), told.append)
    store.create("a", b"12345")
    store.create("a", b"12345")
    store.get("a", 1, 2)
    store.size("a")
    list(store.list("a"))
    store.delete("a")
    assert [(call.op, call.bytes) for call in told] == [
        ("create", 5), ("create", 0), ("get", 2), ("size", 0), ("list", 0), ("delete", 0),
    ]  # fmt: skip
    assert {call.name for call in told} == {"a"}
    assert all(call.seconds >= 0 for call in told)
    assert store.calls == told


def test_a_call_that_failed_is_traced_too() -> None:
    store = TracedStore(MemoryStore())
    with pytest.raises(UsageError):
        store.get("../etc/passwd")
    assert [call.op for call in store.calls] == ["get"]
