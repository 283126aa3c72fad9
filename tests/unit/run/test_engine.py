"""The engine from the outside: what a recovery does, refuses, undoes, leaves alone and says."""

from __future__ import annotations

import threading

import pytest

from refloat.contracts import Health, Observed
from refloat.errors import HoldLost, Interrupted, Retry, StoreError, UsageError, Waiting
from refloat.limits import HOLD_TTL_S
from refloat.point.model import Grade
from refloat.run.engine import execute
from refloat.run.state import Entered, Held, Intent, Outcome, RunState, Status

RECOVERED = {
    "answers",
    "answers.marker",
    "answers.epoch",
    "assistant.epoch",
    "assistant.running",
    "assistant.serving",
    "registry",
    "registry.marker",
    "registry.epoch",
}


def _live(world) -> set[str]:
    """What is on the disk, without the fences that outlive every run."""
    return {name for name in world.tree() if not name.endswith(".epoch")}


# ------------------------------------------------------------------------------------------- forward


@pytest.mark.parametrize("workers", [1, 2])
def test_a_recovery_ends_with_every_component_live_running_and_serving(world, workers) -> None:
    view = world.recover(workers=workers)
    assert (view.state, view.flags) == (RunState.DONE, ())
    assert set(world.tree()) == RECOVERED
    assert world.path("answers").read_bytes() == world.content("answers")
    assert set(world.counted().values()) == {1}


def test_the_states_of_a_run_that_goes_well_are_these(world) -> None:
    states = [state for state, _ in world.recover().states]
    assert states == [
        RunState.PREFLIGHT,
        RunState.RUNNING,
        RunState.VERIFYING,
        RunState.COMMITTED,
        RunState.DONE,
    ]


def test_a_run_that_is_done_is_not_done_again(world) -> None:
    first = world.recover()
    effects = list(world.effects)
    again = world.after_the_crash().recover()
    assert again.state is first.state
    assert world.effects == effects


def test_components_start_only_after_every_switch_and_serve_only_after_verification(world) -> None:
    world.recover()
    told = [effect.rsplit(" ", 1)[0] for effect in world.effects]
    assert told.index("start assistant") > max(
        told.index("activate answers"), told.index("activate registry")
    )
    assert told.index("activate answers") < told.index("activate registry")
    moments = world.power.moments
    assert moments.index("after verify") < moments.index("before unfence assistant")


def test_every_operation_of_a_component_has_the_same_token_and_the_claims_epoch(world) -> None:
    world.recover()
    tokens = {effect.split()[2] for effect in world.effects if effect.split()[1] == "answers"}
    assert len(tokens) == 1
    marker = world.path("answers").with_name("answers.marker").read_text()
    assert marker.split()[1:] == ["point-1", "1"]


def test_scratch_is_gone_when_the_run_is(world) -> None:
    world.recover()
    assert not list((world.root / "scratch").glob("*/*"))


def test_events_tell_every_record_after_it_was_written(world) -> None:
    told = []
    world.recover(on_event=told.append)
    journaled = [entry.record for entry in world.journal().read()]
    assert told == journaled[2:], "all but the start and the first hold, which come before the engine"


# ------------------------------------------------------------------------------------------- preflight


@pytest.mark.parametrize(
    ("rule", "spoil"),
    [
        ("group_broken", lambda world: setattr(world, "grade", Grade.BROKEN)),
        ("source_alive", lambda world: world.source_health.update(assistant=Health.HEALTHY)),
        ("source_alive", lambda world: world.source_health.update(assistant=Health.UNKNOWN)),
        (
            "target_foreign",
            lambda world: (world.path("answers").parent.mkdir(), world.path("answers").write_text("x")),
        ),
    ],
)
def test_a_safety_rule_blocks_the_run_before_anything_is_touched_unless_overridden(
    make_world, rule, spoil
) -> None:
    world = make_world()
    spoil(world)
    before = world.tree()
    view = world.recover()
    assert view.state is RunState.BLOCKED
    assert (view.failure["code"], view.failure["rule"]) == ("refused", rule)
    assert f"--override {rule}" in view.failure["next"]
    assert (world.effects, world.tree()) == ([], before)

    other = make_world()
    spoil(other)
    view = other.recover(overrides=frozenset({rule}))
    assert view.state is RunState.DONE
    assert rule in view.overrides
    assert any(rule == step.detail.get("overridden") for step in view.steps.values())


