"""A point is committed with everything it needs, or it does not exist; one region's trouble is its own."""

from __future__ import annotations

import io
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from refloat.contracts import Facts, Put
from refloat.errors import Missing, StoreError, StoreFull, UsageError, WrongKey
from refloat.vault.check import check
from refloat.vault.index import Index
from refloat.vault.keys import KeyFile, Role
from refloat.vault.layout import Chunking
from refloat.vault.pack import PackRoom
from refloat.vault.stores.faulty import Crash, FaultyStore, When
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.writer import Writer

VaultWorld = Any  # the fixture ``world`` of conftest.py
FILES = {"a/model.bin": b"weights" * 100, "empty": b"", "note": b"hello"}
NEWER = {"a/model.bin": b"weights" * 100 + b"more", "other/new": b"new", "note": b"hello"}


def copy_of(store: Any) -> MemoryStore:
    twin = MemoryStore("copy")
    for entry in store.list(""):
        twin.create(entry.name, store.get(entry.name))
    return twin


# ------------------------------------------------------------------------------------------ storing once


def test_both_regions_get_the_same_sealed_bytes(world: VaultWorld) -> None:
    captured = world.capture(FILES)
    assert {region: result.complete for region, result in captured.regions.items()} == {
        "eu": True,
        "us": True,
    }
    for prefix in ("packs/", "index/", "points/"):
        assert world.names(prefix, "eu") == world.names(prefix, "us") != []
    assert world.restored(captured.point, "eu") == world.restored(captured.point, "us") == FILES


def test_the_same_bytes_are_stored_once_over_all_captures(world: VaultWorld) -> None:
    content = os.urandom(50_000)
    first = world.capture({"a": content, "b": content})
    assert first.stored.bytes == 100_000
    assert 50_000 <= first.stored.new_bytes < 51_000
    second = world.capture({"a": content, "b": content})
    assert (second.stored.new_bytes, second.stored.stored_bytes) == (0, 0)
    assert second.stored.tree == first.stored.tree
    assert world.restored(second.point) == {"a": content, "b": content}


def test_a_change_in_the_middle_of_a_file_stores_what_is_around_it(world: VaultWorld) -> None:
    content = os.urandom(200_000)
    writer = Writer(world.replicas())
    writer.chunking = Chunking(min=256, avg=1024, max=4096)
    before = writer.sink()
    before.file("f", io.BytesIO(content))
    assert before.finish().new_bytes > 200_000
    after = writer.sink()
    after.file("f", io.BytesIO(content[:90_000] + b"!" + content[90_000:]))
    assert after.finish().new_bytes < 30_000  # a few chunks, and the folder
    writer.close()


def test_what_another_writer_claims_to_have_stored_is_stored_again(world: VaultWorld) -> None:
    """Whoever steals one training cluster's key must not be able to spoil what the others store."""
    world.capture(FILES)
    eu = world.open()
    lying = Index()
    for pack in eu.index.packs:
        lying.add([(replace(pack, writer="somebody else"), eu.read_directory(pack.name, pack.size))])
    for name in world.names("index/", "eu"):
        lying.add([], name.removeprefix("index/"))  # and nothing else is read
    eu._index = lying
    again = world.capture(FILES, replicas=[eu])
    assert again.stored.new_bytes > 700
    assert world.restored(again.point) == FILES


def test_a_chunk_whose_pack_is_gone_everywhere_is_stored_again(world: VaultWorld) -> None:
    world.capture(FILES)
    for region in ("eu", "us"):
        for name in world.names("packs/", region):
            world.stores[region].delete(name)
    again = world.capture(FILES)
    assert again.stored.new_bytes > 700
    assert world.restored(again.point, "us") == FILES


