"""What differs between two plans: nothing where their hashes are equal, whatever is expected to take how long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from refloat.digest import Json
from refloat.plan.model import Plan, Step

Change = tuple[Json, Json]
"""What was, and what is."""


@dataclass(frozen=True)
class Difference:
    """From one plan to another. ``whole`` is about the plan, by field; ``changed`` about a step, by its id and field.

    ``reordered`` says that steps of both come in another order.
    """

    whole: Mapping[str, Change]
    added: tuple[Step, ...]
    removed: tuple[Step, ...]
    changed: Mapping[str, Mapping[str, Change]]
    reordered: bool

    @property
    def none(self) -> bool:
        """Whether both plans do the same."""
        return not (self.whole or self.added or self.removed or self.changed or self.reordered)

    def document(self) -> dict[str, Json]:
        """As ``--json`` prints it."""
        return {
            "none": self.none,
            "plan": _changes(self.whole),
            "added": [step.id for step in self.added],
            "removed": [step.id for step in self.removed],
            "changed": {id: _changes(fields) for id, fields in self.changed.items()},
            "reordered": self.reordered,
        }

    def lines(self) -> Iterator[str]:
        """For people, one line each."""
        for field, (was, now) in self.whole.items():
            yield f"~ {field}: {_told(was)} -> {_told(now)}"
        for step in self.removed:
            yield f"- {step.title}"
        for step in self.added:
            yield f"+ {step.title}"
        for id, fields in self.changed.items():
            told = ", ".join(f"{field} {_told(was)} -> {_told(now)}" for field, (was, now) in fields.items())
            yield f"~ {id}: {told}"
        if self.reordered:
            yield "~ the steps come in another order"


def difference(was: Plan, now: Plan) -> Difference:
    """What the plan ``now`` does that ``was`` did not, and the other way round."""
    before, after = was.by_id, now.by_id
    both = [id for id in before if id in after]
    return Difference(
        whole=_fields(_about(was), _about(now)),
        added=tuple(step for step in now.steps if step.id not in before),
        removed=tuple(step for step in was.steps if step.id not in after),
        changed={id: fields for id in both if (fields := _fields(_of(before[id]), _of(after[id])))},
        reordered=both != [id for id in after if id in before],
    )


def _about(plan: Plan) -> dict[str, Json]:
    return plan.model_dump(mode="json", exclude={"steps"})


def _of(step: Step) -> dict[str, Json]:
    return step.model_dump(mode="json", exclude={"id", "estimate"})


def _fields(was: Mapping[str, Json], now: Mapping[str, Json]) -> dict[str, Change]:
    return {field: (was[field], now[field]) for field in was if was[field] != now[field]}


def _changes(fields: Mapping[str, Change]) -> dict[str, Json]:
    return {field: {"was": was, "now": now} for field, (was, now) in fields.items()}


def _told(value: Json) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
