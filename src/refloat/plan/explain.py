"""A plan in words: by phase and layer, for ``--json`` and for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refloat.digest import Json
from refloat.plan.estimate import Critical
from refloat.plan.model import Phase, Plan, Step
from refloat.units import format_duration, format_size

SOONER_SHOWN = 3  # in one line; --json has more


def phases(plan: Plan) -> list[dict[str, Json]]:
    """The phases that have steps, in order: ``{"name", "steps"}``, each step as ``--json`` prints it."""
    return [
        {"name": str(phase), "steps": [_document(step) for step in plan.steps if step.phase is phase]}
        for phase in Phase
        if any(step.phase is phase for step in plan.steps)
    ]


def _document(step: Step) -> dict[str, Json]:
    return {
        "id": step.id,
        "component": step.component,
        "layer": str(step.layer) if step.layer else None,
        "action": str(step.action),
        "needs": list(step.needs),
        "critical": step.critical,
        "reversible": step.reversible,
        "touches_live": step.touches_live,
        "timeout_s": step.timeout_s,
        "bytes": step.bytes,
        "estimate": step.estimate.model_dump(mode="json") if step.estimate else None,
    }


def heading(plan: Plan) -> str:
    """What the plan is about, and the beginning of its hash."""
    return f"{plan.pipeline}: point {plan.point} from {plan.source} into {plan.to}, plan {plan.hash[:12]}"


STEP_COLUMNS = ("step", "phase", "layer", "expected", "size", "")


def steps(plan: Plan) -> list[tuple[str, ...]]:
    """The plan for people under ``STEP_COLUMNS``: one row a step, with its estimate and what that rests on."""
    return [
        (
            step.title,
            str(phase),
            str(step.layer or ""),
            _expected(step),
            format_size(step.bytes) if step.bytes else "",
            ", ".join(_remarks(step)),
        )
        for phase in Phase
        for step in plan.steps
        if step.phase is phase
    ]


def times(rto: Mapping[str, Json]) -> list[tuple[str, ...]]:
    """``estimate.rto`` for people: of what, expected, 95 times of 100, the objective, and whether that is kept.

    The pipeline first, then each layer and component; last the whole plan, which has no objective.
    """
    rows = [("pipeline", rto["pipeline"])]
    rows += [(f"layer {name}", row) for name, row in _items(rto["layers"])]
    rows += [(name, row) for name, row in _items(rto["components"])]
    return [_time(name, row) for name, row in [*rows, ("protected again", rto["total"])]]


def _items(rows: Json) -> list[tuple[str, Json]]:
    return list(rows.items()) if isinstance(rows, Mapping) else []


def _time(name: str, row: Json) -> tuple[str, ...]:
    found = {key: value for key, value in _items(row) if isinstance(value, float | int)}
    p50, p95, objective = found["p50_s"], found["p95_s"], found.get("objective_s")
    told = (name, format_duration(p50), format_duration(p95), format_duration(objective))
    if objective is None:
        return (*told, "")
    return (*told, "breach" if p50 > objective else "warn" if p95 > objective else "ok")


def rests_on(rto: Mapping[str, Json]) -> str:
    """What share of the expected time of the critical path is measured, learnt and assumed."""
    seconds = {
        basis: told for basis, told in _items(rto["rests_on"]) if isinstance(told, float | int) and told
    }
    whole = sum(seconds.values())
    told = ", ".join(
        f"{basis} {format_duration(part)} ({part / whole:.0%})" for basis, part in seconds.items()
    )
    return f"of the steps that it waits for: {told}" if told else ""


def sooner(found: Sequence[Critical]) -> str:
    """What would bring it back soonest if it took no time; empty where nothing alone would."""
    told = [
        f"{one.step.title} takes {format_duration(one.p50_s)} (-{format_duration(one.saves_s)})"
        for one in found
        if one.saves_s > 0
    ]
    return f"to be back sooner: {', '.join(told[:SOONER_SHOWN])}" if told else ""


def _expected(step: Step) -> str:
    if step.estimate is None:
        return "not estimated"
    estimate = step.estimate
    return f"{format_duration(estimate.p50_s)} (p95 {format_duration(estimate.p95_s)}, {estimate.basis})"


def _remarks(step: Step) -> list[str]:
    return [
        *(["touches what is live"] if step.touches_live else []),
        *([] if step.critical else ["optional"]),
    ]