def test_many_packs_and_index_objects_make_one_point(
    world: VaultWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refloat.vault.writer.INDEX_PACKS_MAX", 3)
    files = {f"f{n}": os.urandom(1500) for n in range(20)}
    captured = world.capture(files, pack_bytes_max=4000)
    assert len(world.names("packs/")) > 9
    assert len(world.names("index/")) > 3
    assert all(entry.size <= 4000 for entry in world.stores["eu"].list("packs/"))
    assert world.restored(captured.point, "us") == files


def test_the_memory_of_a_pack_is_not_used_again_before_every_region_has_it(
    world: VaultWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = MemoryStore.create

    def reluctant(store: MemoryStore, name: str, content: Any) -> Any:
        if store is world.stores["us"] and name.startswith("packs/"):
            time.sleep(0.02)  # so that a writer that goes on when the other region is done would be seen to
        return create(store, name, content)

    rooms = []
    monkeypatch.setattr(MemoryStore, "create", reluctant)
    monkeypatch.setattr("refloat.vault.writer.PackRoom", lambda size: rooms.append(size) or PackRoom(size))
    files = {f"f{number}": os.urandom(900) for number in range(40)}
    captured = world.capture(files, pack_bytes_max=4096)
    assert len(rooms) < len(world.names("packs/", "us"))
    for region in ("eu", "us"):
        assert world.restored(captured.point, region) == files


def test_contents_and_catalogue_are_sealed_for_different_keys(world: VaultWorld) -> None:
    captured = world.capture(FILES)
    eu = world.open()
    keys = {pack.key_id for pack in eu.index.packs}
    assert keys == {bytes(16), eu.keyring.content_key().id}
    reading = world.open(key_file=world.key_file.for_roles(Role.WRITER))
    assert [entry.path for entry in reading.source(captured.stored.tree, Facts()).entries()] == [
        "a",
        "a/model.bin",
        "empty",
        "note",
    ]


def test_a_file_that_equals_a_folder_listing_is_not_taken_from_the_catalogue(world: VaultWorld) -> None:
    """Chunks are shared within one key only: whoever may see names must not come to see contents."""
    tree = bytes.fromhex(world.capture(FILES).stored.tree)
    listing = world.open().read_chunk(tree)
    again = world.capture({"listing": listing})
    eu = world.open()
    keys = [place.pack.key_id for place in eu.index.locations(tree)]
    assert sorted(keys) == sorted([bytes(16), eu.keyring.content_key().id])
    assert world.restored(again.point) == {"listing": listing}


def test_a_file_is_carried_from_the_capture_before_even_by_a_writer_that_cannot_read(
    world: VaultWorld,
) -> None:
    replicas = [world.open(region, key_file=world.key_file.for_roles(Role.WRITER)) for region in ("eu", "us")]
    with Writer(replicas) as writer:
        sink = writer.sink()
        sink.file("d/big", io.BytesIO(b"big" * 1000), token="t1")
        before = sink.finish()
        within = writer.sink(before.tree)  # a second attempt within the same session
        assert within.carry("d/big", "t1")
        writer.commit({"manifest": before.tree, "components": {"c": {"tree": within.finish().tree}}})
    replicas = [world.open(region, key_file=world.key_file.for_roles(Role.WRITER)) for region in ("eu", "us")]
    with Writer(replicas) as writer:
        sink = writer.sink(before.tree)
        assert sink.carry("d/big", "t1")
        assert not sink.carry("d/big", "t2")
        after = sink.finish()
        assert (after.tree, after.new_bytes) == (before.tree, 0)
        point, _ = writer.commit({"manifest": after.tree, "components": {"c": {"tree": after.tree}}})
    assert point in world.committed()


def test_several_components_are_captured_at_the_same_time(world: VaultWorld) -> None:
    shared = os.urandom(3000)
    with Writer(world.replicas(), pack_bytes_max=5000) as writer:

        def capture(name: str) -> str:
            sink = writer.sink()
            for number in range(20):
                sink.file(f"{number}", io.BytesIO(shared + f"{name}{number}".encode() * 50))
                sink.file(f"shared/{number}", io.BytesIO(shared))
            return sink.finish().tree

        names = ("a", "b", "c")
        with ThreadPoolExecutor(3) as pool:
            trees = dict(zip(names, pool.map(capture, names), strict=True))
        components = {name: {"tree": tree} for name, tree in trees.items()}
        point, _ = writer.commit({"manifest": trees["a"], "components": components})
    us = world.open("us")
    for name, tree in trees.items():
        source = us.source(tree, Facts())
        assert source.open("7").read() == shared + f"{name}7".encode() * 50
        assert source.open("shared/3").read() == shared
    assert check(us, read_data=True).ok and point in world.committed("us")


# ------------------------------------------------------------------------------------------ committing


def test_a_point_that_names_a_tree_which_nobody_stored_is_not_committed(world: VaultWorld) -> None:
    with Writer(world.replicas()) as writer:
        tree = writer.sink().finish().tree
        with pytest.raises(Missing):
            writer.commit({"manifest": tree, "components": {"c": {"tree": "ab" * 32}}})
        with pytest.raises(UsageError, match="components"):
            writer.commit({"manifest": tree})
    assert world.committed() == []
    assert world.names("points/") == []


def test_only_a_writer_captures(world: VaultWorld) -> None:
    with pytest.raises(WrongKey, match="writer"):
        Writer([world.open(key_file=world.key_file.for_roles(Role.READER))])


def test_replicas_of_two_vaults_are_never_written_together(world: VaultWorld) -> None:
    other = type(world)(key_file=KeyFile.create("vault-2", "demo")).create()
    with pytest.raises(UsageError, match="one vault"):
        Writer([world.open(), other.open()])
    with pytest.raises(UsageError, match="at least one"):
        Writer([])


def test_two_writers_that_commit_at_once_both_land(world: VaultWorld) -> None:
    barrier = threading.Barrier(2)

    def capture(name: str) -> str:
        with Writer(world.replicas()) as writer:
            sink = writer.sink()
            sink.file(name, io.BytesIO(name.encode()))
            tree = sink.finish().tree
            barrier.wait(timeout=60)
            return writer.commit({"manifest": tree, "components": {"c": {"tree": tree}}})[0]

    with ThreadPoolExecutor(2) as pool:
        points = list(pool.map(capture, ("one", "two")))
    for region in ("eu", "us"):
        assert sorted(world.committed(region)) == sorted(points)
        assert check(world.open(region), read_data=True).ok


# ------------------------------------------------------------------------------------------ cuts


def operations_of_a_capture(world: VaultWorld, base: MemoryStore, region: str = "eu") -> int:
    learned = FaultyStore(copy_of(base))
    replica = world.open(region, store=learned)
    opening = learned.operations
    world.capture(NEWER, replicas=[replica], pack_bytes_max=400)
    return learned.operations - opening


@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER, When.TORN])
def test_a_capture_cut_at_any_operation_is_committed_whole_or_not_at_all(
    world: VaultWorld, when: When
) -> None:
    """After each cut: the earlier point restores, the new one restores if it is there, and a rerun converges."""
    first = world.capture(FILES, replicas=[world.open()])
    base = copy_of(world.stores["eu"])
    committed = 0
    for cut in range(1, operations_of_a_capture(world, base) + 1):
        inner = copy_of(base)
        faulty = FaultyStore(inner)
        replica = world.open(store=faulty)
        faulty._crashes[faulty.operations + cut] = when
        with pytest.raises(Crash):
            world.capture(NEWER, replicas=[replica], pack_bytes_max=400)
        after = world.open(store=inner)
        points = [point.name for point in after.points()]
        assert points[0] == first.point
        assert world.restored(first.point, replica=after) == FILES
        if len(points) > 1:
            committed += 1
            assert world.restored(points[1], replica=after) == NEWER
        assert check(world.open(store=inner), read_data=True).ok
        again = world.capture(NEWER, replicas=[world.open(store=inner)], pack_bytes_max=400)
        assert world.restored(again.point, replica=world.open(store=inner)) == NEWER
    assert committed >= 1


