"""Estimates against runs drawn from machines that are known: the p95 must hold, and must not be too wide either."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[3] / "bench"
sys.path.insert(0, str(BENCH))
try:
    import foreseen
    import recovery
    import run_recovery
    from report import Report, markdown
finally:
    sys.path.remove(str(BENCH))

MACHINES = 40  # for each number of earlier runs; one binomial deviation of all is 1.4 %


@pytest.mark.parametrize("seed", [1, 2])
def test_of_runs_that_were_foreseen_ninety_to_ninety_nine_of_a_hundred_are_within_the_p95(seed: int) -> None:
    held = foreseen.many(seed, MACHINES)
    inside = sum(one.inside for one in held) / len(held)
    assert len(held) >= 200
    assert 0.90 <= inside <= 0.99
    below = sum(one.of_p50 <= 1 for one in held) / len(held)
    assert 0.40 <= below <= 0.65


def test_few_earlier_runs_and_many_foretell_what_comes() -> None:
    for earlier in (3, 30):
        held = [foreseen.one(7_000 + number, earlier) for number in range(100)]
        assert 0.88 <= sum(one.inside for one in held) / len(held) <= 1.0, earlier


def test_the_same_seed_draws_the_same_runs() -> None:
    assert foreseen.one(3, 5) == foreseen.one(3, 5) != foreseen.one(4, 5)


@pytest.mark.parametrize(
    ("within", "of", "words"),
    [
        (285, 300, "93 to 97 %: met"),
        (270, 300, "93 to 97 %: NOT MET"),
        (299, 300, "93 to 97 %: NOT MET"),
        (28, 30, "93 to 97 %: met"),
        (30, 30, "93 to 97 %: NOT MET, within the noise"),
        (25, 30, "93 to 97 %: NOT MET"),
    ],
)
def test_the_aim_is_judged_with_its_noise(within: int, of: int, words: str) -> None:
    assert recovery.verdict([True] * within + [False] * (of - within)) == words


def test_a_part_of_it_only_prints(tmp_path: Path) -> None:
    assert run_recovery.main(["--quick", "--only", "drawn", "--folder", str(tmp_path)]) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_pipeline_of_many_has_every_step_and_estimate(tmp_path: Path) -> None:
    section = recovery.plans(recovery.Setting(tmp_path, quick=True, say=lambda text: None))
    ((few, many),) = [table.rows for table in section.tables]
    assert (few[:2], many[:2]) == (("10", "54"), ("100", "504"))
    assert "# Results" in markdown(Report("2026-01-01", True, {}, {}, (section,)))
