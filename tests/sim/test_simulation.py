"""The whole small world from seeds: what is done, what fails, who dies when and who goes first is all the seed's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from refloat.testing.simulation import Broken, simulate

pytestmark = pytest.mark.slow

SEEDS = int(os.environ.get("REFLOAT_SEEDS", "300"))
SEEDS_OF_ONE_TEST = 25
KEPT = [int(line.split()[0]) for line in (Path(__file__).parent / "seeds.txt").read_text().splitlines()]


@pytest.mark.parametrize("first", range(1, SEEDS + 1, SEEDS_OF_ONE_TEST))
def test_every_seed_keeps_every_promise(first: int) -> None:
    # faults 1, 2, 3, 4, 5, 11, 12, 15, 18, 23, 24, 51
    for seed in range(first, min(first + SEEDS_OF_ONE_TEST, SEEDS + 1)):
        simulate(seed)


@pytest.mark.parametrize("seed", KEPT)
def test_a_seed_that_once_broke_a_promise_keeps_it(seed: int) -> None:
    simulate(seed)


@pytest.mark.parametrize("seed", [3, 9, 17])
def test_the_same_seed_makes_the_same_steps(seed: int) -> None:
    once, again = simulate(seed), simulate(seed)
    assert once.lines == again.lines
    assert once.trace == again.trace


def test_other_seeds_make_other_steps() -> None:
    assert len({simulate(seed).trace for seed in (3, 9, 17)}) == 3


def test_a_broken_promise_names_the_seed_and_shows_the_last_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refloat.testing.simulation.world.Oracle.claims", _never)
    with pytest.raises(
        Broken, match=r"seed 3: no.*\nto see it again: make sim SEED=3\nthe last steps:\n  release 1"
    ):
        simulate(3)


def _never(*_: object) -> None:
    raise Broken("no")


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1001, 11_001, 100))
def test_ten_thousand_seeds_keep_every_promise(first: int) -> None:
    for seed in range(first, first + 100):
        simulate(seed)
