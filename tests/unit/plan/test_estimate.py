"""Estimates as tables: what they rest on, how they scale, and what they add up to."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat.contracts import Layer
from refloat.limits import STEPS_AT_ONCE
from refloat.manifest.model import Manifest
from refloat.plan.estimate import ASSUMED, course, drawn, estimate, longest, rests_on, rto, until_back
from refloat.plan.explain import sooner
from refloat.plan.learn import StepTiming
from refloat.plan.model import Action, Estimate, Phase, Plan, Step
from refloat.point.model import Point, Snapshot

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MB = 1_000_000


def _step(
    name: str, phase: Phase, action: Action, *needs: str, size: int = 0, component: str | None = None
) -> Step:
    return Step(
        id=name,
        phase=phase,
        action=action,
        subject=name,
        needs=needs,
        bytes=size,
        component=component,
        layer=Layer.DATA if component else None,
    )


PLAN = Plan(
    pipeline="p",
    point="point-1",
    source="eu",
    to="us",
    steps=(
        _step("check", Phase.PREFLIGHT, Action.CHECK),
        _step("stage:a", Phase.STAGE, Action.STAGE, "check", size=100 * MB, component="a"),
        _step("stage:b", Phase.STAGE, Action.STAGE, "check", size=10 * MB, component="b"),
        _step("start:b", Phase.ACTIVATE, Action.START, "stage:a", "stage:b", component="b"),
        _step("verify:b", Phase.VERIFY, Action.VERIFY, "start:b", component="b"),
        _step("shift:b", Phase.TRAFFIC, Action.SHIFT, "verify:b", component="b"),
    ),
)
POINT = Point(
    pipeline="p",
    primary="eu",
    created_at=NOW,
    manifest="00",
    components={
        name: Snapshot(
            kind=kind, tree="00", identity={}, position={}, as_of=NOW, captured_from=NOW, captured_to=NOW
        )
        for name, kind in {"a": "files", "b": "lancedb"}.items()
    },
)
MANIFEST = Manifest.model_validate(
    {
        "version": 1,
        "pipeline": "p",
        "regions": {"eu": {"vault": "x"}, "us": {"vault": "y"}},
        "primary": "eu",
        "components": {
            "a": {"kind": "files", "tier": "development"},
            "b": {"kind": "lancedb", "tier": "critical"},
        },
    }
)


def _timing(
    id: str, seconds: float, *, kind: str = "files", size: int = 0, action=Action.STAGE, run: str = ""
) -> StepTiming:
    return StepTiming(id, action, kind, size, seconds, run)


def _of(step: str, history) -> Estimate:
    return estimate(PLAN, POINT, history).step(step).estimate


def test_without_any_timing_the_round_figures_stand_and_say_so() -> None:
    expected = ASSUMED[Action.STAGE]
    found = _of("stage:a", [])
    assert found.basis == "assumed"
    assert found.p50_s == pytest.approx(expected.fixed_s + 100 * MB / expected.bytes_per_s)
    assert found.p95_s > found.p50_s
    assert found.samples == 0


def test_every_action_has_an_assumption() -> None:
    assert set(ASSUMED) == set(Action)


def test_three_timings_of_the_very_step_are_a_measurement() -> None:
    found = _of("stage:a", [_timing("stage:a", s, size=100 * MB) for s in (9.0, 1.0, 2.0)])
    assert (found.basis, found.p50_s, found.samples) == ("measured", pytest.approx(2.0), 3)
    assert found.p95_s > 9.0  # the largest of three is exceeded one time in four


def test_two_timings_are_only_learnt_from() -> None:
    found = _of("stage:a", [_timing("stage:a", s, size=100 * MB) for s in (1.0, 2.0)])
    assert (found.basis, found.samples) == ("learnt", 2)
    assert found.p50_s == pytest.approx(2**0.5)


def test_what_was_measured_in_another_region_is_learnt_from_until_there_is_a_run_here() -> None:
    there = [replace(_timing("stage:a", s, size=100 * MB), here=False) for s in (1.0, 1.0, 1.0)]
    found = _of("stage:a", there)
    assert (found.basis, found.samples, found.p50_s) == ("learnt", 3, pytest.approx(1.0))
    found = _of("stage:a", [*there, _timing("stage:a", 4.0, size=100 * MB)])
    assert (found.basis, found.samples, found.p50_s) == ("learnt", 1, pytest.approx(4.0))


def test_what_was_measured_is_brought_to_the_bytes_there_are_now() -> None:
    fixed = ASSUMED[Action.STAGE].fixed_s
    found = _of("stage:a", [_timing("stage:a", fixed + 1.0, size=50 * MB) for _ in range(3)])
    assert (found.basis, found.p50_s) == ("measured", pytest.approx(fixed + 2.0))


def test_what_is_learnt_from_another_component_of_the_kind_grows_with_the_bytes() -> None:
    fixed = ASSUMED[Action.STAGE].fixed_s
    found = _of("stage:a", [_timing("stage:z", fixed + 1.0, size=10 * MB)])
    assert (found.basis, found.samples) == ("learnt", 1)
    assert found.p50_s == pytest.approx(fixed + 10.0)


def test_other_kinds_and_actions_teach_nothing() -> None:
    history = [_timing("stage:z", 1.0, kind="sqlite"), _timing("x", 1.0, action=Action.CLEANUP)]
    assert _of("stage:a", history).basis == "assumed"


def test_estimates_leave_the_plans_hash_alone() -> None:
    assert estimate(PLAN, POINT, [_timing("stage:a", 1.0)]).hash == PLAN.hash


def _estimated(spread: float = 1.0, together: float = 0.5, **seconds: float) -> Plan:
    steps = tuple(
        step.model_copy(
            update={
                "estimate": Estimate(
                    p50_s=seconds[key], p95_s=spread * seconds[key], basis="assumed", together=together
                )
            }
        )
        for step in PLAN.steps
        for key in [step.id.replace(":", "_")]
    )
    return PLAN.model_copy(update={"steps": steps})


def test_the_rto_is_the_longest_path_to_the_end_of_verification() -> None:
    plan = _estimated(check=1, stage_a=10, stage_b=3, start_b=5, verify_b=20, shift_b=1000)
    found = rto(plan, MANIFEST)
    assert found["pipeline"] == {"p50_s": 36, "p95_s": 36, "objective_s": 300.0}
    assert found["components"]["a"] == {"p50_s": 11, "p95_s": 11, "objective_s": 3 * 86400.0}
    assert found["components"]["b"] == {"p50_s": 36, "p95_s": 36, "objective_s": 300.0}
    assert found["total"] == {"p50_s": 1036, "p95_s": 1036}


def test_a_layer_is_back_with_its_last_component_and_has_its_strictest_objective() -> None:
    found = rto(_estimated(check=1, stage_a=10, stage_b=3, start_b=5, verify_b=20, shift_b=0), MANIFEST)
    components = found["components"]
    both = [components["a"], components["b"]]
    (layer,) = found["layers"].values()
    assert layer == {key: max(row[key] for row in both) for key in ("p50_s", "p95_s")} | {
        "objective_s": 300.0
    }


def test_steps_wait_for_a_free_worker_in_the_order_of_the_plan() -> None:
    steps = tuple(_step(name, Phase.STAGE, Action.STAGE) for name in "abcd")
    found = course(
        PLAN.model_copy(update={"steps": steps}), lambda step: {"a": 4, "b": 1, "c": 2}.get(step.id, 5)
    )
    assert found.ends == {"a": 4, "b": 1, "c": 3, "d": 8}
    assert found.after == {"a": None, "b": None, "c": "b", "d": "c"}


@given(st.lists(st.integers(0, 50), min_size=6, max_size=6), st.integers(1, 6))
def test_no_course_is_shorter_than_its_longest_path_or_than_all_work_shared(seconds, workers) -> None:
    of = dict(zip((step.id for step in PLAN.steps), seconds, strict=True))
    alone, shared = (course(PLAN, lambda step: of[step.id], many).ends for many in (len(of), workers))
    assert shared.keys() == of.keys()
    for step in PLAN.steps:
        begin = max((alone[need] for need in step.needs), default=0)
        assert alone[step.id] == begin + of[step.id] <= shared[step.id]
    assert max(shared.values()) >= sum(seconds) / workers


def test_what_takes_longest_is_on_the_critical_path_and_what_saves_most_comes_first() -> None:
    plan = _estimated(check=1, stage_a=10, stage_b=3, start_b=5, verify_b=20, shift_b=1000)
    assert [(one.step.id, one.p50_s, one.saves_s) for one in longest(plan)] == [
        ("verify:b", 20, 20),
        ("stage:a", 10, 7),  # then stage:b is what is waited for
        ("start:b", 5, 5),
        ("check", 1, 1),
    ]
    assert sooner(longest(plan)) == (
        "to be back sooner: verify verify:b takes 20s (-20s), stage stage:a takes 10s (-7s), "
        "start start:b takes 5s (-5s)"
    )


def test_where_two_take_as_long_neither_alone_brings_it_back_sooner() -> None:
    plan = _estimated(check=0, stage_a=10, stage_b=10, start_b=0, verify_b=0, shift_b=0)
    assert [one.saves_s for one in longest(plan)] == [0]
    assert sooner(longest(plan)) == ""


CHAIN = {"check": 10, "stage_a": 10, "stage_b": 0, "start_b": 10, "verify_b": 10, "shift_b": 0}


def test_steps_that_vary_each_for_itself_are_seldom_all_slow_at_once() -> None:
    alone = until_back(_estimated(spread=2, together=0, **CHAIN))
    as_one = until_back(_estimated(spread=2, together=1, **CHAIN))
    assert as_one.p50_s == pytest.approx(40, rel=0.02)
    assert as_one.p95_s == pytest.approx(80, rel=0.02)
    assert 40 < alone.p50_s < 45, "the mean of what can be much longer, but not much shorter"
    assert alone.p50_s < alone.p95_s < 66  # four independent log-normals: 61 of many million draws


def test_what_waits_for_the_slower_of_two_takes_longer_than_either() -> None:
    both = _estimated(spread=2, together=0, **{**CHAIN, "stage_b": 10})
    one = _estimated(spread=2, together=0, **CHAIN)
    assert until_back(both).p50_s > until_back(one).p50_s + 1


def test_the_same_plan_is_told_the_same_times() -> None:
    plan = _estimated(spread=3, **CHAIN)
    assert rto(plan, MANIFEST) == rto(plan, MANIFEST)


@given(st.lists(st.integers(0, 50), min_size=6, max_size=6))
def test_what_is_drawn_of_steps_that_never_vary_is_the_course_of_the_plan(seconds) -> None:
    keys = [step.id.replace(":", "_") for step in PLAN.steps]
    plan = _estimated(**dict(zip(keys, seconds, strict=True)))
    ends = course(plan, lambda step: step.estimate.p50_s).ends
    assert {id: set(found) for id, found in drawn(plan).items()} == {id: {end} for id, end in ends.items()}


def test_no_more_steps_go_at_once_than_there_are_workers() -> None:
    estimate = Estimate(p50_s=1, p95_s=1, basis="assumed")
    steps = tuple(
        _step(f"s{n}", Phase.STAGE, Action.STAGE).model_copy(update={"estimate": estimate}) for n in range(8)
    )
    assert until_back(PLAN.model_copy(update={"steps": steps})).p95_s == 8 / STEPS_AT_ONCE


def test_measured_learnt_and_assumed_are_kept_apart() -> None:
    history = [_timing("stage:a", 5.0, size=100 * MB, run=str(n)) for n in range(3)]
    history += [_timing("start:x", 4.0, kind="lancedb", action=Action.START)]
    plan = estimate(PLAN, POINT, history)
    found = rests_on(plan)
    assert (found["measured"], found["learnt"]) == (5.0, 4.0)
    assert found["assumed"] == ASSUMED[Action.CHECK].fixed_s + ASSUMED[Action.VERIFY].fixed_s
    assert rto(plan, MANIFEST)["rests_on"] == found


@given(st.floats(0.001, 1e4), st.integers(1, 10**12))
def test_more_bytes_never_take_less_time(seconds, size) -> None:
    history = [_timing("stage:z", seconds, size=size)]
    small, large = (
        _of("stage:b", [_timing("stage:z", seconds, kind="lancedb", size=size)]),
        _of("stage:a", history),
    )
    assert 0 < small.p50_s <= large.p50_s
