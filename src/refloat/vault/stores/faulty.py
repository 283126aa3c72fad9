"""A store that fails on request: every fault that a real one has been seen to have, at a chosen moment.

Operations are counted from 1 in the order in which they begin, and kept in ``trace``; so a test runs once to
learn how many there are, then once for each of them with the fault there::

    for cut in range(1, learned.operations + 1):
        store = FaultyStore(MemoryStore(), crash_at=cut, when=When.AFTER)
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from refloat.contracts import ObjectInfo, Put, Store
from refloat.errors import Missing, RefloatError, Retry, StoreError

T = TypeVar("T")

Torn = Callable[[Callable[[], object]], None]
"""Does a create and stops in its middle."""


class When(StrEnum):
    """What a failing operation did before it failed.

    ``BEFORE``: nothing. ``AFTER``: everything, but the reply was lost. ``TORN``: a create was cut in the middle;
    what that leaves is the store's own matter, see ``FaultyStore``. ``LYING``: a create says that it created and
    stored nothing.
    """

    BEFORE = "before"
    AFTER = "after"
    TORN = "torn"
    LYING = "lying"


class Crash(BaseException):
    """The process died here. Not an ``Exception``, so that no handler saves what a real death would not."""


@dataclass(frozen=True)
class Operation:
    """One operation as it was asked for; ``number`` counts from 1."""

    number: int
    op: str
    name: str

    @property
    def writes(self) -> bool:
        """Whether it changes what is stored, so that dying before it and after it differ."""
        return self.op in ("create", "delete")


class FaultyStore:
    """``inner``, with faults. The same ``seed`` and the same calls give the same faults.

    ``crash_at`` and ``fail_at`` name operations by number, ``when`` says what they did before. After a crash
    every further operation crashes too, in whichever thread: a dead process writes nothing more.
    ``latency_s`` is waited before every operation. ``at_each`` is called in the operation's own thread before
    it begins, and may let something else happen first. ``torn`` does a create and stops in its middle
    (``testing.disk.torn`` for a folder); without it nothing was done, as in a store that has no middle.
    """

    def __init__(
        self,
        inner: Store,
        *,
        seed: int = 0,
        crash_at: int | None = None,
        fail_at: int | None = None,
        when: When = When.BEFORE,
        latency_s: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
        at_each: Callable[[Operation], None] = lambda operation: None,
        torn: Torn = lambda create: None,
    ) -> None:
        self.url = inner.url
        self.trace: list[Operation] = []
        self.crashed = False
        self.down = False
        self.latency_s = latency_s
        self._inner = inner
        self._dice = random.Random(seed)
        self._sleep = sleep
        self._at_each = at_each
        self._torn = torn
        self._lock = threading.Lock()
        self._failures: dict[int, When] = {} if fail_at is None else {fail_at: when}
        self._crashes: dict[int, When] = {} if crash_at is None else {crash_at: when}
        self._served: dict[str, str] = {}

    # ------------------------------------------------------------------------------------------- the store

    def create(self, name: str, content: bytes | memoryview) -> Put:
        """As the inner store's, unless a fault is due."""
        return self._run("create", name, lambda: self._inner.create(name, content), Put.CREATED)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """As the inner store's, unless a fault is due."""
        asked = self._served.get(name, name)
        return self._run("get", name, lambda: self._inner.get(asked, start, length))

    def size(self, name: str) -> int | None:
        """As the inner store's, unless a fault is due."""
        asked = self._served.get(name, name)
        return self._run("size", name, lambda: self._inner.size(asked))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """As the inner store's, unless a fault is due."""
        return iter(self._run("list", prefix, lambda: tuple(self._inner.list(prefix))))

    def delete(self, name: str) -> None:
        """As the inner store's, unless a fault is due."""
        self._run("delete", name, lambda: self._inner.delete(name))

    # ------------------------------------------------------------------------------------------- the faults

    @property
    def operations(self) -> int:
        """How many operations have begun."""
        return len(self.trace)

    def fail(self, number: int, when: When = When.BEFORE) -> None:
        """Let operation ``number`` raise ``StoreError``; one that is ``LYING`` succeeds falsely instead."""
        self._failures[number] = when

    def crash(self, number: int, when: When = When.BEFORE) -> None:
        """Let the process die at operation ``number``."""
        self._crashes[number] = when

    def fail_next(self, when: When = When.BEFORE) -> None:
        """Let the next operation fail."""
        self.fail(self.operations + 1, when)

    def lose_reply(self, number: int) -> None:
        """Let operation ``number`` succeed and raise ``StoreError`` all the same."""
        self.fail(number, When.AFTER)

    def drop(self, name: str) -> None:
        """Lose an object that is stored."""
        self._inner.delete(name)

    def flip_bit(self, name: str, bit: int | None = None) -> int:
        """Change one bit of a stored object, one at random where none is named; the bit is returned."""
        content = bytearray(self._inner.get(name))
        chosen = self._dice.randrange(len(content) * 8) if bit is None else bit
        content[chosen // 8] ^= 1 << (chosen % 8)
        self.replace(name, bytes(content))
        return chosen

    def replace(self, name: str, content: bytes) -> None:
        """Put other bytes under a name, as no caller of a store can."""
        self._inner.delete(name)
        self._inner.create(name, content)

    def misdirect(self, name: str, other: str) -> None:
        """Serve ``other``'s bytes whenever ``name`` is asked for."""
        if self._inner.size(other) is None:
            raise Missing(f"{other} is not in {self.url}", file=other)
        self._served[name] = other

    def _run(self, op: str, name: str, action: Callable[[], T], lie: T | None = None) -> T:
        with self._lock:
            operation = Operation(len(self.trace) + 1, op, name)
            self.trace.append(operation)
        self._at_each(operation)
        if self.latency_s:
            self._sleep(self.latency_s)
        if self.crashed:
            raise Crash(operation)
        if self.down:
            raise self._error(operation)
        crash, failure = self._crashes.get(operation.number), self._failures.get(operation.number)
        if crash is not None:
            self._die(operation, crash, action)
        if failure is When.LYING and lie is not None:
            return lie
        if failure is not None:
            self._do(operation, failure, action)
            raise self._error(operation)
        return action()

    def _die(self, operation: Operation, when: When, action: Callable[[], T]) -> None:
        with contextlib.suppress(RefloatError):  # whatever the answer was, nobody is left to hear it
            self._do(operation, when, action)
        self.crashed = True
        raise Crash(operation)

    def _do(self, operation: Operation, when: When, action: Callable[[], T]) -> None:
        """As much of an operation as was done before it failed."""
        if when is When.AFTER:
            action()
        elif when is When.TORN and operation.op == "create":
            self._torn(action)

    def _error(self, operation: Operation) -> StoreError:
        return StoreError(
            f"{operation.op} of {operation.name} failed (injected, operation {operation.number})",
            file=operation.name,
            retry=Retry.LATER,
            next="try again",
        )
