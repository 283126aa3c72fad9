"""Baselines and evidence that a region missed."""

from __future__ import annotations

from pathlib import Path

from refloat.testing.world import World
from refloat.vault.keys import Role
from refloat.vault.missed_records import BASELINES, EVIDENCE, are_as_many, make_up_records, records_alone
from refloat.vault.replica import Replica


def replicas(world: World) -> list[Replica]:
    return list(world.vault().replicas.values())


def said(world: World, region: str, stream: str) -> list[object]:
    log = world.vault().replicas[region].log(stream, Role.OPERATOR)
    return [entry.body["said"] for entry in log.entries()]


def say(world: World, region: str, stream: str, what: str) -> None:
    world.vault().replicas[region].log(stream, Role.OPERATOR).append({"said": what})


def test_what_only_another_region_says_is_said_in_each(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    for region in ("eu", "us"):
        say(world, region, BASELINES, "both")
    say(world, "eu", BASELINES, "eu alone")
    say(world, "us", EVIDENCE, "us alone")
    assert not are_as_many(replicas(world))
    eu, us = replicas(world)
    assert records_alone(eu, [us]) == {BASELINES: 1, EVIDENCE: 0}
    assert make_up_records([eu, us]) == {"eu": 1, "us": 1}
    assert said(world, "us", BASELINES) == ["both", "eu alone"]
    assert said(world, "eu", EVIDENCE) == ["us alone"]
    assert make_up_records(replicas(world)) == {"eu": 0, "us": 0}
    assert are_as_many(replicas(world))


def test_the_next_protect_brings_a_baseline_that_a_region_missed(tmp_path: Path) -> None:
    world = World.small(tmp_path, group="")
    say(world, "us", BASELINES, "measured")
    world.protect()
    assert said(world, "eu", BASELINES) == ["measured"]
    world.protect()
    assert said(world, "eu", BASELINES) == ["measured"]


def test_a_key_that_may_sign_none_of_them_brings_none_and_the_point_is_made(tmp_path: Path) -> None:
    world = World.small(tmp_path, group="")
    say(world, "us", BASELINES, "measured")
    world.key_file = world.key_file.for_roles(Role.WRITER, Role.READER)
    assert world.protect().ok
    assert said(world, "eu", BASELINES) == []


def test_a_log_that_is_damaged_keeps_no_other_from_its_records(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    say(world, "us", BASELINES, "measured")
    say(world, "us", EVIDENCE, "recovered")
    name = f"log/{EVIDENCE}/{0:016d}"
    world.stores["us"].delete(name)
    world.stores["us"].create(name, b"something else")
    assert make_up_records(replicas(world)) == {"eu": 1, "us": 0}
