from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from refloat.errors import Refused, UsageError
from refloat.point.model import Grade
from refloat.point.select import Candidate, select

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


def candidate(minute: int, grade: Grade) -> Candidate:
    return Candidate(f"{minute:02d}{'ab' * 31}", START + timedelta(minutes=minute), grade)


POINTS = [candidate(1, Grade.EXACT), candidate(2, Grade.FUZZY), candidate(3, Grade.BROKEN)]


def test_the_newest_consistent_point_is_chosen_and_every_other_has_a_reason() -> None:
    choice = select(POINTS)
    assert choice.point == POINTS[1].name
    reasons = {considered.name: considered.reason for considered in choice.considered}
    assert "broken" in reasons[POINTS[2].name]
    assert "newest" in reasons[POINTS[1].name]
    assert "older" in reasons[POINTS[0].name]


def test_a_time_leaves_out_what_was_made_later() -> None:
    choice = select(POINTS, at=START + timedelta(minutes=1, seconds=30))
    assert choice.point == POINTS[0].name
    assert "after the time" in choice.considered[0].reason


def test_a_broken_point_is_refused_even_by_name() -> None:
    with pytest.raises(Refused) as refused:
        select(POINTS, point=POINTS[2].name)
    assert refused.value.rule == "group_broken"


def test_a_broken_point_is_used_by_name_when_the_glass_is_broken() -> None:
    assert select(POINTS, point="03", overrides={"group_broken"}).point == POINTS[2].name


def test_a_name_may_be_shortened_but_not_ambiguous() -> None:
    assert select(POINTS, point="02ab").point == POINTS[1].name
    with pytest.raises(UsageError, match="more than one"):
        select(POINTS, point="0")
    with pytest.raises(UsageError, match="no point here"):
        select(POINTS, point="ff")


def test_an_unknown_point_is_passed_over_refused_by_name_and_said_to_be_unknown() -> None:
    unknown = candidate(4, Grade.UNKNOWN)
    choice = select([*POINTS, unknown])
    assert choice.point == POINTS[1].name
    assert choice.passed_over == (unknown,)
    (reason,) = [each.reason for each in choice.considered if each.name == unknown.name]
    assert "unknown" in reason and "broken" not in reason
    with pytest.raises(Refused, match="graded unknown") as refused:
        select([*POINTS, unknown], point="04")
    assert refused.value.rule == "group_broken" and "do not belong" not in refused.value.message
    assert select([*POINTS, unknown], point="04", overrides={"group_broken"}).point == unknown.name
    with pytest.raises(Refused, match="graded broken or unknown"):
        select([POINTS[2], unknown])


def test_only_broken_points_is_a_refusal() -> None:
    with pytest.raises(Refused, match="every point that fits"):
        select([POINTS[2]])


def test_no_points_and_none_early_enough_are_told_apart() -> None:
    with pytest.raises(UsageError, match="holds no point"):
        select([])
    with pytest.raises(UsageError, match="before that time"):
        select(POINTS, at=START)
