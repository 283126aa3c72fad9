"""A call that may not take for ever: what hangs is abandoned, and the caller goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from refloat.errors import DeadlineExceeded, Retry

T = TypeVar("T")

LETS_GO_S = 2.0  # for a call that looks whether it is still wanted; whoever cannot wait interrupts once more


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


def within(seconds: float, what: str, call: Callable[[], T], cancelled: threading.Event | None = None) -> T:
    """The result of ``call``, or its error; ``DeadlineExceeded`` when it takes longer than ``seconds``.

    ``cancelled`` is set then, for a call that looks, and where somebody ends the wait: that call is waited for a
    moment, so that it writes nothing more to what the caller takes away. The thread itself cannot be ended from
    outside: a call that never returns leaves its thread behind, and the error says so.
    """
    running = _Call(call)
    running.thread.start()
    try:
        running.thread.join(seconds)
    except KeyboardInterrupt:
        if cancelled is not None:
            cancelled.set()
            running.thread.join(LETS_GO_S)
        raise
    if running.thread.is_alive():
        if cancelled is not None:
            cancelled.set()
        raise DeadlineExceeded(
            f"{what} took longer than {seconds:g} s and was abandoned",
            retry=Retry.LATER,
            next="see whether the component answers, or raise its `deadline` in the manifest",
        )
    if running.error is not None:
        raise running.error
    return running.result[0]
