from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from refloat.errors import ConnectorError
from refloat.flows import verify
from refloat.testing.world import World
from refloat.verify.model import Baseline, Measurement

GOLDEN = {"verify/pages.jsonl": b""}
VERIFY = """
verify:
  pages:
    probe: {http: "http://127.0.0.1:1/"}
    golden: golden.jsonl
    bounds: {errors: {at_most: 0.1}}
"""


def measured(world: World) -> Measurement:
    return Measurement(
        component="pages", region="eu", measured_at=world.clock.now(), concurrency=1, seconds=1.0, metrics={}
    )


def baseline(
    world: World, monkeypatch: pytest.MonkeyPatch, seen: Iterator[Mapping[str, Any]]
) -> tuple[Baseline, list[int]]:
    """The baseline of a pipeline whose identities are ``seen`` one after the other, and how often it was measured."""
    loads: list[int] = []

    def load(*arguments: object, **options: object) -> Measurement:
        loads.append(1)
        return measured(world)

    monkeypatch.setattr(verify, "identities", lambda components, region: next(seen))
    monkeypatch.setattr(verify, "measure_component", load)
    return verify.measure_baseline(world.components(), GOLDEN, "eu", world.clock), loads


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.small(tmp_path, group=VERIFY)


def test_an_identity_that_stands_still_is_measured_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, loads = baseline(world, monkeypatch, iter([{"pages": {"v": 1}}] * 2))
    assert len(loads) == 1


def test_the_first_probe_may_be_the_first_record_of_a_log(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty, begun = {"answers": {"first": ""}}, {"answers": {"first": "sha256:aa"}}
    kept, loads = baseline(world, monkeypatch, iter([empty, begun, begun, begun]))
    assert len(loads) == 2
    assert kept.identity_digest == verify.identity_digest(begun)


def test_an_identity_that_moves_again_is_no_baseline(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = ({"pages": {"v": version}} for version in range(9))
    with pytest.raises(ConnectorError, match="moved each time"):
        baseline(world, monkeypatch, seen)


def test_a_baseline_of_the_same_region_is_preferred_and_then_the_newest(world: World) -> None:
    replicas = list(world.vault().replicas.values())
    for region, identity in (("eu", "aa"), ("us", "aa"), ("eu", "bb"), ("eu", "aa")):
        made = Baseline(
            identity_digest=identity,
            profile="default",
            region=region,
            measured_at=world.clock.now(),
            components={},
        )
        assert verify.save_baseline(made, replicas) == {"eu": None, "us": None}
    assert verify.best_baseline(replicas, "aa", "default", "us").region == "us"  # type: ignore[union-attr]
    assert verify.best_baseline(replicas, "aa", "default", "eu") == made
    assert verify.best_baseline(replicas, "cc", "default", "eu") is None
