"""What a journal says of a run, folded into one value, and the pure decision of what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import reduce
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from refloat.digest import Json
from refloat.errors import Unended
from refloat.plan.model import Action, Phase, Plan, Step

JOURNAL_FORMAT = 1


class RunState(StrEnum):
    """Where a run is."""

    PENDING = "pending"
    PREFLIGHT = "preflight"
    BLOCKED = "blocked"
    RUNNING = "running"
    PAUSED = "paused"
    WAITING = "waiting"
    VERIFYING = "verifying"
    BAKING = "baking"
    COMMITTED = "committed"
    DONE = "done"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    DIRTY = "dirty"
    FAILED = "failed"


FINAL = frozenset({RunState.DONE, RunState.ROLLED_BACK, RunState.BLOCKED})
"""States that a run never leaves. A dirty or failed one can be resumed once its cause is mended."""


class Record(BaseModel):
    """The base of what stands in a journal: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Holder(Record):
    """Who executes a run: a process, told apart from a later one with the same number by host and boot."""

    host: str
    boot: str
    process: int
    born: str = ""


class Started(Record):
    """The run's first record: what will be done, and which rules a person has overridden."""

    type: Literal["started"] = "started"
    format: int = JOURNAL_FORMAT
    run: str
    plan: Plan
    overrides: tuple[str, ...] = ()
    declared_at: datetime | None = None
    refloat: str = ""


class Held(Record):
    """An orchestrator takes over (a new epoch) or says that it still lives (the same epoch)."""

    type: Literal["held"] = "held"
    epoch: int
    holder: Holder
    overrides: tuple[str, ...] = ()


class Intent(Record):
    """A side effect is about to happen. ``after`` is the error of the attempt before this one."""

    type: Literal["intent"] = "intent"
    step: str
    attempt: int
    epoch: int
    undo: bool = False
    after: Mapping[str, Json] | None = None


class Remembered(Record):
    """What a connector will need to revert, written before it switches."""

    type: Literal["remembered"] = "remembered"
    step: str
    what: Mapping[str, Json]


class Outcome(Record):
    """What became of an intent. ``undone`` without ``undo`` was observed: the step never took effect."""

    type: Literal["outcome"] = "outcome"
    step: str
    result: Literal["done", "failed", "skipped", "undone"]
    undo: bool = False
    observed: bool = False
    seconds: float = 0.0
    detail: Mapping[str, Json] = Field(default_factory=dict)
    error: Mapping[str, Json] | None = None


class Entered(Record):
    """The run is in another state; ``standing`` says where each component is when it is dirty."""

    type: Literal["state"] = "state"
    state: RunState
    reason: str = ""
    standing: Mapping[str, str] = Field(default_factory=dict)


class Finished(Record):
    """The run's last record."""

    type: Literal["finished"] = "finished"
    state: RunState
    flags: tuple[str, ...] = ()


AnyRecord: TypeAlias = Annotated[
    Started | Held | Intent | Remembered | Outcome | Entered | Finished, Field(discriminator="type")
]
RECORD: TypeAdapter[AnyRecord] = TypeAdapter(AnyRecord)


@dataclass(frozen=True)
class Stamped:
    """A record with the slot and the time at which it was written."""

    slot: int
    time: datetime
    record: AnyRecord


class Status(StrEnum):
    """Where a step is. ``unknown``: announced, and nobody knows what became of it."""

    PENDING = "pending"
    UNKNOWN = "unknown"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNDOING = "undoing"
    UNDONE = "undone"
    STUCK = "stuck"


SETTLED = frozenset({Status.DONE, Status.SKIPPED})


@dataclass(frozen=True)
class StepView:
    """What the journal says of one step. ``epoch`` is that of its last intent."""

    status: Status = Status.PENDING
    attempts: int = 0
    epoch: int = 0
    seconds: float = 0.0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    observed: bool = False
    detail: Mapping[str, Json] = field(default_factory=dict)
    error: Mapping[str, Json] | None = None


_PENDING = StepView()


