"""A large index is found on the disk of this machine by the next command, and never says what the vault does not."""

from __future__ import annotations

import itertools
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.vault.conftest import MOMENT, VaultWorld
from tests.unit.vault.test_index import directory_of

from refloat.digest import object_name
from refloat.vault import index as index_module
from refloat.vault import indexfile, layout
from refloat.vault.index import Index
from refloat.vault.indexfile import Shelf
from refloat.vault.keys import KeyFile, Keyring, Removed, Role
from refloat.vault.pack import CATALOGUE_KEY, PackRecord
from refloat.vault.replica import Replica
from refloat.vault.stores.traced import TracedStore

WRITER = "w" * 32


@pytest.fixture(scope="module")
def keyring() -> Keyring:
    return Keyring(KeyFile.create("vault-1", "demo"))


@pytest.fixture
def shelf(keyring: Keyring, tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "index", keyring)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large here is a few rows."""
    monkeypatch.setattr(index_module, "MEMORY_ROWS_MAX", 40)
    monkeypatch.setattr(index_module, "SHELVED_ROWS_MIN", 10)
    monkeypatch.setattr(indexfile, "WINDOW_ROWS", 7)


def name_of(number: int) -> bytes:
    """A chunk's name; of four each the first eight bytes are the same."""
    return (number // 4 * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big") + number.to_bytes(24, "big")


def source_of(number: int) -> str:
    return object_name(b"index object %d" % number)


def record_of(number: int) -> PackRecord:
    return PackRecord(object_name(b"pack %d" % number), 100_000, CATALOGUE_KEY, WRITER)


def add(index: Index, number: int, chunks: list[int]) -> None:
    """One index object with one pack."""
    index.add([(record_of(number), directory_of([name_of(chunk) for chunk in chunks]))], source_of(number))


def filled(shelf: Shelf, rows: int = 300) -> Index:
    index = Index(shelf)
    for number in range(rows // 10):
        add(index, number, list(range(number * 10, number * 10 + 10)))
    index.settle()
    return index


def packs_of(index: Index, chunk: int) -> set[str]:
    return {place.pack.name for place in index.locations(name_of(chunk))}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.lists(st.integers(0, 60), max_size=30, unique=True),
            st.sampled_from(["open again", "settle", "remove one"]),
        ),
        max_size=25,
    )
)
def test_it_agrees_with_a_dictionary_whatever_lies_on_the_shelf(steps: list[list[int] | str]) -> None:
    stored, numbers = dict[int, list[int]](), itertools.count()
    with tempfile.TemporaryDirectory() as folder:
        shelf = Shelf(Path(folder) / "index", Keyring(KeyFile.create("vault-1", "demo")))
        index = Index(shelf)
        for step in steps:
            if isinstance(step, list):
                number = next(numbers)
                stored[number] = step
                add(index, number, step)
                continue
            if step == "open again":
                index = Index(shelf)
            if step == "remove one" and stored:
                gone = min(stored)
                on_shelf = any(source_of(gone) in run.sources for run in shelf.runs())
                if not on_shelf:  # as ever: what is in memory stays until the next command
                    index = Index(shelf)
                del stored[gone]
            listed = {source_of(number) for number in stored}
            index.let_count(listed)
            for number, chunks in stored.items():
                if source_of(number) not in index.sources:
                    add(index, number, chunks)
            index.settle()
        truth: dict[int, set[str]] = defaultdict(set)
        for number, chunks in stored.items():
            for chunk in chunks:
                truth[chunk].add(record_of(number).name)
        assert {chunk: packs_of(index, chunk) for chunk in range(61)} == {
            chunk: truth[chunk] for chunk in range(61)
        }
        assert {pack.name for pack in index.packs} == {record_of(number).name for number in stored}
        assert all(index.knows(record_of(number).name) for number in stored)
        assert not index.knows(record_of(next(numbers)).name)


