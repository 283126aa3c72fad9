"""A check misses no key: what cannot be opened or signed any more is as good as lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from refloat.errors import WrongKey
from refloat.vault.check import check
from refloat.vault.keys import Role
from refloat.vault.repair import repair

VaultWorld = Any  # the fixture ``world`` of conftest.py


def key_object(world: VaultWorld, **wanted: str) -> str:
    """The name of the one key object that says so."""
    for name in world.names("keys/"):
        document = json.loads(world.stores["eu"].get(name))
        if wanted.items() <= document.items():
            return str(name)
    raise AssertionError(wanted)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"type": "content_key"}, "content key"),
        ({"type": "certificate", "role": "operator"}, "vouches for this key as operator"),
    ],
)
def test_a_key_object_that_is_gone_is_missed_and_mended(
    world: VaultWorld, wanted: dict[str, str], words: str
) -> None:
    world.capture({"note": b"hello"})
    world.stores["eu"].delete(key_object(world, **wanted))
    (damage,) = check(world.open(), read_data=False).damaged
    assert damage.object == "keys/" and words in damage.reason
    repair(world.open(), [damage.object], [world.open("us")])
    assert check(world.open(), read_data=True).ok


def test_what_no_region_has_cannot_be_mended_and_is_said(world: VaultWorld) -> None:
    world.capture({"note": b"hello"})
    name = key_object(world, type="content_key")
    for store in world.stores.values():
        store.delete(name)
    done = repair(world.open(), ["keys/"], [world.open("us")])
    assert done.mended == {} and set(done.left) == {"keys/"}


def test_a_key_without_the_names_of_chunks_is_the_wrong_key_and_no_damage(world: VaultWorld) -> None:
    world.capture({"note": b"hello"})
    with pytest.raises(WrongKey, match="reader role"):
        check(world.open(key_file=world.key_file.for_roles(Role.OPERATOR)), read_data=False)


def test_a_writers_key_checks_what_it_can_and_counts_what_it_cannot(world: VaultWorld) -> None:
    world.capture({"note": b"hello"})
    report = check(world.open(key_file=world.key_file.for_roles(Role.WRITER)), read_data=True)
    assert report.ok and report.packs_unopened == 1
