"""What later estimates learn from: how long steps took, by the evidence of earlier runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from refloat.evidence import seal
from refloat.evidence.model import Evidence
from refloat.flows.prepare import history, timings
from refloat.plan.learn import StepTiming
from refloat.plan.model import SIZED
from refloat.testing.world import World


@pytest.fixture
def recovered(tmp_path: Path) -> tuple[World, Evidence]:
    """A world whose pipeline was recovered once, and the record of that."""
    world = World.small(tmp_path)
    world.protect()
    return world, world.recover().evidence


def told(world: World, to: str = "us") -> dict[str, list[StepTiming]]:
    """What is known, by run."""
    found: dict[str, list[StepTiming]] = {}
    for timing in history(world.vault().replicas["us"], to):
        found.setdefault(timing.run, []).append(timing)
    return found


def sealed(world: World, record: Evidence, **changed: object) -> None:
    """One more record, as of a run that ended later."""
    later = record.model_copy(update={"finished_at": world.clock.now(), **changed})
    seal.seal(later, list(world.vault().replicas.values()))


def test_every_step_that_was_done_is_a_timing_with_its_kind_and_the_bytes_it_went_through(recovered) -> None:
    world, record = recovered
    (found,) = told(world).values()
    component = {step.id: step.component for step in record.steps}
    assert [timing.step_id for timing in found] == [step.id for step in record.steps if step.result == "done"]
    for timing in found:
        part = record.components.get(component[timing.step_id] or "")
        assert timing.kind == (part.kind if part else ""), timing.step_id
        assert timing.bytes == (part.bytes if part and timing.action in SIZED else 0), timing.step_id


def test_all_that_went_by_until_users_were_let_in_is_some_steps(recovered) -> None:
    world, record = recovered
    before = [step for step in record.steps if step.phase not in ("traffic", "reprotect")]
    ended = max(step.started_s + step.seconds for step in before)
    took = {timing.step_id: timing.seconds for timing in told(world)[record.run]}
    assert all(took[step.id] >= step.seconds for step in before)
    assert sum(took[step.id] for step in before) >= ended
    assert sum(step.seconds for step in before) < ended, (
        "what is written between the steps takes its time too"
    )


def test_a_run_that_waited_for_a_person_teaches_only_what_its_steps_took(recovered) -> None:
    world, record = recovered
    waited = record.foreseen.model_copy(update={"seconds": None})
    sealed(world, record, run="waited", foreseen=waited)
    took = {timing.step_id: timing.seconds for timing in told(world)["waited"]}
    assert took == {step.id: step.seconds for step in record.steps if step.result == "done"}


def test_what_was_only_observed_teaches_nothing(recovered) -> None:
    world, record = recovered
    first, *rest = record.steps
    sealed(world, record, run="again", steps=(first.model_copy(update={"observed": True}), *rest))
    assert first.id not in {timing.step_id for timing in told(world)["again"]}


def test_a_run_into_another_region_is_known_as_one(recovered) -> None:
    world, record = recovered
    assert {timing.here for timing in told(world)[record.run]} == {True}
    assert {timing.here for timing in told(world, "eu")[record.run]} == {False}


def test_a_damaged_record_keeps_nobody_from_a_plan(recovered) -> None:
    world, _ = recovered
    store, slot = world.stores["us"], "log/evidence/0000000000000000"
    content = bytearray(store.get(slot))
    content[len(content) // 2] ^= 1
    store.delete(slot)
    store.create(slot, bytes(content))
    assert timings(world.vault().replicas["us"], "us") == []
