"""One region whose vault is damaged stops neither the others nor a recovery that has enough left."""

from __future__ import annotations

from pathlib import Path

import pytest

from refloat.contracts import Store
from refloat.errors import Damaged
from refloat.flows import baselines
from refloat.flows.prepare import Wanted, prepare
from refloat.flows.recover import recover
from refloat.flows.status import status
from refloat.testing.world import World
from refloat.vault.keys import Role
from refloat.verification.model import Baseline, Measurement

POINTS = "log/points/"


def damage(store: Store, name: str) -> None:
    content = bytearray(store.get(name))
    content[len(content) // 2] ^= 1
    store.delete(name)
    store.create(name, bytes(content))


def protected(root: Path, *, points: int = 2) -> World:
    world = World.small(root)
    for number in range(points):
        world.answer(f"more-{number}")
        world.protect()
    return world


def slot(number: int) -> str:
    return f"{POINTS}{number:016d}"


@pytest.mark.parametrize("number", [0, 1])
def test_a_damaged_log_in_one_region_does_not_stop_protection_in_the_other(
    tmp_path: Path, number: int
) -> None:
    world = protected(tmp_path)
    damage(world.stores["us"], slot(number))
    assert world.protect().regions["eu"].complete


def test_a_newest_point_that_is_gone_in_one_region_does_not_stop_protection(tmp_path: Path) -> None:
    world = protected(tmp_path)
    newest = world.vault().replicas["us"].points()[-1].name
    damage(world.stores["us"], f"points/{newest}")
    assert world.protect().regions["eu"].complete


@pytest.mark.parametrize("what", ["log", "point"])
def test_status_counts_on_no_region_that_is_damaged(tmp_path: Path, what: str) -> None:
    world = protected(tmp_path)
    newest = world.vault().replicas["us"].points()[-1].name
    damage(world.stores["us"], slot(0) if what == "log" else f"points/{newest}")
    told = status(world.manifest, world.vault(), world.clock)
    assert "damaged" in str(told.regions["us"]["error"])
    assert {component.exposure["eu"].state for component in told.components.values()} == {"unknown"}


def test_a_vault_goes_on_without_the_regions_whose_log_is_damaged(tmp_path: Path) -> None:
    world = protected(tmp_path)
    damage(world.stores["us"], slot(0))
    sound = world.vault().sound()
    assert set(sound.replicas) == {"eu"} and set(sound.unreachable) == {"us"}
    damage(world.stores["eu"], slot(1))
    with pytest.raises(Exception, match="no region's vault can be opened"):
        world.vault().sound()


def test_a_damaged_log_refuses_a_recovery_and_says_how_to_go_by_the_points(tmp_path: Path) -> None:
    world = protected(tmp_path)
    damage(world.stores["us"], slot(0))
    with pytest.raises(Damaged, match="slot 0") as error:
        world.prepared(world.vault())
    assert "--override log_damaged" in (error.value.next or "")


def test_by_the_points_themselves_the_newest_is_recovered(tmp_path: Path) -> None:
    world = protected(tmp_path)
    newest, before = world.vault().replicas["us"].points()[-1].name, world.live("eu")
    damage(world.stores["us"], slot(0))
    vault = world.vault()
    overrides = frozenset({"log_damaged"})
    prepared = prepare(vault.replicas["us"], Wanted("us", overrides=overrides), world.resolver)
    done = recover(prepared, vault, world.clock, overrides=overrides)
    assert (done.evidence.state, done.evidence.point) == ("done", newest)
    assert done.evidence.overrides == ("log_damaged",)
    assert world.live("us") == before


def test_a_point_that_is_damaged_is_refused_and_an_older_one_is_named(tmp_path: Path) -> None:
    world = protected(tmp_path)
    older, newest = (point.name for point in world.vault().replicas["us"].points())
    damage(world.stores["us"], f"points/{newest}")
    with pytest.raises(Damaged) as error:
        world.prepared(world.vault())
    assert f"--point {older[:12]}" in (error.value.next or "")
    assert world.prepared(world.vault(), point=older).plan.point == older


def test_a_recovery_does_not_depend_on_what_earlier_ones_left_on_record(tmp_path: Path) -> None:
    world = protected(tmp_path)
    world.vault().replicas["us"].log("evidence", Role.OPERATOR).append({"run": "earlier"})
    damage(world.stores["us"], f"log/evidence/{0:016d}")
    assert world.recover().evidence.state == "done"


def test_a_baseline_is_read_from_the_region_where_it_still_can_be(tmp_path: Path) -> None:
    world = protected(tmp_path)
    replicas = list(world.vault().replicas.values())
    now = world.clock.now()
    pages = Measurement(
        component="pages", region="eu", measured_at=now, concurrency=1, seconds=1.0, metrics={}
    )
    kept = Baseline(
        component="pages", identities={}, profile="default", region="eu", measured_at=now, measurement=pages
    )
    baselines.save([kept], replicas)
    damage(world.stores["us"], f"log/baselines/{0:016d}")
    replicas = list(world.vault().replicas.values())
    assert list(baselines.kept(replicas)) == [kept]
    assert list(baselines.kept(replicas[1:])) == []