def test_a_point_that_is_not_whole_in_the_region_blocks_the_run(world) -> None:
    world.missing += ["packs/aa/1", "packs/bb/2"]
    view = world.recover()
    assert view.state is RunState.BLOCKED
    assert "packs/aa/1, packs/bb/2" in view.failure["message"]


def test_what_another_point_of_this_vault_put_there_is_not_foreign(world) -> None:
    world.path("answers").parent.mkdir()
    world.path("answers").write_text("older")
    world.path("answers").with_name("answers.marker").write_text("token point-0 1")
    assert world.recover().state is RunState.DONE


def test_what_a_point_of_another_vault_put_there_is_foreign(world) -> None:
    world.path("answers").parent.mkdir()
    world.path("answers").with_name("answers.marker").write_text("token point-of-theirs 1")
    view = world.recover()
    assert (view.state, view.failure["rule"]) == (RunState.BLOCKED, "target_foreign")
    assert "point-of-theirs" in view.failure["message"]


def test_a_blocked_run_gives_the_target_back(world) -> None:
    world.missing.append("packs/aa/1")
    world.recover()
    world.missing.clear()
    world.claim("run-2")


# ------------------------------------------------------------------------------------------- back


@pytest.mark.parametrize(
    "failing",
    [
        "stage answers",
        "stage registry",
        "stage assistant",
        "activate answers",
        "activate registry",
        "activate assistant",
        "start assistant",
        "verify",
    ],
)
def test_a_failure_of_any_step_puts_everything_back(make_world, failing) -> None:
    world = make_world(failing={failing})
    world.path("answers").parent.mkdir()
    world.path("answers").write_text("what was live before")
    world.path("answers").with_name("answers.marker").write_text("older point-0 1")
    view = world.recover()
    assert view.state is RunState.ROLLED_BACK
    assert view.failure is not None
    assert _live(world) <= {"answers", "answers.marker"}
    assert world.path("answers").read_text() == "what was live before"
    world.claim("run-2")


def test_an_invariant_that_does_not_hold_on_staged_data_never_touches_what_is_live(make_world) -> None:
    for verdict in (False, None):
        world = make_world(verdicts=[verdict])
        view = world.recover()
        assert view.state is RunState.ROLLED_BACK
        assert view.failure["rule"] == "group_broken"
        assert "registry.digest != ''" in view.failure["message"]
        assert not any(effect.startswith("activate") for effect in world.effects)
        assert _live(world) == set()


def test_staged_bytes_of_another_identity_are_never_switched_to(world) -> None:  # fault 42
    def lie(shelves) -> None:
        inner = shelves["answers"].inspect
        shelves["answers"].inspect = lambda place: type(inner(place))(identity={"digest": "another"})

    world.prepare = lie
    view = world.recover()
    assert view.state is RunState.ROLLED_BACK
    assert "digest differ" in view.failure["message"]
    assert not any(effect.startswith("activate") for effect in world.effects)


def test_steps_are_undone_in_reverse(world) -> None:
    world.failing.add("verify")
    world.recover()
    undone = [
        entry.record.step
        for entry in world.journal().read()
        if isinstance(entry.record, Outcome) and entry.record.undo
    ]
    done = [step.id for step in world.plan.steps if step.id in undone]
    assert undone == done[::-1]
    assert undone[0] == "activate.start:assistant"


@pytest.mark.parametrize("stuck", ["stop assistant", "revert answers", "discard registry"])
def test_a_rollback_that_fails_is_dirty_says_what_is_where_and_can_be_resumed(make_world, stuck) -> None:
    world = make_world(failing={"verify", stuck})
    view = world.recover()
    component = stuck.split()[1]
    assert view.state is RunState.DIRTY
    assert not view.ended
    assert view.standing[component].endswith("(unclear)")
    assert view.standing["answers" if component != "answers" else "registry"] == "untouched"

    world.after_the_crash().failing = {"verify"}
    view = world.recover()
    assert view.state is RunState.ROLLED_BACK
    assert _live(world) == set()


