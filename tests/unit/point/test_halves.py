"""Whatever the answers, a search by halves ends at the newest point that is good."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from refloat.point.halves import UNKNOWN_IN_A_ROW_MAX, Search


def searched(search: Search, verdict) -> tuple[Search, list[int]]:
    """The search at its end, and what was tried."""
    tried = []
    while (at := search.next) is not None:
        assert at not in tried
        tried.append(at)
        search = search.after(at, verdict(at))
    return search, tried


@given(st.integers(0, 200), st.data())
def test_it_ends_at_the_last_good_one_after_as_many_trials_as_halves(count: int, data) -> None:
    first_bad = data.draw(st.integers(0, count))
    search, tried = searched(Search.over(count), lambda at: at < first_bad)
    assert (search.good, search.bad) == (first_bad - 1, first_bad)
    assert len(tried) <= count.bit_length()


@given(st.integers(1, 60), st.data())
def test_what_is_unknown_or_passed_over_is_stepped_over_and_left_in_between(count: int, data) -> None:
    first_bad = data.draw(st.integers(0, count))
    passed_over = data.draw(st.frozensets(st.integers(0, count - 1)))
    unknown = data.draw(st.frozensets(st.integers(0, count - 1)))
    search, tried = searched(
        Search.over(count, passed_over=passed_over), lambda at: None if at in unknown else at < first_bad
    )
    assert passed_over.isdisjoint(tried)
    assert search.good < first_bad <= search.bad
    if not search.given_up:
        assert set(search.between) <= unknown | passed_over
    assert search.given_up == (len(tried) >= 3 and unknown.issuperset(tried[-UNKNOWN_IN_A_ROW_MAX:]))


def test_what_a_person_knows_narrows_it() -> None:
    assert Search.over(9, good=3, bad=5).next == 4
    assert Search.over(9, good=3, bad=4).next is None
    assert list(Search.over(3).between) == [0, 1, 2] and Search.over(0).next is None


def test_a_verdict_ends_a_row_of_unknown_ones() -> None:
    search = Search.over(20)
    for verdict in (None, None, False, None, None, True, None, None):
        assert search.next is not None
        search = search.after(search.next, verdict)
        assert not search.given_up
    assert search.next is not None and search.after(search.next, None).given_up
