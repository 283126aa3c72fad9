"""A pack that claims chunks it does not hold, put there by a thief with a writer's key, makes no other's point void."""

from __future__ import annotations

from pathlib import Path

import pytest

from poison import packs, poison, thief_of
from refloat.contracts import Store
from refloat.errors import StoreError
from refloat.flows.into import bring, choose
from refloat.testing.world import World
from refloat.vault import layout
from refloat.vault.replica import create_vault
from refloat.vault.stores.faulty import FaultyStore, Operation
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.vault import Vault

REGIONS = ("eu", "us")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.small(tmp_path, group="")


def only(world: World, region: str) -> Vault:
    other = next(one for one in REGIONS if one != region)
    return Vault({region: world.vault().replicas[region]}, {other: StoreError(f"{other} is away")})


def brought(world: World, region: str) -> bytes:
    """The page of the newest point, from one region alone."""
    chosen = choose([world.vault().replicas[region]], point=None, at=None, only=[], overrides=[])
    folder = world.root / f"brought-{region}"
    bring(chosen, folder, world.clock, overrides=[])
    return (folder / "pages" / "content" / "current.json").read_bytes()


def test_what_a_thief_claims_to_hold_is_stored_again(world: World, tmp_path: Path) -> None:  # fault 57
    stores: dict[str, Store] = {region: MemoryStore() for region in REGIONS}
    elsewhere = World(tmp_path / "elsewhere", "", world.clock, world.key_file, stores)
    elsewhere.release(1)
    create_vault(elsewhere.stores, elsewhere.key_file, elsewhere.clock, "small")
    elsewhere.protect()  # the thief knows what will be protected, and how its chunks are called
    thief = thief_of(world)
    for region in REGIONS:
        poison(thief, packs(elsewhere, "eu"), region)
    assert world.protect().ok
    for region in REGIONS:
        assert brought(world, region) == b'{"version": 1}'


def test_a_region_that_was_away_counts_no_chunk_that_a_thief_claims_to_hold_there(
    world: World,
) -> None:  # fault 57
    world.protect(only(world, "eu"))
    poison(thief_of(world), packs(world, "eu"), "us")
    done = world.protect()
    assert done.regions["us"].complete
    assert brought(world, "us") == b'{"version": 1}'


def test_where_the_true_one_cannot_be_fetched_the_region_is_not_complete(world: World) -> None:  # fault 57
    world.protect(only(world, "eu"))
    poison(thief_of(world), packs(world, "eu"), "us")

    def unread(operation: Operation) -> None:
        if operation.op == "get" and operation.name.startswith(layout.PACKS):
            store.fail(operation.number)

    store = FaultyStore(world.stores["eu"], at_each=unread)
    done = world.protect(world.vault({"eu": store}))
    assert not done.regions["us"].complete
    assert world.protect().regions["us"].complete
    assert brought(world, "us") == b'{"version": 1}'