def test_a_dirty_target_is_not_given_to_another_run(world) -> None:
    world.failing |= {"verify", "revert answers"}
    world.recover()
    with pytest.raises(Exception, match="run run-1 holds the target"):
        world.after_the_crash().claim("run-2")


# ------------------------------------------------------------------------------------------- after the commit


def test_after_the_commit_nothing_is_put_back_and_resuming_tries_again(world) -> None:
    world.failing.add("unfence assistant")
    view = world.recover()
    assert view.state is RunState.FAILED
    assert view.standing == {"assistant": "started", "registry": "activated", "answers": "activated"}
    world.after_the_crash().failing.clear()
    view = world.recover()
    assert view.state is RunState.DONE
    assert set(world.counted().values()) == {1}


def test_what_is_optional_may_fail_and_is_said(make_world) -> None:
    assert make_world(failing={"protect"}).recover().flags == ("unprotected",)
    world = make_world(failing={"discard answers"})
    view = world.recover()
    assert (view.state, view.flags) == (RunState.DONE, ("skips",))
    assert view.failure is None


# ------------------------------------------------------------------------------------------- attempts and deadlines


def test_an_error_that_may_pass_is_tried_again_and_each_try_is_announced(world) -> None:
    tries = []

    def prepare(shelves) -> None:
        shelves["answers"].retry = Retry.LATER
        inner = shelves["answers"].stage

        def stage(source, op):
            tries.append(op.token)
            if len(tries) == 3:
                world.failing.clear()
            inner(source, op)

        shelves["answers"].stage = stage

    world.failing.add("stage answers")
    world.prepare = prepare
    view = world.recover()
    assert view.state is RunState.DONE
    assert len(set(tries)) == 1
    announced = [
        entry.record
        for entry in world.journal().read()
        if isinstance(entry.record, Intent) and entry.record.step == "stage.stage:answers"
    ]
    assert [intent.attempt for intent in announced] == [1, 2, 3]
    assert announced[1].after["message"] == "stage of answers does not work"


def test_an_error_that_cannot_pass_is_not_tried_again(world) -> None:
    world.failing.add("stage answers")
    view = world.recover()
    assert view.step("stage.stage:answers").attempts == 1


def test_a_step_that_hangs_is_given_up_cancelled_and_put_back(world, called_time) -> None:
    world.failing.add("hang stage answers")
    view = world.recover()
    assert view.state is RunState.ROLLED_BACK
    assert view.failure["code"] == "deadline"
    assert view.step("stage.stage:answers").attempts == 1, "the abandoned call may still be at work"
    assert _live(world) == set()
    assert "too" not in view.remembered("answers"), "what was given up must not write to the journal"


def test_a_defect_of_a_connector_is_a_failure_like_any_other(world) -> None:
    def prepare(shelves) -> None:
        shelves["answers"].activate = lambda op: {}["no such key"]

    world.prepare = prepare
    view = world.recover()
    assert view.state is RunState.ROLLED_BACK
    assert "KeyError" in view.failure["message"]


def test_a_component_that_never_gets_healthy_is_stopped_again(world) -> None:
    def prepare(shelves) -> None:
        shelves["assistant"].health = lambda place: Health.UNKNOWN

    world.prepare = prepare
    view = world.recover()
    assert view.state is RunState.ROLLED_BACK
    assert "unknown" in view.failure["message"]
    assert _live(world) == set()


def test_steps_that_do_not_need_each_other_run_at_the_same_time(world) -> None:
    both = threading.Barrier(2)

    def prepare(shelves) -> None:
        for name in ("answers", "registry"):
            inner = shelves[name].stage
            shelves[name].stage = lambda source, op, inner=inner: (both.wait(10), inner(source, op))

    world.prepare = prepare
    assert world.recover(workers=3).state is RunState.DONE


# ------------------------------------------------------------------------------------------- unknown, interrupted


