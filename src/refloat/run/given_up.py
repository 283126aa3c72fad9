"""The calls on components that this process gave up and that have not ended: until then they may still write.

A thread cannot be ended from outside and outlives the run that began it, so this is known for the process as a
whole. It is never written down: whoever comes after this process finds what the calls left by asking the components.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class GivenUp:
    """A call that nobody waits for any more; ``ended`` is set when it is over."""

    run: str
    step: str
    component: str | None
    ended: threading.Event


_calls: list[GivenUp] = []
_lock = threading.Lock()


def remember(call: GivenUp) -> None:
    """Know of a call until it has ended."""
    with _lock:
        _calls[:] = [*_still_at_work(), call]


def at_work(run: str, component: str | None = None) -> list[str]:
    """The steps of a run whose calls have not ended; where a component is named, those that act on it."""
    with _lock:
        _calls[:] = _still_at_work()
        return [call.step for call in _calls if call.run == run and component in (None, call.component)]


def _still_at_work() -> list[GivenUp]:
    return [call for call in _calls if not call.ended.is_set()]
