"""How a group becomes consistent: inspect, capture, inspect again, and only then say what it is worth.

If no identity moved between the two inspections, every member was as captured at the moment the last
capture ended, since all inspections of the second round come after all captures. A member that moved is
captured again, a bounded number of times; then what can be frozen is frozen and it is tried once more. Writers wait
meanwhile, so that is bounded, too: what is let go before its capture has ended counts as moved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread, Timer
from typing import Protocol, TypeVar

from refloat.clock import Clock
from refloat.contracts import Connector, Facts, Freezable, Op, Place, Progress, Silent, Sink, Tokened
from refloat.deadline import within
from refloat.digest import canonical_json
from refloat.errors import DeadlineExceeded, plug_in
from refloat.limits import CAPTURE_ATTEMPTS_MAX, FREEZE_SECONDS_MAX
from refloat.point import invariants
from refloat.point.model import Snapshot

T = TypeVar("T")


class StoredTree(Protocol):
    """What a finished sink says of itself."""

    @property
    def tree(self) -> str:
        """The chunk name of the root tree, in hex."""

    @property
    def files(self) -> int:
        """How many files there are."""

    @property
    def bytes(self) -> int:
        """What they hold."""

    @property
    def new_bytes(self) -> int:
        """How much of it was not stored before."""

    @property
    def stored_bytes(self) -> int:
        """What that takes in the store."""


class FinishingSink(Sink, Protocol):
    """A sink that knows when a component is complete."""

    def finish(self) -> StoredTree:
        """Store the trees and say what was stored."""


class Sinks(Protocol):
    """Where captures go: the vault's writer."""

    def sink(
        self,
        previous: str | None = None,
        heard: Callable[[int], None] = lambda size: None,
        cancelled: Event | None = None,
    ) -> FinishingSink:
        """A sink for one component; ``previous`` is the tree of its earlier snapshot.

        ``heard`` is told the bytes of each piece that comes, carried files among them. Nothing more is taken once
        ``cancelled`` is set.
        """

    def holds(self, tree: str) -> bool:
        """Whether everything below a tree that was stored earlier is still there."""


@dataclass(frozen=True)
class Member:
    """One component about to be captured."""

    name: str
    connector: Connector
    place: Place
    deadline_s: float
    parts: Mapping[str, Connector] = field(default_factory=dict)
    previous: Snapshot | None = None


@dataclass(frozen=True)
class Captured:
    """A unit as captured: snapshots, who kept moving, and the span in which each member was so."""

    snapshots: Mapping[str, Snapshot]
    moved: tuple[str, ...]
    windows: Mapping[str, tuple[float, float]]

    def facts(self) -> dict[str, Facts]:
        """The facts as captured, by component."""
        return {name: snapshot.facts for name, snapshot in self.snapshots.items()}

    def skew_s(self, members: Sequence[str]) -> float:
        """How far apart members of a group lie, in seconds."""
        return invariants.skew_s([self.windows[name] for name in members])


@dataclass(frozen=True)
class _Seen:
    """Facts as inspected, and when."""

    facts: Facts
    started: datetime
    ended: datetime


@dataclass
class _Attempt:
    """What is known of a unit while it is being captured."""

    before: Mapping[str, _Seen | None]
    after: Mapping[str, _Seen] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)

    def latest(self, name: str) -> _Seen | None:
        """The newest inspection of a member; None where it was not worth one yet."""
        return self.after.get(name) or self.before[name]

    def moved(self, name: str) -> bool:
        """Whether a member is no longer what was captured of it."""
        return self.after[name].facts.identity_digest() != self.snapshots[name].facts.identity_digest()

    def window(self, name: str) -> tuple[float, float]:
        """The span, in seconds since the epoch, in which a member was as captured.

        One whose position stood still from before its capture until after the last one was so all along;
        one that moved was so at some moment of its own capture.
        """
        snapshot, first, last = self.snapshots[name], self.before[name], self.after[name]
        started, ended = snapshot.captured_from, snapshot.captured_to
        if last.facts.position == snapshot.position:
            if first is None:
                ended = last.ended
            elif first.facts.position == snapshot.position:
                started, ended = first.started, last.ended
        return started.timestamp(), ended.timestamp()


