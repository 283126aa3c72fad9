from __future__ import annotations

from pathlib import Path

import pytest

from refloat.testing.world import World
from refloat.vault.check import check
from refloat.vault.repair import Repaired, repair
from refloat.vault.stores.faulty import FaultyStore


def mend(world: World) -> Repaired:
    vault = world.vault()
    us, eu = vault.replicas["us"], vault.replicas["eu"]
    return repair(us, [damage.object for damage in check(us, read_data=True).damaged], [eu])


def objects(world: World, prefix: str) -> list[str]:
    return sorted(info.name for info in world.stores["us"].list(prefix))


@pytest.mark.parametrize("prefix", ["packs/", "index/", "points/"])
def test_a_damaged_object_is_mended_from_a_region_where_it_verifies(
    tmp_path: Path, prefix: str
) -> None:  # fault 2
    world = World.small(tmp_path)
    world.protect()
    name = objects(world, prefix)[0]
    good = world.stores["us"].get(name)
    FaultyStore(world.stores["us"]).flip_bit(name)
    done = mend(world)
    assert done.mended[name] == "eu" and done.left == {}
    assert world.stores["us"].get(name) == good
    assert check(world.vault().replicas["us"], read_data=True).ok


def test_what_a_damaged_key_hides_is_looked_at_again_once_the_key_is_mended(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    world.protect()
    names = objects(world, "keys/")
    good = {name: world.stores["us"].get(name) for name in names}
    for name in names:  # the writer's certificate, without which no log can be verified, is one of them
        FaultyStore(world.stores["us"]).flip_bit(name)
        done = mend(world)
        assert done.mended[name] == "eu" and done.left == {}
        assert mend(world) == Repaired({}, {})
        assert world.stores["us"].get(name) == good[name]
    assert check(world.vault().replicas["us"], read_data=True).ok


def test_a_lost_pack_is_fetched_again(tmp_path: Path) -> None:  # fault 3
    world = World.small(tmp_path)
    world.protect()
    name = objects(world, "packs/")[0]
    world.stores["us"].delete(name)
    assert mend(world).mended == {name: "eu"}
    assert check(world.vault().replicas["us"], read_data=True).ok


def test_what_is_damaged_everywhere_is_left_as_it_is_and_said_so(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    world.protect()
    name = objects(world, "packs/")[0]
    for region in ("us", "eu"):
        FaultyStore(world.stores[region]).flip_bit(name, 7)
    damaged = world.stores["us"].get(name)
    done = mend(world)
    assert done.mended == {} and list(done.left) == [name]
    assert world.stores["us"].get(name) == damaged


def test_a_log_is_the_regions_own(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    world.protect()
    vault = world.vault()
    done = repair(vault.replicas["us"], ["log/points/0000000000000000"], [vault.replicas["eu"]])
    assert done.mended == {} and "own" in done.left["log/points/0000000000000000"]
