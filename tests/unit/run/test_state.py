"""Folding and deciding, as tables: no clock, no thread, no store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refloat.plan.model import Action, Phase, Plan, Step
from refloat.run.state import (
    RECORD,
    Await,
    Enter,
    Entered,
    Finish,
    Finished,
    Held,
    Holder,
    Intent,
    Launch,
    Observe,
    Outcome,
    Remembered,
    RunState,
    Stamped,
    Started,
    Status,
    Undo,
    decide,
    fold,
    standing,
)

HOLDER = Holder(host="h", boot="b", process=1)
NOBODY: frozenset[str] = frozenset()


def _step(name: str, phase: Phase, action: Action, *needs: str, **more) -> Step:
    return Step(id=name, phase=phase, action=action, subject=name, component="c", needs=needs, **more)


PLAN = Plan(
    pipeline="p",
    point="point-1",
    source="eu",
    to="us",
    steps=(
        _step("check", Phase.PREFLIGHT, Action.CHECK),
        _step("stage", Phase.STAGE, Action.STAGE, "check", reversible=True),
        _step("other", Phase.STAGE, Action.STAGE, "check", reversible=True, critical=False),
        _step("switch", Phase.ACTIVATE, Action.ACTIVATE, "stage", "other", reversible=True),
        _step("verify", Phase.VERIFY, Action.VERIFY, "switch"),
        _step("shift", Phase.TRAFFIC, Action.SHIFT, "verify"),
        _step("protect", Phase.REPROTECT, Action.PROTECT, "shift", critical=False),
    ),
)
START = Started(run="run-1", plan=PLAN)


def _view(*records):
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    return fold(
        Stamped(n, begin + timedelta(seconds=n), record) for n, record in enumerate((START, *records))
    )


def _done(*steps: str):
    return [record for id in steps for record in (_intent(id), Outcome(step=id, result="done"))]


def _intent(id: str, **more) -> Intent:
    return Intent(step=id, attempt=1, epoch=1, **more)


def _failed(id: str):
    return [_intent(id), Outcome(step=id, result="failed", error={"message": "no"})]


def _in(state: RunState):
    return Entered(state=state)


BEFORE_VERIFY = _done("check", "stage", "other", "switch")
BACK = [_in(RunState.RUNNING), *_failed("stage"), _in(RunState.ROLLING_BACK)]
COMMITTED = [*BEFORE_VERIFY, *_done("verify"), _in(RunState.COMMITTED)]


@pytest.mark.parametrize(
    ("records", "running", "expected"),
    [
        ([], [], Enter(RunState.PREFLIGHT)),
        ([_in(RunState.PREFLIGHT)], [], Launch(("check",))),
        ([_in(RunState.PREFLIGHT), _intent("check")], ["check"], Await()),
        ([_in(RunState.PREFLIGHT), _intent("check")], [], Observe(("check",))),
        ([_in(RunState.PREFLIGHT), *_failed("check")], [], Finish(RunState.BLOCKED, reason="check: no")),
        ([_in(RunState.PREFLIGHT), *_done("check")], [], Enter(RunState.RUNNING)),
        ([*_done("check"), _in(RunState.RUNNING)], [], Launch(("stage", "other"))),
        ([*_done("check"), _in(RunState.RUNNING), _intent("stage")], ["stage"], Launch(("other",))),
        ([*_done("check"), _in(RunState.RUNNING), *_failed("stage")], ["other"], Await()),
        (
            [*_done("check"), _in(RunState.RUNNING), *_failed("stage")],
            [],
            Enter(RunState.ROLLING_BACK, "stage: no"),
        ),
        ([*_done("check", "stage"), _in(RunState.RUNNING), *_failed("other")], [], Launch(("switch",))),
        ([*BEFORE_VERIFY, _in(RunState.RUNNING)], [], Enter(RunState.VERIFYING)),
        ([*BEFORE_VERIFY, _in(RunState.VERIFYING)], [], Launch(("verify",))),
        (
            [*BEFORE_VERIFY, _in(RunState.VERIFYING), *_failed("verify")],
            [],
            Enter(RunState.ROLLING_BACK, "verify: no"),
        ),
        ([*BEFORE_VERIFY, *_done("verify"), _in(RunState.VERIFYING)], [], Enter(RunState.COMMITTED)),
        (COMMITTED, [], Launch(("shift",))),
        ([*COMMITTED, *_failed("shift")], [], Finish(RunState.FAILED, reason="shift: no")),
        ([*COMMITTED, *_done("shift"), *_failed("protect")], [], Finish(RunState.DONE, ("unprotected",))),
        ([*COMMITTED, *_done("shift", "protect")], [], Finish(RunState.DONE)),
        ([*_done("check", "stage"), *BACK], [], Undo("stage")),
        ([*_done("check", "stage"), *BACK, _intent("stage", undo=True)], [], Undo("stage")),
        ([*BACK, Outcome(step="stage", result="undone", undo=True)], [], Finish(RunState.ROLLED_BACK)),
        (
            [*BACK, Outcome(step="stage", result="failed", undo=True)],
            [],
            Finish(RunState.DIRTY, reason="could not be undone: stage: no"),
        ),
        ([*BACK, _in(RunState.PAUSED)], [], Enter(RunState.ROLLING_BACK, "resumed")),
        ([*BACK, *_done("other")], ["other"], Await()),
        ([*_done("check"), _in(RunState.PAUSED)], [], Enter(RunState.RUNNING)),
    ],
)
def test_what_comes_next_is_decided_by_the_journal_and_what_runs(records, running, expected) -> None:
    assert decide(PLAN, _view(*records), running=frozenset(running), capacity=2) == expected


def test_capacity_bounds_what_is_launched() -> None:
    view = _view(*_done("check"), _in(RunState.RUNNING))
    assert decide(PLAN, view, running=NOBODY, capacity=1) == Launch(("stage",))
    busy = _view(*_done("check"), _in(RunState.RUNNING), _intent("stage"))
    assert decide(PLAN, busy, running=frozenset({"stage"}), capacity=1) == Await()


def test_undoing_goes_strictly_backwards_and_a_stuck_step_does_not_keep_the_rest() -> None:
    records = [*BEFORE_VERIFY, *_failed("verify"), _in(RunState.ROLLING_BACK)]
    order = []
    for result in ("failed", "undone", "undone"):
        decision = decide(PLAN, _view(*records), running=NOBODY, capacity=2)
        order.append(decision.step)
        records += [_intent(decision.step, undo=True), Outcome(step=decision.step, result=result, undo=True)]
    assert order == ["switch", "other", "stage"]
    assert decide(PLAN, _view(*records), running=NOBODY, capacity=2).state is RunState.DIRTY


def test_an_unknown_step_is_undone_without_asking_when_rolling_back() -> None:
    view = _view(*_done("check"), _intent("stage"), _in(RunState.ROLLING_BACK))
    assert decide(PLAN, view, running=NOBODY, capacity=2) == Undo("stage")


def test_a_plan_without_verification_is_done_but_says_unverified() -> None:
    steps = tuple(step for step in PLAN.steps if step.id == "check")
    plan = PLAN.model_copy(update={"steps": steps})
    view = _view(*_done("check"), _in(RunState.COMMITTED))
    assert decide(plan, view, running=NOBODY, capacity=1) == Finish(RunState.DONE, ("unverified",))


def test_a_verification_that_was_overridden_is_done_but_says_unverified() -> None:
    overridden = Outcome(step="verify", result="done", detail={"overridden": "quality_unverified"})
    records = [
        *BEFORE_VERIFY,
        _intent("verify"),
        overridden,
        _in(RunState.COMMITTED),
        *_done("shift", "protect"),
    ]
    decision = decide(PLAN, _view(*records), running=NOBODY, capacity=1)
    assert decision == Finish(RunState.DONE, ("unverified",))


def test_an_intent_without_an_outcome_is_unknown_never_done() -> None:
    assert _view(_intent("stage")).step("stage").status is Status.UNKNOWN


def test_what_was_observed_not_to_have_happened_is_pending_again() -> None:
    view = _view(_intent("stage"), Outcome(step="stage", result="undone", observed=True))
    assert (view.step("stage").status, view.step("stage").attempts) == (Status.PENDING, 1)


def test_a_takeover_opens_again_what_failed_after_the_commit_and_what_could_not_be_undone() -> None:
    after = _view(*COMMITTED, *_failed("shift"), Held(epoch=2, holder=HOLDER))
    assert after.step("shift").status is Status.PENDING
    stuck = [*BACK, Outcome(step="stage", result="failed", undo=True)]
    assert _view(*stuck, Held(epoch=2, holder=HOLDER)).step("stage").status is Status.UNDOING


def test_a_renewal_opens_nothing_again() -> None:
    first = Held(epoch=1, holder=HOLDER)
    assert _view(first, *COMMITTED, *_failed("shift"), first).step("shift").status is Status.FAILED


def test_a_takeover_does_not_turn_a_failed_run_forward_again() -> None:
    view = _view(_in(RunState.RUNNING), *_done("check"), *_failed("stage"), Held(epoch=2, holder=HOLDER))
    assert decide(PLAN, view, running=NOBODY, capacity=1) == Enter(RunState.ROLLING_BACK, "stage: no")


def test_memory_is_shared_by_the_steps_of_a_component_and_the_latest_word_counts() -> None:
    view = _view(Remembered(step="stage", what={"a": 1, "b": 1}), Remembered(step="switch", what={"b": 2}))
    assert view.remembered("c") == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("records", "where"),
    [
        ([], "untouched"),
        (_done("stage"), "staged"),
        ([_intent("stage")], "staged (unclear)"),
        (_done("stage", "switch"), "activated"),
        ([*_done("stage", "switch"), Outcome(step="switch", result="undone", undo=True)], "staged"),
        (
            [*_done("stage", "switch"), Outcome(step="switch", result="failed", undo=True)],
            "activated (unclear)",
        ),
    ],
)
def test_standing_tells_where_a_component_is(records, where) -> None:
    plan = PLAN.model_copy(update={"steps": tuple(step for step in PLAN.steps if step.id != "other")})
    assert standing(plan, _view(*records)) == {"c": where}


RECORDS = st.one_of(
    st.builds(Held, epoch=st.integers(0, 5), holder=st.just(HOLDER)),
    st.builds(
        Intent, step=st.sampled_from(list(PLAN.by_id)), attempt=st.integers(1, 3), epoch=st.integers(1, 5),
        undo=st.booleans(), after=st.none() | st.dictionaries(st.text(), st.text()),
    ),
    st.builds(Remembered, step=st.text(), what=st.dictionaries(st.text(), st.integers() | st.text())),
    st.builds(
        Outcome, step=st.sampled_from(list(PLAN.by_id)), undo=st.booleans(), observed=st.booleans(),
        result=st.sampled_from(["done", "failed", "skipped", "undone"]),
        seconds=st.floats(0, 1e6), detail=st.dictionaries(st.text(), st.integers()),
    ),
    st.builds(Entered, state=st.sampled_from(list(RunState)), reason=st.text()),
    st.builds(Finished, state=st.sampled_from(list(RunState)), flags=st.tuples(st.text())),
)  # fmt: skip


@given(RECORDS)
def test_a_record_survives_its_json(record) -> None:
    assert RECORD.validate_python(record.model_dump(mode="json")) == record


@settings(max_examples=200)
@given(st.lists(RECORDS, max_size=12), st.integers(1, 3))
def test_whatever_stands_in_a_journal_there_is_a_decision_that_keeps_the_rules(records, capacity) -> None:
    view = _view(*records)
    decision = decide(PLAN, view, running=NOBODY, capacity=capacity)
    assert not isinstance(decision, Await), "nothing runs, so waiting would be for ever"
    if isinstance(decision, Launch):
        assert len(decision.steps) <= capacity
        assert not view.rolling_back
        for id in decision.steps:
            needs = PLAN.step(id).needs
            assert view.step(id).status is Status.PENDING
            assert all(view.step(need).status is not Status.PENDING for need in needs)
    if isinstance(decision, Undo):
        assert view.rolling_back
        assert PLAN.step(decision.step).reversible


@given(st.lists(RECORDS, max_size=20), st.integers(0, 20))
def test_folding_in_two_parts_is_folding_at_once(records, cut) -> None:
    from refloat.run.state import follow

    stamped = [
        Stamped(n, datetime(2026, 1, 1, tzinfo=UTC), record) for n, record in enumerate([START, *records])
    ]
    view = fold(stamped[:cut])
    for entry in stamped[cut:]:
        view = follow(view, entry)
    assert view == fold(stamped)
