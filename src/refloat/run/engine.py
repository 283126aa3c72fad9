"""Executes a plan: read the journal, decide, act, write down; until nothing is left or it must stop.

The journal is the only state. Whatever this process knows besides it is which of its threads are at work,
so a run that is killed at any moment is resumed by calling ``execute`` again with the same journal.

A step is over only when its call has ended. One that is late is told to end and waited for; while it goes on all the
same, nothing else is done to its component: what it writes would fall on what is put back. That is a step that
failed, or an undo that did, so the run ends ``dirty`` and names the call.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from refloat.clock import Clock
from refloat.contracts import Progress, Silent
from refloat.deadline import require_wanted, within
from refloat.digest import Json
from refloat.errors import (
    DeadlineExceeded,
    HoldLost,
    Interrupted,
    RefloatError,
    Retry,
    Unended,
    UsageError,
    Waiting,
    of_plug_in,
)
from refloat.limits import HOLD_TTL_S, LEAVE_GRACE_S, STEP_GRACE_S, STEPS_AT_ONCE
from refloat.plan.model import Action, Plan, Step
from refloat.run import given_up
from refloat.run.claim import Claim
from refloat.run.context import Context, Observation, StepAction
from refloat.run.journal import Journal
from refloat.run.state import (
    FINAL,
    AnyRecord,
    Await,
    Decision,
    Enter,
    Entered,
    Finish,
    Finished,
    Held,
    Intent,
    Launch,
    Observe,
    Outcome,
    Remembered,
    RunState,
    Started,
    Undo,
    View,
    decide,
    standing,
)

RENEW_S = HOLD_TTL_S / 3  # two renewals may be lost before a successor thinks us dead
LISTEN_S = 1.0  # how often the main thread looks up while steps are at work
RETRY_PAUSE_S = 1.0  # before the second attempt; doubled before the third
LEAVE_LOOKS = 10  # in which the grace of what is cut short is shared out
ACTS = frozenset({Action.STAGE, Action.ACTIVATE, Action.START, Action.SHIFT, Action.CLEANUP})
"""What changes a component. A call of any other that does not end only reads, and is in nobody's way."""
STOPS = (HoldLost, Interrupted, Waiting)
"""Errors that stop the run where it is, whatever step raises them; any other is the step's own."""

T = TypeVar("T")

OnEvent = Callable[[AnyRecord], None]
"""Told of every record after it was written; for ``--events`` and progress."""


def begin(
    plan: Plan,
    journal: Journal,
    claim: Claim,
    *,
    overrides: frozenset[str] = frozenset(),
    declared_at: datetime | None = None,
    version: str = "",
) -> View:
    """Write down what will be done, once, and that this process holds the run.

    Raises ``UsageError`` when the journal is that of another plan, ``HoldLost`` when somebody else writes it.
    """
    view = journal.view
    if view.plan is None:
        started = Started(
            run=claim.run,
            plan=plan,
            overrides=tuple(sorted(overrides)),
            declared_at=declared_at,
            refloat=version,
        )
        view = journal.append(started)
    if view.plan is None or view.plan.hash != plan.hash:
        raise UsageError(
            f"run {claim.run} executes another plan",
            next=f"take the plan from the journal: refloat recover --to {plan.to} --resume {claim.run}",
        )
    if view.ended:
        return view
    claim.begun()
    return journal.take_over(Held(epoch=claim.epoch, holder=claim.holder, overrides=tuple(sorted(overrides))))


