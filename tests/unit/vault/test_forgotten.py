"""The log of what is forgotten: what an entry must say, how many points fit one, and what damage hides."""

from __future__ import annotations

from pathlib import Path

import pytest

from refloat.digest import Json
from refloat.errors import Damaged
from refloat.testing.world import World
from refloat.vault.check import check
from refloat.vault.forgotten import (
    FORGOTTEN_MAX,
    forgotten,
    forgotten_log,
    forgotten_points,
    write_forgotten,
)
from refloat.vault.layout import FORGOTTEN_STREAM, slot_name
from refloat.vault.replica import Replica

FIRST, SECOND = "a" * 64, "b" * 64


@pytest.fixture
def replica(tmp_path: Path) -> Replica:
    return World.small(tmp_path).vault().replicas["eu"]


def test_a_region_that_has_forgotten_nothing_says_so(replica: Replica) -> None:
    assert forgotten(replica).points == {} and forgotten(replica).next_slot == 0
    assert forgotten_points(replica) == frozenset()


def test_what_was_said_last_of_a_rule_and_all_that_was_said_of_points_counts(replica: Replica) -> None:
    write_forgotten(replica, 0, {FIRST: "beyond last 1"}, seen=4, overrides=["source_shrank", "clock_behind"])
    write_forgotten(replica, 1, {SECOND: "beyond last 2"}, seen=9, overrides=["source_shrank"])
    found = forgotten(replica)
    assert found.points == {FIRST: "beyond last 1", SECOND: "beyond last 2"}
    assert found.accepted == {"source_shrank": 9, "clock_behind": 4}
    assert found.next_slot == 2


def test_an_override_alone_is_written_as_well(replica: Replica) -> None:
    write_forgotten(replica, 0, {}, seen=0, overrides=["source_shrank"])
    assert forgotten(replica).accepted == {"source_shrank": 0}


def test_more_points_than_fit_an_entry_take_several(replica: Replica) -> None:
    points = {f"{number:064x}": "beyond last 1, hourly 24, daily 7" for number in range(FORGOTTEN_MAX + 1)}
    write_forgotten(replica, 0, points, seen=0)
    assert forgotten(replica).points == points and forgotten(replica).next_slot == 2


def test_an_entry_may_say_more_than_is_known_here(replica: Replica) -> None:
    forgotten_log(replica).append({"points": {FIRST: "why"}, "seen": 0, "overrides": [], "by": "somebody"})
    assert forgotten_points(replica) == {FIRST}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"points": {FIRST: "why"}, "seen": 0},
        {"points": [FIRST], "seen": 0, "overrides": []},
        {"points": {"../etc": "why"}, "seen": 0, "overrides": []},
        {"points": {FIRST: 1}, "seen": 0, "overrides": []},
        {"points": {FIRST: "why"}, "seen": -1, "overrides": []},
        {"points": {FIRST: "why"}, "seen": True, "overrides": []},
        {"points": {FIRST: "why"}, "seen": 0, "overrides": [None]},
    ],
)
def test_an_entry_that_says_something_else_hides_what_is_behind_it(
    body: dict[str, Json], replica: Replica
) -> None:
    write_forgotten(replica, 0, {FIRST: "why"}, seen=0)
    forgotten_log(replica).append(body)
    write_forgotten(replica, 2, {SECOND: "why"}, seen=0)
    with pytest.raises(Damaged) as raised:
        forgotten(replica)
    assert raised.value.file == slot_name(FORGOTTEN_STREAM, 1)
    assert forgotten_points(replica) == {FIRST}
    report = check(replica, read_data=False)
    assert [damage.object for damage in report.damaged] == [slot_name(FORGOTTEN_STREAM, 1)]