def test_a_place_is_the_same_from_the_disk_as_from_memory(shelf: Shelf) -> None:
    filled(shelf)
    again, memory = Index(shelf), Index()
    for number in range(30):
        add(memory, number, list(range(number * 10, number * 10 + 10)))
    assert len(again) == len(memory) == 300
    for chunk in range(300):
        assert list(again.locations(name_of(chunk))) == list(memory.locations(name_of(chunk)))


def test_there_are_few_runs_however_much_is_added(shelf: Shelf, tmp_path: Path) -> None:
    index = filled(shelf, 3010)  # the last run to be written is smaller than the others
    runs = shelf.runs()
    assert len(index) == sum(map(len, runs)) == 3010
    assert len(runs) <= 6, "each is twice as large as the next"
    assert len(list((tmp_path / "index").iterdir())) == len(runs), "what was merged is gone"


def test_every_flipped_byte_costs_no_more_than_to_read_the_vault_again(shelf: Shelf, tmp_path: Path) -> None:
    filled(shelf, 40)
    whole = {path: path.read_bytes() for path in (tmp_path / "index").iterdir()}
    truth = {chunk: list(Index(shelf).locations(name_of(chunk))) for chunk in range(40)}
    for path, content in whole.items():
        for at in range(0, len(content), 3):
            path.write_bytes(content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :])
            index = Index(shelf)
            lost = 0
            for chunk in range(0, 40, 1 if at % 97 == 0 else 13):
                found = list(index.locations(name_of(chunk)))
                assert found in (truth[chunk], [])
                lost += found != truth[chunk]
            if lost:
                assert not path.exists(), "what is damaged is not looked at a second time"
                assert len(index.sources) < 4, "and is read from the vault again"
            path.write_bytes(content)


def test_a_run_that_was_cut_short_is_removed(shelf: Shelf, tmp_path: Path) -> None:
    filled(shelf)
    path = max((tmp_path / "index").iterdir(), key=lambda path: path.stat().st_size)
    content = path.read_bytes()
    for length in [*range(0, len(content), 13), len(content) - 1]:
        path.write_bytes(content[:length])
        assert source_of(0) not in Index(shelf).sources
        assert not path.exists()


def test_it_counts_for_nobody_who_does_not_hold_the_key(shelf: Shelf, tmp_path: Path) -> None:
    filled(shelf)
    stranger = Keyring(KeyFile.create("vault-1", "demo"))
    assert len(Index(Shelf(tmp_path / "index", stranger))) == 0


def test_nothing_is_kept_where_the_disk_is_full_or_not_ours(keyring: Keyring, tmp_path: Path) -> None:
    (tmp_path / "index").write_bytes(b"no folder")
    index = filled(Shelf(tmp_path / "index", keyring))
    assert len(index) == 300
    assert all(packs_of(index, chunk) for chunk in range(300))


def test_what_a_killed_command_was_writing_is_removed(shelf: Shelf, tmp_path: Path) -> None:
    filled(shelf, 20)
    left = tmp_path / "index" / f".1-1{indexfile.PARTIAL}"
    left.write_bytes(b"half")
    filled(shelf, 60)
    assert not left.exists()


