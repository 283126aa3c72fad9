"""Groups that move while they are captured, played by a component whose every inspection is scripted."""

from __future__ import annotations

import io
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from refloat.contracts import Facts, Layer, Op, Place, Settings, Sink, Spec
from refloat.errors import ConnectorError, DeadlineExceeded
from refloat.limits import CAPTURE_ATTEMPTS_MAX, FREEZE_SECONDS_MAX
from refloat.point.capture import Capture, Captured, Member
from refloat.testing.memory_snapshot import MemorySink


class TickingClock:
    """Every look at the clock takes a second."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        self.seconds += 1
        return datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@dataclass
class Stored:
    tree: str
    files: int
    bytes: int
    new_bytes: int
    stored_bytes: int


class FinishingMemorySink(MemorySink):
    def finish(self) -> Stored:
        size = sum(len(stored) for stored in self.held.stored.values())
        return Stored("tree", len(self.held.stored), size, size, size)


class MemorySinks:
    def __init__(self) -> None:
        self.cancelled: list[object] = []

    def sink(
        self, previous: str | None = None, heard: object = None, cancelled: object = None
    ) -> FinishingMemorySink:
        self.cancelled.append(cancelled)
        return FinishingMemorySink()

    def holds(self, tree: str) -> bool:
        return True


class Scripted:
    """A component that is what ``moment`` says; captures are counted, and freezing stops its clock."""

    spec = Spec(kind="scripted", summary="", layer=Layer.DATA, settings=Settings)

    def __init__(self, moment: Callable[[int], Facts]) -> None:
        self.moment = moment
        self.asked = 0
        self.captures = 0
        self.frozen = False

    def _facts(self) -> Facts:
        if not self.frozen:
            self.asked += 1
        return self.moment(self.asked)

    def inspect(self, place: Place) -> Facts:
        return self._facts()

    def capture(self, sink: Sink, op: Op) -> Facts:
        self.captures += 1
        sink.file("content", io.BytesIO(b"content"))
        return self._facts()


class Telling(Scripted):
    """Tells its token without being asked for its facts."""

    def token(self, place: Place) -> str | None:
        return self.moment(0).token


class Freezing(Scripted):
    def freeze(self, place: Place) -> AbstractContextManager[None]:
        return Hold(self)


@dataclass
class Hold:
    """No generator, which would thaw by itself when nobody holds it any more."""

    frozen: Scripted

    def __enter__(self) -> None:
        self.frozen.frozen = True

    def __exit__(self, *_: object) -> None:
        self.frozen.frozen = False


def steady(version: int = 1) -> Callable[[int], Facts]:
    return lambda asked: Facts({"version": version}, {"rows": 5})


def capture(tmp_path: Path, *connectors: Scripted, deadline_s: float = 5) -> Captured:
    members = [
        Member(f"m{n}", connector, Place(f"m{n}", "eu", Settings()), deadline_s)  # type: ignore[arg-type]
        for n, connector in enumerate(connectors)
    ]
    return run(tmp_path, members)


def run(tmp_path: Path, members: Sequence[Member]) -> Captured:
    return Capture(MemorySinks(), TickingClock(), run="r", scratch=tmp_path).unit(members)


def test_a_unit_that_stands_still_is_captured_once(tmp_path: Path) -> None:
    first, second = Scripted(steady()), Scripted(steady())
    captured = capture(tmp_path, first, second)
    assert (first.captures, second.captures, captured.moved) == (1, 1, ())
    assert captured.skew_s(["m0", "m1"]) == 0


def test_a_member_whose_identity_moved_is_captured_again(tmp_path: Path) -> None:  # fault 51
    moving = Scripted(lambda asked: Facts({"version": 1 if asked <= 2 else 2}))
    still = Scripted(steady())
    captured = capture(tmp_path, moving, still)
    assert (moving.captures, still.captures) == (2, 1)
    assert captured.moved == ()
    assert captured.snapshots["m0"].identity == {"version": 2}


def test_who_moves_while_another_is_captured_is_captured_again(tmp_path: Path) -> None:  # fault 51
    second = Scripted(steady())
    first = Scripted(lambda asked: Facts({"version": 2 if second.captures else 1}))
    captured = capture(tmp_path, first, second)
    assert (first.captures, second.captures, captured.moved) == (2, 1, ())
    assert captured.snapshots["m0"].identity == {"version": 2}


def test_a_position_that_moves_needs_no_second_capture(tmp_path: Path) -> None:
    growing = Scripted(lambda asked: Facts({"version": 1}, {"rows": asked}))
    captured = capture(tmp_path, growing)
    assert growing.captures == 1
    assert captured.snapshots["m0"].position == {"rows": 2}


def test_two_members_that_move_lie_as_far_apart_as_their_captures(tmp_path: Path) -> None:
    growing = [Scripted(lambda asked: Facts({}, {"rows": asked})) for _ in range(2)]
    still = Scripted(steady())
    captured = capture(tmp_path, growing[0], still, growing[1])
    assert captured.skew_s(["m0", "m1"]) == 0
    assert captured.skew_s(["m0", "m2"]) > 0


def test_an_identity_that_never_rests_is_reported(tmp_path: Path) -> None:
    restless = Scripted(lambda asked: Facts({"version": asked}))
    captured = capture(tmp_path, restless, Scripted(steady()))
    assert captured.moved == ("m0",)


def test_what_never_rests_is_frozen_when_it_can_be(tmp_path: Path) -> None:
    restless = Freezing(lambda asked: Facts({"version": asked}))
    captured = capture(tmp_path, restless)
    assert captured.moved == ()
    assert not restless.frozen


def test_an_unchanged_token_carries_the_earlier_snapshot(tmp_path: Path) -> None:
    connector = Scripted(lambda asked: Facts({"version": 1}, {"rows": 5}, token="t1"))
    place = Place("m0", "eu", Settings())
    first = run(tmp_path, [Member("m0", connector, place, 5)])  # type: ignore[arg-type]
    previous = first.snapshots["m0"]
    again = run(tmp_path, [Member("m0", connector, place, 5, previous=previous)])  # type: ignore[arg-type]
    assert connector.captures == 1
    assert again.snapshots["m0"].carried
    assert again.snapshots["m0"].tree == previous.tree


def test_who_tells_the_token_is_not_inspected_while_it_stands_still(tmp_path: Path) -> None:
    place = Place("m0", "eu", Settings())
    connector = Telling(lambda asked: Facts({"version": 1}, token="t1"))
    previous = run(tmp_path, [Member("m0", connector, place, 5)]).snapshots["m0"]  # type: ignore[arg-type]
    connector.asked = 0
    again = run(tmp_path, [Member("m0", connector, place, 5, previous=previous)])  # type: ignore[arg-type]
    assert (connector.asked, again.snapshots["m0"].carried) == (0, True)
    connector.moment = lambda asked: Facts({"version": 2}, token="t2")
    moved = run(tmp_path, [Member("m0", connector, place, 5, previous=previous)])  # type: ignore[arg-type]
    assert not moved.snapshots["m0"].carried and moved.snapshots["m0"].identity == {"version": 2}


def test_one_whose_token_tells_that_it_is_new_is_looked_at_only_when_it_is_captured(tmp_path: Path) -> None:
    connector = Telling(lambda asked: Facts({"version": 1}, token="t1"))
    captured = run(tmp_path, [Member("m0", connector, Place("m0", "eu", Settings()), 5)])  # type: ignore[arg-type]
    assert (connector.captures, connector.asked, captured.moved) == (1, 2, ()), (
        "captured, and looked at once after"
    )


def test_one_that_changes_after_it_was_captured_unseen_before_is_captured_again(tmp_path: Path) -> None:
    # fault 51
    moving = Telling(lambda asked: Facts({"version": min(asked, 2)}, token=f"t{asked}"))
    captured = run(tmp_path, [Member("m0", moving, Place("m0", "eu", Settings()), 5)])  # type: ignore[arg-type]
    assert (moving.captures, captured.moved) == (2, ())
    assert captured.snapshots["m0"].identity == {"version": 2}


@pytest.mark.parametrize(
    "now",
    [Facts({"version": 1}, token="t2"), Facts({"version": 2}, token="t1"), Facts({"version": 1}, token=None)],
)
def test_anything_else_is_captured_again(tmp_path: Path, now: Facts) -> None:
    earlier = Scripted(lambda asked: Facts({"version": 1}, token="t1"))
    place = Place("m0", "eu", Settings())
    previous = run(tmp_path, [Member("m0", earlier, place, 5)]).snapshots["m0"]  # type: ignore[arg-type]
    connector = Scripted(lambda asked: now)
    captured = run(tmp_path, [Member("m0", connector, place, 5, previous=previous)])  # type: ignore[arg-type]
    assert connector.captures == 1
    assert not captured.snapshots["m0"].carried


def test_a_component_that_is_down_is_named(tmp_path: Path) -> None:  # fault 39
    def down(asked: int) -> Facts:
        raise ConnectorError("it does not answer")

    with pytest.raises(ConnectorError) as error:
        capture(tmp_path, Scripted(steady()), Scripted(down))
    assert (error.value.component, error.value.region) == ("m1", "eu")


def test_a_component_that_hangs_is_abandoned_at_its_deadline(tmp_path: Path) -> None:  # fault 40
    release = threading.Event()

    def hang(asked: int) -> Facts:
        release.wait(20)
        return Facts()

    with pytest.raises(DeadlineExceeded) as error:
        capture(tmp_path, Scripted(hang), deadline_s=0.2)
    release.set()
    assert error.value.component == "m0"


def test_what_a_capture_still_gives_after_it_was_given_up_is_not_taken(tmp_path: Path) -> None:
    sinks, told = MemorySinks(), []

    class Late(Scripted):
        def capture(self, sink: Sink, op: Op) -> Facts:
            assert op.cancelled.wait(20)
            told.append(op.cancelled)
            return super().capture(sink, op)

    member = Member("m0", Late(steady()), Place("m0", "eu", Settings()), 0.2)  # type: ignore[arg-type]
    with pytest.raises(DeadlineExceeded):
        Capture(sinks, TickingClock(), run="r", scratch=tmp_path).unit([member])
    assert told == sinks.cancelled, "the sink looks at the very event that ends the capture"


@pytest.mark.parametrize("fails", ["by raising", "by hanging"])
def test_what_was_frozen_is_thawed_when_the_capture_fails(tmp_path: Path, fails: str) -> None:  # fault 40
    release = threading.Event()

    class FailsFrozen(Freezing):
        def capture(self, sink: Sink, op: Op) -> Facts:
            if self.frozen:
                if fails == "by raising":
                    raise ConnectorError("it does not answer")
                release.wait(20)
            return super().capture(sink, op)

    restless = FailsFrozen(lambda asked: Facts({"version": asked}))
    with pytest.raises(ConnectorError) as error:
        capture(tmp_path, restless, deadline_s=0.3)
    assert (restless.frozen, error.value.component) == (False, "m0")
    release.set()


@pytest.mark.parametrize("hangs", ["freezing", "thawing"])
def test_a_freeze_that_hangs_is_given_up_and_ends_with_nothing_frozen(
    tmp_path: Path, hangs: str
) -> None:  # fault 40
    release, ended = threading.Event(), threading.Event()

    class Slow(Scripted):
        @contextmanager
        def freeze(self, place: Place) -> Iterator[None]:
            if hangs == "freezing":
                release.wait(20)
            self.frozen = True
            yield
            if hangs == "thawing":
                release.wait(20)
            self.frozen = False
            ended.set()

    slow, other = Slow(lambda asked: Facts({"version": asked})), Freezing(steady())
    with pytest.raises(DeadlineExceeded, match=f"{hangs} m0") as error:
        capture(tmp_path, slow, other, deadline_s=0.3)
    assert (error.value.component, other.frozen) == ("m0", False)
    release.set()
    assert ended.wait(20)
    assert not slow.frozen


def test_what_cannot_be_frozen_is_named(tmp_path: Path) -> None:
    class Locked(Scripted):
        @contextmanager
        def freeze(self, place: Place) -> Iterator[None]:
            raise ConnectorError("another program holds the lock")
            yield

    with pytest.raises(ConnectorError) as error:
        capture(tmp_path, Locked(lambda asked: Facts({"version": asked})))
    assert error.value.component == "m0"


class ByHand:
    """A timer that goes off when the test says so."""

    made: list[ByHand]
    daemon = False

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self.seconds, self.call, self.cancelled = seconds, call, False
        self.made.append(self)

    def start(self) -> None:
        """Nothing goes by itself."""

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> list[ByHand]:
    monkeypatch.setattr(ByHand, "made", [], raising=False)
    monkeypatch.setattr("refloat.point.capture.Timer", ByHand)
    return ByHand.made


class Held(Scripted):
    """Counts how often it is thawed; whoever writes waits for that."""

    def __init__(self, moment: Callable[[int], Facts]) -> None:
        super().__init__(moment)
        self.thaws = 0
        self.thawed = threading.Event()
        self.while_frozen: Callable[[], None] = lambda: None

    @contextmanager
    def freeze(self, place: Place) -> Iterator[None]:
        self.frozen = True
        yield
        self.thaws += 1
        self.thawed.set()

    def capture(self, sink: Sink, op: Op) -> Facts:
        if self.frozen:
            self.while_frozen()
        return super().capture(sink, op)


def test_a_capture_that_takes_longer_than_writers_can_wait_lets_them_go_and_counts_as_moved(
    tmp_path: Path, timers: list[ByHand]
) -> None:  # fault 40
    """It stood still all the same, as far as anybody saw; nobody held it."""
    restless, other = Held(lambda asked: Facts({"version": asked})), Held(steady())

    def outlast() -> None:
        (timer,) = timers
        assert timer.seconds == FREEZE_SECONDS_MAX
        timer.call()
        assert restless.thawed.wait(60) and other.thawed.wait(60), (
            "writers are let go while the capture goes on"
        )

    restless.while_frozen = outlast
    captured = capture(tmp_path, restless, other, deadline_s=60)
    assert captured.moved == ("m0",)
    assert (restless.thaws, other.thaws) == (1, 1)


def test_a_capture_that_ends_in_time_is_exact_and_its_timer_is_over(
    tmp_path: Path, timers: list[ByHand]
) -> None:
    restless = Held(lambda asked: Facts({"version": asked}))
    assert capture(tmp_path, restless).moved == ()
    assert (restless.thaws, [timer.cancelled for timer in timers]) == (1, [True])


def test_what_does_not_stand_still_before_writers_have_waited_long_enough_is_let_go(
    tmp_path: Path, timers: list[ByHand], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own deadline would be longer. No capture is begun that would not be held."""
    monkeypatch.setattr("refloat.point.capture.FREEZE_SECONDS_MAX", 0.1)
    release, ended = threading.Event(), threading.Event()

    class Slow(Scripted):
        @contextmanager
        def freeze(self, place: Place) -> Iterator[None]:
            release.wait(60)
            self.frozen = True
            yield
            self.frozen = False
            ended.set()

    first, slow = Held(lambda asked: Facts({"version": asked})), Slow(steady())
    captured = capture(tmp_path, first, slow, deadline_s=3600)
    assert (captured.moved, first.thaws) == (("m0",), 1)
    assert first.captures == CAPTURE_ATTEMPTS_MAX
    release.set()
    assert ended.wait(60) and not slow.frozen


