"""A call that takes too long is told to end, has its moment for that, and what becomes of it is said."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from refloat import deadline
from refloat.deadline import require_wanted, within
from refloat.errors import Cancelled, DeadlineExceeded, Retry, Unended

HANG_S = 20.0  # ends a test that would hang; no verdict rests on it


def test_a_call_in_time_gives_its_result_and_its_error() -> None:
    assert within(HANG_S, "asking", lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        within(HANG_S, "asking", lambda: 1 // 0)


def test_a_late_call_that_looks_has_ended_before_the_caller_goes_on() -> None:
    cancelled, ended = threading.Event(), threading.Event()

    def looks() -> str:
        assert cancelled.wait(HANG_S)
        ended.set()
        return "half of it"

    with pytest.raises(DeadlineExceeded, match="staging took longer than 0 s and was ended") as late:
        within(0, "staging", looks, cancelled, grace_s=HANG_S)
    assert ended.is_set(), "the caller would take away what it still writes to"
    assert not isinstance(late.value, Unended)
    assert late.value.retry is Retry.LATER


def test_what_a_late_call_raises_when_it_ends_is_not_what_went_wrong() -> None:
    cancelled = threading.Event()

    def looks() -> None:
        assert cancelled.wait(HANG_S)
        require_wanted(cancelled, "staging")

    with pytest.raises(DeadlineExceeded):
        within(0, "staging", looks, cancelled, grace_s=HANG_S)


def test_a_call_that_goes_on_though_it_was_told_to_end_is_said_to() -> None:
    cancelled, release = threading.Event(), threading.Event()
    with pytest.raises(Unended, match="staging took longer than 0 s and has not ended") as late:
        within(0, "staging", lambda: release.wait(HANG_S), cancelled, grace_s=0.01)
    assert cancelled.is_set()
    assert (late.value.code, late.value.retry) == ("unended", Retry.NEVER)
    release.set()


def test_a_call_that_nobody_can_tell_to_end_is_abandoned() -> None:
    release = threading.Event()
    with pytest.raises(DeadlineExceeded, match="was abandoned") as late:
        within(0, "asking", lambda: release.wait(HANG_S))
    assert not isinstance(late.value, Unended)
    release.set()


def test_on_an_interrupt_the_call_is_told_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled, ended, waits = threading.Event(), threading.Event(), []
    ends = deadline._Call.ends

    def interrupted(self: deadline._Call[None], seconds: float) -> bool:
        waits.append(seconds)
        if len(waits) == 1:
            raise KeyboardInterrupt
        return ends(self, seconds)

    def looks() -> None:
        assert cancelled.wait(HANG_S)
        ended.set()

    monkeypatch.setattr(deadline._Call, "ends", interrupted)
    with pytest.raises(KeyboardInterrupt):
        within(1, "capturing", looks, cancelled, grace_s=HANG_S)
    assert ended.is_set()
    assert waits == [1, HANG_S]


@pytest.mark.parametrize("wanted", [True, False])
def test_what_is_not_wanted_any_more_ends(wanted: bool) -> None:
    cancelled = threading.Event()
    check: Callable[[], None] = lambda: require_wanted(cancelled, "reading")  # noqa: E731
    if wanted:
        check()
        return
    cancelled.set()
    with pytest.raises(Cancelled, match="reading was cancelled") as ended:
        check()
    assert (ended.value.code, ended.value.retry) == ("cancelled", Retry.LATER)
