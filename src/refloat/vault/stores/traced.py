"""A store that says what was asked of it: for progress, tests and reports."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from refloat.contracts import ObjectInfo, Put, Store


@dataclass(frozen=True)
class Call:
    """One operation: its name, the object's, the bytes that went either way, and how long it took."""

    op: str
    name: str
    bytes: int
    seconds: float


class TracedStore:
    """The same store; every call is kept in ``calls`` and given to ``tell``. A failed call counts 0 bytes."""

    def __init__(self, inner: Store, tell: Callable[[Call], None] = lambda call: None) -> None:
        self.url = inner.url
        self.calls: list[Call] = []
        self._inner = inner
        self._tell = tell

    def create(self, name: str, content: bytes | memoryview) -> Put:
        """As the inner store's; an object that existed counts 0 bytes."""
        with self._timed("create", name) as moved:
            put = self._inner.create(name, content)
            moved.append(len(content) if put is Put.CREATED else 0)
        return put

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """As the inner store's."""
        with self._timed("get", name) as moved:
            content = self._inner.get(name, start, length)
            moved.append(len(content))
        return content

    def size(self, name: str) -> int | None:
        """As the inner store's."""
        with self._timed("size", name):
            return self._inner.size(name)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """As the inner store's; the listing is read to its end at once, so that its time is whole."""
        with self._timed("list", prefix):
            return iter(tuple(self._inner.list(prefix)))

    def delete(self, name: str) -> None:
        """As the inner store's."""
        with self._timed("delete", name):
            self._inner.delete(name)

    @contextmanager
    def _timed(self, op: str, name: str) -> Iterator[_Moved]:
        moved: _Moved = []
        start = time.monotonic()
        try:
            yield moved
        finally:
            call = Call(op, name, sum(moved), time.monotonic() - start)
            self.calls.append(call)
            self._tell(call)


_Moved = list[int]
