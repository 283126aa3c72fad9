"""Kill at every step, then resume: the run ends in the same place, and nothing happens twice.

``# fault 23``, ``# fault 24``, ``# fault 28`` and ``# fault 31`` of the fault matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from refloat.errors import Damaged, UsageError
from refloat.run.state import FINAL, Intent, Observe, Outcome, RunState, Status, decide, fold
from refloat.testing.disk import folder_in_memory

pytestmark = [pytest.mark.usefixtures("remembered"), pytest.mark.slow]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with folder_in_memory() as folder:
        yield folder


def _moments(world, **how) -> list[str]:
    """Every moment of an undisturbed run, and the world after it."""
    world.recover(**how)
    return list(world.power.moments)


def _resumed(make_world, names, at: int, **how):
    """A world in which the power went at moment ``at``, after it was resumed on another machine."""
    world = make_world(**how)
    world.power = names.Power(at)
    with pytest.raises(names.Cut):
        world.recover()
    return world, world.after_the_crash().recover()


def test_a_run_killed_at_any_moment_resumes_to_the_same_end(make_world, names) -> None:
    whole = make_world()
    moments = _moments(whole)
    assert len(moments) > 150
    for at, moment in enumerate(moments):
        world, view = _resumed(make_world, names, at)
        assert view.state is RunState.DONE, moment
        assert world.tree() == whole.tree(), moment
        assert world.counted() == whole.counted(), f"something happened twice or never, killed {moment}"


def test_a_rollback_killed_at_any_moment_resumes_to_the_same_end(make_world, names) -> None:
    def make(**more):
        world = make_world(failing={"verify"}, **more)
        world.path("answers").parent.mkdir()
        world.path("answers").write_text("what was live before")
        world.path("answers").with_name("answers.marker").write_text("older point-0 1")
        return world

    whole = make()
    moments = _moments(whole)
    assert whole.journal().view.state is RunState.ROLLED_BACK
    for at in range(moments.index("before activate answers"), len(moments)):
        moment = moments[at]
        world, view = _resumed(make, names, at)
        assert view.state is RunState.ROLLED_BACK, moment
        assert world.path("answers").read_text() == "what was live before", moment
        assert "assistant.running" not in world.tree(), moment
        assert set(world.counted().values()) == {1}, f"something was done twice, killed {moment}"


def test_a_run_killed_at_any_moment_can_be_put_back_until_it_is_committed(make_world, names) -> None:
    def make(**more):
        world = make_world(**more)
        world.path("answers").parent.mkdir()
        world.path("answers").write_text("what was live before")
        world.path("answers").with_name("answers.marker").write_text("older point-0 1")
        return world

    moments = _moments(make())
    seen = set()
    for at in range(0, len(moments), 7):
        world = make()
        world.power = names.Power(at)
        with pytest.raises(names.Cut):
            world.recover()
        world.after_the_crash()
        committed = world.journal().view.committed
        seen.add(committed)
        if committed:
            with pytest.raises(UsageError, match="nothing of it is put back any more"):
                world.recover(turn_back="a person said so")
            continue
        view = world.recover(turn_back="a person said so")
        assert (view.state, view.committed) == (RunState.ROLLED_BACK, False), moments[at]
        assert world.path("answers").read_text() == "what was live before", moments[at]
        assert not {"registry", "assistant.running"} & world.tree().keys(), moments[at]
    assert seen == {False, True}


def test_a_journal_cut_at_any_entry_still_says_what_to_do_next(world) -> None:
    world.recover()
    history = world.journal().read()
    for cut in range(1, len(history)):
        view = fold(history[:cut])
        announced = {id for id, step in view.steps.items() if step.status is Status.UNKNOWN}
        decision = decide(view.plan, view, running=frozenset(), capacity=1)
        assert not view.ended
        if announced:
            assert decision == Observe(tuple(announced)), "what was announced is asked about before all else"


def test_a_run_killed_twice_still_ends_in_the_same_place(make_world, names) -> None:
    whole = make_world()
    moments = _moments(whole)
    for first in range(40, len(moments), 41):
        for second in range(0, 60, 19):
            world = make_world()
            world.power = names.Power(first)
            with pytest.raises(names.Cut):
                world.recover()
            world.after_the_crash().power = names.Power(second)
            with pytest.raises(names.Cut):
                world.recover()
            view = world.after_the_crash().recover()
            assert (view.state, world.tree()) == (RunState.DONE, whole.tree())
            assert world.counted() == whole.counted()


def test_no_side_effect_comes_before_its_intent_is_durable(world) -> None:  # fault 23
    world.recover()
    announced: set[str] = set()
    entries = iter(world.journal().read())
    for moment in world.power.moments:
        if moment.startswith("after create log/runs/"):
            record = next(entries).record
            if isinstance(record, Intent):
                announced.add(record.step.partition(".")[2])
        what, _, component = moment.removeprefix("before ").partition(" ")
        if moment.startswith("before") and what in ("stage", "activate", "start"):
            assert f"{what}:{component}" in announced, moment


def test_every_intent_has_one_outcome_in_the_end(make_world, names) -> None:
    world, _ = _resumed(make_world, names, 100)
    records = [entry.record for entry in world.journal().read()]
    intents = {record.step for record in records if isinstance(record, Intent)}
    done = [record.step for record in records if isinstance(record, Outcome) and record.result == "done"]
    assert sorted(done) == sorted(intents)


def test_a_damaged_entry_in_the_middle_of_the_journal_halts_the_run(world) -> None:
    world.failing.add("verify")
    world.recover()
    slot = f"log/runs/run-1/{7:016}"
    stored = bytearray(world.store.get(slot))
    stored[len(stored) // 2] ^= 1
    world.store.delete(slot)
    world.store.create(slot, bytes(stored))
    before = list(world.effects)
    with pytest.raises(Damaged, match="slot 7"):
        world.after_the_crash().recover()
    assert world.effects == before


def test_a_lost_entry_in_the_middle_of_the_journal_halts_the_run(world) -> None:
    world.recover()
    world.store.delete(f"log/runs/run-1/{7:016}")
    with pytest.raises(Damaged, match="missing"):
        world.after_the_crash().journal()


def test_a_final_state_is_only_ever_the_last_word(make_world) -> None:
    for failing in ([], ["verify"], ["stage answers"], ["activate registry"]):
        world = make_world(failing=set(failing))
        world.recover()
        states = [state for state, _ in world.journal().view.states]
        assert [state for state in states if state in FINAL] == [states[-1]]
