from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from refloat.digest import json_form
from refloat.errors import ConnectorError, ManifestError
from refloat.flows import baselines, verify
from refloat.testing.world import GROUP, World
from refloat.vault.keys import Role
from refloat.vault.missed_records import BASELINES
from refloat.verification.model import Baseline, Measurement, PipelineBaseline

VERIFY = """
verify:
  pages:
    probe: {http: "http://127.0.0.1:1/"}
    golden: golden.jsonl
    metrics: {accuracy: {equal: {expected: a, found: a}}}
    bounds: {errors: {at_most: 0.1}, accuracy: {drop_at_most: 0.1}}
"""
GOLDEN = b'{"id": "q", "request": {}}'


def measured(world: World) -> Measurement:
    return Measurement(
        component="pages", region="eu", measured_at=world.clock.now(), concurrency=1, seconds=1.0, metrics={}
    )


def baseline(
    world: World, monkeypatch: pytest.MonkeyPatch, seen: Iterator[Mapping[str, str]]
) -> tuple[Baseline, list[int]]:
    """The baseline of a component whose identities are ``seen`` one after the other, and how often it was measured."""
    loads: list[int] = []

    def load(*arguments: object, **options: object) -> Measurement:
        loads.append(1)
        return measured(world)

    monkeypatch.setattr(verify, "identities", lambda components, name, region: next(seen))
    monkeypatch.setattr(verify, "measure_component", load)
    return verify.measure_baseline(world.components(), "pages", b"", "eu", world.clock), loads


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.small(tmp_path, group=GROUP + VERIFY)


def test_an_identity_that_stands_still_is_measured_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, loads = baseline(world, monkeypatch, iter([{"pages": "1"}] * 2))
    assert len(loads) == 1


def test_the_first_probe_may_be_the_first_record_of_a_log(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty, begun = {"answers": "empty"}, {"answers": "begun"}
    kept, loads = baseline(world, monkeypatch, iter([empty, begun, begun, begun]))
    assert len(loads) == 2
    assert kept.identities == begun


def test_an_identity_that_moves_again_is_no_baseline_and_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = ({"pages": str(version), "ledger": "1"} for version in range(9))
    with pytest.raises(ConnectorError, match="the identity of pages moved each time pages was measured"):
        baseline(world, monkeypatch, seen)


def test_only_what_the_answers_depend_on_is_inspected_and_counts(world: World) -> None:
    world.release(1)
    before = verify.identities(world.components(), "pages", "eu")
    assert before.keys() == {"pages", "ledger"}, "the answers are neither needed nor grouped with it"
    world.answer("a1")
    assert verify.identities(world.components(), "pages", "eu") == before
    world.release(2)
    after = verify.identities(world.components(), "pages", "eu")
    assert [name for name in before if before[name] != after[name]] == ["pages", "ledger"]


def test_what_is_saved_in_every_region_is_read_from_any_that_answers(world: World) -> None:
    replicas = list(world.vault().replicas.values())
    made = Baseline(
        component="pages",
        identities={"pages": "1"},
        profile="default",
        region="eu",
        measured_at=world.clock.now(),
        measurement=measured(world),
    )
    assert baselines.save([made], replicas) == {"eu": None, "us": None}
    for replica in replicas:
        assert list(baselines.kept([replica])) == [made]


def test_a_form_that_a_later_refloat_writes_is_passed_over(world: World) -> None:
    (eu, _) = world.vault().replicas.values()
    eu.log(BASELINES, Role.OPERATOR).append({"by": "a later refloat"})
    made = PipelineBaseline(
        identity_digest="d", profile="default", region="eu", measured_at=world.clock.now(), components={}
    )
    eu.log(BASELINES, Role.OPERATOR).append(json_form(made))
    assert list(baselines.kept([eu])) == [made]


# ------------------------------------------------------------------------------------- what cannot be told


def test_a_point_with_a_baseline_of_the_whole_pipeline_can_still_be_verified(world: World) -> None:
    """As vaults keep it that an earlier refloat measured."""
    world.release(1)
    point, manifest, files = world.protect().point, world.manifest, {"verify/pages.jsonl": GOLDEN}
    pages = measured(world).model_copy(update={"metrics": {}})
    kept = PipelineBaseline(
        identity_digest=point.identity_digest,
        profile="default",
        region="eu",
        measured_at=world.clock.now(),
        components={"pages": pages},
    )
    assert baselines.doubts([kept], point, manifest, files) == {
        "pages": {"accuracy": "the baseline did not measure it"}
    }
    other = kept.model_copy(update={"identity_digest": "another"})
    (told,) = baselines.doubts([other], point, manifest, files)["pages"].values()
    assert told.startswith("pages, ledger changed since")
    assert baselines.doubts([], point, manifest, files)["pages"].keys() == {"accuracy"}


def test_a_golden_set_that_is_none_makes_every_bound_a_doubt(world: World) -> None:
    world.release(1)
    found = baselines.doubts([], world.protect().point, world.manifest, {})
    assert found["pages"] == dict.fromkeys(("errors", "accuracy"), "the golden set holds no question")


def test_doubts_are_told_by_reason() -> None:
    found = {"assistant": {"accuracy": "index changed", "recall": "index changed", "p95": "no baseline"}}
    assert baselines.spoken(found) == "assistant: accuracy, recall (index changed); p95 (no baseline)"


def test_golden_sets_are_read_up_to_what_a_point_may_carry_and_no_further(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = World(world.root, GROUP + VERIFY + VERIFY.replace("\nverify:\n", "").replace("pages:", "answers:"))
    golden = world.root / "golden.jsonl"
    golden.write_bytes(GOLDEN)
    assert set(verify.golden_files(two.components(), world.root)) == {
        "verify/pages.jsonl",
        "verify/answers.jsonl",
    }
    monkeypatch.setattr(verify, "MANIFEST_FILES_BYTES_MAX", verify.MANIFEST_BYTES_MAX + len(GOLDEN) * 2 - 1)
    with pytest.raises(ManifestError, match=r"answers\.golden is larger together with those before it"):
        verify.golden_files(two.components(), world.root)
    with golden.open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(ManifestError, match=r"pages\.golden is larger than a point may carry"):
        verify.golden_files(world.components(), world.root)


def test_a_golden_set_that_is_a_pipe_is_not_waited_for(world: World) -> None:
    os.mkfifo(world.root / "golden.jsonl")
    with pytest.raises(ManifestError, match=r"pages\.golden cannot be read: it is not a regular file"):
        verify.golden_files(world.components(), world.root)
