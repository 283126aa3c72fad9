"""How long each step and the whole plan will take, and on what that rests: measured, learnt or assumed."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from refloat.contracts import Layer
from refloat.digest import Json
from refloat.limits import STEPS_AT_ONCE
from refloat.manifest.model import Manifest
from refloat.plan.learn import Learnt, StepTiming
from refloat.plan.model import BASES, BEFORE_TRAFFIC, Action, Basis, Estimate, Plan, Step
from refloat.point.model import Point

Seconds: TypeAlias = npt.NDArray[np.float64]

NORMAL_95 = NormalDist().inv_cdf(0.95)
ASSUMED_SPREAD = 3.0  # p95 over p50 where nothing at all was timed
LONGEST_SHOWN = 5  # steps of the critical path
DRAWS = 200  # of the whole graph: then the 95th percentile is the tenth from the top
SEED = 95  # the same plan is told the same times


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
    """The plan with an estimate on every step; its hash is the same. ``history`` is in the order of the runs.

    Measured: at least three timings of this very step in this region. Learnt: fewer, or those of steps with the same
    action and kind. Both are brought to the step's bytes. Assumed: the round figures of ``ASSUMED``.
    """
    learnt = Learnt(history, {action: assumed.fixed_s for action, assumed in ASSUMED.items()})

    def of(step: Step) -> Estimate:
        kind = point.components[step.component].kind if step.component else ""
        return learnt.of(step, kind) or _assumed(step, learnt.together)

    return plan.model_copy(
        update={"steps": tuple(step.model_copy(update={"estimate": of(step)}) for step in plan.steps)}
    )


def _assumed(step: Step, together: float) -> Estimate:
    assumption = ASSUMED[step.action]
    p50 = assumption.fixed_s + step.bytes / assumption.bytes_per_s
    return Estimate(p50_s=p50, p95_s=ASSUMED_SPREAD * p50, basis="assumed", together=together)


@dataclass(frozen=True)
class Course:
    """How a plan goes: when each step ends, in seconds from the start, and which step's end let it begin."""

    ends: Mapping[str, float]
    after: Mapping[str, str | None]


class Graph:
    """What waits for what in a plan; steps that need the same are looked at together, as many of a phase do."""

    def __init__(self, plan: Plan) -> None:
        self.steps = plan.steps
        alike: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for place, step in enumerate(plan.steps):
            alike[step.needs].append(place)
        self.needs = list(alike)
        self.groups = list(alike.values())
        self.group_of = {place: group for group, places in enumerate(self.groups) for place in places}
        self.waiting: dict[str, list[int]] = defaultdict(list)
        for group, needs in enumerate(self.needs):
            for need in needs:
                self.waiting[need].append(group)

    def course(self, seconds: Callable[[Step], float], workers: int = STEPS_AT_ONCE) -> Course:
        """How a plan goes by the engine: what can begin does, in the plan's order, as far as there are workers."""
        lacking = [len(needs) for needs in self.needs]
        ready = [place for place, step in enumerate(self.steps) if not step.needs]
        running: list[tuple[float, int]] = []
        ends: dict[str, float] = {}
        after: dict[str, str | None] = {}
        now, ended = 0.0, None
        while ready or running:
            while ready and len(running) < workers:
                place = heapq.heappop(ready)
                step = self.steps[place]
                after[step.id] = ended
                ends[step.id] = now + seconds(step)
                heapq.heappush(running, (ends[step.id], place))
            now, last = heapq.heappop(running)
            ended = self.steps[last].id
            for group in self.waiting[ended]:
                lacking[group] -= 1
                if not lacking[group]:
                    for place in self.groups[group]:
                        heapq.heappush(ready, place)
        return Course(ends, after)

    def ends(
        self, seconds: Seconds, order: Iterable[str], workers: int = STEPS_AT_ONCE
    ) -> dict[str, Seconds]:
        """When each step ends in each column of ``seconds``, which has a row for each, begun in an order that works."""
        index = {step.id: place for place, step in enumerate(self.steps)}
        free = np.zeros((workers, seconds.shape[1]))  # since when each worker is, the first one first
        ends: dict[str, Seconds] = {}
        met: dict[int, Seconds] = {}
        for id in order:
            place = index[id]
            group = self.group_of[place]
            if group not in met:
                met[group] = np.max([free[0] * 0, *(ends[need] for need in self.needs[group])], axis=0)
            ends[id] = free[0] = np.maximum(free[0], met[group]) + seconds[place]
            for one in range(workers - 1):
                free[one : one + 2] = np.minimum(*free[one : one + 2]), np.maximum(*free[one : one + 2])
        return ends


def course(plan: Plan, seconds: Callable[[Step], float], workers: int = STEPS_AT_ONCE) -> Course:
    """The course of a plan, as ``Graph.course`` tells it."""
    return Graph(plan).course(seconds, workers)


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
    serving, graph = _serving(plan), Graph(plan)
    whole = graph.course(_p50)
    critical = _critical(plan, whole)

    def back_s(course: Course) -> float:
        return max(course.ends[step.id] for step in serving)

    def saves_s(id: str) -> float:
        return max(
            0.0, back_s(whole) - back_s(graph.course(lambda step: 0.0 if step.id == id else _p50(step)))
        )

    slowest = sorted(critical, key=_p50, reverse=True)[:LONGEST_SHOWN]
    found = [Critical(step, _p50(step), saves_s(step.id)) for step in slowest if _p50(step)]
    return sorted(found, key=lambda one: -one.saves_s)