def _killed_in(world, names, moment: str) -> None:
    """Cut the power at the first moment of that name."""
    world.power = names.Power()
    inner = world.power.moment

    def cut(what: str) -> None:
        if what == moment:
            world.power.off = True
        inner(what)

    world.power.moment = cut
    with pytest.raises(names.Cut):
        world.recover()
    world.after_the_crash()


@pytest.mark.parametrize(
    ("moment", "component"),
    [
        ("amid stage answers", "answers"),
        ("amid activate registry", "registry"),
        ("after start assistant", "assistant"),
    ],
)
def test_what_cannot_be_told_waits_for_a_person_and_goes_on_after(world, names, moment, component) -> None:
    _killed_in(world, names, moment)
    world.prepare = lambda shelves: setattr(shelves[component], "observed", Observed.UNKNOWN)
    effects = list(world.effects)
    with pytest.raises(Waiting) as waiting:
        world.recover()
    assert waiting.value.component == component
    assert "--resume run-1" in waiting.value.next
    assert world.journal().view.state is RunState.WAITING
    assert world.effects == effects

    world.prepare = lambda shelves: None
    assert world.after_the_crash().recover().state is RunState.DONE


def test_who_cannot_be_asked_is_unknown(world, names) -> None:
    _killed_in(world, names, "amid activate registry")

    def prepare(shelves) -> None:
        shelves["registry"].observe = lambda op: 1 / 0

    world.prepare = prepare
    with pytest.raises(Waiting):
        world.recover()


def test_a_step_that_took_effect_before_the_kill_is_adopted_and_not_repeated(world, names) -> None:
    _killed_in(world, names, "after activate answers")
    view = world.recover()
    assert view.step("activate.activate:answers").observed
    assert world.counted()[next(e for e in world.effects if e.startswith("activate answers"))] == 1


def test_an_interrupt_stops_where_it_is_and_can_be_resumed(make_world) -> None:  # fault 31
    for nth in range(1, 30, 4):
        world = make_world()
        written = []

        def interrupt(record, written=written, nth=nth) -> None:
            written.append(record)
            if len(written) == nth:
                raise KeyboardInterrupt

        with pytest.raises(Interrupted) as interrupted:
            world.recover(on_event=interrupt)
        assert "--resume run-1" in interrupted.value.next
        assert world.journal().view.state is RunState.PAUSED
        assert world.recover().state is RunState.DONE
        assert set(world.counted().values()) == {1}


def test_an_interrupted_step_is_left_unknown_never_failed(world) -> None:  # fault 31
    world.failing.add("hang stage answers")
    hanging = threading.Event()

    def tell(record) -> None:
        if isinstance(record, Intent) and record.step == "stage.stage:answers":
            hanging.set()

    def prepare(shelves) -> None:
        def stage(source, op):
            assert hanging.wait(10)
            raise KeyboardInterrupt

        shelves["registry"].stage = stage

    world.prepare = prepare
    with pytest.raises(Interrupted):
        world.recover(workers=3, on_event=tell)
    assert world.journal().view.step("stage.stage:answers").status is Status.UNKNOWN
    world.failing.clear()
    world.prepare = lambda shelves: None
    assert world.recover().state is RunState.DONE


# ------------------------------------------------------------------------------------------- who holds the run


@pytest.mark.slow
def test_of_two_orchestrators_the_loser_stops_without_another_action(make_world) -> None:
    # fault 24, fault 26
    whole = make_world()
    whole.recover()
    for nth in range(1, len(whole.journal().read()) - 3):
        world = make_world()
        seen = []
        after_the_winner: list[str] = []

        def overtake(record, world=world, seen=seen, after=after_the_winner, nth=nth) -> None:
            seen.append(record)
            if len(seen) == nth:
                world.process += 1
                world.clock.elapsed_s += 60
                assert world.recover().state is RunState.DONE
                after.extend(world.effects)

        with pytest.raises(HoldLost):
            world.recover(on_event=overtake)
        assert world.effects == after_the_winner, f"the loser went on after record {nth}"
        written = [stamped.record for stamped in world.journal().read()]
        taken = next(i for i, each in enumerate(written) if isinstance(each, Held) and each.epoch > 1)
        assert len(seen) <= taken, "the loser told of more than it wrote"
        assert all(record in written[:taken] for record in seen), (
            "the loser told of something it did not write"
        )
        assert set(world.counted().values()) == {1}
        assert world.tree() == whole.tree()


