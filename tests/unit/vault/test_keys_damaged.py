"""Objects under ``keys/`` that are damaged or forged: nothing of them is believed, and the others still count."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from refloat.digest import object_name
from refloat.errors import Damaged, VaultError
from refloat.flows.opening import unwrapped_key
from refloat.testing.world import World
from refloat.vault import holders, layout, wraps
from refloat.vault.keyfile import KeyFile, Role, signer_id
from refloat.vault.keyobjects import (
    HEADS_IN_ONE_MAX,
    operator_removal_objects,
    parsed_key_object,
    publics_of,
)
from refloat.vault.keys import KEY_OBJECTS_MAX, Keyring
from refloat.vault.recipients import RecipientKey, seal_key_file
from refloat.vault.replica import create_vault
from refloat.vault.stores.local import LocalStore
from refloat.vault.stores.memory import MemoryStore

NOW = datetime(2026, 11, 2, tzinfo=UTC)
REGIONS = ("eu", "us")


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, "", stores={region: MemoryStore() for region in REGIONS})
    create_vault(world.stores, world.key_file, world.clock, "small")
    return world


def operator(world: World) -> tuple[KeyFile, str]:
    """The key file of another operator, and its signer id."""
    made = world.key_file.for_another(Role.OPERATOR)
    assert not holders.add(world.vault(), world.key_file, made, "on call", NOW).lagging
    return made, signer_id(publics_of(made)[Role.OPERATOR])


def flipped(content: bytes) -> Iterator[bytes]:
    """The same bytes with each of their bits changed in turn."""
    for bit in range(len(content) * 8):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def of_type(content: bytes) -> object:
    try:
        return json.loads(content).get("type")
    except ValueError:
        return "no JSON"


def require_nothing_believed(world: World, true: bytes) -> None:
    """Open the vault with every changed object in place of the true one, each under the name of its own bytes."""
    before = world.vault().replicas["us"].keyring
    there = wraps.key_objects_in(world.stores["us"])
    name = layout.key_name(object_name(true))
    all_changed, at_once = list(flipped(true)), KEY_OBJECTS_MAX - len(there)
    for first in range(0, len(all_changed), at_once):
        changed = all_changed[first : first + at_once]
        store = MemoryStore()
        store.create(layout.VAULT, world.stores["us"].get(layout.VAULT))
        for content in (*there.values(), *changed):
            store.create(layout.key_name(object_name(content)), content)
        keyring = Keyring.open(world.key_file, store)
        assert (keyring.known(), keyring.notes()) == (before.known(), before.notes())
        assert (keyring.removals(), keyring.lock) == (before.removals(), before.lock)
        assert keyring.content_keys() == before.content_keys()
        for content in changed:
            named = layout.key_name(object_name(content)) in keyring.rejected
            assert named or of_type(content) not in ("no JSON", of_type(true))  # of a type that nobody knows
            with pytest.raises(Damaged):
                parsed_key_object(name, content)


# ------------------------------------------------------------------------------------------ every bit


def test_of_a_note_on_a_way_every_bit_counts(world: World) -> None:  # fault 58
    way = RecipientKey.create().public
    (sealed, note) = wraps.keeping(world.key_file, world.key_file, way, "safe", NOW, [], {}).values()
    assert sealed and parsed_key_object(layout.key_name(object_name(note)), note)
    require_nothing_believed(world, note)


def test_of_an_operators_removal_every_bit_counts(world: World) -> None:  # fault 58
    _, id = operator(world)
    heads = {("us", "evidence"): (7, "a" * 64)}
    (removal,) = operator_removal_objects(world.key_file, id, NOW, heads)
    require_nothing_believed(world, removal)


def test_of_a_key_file_for_a_recipient_every_bit_counts(world: World) -> None:  # fault 66
    key = RecipientKey.create()
    made = world.key_file.for_another(Role.OPERATOR)
    true = seal_key_file(made, key.public)
    assert wraps.opened(true, key) == made
    for content in flipped(true):
        with pytest.raises(VaultError):
            wraps.opened(content, key)


def test_what_is_damaged_keeps_nobody_from_a_whole_one(world: World, tmp_path: Path) -> None:  # fault 66
    key = RecipientKey.create()
    true = seal_key_file(world.key_file, key.public)
    store = LocalStore(tmp_path / "vault")
    store.create(layout.VAULT, world.stores["us"].get(layout.VAULT))
    for content in wraps.key_objects_in(world.stores["us"]).values():
        store.create(layout.key_name(object_name(content)), content)
    changed = list(flipped(true))[::97]
    for content in changed:
        store.create(layout.key_name(object_name(content)), content)
    with pytest.raises(VaultError):
        unwrapped_key([str(tmp_path / "vault")], key)
    store.create(layout.key_name(object_name(true)), true)
    assert unwrapped_key([str(tmp_path / "vault")], key) == world.key_file


# ------------------------------------------------------------------------------------------ removals


def of_many_logs(own: KeyFile, id: str, at: datetime = NOW) -> list[bytes]:
    logs = {("us", f"runs/{number}"): (0, "a" * 64) for number in range(2 * HEADS_IN_ONE_MAX + 1)}
    return operator_removal_objects(own, id, at, logs)


def put(world: World, *contents: bytes) -> None:
    for content in contents:
        world.stores["us"].create(layout.key_name(object_name(content)), content)


@pytest.mark.parametrize("lacking", [0, 1, 2])
def test_a_removal_that_lacks_a_part_removes_nobody(world: World, lacking: int) -> None:  # fault 58
    made, id = operator(world)
    parts = of_many_logs(world.key_file, id)
    others = of_many_logs(world.key_file, id, NOW.replace(day=3))
    put(world, *(part for number, part in enumerate(parts) if number != lacking))
    put(world, others[lacking])  # that of another removal does not make it whole
    keyring = world.vault().replicas["us"].keyring
    assert keyring.removals() == [] and keyring.rejected == {}
    World(world.root, "", world.clock, made, world.stores).vault().replicas["us"].log(
        "evidence", Role.OPERATOR
    ).append({"said": 1})
    put(world, parts[lacking])
    assert [one.id for one in world.vault().replicas["us"].keyring.removals()] == [id]


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.WRITER])
def test_a_removal_that_another_signed_removes_nobody(world: World, role: Role) -> None:  # fault 58
    _, id = operator(world)
    own = world.key_file
    signing = {Role.OPERATOR: own.operator, Role.WRITER: own.writer}[role]
    assert signing is not None and own.admin is not None
    thief = own.model_copy(update={"admin": own.admin.model_copy(update={"signing": signing.signing})})
    forged = of_many_logs(thief, id)
    put(world, *forged)
    replica = world.vault().replicas["us"]
    assert replica.keyring.removals() == []
    assert replica.keyring.rejected.keys() == {layout.key_name(object_name(one)) for one in forged}
    found = [one.known.removed_at for one in holders.holders([replica])]
    assert found == [None] * len(found)
