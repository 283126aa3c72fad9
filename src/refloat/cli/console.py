"""Everything the command line says: results on stdout, progress and errors on stderr, secrets nowhere."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from refloat.cli.progress import Bars, Lines
from refloat.cli.system import SIGNALS
from refloat.errors import RefloatError

if TYPE_CHECKING:
    from refloat.contracts import Progress

SCHEMA = 1
SHOW_CURSOR = b"\x1b[?25h\n"  # progress hides it, and whoever ends at once must give it back
COLUMNS_MIN = 40  # nothing is broken for less

_STYLES = {
    **dict.fromkeys(("ok", "pass", "exact", "healthy", "reachable", "complete", "done"), "32"),
    **dict.fromkeys(("warning", "warn", "fuzzy", "unknown", "unprotected", "skipped"), "33"),
    **dict.fromkeys(("error", "fail", "broken", "breach", "sick", "unreachable", "failed"), "31"),
}


class Console:
    """One invocation's output. ``print`` speaks to people and ``emit`` to programs; a verb calls both."""

    def __init__(
        self,
        *,
        json_mode: bool = False,
        quiet: bool = False,
        color: bool = True,
        pasteable: Callable[[str], str] = str,
    ) -> None:
        self.json_mode = json_mode
        self.pasteable = pasteable
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
            self._write(sys.stdout, _fitting(sys.stdout, self.redacted(text)))

    def verbatim(self, text: str) -> None:
        """As ``print``, for names and documents that somebody copies: a terminal alone breaks their lines."""
        if not self.json_mode:
            self._write(sys.stdout, self.redacted(text))

    def hand_on(self, text: str) -> None:
        """A whole text on stdout as it is, secrets and all: what was asked for is to be used."""
        self._write(sys.stdout, text, end="")

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
        """A table for people on stdout; nothing in ``--json``. Words of known meaning get their colour."""
        if self.json_mode:
            return
        from refloat.cli.tables import laid_out

        told = [[self.redacted(cell) for cell in row] for row in rows]
        lines = laid_out(headers, told, _columns(sys.stdout), self._in_table)
        above = [_fitting(sys.stdout, self.redacted(title))] if title else []
        self._write(sys.stdout, "\n".join([*above, "", *lines, ""]))

    def _in_table(self, part: str, cell: str) -> str:
        """A part of a table as it is written: a heading, which is of no cell, or what stands in one."""
        code = _STYLES.get(cell, "") if cell else "1"
        return (
            _styled(part, code) if code and part.strip() and self.color and _is_terminal(sys.stdout) else part
        )

    def emit(self, document: Mapping[str, object]) -> None:
        """The result as one JSON document on stdout; nothing without ``--json``."""
        if self.json_mode:
            text = json.dumps({"schema": SCHEMA, **self._told(document)}, allow_nan=False)
            with SIGNALS.held():
                self._emitted = True
                self._write(sys.stdout, text)

    def event(self, document: Mapping[str, object]) -> None:
        """One line of a stream of JSON documents on stdout."""
        told = {"schema": SCHEMA, **self._told(document)}
        self._write(sys.stdout, json.dumps(told, allow_nan=False))

    def warn(self, text: str) -> None:
        """One line on stderr that begins with ``warning:``."""
        told = self.redacted(f"{self._styled('warning:', '33')} {self.pasteable(text)}")
        self._write(sys.stderr, _fitting(sys.stderr, told))

    def note(self, text: str) -> None:
        """One line on stderr, unless ``--quiet``."""
        if not self.quiet:
            self._write(sys.stderr, _fitting(sys.stderr, self.redacted(self.pasteable(text))))

    def advise(self, text: str) -> None:
        """A line for people on stdout that says what to do next; nothing in ``--json``."""
        self.print(self.pasteable(text))

    def render_error(self, error: RefloatError) -> None:
        """Say what failed, below any bars: as text on stderr, or with ``--json`` as the one document on stdout."""
        self.close()
        document = error.document()
        if self.json_mode and not self._emitted:
            with suppress(OSError):  # it takes no more: then it is said as to a person
                self.emit({"error": document})
                return
        lines = [f"{self._styled('error:', '1;31')} {error.message}"]
        lines += [
            f"  {place}: {document[place]}" for place in ("component", "region", "file") if document[place]
        ]
        lines.append(f"  next: {self.pasteable(error.next_step)}")
        self._write(sys.stderr, _fitting(sys.stderr, self.redacted("\n".join(lines))))

    def trace(self, error: BaseException) -> None:
        """The traceback of an error on stderr, without secrets: what it quotes may hold some."""
        self._write(sys.stderr, self.redacted("".join(traceback.format_exception(error))), end="")

    def last_words(self, error: RefloatError) -> None:
        """Say what failed where the process ends at this very moment, perhaps amid a line."""
        if self._bars is not None:
            os.write(2, SHOW_CURSOR)
        if self.json_mode and not self._emitted:
            os.write(1, json.dumps({"schema": SCHEMA, "error": error.document()}).encode() + b"\n")
        else:
            os.write(2, f"error: {error.message}\n  next: {error.next_step}\n".encode("utf-8", "replace"))

    def progress(self) -> Progress:
        """Where work reports to: bars on a terminal, lines elsewhere, nothing with ``--quiet``."""
        if self.quiet:
            from refloat.contracts import Silent

            return Silent()
        if _is_terminal(sys.stderr):
            self._bars = self._bars or Bars(self.redacted, color=self.color)
            return self._bars
        return Lines(self.note)

    def close(self) -> None:
        """Take the bars off the terminal."""
        if self._bars is not None:
            self._bars.close()

    def _told(self, document: Mapping[str, object]) -> dict[str, object]:
        cleaned = _cleaned(document, self.redacted, self.pasteable)
        assert isinstance(cleaned, dict)  # a mapping was given
        return cleaned

    def _styled(self, text: str, code: str) -> str:
        return _styled(text, code) if self.color and _is_terminal(sys.stderr) else text

    def _write(self, stream: TextIO | None, text: str, end: str = "\n") -> None:
        """File names may hold what the stream's encoding cannot; they are shown with backslashes.

        A stream that the caller closed is None, and nobody listens there.
        """
        if stream is None:
            return
        encoding = stream.encoding or "utf-8"
        try:
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + end)
            stream.flush()
        except OSError:
            _abandon(stream)
            if stream is not sys.stderr:
                raise


