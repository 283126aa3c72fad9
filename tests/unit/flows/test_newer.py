"""Which point is newer than a region's own, by the logs alone, and since when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from refloat.errors import RefloatError, Retry, StoreError
from refloat.flows.newer import BEHIND_GRACE_S, Behind, behind, late, newer_than
from refloat.flows.prepare import Wanted
from refloat.plan.scenario import SCENARIOS
from refloat.testing.world import World
from refloat.vault.replica import Replica
from refloat.vault.writer import Writer


def protected(root: Path, points: int) -> World:
    world = World.small(root)
    for number in range(points):
        world.answer(f"more-{number}")
        world.protect()
    return world


def cut(world: World, region: str, slot: int) -> None:
    world.stores[region].delete(f"log/points/{slot:016d}")


def replicas(world: World) -> dict[str, Replica]:
    return dict(world.vault().replicas)


def of(world: World, region: str) -> Behind | None:
    there = replicas(world)
    return behind(there[region], there.values())


def names(world: World, region: str) -> list[str]:
    return [point.name for point in replicas(world)[region].points()]


def test_logs_that_end_alike_leave_nobody_behind(tmp_path: Path) -> None:
    world = protected(tmp_path, 3)
    assert of(world, "eu") is None and of(world, "us") is None


def test_what_comes_after_the_last_common_point_is_newer_and_known_since_the_first_of_it(
    tmp_path: Path,
) -> None:
    world = protected(tmp_path, 3)
    expected = replicas(world)["eu"].points()[1:]
    cut(world, "us", 2)
    cut(world, "us", 1)
    found = of(world, "us")
    assert found is not None
    assert (found.newest, found.missed) == (expected[-1], tuple(expected))
    assert (found.region, found.held_by, found.since) == ("us", ("eu",), expected[0].time)
    assert found.address == replicas(world)["eu"].store.url
    assert of(world, "eu") is None


def test_a_region_with_an_empty_log_lacks_all_of_it(tmp_path: Path) -> None:
    world = protected(tmp_path, 1)
    cut(world, "us", 0)
    found = of(world, "us")
    assert found is not None and [one.name for one in found.missed] == names(world, "eu")


def test_logs_that_went_on_apart_call_nothing_newer_whatever_the_clocks_say(tmp_path: Path) -> None:
    world = protected(tmp_path, 1)
    stores = world.stores
    for region in stores:
        world.stores = {region: stores[region]}
        world.answer(f"in {region} alone")
        world.protect()
    world.stores = stores
    assert names(world, "eu")[-1] not in names(world, "us")
    assert of(world, "eu") is None and of(world, "us") is None


def test_a_signed_body_that_is_no_point_is_not_called_newer(tmp_path: Path) -> None:
    world = protected(tmp_path, 2)
    good = replicas(world)["eu"]
    body: dict[str, Any] = json.loads(json.dumps(good.read_point(names(world, "eu")[-1])))
    for snapshot in body["components"].values():
        del snapshot["as_of"]
    with Writer([good]) as writer:
        writer.commit({**body, "created_at": world.clock.now().isoformat()})
    assert len(names(world, "eu")) == len(names(world, "us")) + 1
    assert of(world, "us") is None


def test_of_a_time_only_what_was_made_by_then_is_newer(tmp_path: Path) -> None:
    world = protected(tmp_path, 3)
    _, meant, newest = replicas(world)["eu"].points()
    cut(world, "us", 2)
    cut(world, "us", 1)
    there = replicas(world)
    found = behind(there["us"], there.values(), meant.created_at)
    assert found is not None and found.missed == (meant,) and newest not in found.missed


def test_a_log_that_is_damaged_says_nothing(tmp_path: Path) -> None:
    world = protected(tmp_path, 3)
    cut(world, "us", 2)
    cut(world, "eu", 0)
    assert of(world, "us") is None


def test_a_region_is_late_only_after_a_grace(tmp_path: Path) -> None:
    world = protected(tmp_path, 2)
    cut(world, "us", 1)
    world.clock.jump(BEHIND_GRACE_S - 1)
    assert late(replicas(world).values()) == {}
    world.clock.jump(2)
    assert list(late(replicas(world).values())) == ["us"]


def test_a_clock_that_went_wrong_hides_no_region_that_is_behind(tmp_path: Path) -> None:
    world = protected(tmp_path, 1)
    world.clock.jump(30 * 86400.0)
    world.answer("of the future")
    world.protect()
    world.clock.jump(-10 * 86400.0)
    cut(world, "us", 1)
    assert list(late(replicas(world).values())) == ["us"]


def test_a_log_that_cannot_be_read_leaves_it_unknown_who_is_behind(tmp_path: Path) -> None:
    # fault 7
    world = protected(tmp_path, 2)
    cut(world, "us", 1)
    there = replicas(world)
    fall_busy(there["us"])
    unknown: dict[str, RefloatError] = {}
    assert late(there.values(), unknown) == {}
    assert set(unknown) == {"eu", "us"}
    error = unknown["us"]
    assert (error.region, error.retry) == ("us", Retry.LATER)
    assert "whether us lacks a newer point that eu holds is not known" in error.message


def fall_busy(replica: Replica) -> None:
    def busy(*_: object) -> None:
        raise StoreError("it is busy", retry=Retry.LATER)

    for name in ("get", "size", "list"):
        setattr(replica.store, name, busy)


def test_a_recovery_says_that_it_does_not_know_whether_there_is_a_newer_point(tmp_path: Path) -> None:
    # fault 7
    world = protected(tmp_path, 1)
    vault = world.vault()
    prepared = world.prepared(vault)
    assert newer_than(prepared, Wanted("us"), vault.replicas.values()) == []
    fall_busy(vault.replicas["eu"])
    (said,) = newer_than(prepared, Wanted("us"), vault.replicas.values())
    assert "whether us lacks a newer point that eu holds is not known: it is busy" in said


def test_a_move_waits_for_every_region_and_a_recovery_for_the_one_that_it_reads() -> None:
    assert Wanted("us").needs == ("us",)
    assert Wanted("us", scenario=SCENARIOS["planned_move"]).needs is None
