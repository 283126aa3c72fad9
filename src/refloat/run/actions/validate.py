"""Proves on the staged data, before anything live is touched, that it is what was captured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from refloat.contracts import Facts, Staging
from refloat.digest import Json
from refloat.errors import ConnectorError
from refloat.plan.model import Step
from refloat.run.actions.agreement import Evaluate, spoken
from refloat.run.actions.readonly import ReadOnly
from refloat.run.context import Context
from refloat.run.target import Target


@dataclass(frozen=True)
class Validate(ReadOnly):
    """The steps of the validate phase."""

    target: Target
    evaluate: Evaluate

    def do(self, step: Step, context: Context) -> Mapping[str, Json]:
        """Raises ``ConnectorError`` for another identity, ``Refused`` for an invariant that is not true."""
        return self._group(step, context) if step.component is None else self._identity(step, context)

    def _identity(self, step: Step, context: Context) -> Mapping[str, Json]:
        captured = self.target.component(step).snapshot.facts
        staged = self._facts(step.subject, context)
        if staged.identity_digest() == captured.identity_digest():
            return {"identity": staged.identity_digest()}
        raise ConnectorError(
            f"what is staged is not what was captured: {', '.join(differing(captured, staged))} differ",
            component=step.component,
            next="refloat vault check --read-data, then choose another point",
        )

    def _facts(self, name: str, context: Context) -> Facts:
        """Facts of what is staged; of the snapshot for a connector that stages nothing."""
        component = self.target.components[name]
        if component.connector.spec.staging is Staging.NONE:
            return component.snapshot.facts
        return component.connector.inspect(component.staged(context.run))

    def _group(self, step: Step, context: Context) -> Mapping[str, Json]:
        group = self.target.groups[step.subject.removeprefix("group:")]
        facts = {name: self._facts(name, context) for name in group.members}
        verdicts = self.evaluate(group.must, facts)
        if why := spoken(verdicts):
            return context.refuse("group_broken", f"{step.subject}: {why}", next="choose another point")
        return {"invariants": len(verdicts)}


def differing(captured: Facts, found: Facts) -> list[str]:
    """The names in the identity whose values are not the same, sorted."""
    names = {*captured.identity, *found.identity}
    return sorted(
        name for name in names if captured.identity.get(name, _ABSENT) != found.identity.get(name, _ABSENT)
    )


_ABSENT = object()
