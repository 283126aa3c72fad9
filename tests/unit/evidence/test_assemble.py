"""Evidence from what is on record, whichever way a run ended."""

from __future__ import annotations

import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from refloat.digest import json_form
from refloat.errors import Damaged, UsageError
from refloat.evidence import seal
from refloat.evidence.assemble import evidence
from refloat.evidence.model import Evidence, Foreseen
from refloat.evidence.render import foretold, page
from refloat.flows import verify
from refloat.flows.points import MANIFEST
from refloat.flows.protect import protect
from refloat.flows.recover import Recovered, journal_of
from refloat.plan.estimate import rto
from refloat.run.state import View
from refloat.testing.world import GROUP, World
from refloat.vault.stores.faulty import FaultyStore

VERIFY = """\
verify:
  pages:
    probe: {{http: "http://127.0.0.1:{port}/answer"}}
    golden: golden.jsonl
    metrics: {{accuracy: {{equal: {{expected: topic, found: topic}}}}}}
    bounds: {{accuracy: {{at_least: 0.5}}}}
    samples: 20
    warmup: 0
"""
GOLDEN = b'{"id": "q1", "request": {"question": "a"}, "expected": {"topic": "A"}}\n'


def lost(root: Path, *, group: str = GROUP) -> World:
    """A world of which one point is left, in ``us``."""
    world = World.small(root, group=group)
    files = {MANIFEST: world.text, verify.carried_as("pages"): GOLDEN}
    protect(world.components(), files, world.vault(), world.clock)
    shutil.rmtree(root / "eu")
    del world.stores["eu"]
    return world


def done(world: World) -> Evidence:
    recovered = world.recover()
    assert recovered.evidence.state == "done"
    return recovered.evidence


def rolled_back(root: Path) -> Recovered:
    """A recovery that was put back, since nothing answers."""
    with socket.socket() as silent:  # while it is ours, nobody answers there
        silent.bind(("127.0.0.1", 0))
        recovered = lost(root, group=GROUP + VERIFY.format(port=silent.getsockname()[1])).recover()
    assert recovered.evidence.state == "rolled_back"
    return recovered


def blocked(root: Path) -> Recovered:
    """A recovery that never began, since its target holds something else."""
    world = lost(root)
    (root / "us" / "pages").mkdir(parents=True)
    (root / "us" / "pages" / "mine.txt").write_text("not refloat's")
    recovered = world.recover()
    assert recovered.evidence.state == "blocked"
    return recovered


# ------------------------------------------------------------------------------------------------- a run


def test_every_component_of_the_point_is_in_the_record(tmp_path: Path) -> None:
    record = done(lost(tmp_path))
    assert set(record.components) == {"pages", "ledger", "answers"}
    assert {name: part.tier for name, part in record.components.items()} == {
        "pages": "critical",
        "ledger": "operational",
        "answers": "operational",
    }
    assert all(part.bytes > 0 and part.files > 0 for part in record.components.values())


def test_the_whole_takes_as_long_as_its_slowest_part(tmp_path: Path) -> None:
    record = done(lost(tmp_path))
    parts = [part.rto.seconds for part in record.components.values() if part.rto.seconds is not None]
    assert len(parts) == 3
    assert record.rto.seconds == max(parts)
    assert record.rto.seconds <= (record.finished_at - record.started_at).total_seconds()


def test_steps_are_told_in_the_order_of_the_plan_within_the_run(tmp_path: Path) -> None:
    record = done(lost(tmp_path))
    whole_s = (record.finished_at - record.started_at).total_seconds()
    assert [step.phase for step in record.steps] == sorted(
        (step.phase for step in record.steps),
        key=["preflight", "stage", "validate", "activate", "verify", "reprotect"].index,
    )
    for step in record.steps:
        assert 0 <= step.started_s <= whole_s, step.id
        assert step.attempts >= 1, step.id
        assert step.estimate_p50_s is not None, step.id


def test_what_was_foreseen_stands_beside_what_came(tmp_path: Path) -> None:
    world = lost(tmp_path)
    expected = rto(world.prepared(world.vault()).plan, world.manifest)
    record = done(world)
    foreseen = record.foreseen
    assert foreseen is not None and foreseen.seconds is not None
    row = expected["pipeline"]
    assert (foreseen.p50_s, foreseen.p95_s) == (row["p50_s"], row["p95_s"])
    assert foreseen.rests_on == expected["rests_on"]
    assert foreseen.rests_on["assumed"] > 0 == foreseen.rests_on["measured"] == foreseen.rests_on["learnt"]
    assert foreseen.seconds == record.rto.seconds  # no disaster was declared
    assert foreseen.of_p50 == pytest.approx(foreseen.seconds / foreseen.p50_s, abs=0.001)
    assert foreseen.inside == (foreseen.seconds <= foreseen.p95_s)
    for step in record.steps:
        assert step.estimate_p95_s is not None and step.estimate_p50_s is not None, step.id
        assert step.estimate_p95_s >= step.estimate_p50_s > 0, step.id
        assert step.estimate_basis == "assumed", step.id


def test_an_estimate_is_not_held_against_what_was_not_done_in_one_sitting(tmp_path: Path) -> None:
    world = lost(tmp_path)
    name, prepared = done(world).run, world.prepared(world.vault())
    view = journal_of(world.vault().replicas["us"], name, world.clock).view

    def foreseen(view: View) -> Foreseen | None:
        told = evidence(
            view,
            prepared.point,
            world.manifest,
            finished_at=world.clock.now(),
            lost_points=(),
            versions={},
            vault="",
        )
        return told.foreseen

    whole, later = foreseen(view), foreseen(replace(view, epoch=view.epoch + 1))
    assert whole is not None and whole.seconds is not None
    assert later == whole.model_copy(update={"seconds": None, "of_p50": None, "inside": None})


