"""A point that a writer signed and that is none: each verb passes it over, says so, and goes on with the one before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from refloat.errors import Malformed
from refloat.flows import due, points
from refloat.flows.forget import plan_forget
from refloat.flows.into import choose
from refloat.flows.status import status
from refloat.manifest.parse import parse
from refloat.point.select import select
from refloat.testing.world import World
from refloat.vault.points import seal_point
from refloat.vault.writer import Writer


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.small(tmp_path, group="")


def forged(world: World, good: str) -> str:
    """With the writer's own key: what says of no component when it was captured, committed in both regions."""
    replicas = list(world.vault().replicas.values())
    body: dict[str, Any] = json.loads(json.dumps(replicas[0].read_point(good)))
    for snapshot in body["components"].values():
        del snapshot["as_of"]
    with Writer(replicas) as writer:
        name, regions = writer.commit({**body, "more": 1, "created_at": world.clock.now().isoformat()})
    assert all(result.complete for result in regions.values())
    return name


def test_a_malformed_point_is_passed_over_by_whatever_chooses(world: World) -> None:
    # fault 53
    good = world.protect().name
    bad = forged(world, good)
    vault = world.vault()
    assert world.prepared(vault).choice.point == good
    assert choose(list(vault.replicas.values())).name == good
    told = select(points.candidates(vault.replicas["us"])).point
    assert told == bad, "the log alone cannot tell"
    reasons = {one.name: one.reason for one in world.prepared(vault).choice.considered}
    assert reasons[bad].startswith("malformed: ")
    with pytest.raises(Malformed, match="signed, and malformed: 4 of its fields are wrong"):
        world.prepared(vault, point=bad)


def test_a_malformed_point_stops_neither_looking_nor_protecting(world: World) -> None:
    # fault 53
    good = world.protect().name
    forged(world, good)
    manifest = parse(world.text)
    seen = status(manifest, world.vault(), world.clock)
    assert seen.newest is not None and seen.newest.name == good and seen.well
    assert due.look(manifest, world.vault(), world.clock)
    made = world.protect()
    assert made.ok and made.point.components["pages"].carried
    assert world.recover().ok


def test_a_malformed_point_is_forgotten_in_its_time_and_counts_for_no_good_one(world: World) -> None:
    # fault 53
    good = world.protect().name
    bad = forged(world, good)
    manifest = parse(world.text + b"keep: {last: 1, daily: 0, monthly: 0}\n")
    kept = {one.point.name: one.reasons for one in plan_forget(manifest, world.vault(), world.clock).decided}
    assert "newest consistent" in kept[good] and kept[bad] == ("last 1",)
    newer = world.protect().name
    kept = {one.point.name: one.reasons for one in plan_forget(manifest, world.vault(), world.clock).decided}
    assert kept[newer] and kept[bad] == ()


def test_where_every_point_is_malformed_the_next_protect_is_the_first(world: World) -> None:
    # fault 53
    with Writer(list(world.vault().replicas.values())) as writer:
        tree = writer.sink().finish().tree
        writer.commit({"manifest": tree, "components": {"pages": {"tree": tree}}})
    assert points.newest(list(world.vault().replicas.values())) is None
    assert world.protect().ok


def test_a_body_that_is_no_point_is_not_even_sealed(world: World) -> None:
    # fault 53
    replica = world.vault().replicas["eu"]
    with pytest.raises(Malformed, match="the new point"):
        seal_point(replica.keyring, {"components": {"pages": {"tree": "no name"}}, "manifest": "aa" * 32})
