"""What the command line takes from the machine: the clock, its folders, its signals."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # mallopt(3)
MMAP_BYTES = 32 << 20  # the most that glibc takes; a chunk is smaller, a pack is not
KEPT_BYTES = 256 << 20  # of freed memory
AGAIN_S = 0.01  # until a finalizer is surely left, or a signal acted on
THREADS_END_S = 10.0  # a request to a store that answers takes less
CAPTURE_NICENESS = 15  # of 19: on a busy machine it still gets a thirtieth of a core
ECHO_S = 0.5  # a shell or a wrapper passes on to its child what the terminal has sent to both


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


class Signals:
    """What SIGINT and SIGTERM do to this process.

    The first is raised in the main thread as ``KeyboardInterrupt``, so that everything ends in order. A second
    one ends the process at once, after ``last_words``, unless it follows so soon that somebody passed the first
    one on. What is written in between must be whole: within ``held`` nothing is raised before the end.
    """

    def __init__(self) -> None:
        self.arrived: signal.Signals | None = None
        self.last_words: Callable[[], None] = lambda: None
        self.watched = False
        self._arrived_at = 0.0
        self._holding = False
        self._due = False
        self._repeated = False
        self._closed = False

    @property
    def exit_code(self) -> int | None:
        """130 or 143 when a signal arrived, else None."""
        return None if self.arrived is None else 128 + self.arrived

    def watch(self) -> None:
        """Start to listen; only the main thread may call this."""
        self.watched = True
        atexit.register(_deaf)  # the first to be registered is the last to be called
        sys.unraisablehook = self._unraisable
        seen, noted = os.pipe()
        os.set_blocking(noted, False)
        signal.set_wakeup_fd(noted, warn_on_full_buffer=False)
        threading.Thread(target=self._insist, args=(seen,), name="signals", daemon=True).start()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._arrive)

    def close(self) -> None:
        """From here on nothing is left that could end in order: a signal ends the process at once."""
        self._closed = True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is raised in here, but when it is left; a second signal ends the process all the same."""
        if self._holding or threading.current_thread() is not threading.main_thread():
            yield
            return
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
            if self._due:
                self._raise()

    def _arrive(self, number: int, frame: FrameType | None) -> None:
        repeated, self._repeated = self._repeated, False
        first, self.arrived = self.arrived is None, self.arrived or signal.Signals(number)
        if repeated and not first:
            return  # it was acted on meanwhile: nobody asked a second time
        if first:
            self._arrived_at = time.monotonic()
        if self._closed or time.monotonic() - self._arrived_at > ECHO_S:
            if not self._closed:
                self.last_words()
            os._exit(128 + self.arrived)
        if first or self._due:
            self._raise()

    def _insist(self, seen: int) -> None:
        """Send a signal to the main thread again that came just before it began to wait, and did not wake it up.

        Python only notes a signal when it comes, and acts on it between two instructions.
        """
        while number := os.read(seen, 1):
            time.sleep(AGAIN_S)
            if self.arrived is None:
                self._repeated = True
                signal.pthread_kill(threading.main_thread().ident or 0, ord(number))

    def _raise(self) -> None:
        self._due = self._holding
        if not self._holding:
            raise Terminated if self.arrived is signal.SIGTERM else KeyboardInterrupt

    def _unraisable(self, what: sys.UnraisableHookArgs) -> None:
        """Where Python cannot raise, as in a finalizer, a signal would be lost: it is sent again a little later."""
        if isinstance(what.exc_value, KeyboardInterrupt) and self.arrived is not None:
            self._due, self._arrived_at = True, time.monotonic()
            again = threading.Timer(AGAIN_S, os.kill, (os.getpid(), self.arrived))
            again.daemon = True
            again.start()
        else:
            sys.__unraisablehook__(what)


SIGNALS = Signals()
"""Those of this process. Where ``watch`` was not called, as in a program that imports refloat, it does nothing."""


def _deaf() -> None:
    """All is done and said: a signal that comes while the interpreter ends does not change what became of it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def wait_for_threads() -> None:
    """Let threads end what they are at: an interrupt may have come while they were started, before anybody knew them.

    Whoever cannot wait sends a second signal. A daemon was given up by its caller, and is not waited for; nor is
    for ever one that nobody told to end.
    """
    end = time.monotonic() + THREADS_END_S
    while time.monotonic() < end:
        left = [thread for thread in threading.enumerate() if not thread.daemon]
        left.remove(threading.main_thread())
        if not left:
            return
        try:
            left[0].join(end - time.monotonic())
        except RuntimeError:  # it is being launched
            time.sleep(AGAIN_S)


def give_way() -> None:
    """Let what serves on this machine go first: a capture has time, an answer has not.

    Nothing happens where the process is not a command's own, nor where the system knows no such thing.
    """
    if not SIGNALS.watched:
        return
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), CAPTURE_NICENESS))
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))  # it interrupts nobody when it wakes up


def leave_cores() -> None:
    """Keep every thread off half of the cores: a low priority alone does not leave the others' caches as they were.

    Of one core nothing is left. Threads and processes that are started later keep to the same cores. Nothing
    happens where the process is not a command's own, nor where the system knows no such thing.
    """
    if not SIGNALS.watched:
        return
    with suppress(OSError, AttributeError):
        cores = sorted(os.sched_getaffinity(0))
        for thread in Path("/proc/self/task").iterdir():
            with suppress(ProcessLookupError):  # it ended since
                os.sched_setaffinity(int(thread.name), cores[len(cores) // 2 :])


def keep_freed_memory() -> None:
    """Let glibc keep what is freed: chunks of megabytes come and go, and each new page costs a fault.

    All threads share one heap, since one of a thread's own is given back whenever it is empty. A capture took 60 %
    of the processor time and three quarters of the memory with it. Nothing happens where the process is not a
    command's own, nor where there is no glibc.
    """
    if not SIGNALS.watched:
        return
    import ctypes

    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_ARENA_MAX, 1)
