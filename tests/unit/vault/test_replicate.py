"""A replica gets what it lacks, byte for byte, and never anything damaged."""

from __future__ import annotations

from typing import Any

import pytest

from refloat.errors import StoreError
from refloat.vault.keys import Role
from refloat.vault.replicate import Copied, catch_up, store_checked
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
        faulty._crashes[faulty.operations + cut] = When.AFTER
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
