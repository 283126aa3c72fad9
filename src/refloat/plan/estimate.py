"""How long each step and the whole plan will take, and on what that rests: measured, learnt or assumed."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from refloat.contracts import Layer
from refloat.digest import Json
from refloat.limits import STEPS_AT_ONCE
from refloat.manifest.model import Manifest
from refloat.plan.model import BEFORE_TRAFFIC, Action, Estimate, Plan, Step
from refloat.point.model import Point

MEASURED_SAMPLES_MIN = 3  # fewer timings of a step say little about its spread
LEARNT_SPREAD = 2.0  # p95 over p50 where other steps' timings stand in for this one's
ASSUMED_SPREAD = 3.0  # and where nothing at all was timed
LONGEST_SHOWN = 5  # steps of the critical path


@dataclass(frozen=True)
class StepTiming:
    """How long one step took in an earlier run. ``kind`` is empty for a step that has no component."""

    step_id: str
    action: Action
    kind: str
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Assumption:
    """What is taken for granted of an action until it was timed: a fixed part and a rate."""

    fixed_s: float
    bytes_per_s: float = math.inf


ASSUMED: Mapping[Action, Assumption] = {
    Action.CHECK: Assumption(fixed_s=0.2),
    Action.PROVISION: Assumption(fixed_s=60.0),
    Action.STAGE: Assumption(fixed_s=0.5, bytes_per_s=50e6),  # one stream from an object store in the region
    Action.VALIDATE: Assumption(fixed_s=0.2, bytes_per_s=200e6),  # read once more and hashed
    Action.ACTIVATE: Assumption(fixed_s=0.2),  # a rename and two fsyncs
    Action.START: Assumption(fixed_s=10.0),  # a Python service that loads a model
    Action.VERIFY: Assumption(fixed_s=30.0),
    Action.SHIFT: Assumption(fixed_s=0.5),
    Action.PROTECT: Assumption(fixed_s=30.0),
    Action.CLEANUP: Assumption(fixed_s=0.5),
}
"""Round figures for one machine with a network of 1 Gbit/s; every one is replaced by the first timing."""


def estimate(plan: Plan, point: Point, history: Sequence[StepTiming]) -> Plan:
    """The plan with an estimate on every step; its hash is the same.

    Measured: at least three timings of this very step. Learnt: fewer, or those of steps with the same
    action and kind, scaled by bytes. Assumed: the round figures of ``ASSUMED``.
    """
    own: dict[str, list[float]] = defaultdict(list)
    alike: dict[tuple[Action, str], list[StepTiming]] = defaultdict(list)
    for timing in history:
        own[timing.step_id].append(timing.seconds)
        alike[timing.action, timing.kind].append(timing)

    def of(step: Step) -> Estimate:
        kind = point.components[step.component].kind if step.component else ""
        if len(own[step.id]) >= MEASURED_SAMPLES_MIN:
            return _measured(own[step.id])
        return _learnt(step, alike[step.action, kind]) or _assumed(step)

    return plan.model_copy(
        update={"steps": tuple(step.model_copy(update={"estimate": of(step)}) for step in plan.steps)}
    )


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _measured(seconds: Sequence[float]) -> Estimate:
    return Estimate(
        p50_s=quantile(seconds, 0.5), p95_s=quantile(seconds, 0.95), basis="measured", samples=len(seconds)
    )


def _learnt(step: Step, timings: Sequence[StepTiming]) -> Estimate | None:
    if not timings:
        return None
    scaled = [_scaled(timing, step) for timing in timings]
    p50 = quantile(scaled, 0.5)
    p95 = max(quantile(scaled, 0.95), LEARNT_SPREAD * p50)
    return Estimate(p50_s=p50, p95_s=p95, basis="learnt", samples=len(scaled))


def _scaled(timing: StepTiming, step: Step) -> float:
    """What a timing says of ``step``: the part above the fixed one grows with the bytes."""
    if not timing.bytes or not step.bytes:
        return timing.seconds
    fixed = min(ASSUMED[step.action].fixed_s, timing.seconds)
    return fixed + (timing.seconds - fixed) * step.bytes / timing.bytes


def _assumed(step: Step) -> Estimate:
    assumption = ASSUMED[step.action]
    p50 = assumption.fixed_s + step.bytes / assumption.bytes_per_s
    return Estimate(p50_s=p50, p95_s=ASSUMED_SPREAD * p50, basis="assumed")


@dataclass(frozen=True)
class Course:
    """How a plan goes: when each step ends, in seconds from the start, and which step's end let it begin."""

    ends: Mapping[str, float]
    after: Mapping[str, str | None]