class _Hold:
    """A freeze that is ended exactly once, by whoever comes last: the one who took it or one who gave it up."""

    def __init__(self, freeze: Callable[[], AbstractContextManager[None]]) -> None:
        self._freeze = freeze
        self._lock = Lock()
        self._frozen: AbstractContextManager[None] | None = None
        self._given_up = False
        self._thawed: Future[None] | None = None

    def take(self) -> None:
        """Freeze; may take long, and end when nobody waits any more."""
        frozen = self._freeze()
        frozen.__enter__()
        with self._lock:
            self._frozen = frozen
            late = self._given_up
        if late:
            self.let_go()

    def let_go(self) -> None:
        """Thaw what is frozen, or will be, unless somebody does already. Raises nothing: see ``give_up``."""
        thawed: Future[None] = Future()
        with self._lock:
            frozen, self._frozen, self._given_up = self._frozen, None, True
            self._thawed = self._thawed if frozen is None else thawed
        if frozen is None:
            return
        try:
            frozen.__exit__(None, None, None)
        except BaseException as error:  # noqa: BLE001 - raised where its end is waited for
            thawed.set_exception(error)
        else:
            thawed.set_result(None)

    def give_up(self) -> None:
        """The same, with its end waited for. Raises what thawing raised, whoever did it."""
        self.let_go()
        if self._thawed is not None:
            self._thawed.result()


def _unchanged(earlier: Facts, now: Facts) -> bool:
    """Whether a component is still what its earlier snapshot holds; not knowing counts as changed."""
    same = earlier.token == now.token and earlier.identity_digest() == now.identity_digest()
    return now.token is not None and same


def _unmoved(member: Member) -> Facts | None:
    """What is known of a member, where its token says that nothing changed since."""
    connector, previous = member.connector, member.previous
    if previous is None or previous.token is None or not isinstance(connector, Tokened):
        return None
    return previous.facts if connector.token(member.place) == previous.token else None


def _facts(member: Member) -> Facts:
    """What is live; as it was known where the token says that nothing changed since."""
    known = _unmoved(member)
    return inspected(member.connector, member.place) if known is None else known


def inspected(connector: Connector, place: Place) -> Facts:
    """What is live. Raises what the connector raises, and where what it found is nothing that JSON can hold."""
    return _storable(connector.inspect(place))


def _storable(facts: Facts) -> Facts:
    """The same, looked at while it is known whose defect it would be."""
    canonical_json(facts.scope())
    return facts


