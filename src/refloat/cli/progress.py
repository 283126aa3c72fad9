"""How far long work is, with its rate and the time that is left: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING

from refloat.units import format_duration, format_size

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

RATE_AFTER_S = 1.0  # before, a rate says nothing
LINE_EVERY_S = 30.0  # in a log: often enough to see that it goes on, seldom enough to stay readable
WIDE_COLUMNS = 90  # from here on a bar has room for all that is told beside it
NARROW_COLUMNS = 60  # below, there is no room for how much of how much
BAR_COLUMNS = 30
NAME_COLUMNS = 30  # of what is worked on, where there is little room
NARROW_NAME_COLUMNS = 16


@dataclass
class Work:
    """A piece of work: how much is done of ``total`` in ``unit``, and since when, in seconds of some clock.

    A ``total`` that was exceeded was a guess, and is not known any more.
    """

    total: int | None
    unit: str
    begun_s: float
    done: int = 0

    @property
    def known(self) -> int | None:
        """The total, as far as it is one."""
        return self.total if self.total and self.done <= self.total else None

    def amount(self) -> str:
        """How much is done, in words, and of how much where that is known."""
        done = _amount(self.done, self.unit)
        return (
            f"{done} of {_amount(self.known, self.unit)}" if self.known and self.done < self.known else done
        )

    def speed(self, now_s: float) -> list[str]:
        """The rate, and where the total is known the time that is left; nothing before they can be told."""
        took_s = now_s - self.begun_s
        if took_s < RATE_AFTER_S or not self.done or not took_s:
            return []
        rate = self.done / took_s
        told = [f"{_amount(round(rate), self.unit)}/s"]
        if self.known is not None and self.done < self.known:
            told.append(f"{format_duration(ceil((self.known - self.done) / rate))} left")
        return told

    def percent(self) -> list[str]:
        """How much that is of the total, where it is known."""
        return [f"{100 * self.done // self.known}%"] if self.known else []

    def told(self, now_s: float, columns: int = WIDE_COLUMNS) -> str:
        """``42%, 2.0 GiB of 5.0 GiB, 95.0 MiB/s, 31s left``; less of it where a terminal has fewer columns."""
        share = self.percent()
        if columns >= NARROW_COLUMNS or not share:
            share = [*(share if columns >= WIDE_COLUMNS else []), self.amount()]
        return ", ".join([*share, *self.speed(now_s)])

    def summed_up(self, now_s: float) -> str:
        """What was done in all, in how long and at which rate; nothing where it was nothing to count."""
        took = format_duration(now_s - self.begun_s)
        return ", ".join([_amount(self.done, self.unit), took, *self.speed(now_s)[:1]]) if self.done else ""


def _amount(amount: int, unit: str) -> str:
    return format_size(amount) if unit == "bytes" else f"{amount} {unit}"


class Lines:
    """Progress as plain lines: one when a piece of work is over, and now and then one while it goes on."""

    def __init__(self, note: Callable[[str], None], clock_s: Callable[[], float] = time.monotonic) -> None:
        self._note = note
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._works: dict[str, Work] = {}
        self._told_s: dict[str, float] = {}

    def start(self, task: str, total: int | None = None, unit: str = "bytes") -> None:
        """A piece of work begins."""
        now_s = self._clock_s()
        with self._lock:
            self._works[task], self._told_s[task] = Work(total, unit, now_s), now_s

    def advance(self, task: str, amount: int = 1) -> None:
        """``amount`` more of it is done; say so where nothing was said for long."""
        now_s = self._clock_s()
        with self._lock:
            work = self._works.get(task)
            if work is None:
                return
            work.done += amount
            if now_s - self._told_s[task] < LINE_EVERY_S:
                return
            self._told_s[task] = now_s
            told = work.told(now_s)
        self._note(f"{task}: {told}")

    def finish(self, task: str, note: str = "") -> None:
        """It is over: say so, with its size, rate and time."""
        now_s = self._clock_s()
        with self._lock:
            work = self._works.pop(task, None) or Work(None, "bytes", now_s)
        if work.total == 0 and not work.done and not note:
            return  # there was nothing to do
        done = work.summed_up(now_s) or format_duration(now_s - work.begun_s)
        self._note(f"{task}: {done}{f', {note}' if note else ''}")

    def say(self, text: str) -> None:
        """One line."""
        self._note(text)


class Bars:
    """Progress as bars on a terminal; the display starts with the first piece of work."""

    def __init__(self, redacted: Callable[[str], str], *, color: bool) -> None:
        self._redacted = redacted
        self._lock = threading.Lock()
        self._bars: dict[str, tuple[TaskID, Work]] = {}
        self._color = color

    @cached_property
    def _display(self) -> RichProgress:
        return _display(color=self._color)  # not before it is needed: it takes a while to load

    @cached_property
    def _columns(self) -> int:
        return self._display.console.width

    def start(self, task: str, total: int | None = None, unit: str = "bytes") -> None:
        """A bar appears."""
        with self._lock:
            self._display.start()
            id = self._display.add_task(self._redacted(task), total=total, told="")
            self._bars[task] = id, Work(total, unit, time.monotonic())

    def advance(self, task: str, amount: int = 1) -> None:
        """It grows by ``amount``."""
        with self._lock:
            if task not in self._bars:
                return
            id, work = self._bars[task]
            work.done += amount
            full = max(work.total, work.done) if work.total else None
            told = work.told(time.monotonic(), columns=self._columns)
            self._display.update(id, total=full, completed=work.done, told=told)

    def finish(self, task: str, note: str = "") -> None:
        """It is full, and says ``note``; where there is nothing to say, it goes."""
        with self._lock:
            if task not in self._bars:
                return
            id, work = self._bars.pop(task)
            full = work.total or work.done or 1
            told = self._redacted(note) or work.summed_up(time.monotonic())
            self._display.update(id, total=full, completed=full, told=told, visible=bool(told))

    def say(self, text: str) -> None:
        """One line above the bars."""
        self._display.console.print(self._redacted(text), markup=False, highlight=False)

    def close(self) -> None:
        """Leave the bars of what is done, take away those of what is not, and give the terminal back."""
        with self._lock:
            if "_display" in vars(self):
                for id, _ in self._bars.values():
                    self._display.update(id, visible=False)
                self._bars.clear()
                self._display.stop()


def _display(*, color: bool) -> RichProgress:
    """A display with all that is told where the terminal is wide enough, and with what matters most elsewhere."""
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, Progress, Task, TextColumn, TimeElapsedColumn
    from rich.table import Column
    from rich.text import Text

    class Told(TextColumn):
        """What is told of it; until there is anything, how long it goes on."""

        def render(self, task: Task) -> Text:
            return Text(task.fields["told"] or format_duration(float(int(task.elapsed or 0))))

    console = RichConsole(stderr=True, no_color=not color)
    if console.width >= WIDE_COLUMNS:
        name = TextColumn("{task.description}", markup=False)
        told = TextColumn("{task.fields[told]}", markup=False)
        return Progress(name, BarColumn(BAR_COLUMNS), told, TimeElapsedColumn(), console=console)
    most = NAME_COLUMNS if console.width >= NARROW_COLUMNS else NARROW_NAME_COLUMNS
    short = Column(no_wrap=True, max_width=most, overflow="ellipsis")
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=short), Told(""), console=console
    )
