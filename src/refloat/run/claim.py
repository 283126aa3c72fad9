"""The claim on a target: a run wins it before it touches anything, and holds it until it is over.

The claim is a slot log in the target's own vault, so the create-if-absent of its store decides who holds
it. Each claim has the next epoch; a connector refuses what comes with an older one.

What the log says of a run, in order: ``claimed``; ``begun`` once its journal is there and before it announces
anything, so that a journal that is gone is told from one that never was; ``released`` when it is over. What is
lost of this log is made up for from the journals; what is damaged stops everybody until a person has looked.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refloat.clock import Clock
from refloat.connectors.process_table import boot_id, running
from refloat.contracts import Progress, Silent
from refloat.digest import Json
from refloat.errors import Damaged, HoldLost, Missing, Refused, VaultError
from refloat.limits import HOLD_TTL_S
from refloat.run import given_up
from refloat.run.state import Holder, RunState, View
from refloat.vault.layout import LOG
from refloat.vault.slotlog import Entry, SlotLog, SlotTaken

RULE = "target_claimed"
DAMAGED = "claim_damaged"
"""The rule against a run where the claims on its target, or the journal of its holder, are damaged or gone."""
LOOK_S = HOLD_TTL_S / 5
"""Between two looks at the journal of a holder that may be dead, which renews more seldom."""
LET_GO = frozenset({RunState.PAUSED, RunState.WAITING, RunState.FAILED, RunState.DIRTY})
"""States in which no orchestrator is at work, whether its process lives or not, unless a call has not ended in it."""


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
    """A claim as the log tells it: who holds the target, since when, and whether its journal was begun."""

    run: str
    epoch: int
    holder: Holder
    time: datetime
    released: bool
    begun: bool = False


@dataclass(frozen=True)
class Standing:
    """What the target's log says: the last claim, and the slot that the next entry takes.

    ``runs`` are all that are named, oldest first, ``begun`` those of them with a journal, and ``epoch`` is the
    last that can have been given.
    ``damage`` is the first slot that is not what was written, unless somebody has claimed past it since.
    """

    last: Claimed | None
    next_slot: int
    runs: tuple[str, ...] = ()
    begun: frozenset[str] = frozenset()
    epoch: int = 0
    damage: VaultError | None = None


class _Told(BaseModel):
    """What an entry must say; more may stand in it. ``past_damage``: its writer overrode ``claim_damaged``."""

    model_config = ConfigDict(frozen=True)

    type: Literal["claimed", "begun", "released"]
    run: str
    epoch: int = Field(ge=1)
    holder: Holder | None = None
    past_damage: bool = False


def standing(log: SlotLog) -> Standing:
    """The last claim on a target, as far as the log can be read."""
    known = Standing(None, log.last_slot() + 1)
    for slot in range(known.next_slot):
        try:
            entry = log.read(slot)
            if entry.void:  # whoever signed it may have acted on the epoch that it gave itself
                known = replace(known, epoch=known.epoch + 1)
                continue
            told = _told(entry)
        except VaultError as error:
            # At most one epoch is given by a slot, so this one's is no later than the number of them.
            known = replace(known, damage=known.damage or error, epoch=max(known.epoch, slot) + 1)
            continue
        known = replace(
            known,
            last=_next(known.last, told, entry.time),
            runs=tuple(dict.fromkeys((*known.runs, told.run))),
            begun=known.begun | ({told.run} if told.type == "begun" else frozenset()),
            epoch=max(known.epoch, told.epoch),
            damage=None if told.past_damage else known.damage,
        )
    return known


def _told(entry: Entry) -> _Told:
    try:
        return _Told.model_validate(entry.body)
    except ValidationError as error:
        raise Damaged(f"slot {entry.slot} of the claims on the target says nothing of a claim") from error


def _next(last: Claimed | None, told: _Told, time: datetime) -> Claimed | None:
    """The claim after one more entry. One of which the beginning is damaged is as that of nobody here."""
    if told.type == "claimed" and told.holder is not None:
        return Claimed(told.run, told.epoch, told.holder, time, released=False)
    if last is None or last.epoch != told.epoch:
        return Claimed(told.run, told.epoch, _NOBODY, time, released=told.type == "released", begun=True)
    return replace(last, released=told.type == "released", begun=True)


_NOBODY = Holder(host="", boot="", process=0)


def objection(
    last: Claimed | None, run: str, view: View, here: Holder, *, silent: bool = False
) -> str | None:
    """Why ``run`` may not have the target; None where it may. ``view`` is the holding run as journaled.

    The same run may be resumed once its holder is dead, has let go of it, or, where that cannot be told from here, is
    ``silent``: its journal was watched for a whole ``HOLD_TTL_S`` and nothing came. One that lives has not let go
    while a call that it gave up goes on. Another run may follow one that is over, or that died before it had
    announced anything.
    """
    if last is None or last.released or view.ended:
        return None
    gone = _gone(last, view, here, silent=silent)
    if gone and (last.run == run or view.plan is None):
        return None
    who = f"process {last.holder.process} on {last.holder.host}"
    when = f"{'not heard of since' if gone else 'at work at'} {_heard(last, view)}"
    return f"run {last.run} holds the target ({who}, {when})"


def _gone(last: Claimed, view: View, here: Holder, *, silent: bool = False) -> bool:
    """Whether nobody is at work on the run that holds the target, so that it may be resumed."""
    alive = lives(last.holder, here)
    if last.holder == here:
        return not given_up.at_work(last.run)
    return alive is False or (alive is None and silent) or (view.state in LET_GO and not view.unended)


def _heard(last: Claimed, view: View) -> datetime:
    return max(last.time, view.seen_at or last.time)


def _is_silent(last: Claimed, view: View, now: Callable[[], View], clock: Clock, progress: Progress) -> bool:
    """Whether nothing comes of a holder for a whole hold: each entry that does, a renewal too, is it at work."""
    task = f"is {last.holder.host} still at work on run {last.run}? {HOLD_TTL_S:.0f} s will tell"
    progress.start(task, None, "step")
    until = clock.monotonic() + HOLD_TTL_S
    try:
        while (left := until - clock.monotonic()) > 0:
            clock.sleep(min(LOOK_S, left))
            if now().slot != view.slot:
                return False
    finally:
        progress.finish(task)
    return True


def _require_free(
    last: Claimed, run: str, view: View, here: Holder, region: str, is_silent: Callable[[], bool]
) -> None:
    """Raise ``Refused`` while somebody else holds the target. Silence is asked for only where it would decide."""
    reason = objection(last, run, view, here)
    if reason is None or (objection(last, run, view, here, silent=True) is None and is_silent()):
        return
    resume = f"refloat recover --to {region} --resume {last.run}"
    wait = f"wait for it: `refloat run list --to {region}` tells how it stands"
    raise _refused(reason, resume if _gone(last, view, here) else wait)


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
        journaled: Callable[[], Iterable[str]] = tuple,
        overrides: frozenset[str] = frozenset(),
        holder: Holder | None = None,
        progress: Progress | None = None,
    ) -> Claim:
        """Claim the target for ``run``; ``view_of`` reads a run's journal.

        ``journaled`` names the runs of which there are journals: what is lost of the claims is told by them.
        Whether an orchestrator on another machine lives is not told by its clock: where it may be dead its journal is
        watched, which ``progress`` is told, and takes ``HOLD_TTL_S`` of ``clock``'s own time.
        Raises ``Refused`` (rule ``target_claimed``) while another run or process holds the target, and
        ``VaultError`` where that cannot be known, unless the rule ``claim_damaged`` is overridden.
        """
        here = holder or this_process()
        known = standing(log)
        _require_sound(known.damage, overrides)
        views = _unclaimed(log, known, journaled(), view_of, overrides)
        last, epoch = _with_journals(known, views)
        view = View() if last is None or last.released else _view(last, view_of, overrides)
        if last and RULE not in overrides:
            now = partial(_view, last, view_of, overrides)
            is_silent = partial(_is_silent, last, view, now, clock, progress or Silent())
            _require_free(last, run, view, here, _target(log), is_silent)
        body: Mapping[str, Json] = {
            "type": "claimed",
            "run": run,
            "epoch": epoch + 1,
            "holder": here.model_dump(mode="json"),
            **({"past_damage": True} if known.damage is not None else {}),
        }
        append = log.append_at if known.damage is None else log.append_past
        try:
            append(known.next_slot, body)
        except SlotTaken as taken:
            raise _refused("another orchestrator was faster", "try again") from taken
        return cls(log, run=run, epoch=epoch + 1, holder=here, next_slot=known.next_slot + 1)

    def begun(self) -> None:
        """Write down that the run's journal is there. Raises ``HoldLost`` if somebody has claimed the target."""
        body: Mapping[str, Json] = {"type": "begun", "run": self.run, "epoch": self.epoch}
        try:
            self._log.append_at(self._next, body)
        except SlotTaken as taken:
            raise self._lost("the target was claimed by another run") from taken
        self._next += 1

    def confirm(self) -> None:
        """Raise ``HoldLost`` if somebody has claimed the target since, or if the claim is no longer there."""
        try:
            self._log.read(self._next)
        except Missing:
            self._require_own()
        except VaultError as error:  # whatever it is, it is not ours
            raise self._lost("the target was claimed by another run") from error
        else:
            raise self._lost("the target was claimed by another run")

    def _require_own(self) -> None:
        try:
            self._log.read(self._next - 1)
        except VaultError as error:
            raise self._lost(f"the claim on the target is gone or damaged ({error.message})") from error

    def _lost(self, reason: str) -> HoldLost:
        hint = f"`refloat run list --to {_target(self._log)}` shows who holds it"
        return HoldLost(f"{reason}; run {self.run} stops", next=hint)

    def release(self) -> bool:
        """Give the target back; False when somebody else had taken it already."""
        body: Mapping[str, Json] = {"type": "released", "run": self.run, "epoch": self.epoch}
        try:
            self._log.append_at(self._next, body)
        except SlotTaken:
            return False
        self._next += 1
        return True