def let_go() -> None:
    """Flush what is left, so that the interpreter finds nothing that it would complain of at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            _abandon(stream)


def _abandon(stream: TextIO) -> None:
    """Nobody reads this stream any more, or it is full: what is still to come goes nowhere."""
    with suppress(OSError, ValueError):  # a stream of a test has no descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _styled(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"


def _fitting(stream: TextIO | None, text: str) -> str:
    """``text`` as wide as the terminal, where there is one."""
    columns = _columns(stream)
    if columns is None or len(text) < COLUMNS_MIN:
        return text
    from refloat.cli.wrapping import wrapped

    return wrapped(text, columns)


def _columns(stream: TextIO | None) -> int | None:
    """How wide what a stream is shown on is; None where nobody sees its edge."""
    if not _is_terminal(stream):
        return None
    from shutil import get_terminal_size

    return max(COLUMNS_MIN, get_terminal_size().columns)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _cleaned(value: object, redacted: Callable[[str], str], pasteable: Callable[[str], str]) -> object:
    """A JSON document with every text of it redacted, and each `next` such that it can be pasted."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {
            str(key): _cleaned(
                pasteable(below) if key == "next" and isinstance(below, str) else below, redacted, pasteable
            )
            for key, below in value.items()
        }
    if isinstance(value, list | tuple):
        return [_cleaned(below, redacted, pasteable) for below in value]
    return value
