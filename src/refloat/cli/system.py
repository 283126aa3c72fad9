"""What the command line takes from the machine: the clock, its folders, its signals."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        """The wall time, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait for ``seconds``."""
        time.sleep(seconds)


def local_state_dir() -> Path:
    """Where this machine keeps what it could do without, whether it exists yet or not."""
    return _folder("XDG_STATE_HOME", ".local/state")


def cache_dir() -> Path:
    """Where this machine keeps what can be fetched again, whether it exists yet or not."""
    return _folder("XDG_CACHE_HOME", ".cache")


def _folder(variable: str, below_home: str) -> Path:
    """A folder of the XDG Base Directory Specification; a relative path in the variable does not count."""
    given = Path(os.environ.get(variable, ""))
    return (given if given.is_absolute() else Path.home() / below_home) / "refloat"


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived. Whatever ends in order on Ctrl-C ends in order on this."""


class Termination:
    """Turns the first SIGTERM into ``Terminated`` in the main thread; further ones change nothing."""

    def __init__(self) -> None:
        self.arrived = False

    def watch(self) -> None:
        """Start to listen; only the main thread may call this."""
        signal.signal(signal.SIGTERM, self._arrive)

    def _arrive(self, number: int, frame: FrameType | None) -> None:
        if not self.arrived:
            self.arrived = True
            raise Terminated
