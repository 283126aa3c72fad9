"""The actions one by one, where the whole run does not show what they do."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from refloat.contracts import Facts, Health, Observed
from refloat.errors import ConnectorError, Refused
from refloat.plan.model import Action
from refloat.run.actions.validate import differing
from refloat.run.context import Context
from refloat.run.target import token


def _context(world, **more) -> Context:
    return Context(run="run-1", epoch=1, clock=world.clock, **more)


def _with(world, name: str, connector):
    """The world's actions with another connector for one component."""
    actions = world.actions()
    target = actions[Action.CHECK].target
    changed = dataclasses.replace(target.components[name], connector=connector)
    target = dataclasses.replace(target, components={**target.components, name: changed})
    return {
        action: dataclasses.replace(acting, target=target)
        for action, acting in actions.items()
        if dataclasses.is_dataclass(acting)
    }


def test_a_place_that_cannot_say_who_filled_it_is_foreign_unless_nothing_is_put_there(world, names) -> None:
    mute = SimpleNamespace(spec=names.SPECS["shelf"])
    step = world.plan.step("preflight.check:target:answers")
    with pytest.raises(Refused, match="cannot be told") as refused:
        _with(world, "answers", mute)[Action.CHECK].do(step, _context(world))
    assert (refused.value.rule, refused.value.component) == ("target_foreign", "answers")

    nothing = SimpleNamespace(spec=names.SPECS["service"])
    step = world.plan.step("preflight.check:target:assistant")
    assert _with(world, "assistant", nothing)[Action.CHECK].do(step, _context(world))["holder"]


def test_no_override_lets_what_cannot_be_set_aside_be_deleted(world, names) -> None:
    keeps_nothing = SimpleNamespace(spec=names.SPECS["shelf"], holder=lambda place: "")
    step = world.plan.step("preflight.check:target:answers")
    overridden = _context(world, overrides=frozenset({"target_foreign"}))
    with pytest.raises(Refused, match="cannot set it aside"):
        _with(world, "answers", keeps_nothing)[Action.CHECK].do(step, overridden)


def test_a_connector_that_says_it_runs_and_cannot_start_is_found_out(world, names) -> None:
    mute = SimpleNamespace(spec=names.SPECS["service"], health=lambda place: Health.HEALTHY)
    with pytest.raises(ConnectorError, match="cannot start"):
        _with(world, "assistant", mute)[Action.START].do(
            world.plan.step("activate.start:assistant"), _context(world)
        )


@pytest.mark.parametrize(
    ("action", "id", "found", "expected"),
    [
        (Action.STAGE, "stage.stage:answers", Observed.PARTIAL, "undone"),
        (Action.STAGE, "stage.stage:answers", Observed.ABSENT, "undone"),
        (Action.STAGE, "stage.stage:answers", Observed.STAGED, "done"),
        (Action.STAGE, "stage.stage:answers", Observed.ACTIVE, "unclear"),
        (Action.STAGE, "stage.stage:answers", Observed.UNKNOWN, "unclear"),
        (Action.ACTIVATE, "activate.activate:answers", Observed.ACTIVE, "done"),
        (Action.ACTIVATE, "activate.activate:answers", Observed.STAGED, "undone"),
        (Action.ACTIVATE, "activate.activate:answers", Observed.PARTIAL, "undone"),
        (Action.ACTIVATE, "activate.activate:answers", Observed.ABSENT, "unclear"),
        (Action.ACTIVATE, "activate.activate:answers", Observed.REVERTED, "unclear"),
        (Action.START, "activate.start:assistant", Observed.ABSENT, "undone"),
        (Action.START, "activate.start:assistant", Observed.ACTIVE, "undone"),
        (Action.START, "activate.start:assistant", Observed.UNKNOWN, "unclear"),
        (Action.CLEANUP, "reprotect.cleanup:answers", Observed.UNKNOWN, "undone"),
    ],
)
def test_what_a_connector_finds_settles_a_step_or_leaves_it_unclear(
    world, action, id, found, expected
) -> None:
    actions = world.actions()
    for shelf in world.shelves.values():
        shelf.observed = found
    assert actions[action].observe(world.plan.step(id), _context(world)) == expected


def test_an_undo_that_changed_nothing_is_not_believed(world) -> None:
    actions = world.actions()
    step = world.plan.step("stage.stage:answers")
    actions[Action.STAGE].do(step, _context(world))
    world.shelves["answers"].observed = Observed.STAGED
    with pytest.raises(ConnectorError, match="not gone"):
        actions[Action.STAGE].undo(step, _context(world))
    world.shelves["answers"].observed = Observed.ACTIVE
    with pytest.raises(ConnectorError, match="could not be reverted"):
        actions[Action.ACTIVATE].undo(world.plan.step("activate.activate:answers"), _context(world))
    world.shelves["assistant"].observed = Observed.ACTIVE
    with pytest.raises(ConnectorError, match="still runs"):
        actions[Action.START].undo(world.plan.step("activate.start:assistant"), _context(world))


def test_a_refusal_tells_the_name_that_overrides_it(world) -> None:
    context = _context(world, overrides=frozenset({"a"}))
    assert context.refuse("a", "why", next="stop")["overridden"] == "a"
    with pytest.raises(Refused) as refused:
        context.refuse("b", "why", next="stop")
    assert refused.value.next == "stop, or name the rule: --override b"


def test_a_token_is_of_one_run_and_one_component() -> None:
    tokens = {token(run, name) for run in ("run-1", "run-2") for name in ("answers", "registry")}
    assert len(tokens) == 4
    assert token("run-1", "answers") == token("run-1", "answers")


def test_what_differs_is_named_also_where_a_fact_is_missing_or_null() -> None:
    captured = Facts(identity={"same": 1, "gone": 1, "other": 1})
    staged = Facts(identity={"same": 1, "new": None, "other": 2})
    assert differing(captured, staged) == ["gone", "new", "other"]


def test_somebody_elses_healthy_process_is_not_taken_for_ours(world) -> None:
    actions = world.actions()
    running = world.path("assistant").with_name("assistant.running")
    running.parent.mkdir()
    running.write_text("token of another run")
    step = world.plan.step("activate.start:assistant")
    assert actions[Action.START].observe(step, _context(world)) == "undone"
