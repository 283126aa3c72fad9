"""A point's body is what its writer signed, or it is damaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from refloat.digest import Json, object_name
from refloat.errors import Damaged, WrongKey
from refloat.vault.keys import Role
from refloat.vault.layout import point_name
from refloat.vault.points import open_point, roots, seal_point, worst_grade
from refloat.vault.replica import create_vault
from refloat.vault.stores.memory import MemoryStore

VaultWorld = Any  # the fixture ``world`` of conftest.py

A, B, C = ("aa" * 32, "bb" * 32, "cc" * 32)
BODY: Mapping[str, Json] = {"format": 1, "manifest": A, "components": {"registry": {"tree": B}}}


def test_a_body_comes_back_and_reveals_nothing_meanwhile(world: VaultWorld) -> None:
    keyring = world.open().keyring
    stored = seal_point(keyring, BODY)
    assert open_point(keyring, object_name(stored), stored) == BODY
    assert b"registry" not in stored
    assert keyring.writer.encode() not in stored


def test_every_flipped_byte_is_damage(world: VaultWorld) -> None:
    keyring = world.open().keyring
    stored = seal_point(keyring, BODY)
    for at in range(len(stored)):
        broken = bytearray(stored)
        broken[at] ^= 0x80
        with pytest.raises(Damaged) as caught:
            open_point(keyring, object_name(stored), bytes(broken))
        assert caught.value.file == point_name(object_name(stored))


def test_every_truncation_is_damage_even_under_a_name_that_fits(world: VaultWorld) -> None:
    keyring = world.open().keyring
    stored = seal_point(keyring, BODY)
    for length in range(len(stored)):
        with pytest.raises(Damaged):
            open_point(keyring, object_name(stored[:length]), stored[:length])


def test_another_points_bytes_under_this_name_are_damage(world: VaultWorld) -> None:  # fault 2
    keyring = world.open().keyring
    one, other = seal_point(keyring, BODY), seal_point(keyring, {**BODY, "manifest": C})
    with pytest.raises(Damaged, match="name"):
        open_point(keyring, object_name(one), other)


def test_a_point_of_another_vault_is_not_taken_even_with_the_same_keys(world: VaultWorld) -> None:
    twin = world.key_file.model_copy(update={"vault": "vault-2"})
    other = create_vault({"eu": MemoryStore("twin")}, twin, world.clock, "demo")["eu"]
    stored = seal_point(other.keyring, BODY)
    with pytest.raises(Damaged):
        open_point(world.open().keyring, object_name(stored), stored)


def test_only_a_writer_makes_points_and_any_holder_reads_them(world: VaultWorld) -> None:
    reader = world.open(key_file=world.key_file.for_roles(Role.READER)).keyring
    with pytest.raises(WrongKey, match="writer"):
        seal_point(reader, BODY)
    stored = seal_point(world.open().keyring, BODY)
    assert open_point(reader, object_name(stored), stored) == BODY


def test_the_trees_of_a_point_are_named_once_each() -> None:
    body = {"manifest": A, "components": {"a": {"tree": B}, "b": {"tree": A}, "c": {"tree": C}}}
    assert roots(body) == [A, B, C]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"manifest": A},
        {"components": {}},
        {"manifest": A, "components": {"a": {"tree": ""}}},
        {"manifest": A, "components": {"a": {"tree": "../" + B}}},
        {"manifest": A, "components": {"a": {"tree": B.upper()}}},
    ],
)
def test_a_body_that_does_not_say_what_it_needs_is_refused(body: Mapping[str, Json]) -> None:
    with pytest.raises(ValueError, match="point's body"):
        roots(body)


def test_the_worst_group_grades_the_point_and_an_unknown_grade_is_the_worst() -> None:
    assert worst_grade({}) == "exact"
    assert worst_grade({"groups": {"a": {"grade": "exact"}, "b": {"grade": "fuzzy"}}}) == "fuzzy"
    assert worst_grade({"groups": {"a": {"grade": "shiny"}, "b": {"grade": "fuzzy"}}}) == "broken"