def test_a_run_whose_target_is_claimed_by_override_stops(world) -> None:
    def rob(record) -> None:
        if isinstance(record, Entered) and record.state is RunState.RUNNING:
            world.process += 1
            world.claim("run-2", overrides=frozenset({"target_claimed"}))

    with pytest.raises(HoldLost, match="run-1"):
        world.recover(on_event=rob)
    assert world.effects == []


def test_a_journal_that_cannot_be_written_stops_the_run_and_nothing_is_called_failed(world) -> None:
    create = world.store.create

    def refuse(name, content):
        if len(list(world.store.list("log/runs/"))) > 12:
            raise StoreError("no space left", retry=Retry.NEVER)
        return create(name, content)

    world.store.create = refuse
    with pytest.raises(StoreError, match="no space"):
        world.recover()
    world.store.create = create
    assert not any(step.status is Status.FAILED for step in world.journal().view.steps.values())
    assert world.after_the_crash().recover().state is RunState.DONE


def test_a_store_that_is_away_for_a_moment_does_not_stop_the_run(world) -> None:
    create, failures = world.store.create, []

    def stumble(name, content):
        if name.endswith("12") and len(failures) < 3:
            failures.append(name)
            raise StoreError("503", retry=Retry.LATER)
        return create(name, content)

    world.store.create = stumble
    assert world.recover().state is RunState.DONE
    assert len(failures) == 3


def test_the_journal_of_another_plan_is_not_continued(world) -> None:
    world.failing.add("unfence assistant")
    world.recover()
    claim = world.after_the_crash().claim()
    other = world.plan.model_copy(update={"steps": world.plan.steps[:-1]})
    with pytest.raises(UsageError, match="another plan"):
        execute(other, world.journal(), claim, world.actions(), clock=world.clock)


def test_a_hold_is_renewed_while_a_long_step_is_at_work(world, monkeypatch) -> None:
    monkeypatch.setattr("refloat.run.engine.LISTEN_S", 0.01)
    renewed = threading.Event()

    def tell(record) -> None:
        if isinstance(record, Held):
            renewed.set()

    def prepare(shelves) -> None:
        inner = shelves["answers"].stage

        def stage(source, op):
            world.clock.elapsed_s += HOLD_TTL_S / 2
            assert renewed.wait(10), "nobody would know that this run still lives"
            inner(source, op)

        shelves["answers"].stage = stage

    world.prepare = prepare
    view = world.recover(on_event=tell)
    assert (view.state, view.epoch) == (RunState.DONE, 1)


def test_a_signal_that_is_no_keyboard_interrupt_leaves_the_run_resumable_too(world) -> None:
    class Terminated(BaseException):
        """What a handler of SIGTERM raises in the main thread."""

    def terminate(record) -> None:
        if isinstance(record, Entered) and record.state is RunState.VERIFYING:
            raise Terminated

    with pytest.raises(Terminated):
        world.recover(on_event=terminate)
    assert world.journal().view.state is RunState.PAUSED
    assert world.recover().state is RunState.DONE
    assert set(world.counted().values()) == {1}


def test_an_undo_that_hangs_is_given_up_and_the_rest_is_still_put_back(world, called_time) -> None:
    world.failing |= {"verify", "hang revert registry"}
    view = world.recover()
    assert view.state is RunState.DIRTY
    assert view.step("activate.activate:registry").status is Status.STUCK
    assert view.standing["answers"] == "untouched"


def test_an_override_named_when_resuming_counts_and_is_on_record(world, names) -> None:
    _killed_in(world, names, "before stage answers")
    world.verdicts = [False]
    view = world.recover(overrides=frozenset({"group_broken"}))
    assert view.state is RunState.DONE
    assert view.overrides == {"group_broken"}
    assert world.journal().view.overrides == {"group_broken"}
