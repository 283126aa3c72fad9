"""A call that may not take for ever: what does not end when it is told to is abandoned, and the caller goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from refloat.errors import Cancelled, DeadlineExceeded, Retry, Unended
from refloat.limits import GRACE_S

T = TypeVar("T")


@dataclass(frozen=True)
class Watch:
    """Asked every so often while a call is waited for: whether there is still anybody who may answer it."""

    every_s: float
    may_answer: Callable[[], bool]

    def sees_end(self, ends: Callable[[float], bool], seconds: float) -> bool:
        """Whether a call ends within ``seconds``, as long as somebody may answer; ``ends`` waits for it."""
        until = time.monotonic() + seconds
        while not ends(min(self.every_s, max(0.0, until - time.monotonic()))):
            if time.monotonic() >= until or not self.may_answer():
                return ends(0)
        return True


class _Call(Generic[T]):
    """One call in a thread of its own; the thread is a daemon, so that it never holds up an exit."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self.result: list[T] = []
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.result.append(self._call())
        except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
            self.error = error

    def ends(self, seconds: float) -> bool:
        """Whether it has ended, or does so within ``seconds``."""
        self.thread.join(seconds)
        return not self.thread.is_alive()


def within(
    seconds: float,
    what: str,
    call: Callable[[], T],
    cancelled: threading.Event | None = None,
    *,
    grace_s: float = GRACE_S,
    watch: Watch | None = None,
) -> T:
    """The result of ``call``, or its error; ``DeadlineExceeded`` when it takes longer than ``seconds``.

    With a ``watch`` also as soon as that says that there is nothing to wait for.

    A call that looks at ``cancelled`` is told so then, and where somebody ends the wait, and has ``grace_s`` to end:
    then it writes nothing more to what the caller takes away. What it still returns is not taken, since it may have
    stopped half way. No thread can be ended from outside: for one that goes on all the same the error is ``Unended``.
    """
    running = _Call(call)
    running.thread.start()
    try:
        in_time = running.ends(seconds) if watch is None else watch.sees_end(running.ends, seconds)
    except KeyboardInterrupt:
        if cancelled is not None:
            cancelled.set()
            running.ends(grace_s)
        raise
    if not in_time:
        raise _overdue(seconds, what, running, cancelled, grace_s)
    if running.error is not None:
        raise running.error
    return running.result[0]


def _overdue(
    seconds: float, what: str, running: _Call[T], cancelled: threading.Event | None, grace_s: float
) -> DeadlineExceeded:
    """The error for a call that took too long, once it was told to end and had its moment for that."""
    next = "see whether the component answers, or raise its `deadline` in the manifest"
    late = f"{what} took longer than {seconds:g} s"
    if cancelled is None:
        return DeadlineExceeded(f"{late} and was abandoned", retry=Retry.LATER, next=next)
    cancelled.set()
    if running.ends(grace_s):
        return DeadlineExceeded(f"{late} and was ended", retry=Retry.LATER, next=next)
    return Unended(f"{late} and has not ended {grace_s:g} s after it was told to", next=next)


def begun(call: Callable[[], T]) -> Future[T]:
    """What becomes of ``call``, in a thread of its own, which never holds up an exit: nobody has to wait for it."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - handed to who asks for the result, whatever it is
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def require_wanted(cancelled: threading.Event, doing: str) -> None:
    """Raise ``Cancelled`` where nobody waits any more for what is being done."""
    if cancelled.is_set():
        raise Cancelled(f"{doing} was cancelled", retry=Retry.LATER)
