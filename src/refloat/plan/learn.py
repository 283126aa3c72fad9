"""What earlier runs teach about a step: time as a + b x bytes, how far timings lie off it, and how far together.

A timing is held against the line of its kind of step as a ratio, since what is slow is slow by a share, not by seconds.
"""

from __future__ import annotations

import bisect
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from refloat.plan.model import Action, Estimate, Step

MEASURED_SAMPLES_MIN = 3  # fewer timings of a step say little about its spread
RUNS_LEARNT = 40  # the newest into the region, and as many others: what is long ago says little of now
SECONDS_MIN = 0.001  # to which timings are rounded
SIZES_APART = 2.0  # the largest over the smallest: nearer ones do not tell what is fixed from what grows
LINE_POINTS = 40  # of which every pair is tried
LONE_SPREAD = 2.0  # p95 over p50 where one single timing is all there is
LONE_WEIGHT = 4  # up to how many degrees of freedom that spread makes good
FREE_MIN = 2  # with fewer Student's t is so wide that two timings, 1 s and 3 s, would foretell many minutes
ALIKE_WEIGHT = 4  # for how many timings of its own the spread of all other steps counts
TOGETHER_ASSUMED = 0.5  # until runs have shown what share of the variation is of the run as a whole
EXACT_SAMPLES_MIN = 19  # of so many the largest is exceeded one time in twenty, whatever the distribution
STUDENT_95 = (
    *(6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796),
    *(1.782, 1.771, 1.761, 1.753, 1.746, 1.740, 1.734, 1.729, 1.725, 1.721, 1.717),
)
"""The 95th percentile of Student's t, by degrees of freedom from 1."""


@dataclass(frozen=True)
class StepTiming:
    """How long one step took in an earlier run, the waiting for its turn included.

    ``kind`` is empty for a step that has no component. ``here``: in the region that is asked about.
    """

    step_id: str
    action: Action
    kind: str
    bytes: int
    seconds: float
    run: str = ""
    here: bool = True


def took(steps: Sequence[tuple[str, float, float]]) -> dict[str, float]:
    """How long each step took, with what went by between the end of the one before and its beginning.

    ``steps``: the id, when it began and how long it ran, in seconds. What is written before a step begins, and an
    attempt that failed before the one that is timed, take their time as well.
    """
    ends = sorted(began + ran for _, began, ran in steps)
    before = (bisect.bisect_right(ends, began) for _, began, _ in steps)
    return {
        id: ran + began - (ends[place - 1] if place else 0.0)
        for (id, began, ran), place in zip(steps, before, strict=True)
    }


@dataclass(frozen=True)
class Line:
    """How long a step of a kind takes by its size: ``fixed_s`` and a share that grows with the bytes."""

    fixed_s: float
    per_byte_s: float = 0.0
    told_by_sizes: bool = False
    """Whether sizes told what grows; else it is taken for granted what is fixed."""

    def at(self, bytes: int) -> float:
        """In seconds."""
        return max(SECONDS_MIN, self.fixed_s + self.per_byte_s * bytes)

    def off(self, timing: StepTiming) -> float:
        """How far a timing lies off the line: the logarithm of its ratio to it."""
        return math.log(max(SECONDS_MIN, timing.seconds) / self.at(timing.bytes))


