"""The claim on a target: a run wins it before it touches anything, and holds it until it is over.

The claim is a slot log in the target's own vault, so the create-if-absent of its store decides who holds
it. Each claim has the next epoch; a connector refuses what comes with an older one.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from refloat.clock import Clock
from refloat.connectors.process_table import boot_id, running
from refloat.digest import Json
from refloat.errors import HoldLost, Missing, Refused
from refloat.limits import HOLD_TTL_S
from refloat.run.state import Holder, RunState, View
from refloat.vault.slotlog import Entry, SlotLog, SlotTaken

RULE = "target_claimed"
LET_GO = frozenset({RunState.PAUSED, RunState.WAITING, RunState.FAILED, RunState.DIRTY})
"""States in which no orchestrator is at work, whether its process lives or not."""


def this_process() -> Holder:
    """This process, as another on this or any other host can tell it from all others."""
    return Holder(host=socket.gethostname(), boot=_boot(), process=os.getpid(), born=_born(os.getpid()))


def _boot() -> str:
    """The kernel's boot id; the MAC address where there is none."""
    try:
        return boot_id()
    except FileNotFoundError:
        return f"node-{uuid.getnode():x}"


def _born(process: int) -> str:
    """When a process started, in clock ticks since boot; empty where it is not there."""
    found = running(process)
    return "" if found is None else str(found.started)


def lives(holder: Holder, here: Holder) -> bool | None:
    """Whether a holder's process still runs; None where that cannot be told from here."""
    if (holder.host, holder.boot) != (here.host, here.boot) or not holder.born:
        return None
    return _born(holder.process) == holder.born


@dataclass(frozen=True)
class Claimed:
    """A claim as the log tells it: who holds the target, since when."""

    run: str
    epoch: int
    holder: Holder
    time: datetime
    released: bool


@dataclass(frozen=True)
class Standing:
    """What the target's log says: the last claim, and the slot that the next entry takes."""

    last: Claimed | None
    next_slot: int


def standing(log: SlotLog) -> Standing:
    """The last claim on a target. Raises ``Damaged`` when the log is."""
    last, slot = None, 0
    for entry in log.entries():
        last, slot = _next(last, entry), entry.slot + 1
    return Standing(last, slot)


def _next(last: Claimed | None, entry: Entry) -> Claimed:
    body = entry.body
    if body["type"] == "released" and last is not None:
        return Claimed(last.run, last.epoch, last.holder, last.time, released=True)
    holder = Holder.model_validate(body["holder"])
    return Claimed(str(body["run"]), int(str(body["epoch"])), holder, entry.time, released=False)


def objection(last: Claimed | None, run: str, view: View, here: Holder, now: datetime) -> str | None:
    """Why ``run`` may not have the target; None where it may. ``view`` is the holding run as journaled.

    The same run may be resumed once its holder is dead or has not been heard of for ``HOLD_TTL_S``.
    Another run may follow one that is over, or that died before it had announced anything.
    """
    if last is None or last.released or view.ended:
        return None
    alive = lives(last.holder, here)
    heard = max(last.time, view.seen_at or last.time)
    stale = alive is None and now - heard > timedelta(seconds=HOLD_TTL_S)
    gone = alive is False or stale or view.state in LET_GO or last.holder == here
    if gone and (last.run == run or view.plan is None):
        return None
    who = f"process {last.holder.process} on {last.holder.host}"
    return (
        f"run {last.run} holds the target ({who}, {'not heard of since' if gone else 'at work at'} {heard})"
    )


class Claim:
    """A claim that was won: this run and epoch hold the target until released or lost."""

    def __init__(self, log: SlotLog, *, run: str, epoch: int, holder: Holder, next_slot: int) -> None:
        self._log = log
        self._next = next_slot
        self.run = run
        self.epoch = epoch
        self.holder = holder

    @classmethod
    def win(
        cls,
        log: SlotLog,
        *,
        run: str,
        view_of: Callable[[str], View],
        clock: Clock,
        overrides: frozenset[str] = frozenset(),
        holder: Holder | None = None,
    ) -> Claim:
        """Claim the target for ``run``; ``view_of`` reads another run's journal.

        Raises ``Refused`` (rule ``target_claimed``) while another run or process holds it.
        """
        here = holder or this_process()
        known = standing(log)
        view = view_of(known.last.run) if known.last else View()
        reason = objection(known.last, run, view, here, clock.now())
        if reason and RULE not in overrides:
            raise _refused(reason, known.last)
        epoch = known.last.epoch + 1 if known.last else 1
        body: Mapping[str, Json] = {
            "type": "claimed",
            "run": run,
            "epoch": epoch,
            "holder": here.model_dump(mode="json"),
        }
        try:
            log.append_at(known.next_slot, body)
        except SlotTaken as taken:
            raise _refused("another orchestrator was faster", None) from taken
        return cls(log, run=run, epoch=epoch, holder=here, next_slot=known.next_slot + 1)

    def confirm(self) -> None:
        """Raise ``HoldLost`` if somebody has claimed the target since."""
        try:
            self._log.read(self._next)
        except Missing:
            return
        raise HoldLost(
            f"the target was claimed by another run; run {self.run} stops",
            next="`refloat run list --to REGION` shows who holds it",
        )

    def release(self) -> bool:
        """Give the target back; False when somebody else had taken it already."""
        body: Mapping[str, Json] = {"type": "released", "run": self.run, "epoch": self.epoch}
        try:
            self._log.append_at(self._next, body)
        except SlotTaken:
            return False
        self._next += 1
        return True


def _refused(reason: str, last: Claimed | None) -> Refused:
    resume = f"refloat recover --to REGION --resume {last.run}" if last else "try again"
    return Refused(RULE, reason, next=f"{resume}, or name the rule: --override {RULE}")