def _target(log: SlotLog) -> str:
    """The region that a log of claims is about."""
    return log.stream.removeprefix("targets/")


def _require_sound(damage: VaultError | None, overrides: frozenset[str]) -> None:
    """Raise what is damaged, and how a person goes on, unless that was named."""
    if damage is not None and DAMAGED not in overrides:
        damage.next = (
            "see that no other run is at work in the target and what is live there, then begin a run: "
            f"refloat recover --to REGION --override {DAMAGED}"
        )
        raise damage


def _unclaimed(
    log: SlotLog,
    known: Standing,
    journaled: Iterable[str],
    view_of: Callable[[str], View],
    overrides: frozenset[str],
) -> list[View]:
    """The runs into this target whose journals are there, and their claims not."""
    found = []
    for run in journaled:
        try:
            view = View() if run in known.runs else view_of(run)
        except VaultError as error:
            _require_sound(error, overrides)
            continue
        if view.plan is not None and log.stream == f"targets/{view.plan.to}":
            found.append(view)
    return found


def _with_journals(known: Standing, unclaimed: Sequence[View]) -> tuple[Claimed | None, int]:
    """The last claim, and the last epoch: of the log, or as a journal tells it whose claim was lost."""
    last, epoch = known.last, known.epoch
    for view in unclaimed:
        if view.epoch > epoch and view.holder is not None and view.seen_at is not None:
            last = Claimed(view.run, view.epoch, view.holder, view.seen_at, released=view.ended, begun=True)
            epoch = view.epoch
    return last, epoch


def _view(last: Claimed, view_of: Callable[[str], View], overrides: frozenset[str]) -> View:
    """The run that holds the target, as journaled: a journal that was begun and is gone tells nothing."""
    try:
        view = view_of(last.run)
        if last.begun and view.plan is None:
            raise journal_gone(last.run)
    except VaultError as error:
        _require_sound(error, overrides)
        return View()
    return view


def journal_gone(run: str) -> Missing:
    """The error for a run that was begun and whose journal is no longer there."""
    return Missing(
        f"the journal of run {run} is gone, so what the run did is not known; nothing counts as done",
        file=f"{LOG}runs/{run}/",
        next=f"see what is live in the target, then begin a run: refloat recover --to REGION --override {DAMAGED}",
    )


def _refused(reason: str, hint: str) -> Refused:
    return Refused(RULE, reason, next=f"{hint}, or name the rule: --override {RULE}")
