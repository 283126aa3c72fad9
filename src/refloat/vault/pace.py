"""A rate that transfers keep to, together: so many bytes a second, however many threads ask."""

from __future__ import annotations

import threading
from collections.abc import Callable

from refloat.clock import Clock
from refloat.limits import KIB, MIB

LOOK_S = 0.5  # how long one waits before looking whether the work was given up
PIECE_S = 0.25  # what is read at a time takes about this long
PIECE_BYTES_MIN = 16 * KIB  # a request costs more than it brings below this
PIECE_BYTES_MAX = 4 * MIB


class Pace:
    """Whoever is about to move bytes takes them here first, and waits until the rate allows more.

    On average no more than ``bytes_per_s`` pass; what is moved at a time passes at once.
    """

    def __init__(self, bytes_per_s: int, clock: Clock) -> None:
        self._rate = bytes_per_s
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = clock.monotonic()

    @property
    def piece_bytes(self) -> int:
        """How much is well taken at a time."""
        return max(PIECE_BYTES_MIN, min(PIECE_BYTES_MAX, int(self._rate * PIECE_S)))

    def take(self, count: int, given_up: Callable[[], bool] = lambda: False) -> bool:
        """Wait until ``count`` more bytes may pass; False where the work was given up meanwhile."""
        with self._lock:
            due = max(self._free_at, self._clock.monotonic())
            self._free_at = due + count / self._rate
        while not given_up():
            left = due - self._clock.monotonic()
            if left <= 0:
                return True
            self._clock.sleep(min(left, LOOK_S))
        return False