def execute(
    plan: Plan,
    journal: Journal,
    claim: Claim,
    actions: Mapping[Action, StepAction],
    *,
    clock: Clock,
    progress: Progress | None = None,
    workers: int = STEPS_AT_ONCE,
    on_event: OnEvent | None = None,
    overrides: frozenset[str] = frozenset(),
    declared_at: datetime | None = None,
    version: str = "",
    turn_back: str = "",
) -> View:
    """Execute ``plan``, or what is left of it, and return the run as its journal tells it at the end.

    With ``turn_back``, which says why, whatever was done is put back instead; ``UsageError`` where that is too late.

    The state is then ``done``, ``rolled_back``, ``blocked`` (nothing was touched), ``dirty`` (a rollback
    failed; ``standing`` says what is where) or ``failed`` (after the commit; can be resumed).
    ``view.failure`` is the error that caused it.

    Raises ``Waiting`` when a person must decide, as a step says, or must say what became of one, ``HoldLost`` when
    another orchestrator took over, ``Interrupted`` on Ctrl-C, ``StoreError`` when the journal cannot be written. The
    run can be resumed after each, except by this process after ``HoldLost``, or while a call goes on in it that was
    told to end.
    """
    view = begin(plan, journal, claim, overrides=overrides, declared_at=declared_at, version=version)
    engine = _Engine(plan, journal, claim, actions, clock, progress or Silent(), workers, on_event)
    try:
        if turn_back:
            engine.turn_back(view, turn_back)
        view = engine.run()
    except KeyboardInterrupt as error:
        left = ", ".join(given_up.at_work(claim.run))
        where = f"{left} had not ended and ends with this process" if left else "it has stopped where it was"
        raise Interrupted(
            f"run {claim.run} was interrupted; {where}",
            next=f"refloat recover --to {plan.to} --resume {claim.run}",
        ) from error
    if view.state in FINAL:
        claim.release()
    return view


@dataclass(frozen=True)
class _Ended:
    """A worker has ended. ``fatal`` is what must stop the whole run; a step's own failure is journaled."""

    name: str
    fatal: BaseException | None = None


@dataclass(frozen=True)
class _Worker:
    """A thread at work: sets ``ended`` when it is over; ``cancelled`` tells it to end."""

    cancelled: threading.Event
    ended: threading.Event


