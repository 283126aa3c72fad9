"""The journal: one writer at a time, what landed unnoticed is recognised, what is not ours stops us."""

from __future__ import annotations

import threading

import pytest

from refloat.errors import Damaged, HoldLost, Retry, StoreError, VaultError
from refloat.run.journal import APPEND_ATTEMPTS_MAX
from refloat.run.state import Entered, Held, Holder, Outcome, Remembered, RunState, Started

HOLDER = Holder(host="h", boot="b", process=1)


def _states(journal) -> list[RunState]:
    return [entry.record.state for entry in journal.read() if isinstance(entry.record, Entered)]


def test_what_was_appended_is_read_back_with_slot_and_time(world) -> None:
    journal = world.journal()
    journal.append(Started(run="run-1", plan=world.plan, overrides=("group_broken",)))
    journal.append(Remembered(step="stage.stage:answers", what={"was_live": True}))
    again = world.journal()
    assert [entry.slot for entry in again.read()] == [0, 1]
    assert [entry.record for entry in again.read()] == [entry.record for entry in journal.read()]
    assert again.view == journal.view
    assert again.view.plan.hash == world.plan.hash
    assert again.view.remembered("answers") == {"was_live": True}


def test_a_record_is_read_back_whatever_its_strings_are(world) -> None:
    halves = "\ud800", "\udfff"
    odd = {half: ["cut \ud800", "name \udcff"] for half in halves}
    journal = world.journal()
    journal.append(Remembered(step="stage.stage:answers", what=odd))
    journal.append(
        Outcome(step="stage.stage:answers", result="failed", error={"message": "no \udcff", "file": "\udcff"})
    )
    assert [entry.record for entry in world.journal().read()] == [entry.record for entry in journal.read()]
    assert world.journal().view.remembered("answers") == journal.view.remembered("answers")
    assert journal.read()[0].record.what == odd


def test_threads_append_one_after_the_other(world) -> None:
    journal = world.journal()
    threads = [
        threading.Thread(target=journal.append, args=(Entered(state=RunState.RUNNING, reason=str(n)),))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry.record.reason for entry in world.journal().read()) == [str(n) for n in range(8)]


def test_of_two_writers_the_one_that_comes_second_loses_its_hold_for_good(world) -> None:
    ours, theirs = world.journal(), world.journal()
    theirs.append(Entered(state=RunState.RUNNING))
    for _ in range(2):
        with pytest.raises(HoldLost):
            ours.append(Entered(state=RunState.PAUSED))
    assert isinstance(ours.broken, HoldLost)
    assert _states(world.journal()) == [RunState.RUNNING]


def test_a_successor_writes_after_what_its_predecessor_still_wrote(world) -> None:
    successor, predecessor = world.journal(), world.journal()
    predecessor.append(Entered(state=RunState.RUNNING))
    view = successor.take_over(Held(epoch=2, holder=HOLDER))
    assert (view.state, view.epoch) == (RunState.RUNNING, 2)
    with pytest.raises(HoldLost):
        predecessor.append(Entered(state=RunState.PAUSED))


def test_a_write_that_landed_though_its_reply_was_lost_is_our_own(world) -> None:
    # fault 9
    journal, create = world.journal(), world.store.create
    lost = []

    def lose_the_reply(name, content):
        create(name, content)
        if not lost:
            lost.append(name)
            world.store.get = _unreadable_once(world.store.get)
            raise StoreError("timed out", retry=Retry.LATER)
        return create(name, content)

    world.store.create = lose_the_reply
    journal.append(Entered(state=RunState.RUNNING))
    journal.append(Entered(state=RunState.VERIFYING))
    assert _states(world.journal()) == [RunState.RUNNING, RunState.VERIFYING]


def _unreadable_once(get):
    """A store that does not answer the first question after a timeout either."""
    asked = []

    def read(name, start=0, length=None):
        asked.append(name)
        if len(asked) == 1:
            raise StoreError("timed out", retry=Retry.LATER)
        return get(name, start, length)

    return read


def test_a_store_that_stays_away_is_given_up_after_some_tries(world) -> None:
    journal, tries = world.journal(), []

    def away(name, content):
        tries.append(name)
        raise StoreError("503", retry=Retry.LATER)

    world.store.create = away
    with pytest.raises(StoreError, match="503"):
        journal.append(Entered(state=RunState.RUNNING))
    assert len(tries) == APPEND_ATTEMPTS_MAX
    with pytest.raises(StoreError):
        journal.append(Entered(state=RunState.RUNNING))
    assert len(tries) == APPEND_ATTEMPTS_MAX, "once broken, nothing more is tried"


def test_a_journal_of_a_newer_refloat_is_refused(world) -> None:
    # fault 30
    log = world.log("runs/run-1")
    started = Started(run="run-1", plan=world.plan, format=2).model_dump(mode="json")
    log.append({"record": started, "by": "x"})
    with pytest.raises(VaultError, match="format 2") as refused:
        world.journal()
    assert not isinstance(refused.value, Damaged)


@pytest.mark.parametrize(
    "body", [{}, {"record": []}, {"record": {"type": "nonsense"}}, {"record": {"type": "held"}}]
)
def test_an_entry_that_is_no_record_is_damage_and_names_its_slot(world, body) -> None:
    world.log("runs/run-1").append(body)
    with pytest.raises(Damaged, match="slot 0"):
        world.journal()


@pytest.mark.parametrize("broken", [0, 1, 2], ids=["first", "middle", "last"])
@pytest.mark.parametrize("content", [None, b"", b"{}", "cut"], ids=["gone", "empty", "other", "cut"])
def test_a_journal_that_is_damaged_anywhere_stops_everybody_with_what_to_do(world, broken, content) -> None:
    # fault 28
    journal = world.journal()
    journal.append(Started(run="run-1", plan=world.plan))
    journal.append(Entered(state=RunState.RUNNING))
    journal.append(Remembered(step="stage.stage:answers", what={"was_live": True}))
    name = f"log/runs/run-1/{broken:016d}"
    stored = world.store.get(name)
    world.store.delete(name)
    if content is not None:
        world.store.create(name, stored[: len(stored) // 2] if content == "cut" else content)
    if (broken, content) == (2, None):
        assert len(world.journal().read()) == 2, "a write that was cut is not there at all"
        return
    with pytest.raises(VaultError) as caught:
        world.journal()
    assert caught.value.file == name
    assert "--override claim_damaged" in caught.value.next
