"""Evaluates invariants in a worker process, which is killed when it takes too much: what it did not say is unknown."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile
from types import TracebackType
from typing import IO, Self, TypedDict

from refloat.contracts import Facts
from refloat.digest import Json
from refloat.limits import INVARIANT_BYTES_MAX, INVARIANT_CPU_SECONDS_MAX
from refloat.point import invariants
from refloat.point import language as cel
from refloat.point.model import NOT_EVALUATED, Verdict

READY_SECONDS_MAX = (
    300.0  # of wall time until an interpreter has started, which a busy machine stretches at will
)
WALL_SECONDS_MAX = 300.0  # of one group, from then on: only what hangs or is stopped takes so long

# The library quotes the whole expression, then each error with its place and all that it would have expected.
_FIRST_ERROR = re.compile(r"ERROR: <input>:\d+:(\d+): (?:Syntax error: )?(.*?)(?: expecting \{| \| )")
_OUT_OF_MEMORY = (b"memory allocation of", b"MemoryError")  # what the library and the interpreter die with


def evaluate(expressions: Sequence[str], facts: Mapping[str, Facts]) -> list[Verdict]:
    """A verdict on each expression over the facts, by a worker of its own."""
    with Evaluator() as evaluator:
        return evaluator.evaluate(expressions, facts)


@dataclass(frozen=True)
class Bounds:
    """What a group's expressions may take together: CPU time of theirs alone, and wall time that only ends a hang."""

    cpu_seconds: float = INVARIANT_CPU_SECONDS_MAX
    wall_seconds: float = WALL_SECONDS_MAX
    ready_seconds: float = READY_SECONDS_MAX


USUAL = Bounds()


class Evaluator:
    """Evaluates the invariants of any number of groups in one worker, begun when there is something to evaluate.

    A worker that died is followed by another one for the next group; where one did not get ready none is tried again.
    It is for one thread alone, since a worker dies with the thread that began it (``prctl(2)``).
    """

    def __init__(self, bounds: Bounds = USUAL, command: Sequence[str] | None = None) -> None:
        self._bounds = bounds
        self._command = command or (sys.executable, "-m", "refloat.point.worker", str(os.getpid()))
        self._worker: _Worker | None = None
        self._never_ready: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def evaluate(self, expressions: Sequence[str], facts: Mapping[str, Facts]) -> list[Verdict]:
        """A verdict on each expression over the facts; what was not evaluated is unknown, and its reason says why."""
        if not expressions:
            return []
        variables = invariants.scope(facts)
        answers, why = self._answers(expressions, variables)
        unsaid: _Answer = {"holds": None, "reason": f"{NOT_EVALUATED}: {why}"}
        answers += [unsaid] * (len(expressions) - len(answers))
        return [
            Verdict(
                must=expression,
                holds=answer["holds"],
                values=invariants.values(expression, variables),
                reason=answer["reason"],
            )
            for expression, answer in zip(expressions, answers, strict=True)
        ]

    def _answers(
        self, expressions: Sequence[str], variables: Mapping[str, Json]
    ) -> tuple[list[_Answer], str]:
        """What the worker said, and why it said no more."""
        try:
            worker = self._ready()
        except OSError as error:
            self._never_ready = f"its process did not get ready ({error.strerror or error})"
        if self._never_ready is not None:
            return [], self._never_ready
        answers = worker.ask(expressions, variables)
        return answers, self._end() if len(answers) < len(expressions) else ""

    def _ready(self) -> _Worker:
        """The worker that waits for more, or a new one. Raises ``OSError`` where none can be had."""
        if self._worker is None or not self._worker.lives:
            self._end()
            self._worker = _Worker(self._command, self._bounds)
            if not self._worker.is_ready():
                raise OSError(self._end())
        return self._worker

    def _end(self) -> str:
        """Let go of the worker, if there is one; what it died of."""
        worker, self._worker = self._worker, None
        return "" if worker is None else worker.end()


class _Answer(TypedDict):
    """One line of the worker."""

    holds: bool | None
    reason: str


class _Worker:
    """One process and its pipes."""

    def __init__(self, command: Sequence[str], bounds: Bounds) -> None:
        """Begin it. Raises ``OSError``."""
        self._bounds = bounds
        self._late: str | None = None
        with ExitStack() as stack:
            self._errors = stack.enter_context(tempfile.TemporaryFile())
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
            )
            self._open = stack.pop_all()

    @property
    def lives(self) -> bool:
        """Whether it waits for more."""
        return self._process.poll() is None

    def is_ready(self) -> bool:
        """Whether it says so in time."""
        seconds = self._bounds.ready_seconds
        with self._killed_after(seconds, f"it did not say so within {seconds:g} s"):
            return len(self._lines(1)) == 1

    def ask(self, expressions: Sequence[str], variables: Mapping[str, Json]) -> list[_Answer]:
        """Its answers; fewer where it died."""
        asked = {
            "expressions": list(expressions),
            "scope": variables,
            "cpu_seconds": self._bounds.cpu_seconds,
        }
        seconds = self._bounds.wall_seconds
        with self._killed_after(seconds, f"its process hung, and was killed after {seconds:g} s"):
            with suppress(BrokenPipeError):  # it is gone, and how it ended says why
                self._input.write(json.dumps(asked).encode() + b"\n")
                self._input.flush()
            return [json.loads(line) for line in self._lines(len(expressions))]

    def end(self) -> str:
        """End it where it has not ended by itself, and say what of; it holds nothing that would be lost."""
        self._process.kill()
        code = self._process.wait()
        with suppress(BrokenPipeError):
            self._input.close()
        self._output.close()
        with self._open:
            self._errors.seek(0)
            return self._late or self._cause(code, self._errors.read())

    def _cause(self, code: int, errors: bytes) -> str:
        if code == -signal.SIGPROF:
            return f"the group's invariants take more than {self._bounds.cpu_seconds:g} CPU seconds"
        if any(words in errors for words in _OUT_OF_MEMORY):
            return f"it takes more than {INVARIANT_BYTES_MAX >> 20} MiB of memory"
        return f"its process was killed by {_signal(-code)}" if code < 0 else f"its process ended with {code}"

    def _lines(self, count: int) -> list[bytes]:
        """So many whole lines of it; fewer where it ends before."""
        found = (self._output.readline() for _ in range(count))
        return list(takewhile(lambda line: line.endswith(b"\n"), found))

    @contextmanager
    def _killed_after(self, seconds: float, late: str) -> Iterator[None]:
        """Whoever waits for a process that hangs reads its end, and ``late`` is why."""

        def kill() -> None:
            self._late = late
            self._process.kill()

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # of real time
        return f"signal {number}"


def syntax_error(expression: str) -> str | None:
    """What is wrong with an expression's syntax, on one line; None where nothing is."""
    try:
        cel.compile(expression)
    except ValueError as error:
        said = " ".join(str(error).split())
        found = _FIRST_ERROR.search(said)
        return f"column {found[1]}: {found[2]}" if found else said
    return None
