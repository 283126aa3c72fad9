"""Recovering some components only: said to be partial, and never a part of a group beside the rest of it."""

from __future__ import annotations

from pathlib import Path

from refloat.evidence.render import headline
from refloat.flows.points import MANIFEST
from refloat.flows.prepare import Wanted, prepare
from refloat.flows.protect import protect
from refloat.flows.recover import Recovered, recover
from refloat.testing.world import World


def recover_only(world: World, *only: str, overrides: frozenset[str] = frozenset()) -> Recovered:
    vault = world.vault()
    wanted = Wanted("us", only=only, overrides=overrides)
    prepared = prepare(vault.replicas["us"], wanted, world.resolver)
    return recover(prepared, vault, world.clock, overrides=overrides)


def recovered_and_released_since(root: Path) -> World:
    """A world whose ``us`` holds the first release, while the newest point holds the second."""
    world = World.small(root)
    world.protect()
    assert world.recover().ok
    world.release(2)
    files = {MANIFEST: world.text}
    assert protect(world.components(), files, world.vault(), world.clock, region="eu").ok
    return world


def test_a_part_of_a_group_is_not_put_beside_the_rest_from_another_moment(tmp_path: Path) -> None:
    world = recovered_and_released_since(tmp_path)
    before = world.live("us")
    done = recover_only(world, "pages")
    assert done.evidence.state == "blocked"
    assert done.failure is not None and done.failure["rule"] == "group_split"
    assert "--only ledger" in str(done.failure["next"])
    assert world.live("us") == before


def test_the_whole_group_may_be_recovered_alone(tmp_path: Path) -> None:
    world = recovered_and_released_since(tmp_path)
    done = recover_only(world, "pages", "ledger")
    assert done.evidence.state == "done" and "partial" in done.evidence.flags
    assert headline(done.evidence).startswith("ledger, pages of small is back in us")


def test_what_is_in_no_group_may_be_recovered_alone(tmp_path: Path) -> None:
    assert recover_only(recovered_and_released_since(tmp_path), "answers").evidence.state == "done"


def test_where_nothing_of_the_rest_is_there_nothing_is_mixed(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    world.protect()
    assert recover_only(world, "pages").evidence.state == "done"


def test_a_person_may_mix_them_by_name(tmp_path: Path) -> None:
    world = recovered_and_released_since(tmp_path)
    done = recover_only(world, "pages", overrides=frozenset({"group_split"}))
    assert done.evidence.state == "done" and done.evidence.overrides == ("group_split",)
