"""A listing that does not show what was written, or shows what is gone: nothing is wrong, lost or removed for that.

Index objects are found by a listing alone. What one that lags does not show is said to lack, which ends when it
shows it; everything else is found by its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from refloat.contracts import ObjectInfo, Put
from refloat.errors import RefloatError
from refloat.limits import PRUNE_GRACE_S
from refloat.testing.world import World
from refloat.vault import layout
from refloat.vault.check import check
from refloat.vault.prune import plan_prune, prune
from refloat.vault.replica import create_vault
from refloat.vault.stores.faulty import Crash, FaultyStore
from refloat.vault.stores.memory import MemoryStore

REGIONS = ("eu", "us")


class Lagging(FaultyStore):
    """A store whose listings show what was there at an earlier moment, from ``freeze`` to ``thaw``."""

    _then: tuple[ObjectInfo, ...] | None = None
    _still: tuple[str, ...] = ()
    dies_at_commit = False

    def freeze(self, *below: str) -> None:
        """From here on listings below these prefixes lag."""
        self._then, self._still = tuple(self._inner.list("")), below

    def thaw(self) -> None:
        """Listings show what is there."""
        self._then = None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """What was there then."""
        now = super().list(prefix)
        if self._then is None:
            return now
        shown = [found for found in now if not found.name.startswith(self._still)]
        shown += [found for found in self._then if found.name.startswith(self._still)]
        return (found for found in shown if found.name.startswith(prefix))

    def create(self, name: str, content: bytes | memoryview) -> Put:
        """As in any store, unless the process dies here."""
        if self.dies_at_commit and name.startswith(layout.stream_prefix("points")):
            raise Crash
        return super().create(name, content)


@pytest.fixture
def stores() -> dict[str, Lagging]:
    return {region: Lagging(MemoryStore(region)) for region in REGIONS}


@pytest.fixture
def world(stores: dict[str, Lagging], tmp_path: Path) -> World:
    """A pipeline, and a vault with a point."""
    world = World(tmp_path, group="", stores=dict(stores))
    create_vault(world.stores, world.key_file, world.clock, "small")
    protect(world, 1)
    return world


def protect(world: World, version: int) -> None:
    world.release(version)
    assert world.protect().ok


def whole(world: World) -> None:
    """Everything that any point needs is there, to the last byte."""
    for region in REGIONS:
        report = check(world.vault().replicas[region], read_data=True)
        assert report.ok, report.damaged


def pruned(world: World) -> None:
    """A prune did what it wanted, or refused to do anything."""
    vault = world.vault()
    try:
        plans = plan_prune(vault, world.clock.now())
    except RefloatError:
        return
    for plan in plans:
        prune(vault.replicas[plan.region], plan)


def freeze(stores: dict[str, Lagging], *below: str) -> None:
    for store in stores.values():
        store.freeze(*(below or ("",)))


def thaw(stores: dict[str, Lagging]) -> None:
    for store in stores.values():
        store.thaw()


def test_points_are_made_and_found_while_listings_stand_still_and_are_whole_when_they_move_on(
    world: World, stores: dict[str, Lagging]
) -> None:
    # fault 11
    freeze(stores)
    for version in (2, 3):
        protect(world, version)
        assert [len(world.vault().replicas[region].points()) for region in REGIONS] == [version] * 2
    thaw(stores)
    whole(world)
    assert world.recover().evidence.state == "done"
    assert world.live("us") == world.live("eu")


def test_what_has_a_name_is_found_though_no_listing_shows_it(
    world: World, stores: dict[str, Lagging]
) -> None:
    # fault 11
    freeze(stores, layout.PACKS, layout.POINTS, layout.LOG)
    protect(world, 2)
    whole(world)
    assert world.recover().evidence.state == "done"
    assert world.live("us") == world.live("eu")


def test_what_a_listing_does_not_show_is_said_to_lack_and_no_recovery_begins(
    world: World, stores: dict[str, Lagging]
) -> None:
    # fault 11
    freeze(stores)
    protect(world, 2)
    assert not check(world.vault().replicas["us"], read_data=True).ok
    assert world.recover().evidence.state == "blocked"
    assert world.live("us") == {}
    thaw(stores)
    whole(world)
    assert world.recover().evidence.state == "done"
    assert world.live("us") == world.live("eu")


def test_a_prune_by_a_listing_that_stands_still_removes_nothing_that_a_point_needs(
    world: World, stores: dict[str, Lagging]
) -> None:
    # fault 11
    freeze(stores)
    for version in (2, 3):
        protect(world, version)
        pruned(world)
        world.clock.sleep(PRUNE_GRACE_S)
    pruned(world)
    thaw(stores)
    whole(world)


def test_what_was_removed_and_is_listed_still_troubles_nobody_for_long(
    world: World, stores: dict[str, Lagging]
) -> None:
    # fault 11
    for store in stores.values():
        store.dies_at_commit = True
    world.release(2)
    with pytest.raises(Crash):
        world.protect()
    for store in stores.values():
        store.dies_at_commit = False
    pruned(world)
    world.clock.sleep(PRUNE_GRACE_S)
    before = {region: {found.name for found in stores[region].list("")} for region in REGIONS}
    freeze(stores)
    pruned(world)
    gone = {
        region: {name for name in before[region] if stores[region].size(name) is None} for region in REGIONS
    }
    assert all(gone.values()), "what the cut left has gone, and is listed"
    protect(world, 3)
    pruned(world)
    thaw(stores)
    whole(world)


@pytest.mark.parametrize("lagging", REGIONS)
def test_a_region_whose_listing_lags_costs_the_other_nothing(
    world: World, stores: dict[str, Lagging], lagging: str
) -> None:
    # fault 11
    stores[lagging].freeze("")
    protect(world, 2)
    pruned(world)
    world.clock.sleep(PRUNE_GRACE_S)
    pruned(world)
    stores[lagging].thaw()
    protect(world, 3)
    whole(world)
