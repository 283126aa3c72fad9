"""Brings a component's snapshot beside what is live, and takes it away again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from refloat.contracts import Observed, Staging
from refloat.digest import Json
from refloat.errors import ConnectorError
from refloat.plan.model import Step
from refloat.run.context import Context, Observation
from refloat.run.target import Target

_FOUND: Mapping[Observed, Observation] = {
    Observed.ABSENT: "undone",
    Observed.PARTIAL: "undone",
    Observed.STAGED: "done",
    Observed.UNKNOWN: "unclear",
    Observed.ACTIVE: "unclear",
    Observed.REVERTED: "unclear",
}


@dataclass(frozen=True)
class Stage:
    """The steps of the stage phase."""

    target: Target

    def do(self, step: Step, context: Context) -> Mapping[str, Json]:
        """Raises what the connector raises, ``Missing`` and ``Damaged`` for bytes that are not right."""
        component = self.target.component(step)
        with self.target.op(step, context) as op:
            source = component.source(
                lambda size: context.progress.advance(step.title, size), context.cancelled
            )
            component.connector.stage(source, op)
        return {"files": component.snapshot.files, "bytes": component.snapshot.bytes}

    def observe(self, step: Step, context: Context) -> Observation:
        """What is staged already; a connector that stages nothing just validates again."""
        component = self.target.component(step)
        if component.connector.spec.staging is Staging.NONE:
            return "undone"
        with self.target.op(step, context) as op:
            return _FOUND[component.connector.observe(op)]

    def undo(self, step: Step, context: Context) -> None:
        """Discard what is staged. Raises ``ConnectorError`` when something is still there."""
        connector = self.target.component(step).connector
        with self.target.op(step, context) as op:
            connector.discard(op)
            left = connector.observe(op)
        if left not in (Observed.ABSENT, Observed.REVERTED):
            raise ConnectorError(
                f"what was staged is not gone: {left}",
                component=step.component,
                next="remove what still lies beside the live path, then resume the run",
            )
