"""Which points stay and why, whatever order they are told in; and what holds the forgetting of any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refloat.manifest.model import Keep
from refloat.point.model import Grade
from refloat.point.retain import (
    CLOCK_BEHIND,
    FORGETS_MOST,
    RUN_UNREADABLE,
    SOURCE_REWRITTEN,
    SOURCE_SHRANK,
    Decided,
    Listed,
    Seen,
    decide,
    objections,
)
from refloat.point.suspicion import DENSE, Part

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
LAST = Keep(last=1, daily=0, monthly=0)
DAY_S = 86400.0


def listed(slot: int, days: float, grade: Grade = Grade.EXACT) -> Listed:
    return Listed(f"{slot:02d}", slot, START + timedelta(days=days), grade)


def seen(*points: Listed, days: float = 1000) -> Seen:
    """What one region lists, every point with one component that is as large as in the others."""
    parts = {point.name: {"pages": Part(10, 1000, 1, 0)} for point in points}
    return Seen(START + timedelta(days=days), {"eu": points}, parts)


def kept(decided: Sequence[Decided]) -> dict[str, tuple[str, ...]]:
    return {one.point.name: one.reasons for one in decided if one.kept}


def rules(known: Seen, keep: Keep = LAST) -> list[str]:
    return [objection.rule for objection in objections(known, decide(known, keep, {}))]


# ------------------------------------------------------------------------------------------------ what stays


def test_the_last_ones_stay_and_one_of_each_period() -> None:
    points = [listed(n, n / 2) for n in range(8)]
    assert kept(decide(seen(*points), Keep(last=2, daily=3, monthly=2), {})) == {
        "07": ("last 1", "daily 2026-01-05", "monthly 2026-01", "newest exact", "newest consistent"),
        "06": ("last 2", "daily 2026-01-04"),
        "04": ("daily 2026-01-03",),
    }


@pytest.mark.parametrize(
    ("period", "labels"),
    [
        ("hourly", ["2026-01-31T12", "2026-01-30T12"]),
        ("daily", ["2026-01-31", "2026-01-30"]),
        ("weekly", ["2026-W05", "2026-W04"]),
        ("monthly", ["2026-01"]),
        ("yearly", ["2026"]),
    ],
)
def test_periods_are_of_the_calendar(period: str, labels: list[str]) -> None:
    points = [listed(n, n) for n in range(31)]
    keep = Keep.model_validate({"last": 1, "daily": 0, "monthly": 0, period: 2})
    reasons = [reason for found in kept(decide(seen(*points), keep, {})).values() for reason in found]
    assert [reason for reason in reasons if reason.startswith(period)] == [f"{period} {it}" for it in labels]


def test_a_broken_point_stands_for_a_period_only_where_there_is_no_other() -> None:
    points = [
        listed(0, 0, Grade.BROKEN),
        listed(1, 1.0),
        listed(2, 1.1, Grade.BROKEN),
        listed(3, 2, Grade.EXACT),
    ]
    found = kept(decide(seen(*points), Keep(last=1, daily=3, monthly=0), {}))
    assert found.keys() == {"00", "01", "03"}


def test_the_last_good_points_are_never_forgotten() -> None:  # fault 49
    points = [
        listed(0, 0),
        listed(1, 1, Grade.EXACT),
        listed(2, 2, Grade.FUZZY),
        *(listed(n, n, Grade.BROKEN) for n in range(3, 9)),
    ]
    found = kept(decide(replace(seen(*points), verified={"00"}), LAST, {}))
    assert found == {
        "08": ("last 1",),
        "02": ("newest consistent",),
        "01": ("newest exact",),
        "00": ("last verified",),
    }


def test_a_point_stays_while_a_run_names_it_or_it_cannot_be_read_or_it_is_newer_than_the_clock() -> None:
    points = [listed(0, 0), listed(1, 1), listed(2, 9), listed(3, 3), listed(4, 4)]
    known = replace(seen(*points, days=5), in_use={"00"})
    parts = {name: part for name, part in known.parts.items() if name != "01"}
    assert kept(decide(replace(known, parts=parts), LAST, {})) == {
        "00": ("named by a run that is not over",),
        "01": ("cannot be read",),
        "02": ("newer than the clock",),
        "04": ("last 1", "newest exact", "newest consistent"),
    }


def test_what_is_newer_than_the_clock_takes_no_period_from_others() -> None:  # fault 56
    points = [listed(n, n) for n in range(4)]
    forged = [listed(n, 100 + n) for n in range(4, 9)]
    found = kept(decide(seen(*points, *forged, days=4), Keep(last=1, daily=4, monthly=0), {}))
    assert {"00", "01", "02", "03"} <= found.keys()


def test_a_hold_of_a_component_keeps_the_points_that_have_it() -> None:
    points = [listed(n, n) for n in range(9)]
    known = seen(*points)
    parts = {**known.parts, "07": {"other": Part(1, 1, 0, 0)}}
    found = kept(decide(replace(known, parts=parts), LAST, {"pages": 3 * DAY_S}))
    assert found["05"] == found["06"] == ("hold of pages",)
    assert found.keys() == {"05", "06", "08"}, "and not one that lacks it, however far ahead the clock is"


def test_each_region_keeps_what_it_alone_would_and_what_others_keep() -> None:
    """A region that missed the newer points keeps the last that it has: it may be all that is left one day."""
    points = [listed(n, n) for n in range(6)]
    known = replace(seen(*points), regions={"eu": points, "us": points[:4]})
    found = kept(decide(known, Keep(last=2, daily=0, monthly=0), {}))
    assert found["03"] == ("last 1 in us", "newest exact in us", "newest consistent in us")
    assert found.keys() == {"05", "04", "03", "02"}


def test_what_is_gone_already_is_kept_by_nothing() -> None:
    points = [listed(n, n) for n in range(3)]
    known = replace(seen(*points), gone={"01"})
    assert "01" not in kept(decide(known, Keep(last=2, daily=9), {}))


# ------------------------------------------------------------------------------------------- whatever is told

LISTS = st.lists(
    st.tuples(st.floats(0, 900), st.sampled_from(Grade), st.booleans(), st.booleans()), max_size=25
).map(
    lambda rows: (
        [listed(slot, days, grade) for slot, (days, grade, _, _) in enumerate(rows)],
        [there for _, _, there, _ in rows],
        {f"{slot:02d}" for slot, row in enumerate(rows) if row[3]},
    )
)
COUNTS = st.integers(0, 4)
KEEPS = st.builds(
    Keep, last=st.integers(1, 4), hourly=COUNTS, daily=COUNTS, weekly=COUNTS, monthly=COUNTS, yearly=COUNTS
)


def world(found: tuple[list[Listed], list[bool], set[str]]) -> Seen:
    points, in_us, verified = found
    there = [point for point, also in zip(points, in_us, strict=True) if also]
    return replace(seen(*points, days=800), regions={"eu": points, "us": there}, verified=verified)


@settings(max_examples=25)
@given(LISTS, KEEPS, st.floats(0, 50), st.randoms(use_true_random=False))
def test_what_is_kept_does_not_depend_on_the_order_and_is_never_too_little(
    found: tuple[list[Listed], list[bool], set[str]], keep: Keep, hold: float, dice: object
) -> None:
    known = world(found)
    decided = decide(known, keep, {"pages": hold * DAY_S})
    mixed = {region: list(points) for region, points in known.regions.items()}
    for points in mixed.values():
        dice.shuffle(points)  # type: ignore[attr-defined]
    assert decide(replace(known, regions=mixed), keep, {"pages": hold * DAY_S}) == decided
    left = kept(decided)
    for points in known.regions.values():
        assert sum(point.name in left for point in points) >= min(keep.last, len(points))
        assert not points or points[-1].name in left, (
            "the last entry of a log is what the next capture rests on"
        )
        for grades in ({Grade.EXACT}, {Grade.EXACT, Grade.FUZZY}):
            good = [point.name for point in points if point.grade in grades]
            assert not good or good[-1] in left


@settings(max_examples=25)
@given(LISTS, KEEPS, st.floats(0, 50))
def test_forgetting_twice_changes_nothing_more(
    found: tuple[list[Listed], list[bool], set[str]], keep: Keep, hold: float
) -> None:
    known = world(found)
    left = kept(decide(known, keep, {"pages": hold * DAY_S}))
    after = {r: [point for point in points if point.name in left] for r, points in known.regions.items()}
    assert kept(decide(replace(known, regions=after), keep, {"pages": hold * DAY_S})).keys() == left.keys()


# ------------------------------------------------------------------------------------------ what speaks against


def test_a_daily_forget_meets_no_rule() -> None:
    assert rules(seen(*(listed(n, n / 100) for n in range(100)))) == []


def test_where_nothing_goes_no_rule_is_asked() -> None:
    known = replace(seen(listed(0, 9), days=1), unreadable_runs=["3f2a"])
    assert rules(known) == []


@pytest.mark.parametrize(
    "left",
    [Part(5, 1000, 1, 0), Part(10, 500, 1, 0), Part(0, 0, 0, 0), None],
    ids=["files", "bytes", "empty", "component gone"],
)
def test_a_source_that_shrank_holds_all_until_a_person_has_looked(left: Part | None) -> None:  # fault 50
    points = [listed(n, n / 100) for n in range(6)]
    known = seen(*points)
    small = {} if left is None else {"pages": left}
    known = replace(known, parts={**known.parts, "04": small, "05": small})
    assert rules(known) == [SOURCE_SHRANK], "also when the points after it are as small"
    accepted = {SOURCE_SHRANK: [point.name for point in points]}
    assert rules(replace(known, accepted=accepted)) == []
    later = replace(known, regions={"eu": [*points, listed(6, 0.06), listed(7, 0.07)]})
    again = {**known.parts, "06": {"pages": Part(10, 1000, 1, 0)}, "07": {"pages": Part(1, 10, 1, 0)}}
    assert rules(replace(later, parts=again, accepted=accepted)) == [SOURCE_SHRANK], (
        "and when it does so again"
    )


def test_a_point_of_the_future_does_not_hide_that_the_source_shrank() -> None:  # fault 50
    points = [listed(n, n / 100) for n in range(6)]
    known = seen(*points, listed(99, 900), days=1)
    parts = {**known.parts, "05": {"pages": Part(1, 10, 1, 0)}}
    assert rules(replace(known, parts=parts, accepted={CLOCK_BEHIND: ["99"]})) == [SOURCE_SHRANK]


def test_a_source_that_lost_a_little_holds_nothing() -> None:
    points = [listed(n, n / 100) for n in range(6)]
    known = seen(*points)
    assert rules(replace(known, parts={**known.parts, "05": {"pages": Part(6, 600, 1, 0)}})) == []


def test_a_source_that_looks_encrypted_holds_all() -> None:  # fault 49
    points = [listed(n, n / 100) for n in range(6)]
    known = replace(seen(*points), suspects={name: {"pages": (DENSE,)} for name in ("03", "04", "05")})
    assert rules(known) == [SOURCE_REWRITTEN]
    left = kept(decide(known, LAST, {}))
    assert left["02"] == ("newest exact", "newest consistent"), "and the last good one is kept"
    assert left["05"] == ("last 1",)


def test_most_of_the_days_at_once_are_not_forgotten() -> None:  # fault 50
    points = [listed(n, n) for n in range(20)]
    assert rules(seen(*points)) == [FORGETS_MOST]
    assert rules(seen(*points), Keep(last=1, daily=10, monthly=0)) == []


def test_a_clock_that_is_behind_forgets_nothing() -> None:  # fault 12
    points = [listed(n, n / 100) for n in range(5)]
    known = seen(*points, days=0.035)
    assert rules(known) == [CLOCK_BEHIND]
    assert rules(replace(known, accepted={CLOCK_BEHIND: ["04"]})) == []


def test_a_log_whose_times_run_back_forgets_nothing() -> None:  # fault 12
    points = [listed(0, 0), listed(1, 0.5), listed(2, 0.1), listed(3, 0.6)]
    assert rules(seen(*points)) == [CLOCK_BEHIND]
    assert rules(replace(seen(*points), accepted={CLOCK_BEHIND: ["00", "01"]})) == []
    assert rules(seen(listed(0, 0), listed(1, 0.02), listed(2, 0.01), listed(3, 0.6))) == []


def test_a_run_whose_journal_cannot_be_read_may_need_any_point() -> None:
    known = replace(seen(listed(0, 0), listed(1, 0.1)), unreadable_runs=["3f2a"])
    assert rules(known) == [RUN_UNREADABLE]
