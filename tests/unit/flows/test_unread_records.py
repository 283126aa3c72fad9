"""A record of evidence that this version cannot read hides no other, and may tell anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from refloat.errors import Refused
from refloat.evidence.seal import seal
from refloat.flows.forget import ForgetPlan, forget, plan_forget
from refloat.flows.prepare import UNNAMED, Wanted, prepare
from refloat.manifest.parse import parse
from refloat.testing.world import World
from refloat.vault.keys import Role
from refloat.vault.missed_records import EVIDENCE

KEEP = b"keep: {last: 1, daily: 0, monthly: 0}\n"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.small(tmp_path, group="")


def from_later(world: World, point: str, **more: str) -> None:
    """Append in each region what a later version may write of a run."""
    for replica in world.vault().replicas.values():
        replica.log(EVIDENCE, Role.OPERATOR).append({"run": "r", "point": point, "schema": 99, **more})


def planned(world: World, named: str | None = None) -> ForgetPlan:
    return plan_forget(parse(world.text + KEEP), world.vault(), world.clock, named=named)


def test_a_record_that_cannot_be_read_keeps_its_point_and_hides_no_verified_one(world: World) -> None:
    names = []
    for version in range(1, 5):
        world.release(version)
        names.append(world.protect().name)
    from_later(world, names[0])
    done = world.recover().evidence.model_copy(update={"run": "a" * 32, "point": names[2], "verified": True})
    assert set(seal(done, list(world.vault().replicas.values()))) == {"eu", "us"}
    kept = {one.point.name: one.reasons for one in planned(world).decided}
    assert kept[names[0]] == ("named by evidence that cannot be read",)
    assert kept[names[1]] == ()
    assert kept[names[2]] == ("last verified",)
    with pytest.raises(Refused, match="named by evidence that cannot be read") as refused:
        forget(world.vault(), planned(world, names[0]))
    assert refused.value.rule == "last_good"


@pytest.mark.parametrize("finished_at", ["2999-01-01T00:00:00Z", "some time"])
def test_a_move_does_not_take_an_unread_record_for_one_that_tells_nothing(
    world: World, finished_at: str
) -> None:
    point = world.protect().name
    moving = Wanted("us", scenario=replace(UNNAMED, moves=True))
    prepare(world.vault().replicas["us"], moving, world.resolver)
    from_later(world, point, finished_at="2000-01-01T00:00:00Z")
    prepare(world.vault().replicas["us"], moving, world.resolver)
    from_later(world, point, finished_at=finished_at)
    with pytest.raises(Refused, match="cannot be read here, and may tell of a run") as refused:
        prepare(world.vault().replicas["us"], moving, world.resolver)
    assert refused.value.rule == "source_ahead"
