"""Whose an object is, by its name and its bytes, however it came to be asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from refloat.contracts import Store
from refloat.digest import canonical_json, object_name
from refloat.testing.world import World
from refloat.vault import layout
from refloat.vault.keys import KeyFile
from refloat.vault.replica import Replica, create_vault
from refloat.vault.seal import Kind
from refloat.vault.stores.local import LocalStore
from refloat.vault.whose import Whose, is_key_of, newer_format_of, whose

JUNK = b"somebody's notes"


def protected(root: Path, vault: str) -> World:
    stores: dict[str, Store] = {region: LocalStore(root / f"vault-{region}") for region in ("eu", "us")}
    world = World(root, group="", key_file=KeyFile.create(vault, "small"), stores=stores)
    world.release(1)
    create_vault(world.stores, world.key_file, world.clock, "small")
    world.protect()
    return world


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> World:
    return protected(tmp_path_factory.mktemp("ours"), "5ma11" * 4)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> World:
    return protected(tmp_path_factory.mktemp("theirs"), "an0ther" * 3)


def asked(world: World, name: str, stored: bytes) -> Whose:
    eu, us = world.vault().replicas.values()
    return whose(name, stored, eu, [us])


def objects(world: World, prefix: str) -> dict[str, bytes]:
    store = world.stores["eu"]
    return {name: store.get(name) for name in layout.objects(store, prefix)}


ASKED = (layout.KEYS, layout.PACKS, layout.INDEX)


@pytest.mark.parametrize("prefix", ASKED)
def test_every_object_of_a_vault_is_its_own_and_no_other_vaults(
    ours: World, theirs: World, prefix: str
) -> None:
    for name, stored in objects(ours, prefix).items():
        assert asked(ours, name, stored) is Whose.OURS
        assert asked(theirs, name, stored) is Whose.FOREIGN


@pytest.mark.parametrize("prefix", [layout.KEYS, layout.INDEX])
def test_what_is_not_what_was_written_may_have_been_ours(ours: World, prefix: str) -> None:
    for name, stored in objects(ours, prefix).items():
        assert asked(ours, name, stored[:-1]) is Whose.DOUBTFUL
        assert asked(ours, name, JUNK) is Whose.DOUBTFUL


def test_a_pack_that_an_index_object_lists_is_ours_whatever_lies_there(ours: World) -> None:
    for name in objects(ours, layout.PACKS):
        assert asked(ours, name, JUNK) is Whose.OURS


def test_a_pack_of_ours_that_no_index_object_lists_is_left_for_the_prune(tmp_path: Path) -> None:
    # fault 23
    world = protected(tmp_path, "5ma11" * 4)
    packs = objects(world, layout.PACKS)
    for store in world.stores.values():
        for name in layout.objects(store, layout.INDEX):
            store.delete(name)
    for name, stored in packs.items():
        assert asked(world, name, stored) is Whose.LEFTOVER
        assert asked(world, name, JUNK) is Whose.DOUBTFUL


@pytest.mark.parametrize(
    "name", ["points/" + "0" * 64, "trial-0", "proof/0", "vault.json", "packs/0~", "keys/"]
)
def test_nothing_else_is_anybodys_but_the_prunes(ours: World, name: str) -> None:
    assert asked(ours, name, JUNK) is Whose.LEFTOVER


@pytest.mark.parametrize("prefix", ASKED)
def test_what_has_a_name_that_refloat_gives_to_nothing_is_foreign(ours: World, prefix: str) -> None:
    for name in ("notes", "ab/notes", object_name(JUNK).upper()[:8].lower(), f"no/{object_name(JUNK)}"):
        assert asked(ours, prefix + name, JUNK) is Whose.FOREIGN


NEWER: dict[str, tuple[bytes, int]] = {
    "a pack": (Kind.PACK.header[:8] + b"\0\x02" + bytes(6), 2),
    "an index object": (Kind.INDEX.header[:8] + b"\0\x03" + bytes(6), 3),
    "a kind that is not known": (b"RFLTMORE\0\x01" + bytes(6), 1),
    "a document": (canonical_json({"format": 2, "vault": "another"}), 2),
}


@pytest.mark.parametrize("kind", NEWER)
@pytest.mark.parametrize("name_of", [layout.key_name, layout.index_name, lambda name: f"packs/{name}"])
def test_what_is_of_a_newer_format_is_so_under_any_name(
    ours: World, kind: str, name_of: Callable[[str], str]
) -> None:
    stored, number = NEWER[kind]
    assert newer_format_of(stored) == number
    assert asked(ours, name_of(object_name(stored)), stored) is Whose.NEWER


@pytest.mark.parametrize(
    "stored",
    [b"", JUNK, b"[1]", b'{"format":true}', Kind.PACK.header, Kind.INDEX.header, Kind.REDUCED_INDEX.header],
)
def test_nothing_else_is_of_a_newer_format(stored: bytes) -> None:
    assert newer_format_of(stored) is None


def test_a_key_object_is_of_the_vault_that_it_names_and_one_of_a_newer_format_may_be() -> None:
    assert is_key_of(canonical_json({"format": 1, "vault": "a"}), "a")
    assert not is_key_of(canonical_json({"format": 1, "vault": "b"}), "a")
    assert not is_key_of(JUNK, "a") and not is_key_of(b"[" * 9000, "a")
    assert is_key_of(canonical_json({"format": 2, "vault": "b"}), "a")


def test_a_region_tells_what_another_lists(tmp_path: Path) -> None:
    world = protected(tmp_path, "5ma11" * 4)
    (pack, *_) = objects(world, layout.PACKS)
    store = world.stores["eu"]
    for name in layout.objects(store, layout.INDEX):
        store.delete(name)
    store.delete(pack)
    replicas: list[Replica] = list(world.vault().replicas.values())
    assert whose(pack, JUNK, replicas[0], replicas[1:]) is Whose.OURS
    assert whose(pack, JUNK, replicas[0], []) is Whose.DOUBTFUL