def test_a_record_of_before_is_read_without_what_was_foreseen(tmp_path: Path) -> None:
    body = json_form(done(lost(tmp_path)))
    del body["foreseen"]
    for step in body["steps"]:
        for key in ("estimate_p95_s", "estimate_basis", "observed"):
            del step[key]
    record = Evidence.model_validate(body)
    assert record.foreseen is None
    assert foretold(record) == ""
    assert "expected" not in page(record).decode().partition("Most data lost")[0]


def test_what_was_not_done_is_not_hidden(tmp_path: Path) -> None:
    record = done(lost(tmp_path))
    assert record.skipped == ("reprotect.protect:pipeline",)  # only one region is left to hold the new point
    assert set(record.flags) == {"unprotected", "unverified"}
    failed = {step.id: step.error for step in record.steps if step.result == "failed"}
    assert "of the 2 regions" in failed["reprotect.protect:pipeline"]


def test_a_run_that_is_resumed_after_its_end_tells_the_same_and_is_recorded_once(tmp_path: Path) -> None:
    world = lost(tmp_path)
    first = done(world)
    world.clock.sleep(3600)
    again = world.recover(run=first.run).evidence
    assert again == first
    assert len(list(seal.records(world.vault().replicas["us"]))) == 1


def test_a_journal_that_was_never_begun_leaves_no_evidence(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    made = world.protect()
    with pytest.raises(ValueError, match="never begun"):
        evidence(
            View(),
            made.point,
            world.manifest,
            finished_at=world.clock.now(),
            lost_points=(),
            versions={},
            vault="",
        )


# ----------------------------------------------------------------------------------- runs that did not succeed


def test_a_run_that_was_put_back_claims_no_time_to_recover(tmp_path: Path) -> None:
    recovered = rolled_back(tmp_path)
    record = recovered.evidence
    assert not recovered.ok
    assert record.rto.seconds is None
    assert record.components["pages"].rto.seconds is None  # its verification failed
    assert record.verified is False
    assert [(check.name, check.verdict) for check in record.checks] == [
        ("accuracy", "fail"),
        ("errors", "fail"),
    ]
    assert recovered.failure is not None and recovered.failure["rule"] == "quality_unverified"


def test_a_run_that_was_put_back_left_nothing_live(tmp_path: Path) -> None:
    rolled_back(tmp_path)
    assert [path for path in (tmp_path / "us").rglob("*") if path.is_file()] == []


def test_a_blocked_run_names_the_rule_and_measures_nothing(tmp_path: Path) -> None:
    recovered = blocked(tmp_path)
    record = recovered.evidence
    assert recovered.failure is not None and recovered.failure["rule"] == "target_foreign"
    assert (record.verified, record.checks, record.rto.seconds) == (None, (), None)
    assert {part.rto.seconds for part in record.components.values()} == {None}
    assert all(step.phase == "preflight" for step in record.steps)
    assert record.foreseen is not None
    assert (record.foreseen.seconds, record.foreseen.inside) == (None, None)
    assert foretold(record) == ""


@pytest.mark.parametrize("ended", [rolled_back, blocked], ids=["rolled back", "blocked"])
def test_what_was_not_recovered_has_no_loss_to_boast_of(tmp_path: Path, ended) -> None:
    record = ended(tmp_path).evidence
    assert {part.rpo.seconds for part in record.components.values()} == {None}


@pytest.mark.parametrize("ended", [rolled_back, blocked], ids=["rolled back", "blocked"])
def test_a_run_that_did_not_succeed_has_its_page_and_record_too(tmp_path: Path, ended) -> None:
    recovered = ended(tmp_path)
    record = recovered.evidence
    text = page(record).decode()
    assert f"was not recovered in us: {record.state.replace('_', ' ')}" in text
    assert all(name in text for name in record.components)
    assert all(check.name in text for check in record.checks)


# ------------------------------------------------------------------------------------------ signed and kept


def test_a_record_reads_back_as_it_was_sealed(tmp_path: Path) -> None:
    world = lost(tmp_path)
    record = done(world)
    replica = world.vault().replicas["us"]
    assert seal.find([replica], record.run) == record
    assert seal.find([replica], record.run[:4]) == record
    assert seal.find([replica], "latest") == record
    with pytest.raises(UsageError, match="no evidence of a run 'nothing'"):
        seal.find([replica], "nothing")


def test_a_region_that_cannot_take_the_record_does_not_keep_it_from_the_others(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    world.protect()
    record = world.recover().evidence
    later = record.model_copy(update={"run": "another"})
    down = FaultyStore(world.stores["eu"])
    vault = world.vault({"eu": down})
    down.down = True
    outcome = seal.seal(later, list(vault.replicas.values()))
    assert isinstance(outcome["eu"], Exception)
    assert outcome["us"] == "log/evidence/0000000000000001"
    assert seal.find([world.vault().replicas["us"]], "another") == later
    with pytest.raises(UsageError):
        seal.find([world.vault().replicas["eu"]], "another")


def test_a_record_that_somebody_changed_is_damaged(tmp_path: Path) -> None:
    world = lost(tmp_path)
    done(world)
    store, slot = world.stores["us"], "log/evidence/0000000000000000"
    content = bytearray(store.get(slot))
    content[len(content) // 2] ^= 1
    store.delete(slot)
    store.create(slot, bytes(content))
    with pytest.raises(Damaged):
        list(seal.records(world.vault().replicas["us"]))
