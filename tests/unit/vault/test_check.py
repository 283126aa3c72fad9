"""A check finds every fault and says which points it costs."""

from __future__ import annotations

from typing import Any

import pytest

from refloat.errors import StoreError
from refloat.vault import layout
from refloat.vault.check import CheckReport, Damage, check
from refloat.vault.keys import Role
from refloat.vault.stores.faulty import FaultyStore

VaultWorld = Any  # the fixture ``world`` of conftest.py
FILES = {"a/model.bin": b"weights" * 100, "empty": b"", "note": b"hello"}


def checked(world: VaultWorld, *, read_data: bool = False) -> CheckReport:
    return check(world.open(), read_data=read_data)


def packs_of(world: VaultWorld) -> dict[str, str]:
    """The names of the two packs of a first capture, by what is in them."""
    return {
        "contents" if any(pack.key_id) else "catalogue": layout.pack_name(pack.name)
        for pack in world.open().index.packs
    }


def test_a_whole_vault_is_whole_and_the_report_says_how_much_was_seen(world: VaultWorld) -> None:
    world.capture(FILES)
    world.capture({**FILES, "note": b"changed"})
    report = checked(world, read_data=True)
    assert report.ok
    assert (report.packs, report.points) == (4, 2)
    sizes = [entry.size for prefix in ("packs/", "keys/") for entry in world.stores["eu"].list(prefix)]
    assert report.bytes_read == sum(sizes)


def test_an_empty_vault_is_whole(world: VaultWorld) -> None:
    assert checked(world, read_data=True).ok


def test_a_lost_pack_is_named_with_the_points_that_use_it_and_no_others(world: VaultWorld) -> None:
    # fault 3
    """Both points show the same manifest, which the first capture stored; only the second has the new file."""
    first = world.capture({"old": b"old" * 100}).point
    older = packs_of(world)["contents"]
    second = world.capture({"new": b"new" * 100}).point
    (newer,) = set(world.names("packs/")) - {older} - set(_catalogues(world))
    for name, points in ((older, {first, second}), (newer, {second})):
        content = world.stores["eu"].get(name)
        world.stores["eu"].delete(name)
        (damage,) = checked(world).damaged
        assert damage == Damage(name, "eu", tuple(sorted(points)), "it is not there")
        world.stores["eu"].create(name, content)


def _catalogues(world: VaultWorld) -> list[str]:
    return [layout.pack_name(pack.name) for pack in world.open().index.packs if not any(pack.key_id)]


def test_a_pack_of_another_size_is_found_without_reading_it(world: VaultWorld) -> None:
    point = world.capture(FILES).point
    name = packs_of(world)["contents"]
    content = world.stores["eu"].get(name)
    world.replace(name, content[:-1])
    (damage,) = checked(world).damaged
    assert (damage.object, damage.affects) == (name, (point,))
    assert f"{len(content) - 1} bytes, not {len(content)}" in damage.reason


def test_every_flipped_byte_of_contents_is_found_by_reading_and_known_from_then_on(world: VaultWorld) -> None:
    point = world.capture(FILES).point
    name = packs_of(world)["contents"]
    for byte in range(0, len(world.stores["eu"].get(name)), 5):
        world.flip(name, byte)
        assert checked(world).ok
        (damage,) = checked(world, read_data=True).damaged
        assert (damage.object, damage.region, damage.affects) == (name, "eu", (point,))
        assert [again.object for again in checked(world).damaged] == [name]
        world.flip(name, byte)
        assert checked(world, read_data=True).ok


def test_a_broken_folder_costs_the_points_that_show_it(world: VaultWorld) -> None:
    point = world.capture(FILES).point
    place = world.open().index.lookup(
        bytes.fromhex(world.open().read_point(point)["components"]["files"]["tree"])
    )
    name = layout.pack_name(place.pack.name)
    world.flip(name, place.offset + 20)
    (damage,) = checked(world).damaged
    assert (damage.object, damage.affects) == (name, (point,))
    assert "seal" in damage.reason


@pytest.mark.parametrize("byte", [0, 30, 200])
def test_a_broken_point_is_named(world: VaultWorld, byte: int) -> None:
    point = world.capture(FILES).point
    world.flip(layout.point_name(point), byte)
    (damage,) = checked(world).damaged
    assert (damage.object, damage.affects) == (layout.point_name(point), (point,))


def test_a_break_in_the_log_is_named(world: VaultWorld) -> None:
    for number in range(3):
        world.capture({"note": str(number).encode()})
    world.stores["eu"].delete(layout.slot_name("points", 1))
    (damage,) = checked(world).damaged
    assert damage.object == layout.slot_name("points", 1)


def test_a_broken_index_object_is_named_and_costs_no_point(world: VaultWorld) -> None:
    world.capture(FILES)
    (index,) = world.names("index/")
    world.flip(index, 50)
    faults = {damage.object: damage for damage in checked(world).damaged}
    assert faults.pop(index).affects == ()
    assert set(faults) == set(world.names("packs/"))  # which no index object lists any more
    assert all(not fault.affects and "no index object" in fault.reason for fault in faults.values())


def test_a_broken_key_object_is_named(world: VaultWorld) -> None:
    name = world.names("keys/")[0]
    content = world.stores["eu"].get(name)
    world.replace(name, content + b" ")
    assert [damage.object for damage in checked(world).damaged] == [name]


def test_packs_that_a_cut_capture_left_are_no_damage(world: VaultWorld) -> None:
    captured = world.capture(FILES)
    stranger = type(world)(key_file=world.key_file).create()
    stranger.capture({"leftover": b"leftover"})
    for entry in stranger.stores["eu"].list("packs/"):
        world.stores["eu"].create(entry.name, stranger.stores["eu"].get(entry.name))
    report = checked(world, read_data=True)
    assert report.ok and report.points == 1
    assert world.restored(captured.point) == FILES


def test_without_the_readers_key_packs_are_held_against_their_names(world: VaultWorld) -> None:
    world.capture(FILES)
    writer = world.open(key_file=world.key_file.for_roles(Role.WRITER))
    report = check(writer, read_data=True)
    assert report.ok and report.packs_unopened == 1
    world.flip(packs_of(world)["contents"], 60)
    writer = world.open(key_file=world.key_file.for_roles(Role.WRITER))
    assert not check(writer, read_data=True).ok


def test_a_store_that_does_not_answer_is_not_reported_as_damage(world: VaultWorld) -> None:
    world.capture(FILES)
    faulty = FaultyStore(world.stores["eu"])
    replica = world.open(store=faulty)
    faulty.down = True
    with pytest.raises(StoreError):
        check(replica, read_data=True)