@dataclass(frozen=True)
class View:
    """A run as its journal tells it: up to the entry in ``slot``, which was written at ``seen_at``."""

    run: str = ""
    plan: Plan | None = None
    overrides: frozenset[str] = frozenset()
    declared_at: datetime | None = None
    started_at: datetime | None = None
    seen_at: datetime | None = None
    slot: int = -1
    state: RunState = RunState.PENDING
    states: tuple[tuple[RunState, datetime], ...] = ()
    reason: str = ""
    standing: Mapping[str, str] = field(default_factory=dict)
    epoch: int = 0
    holder: Holder | None = None
    steps: Mapping[str, StepView] = field(default_factory=dict)
    memory: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    ended: bool = False
    flags: tuple[str, ...] = ()

    def step(self, id: str) -> StepView:
        """What is known of a step; pending where nothing is."""
        return self.steps.get(id, _PENDING)

    def entered(self, state: RunState) -> datetime | None:
        """When the run first was in ``state``; None where it never was."""
        return next((time for known, time in self.states if known is state), None)

    @property
    def rolling_back(self) -> bool:
        """Whether the run has turned back; it never turns forward again."""
        return self.entered(RunState.ROLLING_BACK) is not None

    @property
    def committed(self) -> bool:
        """Whether the run has passed the moment after which nothing is put back."""
        return self.entered(RunState.COMMITTED) is not None

    @property
    def unended(self) -> tuple[str, ...]:
        """The steps that failed while a call was at work that had been told to end: its process may still act."""
        failed = (
            (id, step) for id, step in self.steps.items() if step.status in (Status.FAILED, Status.STUCK)
        )
        return tuple(id for id, step in failed if (step.error or {}).get("code") == Unended.code)

    @property
    def failure(self) -> Mapping[str, Json] | None:
        """The first error of a critical step that failed, as ``RefloatError.document`` gave it."""
        if self.plan is None:
            return None
        failed = ((step, self.step(step.id)) for step in self.plan.steps if step.critical)
        return next((known.error for _, known in failed if known.error is not None), None)

    def remembered(self, component: str) -> dict[str, Json]:
        """Everything that the steps of a component remembered, the latest last."""
        return dict(self.memory.get(component, {}))


def fold(entries: Iterable[Stamped]) -> View:
    """The view after all ``entries``."""
    return reduce(follow, entries, View())


def follow(view: View, entry: Stamped) -> View:
    """The view after one more entry."""
    view = replace(view, seen_at=entry.time, slot=entry.slot)
    match entry.record:
        case Started() as started:
            return replace(
                view,
                run=started.run,
                plan=started.plan,
                overrides=frozenset(started.overrides),
                declared_at=started.declared_at,
                started_at=entry.time,
            )
        case Held() as held:
            return _held(view, held)
        case Intent() as intent:
            return _with_step(view, intent.step, _announced(view.step(intent.step), intent, entry.time))
        case Remembered() as remembered:
            return _remembered(view, remembered)
        case Outcome() as outcome:
            return _with_step(view, outcome.step, _settled(view.step(outcome.step), outcome, entry.time))
        case Entered() as entered:
            states = (*view.states, (entered.state, entry.time))
            return replace(
                view, state=entered.state, states=states, reason=entered.reason, standing=entered.standing
            )
        case Finished() as finished:
            return replace(view, state=finished.state, flags=finished.flags, ended=True)


def _held(view: View, held: Held) -> View:
    """A takeover is another try: what had failed after the commit, or could not be undone, is open again."""
    view = replace(view, overrides=view.overrides | set(held.overrides))
    if held.epoch == view.epoch:
        return replace(view, holder=held.holder)
    again = {Status.STUCK: Status.UNDOING}
    if view.committed:
        again[Status.FAILED] = Status.PENDING
    steps = {id: replace(step, status=again.get(step.status, step.status)) for id, step in view.steps.items()}
    return replace(view, epoch=held.epoch, holder=held.holder, steps=steps)


def _with_step(view: View, id: str, step: StepView) -> View:
    return replace(view, steps={**view.steps, id: step})


def _announced(step: StepView, intent: Intent, time: datetime) -> StepView:
    if intent.undo:
        return replace(step, status=Status.UNDOING, epoch=intent.epoch)
    return replace(
        step,
        status=Status.UNKNOWN,
        attempts=intent.attempt,
        epoch=intent.epoch,
        started_at=step.started_at or time,
        error=intent.after,
    )


def _settled(step: StepView, outcome: Outcome, time: datetime) -> StepView:
    if outcome.undo:
        status = Status.UNDONE if outcome.result == "undone" else Status.STUCK
        return replace(step, status=status, error=outcome.error or step.error)
    status = Status.PENDING if outcome.result == "undone" else Status(outcome.result)
    return replace(
        step,
        status=status,
        seconds=outcome.seconds,
        ended_at=time,
        observed=outcome.observed,
        detail=outcome.detail,
        error=outcome.error,
    )


def _remembered(view: View, remembered: Remembered) -> View:
    step = view.plan.by_id.get(remembered.step) if view.plan else None
    owner = (step.component if step else None) or remembered.step
    return replace(view, memory={**view.memory, owner: {**view.memory.get(owner, {}), **remembered.what}})


# ------------------------------------------------------------------------------------------------ decision


@dataclass(frozen=True)
class Enter:
    """Write down that the run is in ``state``."""

    state: RunState
    reason: str = ""


@dataclass(frozen=True)
class Observe:
    """Ask what became of these steps."""

    steps: tuple[str, ...]


@dataclass(frozen=True)
class Launch:
    """Begin these steps."""

    steps: tuple[str, ...]


@dataclass(frozen=True)
class Undo:
    """Put this step back."""

    step: str


@dataclass(frozen=True)
class Await:
    """Nothing can begin until something that runs has ended."""


@dataclass(frozen=True)
class Finish:
    """The run is over, for good if ``state`` is final and until it is resumed if not."""

    state: RunState
    flags: tuple[str, ...] = ()
    reason: str = ""


Decision: TypeAlias = Enter | Observe | Launch | Undo | Await | Finish