def _critical(plan: Plan, whole: Course) -> list[Step]:
    """The steps of which each was waited for, by the next one or at the end of verification."""
    last = max((step.id for step in _serving(plan)), key=lambda id: whole.ends[id])
    path = {last}
    while (before := whole.after[last]) is not None:
        path.add(last := before)
    return [step for step in plan.steps if step.id in path]


def _p50(step: Step) -> float:
    return step.estimate.p50_s if step.estimate else 0.0


def _serving(plan: Plan) -> list[Step]:
    return [step for step in plan.steps if step.phase in BEFORE_TRAFFIC]


def drawn(plan: Plan, draws: int = DRAWS) -> dict[str, Seconds]:
    """When each step ends, in each of so many runs that are drawn from the estimates with a fixed seed, in seconds.

    A step's time is log-normal between its p50 and its p95; the share ``together`` of its variation it has in common
    with all others of its run. Steps begin in the order in which they would if each took its p50, on whichever worker
    is free first.
    """
    estimates = [step.estimate or Estimate(p50_s=0, p95_s=0, basis="assumed") for step in plan.steps]
    p50, p95, together = (
        np.array([getattr(one, name) for one in estimates])[:, None]
        for name in ("p50_s", "p95_s", "together")
    )
    common = np.array([NormalDist().inv_cdf((place + 0.5) / draws) for place in range(draws)])
    alone = np.random.default_rng(SEED).standard_normal((len(estimates), draws))
    ratio = np.divide(p95, p50, out=np.ones_like(p50), where=p50 > 0)
    normal = np.sqrt(together) * common + np.sqrt(1 - together) * alone
    graph = Graph(plan)
    return graph.ends(p50 * ratio ** (normal / NORMAL_95), graph.course(_p50).ends)


@dataclass(frozen=True)
class Likely:
    """How long something will take: half of the time at most ``p50_s``, 95 times of 100 at most ``p95_s``."""

    p50_s: float
    p95_s: float

    @classmethod
    def of(cls, seconds: Seconds) -> Likely:
        """Of what was drawn."""
        p50, p95 = (float(np.quantile(seconds, share, method="inverted_cdf")) for share in (0.5, 0.95))
        return cls(round(p50, 3), round(p95, 3))


def until_back(plan: Plan) -> Likely:
    """How long the steps of a plan will take until users are let in."""
    ends = drawn(plan)
    return Likely.of(np.max([ends[step.id] for step in _serving(plan)], axis=0))


def rests_on(plan: Plan) -> dict[Basis, float]:
    """How many seconds of the critical path are ``measured``, ``learnt`` and ``assumed``, at each step's p50."""
    found = dict.fromkeys(BASES, 0.0)
    for step in _critical(plan, course(plan, _p50)):
        if step.estimate:
            found[step.estimate.basis] += step.estimate.p50_s
    return {basis: round(seconds, 3) for basis, seconds in found.items()}


def rto(plan: Plan, manifest: Manifest) -> dict[str, Json]:
    """How long the pipeline, each layer and each component will take to be back, against their objectives, in seconds.

    ``{"pipeline": {"p50_s", "p95_s", "objective_s"}, "layers": {layer: the same}, "components": {name: the same},
    "total": {"p50_s", "p95_s"}, "rests_on": {basis: seconds}}``: by ``drawn`` runs, to the end of verification, and to
    the last step of each layer and component up to there, of what comes back. The objective of the pipeline, and of a
    layer, is the strictest one in it. ``total`` is to the end of the whole plan, when the pipeline is protected again.
    """
    ends = drawn(plan)
    serving = _serving(plan)
    back = [step for step in serving if not plan.only or step.component in plan.only]
    components = {step.component: ends[step.id] for step in back if step.component}
    objectives = {name: manifest.tier(name).rto for name in components}
    layer_of = {step.component: step.layer for step in back if step.component}
    layers = {layer: [name for name in components if layer_of[name] is layer] for layer in Layer}

    def row(ended: Sequence[Seconds], objective_s: float | None = None) -> dict[str, Json]:
        likely = Likely.of(np.max(ended, axis=0))
        objective: dict[str, Json] = {} if objective_s is None else {"objective_s": objective_s}
        return {"p50_s": likely.p50_s, "p95_s": likely.p95_s, **objective}

    return {
        "pipeline": row([ends[step.id] for step in serving], min(objectives.values())),
        "layers": {
            str(layer): row([components[name] for name in names], min(objectives[name] for name in names))
            for layer, names in layers.items()
            if names
        },
        "components": {name: row([last], objectives[name]) for name, last in components.items()},
        "total": row(list(ends.values())),
        "rests_on": {str(basis): seconds for basis, seconds in rests_on(plan).items()},
    }