def line(timings: Sequence[StepTiming], fixed_s: float) -> Line:
    """The line of least absolute error, each as a share of its timing, that neither falls nor begins below zero.

    The best of those through two timings, or through one and zero: by linear programming no other is better (Koenker
    and Bassett 1978, Regression quantiles). Where sizes are too much alike ``fixed_s`` of the median is what is fixed.
    """
    sizes = [timing.bytes for timing in timings]
    if max(sizes) < SIZES_APART * max(1, min(sizes)):
        middle, size = statistics.median(timing.seconds for timing in timings), statistics.median(sizes)
        fixed = min(fixed_s, middle) if size else middle
        return Line(fixed, (middle - fixed) / size if size else 0.0)
    ordered = sorted((timing.bytes, max(SECONDS_MIN, timing.seconds)) for timing in timings)
    thinned = [
        ordered[round(place)] for place in np.linspace(0, len(ordered) - 1, min(LINE_POINTS, len(ordered)))
    ]
    x, y = (np.array(column, dtype=float) for column in zip(*thinned, strict=True))
    one, other = np.triu_indices(len(x), 1)
    apart = x[one] < x[other]
    one, other = one[apart], other[apart]
    slope = (y[other] - y[one]) / (x[other] - x[one])
    slopes = np.concatenate([slope, np.zeros_like(y), y[x > 0] / x[x > 0]])
    starts = np.concatenate([y[one] - slope * x[one], y, np.zeros(np.count_nonzero(x > 0))])
    rising = (slopes >= 0) & (starts >= -1e-12)
    slopes, starts = slopes[rising], np.maximum(starts[rising], 0.0)
    error = (np.abs(y - (starts[:, None] + slopes[:, None] * x)) / y).sum(axis=1)
    best = int(np.argmin(error))
    return Line(float(starts[best]), float(slopes[best]), told_by_sizes=True)


@dataclass(frozen=True)
class Spread:
    """A sum of squares and the degrees of freedom that it has."""

    squares: float = 0.0
    free: float = 0.0

    @classmethod
    def of(cls, values: Sequence[float], less: int = 0) -> Spread:
        """That of values around their mean, ``less`` what else was fitted to them."""
        middle = sum(values) / len(values)
        return cls(sum((value - middle) ** 2 for value in values), max(0, len(values) - 1 - less))

    def __add__(self, other: Spread) -> Spread:
        return Spread(self.squares + other.squares, self.free + other.free)

    def __sub__(self, other: Spread) -> Spread:
        return Spread(max(0.0, self.squares - other.squares), max(0.0, self.free - other.free))

    def counting(self, most: float) -> Spread:
        """The same variance from ``most`` degrees of freedom, or fewer."""
        share = min(1.0, most / self.free) if self.free else 0.0
        return Spread(self.squares * share, self.free * share)


ASSUMED_SPREAD = Spread(
    LONE_WEIGHT * (math.log(LONE_SPREAD) / STUDENT_95[LONE_WEIGHT - 1]) ** 2 / 2, LONE_WEIGHT
)
"""By which the p95 of one single timing is ``LONE_SPREAD`` times it."""


def above(offs: Sequence[float], others: Spread, fitted: int = 0) -> float:
    """What the next one will exceed one time in twenty, on the scale of ``offs``.

    Of 19 or more by rank, which holds for any distribution; of fewer Student's prediction interval, in which the
    spread of ``others`` has a say, since so few tell little of their own. Where even that leaves fewer than two degrees
    of freedom, the spread that is assumed makes good what lacks: it alone has its say beside one single timing.
    """
    if len(offs) >= EXACT_SAMPLES_MIN:
        rank = min(len(offs), math.ceil(0.95 * (len(offs) + 1)))
        return sorted(offs)[rank - 1]
    middle = sum(offs) / len(offs)
    known = Spread.of(offs, fitted) + others.counting(ALIKE_WEIGHT)
    if known.free < FREE_MIN - 1e-9:
        known += ASSUMED_SPREAD.counting(LONE_WEIGHT - known.free)
    free = math.floor(known.free + 1e-9)
    deviation = math.sqrt(known.squares / known.free * (1 + 1 / len(offs)))
    return middle + STUDENT_95[min(free, len(STUDENT_95)) - 1] * deviation


