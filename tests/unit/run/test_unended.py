"""A step is over only when its call has ended: late calls, calls that go on, and what stops a run where it is."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from refloat.contracts import EntryType, Facts, Op
from refloat.errors import Cancelled, ConnectorError, Interrupted, Refused, Waiting
from refloat.plan.model import Action
from refloat.run import given_up
from refloat.run.claim import objection, standing, this_process
from refloat.run.state import Held, Intent, RunState, Status, View
from refloat.testing.memory_snapshot import MemorySource
from refloat.vault.source import SnapshotSource
from refloat.vault.tree import Node, store_folder

HANG_S = 20.0  # ends a test that would hang; no verdict rests on it
STAGE = "stage.stage:answers"


class Deaf:
    """A call that does not look whether it is wanted, until a test lets it end; ``late`` as soon as it is there."""

    def __init__(self, call_time: Callable[[], None]) -> None:
        self._call_time = call_time
        self.late = True
        self.begun = threading.Event()
        self._release = threading.Event()
        self._thread: threading.Thread | None = None
        self.wrote = False

    def __call__(self, *_: object) -> None:
        self._thread = threading.current_thread()
        self.begun.set()
        if self.late:
            self._call_time()
        self._release.wait(HANG_S)
        self.wrote = True

    def end(self) -> None:
        self._release.set()
        if self._thread is not None:
            self._thread.join(HANG_S)
            assert not self._thread.is_alive()


@pytest.fixture
def deaf(called_time, names, monkeypatch) -> Iterator[Deaf]:
    """The one call in the world that goes on; every other has all the time that it needs."""
    monkeypatch.setattr("refloat.run.engine.LEAVE_GRACE_S", 0.01)
    call = Deaf(lambda: called_time(names.FOR_EVER))
    yield call
    call.end()
    assert all(one.ended.wait(HANG_S) for one in list(given_up._calls))
    assert given_up.at_work(names.RUN) == []


def _changed(component: str, **methods):
    """Prepares a world in which a component's methods are these, each given the original first."""

    def prepare(shelves) -> None:
        for name, method in methods.items():
            shelf = shelves[component]
            setattr(shelf, name, functools.partial(method, getattr(shelf, name)))

    return prepare


# ------------------------------------------------------------------------------------------- late calls that end


def test_a_stage_that_hangs_in_a_chunk_ends_before_it_is_put_back(world, called_time) -> None:
    """The chunk comes when the step's time is over, and would be written over what is put back."""
    chunks: dict[bytes, bytes] = {}

    def put(raw: bytes) -> bytes:
        name = b"%032d" % len(chunks)
        chunks[name] = raw
        return name

    whole = world.content("answers")
    content = put(whole)
    tree = store_folder([Node(b"content", EntryType.FILE, size=len(whole), chunks=(content,))], put)
    told: list[str] = []

    def source(heard, cancelled) -> SnapshotSource:
        def read(name: bytes) -> bytes:
            if name == content:
                called_time(1)
                assert cancelled.wait(HANG_S)
            return chunks[name]

        return SnapshotSource(read, tree.hex(), Facts(), cancelled=cancelled)

    def stage(inner, given, op) -> None:
        try:
            inner(given, op)
            told.append("staged")
        except Cancelled:
            told.append("ended")
            raise

    def discard(inner, op) -> None:
        told.append("discarded")
        inner(op)

    component = world.component
    world.component = lambda name: (
        replace(component(name), source=source) if name == "answers" else component(name)
    )
    world.prepare = _changed("answers", stage=stage, discard=discard)
    view = world.recover()
    assert told == ["ended", "discarded"]
    assert view.state is RunState.ROLLED_BACK
    assert view.failure["code"] == "deadline"
    assert [name for name in world.tree() if not name.endswith(".epoch")] == []


def test_every_kind_of_source_is_told_to_end_with_the_step(world) -> None:
    """Whoever makes sources is given the very event that ends the step's operation."""
    given: dict[str, threading.Event] = {}
    component = world.component

    def watched(name):
        def source(heard, cancelled) -> MemorySource:
            given[name] = cancelled
            return found.source(heard, cancelled)

        found = component(name)
        return replace(found, source=source)

    def stage(inner, source, op: Op) -> None:
        assert op.cancelled is given["answers"]
        inner(source, op)

    world.component = watched
    world.prepare = _changed("answers", stage=stage)
    assert world.recover().state is RunState.DONE


# ------------------------------------------------------------------------------------------- calls that go on