@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER])
def test_one_region_that_fails_once_at_any_operation_never_stops_the_other_and_is_asked_again(
    world: VaultWorld, when: When
) -> None:
    first = world.capture(FILES)
    eu, us = copy_of(world.stores["eu"]), copy_of(world.stores["us"])
    for cut in range(1, operations_of_a_capture(world, us, "us") + 1):
        stores = {"eu": copy_of(eu), "us": copy_of(us)}
        faulty = FaultyStore(stores["us"])
        replica = world.open("us", store=faulty)
        faulty.fail(faulty.operations + cut, when)
        captured = world.capture(
            NEWER, replicas=[world.open("eu", store=stores["eu"]), replica], pack_bytes_max=400
        )
        assert captured.regions["eu"].complete and captured.regions["eu"].slot == 1
        assert world.restored(captured.point, replica=world.open("eu", store=stores["eu"])) == NEWER
        there = world.open("us", store=stores["us"])
        assert world.restored(first.point, replica=there) == FILES
        assert captured.regions["us"].complete, captured.regions["us"].error
        assert world.restored(captured.point, replica=there) == NEWER
        assert [entry.body["point"] for entry in there.entries()] == [first.point, captured.point], "and once"


def test_a_store_without_room_is_not_filled_further_by_a_second_try(
    world: VaultWorld, monkeypatch: pytest.MonkeyPatch
) -> None:  # fault 13
    world.capture(FILES)
    before, create, refused = world.names("", "us"), MemoryStore.create, iter([True])

    def full(store: MemoryStore, name: str, content: Any) -> Any:
        if store is world.stores["us"] and name.startswith("packs/") and next(refused, False):
            raise StoreFull("it is full", next="free space there")
        return create(store, name, content)

    monkeypatch.setattr(MemoryStore, "create", full)
    captured = world.capture(NEWER)
    assert captured.regions["eu"].complete and not captured.regions["us"].complete
    assert world.names("", "us") == before


