"""Everything the command line says: results on stdout, progress and errors on stderr, secrets nowhere."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from refloat.errors import RefloatError
from refloat.units import format_duration, format_size

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID
    from rich.table import Table

    from refloat.contracts import Progress

SCHEMA = 1
PIPE_COLUMNS = 200  # how wide a table may be where nobody sees its edge

_STYLES = {
    **dict.fromkeys(("ok", "pass", "exact", "healthy", "reachable", "complete", "done"), "green"),
    **dict.fromkeys(("warning", "warn", "fuzzy", "unknown", "unprotected", "skipped"), "yellow"),
    **dict.fromkeys(("error", "fail", "broken", "breach", "sick", "unreachable", "failed"), "red"),
}


class Console:
    """One invocation's output. ``print`` speaks to people and ``emit`` to programs; a verb calls both."""

    def __init__(self, *, json_mode: bool = False, quiet: bool = False, color: bool = True) -> None:
        self.json_mode = json_mode
        self.quiet = quiet
        self.color = color and not os.environ.get("NO_COLOR")
        self._secrets: list[Callable[[], Iterable[str]]] = []
        self._emitted = False
        self._bars: Bars | None = None

    def hide(self, secrets: Callable[[], Iterable[str]]) -> None:
        """Never show any of ``secrets``, which is asked again for each line, since more may be learnt."""
        self._secrets.append(secrets)

    def redacted(self, text: str) -> str:
        """``text`` without secrets."""
        known = [secret for secrets in self._secrets for secret in secrets()]
        if not known:
            return text
        from refloat.manifest.resolve import redact

        return redact(text, known)

    def print(self, text: str = "") -> None:
        """A line for people on stdout; nothing in ``--json``."""
        if not self.json_mode:
            self._write(sys.stdout, self.redacted(text))

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
        """A table for people on stdout; nothing in ``--json``. Words of known meaning get their colour."""
        if not self.json_mode:
            self._write(sys.stdout, self._drawn(self._table(headers, rows, title)), end="")

    def emit(self, document: Mapping[str, object]) -> None:
        """The result as one JSON document on stdout; nothing without ``--json``."""
        if self.json_mode:
            self._emitted = True
            text = json.dumps({"schema": SCHEMA, **_without(document, self.redacted)}, allow_nan=False)
            self._write(sys.stdout, text)

    def warn(self, text: str) -> None:
        """One line on stderr that begins with ``warning:``."""
        self._write(sys.stderr, self.redacted(f"{self._styled('warning:', '33')} {text}"))

    def note(self, text: str) -> None:
        """One line on stderr, unless ``--quiet``."""
        if not self.quiet:
            self._write(sys.stderr, self.redacted(text))

    def render_error(self, error: RefloatError) -> None:
        """Say what failed: as text on stderr, or with ``--json`` as the one document on stdout."""
        document = error.document()
        if self.json_mode and not self._emitted:
            self.emit({"error": document})
            return
        lines = [f"{self._styled('error:', '1;31')} {error.message}"]
        lines += [
            f"  {place}: {document[place]}" for place in ("component", "region", "file") if document[place]
        ]
        lines += [f"  next: {error.next}"] if error.next else []
        self._write(sys.stderr, self.redacted("\n".join(lines)))

    def progress(self) -> Progress:
        """Where work reports to: bars on a terminal, lines elsewhere, nothing with ``--quiet``."""
        if self.quiet:
            from refloat.contracts import Silent

            return Silent()
        if _is_terminal(sys.stderr):
            self._bars = self._bars or Bars(self)
            return self._bars
        return Lines(self)

    def close(self) -> None:
        """Take the bars off the terminal."""
        if self._bars is not None:
            self._bars.close()

    def _styled(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.color and _is_terminal(sys.stderr) else text

    def _write(self, stream: TextIO | None, text: str, end: str = "\n") -> None:
        """File names may hold what the stream's encoding cannot; they are shown with backslashes.

        A stream that the caller closed is None, and nobody listens there.
        """
        if stream is None:
            return
        encoding = stream.encoding or "utf-8"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + end)
        stream.flush()

    def _table(self, headers: Sequence[str], rows: Iterable[Sequence[str]], title: str) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for header in headers:
            table.add_column(header)
        for row in rows:
            table.add_row(*(Text(self.redacted(cell), style=_STYLES.get(cell, "")) for cell in row))
        return table

    def _drawn(self, table: Table) -> str:
        from rich.console import Console as RichConsole

        wide = None if _is_terminal(sys.stdout) else PIPE_COLUMNS
        console = RichConsole(file=sys.stdout, width=wide, no_color=not self.color, highlight=False)
        with console.capture() as capture:
            console.print(table)
        return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _without(value: object, redacted: Callable[[str], str]) -> dict[str, object]:
    """A JSON document with every text of it redacted."""
    cleaned = _redact_json(value, redacted)
    assert isinstance(cleaned, dict)  # ``emit`` takes a mapping
    return cleaned


