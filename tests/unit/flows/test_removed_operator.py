"""An operator that the admin removed, in the middle of a run or after it: what it says later counts for nobody."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from refloat.errors import Refused, UsageError, WrongKey
from refloat.evidence import seal
from refloat.flows import baselines
from refloat.flows.recover import journal_of, runs_of
from refloat.run.claim import Claim, standing
from refloat.run.state import Entered, RunState
from refloat.testing.world import World
from refloat.vault import holders
from refloat.vault.keyfile import KeyFile, Role, signer_id
from refloat.vault.keyobjects import publics_of
from refloat.vault.slotlog import SlotLog
from refloat.vault.stores.faulty import Crash, FaultyStore, Operation
from refloat.vault.vault import Vault
from refloat.verification.model import Baseline, Measurement

NOW = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A pipeline whose primary region is gone but for its vault."""
    world = World.small(tmp_path, group="")
    world.protect()
    (tmp_path / "kept").mkdir()
    shutil.move(tmp_path / "eu", tmp_path / "kept" / "eu")
    return world


@pytest.fixture
def on_call(world: World) -> World:
    """The same world, seen by another operator, who reads and writes as well."""
    made = world.key_file.for_another(Role.WRITER, Role.READER, Role.OPERATOR)
    assert not holders.add(world.vault(), world.key_file, made, "on call", NOW).lagging
    return as_holder(world, made)


def as_holder(world: World, key_file: KeyFile) -> World:
    return World(world.root, world.group, world.clock, key_file, world.stores)


def remove(world: World, gone: World) -> None:
    vault = world.vault()
    fingerprint = signer_id(publics_of(gone.key_file)[Role.OPERATOR])
    holder = holders.named(list(vault.replicas.values()), fingerprint)
    assert isinstance(holder, holders.Holder)
    holders.remove(vault, world.key_file, holder, NOW)


def die_amid(on_call: World) -> str:
    """The run that an operator leaves, who dies after it has staged something."""

    def after_some_steps(operation: Operation) -> None:
        if operation.writes and operation.name.startswith("log/runs/") and operation.name.endswith("20"):
            store.crash(operation.number)

    store = FaultyStore(on_call.stores["us"], at_each=after_some_steps)
    with pytest.raises(Crash):
        on_call.recover(on_call.vault({"us": store}))
    (run,) = runs_of(on_call.vault().replicas["us"], "us")
    return run


def claims(world: World, vault: Vault | None = None) -> SlotLog:
    return (vault or world.vault()).replicas["us"].log("targets/us", Role.OPERATOR)


def sign_on(on_call: World, stale: Vault, run: str) -> int:
    """Claim the target and write the run's journal as a program that does not ask; the epoch that it gave itself."""
    replica = stale.replicas["us"]
    claim = Claim.win(
        claims(on_call, stale),
        run=run,
        view_of=lambda other: journal_of(replica, other, on_call.clock).view,
        clock=on_call.clock,
    )
    journal_of(replica, run, on_call.clock).append(Entered(state=RunState.RUNNING, reason="stolen"))
    return claim.epoch


def test_a_run_of_a_removed_operator_is_not_resumed_by_it_and_another_takes_over(
    world: World, on_call: World
) -> None:  # faults 24, 58
    run = die_amid(on_call)
    stale = on_call.vault()
    before = world.live("us")
    remove(world, on_call)
    with pytest.raises(WrongKey, match="removed"):
        on_call.recover(run=run)
    assert world.live("us") == before
    epoch = sign_on(on_call, stale, run)
    view = journal_of(world.vault().replicas["us"], run, world.clock).view
    assert view.plan is not None and view.reason != "stolen"
    done = world.recover(run=run)
    assert done.evidence.state == "done" and world.live("us") == world.live("kept/eu")
    last = standing(claims(world)).last
    assert last is not None and (last.run, last.epoch, last.released) == (run, epoch + 1, True)


def test_what_a_removed_operator_finished_all_the_same_is_not_known_to_be_done(
    world: World, on_call: World
) -> None:  # faults 24, 58
    run = die_amid(on_call)
    stale = on_call.vault()
    remove(world, on_call)
    assert on_call.recover(stale, run=run).evidence.state == "done"
    vault = world.vault()
    assert not journal_of(vault.replicas["us"], run, world.clock).view.ended
    assert list(seal.records(vault.replicas["us"])) == []
    with pytest.raises(Refused, match=run):
        world.recover()
    known = standing(claims(world))
    assert known.last is not None and not known.last.released and known.epoch > known.last.epoch


def test_a_claim_of_a_removed_operator_takes_an_epoch_and_holds_nobody_off(
    world: World, on_call: World
) -> None:  # faults 24, 58
    stale = on_call.vault()
    remove(world, on_call)
    assert sign_on(on_call, stale, "stolen") == 1
    known = standing(claims(world))
    assert (known.last, known.epoch, known.runs, known.damage) == (None, 1, (), None)
    done = world.recover()
    last = standing(claims(world)).last
    assert done.evidence.state == "done" and last is not None and last.epoch == 2


def test_evidence_and_baselines_count_that_were_signed_before_the_removal_and_no_later_ones(
    world: World, on_call: World
) -> None:  # faults 58, 61
    stale = on_call.vault()
    done = on_call.recover().evidence
    told = list(stale.replicas.values())
    pages = Measurement(
        component="pages", region="us", measured_at=NOW, concurrency=1, seconds=1.0, metrics={}
    )
    baseline = Baseline(
        component="pages", identities={}, profile="", region="us", measured_at=NOW, measurement=pages
    )
    assert not any(baselines.save([baseline], told).values())
    remove(world, on_call)
    later = baseline.model_copy(update={"measured_at": NOW.replace(day=3)})
    assert not any(baselines.save([later], told).values())
    seal.seal(done.model_copy(update={"run": "forged"}), told)
    replicas = list(world.vault().replicas.values())
    for replica in replicas:
        assert [one.run for one in seal.records(replica)] == [done.run]
        with pytest.raises(UsageError, match="no evidence"):
            seal.find([replica], "forged")
    assert list(baselines.kept(replicas)) == [baseline, baseline]