class Learnt:
    """What a history teaches: ``of`` a step, and what the steps of a run have in common."""

    def __init__(self, history: Iterable[StepTiming], fixed_s: Mapping[Action, float]) -> None:
        """``history`` is in the order of the runs; ``fixed_s`` what is taken to be fixed of an action."""
        timings = list(history)
        newest = [
            list(dict.fromkeys(one.run for one in reversed(timings) if one.here is here))
            for here in (True, False)
        ]
        runs = {run for known in newest for run in known[:RUNS_LEARNT]}
        self._fixed_s = fixed_s
        self._own: dict[str, list[StepTiming]] = defaultdict(list)
        self._alike: dict[tuple[Action, str], list[StepTiming]] = defaultdict(list)
        for timing in timings:
            if timing.run in runs:
                self._alike[timing.action, timing.kind].append(timing)
        for key, alike in self._alike.items():
            self._alike[key] = [timing for timing in alike if timing.here] or alike
            for timing in self._alike[key]:
                if timing.here:
                    self._own[timing.step_id].append(timing)
        self._lines: dict[tuple[Action, str], Line] = {}
        self._offs: dict[tuple[Action, str], list[float]] = {}

    def of(self, step: Step, kind: str) -> Estimate | None:
        """How long a step of a component of ``kind`` will take; None where nothing was timed that is like it."""
        key = step.action, kind
        if key not in self._alike:
            return None
        own = self._own.get(step.id, [])
        expected = self._line(key).at(step.bytes)
        if len(own) >= MEASURED_SAMPLES_MIN:
            offs, fitted = self._own_offs[step.id], 0
        else:
            offs, fitted = self._all_offs(key), int(self._line(key).told_by_sizes)
        p50 = expected * math.exp(statistics.median(offs))
        others = self._spread - self._spread_of.get(step.id, Spread())
        p95 = max(p50, expected * math.exp(above(offs, others, fitted)))
        basis = "measured" if len(own) >= MEASURED_SAMPLES_MIN else "learnt"
        return Estimate(p50_s=p50, p95_s=p95, basis=basis, samples=len(offs), together=self.together)

    def _line(self, key: tuple[Action, str]) -> Line:
        if key not in self._lines:
            self._lines[key] = line(self._alike[key], self._fixed_s[key[0]])
        return self._lines[key]

    def _all_offs(self, key: tuple[Action, str]) -> list[float]:
        if key not in self._offs:
            self._offs[key] = [self._line(key).off(timing) for timing in self._alike[key]]
        return self._offs[key]

    @cached_property
    def _own_offs(self) -> dict[str, list[float]]:
        """How far the timings of each step lie off its line, of those with enough of them."""
        return {
            id: [self._line((own[0].action, own[0].kind)).off(timing) for timing in own]
            for id, own in self._own.items()
            if len(own) >= MEASURED_SAMPLES_MIN
        }

    @cached_property
    def _spread_of(self) -> dict[str, Spread]:
        """How much each step varies from run to run, weighed by how long it takes: what is short matters little."""
        longest = max((self._own[id][-1].seconds for id in self._own_offs), default=0.0) or 1.0
        found = {}
        for id, offs in self._own_offs.items():
            weight, spread = self._own[id][-1].seconds / longest, Spread.of(offs)
            found[id] = Spread(spread.squares * weight, spread.free * weight)
        return found

    @cached_property
    def _spread(self) -> Spread:
        return Spread(
            sum(spread.squares for spread in self._spread_of.values()),
            sum(spread.free for spread in self._spread_of.values()),
        )

    @cached_property
    def together(self) -> float:
        """The share of the variation that all steps of a run have in common, as when the whole machine is slow.

        The covariance of steps over runs, by how long each takes, over what it were if all went up and down as one.
        """
        steps = list(self._own_offs)
        named = (timing.run for id in steps for timing in self._own[id])
        runs = {run: place for place, run in enumerate(dict.fromkeys(named))}
        seconds: npt.NDArray[np.float64] = np.zeros((len(runs), len(steps)))
        for place, id in enumerate(steps):
            offs = np.array(self._own_offs[id])
            weighed = (offs - offs.mean()) * statistics.median(timing.seconds for timing in self._own[id])
            for timing, off in zip(self._own[id], weighed, strict=True):
                seconds[runs[timing.run], place] = off
        each = (seconds**2).sum(axis=0)
        alone, most = each.sum(), np.sqrt(each).sum() ** 2
        if len(runs) < MEASURED_SAMPLES_MIN or most - alone <= 1e-9 * most:
            return TOGETHER_ASSUMED
        return float(np.clip(((seconds.sum(axis=1) ** 2).sum() - alone) / (most - alone), 0.0, 1.0))
