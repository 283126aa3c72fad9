"""Days of a pipeline, by the sizes that the vault measured on real files: harmless ones, and others."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from refloat.limits import KIB, MIB
from refloat.point.suspicion import (
    DEDUP_LOST,
    DENSE,
    REWRITTEN,
    SHRANK,
    SOURCE_REWRITTEN,
    SOURCE_SHRANK,
    Part,
    judge,
)


@dataclass(frozen=True)
class Contents:
    """What listings tell: the trees that hold the same, and what packing saves of all."""

    same: frozenset[str] = frozenset()
    saves: float = 0.0

    def alike(self, part: Part, good: Part) -> bool:
        return part.tree in self.same

    def saving(self, part: Part) -> float:
        return self.saves


def part(files: int, size: float, new: float, density: float, tree: str = "") -> Part:
    """Sizes in MiB; ``density`` is the share of the new bytes that is stored."""
    return Part(files, int(size * MIB), int(new * MIB), int(new * density * MIB), tree)


def suspect(
    *parts: Part, accepted: dict[str, set[str]] | None = None, contents: Contents | None = None
) -> dict[int, tuple[str, ...]]:
    days = [(str(day), {"it": one}) for day, one in enumerate(parts)]
    found = judge(days, accepted or {}, contents or Contents())
    return {int(day): why["it"] for day, why in found.items()}


TEXT = [part(200, 4, 4, 0.47), part(201, 4.02, 0.02, 0.5), part(201, 4.02, 0, 0)]
QUIET = part(200, 4, 0, 0)
WEIGHTS = [part(1, 4, 4, 0.845), part(1, 4, 0, 0)]
CHECKPOINTS = [part(1, 4, 4, 0.845), part(1, 4, 4, 0.7), part(1, 4, 4, 0.66)]
PROSE = [part(1, 4, 4, 0.348), part(1, 4, 0, 0)]
PARQUET = [part(9, 10, 10, 0.74), part(9, 10, 0, 0)]


@pytest.mark.parametrize(
    "days",
    [
        [part(9, 10, 10, 1.0)],
        [*CHECKPOINTS, part(1, 4, 4, 0.845), part(1, 4, 4, 0.84)],
        [*WEIGHTS, part(1, 4, 4, 0.846)],
        [*WEIGHTS, part(1, 1, 1, 0.825)],
        [*WEIGHTS, part(1, 0.56, 0.56, 1.0)],
        [*PARQUET, part(1, 9, 9, 0.72)],
        [*PARQUET, part(9, 4, 4, 0.91)],
        [*TEXT, part(202, 12, 8, 1.0)],
        [*TEXT, part(200, 1.2, 1.2, 1.0)],
        [part(20, 8, 8, 0.998), part(20, 8, 8, 0.998)],
        [Part(3, 9 * KIB, 9 * KIB, 3 * KIB), Part(3, 9 * KIB, 9 * KIB, 9 * KIB), Part(1, 99, 99, 99)],
        [*TEXT, part(140, 2.8, 0, 0)],
        [*WEIGHTS, part(1, 4, 0, 0), part(2, 8, 4, 0.845)],
    ],
    ids=[
        "the first point",
        "checkpoints, and one without its base",
        "a full retrain",
        "quantised to int8",
        "quantised to nf4",
        "a table compacted",
        "a table packed better",
        "archives added",
        "packed into archives",
        "archives exchanged",
        "a few KiB",
        "a third deleted",
        "a model added",
    ],
)
def test_a_day_of_work_is_not_suspect(days: list[Part]) -> None:
    assert suspect(*days) == {}


@pytest.mark.parametrize(
    ("days", "hit"),
    [
        (TEXT, part(201, 4.03, 4.06, 0.995)),
        (PROSE, part(1, 4, 4, 0.688)),
        (WEIGHTS, part(1, 4, 4, 1.0)),
        (WEIGHTS, part(1, 4, 4, 0.944)),
        (PARQUET, part(9, 10, 10, 1.0)),
        (TEXT, part(201, 8.0, 8.0, 0.74)),
    ],
    ids=[
        "text",
        "text, every other block",
        "weights",
        "weights, every other block",
        "table",
        "garbage behind each file",
    ],
)
def test_what_ransomware_leaves_is_suspect_and_stays_so_while_nothing_changes(
    days: list[Part], hit: Part
) -> None:  # fault 49
    still = Part(hit.files, hit.bytes, 0, 0)
    found = suspect(*days, hit, still, still)
    assert found == dict.fromkeys(range(len(days), len(days) + 3), (DENSE, REWRITTEN, DEDUP_LOST))


def test_checkpoints_that_are_always_new_are_suspect_only_as_ciphertext() -> None:  # fault 49
    assert suspect(*CHECKPOINTS, part(1, 4, 4, 1.0)) == {3: (DENSE,)}


def test_what_was_written_long_ago_is_judged_by_its_listing() -> None:  # fault 49
    days = [QUIET, QUIET, part(200, 4, 4, 0.995)]
    assert suspect(*days) == {}, "of what nobody knows to get smaller"
    assert suspect(*days, contents=Contents(saves=0.6)).keys() == {2}


def test_a_mass_deletion_is_suspect_until_it_is_undone(  # fault 50
) -> None:
    rest = part(10, 0.2, 0, 0)
    assert suspect(*TEXT, rest, rest, part(11, 0.21, 0.21, 0.5)) == dict.fromkeys((3, 4, 5), (SHRANK,))
    assert suspect(*TEXT, rest, part(200, 4, 0, 0)) == {3: (SHRANK,)}
    assert suspect(*TEXT, part(0, 0, 0, 0)) == {3: (SHRANK,)}


def test_a_suspicion_ends_where_the_content_is_good_again() -> None:
    hit = part(201, 4.03, 4.06, 0.995)
    assert suspect(
        *TEXT, hit, part(201, 4.02, 0, 0, "old"), contents=Contents(frozenset({"old"}))
    ).keys() == {3}
    assert suspect(*TEXT, hit, part(201, 4.02, 4.02, 0.47)).keys() == {3}, "written anew"
    assert suspect(*TEXT, hit, part(202, 4.05, 0.02, 0.5)).keys() == {3, 4}, "a note beside it heals nothing"


def test_a_suspicion_ends_where_a_person_accepts_it() -> None:
    hit, still = part(201, 4.03, 4.06, 0.995), part(201, 4.03, 0, 0)
    assert suspect(*TEXT, hit, still, still, accepted={SOURCE_REWRITTEN: {"3"}}) == {}
    assert suspect(*TEXT, hit, still, still, accepted={SOURCE_REWRITTEN: {"3", "4"}}) == {}
    assert suspect(*TEXT, hit, accepted={SOURCE_SHRANK: {"3"}}).keys() == {3}
    gone = part(10, 0.2, 0, 0)
    assert suspect(*TEXT, gone, gone, accepted={SOURCE_SHRANK: {"3"}}) == {}
