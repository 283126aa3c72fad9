"""The claim on a target: one run at a time, the next epoch for each, and nobody robbed by accident."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from refloat.errors import HoldLost, Refused
from refloat.run.claim import Claimed, lives, objection, standing, this_process
from refloat.run.state import Holder, RunState, View


def _plan(world) -> View:
    """The view of a run that has begun."""
    return View(plan=world.plan)


def _claimed(world, *, run="run-1", released=False, holder=None) -> Claimed:
    return Claimed(run, 1, holder or world.holder(), world.clock.now(), released)


def test_the_first_claim_has_epoch_one_and_each_later_one_the_next(world) -> None:
    for epoch in (1, 2, 3):
        claim = world.claim(f"run-{epoch}")
        assert claim.epoch == epoch
        assert claim.release()


def test_a_target_is_refused_while_another_run_holds_it(world) -> None:
    world.failing.add("unfence assistant")
    world.recover()
    with pytest.raises(Refused) as refused:
        world.claim("run-2")
    assert refused.value.rule == "target_claimed"
    assert "--resume run-1" in refused.value.next
    assert "--override target_claimed" in refused.value.next


def test_an_override_takes_the_target_with_the_next_epoch_and_the_robbed_one_notices(world) -> None:
    first = world.claim("run-1")
    first.confirm()
    second = world.claim("run-2", overrides=frozenset({"target_claimed"}))
    assert second.epoch == 2
    with pytest.raises(HoldLost):
        first.confirm()
    assert not first.release()
    second.confirm()
    assert standing(world.log("targets/us")).last.run == "run-2"


def test_of_many_that_claim_at_once_one_wins(world) -> None:
    log = world.log("targets/us")
    create, rivals = world.store.create, []

    def race(name, content):
        if name.startswith("log/targets/") and not rivals:
            rivals.append(name)
            world.claim("run-2")
        return create(name, content)

    world.store.create = race
    with pytest.raises(Refused, match="faster"):
        world.claim("run-1")
    assert standing(log).last.run == "run-2"


@pytest.mark.parametrize(
    ("elapsed_s", "refused"), [(0, True), (29, True), (31, False)], ids=["now", "before", "after"]
)
def test_a_run_on_another_host_may_be_succeeded_only_when_it_was_not_heard_of_for_long(
    world, elapsed_s, refused
) -> None:
    last = _claimed(world, holder=Holder(host="elsewhere", boot="b", process=1, born="1"))
    now = last.time + timedelta(seconds=elapsed_s)
    assert bool(objection(last, "run-1", _plan(world), world.holder(), now)) is refused


def test_a_journal_entry_counts_as_having_been_heard_of(world) -> None:
    last = _claimed(world, holder=Holder(host="elsewhere", boot="b", process=1, born="1"))
    now = last.time + timedelta(seconds=100)
    heard = View(plan=world.plan, seen_at=last.time + timedelta(seconds=95))
    assert objection(last, "run-1", heard, world.holder(), now)


def test_a_clock_that_runs_behind_never_makes_a_hold_stale(world) -> None:
    # fault 27
    last = _claimed(world, holder=Holder(host="elsewhere", boot="b", process=1, born="1"))
    assert objection(last, "run-1", _plan(world), world.holder(), last.time - timedelta(hours=1))


def test_a_dead_process_on_this_host_is_succeeded_at_once_by_the_same_run_only(world) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    here = this_process()
    born = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
    holder = here.model_copy(update={"process": child.pid, "born": born})
    assert lives(holder, here) is True
    last = _claimed(world, holder=holder)
    assert objection(last, "run-1", _plan(world), here, last.time)
    child.communicate(b"\n", timeout=10)
    assert lives(holder, here) is False
    assert objection(last, "run-1", _plan(world), here, last.time) is None
    assert objection(last, "run-2", _plan(world), here, last.time)


def test_a_process_that_reuses_the_number_is_another_one() -> None:
    here = this_process()
    assert here.process == os.getpid()
    assert lives(here, here) is True
    assert lives(here.model_copy(update={"born": "1"}), here) is False
    assert lives(here.model_copy(update={"born": ""}), here) is None
    assert lives(here.model_copy(update={"boot": "another"}), here) is None


@pytest.mark.parametrize("state", [RunState.PAUSED, RunState.WAITING, RunState.FAILED, RunState.DIRTY])
def test_a_run_that_stopped_may_be_resumed_though_its_process_lives(world, state) -> None:
    view = View(plan=world.plan, state=state)
    last = _claimed(world, holder=this_process())
    assert objection(last, "run-1", view, world.holder(), last.time) is None
    assert objection(last, "run-2", view, world.holder(), last.time)


def test_a_run_that_is_over_or_died_before_it_began_holds_nothing(world) -> None:
    last = _claimed(world, holder=Holder(host="elsewhere", boot="b", process=1, born="1"))
    later = last.time + timedelta(seconds=31)
    assert objection(last, "run-2", View(plan=world.plan, ended=True), world.holder(), last.time) is None
    assert objection(last, "run-2", View(), world.holder(), last.time)
    assert objection(last, "run-2", View(), world.holder(), later) is None
    assert objection(_claimed(world, released=True), "run-2", _plan(world), world.holder(), last.time) is None
