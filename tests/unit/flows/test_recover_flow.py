from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from refloat.errors import Refused
from refloat.evidence import seal
from refloat.flows.recover import recover
from refloat.testing.world import World


def lose(world: World, region: str = "eu") -> dict[str, bytes]:
    """Take the region away, its vault too; what was live in it."""
    live = world.live(region)
    shutil.rmtree(world.root / region)
    del world.stores[region]
    return live


def test_everything_comes_back_in_another_region_from_its_vault_alone(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    world.protect()
    before = lose(world)
    done = world.recover()
    assert done.evidence.state == "done"
    assert world.live("us") == before


def test_what_was_not_in_the_point_is_lost_and_nothing_else(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    world.protect()
    world.answer("late")
    before = lose(world)
    world.recover()
    after = world.live("us")
    assert b"late" in before["answers.jsonl"] and b"late" not in after["answers.jsonl"]
    assert before["answers.jsonl"].startswith(after["answers.jsonl"])


def test_the_newest_consistent_point_is_used_though_a_newer_one_is_broken(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    good = world.protect()
    world.release(2, pages=7)
    broken = world.protect()
    lose(world)
    done = world.recover()
    assert done.evidence.point == good.name
    vault = world.vault()
    with pytest.raises(Refused) as refused:
        world.prepared(vault, point=broken.name)
    assert refused.value.rule == "group_broken"


def test_without_verification_it_is_done_and_says_that_it_is_not_known(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    world.protect()
    lose(world)
    done = world.recover()
    assert done.ok and done.evidence.verified is None
    assert "unverified" in done.evidence.flags


def test_the_recovered_pipeline_is_protected_again_and_says_in_how_few_regions(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    world.protect()
    lose(world)
    done = world.recover()
    assert "unprotected" in done.evidence.flags
    newest = world.vault().replicas["us"].points()[-1]
    assert newest.name != done.evidence.point


def test_the_evidence_is_signed_and_in_the_surviving_replica(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    made = world.protect()
    lose(world)
    done = world.recover()
    (record,) = seal.records(world.vault().replicas["us"])
    assert record == done.evidence
    assert record.point == made.name
    assert {step.result for step in record.steps} == {"done", "failed"}
    assert [step.id for step in record.steps if step.result == "failed"] == ["reprotect.protect:pipeline"]


def test_objectives_stand_beside_what_was_achieved(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    world.protect()
    lose(world)
    world.clock.sleep(30)
    evidence = world.recover().evidence
    answers = evidence.components["answers"]
    assert answers.rpo.seconds is not None and 30 <= answers.rpo.seconds < 60
    assert answers.rpo.objective_s == 1800
    assert evidence.rto.seconds is not None and evidence.rto.since == "run_start"
    assert evidence.rto.objective_s == 300  # the strictest component's


def test_a_target_that_holds_something_foreign_is_refused_and_left_alone(tmp_path: Path) -> None:  # fault 43
    world = World.small(tmp_path)
    world.protect()
    lose(world)
    (tmp_path / "us" / "pages").mkdir(parents=True)
    (tmp_path / "us" / "pages" / "mine.txt").write_text("not refloat's")
    before = world.live("us")
    done = world.recover()
    assert done.evidence.state == "blocked"
    assert done.failure is not None and done.failure["rule"] == "target_foreign"
    assert world.live("us") == before


def test_what_was_recovered_is_the_primary_now_and_taken_back_only_on_purpose(tmp_path: Path) -> None:
    world = World.small(tmp_path)  # fault 43
    world.protect()
    before = lose(world)
    world.recover()
    (tmp_path / "us" / "pages" / "since.txt").write_text("written after the recovery")
    again = world.recover()
    assert again.evidence.state == "blocked"
    assert again.failure is not None and again.failure["rule"] == "target_primary"
    assert "pages/since.txt" in world.live("us")
    vault, glass = world.vault(), frozenset({"target_primary"})
    done = recover(world.prepared(vault), vault, world.clock, overrides=glass)
    assert done.evidence.state == "done"
    assert world.live("us") == before


def test_an_older_point_of_elsewhere_does_not_take_the_primary_back_unasked(tmp_path: Path) -> None:
    world = World.small(tmp_path)  # fault 43
    older = world.protect().name
    lose(world)
    world.recover()
    live = world.live("us")
    vault = world.vault()
    blocked = recover(world.prepared(vault, point=older), vault, world.clock)
    assert blocked.failure is not None and blocked.failure["rule"] == "target_primary"
    assert world.live("us") == live


def test_a_pack_that_is_gone_blocks_the_run_before_anything_is_touched(tmp_path: Path) -> None:  # fault 3
    world = World.small(tmp_path)
    world.protect()
    lose(world)
    for info in list(world.stores["us"].list("packs/")):
        world.stores["us"].delete(info.name)
    with pytest.raises(Exception) as error:
        world.recover()
    assert getattr(error.value, "exit_code", 0) == 4
    assert not (tmp_path / "us").exists()
