"""What an earlier recovery started must not serve while everything below it is exchanged."""

from __future__ import annotations

import dataclasses

import pytest

from refloat.contracts import Health
from refloat.errors import Refused
from refloat.plan.model import Action
from refloat.run.context import Context

STEP = "preflight.check:target:assistant"


def looked_at(world, *, health: Health, holder: str | None, overrides: frozenset[str] = frozenset()):
    check = world.actions()[Action.CHECK]
    component = check.target.components["assistant"]
    component.connector.health = lambda place: health
    component.connector.holder = lambda place: holder
    target = dataclasses.replace(check.target, known_points=frozenset({"point-0"}))
    context = Context(run="run-1", epoch=1, clock=world.clock, overrides=overrides)
    return dataclasses.replace(check, target=target).do(world.plan.step(STEP), context)


@pytest.mark.parametrize("health", [Health.HEALTHY, Health.UNKNOWN])
def test_a_process_of_an_earlier_recovery_that_may_run_is_refused(world, health: Health) -> None:
    with pytest.raises(Refused) as refused:
        looked_at(world, health=health, holder="point-0")
    assert (refused.value.rule, refused.value.component) == ("target_serving", "assistant")


def test_one_that_was_stopped_is_no_offence(world) -> None:
    assert looked_at(world, health=Health.SICK, holder="point-0") == {"holder": "point-0", "health": "sick"}


def test_nothing_is_asked_where_nothing_was_put(world) -> None:
    assert looked_at(world, health=Health.UNKNOWN, holder=None) == {"holder": None}


def test_the_rule_can_be_overridden_by_name(world) -> None:
    found = looked_at(world, health=Health.HEALTHY, holder="point-0", overrides=frozenset({"target_serving"}))
    assert found["overridden"] == "target_serving"
