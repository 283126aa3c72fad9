"""The process dies at every operation on the store, before and after it; what was acknowledged is never lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from refloat.flows.recover import journal_of, runs_of
from refloat.testing.world import World
from refloat.vault.check import check
from refloat.vault.stores.faulty import Crash, FaultyStore, When

MOMENTS = [When.BEFORE, When.AFTER, When.TORN]


def protected_twice(root: Path) -> tuple[World, str]:
    """A world with one point, and a release that is not in it."""
    world = World.small(root, group="")
    first = world.protect().name
    world.release(2)
    return world, first


def operations_of_protect(root: Path) -> int:
    world, _ = protected_twice(root)
    store = FaultyStore(world.stores["us"])
    vault = world.vault({"us": store})
    world.protect(vault)
    return store.operations


@pytest.mark.parametrize("when", MOMENTS)
def test_protect_killed_at_any_store_operation_leaves_the_old_point_or_the_new_one(
    tmp_path: Path, when: When
) -> None:  # faults 1, 18
    total = operations_of_protect(tmp_path / "learn")
    assert total > 10
    for cut in range(1, total + 1):
        world, first = protected_twice(tmp_path / f"{cut}")
        store = FaultyStore(world.stores["us"], crash_at=cut, when=when)
        with pytest.raises(Crash):
            world.protect(world.vault({"us": store}))
        replica = world.vault().replicas["us"]
        known = [point.name for point in replica.points()]
        assert known[0] == first and len(known) <= 2
        assert check(replica, read_data=True).ok, f"cut {cut}: {store.trace[-1]}"
        again = world.protect()
        assert again.ok, f"cut {cut}: {again.regions}"
        assert [point.name for point in world.vault().replicas["us"].points()][-1] == again.name
        shutil.rmtree(tmp_path / f"{cut}")


def operations_of_recover(root: Path) -> int:
    world, _ = lost_after_protect(root)
    store = FaultyStore(world.stores["us"])
    world.recover(world.vault({"us": store}))
    return store.operations


def lost_after_protect(root: Path) -> tuple[World, dict[str, bytes]]:
    """A world whose primary region is gone, and what was live in it."""
    world = World.small(root, group="")
    world.protect()
    live = world.live("eu")
    shutil.rmtree(root / "eu")
    del world.stores["eu"]
    return world, live


@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER])
def test_recover_killed_at_any_store_operation_and_resumed_ends_in_the_same_place(
    tmp_path: Path, when: When
) -> None:  # faults 18, 23
    total = operations_of_recover(tmp_path / "learn")
    assert total > 50
    for cut in range(1, total + 1):
        world, live = lost_after_protect(tmp_path / f"{cut}")
        store = FaultyStore(world.stores["us"], crash_at=cut, when=when)
        try:
            world.recover(world.vault({"us": store}))
        except Crash:
            pass
        else:  # steps run two at a time, so a run may need an operation less than the one that was counted
            assert store.operations < cut
            continue
        done = world.recover(run=begun(world))
        assert done.evidence.state == "done", f"cut {cut}: {store.trace[-1]}"
        assert world.live("us") == live, f"cut {cut}: {store.trace[-1]}"
        shutil.rmtree(tmp_path / f"{cut}")


def begun(world: World) -> str | None:
    """The run that the crash left, if it had come far enough to have written its plan."""
    replica = world.vault().replicas["us"]
    runs = runs_of(replica, "us")
    return runs[-1] if runs and journal_of(replica, runs[-1], world.clock).view.plan is not None else None