@dataclass
class _Engine:
    """One execution: the main thread decides and writes states, a thread a step acts."""

    plan: Plan
    journal: Journal
    claim: Claim
    actions: Mapping[Action, StepAction]
    clock: Clock
    progress: Progress
    workers: int
    on_event: OnEvent | None
    running: dict[str, _Worker] = field(default_factory=dict)
    ended: queue.SimpleQueue[_Ended] = field(default_factory=queue.SimpleQueue)
    leaving: threading.Event = field(default_factory=threading.Event)
    over: RefloatError | None = None
    renewed_s: float = 0.0

    def run(self) -> View:
        """Decide and act until finished. Whatever leaves this method leaves a journal that can be resumed."""
        finished = self.journal.view.ended
        leave_as: Entered | None = Entered(state=RunState.PAUSED)
        try:
            while not finished:
                view = self.journal.view
                decision = decide(self.plan, view, running=frozenset(self.running), capacity=self.workers)
                finished = self.act(decision)
        except Waiting as waiting:
            leave_as = Entered(state=RunState.WAITING, reason=waiting.message)
            raise
        except HoldLost as lost:
            self.over, leave_as = lost, None
            raise
        finally:
            if not finished:
                self.leave(leave_as)
        return self.journal.view

    def turn_back(self, view: View, reason: str) -> None:
        """Write down that a person has decided against going on; where all is put back already, that is done."""
        if view.ended and view.state is RunState.ROLLED_BACK:
            return
        if view.committed or view.ended:
            raise UsageError(
                f"run {self.claim.run} is {view.state}: nothing of it is put back any more",
                next=f"refloat run show {self.claim.run} --to {self.plan.to}",
            )
        if not view.rolling_back:
            self.write(Entered(state=RunState.ROLLING_BACK, reason=reason))

    def act(self, decision: Decision) -> bool:
        """Carry out one decision; whether the run is over with it."""
        match decision:
            case Enter(state, reason):
                self.write(Entered(state=state, reason=reason))
            case Observe(steps):
                self.attend("observe", functools.partial(self.observe, steps))
            case Launch(steps):
                for id in steps:
                    self.spawn(id, functools.partial(self.attempt, self.plan.step(id)))
            case Undo(step):
                self.attend(step, functools.partial(self.undo, self.plan.step(step)))
            case Await():
                self.listen()
            case Finish():
                return self.finish(decision)
        return False

    def write(self, record: AnyRecord) -> View:
        """Append to the journal, then tell who listens; nothing more once the hold is lost, or the run was left."""
        if self.over is not None:
            raise self.over
        view = self.journal.append(record)
        self.renewed_s = self.clock.monotonic()
        if self.on_event is not None:
            self.on_event(record)
        return view

    def finish(self, decision: Finish) -> bool:
        view = self.journal.view
        if decision.state in FINAL:
            if decision.state is not view.state:
                self.write(Entered(state=decision.state, reason=decision.reason))
            self.write(Finished(state=decision.state, flags=decision.flags))
        else:
            where = standing(self.plan, view)
            self.write(Entered(state=decision.state, reason=decision.reason, standing=where))
        return True

    # -------------------------------------------------------------------------------------- forward

    def spawn(self, name: str, call: Callable[[threading.Event], None]) -> None:
        """Begin ``call`` in a daemon thread, so that one that hangs never holds up an exit."""
        worker = _Worker(threading.Event(), threading.Event())
        self.running[name] = worker
        threading.Thread(target=self.work, args=(name, call, worker), name=name, daemon=True).start()

    def work(self, name: str, call: Callable[[threading.Event], None], worker: _Worker) -> None:
        """A worker thread: whatever happens in it, the main thread hears of its end."""
        fatal: BaseException | None = None
        try:
            call(worker.cancelled)
        except BaseException as error:  # noqa: BLE001 - handed to the main thread, which raises it
            fatal = error
        worker.ended.set()
        self.ended.put(_Ended(name, fatal))

    def attend(self, name: str, call: Callable[[threading.Event], None]) -> None:
        """Do ``call`` alone, renewing the hold until it ends."""
        self.spawn(name, call)
        while name in self.running:
            self.listen()

    def attempt(self, step: Step, cancelled: threading.Event) -> None:
        """Announce, act, record; again while that may help. Raises only what must stop the run."""
        before = self.journal.view.step(step.id).attempts
        after: Mapping[str, Json] | None = None
        for attempt in range(1, step.attempts + 1):
            if attempt > 1:
                self.clock.sleep(RETRY_PAUSE_S * 2 ** (attempt - 2))
            self.announce(Intent(step=step.id, attempt=before + attempt, epoch=self.claim.epoch, after=after))
            began = self.clock.monotonic()
            error = self.perform(step, cancelled, began)
            if error is None or self.leaving.is_set():
                return
            after = error.document()
            if not _helps(error) or attempt == step.attempts:
                self.write(_failed(step, error, self.clock.monotonic() - began))
                return

    def announce(self, intent: Intent) -> None:
        """No side effect without an intent, and no intent by one who no longer holds the target."""
        if self.leaving.is_set():
            raise Interrupted("the run is stopping", next=self.resuming)
        self.claim.confirm()
        self.write(intent)

    def perform(self, step: Step, cancelled: threading.Event, began: float) -> RefloatError | None:
        """Do the step once: None when it is done and recorded, else what went wrong."""
        context = self.context(step, cancelled)
        action = self.actions[step.action]
        if step.action is Action.STAGE:
            self.progress.start(step.title, step.bytes)
        else:
            self.progress.start(step.title, None, "step")
        try:
            detail = self.change(step, lambda: action.do(step, context), cancelled)
        except STOPS:
            raise
        except Exception as error:  # noqa: BLE001 - a step that fails in any way is recorded as failed
            self.progress.finish(step.title, "failed")
            return of_plug_in(error, step.id, component=step.component)
        seconds = self.clock.monotonic() - began
        self.write(Outcome(step=step.id, result="done", seconds=round(seconds, 3), detail=dict(detail)))
        self.progress.finish(step.title)
        return None

    def call(self, step: Step, call: Callable[[], T], cancelled: threading.Event) -> T:
        """The result of a call on the step's component, within the step's time; nothing is begun beside one that
        goes on though it was told to end.

        Raises ``DeadlineExceeded``; ``Unended`` where this call, or an earlier one, has not ended.
        """
        unended = given_up.at_work(self.claim.run, step.component) if step.component else []
        if unended:
            raise Unended(
                f"{', '.join(unended)} was told to end and goes on; nothing else is done to {step.component}",
                next=f"see what {step.component} waits for; the call ends with this process, then {self.resuming}",
            )
        try:
            return within(step.timeout_s, step.id, call, cancelled, grace_s=STEP_GRACE_S)
        except (Interrupted, Waiting) as error:
            error.at(component=step.component, region=self.plan.to)
            error.next = error.next or self.resuming
            raise

    def change(self, step: Step, call: Callable[[], T], cancelled: threading.Event) -> T:
        """The same for a call that may change the component: known of for as long as it goes on."""
        begun, ended = threading.Event(), threading.Event()

        def told() -> T:
            begun.set()
            try:
                return call()
            finally:
                ended.set()

        try:
            return self.call(step, told, cancelled)
        except Unended:
            if begun.is_set():
                self.give_up(step, ended)
            raise

    def give_up(self, step: Step, ended: threading.Event) -> None:
        """Know of a call that goes on, unless all that it can do is read."""
        if step.action in ACTS:
            given_up.remember(given_up.GivenUp(self.claim.run, step.id, step.component, ended))

    @property
    def resuming(self) -> str:
        """How the run is gone on with."""
        return f"refloat recover --to {self.plan.to} --resume {self.claim.run}"

    def context(self, step: Step, cancelled: threading.Event) -> Context:
        view = self.journal.view

        def remember(what: Mapping[str, Json]) -> None:
            require_wanted(cancelled, step.id)
            self.write(Remembered(step=step.id, what=dict(what)))
            self.claim.confirm()  # what is remembered is needed by a switch, and that comes next

        return Context(
            run=self.claim.run,
            epoch=self.claim.epoch,
            clock=self.clock,
            overrides=view.overrides,
            memory=view.remembered(step.component or step.id),
            remember=remember,
            cancelled=cancelled,
            progress=self.progress,
        )

    def listen(self) -> None:
        """Wait for a worker to end; renew the hold meanwhile."""
        try:
            ended = self.ended.get(timeout=LISTEN_S)
        except queue.Empty:
            self.renew()
            return
        del self.running[ended.name]
        if ended.fatal is not None:
            raise ended.fatal

    def renew(self) -> None:
        if self.clock.monotonic() - self.renewed_s >= RENEW_S:
            self.claim.confirm()
            self.write(Held(epoch=self.claim.epoch, holder=self.claim.holder))

    # -------------------------------------------------------------------------------------- after a crash

    def observe(self, steps: tuple[str, ...], cancelled: threading.Event) -> None:
        """Settle what was announced and never recorded. Raises ``Waiting`` for what cannot be told."""
        unclear = [id for id in steps if self.look(self.plan.step(id), cancelled) == "unclear"]
        if unclear:
            raise Waiting(
                f"whether {', '.join(unclear)} took effect cannot be told from the components",
                component=self.plan.step(unclear[0]).component,
                region=self.plan.to,
                next=f"put right what is half done, then {self.resuming}",
            )

    def look(self, step: Step, cancelled: threading.Event) -> Observation:
        self.claim.confirm()
        context = self.context(step, cancelled)
        action = self.actions[step.action]
        try:
            found = self.call(step, lambda: action.observe(step, context), cancelled)
        except STOPS:
            raise
        except Exception as error:  # noqa: BLE001 - who cannot be asked is unknown, and unknown is unsafe
            self.progress.say(f"{step.id} could not be observed: {error}")
            return "unclear"
        if found != "unclear":
            self.write(Outcome(step=step.id, result=found, observed=True))
        return found

    # -------------------------------------------------------------------------------------- back

    def undo(self, step: Step, cancelled: threading.Event) -> None:
        """Put one step back, with as many attempts as it had; what fails is recorded, never raised."""
        attempts = self.journal.view.step(step.id).attempts
        self.claim.confirm()
        self.write(Intent(step=step.id, attempt=attempts, epoch=self.claim.epoch, undo=True))
        began = self.clock.monotonic()
        error = self.put_back(step, cancelled)
        for attempt in range(1, step.attempts):
            if error is None or not _helps(error):
                break
            self.clock.sleep(RETRY_PAUSE_S * 2 ** (attempt - 1))
            error = self.put_back(step, cancelled)
        seconds = round(self.clock.monotonic() - began, 3)
        if self.leaving.is_set() and error is not None:
            return
        if error is None:
            self.write(Outcome(step=step.id, result="undone", undo=True, seconds=seconds))
        else:
            self.write(_failed(step, error, seconds, undo=True))

    def put_back(self, step: Step, cancelled: threading.Event) -> RefloatError | None:
        context = self.context(step, cancelled)
        action = self.actions[step.action]
        try:
            self.change(step, lambda: action.undo(step, context), cancelled)
        except STOPS:
            raise
        except Exception as error:  # noqa: BLE001 - the rest of the rollback must go on
            return of_plug_in(error, step.id, component=step.component)
        return None

    # -------------------------------------------------------------------------------------- leaving

    def leave(self, state: Entered | None) -> None:
        """Launch nothing more, let what is at work end for a moment, and say so if the journal still can.

        Whoever reads ``paused`` or ``waiting`` may take over at once, so neither is written before every call that
        changes a component has ended. If one has not, the state stays as it was, with the reason: then nobody takes
        over until this process is gone, which ends its threads, or was not heard of for ``HOLD_TTL_S``, and who does
        asks the components. From here on this process writes nothing more to the journal, whatever still ends in it.
        """
        self.leaving.set()
        for worker in self.running.values():
            worker.cancelled.set()
        try:
            self.let_end()
        finally:
            for name in self.running.keys() & self.plan.by_id.keys():
                self.give_up(self.plan.step(name), self.running[name].ended)
        if state is not None and self.journal.broken is None and not self.journal.view.ended:
            self.say_so(self.honest(state))
        self.over = self.over or Interrupted("the run has stopped", next=self.resuming)

    def let_end(self) -> None:
        """Wait for what is at work, for a moment."""
        for _ in range(LEAVE_LOOKS):
            if not self.running:
                break
            with contextlib.suppress(queue.Empty):
                self.running.pop(self.ended.get(timeout=LEAVE_GRACE_S / LEAVE_LOOKS).name, None)

    def honest(self, state: Entered) -> Entered:
        """``state``, unless a call is still at work: then the one that the run was in, and which call that is."""
        unended = given_up.at_work(self.claim.run)
        if not unended:
            return state
        left = f"the run stopped while {', '.join(unended)} had not ended"
        self.progress.say(left)
        why = f"{state.reason}; {left}" if state.reason else left
        return Entered(state=self.journal.view.state, reason=why)

    def say_so(self, state: Entered) -> None:
        try:
            self.write(state)
        except RefloatError as error:
            self.progress.say(f"the journal could not be told that the run is {state.state}: {error}")


def _helps(error: RefloatError) -> bool:
    """Whether another attempt may help: not after a deadline, since what was abandoned may still act."""
    return error.retry is not Retry.NEVER and not isinstance(error, DeadlineExceeded)


def _failed(step: Step, error: RefloatError, seconds: float, *, undo: bool = False) -> Outcome:
    return Outcome(
        step=step.id, result="failed", undo=undo, seconds=round(seconds, 3), error=error.document()
    )