def test_a_store_that_only_says_that_it_stored_never_counts_as_a_copy(world: VaultWorld) -> None:
    learned = FaultyStore(copy_of(world.stores["us"]))
    world.capture(FILES, replicas=[world.open("us", store=learned)])
    creates = [operation.number for operation in learned.trace if operation.op == "create"]
    assert len(creates) >= 5  # packs, index, point, log
    for number in creates:
        inner = copy_of(world.stores["us"])
        faulty = FaultyStore(inner, fail_at=number, when=When.LYING)
        with pytest.raises(StoreError) as caught:
            world.capture(FILES, replicas=[world.open("us", store=faulty)])
        assert "us:" in caught.value.message
        assert world.open("us", store=inner).points() == []


def test_all_regions_failing_is_an_error_that_names_each(world: VaultWorld) -> None:
    stores = {region: FaultyStore(world.stores[region]) for region in ("eu", "us")}
    replicas = [world.open(region, store=store) for region, store in stores.items()]
    for store in stores.values():
        store.down = True
    with pytest.raises(StoreError, match=r"eu: .*us: "):
        world.capture(FILES, replicas=replicas)


def test_a_region_that_was_away_catches_up_with_the_next_point(world: VaultWorld) -> None:
    """While it was away, another region took a point; deduplication must not leave it with half of the next."""
    faulty = FaultyStore(world.stores["us"])
    us = world.open("us", store=faulty)
    faulty.down = True
    away = world.capture(FILES, replicas=[world.open("eu"), us])
    assert away.regions["us"].complete is False and away.regions["us"].error
    faulty.down = False
    back = world.capture({**FILES, "extra": b"extra"})
    assert back.regions["us"].complete
    assert world.committed("us") == [away.point, back.point], (
        "what it missed counts there, too, and in its order"
    )
    assert world.restored(back.point, "us") == {**FILES, "extra": b"extra"}
    assert check(world.open("us"), read_data=True).ok


def test_a_capture_waits_for_no_region_that_takes_nothing_while_another_one_does(
    world: VaultWorld, monkeypatch: pytest.MonkeyPatch
) -> None:  # fault 8
    create, committed = MemoryStore.create, threading.Event()

    def stuck(store: MemoryStore, name: str, content: Any) -> Any:
        if store is world.stores["us"] and name.startswith("packs/") and not committed.wait(60):
            raise StoreError("the capture waited for it")
        put = create(store, name, content)
        if store is world.stores["eu"] and name.startswith("log/points/"):
            committed.set()
        return put

    monkeypatch.setattr(MemoryStore, "create", stuck)
    monkeypatch.setattr("refloat.vault.lane.LAG_S", 0.5)
    monkeypatch.setattr("refloat.vault.writer.INDEX_PACKS_MAX", 3)
    files = {f"f{number}": os.urandom(900) for number in range(40)}
    captured = world.capture(files, pack_bytes_max=4096)
    assert {region: result.error for region, result in captured.regions.items()} == {"eu": None, "us": None}
    assert world.names("packs/", "us") == world.names("packs/", "eu")
    assert world.restored(captured.point, "us") == files
    assert check(world.open("us"), read_data=True).ok


