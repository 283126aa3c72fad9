"""The step actions over connectors. What verifies and what protects is handed in by the flow."""

from __future__ import annotations

from collections.abc import Mapping

from refloat.plan.model import Action
from refloat.run.actions.activate import Activate
from refloat.run.actions.agreement import Agreement, Evaluate
from refloat.run.actions.check import Check
from refloat.run.actions.stage import Stage
from refloat.run.actions.start import Cleanup, Shift, Start
from refloat.run.actions.validate import Validate
from refloat.run.context import StepAction
from refloat.run.target import Target

__all__ = ["Evaluate", "standard"]


def standard(
    target: Target, evaluate: Evaluate, more: Mapping[Action, StepAction]
) -> dict[Action, StepAction]:
    """The action for each kind of step on ``target``; ``more`` holds those that other rooms know."""
    agreement = Agreement(target, evaluate)
    return {
        Action.CHECK: Check(target, agreement),
        Action.STAGE: Stage(target),
        Action.VALIDATE: Validate(target, evaluate),
        Action.ACTIVATE: Activate(target, agreement),
        Action.START: Start(target),
        Action.SHIFT: Shift(target),
        Action.CLEANUP: Cleanup(target),
        **more,
    }