def test_a_thaw_that_fails_where_nobody_waits_for_it_is_still_heard(
    tmp_path: Path, timers: list[ByHand]
) -> None:
    class Stuck(Held):
        @contextmanager
        def freeze(self, place: Place) -> Iterator[None]:
            self.frozen = True
            yield
            self.thawed.set()
            raise ConnectorError("the lock would not open")

    restless = Stuck(lambda asked: Facts({"version": asked}))

    def outlast() -> None:
        timers[0].call()
        assert restless.thawed.wait(60)

    restless.while_frozen = outlast
    with pytest.raises(ConnectorError, match="would not open"):
        capture(tmp_path, restless, deadline_s=60)


DEFECTS: list[Exception] = [
    ZeroDivisionError("division by zero"),
    UnicodeEncodeError("utf-8", "x\udcff", 1, 2, "surrogates not allowed"),
    OSError(28, "No space left on device"),
    sqlite3.DatabaseError("malformed"),
]


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: type(defect).__name__)
@pytest.mark.parametrize("call", ["inspect", "token", "capture", "freeze", "thaw"])
def test_whatever_a_connector_raises_is_named_as_its_defect(
    tmp_path: Path, call: str, defect: Exception
) -> None:  # fault 39
    def raising(*_: object) -> Any:
        raise defect

    class Thawing(Hold):
        def __exit__(self, *_: object) -> None:
            raise defect

    class All(Freezing, Telling):
        """Everything that is asked of one that will not stand still."""

    connector = All(lambda asked: Facts({"version": asked}, token=f"t{asked}"))
    freeze = Thawing if call == "thaw" else Hold
    monkey = raising if call not in ("thaw",) else (lambda place: freeze(connector))
    setattr(connector, "freeze" if call == "thaw" else call, monkey)
    place = Place("m0", "eu", Settings())
    earlier = Scripted(lambda asked: Facts({"version": 1}, token="t1"))
    previous = run(tmp_path, [Member("m0", earlier, place, 60)]).snapshots["m0"]  # type: ignore[arg-type]
    with pytest.raises(ConnectorError) as error:
        run(tmp_path, [Member("m0", connector, place, 60, previous=previous)])  # type: ignore[arg-type]
    assert (error.value.component, error.value.region) == ("m0", "eu")
    assert type(defect).__name__ in error.value.message and "defect" in error.value.next_step
    assert error.value.__cause__ is defect


@pytest.mark.parametrize("facts", [Facts({"version": float("nan")}), Facts({"it": object()}), None])  # type: ignore[dict-item]
@pytest.mark.parametrize("call", ["inspect", "capture"])
def test_facts_that_are_none_are_the_connectors_defect(tmp_path: Path, call: str, facts: Facts) -> None:
    connector = Scripted(steady())
    setattr(connector, call, lambda *_: facts)
    with pytest.raises(ConnectorError, match="unexpectedly") as error:
        capture(tmp_path, connector)
    assert error.value.component == "m0"


def test_an_interrupt_is_nobodys_defect(tmp_path: Path) -> None:
    def interrupted(asked: int) -> Facts:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        capture(tmp_path, Scripted(interrupted))
