"""What a schedule asks for: each unit at its fastest member's cadence, its RPO in mind, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat.point.due import Known, Unit, UnitDue, Why, due

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def unit(*members: str, every_s: float = 900, rpo_s: float = 1800) -> Unit:
    return Unit(members, every_s, dict.fromkeys(members, rpo_s))


def only(asked: Unit, known: Known) -> UnitDue:
    (found,) = due([asked], known, NOW).units
    return found


def test_what_was_never_captured_is_due() -> None:
    found = due([unit("pages")], Known(), NOW)
    assert (found.units[0].why, found.units[0].at) == (Why.NEVER, None)
    assert (found.now, found.next_at) == ({"pages"}, None)


@pytest.mark.parametrize(("age_s", "why"), [(0, None), (800, None), (900, Why.AGE), (5000, Why.AGE)])
def test_a_component_is_due_when_its_newest_snapshot_is_as_old_as_its_cadence(
    age_s: float, why: Why | None
) -> None:
    assert only(unit("pages"), Known({"pages": ago(age_s)})).why is why


def test_an_rpo_that_is_shorter_than_the_cadence_counts() -> None:
    daily = unit("pages", every_s=86400, rpo_s=600)
    assert only(daily, Known({"pages": ago(600)})).why is Why.AGE
    assert only(daily, Known({"pages": ago(500)})).why is None


@pytest.mark.parametrize(("every_s", "early_s"), [(30, 3), (60, 6), (600, 60), (86400, 60)])
def test_a_timer_that_ticks_at_the_cadence_captures_at_every_tick(every_s: float, early_s: float) -> None:
    asked = unit("pages", every_s=every_s, rpo_s=10 * every_s)
    assert only(asked, Known({"pages": ago(every_s - early_s)})).why is Why.AGE
    assert only(asked, Known({"pages": ago(every_s - early_s - 1)})).why is None


def test_a_group_is_due_as_a_whole_when_its_oldest_member_is() -> None:
    group = Unit(("pages", "ledger"), 60, {"pages": 120, "ledger": 1800})
    found = due(
        [group, unit("answers")], Known({"pages": ago(2), "ledger": ago(61), "answers": ago(61)}), NOW
    )
    assert found.now == {"pages", "ledger"}


def test_a_member_that_is_new_in_a_group_makes_all_of_it_due() -> None:
    assert only(unit("pages", "ledger"), Known({"pages": ago(1)})).why is Why.NEVER


def test_a_snapshot_from_the_future_is_taken_again() -> None:
    """A clock that was a year ahead once would else keep everything from being captured for a year."""
    assert only(unit("pages"), Known({"pages": ago(-3600)})).why is Why.CLOCK
    assert only(unit("pages"), Known({"pages": ago(-2)})).why is None


def test_a_region_that_is_back_and_holds_less_than_the_rpo_allows_makes_it_due() -> None:
    newest = {"pages": ago(10)}
    assert only(unit("pages"), Known(newest, {"us": {"pages": ago(1900)}})).why is Why.COPIES
    assert only(unit("pages"), Known(newest, {"us": {}})).why is Why.COPIES
    assert only(unit("pages"), Known(newest, {"us": {"pages": ago(1700)}})).why is None


def test_no_copy_is_asked_for_where_another_region_has_it_or_none_answers() -> None:
    newest = {"pages": ago(10)}
    assert only(unit("pages"), Known(newest, {"us": {}}, elsewhere=True)).why is None
    assert only(unit("pages"), Known(newest)).why is None


def test_the_next_is_the_first_of_those_that_are_not_due() -> None:
    known = Known({"pages": ago(900), "ledger": ago(600), "answers": ago(300)})
    found = due([unit("pages"), unit("ledger"), unit("answers")], known, NOW)
    assert found.now == {"pages"}
    assert found.next_at == NOW + timedelta(seconds=300 - 60)


@given(st.floats(1, 1e6), st.floats(1, 1e6), st.floats(0, 1e7))
def test_what_is_not_due_now_is_due_at_the_moment_that_is_told(
    every_s: float, rpo_s: float, age_s: float
) -> None:
    asked, known = unit("pages", every_s=every_s, rpo_s=rpo_s), Known({"pages": ago(age_s)})
    found = due([asked], known, NOW)
    if found.next_at is not None:
        assert found.next_at > NOW
        assert due([asked], known, found.next_at).now == {"pages"}
        assert (found.next_at - known.newest["pages"]).total_seconds() <= min(every_s, rpo_s)