@pytest.mark.parametrize("asked", ["log/", "index/", "packs/"])
def test_a_capture_waits_for_no_region_that_does_not_say_what_it_holds(
    world: VaultWorld, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:  # fault 8
    before = world.capture(FILES)
    replicas = world.replicas()
    create, committed = MemoryStore.create, threading.Event()

    def committing(store: MemoryStore, name: str, content: Any) -> Any:
        put = create(store, name, content)
        if store is world.stores["eu"] and name.startswith("log/points/"):
            committed.set()
        return put

    def stuck(call: Any) -> Any:
        def ask(store: MemoryStore, name: str, *more: Any) -> Any:
            if store is world.stores["us"] and name.startswith(asked) and not committed.wait(60):
                raise StoreError("the capture waited for it")
            return call(store, name, *more)

        return ask

    monkeypatch.setattr(MemoryStore, "create", committing)
    for call in ("get", "list", "size"):
        monkeypatch.setattr(MemoryStore, call, stuck(getattr(MemoryStore, call)))
    monkeypatch.setattr("refloat.vault.lane.LAG_S", 0.05)
    captured = world.capture(NEWER, replicas=replicas)
    assert {region: result.error for region, result in captured.regions.items()} == {"eu": None, "us": None}
    assert world.committed("us") == [before.point, captured.point]
    assert world.restored(captured.point, "us") == NEWER
    assert check(world.open("us"), read_data=True).ok


def test_a_region_that_is_late_is_waited_for_where_no_other_is_well(
    world: VaultWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.capture(FILES)
    faulty = FaultyStore(world.stores["eu"])
    replicas = [world.open("eu", store=faulty), world.open("us")]
    faulty.down = True
    monkeypatch.setattr("refloat.vault.lane.LAG_S", 0.0)
    captured = world.capture(FILES, replicas=replicas)
    assert captured.regions["us"].complete and not captured.regions["eu"].complete
    assert world.committed("us") == [first.point, captured.point]


def test_a_region_that_lost_a_pack_gets_it_back_before_it_counts_as_complete(world: VaultWorld) -> None:
    world.capture(FILES)
    for name in world.names("packs/", "us"):
        world.stores["us"].delete(name)
    again = world.capture(FILES)
    assert again.stored.new_bytes == 0
    assert again.regions["us"].complete
    assert world.restored(again.point, "us") == FILES


@pytest.mark.parametrize("fault", ["broken", "lost"])
def test_a_region_whose_index_is_broken_or_lost_still_takes_points(world: VaultWorld, fault: str) -> None:
    world.capture(FILES)
    (index,) = world.names("index/", "us")
    if fault == "lost":
        world.stores["us"].delete(index)
    else:
        world.flip(index, 60, "us")
    again = world.capture(FILES)
    assert again.stored.new_bytes == 0
    assert again.regions["us"].complete
    assert world.restored(again.point, "us") == FILES


def test_a_region_is_not_complete_with_a_pack_that_no_region_has_whole(world: VaultWorld) -> None:
    world.capture(FILES)
    eu_packs = world.names("packs/", "eu")
    for name in eu_packs:
        world.stores["us"].delete(name)
        world.flip(name, 50, "eu")  # right in size, wrong in content: never copied onward
    again = world.capture(FILES)
    assert again.regions["us"].complete is False
    assert "lacks" in again.regions["us"].error
    assert world.names("packs/", "us") == []


def test_what_a_region_lacks_is_told_with_what_its_store_said(
    world: VaultWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    # fault 2
    world.capture(FILES)
    store = world.stores["us"]
    for name in world.names("packs/", "us"):
        store.delete(name)

    def full(name: str, content: bytes | memoryview) -> Put:
        raise StoreError(f"cannot write {name}: it is full", file=name, next="free space there")

    monkeypatch.setattr(store, "create", full)
    again = world.capture(FILES)
    assert again.regions["eu"].complete and not again.regions["us"].complete
    assert "lacks" in again.regions["us"].error and "it is full" in again.regions["us"].error
    assert again.regions["us"].error.endswith("next: free space there")


def test_a_capture_that_is_dropped_leaves_no_point(world: VaultWorld) -> None:
    with pytest.raises(RuntimeError), Writer(world.replicas()) as writer:
        sink = writer.sink()
        sink.file("f", io.BytesIO(b"x"))
        sink.finish()
        raise RuntimeError("the connector broke")
    assert world.committed() == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("vault-")]
