"""The suite that every store must pass. Subclass it, and say how to make an empty store::

class TestMine(StoreContract):
    def make(self, tmp_path):
        return MyStore(tmp_path)
"""

# ruff: noqa: D102 - the name of a test says what it is for

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event
from typing import ClassVar

import numpy as np
import pytest

from refloat.contracts import ObjectInfo, Put, Store
from refloat.errors import Missing, UsageError
from refloat.limits import MIB, PACK_BYTES_MAX
from refloat.testing.races import race_processes

_RACERS = 8
_RACED_NAMES = 10
_NOT_NAMES = [
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/../b",
    "./a",
    "A",
    "a b",
    "a\\b",
    "a\n",
    "a\0",
    "é",
    "~a",
    "a:b",
]
_NAMES = [
    "a",
    "a.b",
    "packs/0f/0f3a",
    "log/targets/eu_1/0000000000000007",
    ".hidden",
    "a-b_c",
    "a..b",
    "x" * 200,
    f"{'x' * 199}/{'y' * 199}/{'z' * 112}",  # 512 characters
]


class StoreContract(ABC):
    """What ``contracts.Store`` promises, as tests. ``objects_listed`` should be more than one page of a listing."""

    objects_listed: ClassVar[int] = 1_100

    @abstractmethod
    def make(self, tmp_path: Path) -> Store:
        """A store with nothing in it."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        """The store under test."""
        return self.make(tmp_path)

    def test_what_was_created_is_read_back(self, store: Store) -> None:
        assert store.create("points/ab", b"whole") is Put.CREATED
        assert store.get("points/ab") == b"whole"

    @pytest.mark.parametrize("content", [b"", b"\0", bytes(range(256)), b"\r\n\x1a\xff\xfe" * 3])
    def test_bytes_come_back_as_they_were(self, store: Store, content: bytes) -> None:
        store.create("a", content)
        assert store.get("a") == content
        assert store.size("a") == len(content)

    def test_a_memoryview_is_stored_as_its_bytes(self, store: Store) -> None:
        buffer = bytearray(b"0123456789")
        store.create("a", memoryview(buffer)[2:6])
        buffer[:] = bytes(10)
        assert store.get("a") == b"2345"

    def test_a_full_pack_comes_back_whole_and_in_parts(self, store: Store) -> None:
        content = np.random.default_rng(5).bytes(PACK_BYTES_MAX)
        assert store.create("packs/ab/large", content) is Put.CREATED
        assert store.size("packs/ab/large") == PACK_BYTES_MAX
        assert store.get("packs/ab/large") == content
        assert store.get("packs/ab/large", 33 * MIB, 100) == content[33 * MIB :][:100]
        assert store.get("packs/ab/large", PACK_BYTES_MAX - 7, 100) == content[-7:]

    def test_a_reader_never_sees_half_of_what_is_being_created(self, store: Store) -> None:
        content = np.random.default_rng(8).bytes(8 * MIB)
        seen: list[bytes] = []
        begun = Event()

        def read() -> None:
            while not seen:
                begun.set()
                try:
                    seen.append(store.get("packs/ab/slow"))
                except Missing:
                    assert store.size("packs/ab/slow") in (None, len(content))

        with ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            begun.wait()
            store.create("packs/ab/slow", content)
            for reader in readers:
                reader.result()
        assert all(found == content for found in seen)

    @pytest.mark.parametrize(
        ("start", "length", "expected"),
        [
            (0, None, b"0123456789"),
            (4, None, b"456789"),
            (0, 3, b"012"),
            (4, 3, b"456"),
            (8, 100, b"89"),
            (10, 5, b""),
            (20, 5, b""),
            (20, None, b""),
            (3, 0, b""),
        ],
    )
    def test_a_range_is_cut_where_the_object_ends(
        self, store: Store, start: int, length: int | None, expected: bytes
    ) -> None:
        store.create("a", b"0123456789")
        assert store.get("a", start, length) == expected

    def test_a_range_of_an_empty_object_is_empty(self, store: Store) -> None:
        store.create("a", b"")
        assert store.get("a", 0, 10) == b""

    def test_a_taken_name_keeps_its_bytes(self, store: Store) -> None:
        store.create("a", b"first")
        assert store.create("a", b"second") is Put.EXISTS
        assert store.create("a", b"first") is Put.EXISTS
        assert store.get("a") == b"first"

    def test_one_of_many_racers_creates_and_its_bytes_stay(self, store: Store) -> None:
        together = Barrier(_RACERS)

        def race(racer: int) -> Put:
            together.wait()
            return store.create("log/points/0000000000000000", b"%d" % racer)

        with ThreadPoolExecutor(_RACERS) as pool:
            puts = list(pool.map(race, range(_RACERS)))
        assert puts.count(Put.CREATED) == 1
        assert puts.count(Put.EXISTS) == _RACERS - 1
        assert store.get("log/points/0000000000000000") == b"%d" % puts.index(Put.CREATED)

    def test_what_is_not_there_is_missing_and_has_no_size(self, store: Store) -> None:
        store.create("packs/ab/one", b"1")
        for name in ("none", "packs/ab/two", "packs/ab", "packs/ab/one/below"):
            assert store.size(name) is None
            with pytest.raises(Missing) as caught:
                store.get(name)
            assert caught.value.file == name

    @pytest.mark.parametrize("length", [0, 5, None])
    def test_a_range_of_nothing_is_missing_too(self, store: Store, length: int | None) -> None:
        with pytest.raises(Missing):
            store.get("none", 2, length)

    def test_list_names_what_starts_with_the_prefix(self, store: Store) -> None:
        for name in ("index/a1", "index/a2", "index/b", "indexes/c", "packs/00/x"):
            store.create(name, name.encode())
        assert _names(store, "index/") == ["index/a1", "index/a2", "index/b"]
        assert _names(store, "index/a") == ["index/a1", "index/a2"]
        assert _names(store, "index") == ["index/a1", "index/a2", "index/b", "indexes/c"]
        assert _names(store, "packs/") == ["packs/00/x"]
        assert _names(store, "points/") == []
        assert len(_names(store, "")) == 5

    def test_list_tells_sizes(self, store: Store) -> None:
        store.create("a/b", b"12345")
        assert list(store.list("a/")) == [ObjectInfo("a/b", 5)]

    def test_a_listing_of_several_pages_is_read_to_its_end(self, store: Store) -> None:
        names = [f"index/{number:04d}" for number in range(self.objects_listed)]
        with ThreadPoolExecutor(_RACERS) as pool:
            assert set(pool.map(lambda name: store.create(name, b"1"), names)) == {Put.CREATED}
        assert _names(store, "index/") == names

    def test_list_of_an_empty_store_is_empty(self, store: Store) -> None:
        assert list(store.list("")) == []
        assert list(store.list("log/points/")) == []

    def test_a_deleted_object_is_gone_and_its_name_is_free(self, store: Store) -> None:
        store.create("a/b", b"1")
        store.delete("a/b")
        assert store.size("a/b") is None
        assert _names(store, "a/") == []
        assert store.create("a/b", b"2") is Put.CREATED
        assert store.get("a/b") == b"2"

    def test_deleting_what_is_not_there_is_no_error(self, store: Store) -> None:
        store.delete("a/b")

    @pytest.mark.parametrize("name", _NAMES)
    def test_every_name_of_the_alphabet_is_taken(self, store: Store, name: str) -> None:
        store.create(name, b"1")
        assert store.get(name) == b"1"
        assert _names(store, "") == [name]

    @pytest.mark.parametrize("name", [*_NOT_NAMES, "x" * 201, "x/" * 300 + "x"])
    def test_no_other_name_reaches_the_store(self, store: Store, name: str) -> None:
        for ask in (store.get, store.size, store.delete, lambda name: store.create(name, b"1")):
            with pytest.raises(UsageError):
                ask(name)

    def test_the_url_is_an_address(self, store: Store) -> None:
        assert "://" in store.url


class SharedStoreContract(StoreContract):
    """The same, of a store that other processes reach by its address."""

    def test_one_of_many_processes_creates_and_its_bytes_stay(self, store: Store) -> None:
        # fault 15
        names = [f"log/points/{number:016d}" for number in range(_RACED_NAMES)]
        winners = race_processes(store.url, names, _RACERS)
        assert [len(winners[name]) for name in names] == [1] * _RACED_NAMES
        assert [store.get(name) for name in names] == [b"%d" % winners[name][0] for name in names]


def _names(store: Store, prefix: str) -> list[str]:
    return sorted(info.name for info in store.list(prefix))
