"""Runs that are drawn from a machine that is known, to hold estimates against what then comes.

A machine has a fixed time and a rate for each action, a component has its size and its own deviation from both; a run
is slow as a whole, each of its steps for itself, and now and then one of them hangs. Everything comes from one seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from refloat.contracts import Layer
from refloat.plan.estimate import course, estimate, until_back
from refloat.plan.learn import StepTiming
from refloat.plan.model import BEFORE_TRAFFIC, Action, Phase, Plan, Step
from refloat.point.model import Point, Snapshot

KINDS = ("files", "sqlite", "lancedb")
EARLIER = (3, 5, 8, 12, 20, 30)
"""How many runs there were before: with few and with many the estimate must hold."""

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CHAIN = (
    (Phase.STAGE, Action.STAGE),
    (Phase.VALIDATE, Action.VALIDATE),
    (Phase.ACTIVATE, Action.ACTIVATE),
    (Phase.ACTIVATE, Action.START),
)
SIZED = (Action.STAGE, Action.VALIDATE)


def graph(sizes: Sequence[int]) -> tuple[Plan, Point]:
    """The plan of a recovery of so many components, and the point that it takes: what is staged together goes live."""
    names = [f"c{number}" for number in range(len(sizes))]
    steps = [Step(id="preflight.check:point", phase=Phase.PREFLIGHT, action=Action.CHECK, subject="point")]
    needs = dict.fromkeys(names, (steps[0].id,))
    for phase, action in CHAIN:
        together = tuple(id for ids in needs.values() for id in ids) if action is Action.ACTIVATE else ()
        for name, size in zip(names, sizes, strict=True):
            step = Step(
                id=f"{phase}.{action}:{name}",
                phase=phase,
                action=action,
                subject=name,
                component=name,
                layer=Layer.DATA,
                needs=together[:1] + together[-1:] + needs[name] if together else needs[name],
                bytes=size if action in SIZED else 0,
            )
            steps.append(step)
            needs[name] = (step.id,)
    last = tuple(id for ids in needs.values() for id in ids)
    verify = Step(
        id="verify.verify:c0",
        phase=Phase.VERIFY,
        action=Action.VERIFY,
        subject="c0",
        component="c0",
        needs=last,
    )
    kinds = {name: KINDS[number % len(KINDS)] for number, name in enumerate(names)}
    snapshots = {
        name: Snapshot(
            kind=kind, tree="00", identity={}, position={}, as_of=NOW, captured_from=NOW, captured_to=NOW
        )
        for name, kind in kinds.items()
    }
    point = Point(pipeline="p", primary="eu", created_at=NOW, manifest="00", components=snapshots)
    return Plan(pipeline="p", point="p", source="eu", to="us", steps=(*steps, verify)), point


@dataclass(frozen=True)
class Machine:
    """What runs are drawn from: seconds that are fixed and seconds a byte, of each kind of step and of each step."""

    dice: np.random.Generator
    fixed_s: dict[tuple[Action, str], float]
    per_byte_s: dict[tuple[Action, str], float]
    own: dict[str, float]
    alone: dict[str, float]
    """By how much each step varies for itself, as a standard deviation of its logarithm."""
    common: float
    hangs: float
    """How often a step takes twice as long or longer."""

    @classmethod
    def of(cls, seed: int, plan: Plan, point: Point) -> Machine:
        """A machine, as different from others as machines are."""
        dice = np.random.default_rng(seed)
        kinds = {kind_of(step, point): None for step in plan.steps}
        keys = [(action, kind) for action in Action for kind in ("", *KINDS) if (action, kind) in kinds]
        return cls(
            dice,
            {key: float(dice.lognormal(0.0, 1.0)) for key in keys},
            {key: float(dice.lognormal(math.log(2e-8), 0.7)) for key in keys},
            {step.id: float(dice.lognormal(0.0, 0.2)) for step in plan.steps},
            {step.id: float(dice.uniform(0.05, 0.3)) for step in plan.steps},
            common=float(dice.uniform(0.0, 0.25)),
            hangs=float(dice.choice([0.0, 0.02])),
        )

    def run(self, plan: Plan, point: Point) -> dict[str, float]:
        """How long each step of one run takes."""
        whole = float(self.dice.lognormal(0.0, self.common))
        return {step.id: whole * self._one(step, kind_of(step, point)) for step in plan.steps}

    def _one(self, step: Step, kind: tuple[Action, str]) -> float:
        expected = (self.fixed_s[kind] + self.per_byte_s[kind] * step.bytes) * self.own[step.id]
        hung = 1.0 + float(self.dice.exponential(2.0)) if self.dice.random() < self.hangs else 1.0
        return expected * hung * float(self.dice.lognormal(0.0, self.alone[step.id]))


def kind_of(step: Step, point: Point) -> tuple[Action, str]:
    """What a step is like."""
    return step.action, point.components[step.component].kind if step.component else ""


def grown(plan: Plan, by: float) -> Plan:
    """The same plan for a point of another size."""
    return replace_steps(
        plan, [step.model_copy(update={"bytes": int(step.bytes * by)}) for step in plan.steps]
    )


def replace_steps(plan: Plan, steps: Sequence[Step]) -> Plan:
    """The plan with other steps."""
    return plan.model_copy(update={"steps": tuple(steps)})


def timings(plan: Plan, point: Point, seconds: dict[str, float], run: str) -> Iterator[StepTiming]:
    """What is on record of a run."""
    for step in plan.steps:
        action, kind = kind_of(step, point)
        yield StepTiming(step.id, action, kind, step.bytes, round(seconds[step.id], 3), run)


@dataclass(frozen=True)
class Held:
    """One run that was foreseen and then came: how long it took, in p50s, and whether within the p95."""

    earlier: int
    of_p50: float
    p95_of_p50: float
    inside: bool


def back_s(plan: Plan, seconds: dict[str, float]) -> float:
    """When the last step before traffic ends, by the course that the engine takes."""
    ends = course(plan, lambda step: seconds[step.id]).ends
    return max(ends[step.id] for step in plan.steps if step.phase in BEFORE_TRAFFIC)


def one(seed: int, earlier: int) -> Held:
    """A machine, its earlier runs, the estimate, and the run that then comes."""
    dice = np.random.default_rng([seed, earlier])
    sizes = [int(dice.lognormal(math.log(50e6), 1.5)) for _ in range(int(dice.integers(2, 9)))]
    plan, point = graph(sizes)
    machine = Machine.of(seed, plan, point)
    history: list[StepTiming] = []
    for number in range(earlier):
        then = grown(plan, 1.02**number)
        history += timings(then, point, machine.run(then, point), f"run-{number}")
    now = grown(plan, 1.02**earlier)
    likely = until_back(estimate(now, point, history))
    took = back_s(now, machine.run(now, point))
    return Held(earlier, took / likely.p50_s, likely.p95_s / likely.p50_s, took <= likely.p95_s)


def many(seed: int, each: int) -> list[Held]:
    """So many machines for each number of earlier runs."""
    return [one(seed * 100_000 + number, earlier) for earlier in EARLIER for number in range(each)]