def test_nothing_of_a_component_is_put_back_while_a_call_on_it_goes_on(world, deaf) -> None:
    discarded: list[str] = []
    world.prepare = _changed(
        "answers",
        stage=lambda inner, source, op: (deaf(), inner(source, op)),
        discard=lambda inner, op: (discarded.append("answers"), inner(op)),
    )
    view = world.recover()
    assert not deaf.wrote
    assert discarded == [], "what it writes would fall on what was put back"
    assert view.state is RunState.DIRTY
    assert STAGE in view.reason and "goes on" in view.reason, "it says which call"
    assert view.step(STAGE).status is Status.STUCK
    assert view.unended == (STAGE,)
    assert view.standing["registry"] == "untouched", "the rest is put back"


def test_a_run_is_resumed_in_the_process_that_gave_up_a_call_only_when_it_has_ended(world, deaf) -> None:
    world.prepare = _changed("answers", stage=lambda inner, source, op: (deaf(), inner(source, op)))
    assert world.recover().state is RunState.DIRTY
    with pytest.raises(Refused, match="run run-1 holds the target"):
        world.recover()
    deaf.end()
    assert world.path("answers").parent.exists()
    view = world.recover()
    assert view.state is RunState.ROLLED_BACK
    assert [name for name in world.tree() if not name.endswith(".epoch")] == []


def test_a_call_that_goes_on_holds_the_target_until_its_process_is_gone(world, deaf) -> None:
    world.prepare = _changed("answers", stage=lambda inner, source, op: (deaf(), inner(source, op)))
    view = world.recover()
    here = this_process()
    held = replace(standing(world.log("targets/us")).last, holder=here)
    another = here.model_copy(update={"process": -1})
    gone = here.model_copy(update={"born": "0"})
    assert objection(held, "run-1", view, another), "its thread may still write"
    assert objection(replace(held, holder=gone), "run-1", view, another) is None
    assert objection(held, "run-1", View(plan=world.plan, state=RunState.DIRTY), another) is None


@pytest.mark.parametrize(
    ("component", "method", "step"),
    [
        ("answers", "activate", "activate.activate:answers"),
        ("assistant", "start", "activate.start:assistant"),
        ("answers", "revert", "activate.activate:answers"),
        ("answers", "discard", STAGE),
        ("assistant", "stop", "activate.start:assistant"),
    ],
)
def test_whichever_call_goes_on_the_run_is_dirty_and_names_it(
    make_world, deaf, component, method, step
) -> None:
    world = make_world(failing={"verify"})
    world.prepare = _changed(component, **{method: lambda inner, op: (deaf(), inner(op))})
    view = world.recover()
    assert view.state is RunState.DIRTY
    assert step in view.reason
    assert not deaf.wrote
    deaf.end()
    world.prepare, world.failing = lambda shelves: None, {"verify"}
    assert world.after_the_crash().recover().state is RunState.ROLLED_BACK


def _with_verification(world, verify):
    """The world's actions, with another way to verify."""
    actions = world.actions

    def made():
        found = actions()
        found[Action.VERIFY].do = lambda step, context: verify() or {}
        return found

    return made


def test_a_call_that_only_reads_keeps_nothing_from_being_put_back(world, deaf) -> None:
    world.actions = _with_verification(world, deaf)
    view = world.recover()
    assert view.state is RunState.ROLLED_BACK
    assert view.failure["code"] == "unended"


# ------------------------------------------------------------------------------------------- leaving


def _interrupted(world, deaf) -> Interrupted:
    """Ctrl-C while a call is at work that does not look; the world's other steps have ended."""

    def tell(record) -> None:
        if isinstance(record, Intent) and record.step == "stage.stage:registry":
            assert deaf.begun.wait(HANG_S)
            raise KeyboardInterrupt

    deaf.late = False
    with pytest.raises(Interrupted) as interrupted:
        world.recover(workers=2, on_event=tell)
    return interrupted.value


def test_a_run_is_not_said_to_be_paused_while_a_step_is_at_work(world, deaf) -> None:
    world.prepare = _changed("answers", stage=lambda inner, source, op: (deaf(), inner(source, op)))
    error = _interrupted(world, deaf)
    view = world.journal().view
    assert view.state is RunState.RUNNING, "whoever reads `paused` may take over at once"
    assert view.reason == f"the run stopped while {STAGE} had not ended"
    assert STAGE in error.message
    assert view.step(STAGE).status is Status.UNKNOWN
    with pytest.raises(Refused):
        world.recover()


def test_what_ends_after_the_run_was_left_writes_no_more_to_its_journal(world, deaf) -> None:
    world.prepare = _changed("answers", stage=lambda inner, source, op: (deaf(), inner(source, op)))
    _interrupted(world, deaf)
    before = len(world.journal().read())
    worker = next(thread for thread in threading.enumerate() if thread.name == STAGE)
    deaf.end()
    worker.join(HANG_S)
    assert not worker.is_alive()
    assert len(world.journal().read()) == before, "a successor may be writing there"
    world.prepare = lambda shelves: None
    assert world.recover().state is RunState.DONE, "and it finds out what became of the step"
    assert set(world.counted().values()) == {1}


