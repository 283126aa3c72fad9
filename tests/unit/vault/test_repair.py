from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from refloat.testing.world import World
from refloat.vault import layout
from refloat.vault.check import check
from refloat.vault.chunk import SealedChunk
from refloat.vault.pack import CATALOGUE_KEY, directory_of, seal_pack, sealed_chunk
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


def packs_of_folders_and_of_files(world: World) -> tuple[str, str]:
    """The two packs of a first point."""
    keyring, store = world.vault().replicas["us"].keyring, world.stores["us"]
    folders = {
        n: directory_of(keyring, store.get(n), what=n).key_id == CATALOGUE_KEY
        for n in objects(world, "packs/")
    }
    one, other = sorted(folders, key=lambda name: not folders[name])
    return one, other


def test_a_pack_that_no_index_object_can_list_any_more_is_listed_by_its_own_directory(
    tmp_path: Path,
) -> None:
    world = World.small(tmp_path)
    world.protect()
    folders, files = packs_of_folders_and_of_files(world)
    world.stores["us"].delete(objects(world, "index/")[0])
    for region in ("eu", "us"):
        world.stores[region].delete(files)  # and with it the other region's index object is of no use here
    done = mend(world)
    assert done.mended == {folders: "its own directory"}
    reasons = {
        damage.object: damage.reason for damage in check(world.vault().replicas["us"], read_data=True).damaged
    }
    assert folders not in reasons


def test_a_pack_whose_records_are_not_what_it_says_is_not_listed(tmp_path: Path) -> None:  # fault 57
    world = World.small(tmp_path)
    world.protect()
    keyring = world.vault().replicas["us"].keyring
    _, files = packs_of_folders_and_of_files(world)
    chunks = chunks_that_lie(world, files)
    liar = seal_pack(keyring, keyring.content_key().id, chunks)
    world.stores["us"].create(layout.pack_name(liar.record.name), liar.stored)
    assert repair(world.vault().replicas["us"], [layout.pack_name(liar.record.name)], []).mended == {}


def chunks_that_lie(world: World, pack: str) -> list[SealedChunk]:
    """The records of a pack under the names of each other."""
    stored = world.stores["us"].get(pack)
    rows = directory_of(world.vault().replicas["us"].keyring, stored, what=pack).entries
    chunks = [sealed_chunk(row, stored[int(row["offset"]) :][: int(row["stored"])]) for row in rows]
    names = [chunk.name for chunk in chunks]
    assert len(set(names)) > 1
    return [replace(chunk, name=name) for chunk, name in zip(chunks, names[1:] + names[:1], strict=True)]


def test_every_pack_that_nothing_here_names_any_more_is_fetched_in_one_go(tmp_path: Path) -> None:  # fault 3
    world = World.small(tmp_path)
    world.protect()
    world.release(2)
    world.protect()
    lost = objects(world, "packs/")
    for name in [*lost, *objects(world, "index/")]:
        world.stores["us"].delete(name)
    damaged = {damage.object for damage in check(world.vault().replicas["us"], read_data=False).damaged}
    assert not damaged & set(lost), "nothing says what the packs are called"
    done = mend(world)
    assert set(lost) <= set(done.mended) and not done.left
    assert check(world.vault().replicas["us"], read_data=True).ok


def test_what_is_damaged_everywhere_is_left_as_it_is_and_said_so(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    world.protect()
    name = objects(world, "points/")[0]
    for region in ("us", "eu"):
        FaultyStore(world.stores[region]).flip_bit(name, 7)
    damaged = world.stores["us"].get(name)
    done = mend(world)
    assert done.mended == {} and list(done.left) == [name]
    assert world.stores["us"].get(name) == damaged


def test_of_a_pack_that_is_damaged_everywhere_the_whole_pieces_are_kept(tmp_path: Path) -> None:  # fault 3
    world = World.small(tmp_path)
    world.protect()
    name = packs_of_folders_and_of_files(world)[1]
    pieces = (
        world.vault()
        .replicas["us"]
        .read_directory(name.rpartition("/")[2], len(world.stores["us"].get(name)))
    )
    first, last = pieces.entries[0], pieces.entries[-1]
    for region, row in (("us", first), ("eu", last)):  # one piece of each copy: each is whole in the other
        FaultyStore(world.stores[region]).flip_bit(name, 8 * int(row["offset"]) + 40)
    done = mend(world)
    count = len(pieces.entries)
    assert done.mended[name] == f"its {count} pieces are whole, and lie in other packs now"
    assert world.stores["us"].size(name) is None
    assert check(world.vault().replicas["us"], read_data=True).ok
