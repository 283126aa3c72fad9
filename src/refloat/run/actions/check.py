"""Checks before anything is touched: the point is whole and sound, the source is down, the target is ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from refloat.contracts import Health, Identifiable, Occupied, SetsAside, Staging
from refloat.digest import Json
from refloat.errors import Missing, Refused
from refloat.plan.model import APART, UNMOVED, Step
from refloat.point.model import Grade
from refloat.room import how_to_make, short
from refloat.run.actions.agreement import Agreement
from refloat.run.actions.readonly import ReadOnly
from refloat.run.context import Context
from refloat.run.target import SET_ASIDE, ComponentTarget, Target
from refloat.units import format_time

BYTES_ALONE = "bring only the bytes with --into DIR"
ELSEWHERE = f"{BYTES_ALONE}, or recover --to another region"
FOREIGN = "something refloat did not put there"
MISSING_SHOWN_MAX = 5  # names in one message; the rest is counted


@dataclass(frozen=True)
class Check(ReadOnly):
    """The steps of the preflight phase."""

    target: Target
    agreement: Agreement

    def do(self, step: Step, context: Context) -> Mapping[str, Json]:
        """Raises ``Refused`` with the rule's name, ``Missing`` for a point that is not whole here."""
        if step.subject == "point":
            return self._point(step, context)
        if step.subject == "source":
            return self._source(context)
        if step.subject == UNMOVED:
            return self.agreement.with_source(context)
        if step.subject == APART:
            self.target.apart()
            return {}
        if step.subject == "room":
            return self._room(context)
        return self._place(step, context)

    def _point(self, step: Step, context: Context) -> Mapping[str, Json]:
        missing = list(self.target.missing())
        if missing:
            rest = len(missing) - MISSING_SHOWN_MAX
            shown = ", ".join(missing[:MISSING_SHOWN_MAX]) + (f" and {rest} more" if rest > 0 else "")
            raise Missing(
                f"the point {self.target.point_name} is not whole in this region: {shown}",
                region=self.target.region,
                next="refloat vault repair, or choose another point",
            )
        return {**self._grade(context), **self.agreement.of_groups(context)}

    def _grade(self, context: Context) -> Mapping[str, Json]:
        point = self.target.point
        broken = {
            name: group.reason
            for name, group in point.groups.items()
            if group.grade is Grade.BROKEN and set(group.members) & set(self.target.components)
        }
        if broken:
            why = "; ".join(f"group {name}: {reason}" for name, reason in broken.items())
            message = f"the point {self.target.point_name} is broken: {why}"
            return context.refuse("group_broken", message, next="choose another point")
        return {"grade": str(point.grade)}

    def _source(self, context: Context) -> Mapping[str, Json]:
        """Two regions that serve at once answer differently, so an unknown source counts as alive.

        The pipeline may run where the point was made and, since it moved, in the manifest's primary.
        """
        source, health = self.target.point.primary, self.target.source_health()
        told: dict[str, Json] = {
            name if region == source else f"{name} in {region}": str(answer)
            for region, answers in health.items()
            for name, answer in answers.items()
        }
        for region, answers in health.items():
            alive = [name for name, answer in answers.items() if answer is Health.HEALTHY]
            unknown = [name for name, answer in answers.items() if answer is Health.UNKNOWN]
            if alive or unknown:
                return {"health": told, **self._alive(region, alive, unknown, context)}
        return {"health": told}

    def _alive(
        self, region: str, alive: list[str], unknown: list[str], context: Context
    ) -> Mapping[str, Json]:
        what = (
            f"{', '.join(alive)} still answers"
            if alive
            else f"whether {', '.join(unknown)} answers is unknown"
        )
        hint = f"stop what runs in {region}"
        if region == self.target.region:
            hint = f"{ELSEWHERE}; to take {region} itself back, {hint}"
        return context.refuse("source_alive", f"{what} in {region}", next=hint)

    def _room(self, context: Context) -> Mapping[str, Json]:
        """What is live stays until the end, so what is staged beside it needs room of its own."""
        found = self.target.room()
        told: dict[str, Json] = {"room": [room.document() for room in found]}
        if lacking := short(found):
            message = f"{self.target.region} has not room for what would be staged: {lacking}"
            hint = f"{how_to_make(found)}, or recover fewer components with --only NAME"
            return {**told, **context.refuse("target_full", message, next=hint)}
        return told

    def _place(self, step: Step, context: Context) -> Mapping[str, Json]:
        component = self.target.component(step)
        connector = component.connector
        if not isinstance(connector, Occupied):
            return self._untold(component, context)
        holder = connector.holder(component.place)
        if holder is None:
            return {"holder": None}
        if self.target.drill:
            raise self._occupied(component, holder)
        if (home := self._lives_in(component)) is not None:
            serving = self._serving(component, context) if holder else {}
            return {"holder": holder, **serving, **self._home(component, home, context)}
        if holder in self.target.known_points:
            return {"holder": holder, **self._serving(component, context)}
        return self._foreign(component, holder, context)

    def _occupied(self, component: ComponentTarget, holder: str | None = None) -> Refused:
        """A trial puts back what it finds, and finds nothing: what lies there may be somebody's."""
        what = f"what point {holder[:12]} put there" if holder else FOREIGN
        return Refused(
            "sandbox_occupied",
            f"the place of {component.name} in the sandbox {self.target.region} holds {what}",
            component=component.name,
            next="move it away, or give the sandbox another place",
        )

    def _foreign(self, component: ComponentTarget, holder: str, context: Context) -> Mapping[str, Json]:
        """What another put there. What a connector can name stands in the way, whatever rule is overridden."""
        rule, name, connector = "target_foreign", component.name, component.connector
        what = f"what point {holder} put there, of another vault" if holder else FOREIGN
        message = f"the target of {name} holds {what}"
        named = connector.occupant(component.place) if isinstance(connector, Identifiable) else None
        if named is not None:
            raise Refused(rule, f"{message}: {named.message}", component=name, next=named.next)
        return self._set_aside(
            component, context, context.refuse(rule, message, component=name, next="move it away")
        )

    def _set_aside(
        self, component: ComponentTarget, context: Context, told: dict[str, Json]
    ) -> Mapping[str, Json]:
        """Nobody but its owner deletes what somebody else put there: the clean-up is told to keep it."""
        if not isinstance(component.connector, SetsAside):
            raise Refused(
                "target_foreign",
                f"{told['why']}, and a component of kind {component.connector.spec.kind} cannot set it aside",
                component=component.name,
                next="move it away",
            )
        context.remember({SET_ASIDE: True})
        return told

    def _lives_in(self, component: ComponentTarget) -> str | None:
        """The region in which the pipeline lives, and what is at the place of a component with it; None where none."""
        if self.target.region in self.target.homes:
            return self.target.region
        return self.target.lives_in(component.name)

    def _home(self, component: ComponentTarget, home: str, context: Context) -> Mapping[str, Json]:
        """What is live where the pipeline lives is newer than any point, whoever put it there."""
        region, as_of = self.target.region, format_time(component.snapshot.as_of)
        message = f"{component.name} is live in {home}, where the pipeline lives"
        hint = ELSEWHERE
        if home != region:
            message += f", and {region} has the same place for it"
            hint = f"give {region} a place of its own and protect again (`refloat check` says how), or {BYTES_ALONE}"
        message += f": it would be taken back to {as_of}"
        return context.refuse("target_primary", message, component=component.name, next=hint)

    def _serving(self, component: ComponentTarget, context: Context) -> Mapping[str, Json]:
        """What an earlier recovery started there must not serve while everything below it is exchanged."""
        if not component.connector.spec.runnable:
            return {}
        health = component.connector.health(component.place)
        if health is Health.SICK:
            return {"health": str(health)}
        how = "runs" if health is Health.HEALTHY else "may be running"
        message = f"{component.name} {how} in {self.target.region} already, put there by an earlier recovery"
        return context.refuse("target_serving", message, component=component.name, next="stop it")

    def _untold(self, component: ComponentTarget, context: Context) -> Mapping[str, Json]:
        name = component.name
        if component.connector.spec.staging is Staging.NONE:
            return {"holder": "nothing is put there"}
        if self.target.drill:
            raise self._occupied(component)
        message = f"who put what is live at the target of {name} cannot be told"
        hint = "look at it" if self._lives_in(component) is None else ELSEWHERE
        told = context.refuse("target_foreign", message, component=name, next=hint)
        return self._set_aside(component, context, told)
