"""Sends a command a signal at a moment of its own course, told by what it does and never by a clock.

What a program does to the world raises audit events, and a hook hears each in the thread that does it, right before
it is done. ``os.write``, ``os.fsync`` and words on stdout raise none, so here they do.

    python placed.py '{"place": {...}, "tally": "..."}' --json check     # ``python -m refloat --json check``

A place is the fields of ``Place``. The file of the tally holds two numbers: how many events there were, which is
true however the process has ended, and at which of them the signal was sent, or 0.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import mmap
import os
import re
import signal
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

WORK = ("open", "os.", "exec", "import", "socket.", "sqlite3.", "stdout.", "subprocess.")
UNTOLD = ("fsync", "pwrite", "write")
TALLY = struct.Struct("qq")
INTERRUPTING = (signal.SIGINT, signal.SIGTERM)
INHERITED = (*INTERRUPTING, signal.SIGHUP, signal.SIGQUIT)


@dataclass(frozen=True)
class Place:
    """The ``nth`` event that is like ``of``, such as ``os.link .*/log/``, while so many paths match each of ``there``.

    The signal goes to the process alone, as a supervisor's does; SIGINT to all that it has started as well, as a
    terminal's does, where the process leads a group of its own.
    """

    number: signal.Signals = signal.SIGKILL
    nth: int = 1
    of: str = ""
    there: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Tally:
    """How many events there were, and at which of them the signal was sent; 0 where it never was."""

    events: int
    sent_at: int


def asked(place: Place | None, tally: Path) -> dict[str, Any]:
    """What ``play`` is asked for, as JSON holds it. The file of the tally is made anew."""
    tally.unlink(missing_ok=True)  # somebody may hold on to it yet
    tally.write_bytes(TALLY.pack(0, 0))
    return {"place": None if place is None else asdict(place), "tally": str(tally)}


def told(tally: Path) -> Tally:
    """What a command has left in the file of its tally."""
    return Tally(*TALLY.unpack(tally.read_bytes()))


def by_default() -> None:
    """Give signals their default action back: what was begun with ``nohup`` or ``&`` would ignore some."""
    for number in INHERITED:
        signal.signal(number, signal.SIG_DFL)


class Course:
    """What happens in this process from here on, and where in it the signal has its place."""

    def __init__(self, place: Place | None, tally: Path) -> None:
        self._place, self._like = place, re.compile(place.of if place else "")
        with tally.open("r+b") as file:
            self._tally = mmap.mmap(file.fileno(), TALLY.size)
        self._events, self._likes = itertools.count(1), itertools.count(1)
        self._process, self._thread = os.getpid(), threading.local()

    def hear(self, event: str, arguments: tuple[object, ...]) -> None:
        """An audit hook. What it does itself, it does not hear, nor what a process does that was forked."""
        if not event.startswith(WORK) or getattr(self._thread, "hears", False):
            return
        try:
            self._thread.hears = True
            if os.getpid() == self._process:
                self._count(event, arguments)
        finally:
            self._thread.hears = False

    def _count(self, event: str, arguments: tuple[object, ...]) -> None:
        number = next(self._events)
        struct.pack_into("q", self._tally, 0, number)
        place = self._place
        if place is None or not self._like.search(" ".join([event, *map(_word, arguments[:2])])):
            return
        if all(_are_there(path, count) for path, count in place.there) and next(self._likes) == place.nth:
            struct.pack_into("q", self._tally, struct.calcsize("q"), number)
            everybody = place.number == signal.SIGINT and os.getpgrp() == self._process
            (os.killpg if everybody else os.kill)(self._process, place.number)


def _are_there(path: str, count: int) -> bool:
    return sum(1 for _ in Path("/").glob(path.removeprefix("/"))) >= count


def _word(argument: object) -> str:
    return os.fsdecode(argument) if isinstance(argument, str | bytes | os.PathLike) else ""


class Heard(io.TextIOWrapper):
    """Stdout, whose every text is an event."""

    def write(self, text: str, /) -> int:
        """Write it, and be heard before."""
        sys.audit("stdout.write")
        return super().write(text)


def _heard(name: str) -> Callable[..., Any]:
    """A function of ``os`` that is an event."""
    as_it_is = getattr(os, name)

    def function(*arguments: Any, **more: Any) -> Any:
        sys.audit(f"os.{name}", *arguments[:1])
        return as_it_is(*arguments, **more)

    return function


def play(asked: dict[str, Any], arguments: list[str]) -> None:
    """Be the command, and hear all that it does. Never returns."""
    place = asked["place"] and Place(**asked["place"])
    course = Course(place, Path(asked["tally"]))
    from refloat.__main__ import _too_early
    from refloat.__main__ import main as command

    for name in UNTOLD:
        setattr(os, name, _heard(name))
    with contextlib.suppress(OSError):
        sys.stdout = Heard(io.FileIO(1, "w", closefd=False), encoding=sys.stdout.encoding)
    sys.argv = ["refloat", *arguments]
    for number in INTERRUPTING:  # as ``main`` does first
        signal.signal(number, _too_early)
    sys.addaudithook(course.hear)
    command()
    raise AssertionError("a command ends by SystemExit")


if __name__ == "__main__":
    by_default()
    play(json.loads(sys.argv[1]), sys.argv[2:])