def course(plan: Plan, seconds: Callable[[Step], float], workers: int = STEPS_AT_ONCE) -> Course:
    """How a plan goes by the engine: what can begin does, in the plan's order, as far as there are workers."""
    index = {step.id: place for place, step in enumerate(plan.steps)}
    lacking = {step.id: set(step.needs) for step in plan.steps}
    waiting: dict[str, list[str]] = defaultdict(list)
    for step in plan.steps:
        for need in step.needs:
            waiting[need].append(step.id)
    ready = [index[step.id] for step in plan.steps if not step.needs]
    running: list[tuple[float, int]] = []
    ends: dict[str, float] = {}
    after: dict[str, str | None] = {}
    now, ended = 0.0, None
    while ready or running:
        while ready and len(running) < workers:
            step = plan.steps[heapq.heappop(ready)]
            after[step.id] = ended
            ends[step.id] = now + seconds(step)
            heapq.heappush(running, (ends[step.id], index[step.id]))
        now, place = heapq.heappop(running)
        ended = plan.steps[place].id
        for id in waiting[ended]:
            lacking[id].discard(ended)
            if not lacking[id]:
                heapq.heappush(ready, index[id])
    return Course(ends, after)


@dataclass(frozen=True)
class Critical:
    """A step of the critical path, and how much sooner all would be back if it took no time at all."""

    step: Step
    p50_s: float
    saves_s: float

    def document(self) -> dict[str, Json]:
        """As ``--json`` prints it."""
        return {"id": self.step.id, "p50_s": self.p50_s, "saves_s": self.saves_s}


def longest(plan: Plan) -> list[Critical]:
    """What takes longest until all is verified: the longest steps of the critical path, what would save most first.

    Of the steps that take any time ``LONGEST_SHOWN``.
    """
    serving = [step.id for step in _serving(plan)]
    whole = course(plan, _p50)
    last = max(serving, key=lambda id: whole.ends[id])
    back_s = whole.ends[last]
    path = {last}
    while (before := whole.after[last]) is not None:
        path.add(last := before)

    def saves_s(id: str) -> float:
        ends = course(plan, lambda step: 0.0 if step.id == id else _p50(step)).ends
        return max(0.0, back_s - max(ends[other] for other in serving))

    critical = [step for step in plan.steps if step.id in path]
    slowest = sorted(critical, key=_p50, reverse=True)[:LONGEST_SHOWN]
    found = [Critical(step, _p50(step), saves_s(step.id)) for step in slowest if _p50(step)]
    return sorted(found, key=lambda one: -one.saves_s)


def _p50(step: Step) -> float:
    return step.estimate.p50_s if step.estimate else 0.0


def _p95(step: Step) -> float:
    return step.estimate.p95_s if step.estimate else 0.0


def _serving(plan: Plan) -> list[Step]:
    return [step for step in plan.steps if step.phase in BEFORE_TRAFFIC]


def rto(plan: Plan, manifest: Manifest) -> dict[str, Json]:
    """How long the pipeline, each layer and each component will take to be back, against their objectives, in seconds.

    ``{"pipeline": {"p50_s", "p95_s", "objective_s"}, "layers": {layer: the same}, "components": {name: the same},
    "total": {"p50_s", "p95_s"}}``: by the course of the plan with the workers there are, to the end of verification,
    and to the last step of each layer and component up to there, of what comes back. p95 is where every step takes its
    own, so it errs on the long side. The objective of the pipeline, and of a layer, is the strictest one in it.
    ``total`` is to the end of the whole plan, when the pipeline is protected again.
    """
    p50, slow = course(plan, _p50).ends, course(plan, _p95).ends
    p95 = {id: max(end, p50[id]) for id, end in slow.items()}
    serving = _serving(plan)
    back = [step for step in serving if not plan.only or step.component in plan.only]
    components = {step.component: step.id for step in back if step.component}
    objectives = {name: manifest.tier(name).rto for name in components}
    layer_of = {step.component: step.layer for step in back if step.component}
    layers = {layer: [name for name in components if layer_of[name] is layer] for layer in Layer}

    def row(ids: Sequence[str], objective_s: float) -> dict[str, Json]:
        return {
            "p50_s": max(p50[id] for id in ids),
            "p95_s": max(p95[id] for id in ids),
            "objective_s": objective_s,
        }

    return {
        "pipeline": row([step.id for step in serving], min(objectives.values())),
        "layers": {
            str(layer): row([components[name] for name in names], min(objectives[name] for name in names))
            for layer, names in layers.items()
            if names
        },
        "components": {name: row([last], objectives[name]) for name, last in components.items()},
        "total": {"p50_s": max(p50.values()), "p95_s": max(p95.values())},
    }
