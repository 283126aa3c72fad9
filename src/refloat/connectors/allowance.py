"""What every connector call is allowed: its time, and the errors that may leave it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from refloat.contracts import Op
from refloat.deadline import require_wanted
from refloat.durable import advice
from refloat.errors import ConnectorError, DeadlineExceeded, Retry


def unlimited() -> None:
    """The ``check`` of what belongs to no operation."""


class Allowance:
    """How long one call may go on: until its deadline or until it is cancelled."""

    def __init__(self, op: Op, doing: str) -> None:
        self._op = op
        self._doing = doing
        self._ends = time.monotonic() + op.deadline_s

    @property
    def left_s(self) -> float:
        """Seconds that are left; 0 when the call should end."""
        return 0.0 if self._op.cancelled.is_set() else max(0.0, self._ends - time.monotonic())

    def check(self) -> None:
        """Raise ``DeadlineExceeded`` when the time is over, ``Cancelled`` when nobody waits any more."""
        require_wanted(self._op.cancelled, self._doing)
        if time.monotonic() >= self._ends:
            raise DeadlineExceeded(
                f"{self._doing} took longer than {self._op.deadline_s:g} s",
                retry=Retry.LATER,
                next="see why the component is slow, or raise its `deadline` in the manifest",
            )


@contextlib.contextmanager
def os_errors(doing: str, path: Path) -> Iterator[None]:
    """Turn an ``OSError`` into a ``ConnectorError`` that names the path and what may be done."""
    try:
        yield
    except OSError as error:
        retry, next = advice(error)
        raise ConnectorError(
            f"{doing} failed: {error.strerror or error}",
            file=str(error.filename or path),
            retry=retry,
            next=next,
        ) from error