def decide(plan: Plan, view: View, *, running: frozenset[str], capacity: int) -> Decision:
    """What to do next, given what is known and what runs here at this moment."""
    if view.rolling_back:
        return _back(plan, view, running)
    unknown = tuple(
        step.id
        for step in plan.steps
        if view.step(step.id).status is Status.UNKNOWN and step.id not in running
    )
    if unknown:
        return Observe(unknown)
    failed = [step for step in plan.steps if step.critical and view.step(step.id).status is Status.FAILED]
    if failed:
        return Await() if running else _after_failure(view, failed)
    return _forward(plan, view, running, capacity)


def _after_failure(view: View, failed: Sequence[Step]) -> Decision:
    reason = "; ".join(f"{step.id}: {_message(view.step(step.id))}" for step in failed)
    if view.committed:
        return Finish(RunState.FAILED, reason=reason)
    if all(step.phase is Phase.PREFLIGHT for step in failed):
        return Finish(RunState.BLOCKED, reason=reason)
    return Enter(RunState.ROLLING_BACK, reason)


def _message(step: StepView) -> str:
    return str((step.error or {}).get("message", "failed"))


def _forward(plan: Plan, view: View, running: frozenset[str], capacity: int) -> Decision:
    state = _state_of(plan, view)
    if state is RunState.COMMITTED and plan.drill:
        return Enter(RunState.ROLLING_BACK, "a drill: everything is put back")
    if state is not view.state:
        return Enter(state)
    over = {step.id for step in plan.steps if _is_over(step, view)}
    ready = [step.id for step in plan.steps if _is_ready(view, step, over) and step.id not in running]
    free = capacity - len(running)
    if ready and free > 0:
        return Launch(tuple(ready[:free]))
    if running:
        return Await()
    return Finish(RunState.DONE, _flags(plan, view))


def _state_of(plan: Plan, view: View) -> RunState:
    """The state that the first phase with something left to do belongs to."""
    open_phases = {step.phase for step in plan.steps if not _is_over(step, view)}
    if Phase.PREFLIGHT in open_phases:
        return RunState.PREFLIGHT
    if open_phases - {Phase.VERIFY, Phase.TRAFFIC, Phase.REPROTECT}:
        return RunState.RUNNING
    return RunState.VERIFYING if Phase.VERIFY in open_phases else RunState.COMMITTED


def _is_over(step: Step, view: View) -> bool:
    status = view.step(step.id).status
    return status in SETTLED or (status is Status.FAILED and not step.critical)


def _is_ready(view: View, step: Step, over: AbstractSet[str]) -> bool:
    return view.step(step.id).status is Status.PENDING and over >= set(step.needs)


def _flags(plan: Plan, view: View) -> tuple[str, ...]:
    """What a run that is done must still say of itself."""
    optional = [step for step in plan.steps if view.step(step.id).status in (Status.FAILED, Status.SKIPPED)]
    flags = {
        "unprotected": any(step.action is Action.PROTECT for step in optional),
        "partial": bool(plan.only),
        "skips": any(step.action is not Action.PROTECT for step in optional),
        "unverified": _is_unverified(plan, view),
    }
    return tuple(flag for flag, raised in flags.items() if raised)


def _is_unverified(plan: Plan, view: View) -> bool:
    """Nothing was measured; or what was measured did not pass, and a person overrode the rule."""
    measured = [view.step(step.id) for step in plan.steps if step.phase is Phase.VERIFY]
    return not measured or any("overridden" in step.detail for step in measured)


def _back(plan: Plan, view: View, running: frozenset[str]) -> Decision:
    """Undo strictly in reverse, one at a time; what cannot be undone does not keep the rest from it."""
    if running:
        return Await()
    if view.state is not RunState.ROLLING_BACK:
        return Enter(RunState.ROLLING_BACK, "resumed")
    touched = [step for step in reversed(plan.steps) if step.reversible]
    for step in touched:
        if view.step(step.id).status in (Status.DONE, Status.UNKNOWN, Status.FAILED, Status.UNDOING):
            return Undo(step.id)
    stuck = [step.id for step in touched if view.step(step.id).status is Status.STUCK]
    if stuck:
        why = "; ".join(f"{id}: {_message(view.step(id))}" for id in stuck)
        return Finish(RunState.DIRTY, reason=f"could not be undone: {why}")
    return Finish(RunState.ROLLED_BACK)


def standing(plan: Plan, view: View) -> dict[str, str]:
    """Where each component is, as far as the journal tells: untouched, staged, activated or started.

    The last of these that was reached and not undone; ``(unclear)`` follows where an undo failed or a
    step was never settled.
    """
    words = {Action.STAGE: "staged", Action.ACTIVATE: "activated", Action.START: "started"}
    where = {step.component: "untouched" for step in plan.steps if step.component}
    for step in plan.steps:
        status = view.step(step.id).status
        if step.component and step.action in words and status not in (Status.PENDING, Status.UNDONE):
            where[step.component] = words[step.action] + ("" if status is Status.DONE else " (unclear)")
    return where
