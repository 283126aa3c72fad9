"""Starts what runs, fenced, and later lets it serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from refloat.contracts import Connector, Health, Observed, Runnable, SetsAside
from refloat.deadline import require_wanted
from refloat.digest import Json
from refloat.errors import ConnectorError
from refloat.limits import HEALTH_SECONDS_MAX
from refloat.plan.model import Step
from refloat.run.actions.readonly import ReadOnly
from refloat.run.context import Context, Observation
from refloat.run.target import SET_ASIDE, ComponentTarget, Target

HEALTH_PAUSE_S = 0.1  # between two questions to a process that is coming up


def runnable(connector: Connector) -> Runnable:
    """The connector as one that runs something. Raises ``ConnectorError`` where it cannot."""
    if not isinstance(connector, Runnable):
        raise ConnectorError(
            f"the connector {connector.spec.kind!r} says that it runs but cannot start",
            next="this is a defect of the connector; report it",
        )
    return connector


@dataclass(frozen=True)
class Start:
    """The starting steps of the activate phase."""

    target: Target

    def do(self, step: Step, context: Context) -> Mapping[str, Json]:
        """Start and wait for health. Raises ``ConnectorError`` when it does not come."""
        component = self.target.component(step)
        with self.target.op(step, context) as op:
            runnable(component.connector).start(op)
        began = context.clock.monotonic()
        while (health := component.connector.health(component.place)) is not Health.HEALTHY:
            require_wanted(context.cancelled, f"waiting for {component.name}")
            if context.clock.monotonic() - began > HEALTH_SECONDS_MAX:
                raise _sick(component, health)
            context.clock.sleep(HEALTH_PAUSE_S)
        return {"health": str(health)}

    def observe(self, step: Step, context: Context) -> Observation:
        """Done when it runs and is healthy; what runs and is not yet healthy is adopted by starting again."""
        component = self.target.component(step)
        with self.target.op(step, context) as op:
            found = component.connector.observe(op)
        if found is Observed.UNKNOWN:
            return "unclear"
        healthy = component.connector.health(component.place) is Health.HEALTHY
        return "done" if found is Observed.ACTIVE and healthy else "undone"

    def undo(self, step: Step, context: Context) -> None:
        """Stop what this run started. Raises ``ConnectorError`` when it still runs."""
        connector = self.target.component(step).connector
        with self.target.op(step, context) as op:
            runnable(connector).stop(op)
            found = connector.observe(op)
        if found is Observed.ACTIVE:
            raise ConnectorError(
                "it still runs after it was stopped",
                component=step.component,
                next="end it by hand, then resume the run",
            )


def _sick(component: ComponentTarget, health: Health) -> ConnectorError:
    return ConnectorError(
        f"it was started and is {health} after {HEALTH_SECONDS_MAX:g} s",
        component=component.name,
        region=component.place.region,
        next="read the component's own log",
    )


@dataclass(frozen=True)
class Shift(ReadOnly):
    """The steps of the traffic phase: letting a component serve twice does what once does."""

    target: Target

    def do(self, step: Step, context: Context) -> Mapping[str, Json]:
        """Raises what the connector raises."""
        with self.target.op(step, context) as op:
            runnable(self.target.component(step).connector).unfence(op)
        return {}


@dataclass(frozen=True)
class Cleanup(ReadOnly):
    """Removes what the switch set aside, once nothing will be put back any more."""

    target: Target

    def do(self, step: Step, context: Context) -> Mapping[str, Json]:
        """What somebody else had put there is set aside for good. Raises what the connector raises."""
        connector = self.target.component(step).connector
        told: dict[str, Json] = {}
        with self.target.op(step, context) as op:
            if SET_ASIDE in context.memory and isinstance(connector, SetsAside):
                told = {SET_ASIDE: [str(path) for path in connector.set_aside(op)]}
                context.remember(told)
            connector.discard(op)
        return told
