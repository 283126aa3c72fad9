"""One region behind a sick line to a real server, and the other well: the well one loses nothing by it.

Every toxic is tried with every verb: protect, check, status, recover and repair. What a verb may take is not timed:
the sick line is bad for longer than a test may run, so that a verb which waited for it would not end.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from bad_lines import PATIENT, QUICK, become

from refloat.contracts import Store
from refloat.errors import RefloatError
from refloat.flows.points import MANIFEST
from refloat.flows.protect import protect
from refloat.flows.repair import repair_vault
from refloat.flows.status import status
from refloat.testing.toxic import (
    Toxic,
    ToxicProxy,
    answer,
    cut_body,
    cut_upload,
    drip,
    hang,
    late,
    lie,
    lose_reply,
    reset,
    sip,
    wrong_length,
)
from refloat.testing.world import World
from refloat.vault.check import check
from refloat.vault.replica import Replica, create_vault
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.stores.object import ObjectStore, open_bucket
from refloat.vault.vault import Vault

pytestmark = pytest.mark.slow
WELL, SICK = "us", "eu"  # recoveries go to ``us``, whose own region answers

SICKNESSES: Mapping[str, Toxic] = {
    "late": late(0.02),
    "reset": reset,
    "busy": answer(503, "SlowDown"),
    "full": answer(507, "InsufficientStorage"),
    "hang": hang,
    "drip": drip(20),
    "sip": sip(200),
    "lost reply": lose_reply,
    "cut body": cut_body,
    "cut upload": cut_upload(1),
    "short body": wrong_length(-10),
    "long body": wrong_length(10),
}


@pytest.fixture
def world(seaweedfs: Any, proxy: ToxicProxy, use: Any, tmp_path: Path) -> World:
    """A pipeline with one point in both regions, one of them behind the proxy."""
    use(seaweedfs.environment(endpoint=proxy.url))
    stores: dict[str, Store] = {
        SICK: open_bucket(seaweedfs.place(), PATIENT),
        WELL: MemoryStore(WELL),
    }
    world = World(tmp_path, group="", stores=stores)
    world.release(1)
    create_vault(world.stores, world.key_file, world.clock, "small")
    assert world.protect().ok
    world.release(2)
    return world


def opened(world: World, silent: Mapping[str, RefloatError] | None = None) -> Vault:
    """The vault as a command opens it: a region that does not answer is left out, with why."""
    unreachable, replicas = dict(silent or {}), {}
    for region, store in world.stores.items():
        if region in unreachable:
            continue
        try:
            replicas[region] = Replica.open(region, store, world.key_file, world.clock)
        except RefloatError as error:
            unreachable[region] = error.at(region=region)
    return Vault(replicas, unreachable)


def fall_sick(world: World, proxy: ToxicProxy, toxic: Toxic, method: str | None = None) -> None:
    """From now on the line to the region is bad, and not waited for long."""
    become(_bucket(world), QUICK)
    proxy.poison(toxic, method=method)


def get_well(world: World, proxy: ToxicProxy) -> None:
    """The line is as it was."""
    proxy.heal()
    become(_bucket(world), PATIENT)


def _bucket(world: World) -> ObjectStore:
    bucket = world.stores[SICK]
    assert isinstance(bucket, ObjectStore)
    return bucket


def require_well(vault: Vault) -> None:
    """Every byte of the well region is what it was."""
    assert check(vault.replicas[WELL], read_data=True).ok


@pytest.mark.parametrize("sickness", SICKNESSES)
def test_a_well_region_loses_nothing_by_a_sick_one(world: World, proxy: ToxicProxy, sickness: str) -> None:
    # faults 4, 6, 7, 8, 9
    vault = world.vault()
    fall_sick(world, proxy, SICKNESSES[sickness])
    done = world.protect(vault)
    assert done.regions[WELL].complete
    behind = done.regions[SICK]
    assert behind.complete or (behind.error and not done.ok)

    now = opened(world)
    require_well(now)
    told = status(world.manifest, now, world.clock)
    assert told.newest is not None and told.newest.name == done.name
    assert WELL not in {region for region, of in told.regions.items() if "error" in of}
    assert told.well == told.all_told

    assert world.recover(opened(world)).ok
    assert world.live(WELL) == world.live(SICK)

    mended = repair_vault(lambda silent: opened(world, silent), world.clock, read_data=True)
    assert not mended.regions[WELL].left
    require_well(opened(world))

    get_well(world, proxy)
    require_all_whole(world)


@pytest.mark.parametrize("where", ["packs", "index", "points", "log"])
def test_what_a_sick_region_only_says_it_took_is_never_called_a_copy(
    world: World, proxy: ToxicProxy, where: str
) -> None:
    # fault 4
    vault = world.vault()
    become(_bucket(world), QUICK)
    proxy.poison(lie, method="PUT", path=f"/{where}/")
    done = world.protect(vault)
    assert done.regions[WELL].complete and not done.regions[SICK].complete
    assert world.recover(opened(world)).ok
    assert world.live(WELL) == world.live(SICK)
    get_well(world, proxy)
    require_all_whole(world)


def require_all_whole(world: World) -> None:
    """Once the line is good again, the next point is complete in both regions, and no byte of either is wrong."""
    files = {MANIFEST: world.text}
    assert protect(world.components(), files, world.vault(), world.clock, region=WELL).ok
    vault = world.vault()
    for replica in vault.replicas.values():
        assert check(replica, read_data=True, others=list(vault.replicas.values())).ok
    assert [one.name for one in vault.replicas[SICK].points()][-1:] == [
        one.name for one in vault.replicas[WELL].points()
    ][-1:]
