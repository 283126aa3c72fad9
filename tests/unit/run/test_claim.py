"""The claim on a target: one run at a time, the next epoch for each, and nobody robbed by accident."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from refloat.errors import Damaged, HoldLost, Missing, Refused, Unended
from refloat.limits import HOLD_TTL_S
from refloat.run.claim import Claim, Claimed, lives, objection, standing, this_process
from refloat.run.state import Holder, RunState, Status, StepView, View


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


def test_while_its_holder_is_at_work_it_is_waited_for_and_not_resumed(world) -> None:  # fault 24
    world.claim("run-1", holder=this_process())
    with pytest.raises(Refused, match="at work") as refused:
        world.claim("run-2", holder=this_process().model_copy(update={"process": 0}))
    assert "--resume" not in refused.value.next
    assert "refloat run list" in refused.value.next


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


class Remote:
    """An orchestrator on another machine, seen through the journal of its run: it writes at each of some looks."""

    def __init__(self, world, *writes: bool) -> None:
        self.world, self.writes, self.looks = world, list(writes), 0
        self.began_s = world.clock.elapsed_s
        self.told: list[str] = []

    def view(self, run: str) -> View:
        wrote = self.looks < len(self.writes) and self.writes[self.looks]
        self.looks += 1
        return View(run=run, plan=self.world.plan, slot=self.looks if wrote else 0)

    def start(self, task: str, total: int | None = None, unit: str = "bytes") -> None:
        self.told.append(task)

    def finish(self, task: str, note: str = "") -> None:
        self.told.append("over")

    @property
    def watched_s(self) -> float:
        return self.world.clock.elapsed_s - self.began_s


ELSEWHERE = Holder(host="elsewhere", boot="b", process=1, born="1")


@pytest.mark.parametrize(
    "apart", [timedelta(hours=-1), timedelta(0), timedelta(hours=1), timedelta(days=3650)]
)
def test_a_run_on_another_machine_is_succeeded_once_it_was_silent_for_a_whole_hold_whatever_its_clock_says(
    world, apart: timedelta
) -> None:  # faults 25, 27
    world.claim("run-1", holder=ELSEWHERE).begun()
    world.clock.elapsed_s += apart.total_seconds()
    remote = Remote(world)
    claim = world.claim("run-1", view_of=remote.view, progress=remote)
    assert claim.epoch == 2
    assert HOLD_TTL_S <= remote.watched_s < HOLD_TTL_S + 2
    assert remote.told == [f"is elsewhere still at work on run run-1? {HOLD_TTL_S:.0f} s will tell", "over"]


@pytest.mark.parametrize("look", range(1, 5))
@pytest.mark.parametrize("apart", [timedelta(hours=-1), timedelta(hours=1), timedelta(days=3650)])
def test_a_run_on_another_machine_that_writes_while_it_is_watched_keeps_the_target_whatever_the_clocks_say(
    world, apart: timedelta, look: int
) -> None:  # faults 24, 27
    world.claim("run-1", holder=ELSEWHERE).begun()
    world.clock.elapsed_s += apart.total_seconds()
    remote = Remote(world, *(number == look for number in range(look + 1)))
    with pytest.raises(Refused, match="at work") as refused:
        world.claim("run-1", view_of=remote.view, progress=remote)
    assert "--resume" not in refused.value.next
    assert remote.told[-1] == "over"


def test_of_two_that_watch_the_same_holder_one_succeeds_it(world) -> None:  # fault 24
    world.claim("run-1", holder=ELSEWHERE).begun()
    first = Remote(world)

    def meanwhile(run: str) -> View:
        if first.looks == 3:
            assert world.claim("run-1", view_of=Remote(world).view).epoch == 2
        return first.view(run)

    with pytest.raises(Refused, match="faster"):
        world.claim("run-1", view_of=meanwhile)


def test_nobody_is_watched_where_silence_would_change_nothing_or_a_person_knows(world) -> None:
    world.claim("run-1", holder=ELSEWHERE).begun()
    remote = Remote(world)
    with pytest.raises(Refused):
        world.claim("run-2", view_of=remote.view)
    world.claim("run-2", view_of=remote.view, overrides=frozenset({"target_claimed"}))
    assert remote.watched_s < 1


def test_a_dead_process_on_this_host_is_succeeded_at_once_by_the_same_run_only(world) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    here = this_process()
    born = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
    holder = here.model_copy(update={"process": child.pid, "born": born})
    assert lives(holder, here) is True
    last = _claimed(world, holder=holder)
    assert objection(last, "run-1", _plan(world), here)
    child.communicate(b"\n", timeout=60)
    assert lives(holder, here) is False
    assert objection(last, "run-1", _plan(world), here) is None
    assert objection(last, "run-2", _plan(world), here)


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
    assert objection(last, "run-1", view, world.holder()) is None
    assert objection(last, "run-2", view, world.holder())


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.DIRTY])
def test_a_process_that_says_of_a_call_that_it_goes_on_holds_the_target_while_it_lives(world, state) -> None:
    goes_on = StepView(status=Status.STUCK, error=Unended("stage goes on").document())
    view = View(plan=world.plan, state=state, steps={"stage.stage:answers": goes_on})
    last = _claimed(world, holder=this_process())
    assert objection(last, "run-1", view, world.holder())
    dead = _claimed(world, holder=this_process().model_copy(update={"born": "1"}))
    assert objection(dead, "run-1", view, this_process()) is None
    settled = replace(view, steps={"stage.stage:answers": replace(goes_on, status=Status.UNDONE)})
    assert objection(last, "run-1", settled, world.holder()) is None


def test_a_run_that_is_over_or_died_before_it_began_holds_nothing(world) -> None:
    last = _claimed(world, holder=Holder(host="elsewhere", boot="b", process=1, born="1"))
    assert objection(last, "run-2", View(plan=world.plan, ended=True), world.holder()) is None
    assert objection(last, "run-2", View(), world.holder())
    assert objection(last, "run-2", View(), world.holder(), silent=True) is None
    assert objection(_claimed(world, released=True), "run-2", _plan(world), world.holder()) is None


# ------------------------------------------------------------------------------------- damaged, lost, and lied about


def _spoil(world, name: str) -> None:
    content = bytearray(world.store.get(name))
    content[len(content) // 2] ^= 1
    world.store.delete(name)
    world.store.create(name, bytes(content))


def _slots(world) -> list[str]:
    return sorted(entry.name for entry in world.store.list("log/targets/us/"))


def _runs(world) -> list[str]:
    return sorted({entry.name.split("/")[2] for entry in world.store.list("log/runs/")})


DAMAGED = frozenset({"claim_damaged"})


@pytest.mark.parametrize("broken", range(6))
def test_claims_that_are_damaged_anywhere_stop_everybody_until_a_person_says_so_once(world, broken) -> None:
    # fault 28
    for run in ("run-1", "run-2"):
        claim = world.claim(run)
        claim.begun()
        claim.release()
    _spoil(world, _slots(world)[broken])
    with pytest.raises(Damaged) as caught:
        world.claim("run-3")
    assert caught.value.file == _slots(world)[broken]
    assert "--override claim_damaged" in caught.value.next
    assert len(_slots(world)) == 6, "nothing was written"
    claim = world.claim("run-3", overrides=DAMAGED)
    assert claim.epoch > 2, "later than any that can have been given"
    claim.confirm()
    assert claim.release()
    again = world.claim("run-4")
    assert again.epoch == claim.epoch + 1, "and who comes later need not say it again"


def test_a_damaged_journal_of_a_holder_elsewhere_is_watched_as_well_where_a_person_passes_it(world) -> None:
    # fault 28
    world.claim("run-1", holder=ELSEWHERE).begun()
    remote = Remote(world)

    def damaged(run: str) -> View:
        raise Damaged(f"the journal of {run} is damaged")

    with pytest.raises(Damaged):
        world.claim("run-2", view_of=damaged)
    assert world.claim("run-2", view_of=damaged, overrides=DAMAGED).epoch == 2
    assert remote.watched_s >= HOLD_TTL_S


def test_a_hold_whose_claim_is_damaged_is_over_when_somebody_passes_it(world) -> None:
    # fault 28
    first = world.claim("run-1")
    _spoil(world, _slots(world)[0])
    with pytest.raises(HoldLost, match="gone or damaged"):
        first.confirm()
    second = world.claim("run-2", overrides=DAMAGED)
    assert second.epoch > first.epoch
    with pytest.raises(HoldLost, match="claimed by another"):
        first.confirm()
    assert not first.release()


def test_a_hold_whose_claim_is_gone_is_over(world) -> None:
    # fault 29
    first = world.claim("run-1")
    first.confirm()
    world.store.delete(_slots(world)[0])
    with pytest.raises(HoldLost, match="gone or damaged"):
        first.confirm()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"type": "claimed"},
        {"type": "stolen", "run": "x", "epoch": 1},
        {"type": "claimed", "run": "x", "epoch": "many"},
    ],
)
def test_an_entry_that_says_nothing_of_a_claim_is_damage(world, body) -> None:
    # fault 53
    world.log("targets/us").append(body)
    with pytest.raises(Damaged):
        world.claim("run-1")
    assert world.claim("run-1", overrides=DAMAGED).epoch == 2


def test_claims_that_are_lost_whole_are_made_up_for_from_the_journals(world) -> None:
    # fault 29
    world.failing.add("unfence assistant")
    world.recover()
    epoch = world.journal().view.epoch
    for name in _slots(world):
        world.store.delete(name)
    with pytest.raises(Refused) as refused:
        world.claim("run-2", journaled=lambda: _runs(world))
    assert refused.value.rule == "target_claimed", "the run that is not over still holds the target"
    assert "run-1" in refused.value.message
    again = world.claim("run-1", journaled=lambda: _runs(world))
    assert again.epoch == epoch + 1


def test_claims_that_lost_their_end_give_no_epoch_twice(world) -> None:
    # fault 29
    world.recover()
    world.claim("run-0").release()
    epoch = world.journal().view.epoch
    world.failing.add("unfence assistant")
    for name in _slots(world):
        world.store.delete(name)
    assert world.journal().view.ended
    claim = world.claim("run-2", journaled=lambda: _runs(world))
    assert claim.epoch == epoch + 1


def test_a_journal_of_a_run_into_another_target_holds_nothing(world) -> None:
    world.failing.add("unfence assistant")
    world.recover()
    elsewhere = world.log("targets/ap")
    claim = Claim.win(
        elsewhere,
        run="run-2",
        view_of=lambda run: world.journal(run).view,
        journaled=lambda: _runs(world),
        clock=world.clock,
        holder=world.holder(),
    )
    assert claim.epoch == 1


def test_a_journal_that_is_lost_whole_is_never_taken_for_one_that_was_not_begun(world) -> None:
    # fault 29
    world.failing.add("unfence assistant")
    world.recover()
    for entry in list(world.store.list("log/runs/")):
        world.store.delete(entry.name)
    world.after_the_crash()
    for run in ("run-1", "run-2"):
        with pytest.raises(Missing, match="nothing counts as done") as caught:
            world.claim(run)
        assert "--override claim_damaged" in caught.value.next
    assert world.claim("run-2", overrides=DAMAGED).epoch == 2


def test_a_damaged_journal_of_the_holder_stops_the_next_run_until_a_person_says_so(world) -> None:
    # fault 28
    world.failing.add("unfence assistant")
    world.recover()
    _spoil(world, "log/runs/run-1/0000000000000002")
    world.after_the_crash()
    with pytest.raises(Damaged) as caught:
        world.claim("run-2")
    assert "--override claim_damaged" in caught.value.next
    assert world.claim("run-2", overrides=DAMAGED).epoch == 2


def test_a_journal_of_a_run_that_is_over_is_not_needed_to_claim(world) -> None:
    world.recover()
    for entry in list(world.store.list("log/runs/")):
        world.store.delete(entry.name)
    assert world.claim("run-2").epoch == 2
