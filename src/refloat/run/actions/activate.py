"""Switches a component to what is staged, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from refloat.contracts import Observed, Staging
from refloat.digest import Json
from refloat.errors import ConnectorError
from refloat.plan.model import Step
from refloat.run.actions.agreement import Agreement
from refloat.run.context import Context, Observation
from refloat.run.target import Target

_FOUND: Mapping[Observed, Observation] = {
    Observed.ACTIVE: "done",
    Observed.STAGED: "undone",
    Observed.PARTIAL: "undone",
    Observed.ABSENT: "unclear",
    Observed.REVERTED: "unclear",
    Observed.UNKNOWN: "unclear",
}


@dataclass(frozen=True)
class Activate:
    """The switching steps of the activate phase."""

    target: Target
    agreement: Agreement

    def do(self, step: Step, context: Context) -> Mapping[str, Json]:
        """Raises what the connector raises, and ``Refused`` where what was asked in the preflight is so no more."""
        self.agreement.once(context)
        with self.target.op(step, context) as op:
            self.target.component(step).connector.activate(op)
        return {}

    def observe(self, step: Step, context: Context) -> Observation:
        """Whether the switch happened; one cut short is done again with the same token."""
        connector = self.target.component(step).connector
        if connector.spec.staging is Staging.NONE:
            return "undone"
        with self.target.op(step, context) as op:
            return _FOUND[connector.observe(op)]

    def undo(self, step: Step, context: Context) -> None:
        """Make what was live before live again. Raises ``ConnectorError`` when it is not."""
        connector = self.target.component(step).connector
        with self.target.op(step, context) as op:
            connector.revert(op)
            found = connector.observe(op)
        if found is Observed.ACTIVE or found is Observed.UNKNOWN:
            raise ConnectorError(
                f"the switch could not be reverted: {found}",
                component=step.component,
                next="see what is live there, and put back by hand what was set aside beside it",
            )