class Capture:
    """Captures units of members into a writer, for one protect."""

    def __init__(
        self, sinks: Sinks, clock: Clock, *, run: str, scratch: Path, progress: Progress | None = None
    ):
        self._sinks = sinks
        self._clock = clock
        self._run = run
        self._scratch = scratch
        self._progress = progress or Silent()

    def unit(self, members: Sequence[Member]) -> Captured:
        """Capture members as one consistent unit, in the order given (what points first).

        Raises ``RefloatError`` naming the component that could not be inspected or captured, whatever its connector
        raised.
        """
        attempt = _Attempt({member.name: self._look(member) for member in members})
        pending = list(members)
        for _ in range(CAPTURE_ATTEMPTS_MAX):
            pending = self._round(members, pending, attempt)
            if not pending:
                break
        moved = self._held_still(members, pending, attempt) if pending else set()
        return Captured(
            snapshots=attempt.snapshots,
            moved=tuple(member.name for member in members if member.name in moved),
            windows={member.name: attempt.window(member.name) for member in members},
        )

    def _held_still(
        self, members: Sequence[Member], pending: Sequence[Member], attempt: _Attempt
    ) -> set[str]:
        """Capture what is pending once more, with everything frozen that can be, and say what moved all the same."""
        moved = {member.name for member in pending}
        with self._frozen(members) as let_go:
            if let_go.is_set():
                return moved
            still_moving = {member.name for member in self._round(members, pending, attempt)}
            return still_moving | moved if let_go.is_set() else still_moving

    def _round(self, members: Sequence[Member], pending: Sequence[Member], attempt: _Attempt) -> list[Member]:
        """Capture what is pending, inspect every member, and say whose identity moved."""
        for member in pending:
            attempt.snapshots[member.name] = self._take(member, attempt)
        attempt.after = {member.name: self._inspect(member) for member in members}
        return [member for member in members if attempt.moved(member.name)]

    def _look(self, member: Member) -> _Seen | None:
        """What there is before the capture; None where a token tells that it is another thing than before."""
        if not isinstance(member.connector, Tokened):
            return self._inspect(member)
        started = self._clock.now()
        facts = self._within(member, "looking at", lambda: _unmoved(member))
        return None if facts is None else _Seen(facts, started, self._clock.now())

    def _inspect(self, member: Member) -> _Seen:
        started = self._clock.now()
        facts = self._within(member, "inspecting", lambda: _facts(member))
        return _Seen(facts, started, self._clock.now())

    def _take(self, member: Member, attempt: _Attempt) -> Snapshot:
        """Capture one member, or carry its earlier snapshot over when nothing changed since.

        A vault that has lost some of the earlier snapshot gets it again from the component.
        """
        seen = attempt.latest(member.name)
        previous = member.previous
        if (
            previous is None
            or seen is None
            or not _unchanged(previous.facts, seen.facts)
            or not self._sinks.holds(previous.tree)
        ):
            return self._capture(member)
        return previous.model_copy(
            update={
                "as_of": seen.started,
                "captured_from": seen.started,
                "captured_to": seen.ended,
                "carried": True,
                "new_bytes": 0,
                "stored_bytes": 0,
                "seconds": 0.0,
            }
        )

    def _capture(self, member: Member) -> Snapshot:
        previous = member.previous
        about = previous.bytes if previous else None  # as many as the last time, until there are more
        self._progress.start(member.name, about)
        cancelled = Event()
        sink = self._sinks.sink(
            previous.tree if previous else None,
            lambda size: self._progress.advance(member.name, size),
            cancelled,
        )
        op = Op(
            place=member.place,
            run=self._run,
            token=f"{self._run}-{member.name}",
            epoch=0,
            scratch=self._folder(member.name),
            deadline_s=member.deadline_s,
            cancelled=cancelled,
            parts=member.parts,
        )
        started, began = self._clock.now(), self._clock.monotonic()
        facts = self._within(
            member, "capturing", lambda: _storable(member.connector.capture(sink, op)), cancelled=op.cancelled
        )
        ended = self._clock.now()
        stored = sink.finish()
        self._progress.finish(member.name)
        return Snapshot(
            kind=member.connector.spec.kind,
            tree=stored.tree,
            identity=facts.identity,
            position=facts.position,
            token=facts.token,
            as_of=started,
            captured_from=started,
            captured_to=ended,
            files=stored.files,
            bytes=stored.bytes,
            new_bytes=stored.new_bytes,
            stored_bytes=stored.stored_bytes,
            seconds=round(self._clock.monotonic() - began, 4),
        )

    @contextmanager
    def _frozen(self, members: Sequence[Member]) -> Iterator[Event]:
        """Hold still what can be, for so long as writers can wait; the event is set where that was not long enough.

        Everything is let go whatever happens: also where it stands still only after we gave up.
        """
        let_go = Event()
        holds = {
            member.name: _Hold(partial(member.connector.freeze, member.place))
            for member in members
            if isinstance(member.connector, Freezable)
        }

        def end() -> None:
            let_go.set()
            for hold in holds.values():
                Thread(target=hold.let_go, daemon=True).start()  # each by itself, since one may hang

        ends_s = self._clock.monotonic() + FREEZE_SECONDS_MAX
        alarm = Timer(FREEZE_SECONDS_MAX, end)
        alarm.daemon = True
        alarm.start()
        with ExitStack() as thawing:
            thawing.callback(alarm.cancel)
            for member in members:
                if member.name in holds and not let_go.is_set():
                    hold = holds[member.name]
                    thawing.callback(self._within, member, "thawing", hold.give_up)
                    if not self._stands_still(member, hold, ends_s - self._clock.monotonic()):
                        let_go.set()
            yield let_go

    def _stands_still(self, member: Member, hold: _Hold, left_s: float) -> bool:
        """Freeze a member; False where there is not enough time left. Raises what freezing raises."""
        try:
            self._within(member, "freezing", hold.take, seconds_max=left_s)
        except DeadlineExceeded:
            if member.deadline_s <= left_s:
                raise
            return False
        return True

    def _folder(self, component: str) -> Path:
        folder = self._scratch / component
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _within(
        self,
        member: Member,
        doing: str,
        call: Callable[[], T],
        *,
        cancelled: Event | None = None,
        seconds_max: float = math.inf,
    ) -> T:
        what = f"{doing} {member.name}"
        with plug_in(what, component=member.name, region=member.place.region):
            return within(max(0.0, min(member.deadline_s, seconds_max)), what, call, cancelled)
