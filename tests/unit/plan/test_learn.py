"""What timings teach: a line by size, how far the next one may lie off it, and what the steps of a run share."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat.plan.learn import (
    EXACT_SAMPLES_MIN,
    LONE_SPREAD,
    MEASURED_SAMPLES_MIN,
    RUNS_LEARNT,
    TOGETHER_ASSUMED,
    Learnt,
    Line,
    Spread,
    StepTiming,
    above,
    line,
    took,
)
from refloat.plan.model import Action, Phase, Step

MB = 1_000_000


def timing(
    seconds: float, size: int = 0, *, id: str = "stage:a", run: str = "", here: bool = True
) -> StepTiming:
    return StepTiming(id, Action.STAGE, "files", size, seconds, run, here)


def step(id: str = "stage:a", size: int = 0) -> Step:
    return Step(id=id, phase=Phase.STAGE, action=Action.STAGE, subject=id, bytes=size)


def learnt(*timings: StepTiming) -> Learnt:
    return Learnt(timings, {Action.STAGE: 0.5})


# ------------------------------------------------------------------------------------------------ the line


def test_sizes_tell_what_is_fixed_from_what_grows() -> None:
    found = line([timing(2 + size / MB / 50, size) for size in (10 * MB, 40 * MB, 900 * MB)], fixed_s=0.5)
    assert (found.fixed_s, found.per_byte_s) == (pytest.approx(2), pytest.approx(1 / MB / 50))
    assert found.told_by_sizes


def test_one_timing_that_is_far_off_does_not_bend_the_line() -> None:
    sizes = [10 * MB, 40 * MB, 90 * MB, 300 * MB, 900 * MB]
    found = line(
        [*(timing(2 + size / MB / 50, size) for size in sizes), timing(500.0, 300 * MB)], fixed_s=0.5
    )
    assert (found.fixed_s, found.per_byte_s) == (pytest.approx(2), pytest.approx(1 / MB / 50))


@pytest.mark.parametrize("sizes", [(100, 100, 100), (100, 101, 105)])
def test_sizes_that_are_much_alike_tell_nothing_of_what_is_fixed(sizes) -> None:
    found = line([timing(2.0, size * MB) for size in sizes], fixed_s=0.5)
    assert found == Line(0.5, pytest.approx(1.5 / sizes[1] / MB))


@given(st.lists(st.tuples(st.integers(0, 10**12), st.floats(0, 1e5)), min_size=1, max_size=60))
def test_a_line_neither_falls_nor_begins_below_zero(known) -> None:
    found = line([timing(seconds, size) for size, seconds in known], fixed_s=0.5)
    assert found.fixed_s >= 0
    assert found.per_byte_s >= 0


@given(st.lists(st.tuples(st.integers(0, 10**9), st.floats(0.01, 1e3)), min_size=2, max_size=12), st.data())
def test_no_other_line_lies_nearer(known, more) -> None:
    timings = [timing(seconds, size) for size, seconds in known]
    found = line(timings, fixed_s=0.5)
    if found.told_by_sizes:
        fixed, grows = more.draw(st.floats(0, 1e3)), more.draw(st.floats(0, 1e-6))

        def error(fixed_s, per_byte_s):
            return sum(abs(one.seconds - fixed_s - per_byte_s * one.bytes) / one.seconds for one in timings)

        assert error(found.fixed_s, found.per_byte_s) <= error(fixed, grows) * (1 + 1e-6) + 1e-6


# ---------------------------------------------------------------------------------------------- the spread


def test_of_many_the_rank_tells_what_the_next_exceeds_one_time_in_twenty() -> None:
    assert above([float(n) for n in range(EXACT_SAMPLES_MIN)], Spread()) == EXACT_SAMPLES_MIN - 1
    assert above([float(n) for n in range(99)], Spread()) == 94


def test_of_few_it_lies_above_the_largest() -> None:
    few = [0.0, 0.1, 0.2]  # mean 0.1, deviation 0.1; Student: 2.920 for two degrees of freedom
    assert above(few, Spread()) == pytest.approx(0.1 + 2.920 * 0.1 * math.sqrt(1 + 1 / 3))


def test_the_spread_of_other_steps_has_a_say_where_there_are_few() -> None:
    calm = Spread(squares=0.0, free=100.0)
    assert max([0.0, 0.3]) < above([0.0, 0.3], calm) < above([0.0, 0.3], Spread())


def test_one_single_timing_says_nothing_of_its_spread() -> None:
    assert above([1.0], Spread()) == pytest.approx(1.0 + math.log(LONE_SPREAD))


@pytest.mark.parametrize("seconds", [(1, 1), (1, 3), (1, 10), (1, 60)])
@pytest.mark.parametrize("others", [Spread(), Spread(squares=0.01, free=0.5)])
def test_two_timings_foretell_no_more_than_a_few_times_the_larger(seconds, others) -> None:
    foretold = math.exp(above([math.log(each) for each in seconds], others))
    assert max(seconds) < foretold < 10 * max(seconds)


def test_timings_that_could_not_lie_further_apart_are_no_trouble() -> None:
    found = learnt(timing(0.0, run="a"), timing(1e9, run="b")).of(step(), "files")
    assert found.p50_s < found.p95_s < math.inf


def test_two_timings_of_machines_that_vary_as_is_assumed_hold_what_comes() -> None:
    dice = np.random.default_rng(7)
    draws = dice.standard_normal((2000, 3)) * 0.3
    assert 0.93 <= sum(last <= above([one, other], Spread()) for one, other, last in draws) / 2000 <= 0.975


@pytest.mark.parametrize("count", [3, 5, 10, 18, 19, 40])
def test_the_next_one_lies_below_ninety_five_times_of_a_hundred(count) -> None:
    dice = np.random.default_rng(7)
    draws = dice.standard_normal((2000, count + 1))
    inside = sum(last <= above(list(few), Spread()) for *few, last in draws)
    assert 0.93 <= inside / 2000 <= 0.975


# ------------------------------------------------------------------------------------------------- the runs


def runs(count: int, *, common: float, alone: float) -> list[StepTiming]:
    dice = np.random.default_rng(3)
    return [
        timing(10 * math.exp(common * whole + alone * dice.standard_normal()), id=f"s{step}", run=f"r{run}")
        for run, whole in enumerate(dice.standard_normal(count))
        for step in range(4)
    ]


@pytest.mark.parametrize(("common", "alone", "expected"), [(0.0, 0.2, 0.0), (0.2, 0.0, 1.0), (0.2, 0.2, 0.5)])
def test_runs_tell_what_their_steps_have_in_common(common, alone, expected) -> None:
    assert learnt(*runs(40, common=common, alone=alone)).together == pytest.approx(expected, abs=0.15)


def test_without_runs_enough_it_is_taken_for_granted() -> None:
    assert learnt().together == TOGETHER_ASSUMED
    assert learnt(*runs(2, common=0.0, alone=0.2)).together == TOGETHER_ASSUMED


def test_what_is_long_ago_is_forgotten() -> None:
    old = [timing(100.0, run=f"old-{n}") for n in range(RUNS_LEARNT)]
    new = [timing(1.0, run=f"new-{n}") for n in range(RUNS_LEARNT)]
    found = learnt(*old, *new).of(step(), "files")
    assert (found.p50_s, found.p95_s, found.samples) == (pytest.approx(1.0), pytest.approx(1.0), RUNS_LEARNT)


def test_many_runs_elsewhere_push_out_none_of_the_region() -> None:
    real = [timing(120.0, run=f"real-{n}") for n in range(MEASURED_SAMPLES_MIN)]
    trials = [timing(2.0, run=f"trial-{n}", here=False) for n in range(RUNS_LEARNT)]
    found = learnt(*real, *trials).of(step(), "files")
    assert (found.p50_s, found.basis, found.samples) == (
        pytest.approx(120.0),
        "measured",
        MEASURED_SAMPLES_MIN,
    )


def test_many_runs_into_the_region_push_out_none_elsewhere() -> None:
    elsewhere = [timing(9.0, run=f"far-{n}", here=False) for n in range(MEASURED_SAMPLES_MIN)]
    other = StepTiming("stage:b", Action.STAGE, "process", 0, 1.0)
    here = [replace(other, run=f"near-{n}") for n in range(RUNS_LEARNT)]
    found = learnt(*elsewhere, *here).of(step(), "files")
    assert (found.p50_s, found.basis, found.samples) == (pytest.approx(9.0), "learnt", MEASURED_SAMPLES_MIN)


def test_a_timing_of_no_time_is_no_trouble() -> None:
    found = learnt(*(timing(0.0, run=str(n)) for n in range(3))).of(step(), "files")
    assert 0 < found.p50_s <= found.p95_s <= 0.01


def test_what_goes_by_before_a_step_begins_is_its_own() -> None:
    told = took([("check", 0.5, 1.0), ("a", 1.75, 2.0), ("b", 1.75, 5.0), ("c", 4.0, 1.0)])
    assert told == {"check": 1.5, "a": 2.25, "b": 5.25, "c": 1.25}