def _redact_json(value: object, redacted: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {str(key): _redact_json(below, redacted) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_redact_json(below, redacted) for below in value]
    return value


class Lines:
    """Progress as plain lines: one when a piece of work is over, so that a log stays short."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._begun: dict[str, tuple[float, str]] = {}
        self._amounts: dict[str, int] = {}

    def start(self, task: str, total: int | None = None, unit: str = "bytes") -> None:
        """A piece of work begins."""
        with self._lock:
            self._begun[task], self._amounts[task] = (time.monotonic(), unit), 0

    def advance(self, task: str, amount: int = 1) -> None:
        """``amount`` more of it is done."""
        with self._lock:
            self._amounts[task] = self._amounts.get(task, 0) + amount

    def finish(self, task: str, note: str = "") -> None:
        """It is over: say so, with its size and time."""
        with self._lock:
            begun, unit = self._begun.pop(task, (time.monotonic(), "bytes"))
            amount = self._amounts.pop(task, 0)
        size = [_amount(amount, unit)] if amount else []
        parts = [*size, format_duration(time.monotonic() - begun), *([note] if note else [])]
        self._console.note(f"{task}: {', '.join(parts)}")

    def say(self, text: str) -> None:
        """One line."""
        self._console.note(text)


def _amount(amount: int, unit: str) -> str:
    return format_size(amount) if unit == "bytes" else f"{amount} {unit}"


@dataclass
class _Bar:
    """One piece of work on the display."""

    id: TaskID
    unit: str
    total: int | None
    done: int = 0


class Bars:
    """Progress as bars on a terminal; the display starts with the first piece of work."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._bars: dict[str, _Bar] = {}
        self._display = _display(color=console.color)

    def start(self, task: str, total: int | None = None, unit: str = "bytes") -> None:
        """A bar appears."""
        with self._lock:
            self._display.start()
            self._bars[task] = _Bar(self._display.add_task(task, total=total, amount=""), unit, total)

    def advance(self, task: str, amount: int = 1) -> None:
        """It grows by ``amount``."""
        with self._lock:
            bar = self._bars.get(task)
            if bar is not None:
                bar.done += amount
                self._display.update(bar.id, completed=bar.done, amount=_amount(bar.done, bar.unit))

    def finish(self, task: str, note: str = "") -> None:
        """It is full, and says ``note``."""
        with self._lock:
            bar = self._bars.pop(task, None)
            if bar is not None:
                full = bar.total or bar.done or 1
                words = self._console.redacted(note) or (_amount(bar.done, bar.unit) if bar.done else "")
                self._display.update(bar.id, total=full, completed=full, amount=words)

    def say(self, text: str) -> None:
        """One line above the bars."""
        self._display.console.print(self._console.redacted(text), markup=False, highlight=False)

    def close(self) -> None:
        """Leave the bars as they are and give the terminal back."""
        self._display.stop()


def _display(*, color: bool) -> RichProgress:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=RichConsole(stderr=True, no_color=not color))
