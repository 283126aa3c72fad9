from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from refloat.contracts import Facts
from refloat.digest import Json
from refloat.limits import FACTS_BYTES_MAX
from refloat.point import invariants
from refloat.point import language as cel
from refloat.point.model import NOT_EVALUATED, Grade, GroupRecord, Verdict

HOLDS = Verdict(must="a.x == b.x", holds=True)
FAILS = Verdict(must="a.x == b.y", holds=False)
LATE = Verdict(must="a.x == b.x", holds=None, reason=f"{NOT_EVALUATED}: it hung")
UNKNOWN = Verdict(must="a.z == 1", holds=None, reason="the fact 'z' is missing")


def grade(*verdicts: Verdict, moved: tuple[str, ...] = (), skew_s: float = 0.0) -> Grade:
    return invariants.grade(["a", "b"], verdicts, moved, skew_s, 5.0).grade


def test_a_group_is_exact_when_everything_holds_and_nothing_moved() -> None:
    assert grade(HOLDS) is Grade.EXACT
    assert grade() is Grade.EXACT


def test_a_member_that_kept_moving_makes_the_group_fuzzy() -> None:
    assert grade(HOLDS, moved=("a",)) is Grade.FUZZY


def test_members_too_far_apart_make_the_group_fuzzy() -> None:  # fault 51
    assert grade(HOLDS, skew_s=5.0) is Grade.EXACT
    assert grade(HOLDS, skew_s=5.1) is Grade.FUZZY


def test_a_group_is_unknown_where_nothing_is_against_it_but_that_it_was_not_evaluated() -> None:  # fault 62
    assert grade(HOLDS, LATE) is Grade.UNKNOWN
    assert grade(LATE, moved=("a",), skew_s=9) is Grade.UNKNOWN
    assert grade(LATE, FAILS) is Grade.BROKEN
    assert grade(LATE, UNKNOWN) is Grade.BROKEN, "what the facts cannot tell they will not tell later"
    record = invariants.grade(["a"], [LATE, FAILS], [], 0, 5)
    assert FAILS.must in record.reason and "does not hold" in record.reason


def test_an_unknown_group_is_fuzzy_at_best_when_it_is_evaluated_anew() -> None:
    unknown = invariants.grade(["a", "b"], [LATE], ["a"], 7.0, 5.0)
    assert unknown.reason == "the invariant `a.x == b.x` was not evaluated: it hung"
    anew = invariants.graded_anew(unknown, [HOLDS])
    assert (anew.grade, anew.invariants, anew.skew_s, anew.members) == (
        Grade.FUZZY,
        (HOLDS,),
        7.0,
        ("a", "b"),
    )
    assert invariants.graded_anew(unknown, [FAILS]).grade is Grade.BROKEN
    assert invariants.graded_anew(unknown, [LATE]).grade is Grade.UNKNOWN


def test_what_is_unknown_is_stored_as_broken_and_read_as_unknown() -> None:
    for verdicts in ([LATE], [HOLDS, LATE], [FAILS], [LATE, FAILS], [UNKNOWN], [HOLDS]):
        record = invariants.grade(["a"], verdicts, [], 0, 5)
        stored = record.model_dump(mode="json")
        assert stored["grade"] == ("exact" if record.grade is Grade.EXACT else "broken")
        assert GroupRecord.model_validate(stored) == record


def test_grades_are_ranked_and_two_of_them_are_taken_by_a_recovery() -> None:
    assert sorted(Grade, key=lambda known: known.rank) == [
        Grade.EXACT,
        Grade.FUZZY,
        Grade.UNKNOWN,
        Grade.BROKEN,
    ]
    assert [known for known in Grade if known.consistent] == [Grade.EXACT, Grade.FUZZY]


def test_what_does_not_hold_or_cannot_be_told_breaks_the_group() -> None:  # fault 51
    assert grade(HOLDS, FAILS) is Grade.BROKEN
    assert grade(HOLDS, UNKNOWN) is Grade.BROKEN
    assert grade(FAILS, moved=("a",), skew_s=9) is Grade.BROKEN


def test_a_broken_group_names_its_invariant() -> None:
    record = invariants.grade(["a"], [HOLDS, UNKNOWN], [], 0, 5)
    assert "a.z == 1" in record.reason and "missing" in record.reason


def test_an_expression_sees_identity_by_name_and_position_below() -> None:
    scope = invariants.scope({"log": Facts({"first": "x"}, {"records": 3})})
    assert scope == {"log": {"first": "x", "position": {"records": 3}}}


def test_facts_that_are_too_large_are_left_out() -> None:
    assert invariants.scope({"log": Facts({"text": "x" * FACTS_BYTES_MAX})}) == {}


def test_a_fact_that_the_language_cannot_hold_is_left_out_and_no_other() -> None:
    odd: dict[str, Json] = {
        "id": "\ud800",
        "kept": 1,
        "\udcff": 2,
        "ids": ["a", "\ud800"],
        "list": [{"id": "\ud800"}],
    }
    scope = invariants.scope({"log": Facts(odd, {"last": "\udcff"})})
    assert scope == {"log": {"kept": 1, "list": [{}], "position": {}}}
    assert cel.evaluate("log.kept == 1", cel.Context(variables=scope)) is True


def test_the_values_that_an_expression_names_are_shown() -> None:
    variables = invariants.scope({"a": Facts({"m": {"k": 1}, "t": ["v"]}), "b": Facts({}, {"rows": 4})})
    shown = invariants.values(
        'a.m.k == b.position.rows && a.t.exists(x, x == "a.q") && b.nothing == 1', variables
    )
    assert shown == {"a.m.k": 1, "b.position.rows": 4, "a.t": ["v"], "b.nothing": None}


def test_a_long_value_is_counted_not_shown() -> None:
    variables = invariants.scope({"a": Facts({"list": list(range(1000))})})
    assert invariants.values("a.list == 1", variables) == {"a.list": "(1000 items)"}


def test_windows_that_share_a_moment_have_no_skew() -> None:
    assert invariants.skew_s([]) == 0
    assert invariants.skew_s([(0, 10), (3, 4), (4, 8)]) == 0
    assert invariants.skew_s([(0, 2), (5, 6)]) == 3


spans = st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)).map(sorted).map(tuple)


@given(st.lists(spans, max_size=8))
def test_skew_is_zero_exactly_when_one_moment_lies_in_every_window(
    windows: list[tuple[float, float]],
) -> None:
    shared = not windows or any(all(a <= start <= b for a, b in windows) for start, _ in windows)
    assert (invariants.skew_s(windows) == 0) == shared