def test_two_commands_that_write_at_once_leave_what_both_can_use(keyring: Keyring, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    together = threading.Barrier(2)

    def write(found: list[Index]) -> None:
        together.wait()
        found.append(filled(Shelf(folder, keyring)))

    found: list[Index] = []
    threads = [threading.Thread(target=write, args=(found,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in [*found, Index(Shelf(folder, keyring))]:
        assert all(packs_of(index, chunk) == {record_of(chunk // 10).name} for chunk in range(300))


def test_what_one_command_merged_another_one_goes_on_reading(
    shelf: Shelf, keyring: Keyring, tmp_path: Path
) -> None:
    filled(shelf, 100)
    slow = Index(shelf)
    filled(Shelf(tmp_path / "index", keyring), 900)
    assert all(packs_of(slow, chunk) for chunk in range(100))


# ------------------------------------------------------------------------------------------------ in a replica


@pytest.fixture
def world() -> VaultWorld:
    return VaultWorld().create()


def opened(world: VaultWorld, cache: Path | None) -> tuple[Replica, Callable[[], int]]:
    """A replica with a cache, and how many index objects it has fetched so far."""
    store = TracedStore(world.stores["eu"])
    replica = Replica.open("eu", store, world.key_file, world.clock, cache)
    return replica, lambda: sum(
        call.op == "get" and call.name.startswith(layout.INDEX) for call in store.calls
    )


def some_files(first: int, count: int = 12) -> dict[str, bytes]:
    return {f"{number}.txt": b"file %d" % number for number in range(first, first + count)}


def test_the_next_command_fetches_no_index_object_again(world: VaultWorld, tmp_path: Path) -> None:
    points = [world.capture(some_files(first)).point for first in (0, 100, 200)]
    first, fetched = opened(world, tmp_path)
    rows = len(first.index)
    assert fetched() == 3
    second, fetched = opened(world, tmp_path)
    assert len(second.index) == rows
    assert world.restored(points[1], replica=second) == some_files(100)
    assert fetched() == 0


def test_an_index_that_is_not_large_leaves_nothing_on_the_disk(world: VaultWorld, tmp_path: Path) -> None:
    world.capture({"one.txt": b"one"})
    replica, _ = opened(world, tmp_path)
    assert len(replica.index) < index_module.SHELVED_ROWS_MIN
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_in_the_vault_any_more_is_not_found(
    world: VaultWorld, tmp_path: Path
) -> None:  # fault 16
    world.capture(some_files(0))
    replica, _ = opened(world, tmp_path)
    assert len(replica.index)
    store = world.stores["eu"]
    for entry in [*store.list(layout.INDEX), *store.list(layout.PACKS)]:
        store.delete(entry.name)
    after, _ = opened(world, tmp_path)
    assert after.index.packs == ()
    point = world.capture(some_files(0), replicas=[after]).point
    assert world.restored(point) == some_files(0), "it was stored again, not taken for there"


def test_a_damaged_cache_is_read_from_the_vault_again(world: VaultWorld, tmp_path: Path) -> None:  # fault 2
    point = world.capture(some_files(0)).point
    opened(world, tmp_path)[0].index  # noqa: B018
    replica, fetched = opened(world, tmp_path)
    assert len(replica.index)
    (path,) = tmp_path.rglob(f"*{indexfile.SUFFIX}")
    with path.open("r+b") as file:
        file.write(b"rotten" * 100)
    assert world.restored(point, replica=replica) == some_files(0)
    assert fetched() == 1


def test_nothing_counts_that_was_signed_by_who_was_removed_since(world: VaultWorld, tmp_path: Path) -> None:
    world.capture(some_files(0))
    replica, _ = opened(world, tmp_path)
    assert len(replica.index)
    own = replica.keyring.signer(Role.WRITER)
    (told,) = [one for one in replica.keyring.known() if one.role is Role.WRITER and one.id == own]
    replica.keyring.adopt([Removed(Role.WRITER, told.id, MOMENT, {}, "0" * 64)])
    whose = next((tmp_path / "index").iterdir())
    assert len(Index(Shelf(whose, replica.keyring))) == 0


def test_the_descriptor_names_no_folder_outside_the_cache(
    world: VaultWorld, tmp_path: Path
) -> None:  # fault 60
    world.capture(some_files(0))
    world.unsign()
    store = world.stores["eu"]
    descriptor = layout.read_descriptor(store).model_copy(update={"replica": "../../outside"}).summed()
    store.delete(layout.VAULT)
    layout.write_descriptor(store, descriptor)
    replica, _ = opened(world, tmp_path / "inner" / "cache")
    assert len(replica.index)
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]
    assert [path.name for path in (tmp_path / "inner").iterdir()] == ["cache"]