def test_a_run_is_paused_when_all_that_goes_on_only_reads(world, deaf, monkeypatch) -> None:
    monkeypatch.setattr("refloat.run.engine.LISTEN_S", 0.01)
    monkeypatch.setattr("refloat.run.engine.RENEW_S", 0.0)

    def tell(record) -> None:
        if isinstance(record, Held) and deaf.begun.is_set():
            raise KeyboardInterrupt

    deaf.late = False
    world.actions = _with_verification(world, deaf)
    with pytest.raises(Interrupted):
        world.recover(on_event=tell)
    assert world.journal().view.state is RunState.PAUSED


# ------------------------------------------------------------------------------------------- what stops a run


def _asks(world, component: str, method: str) -> None:
    def ask(inner, *args) -> None:
        raise Waiting("which of the two is right?")

    world.prepare = _changed(component, **{method: ask})


@pytest.mark.parametrize(
    ("component", "method", "step"),
    [
        ("answers", "stage", STAGE),
        ("registry", "activate", "activate.activate:registry"),
        ("assistant", "start", "activate.start:assistant"),
        ("assistant", "unfence", "traffic.shift:assistant"),
    ],
)
def test_a_step_that_waits_for_a_person_leaves_the_run_waiting_and_undoes_nothing(
    world, component, method, step
) -> None:
    _asks(world, component, method)
    with pytest.raises(Waiting, match="which of the two") as waiting:
        world.recover()
    assert (waiting.value.component, waiting.value.region) == (component, "us")
    assert "--resume run-1" in waiting.value.next
    view = world.journal().view
    assert (view.state, view.reason) == (RunState.WAITING, "which of the two is right?")
    assert not view.rolling_back
    assert view.step(step).status is Status.UNKNOWN
    assert not any(effect.split()[0] in ("revert", "stop") for effect in world.effects)

    world.prepare = lambda shelves: None
    assert world.after_the_crash().recover().state is RunState.DONE
    assert set(world.counted().values()) == {1}


@pytest.mark.parametrize(
    ("component", "method"), [("answers", "revert"), ("registry", "discard"), ("assistant", "stop")]
)
def test_an_undo_that_waits_for_a_person_is_gone_on_with(make_world, component, method) -> None:
    world = make_world(failing={"verify"})
    _asks(world, component, method)
    with pytest.raises(Waiting):
        world.recover()
    view = world.journal().view
    assert view.state is RunState.WAITING
    assert not any(step.status is Status.STUCK for step in view.steps.values())
    world.prepare = lambda shelves: None
    assert world.after_the_crash().recover().state is RunState.ROLLED_BACK


def test_an_observation_that_waits_for_a_person_says_what_it_asks(world, names) -> None:
    def cut(what: str, inner=world.power.moment) -> None:
        if what == "amid activate registry":
            world.power.off = True
        inner(what)

    world.power.moment = cut
    with pytest.raises(names.Cut):
        world.recover()
    world.after_the_crash()
    _asks(world, "registry", "observe")
    with pytest.raises(Waiting, match="which of the two") as waiting:
        world.recover()
    assert waiting.value.component == "registry"
    assert world.journal().view.state is RunState.WAITING
    world.prepare = lambda shelves: None
    assert world.after_the_crash().recover().state is RunState.DONE


def test_a_step_that_was_interrupted_leaves_the_run_paused(world) -> None:
    def stop(inner, *args) -> None:
        raise Interrupted("stopped by a signal")

    world.prepare = _changed("answers", activate=stop)
    with pytest.raises(Interrupted) as interrupted:
        world.recover()
    assert "--resume run-1" in interrupted.value.next
    view = world.journal().view
    assert (view.state, view.rolling_back) == (RunState.PAUSED, False)
    world.prepare = lambda shelves: None
    assert world.recover().state is RunState.DONE


def test_a_call_that_remembers_after_it_was_cancelled_is_told_so(world, called_time) -> None:
    told: list[ConnectorError] = []

    def activate(inner, op: Op) -> None:
        called_time(1)
        assert op.cancelled.wait(HANG_S)
        try:
            op.remember(too="late")
        except Cancelled as error:
            told.append(error)
            raise

    world.prepare = _changed("answers", activate=activate)
    view = world.recover()
    assert view.state is RunState.ROLLED_BACK
    assert len(told) == 1
    assert "too" not in view.remembered("answers")
