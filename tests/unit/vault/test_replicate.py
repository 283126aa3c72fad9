"""A replica gets what it lacks, byte for byte, and never anything damaged."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from refloat.contracts import Store
from refloat.errors import Refused, StoreError
from refloat.vault import layout
from refloat.vault.keys import Role
from refloat.vault.missed import commit_points, missed_points
from refloat.vault.new_replica import make_replica
from refloat.vault.pace import Pace
from refloat.vault.replicate import Copied, catch_up, copy_objects, store_checked
from refloat.vault.stores.faulty import Crash, FaultyStore, When
from refloat.vault.stores.memory import MemoryStore

VaultWorld = Any  # the fixture ``world`` of conftest.py
FILES = {"a/model.bin": b"weights" * 100, "note": b"hello"}
COPIED = ("packs/", "index/", "points/", "keys/")


def only_eu(world: VaultWorld, files: dict[str, bytes] | None = None) -> Any:
    return world.capture(files or FILES, replicas=[world.open("eu")])


def test_it_brings_everything_but_the_log(world: VaultWorld) -> None:
    captured = only_eu(world)
    copied = catch_up(world.open("eu"), world.open("us"))
    for prefix in COPIED:
        assert world.names(prefix, "us") == world.names(prefix, "eu")
    assert world.committed("us") == []
    assert world.restored(captured.point, "us") == FILES
    sizes = [entry.size for prefix in COPIED[:3] for entry in world.stores["eu"].list(prefix)]
    assert copied == Copied(len(sizes), sum(sizes))


def test_the_second_time_there_is_nothing_to_do(world: VaultWorld) -> None:
    only_eu(world)
    catch_up(world.open("eu"), world.open("us"))
    assert catch_up(world.open("eu"), world.open("us")) == Copied()


def test_an_open_replica_knows_what_was_brought(world: VaultWorld) -> None:
    captured = only_eu(world)
    us = world.open("us")
    assert len(us.index) == 0
    catch_up(world.open("eu"), us)
    assert us.index.lookup(bytes.fromhex(captured.stored.tree)) is not None


def test_no_content_key_is_needed(world: VaultWorld) -> None:
    captured = only_eu(world)
    operator = world.key_file.for_roles(Role.OPERATOR)
    catch_up(world.open("eu", key_file=operator), world.open("us", key_file=operator))
    assert world.restored(captured.point, "us") == FILES


@pytest.mark.parametrize("prefix", COPIED)
def test_damaged_bytes_are_never_copied_and_are_named(world: VaultWorld, prefix: str) -> None:
    only_eu(world)
    if prefix == "keys/":
        for name in world.names(prefix, "us")[:1]:
            world.stores["us"].delete(name)
        name = next(iter(set(world.names(prefix, "eu")) - set(world.names(prefix, "us"))))
    else:
        name = world.names(prefix, "eu")[0]
    eu, us = world.open("eu"), world.open("us")
    world.flip(name, 40, "eu")
    copied = catch_up(eu, us)
    assert copied.damaged == (name,)
    assert name not in world.names(prefix, "us")


def test_an_index_object_is_copied_only_when_all_its_packs_are_there(world: VaultWorld) -> None:
    only_eu(world)
    pack = world.names("packs/", "eu")[0]
    world.flip(pack, 40, "eu")
    catch_up(world.open("eu"), world.open("us"))
    assert world.names("index/", "us") == []
    world.flip(pack, 40, "eu")
    catch_up(world.open("eu"), world.open("us"))
    assert world.names("index/", "us") == world.names("index/", "eu")


def test_a_copy_that_is_cut_anywhere_leaves_nothing_that_names_what_is_not_there(world: VaultWorld) -> None:
    captured = only_eu(world)
    learned = FaultyStore(MemoryStore())
    for entry in world.stores["us"].list(""):
        learned.create(entry.name, world.stores["us"].get(entry.name))
    us = world.open("us", store=learned)
    before = learned.operations
    catch_up(world.open("eu"), us)
    for cut in range(1, learned.operations - before + 1):
        inner = MemoryStore()
        for entry in world.stores["us"].list(""):
            inner.create(entry.name, world.stores["us"].get(entry.name))
        faulty = FaultyStore(inner)
        us = world.open("us", store=faulty)
        faulty.crash(faulty.operations + cut, When.AFTER)
        with pytest.raises(Crash):
            catch_up(world.open("eu"), us)
        there = world.open("us", store=inner)
        sizes = {entry.name.rpartition("/")[2]: entry.size for entry in inner.list("packs/")}
        assert all(sizes[pack.name] == pack.size for pack in there.index.packs)
        catch_up(world.open("eu"), there)
        assert world.restored(captured.point, replica=there) == FILES


def test_a_store_that_only_says_that_it_stored_is_an_error() -> None:
    with pytest.raises(StoreError, match="holds nothing"):
        store_checked(FaultyStore(MemoryStore(), fail_at=1, when=When.LYING), "packs/aa/aa", b"content")
    short = MemoryStore()
    short.create("packs/aa/aa", b"cont")
    with pytest.raises(StoreError, match="holds 4"):
        store_checked(short, "packs/aa/aa", b"content")


# ------------------------------------------------------------------------------------------ without a key


@dataclass(frozen=True)
class At:
    region: str
    store: Store


def keyless(world: VaultWorld, source: Store | None = None, target: Store | None = None) -> Copied:
    return copy_objects(At("eu", source or world.stores["eu"]), At("us", target or world.stores["us"]))


def test_without_a_key_it_brings_the_same(world: VaultWorld) -> None:
    captured = only_eu(world)
    copied = keyless(world)
    for prefix in COPIED:
        assert world.names(prefix, "us") == world.names(prefix, "eu")
    assert world.restored(captured.point, "us") == FILES
    assert copied.objects > 3 and keyless(world) == Copied()


@pytest.mark.parametrize("prefix", ["packs/", "index/", "points/"])
def test_without_a_key_nothing_is_brought_that_may_name_what_is_damaged(
    world: VaultWorld, prefix: str
) -> None:  # fault 2
    only_eu(world)
    name = world.names(prefix, "eu")[0]
    world.flip(name, 40, "eu")
    copied = keyless(world)
    assert copied.damaged == (name,)
    assert name not in world.names(prefix, "us")
    behind = {"packs/": ("index/", "points/"), "index/": ("points/",), "points/": ()}[prefix]
    assert [world.names(below, "us") for below in behind] == [[] for _ in behind]
    assert bool(copied.waiting) == bool(behind)
    world.flip(name, 40, "eu")
    keyless(world)
    assert world.names("points/", "us") == world.names("points/", "eu")


def test_a_store_that_only_says_that_it_stored_gets_no_index(world: VaultWorld) -> None:  # fault 4
    only_eu(world)
    learned = FaultyStore(MemoryStore())
    keyless(world, target=learned)
    packs = [op.number for op in learned.trace if op.op == "create" and op.name.startswith("packs/")]
    for number in packs:
        inner = MemoryStore()
        with pytest.raises(StoreError, match="holds nothing"):
            keyless(world, target=FaultyStore(inner, fail_at=number, when=When.LYING))
        assert list(inner.list("index/")) == list(inner.list("points/")) == []


def test_an_object_that_is_lost_at_the_target_is_brought_again(world: VaultWorld) -> None:  # fault 3
    captured = only_eu(world)
    keyless(world)
    world.stores["us"].delete(world.names("packs/", "us")[0])
    assert keyless(world).objects == 1
    assert world.restored(captured.point, "us") == FILES


@pytest.mark.parametrize("cut", ["eu", "us"])
def test_without_a_key_it_may_be_cut_at_any_operation(world: VaultWorld, cut: str) -> None:  # fault 18
    captured = only_eu(world)
    learned = FaultyStore(world.stores["eu"] if cut == "eu" else MemoryStore())
    keyless(world, *((learned, MemoryStore()) if cut == "eu" else (None, learned)))
    for number in range(1, learned.operations + 1):
        for when in (When.BEFORE, When.AFTER):
            target = MemoryStore()
            faulty = FaultyStore(world.stores["eu"] if cut == "eu" else target, crash_at=number, when=when)
            with pytest.raises(Crash):
                keyless(world, *((faulty, target) if cut == "eu" else (None, faulty)))
            packs, index = ({e.name for e in target.list(below)} for below in ("packs/", "index/"))
            assert not index or packs == set(world.names("packs/", "eu"))
            assert not list(target.list("points/")) or index == set(world.names("index/", "eu"))
            keyless(world, target=target)
            made = layout.read_descriptor(world.stores["us"])
            layout.write_descriptor(target, made)
            assert world.restored(captured.point, replica=world.open("us", store=target)) == FILES


# ------------------------------------------------------------------------------------------- a new region


def test_an_empty_place_becomes_a_replica_with_an_id_of_its_own(world: VaultWorld) -> None:
    captured = only_eu(world)
    place = At("asia", MemoryStore())
    made = make_replica(At("eu", world.stores["eu"]), place)
    eu = layout.read_descriptor(world.stores["eu"])
    assert (made.vault, made.region, made.pipeline) == (eu.vault, "asia", eu.pipeline)
    assert made.replica != eu.replica
    keyless(world, target=place.store)
    assert world.restored(captured.point, replica=world.open("asia", store=place.store)) == FILES


def test_a_place_that_holds_anything_else_is_refused(world: VaultWorld) -> None:
    for name in ("packs/aa/" + "a" * 64, "keys/" + "a" * 64, "note"):
        store = MemoryStore()
        store.create(name, b"somebody's")
        with pytest.raises(Refused):
            make_replica(At("eu", world.stores["eu"]), At("asia", store))
        assert [info.name for info in store.list("")] == [name]


def test_the_making_of_a_replica_that_was_cut_anywhere_is_begun_anew(world: VaultWorld) -> None:  # fault 18
    learned = FaultyStore(MemoryStore())
    make_replica(At("eu", world.stores["eu"]), At("asia", learned))
    for number in range(1, learned.operations + 1):
        for when in (When.BEFORE, When.AFTER):
            inner = MemoryStore()
            with pytest.raises(Crash):
                faulty = FaultyStore(inner, crash_at=number, when=when)
                make_replica(At("eu", world.stores["eu"]), At("asia", faulty))
            if inner.size(layout.VAULT) is None:
                make_replica(At("eu", world.stores["eu"]), At("asia", inner))
            assert world.open("asia", store=inner).points() == []


# --------------------------------------------------------------------------------------- points that count


def test_points_that_a_region_missed_count_there_in_their_order(world: VaultWorld) -> None:  # fault 3
    first = world.capture(FILES).point
    missed = [only_eu(world, {"a": bytes([n]) * 9}).point for n in range(2)]
    eu, us = world.open("eu"), world.open("us")
    lacking = missed_points(eu, us)
    assert [point.name for point in lacking] == missed
    copy_objects(At("eu", world.stores["eu"]), At("us", world.stores["us"]), prefixes=["points/"])
    assert commit_points(us, lacking, {}).lacking == tuple(missed), "what they need is not there"
    keyless(world)
    assert commit_points(us, lacking, {}).committed == tuple(missed)
    assert world.committed("us") == [first, *missed] == world.committed("eu")
    assert missed_points(eu, world.open("us")) == []


def test_nothing_is_made_up_for_where_nobody_can_tell_what_came_first(world: VaultWorld) -> None:
    world.capture(FILES)
    only_eu(world, {"a": b"eu alone"})
    world.capture({"a": b"us alone"}, replicas=[world.open("us")])
    assert missed_points(world.open("eu"), world.open("us")) == []


# -------------------------------------------------------------------------------------------- its pace


class Virtual:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


def test_no_more_passes_than_the_limit_says(world: VaultWorld) -> None:
    only_eu(world, {"weights": random.Random(7).randbytes(400_000)})
    clock = Virtual()
    places = At("eu", world.stores["eu"]), At("us", world.stores["us"])
    copied = copy_objects(*places, pace=Pace(100_000, clock))
    assert copied.bytes > 400_000
    last_piece_s = 25_000 / 100_000
    assert copied.bytes / 100_000 - last_piece_s <= clock.time <= copied.bytes / 100_000


def test_who_waits_for_the_pace_is_let_go_when_the_work_is_given_up() -> None:
    clock = Virtual()
    pace = Pace(1, clock)
    assert pace.take(1_000_000)
    assert not pace.take(1, lambda: clock.time > 3)
    assert clock.time < 5
