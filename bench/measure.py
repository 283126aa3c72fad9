"""What every section measures with: commands under a stopwatch, in an order that favours nobody."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from report import MIB, Series

T = TypeVar("T")

COMMAND_SECONDS_MAX = 300.0  # no measured command takes this long; one that does is stuck
STOPWATCH = Path(__file__).with_name("stopwatch.py")
KEPT_FROM_ENVIRONMENT = (
    "LANG",
    "LC_ALL",
    "PYTHONPATH",
    "TMPDIR",
)  # the path: what is imported here is measured


class CommandFailed(Exception):
    """A measured command failed or was not done in time, so there is nothing to report."""


@dataclass(frozen=True)
class Setting:
    """Where a section measures, and how much.

    ``work`` is an empty folder of the section's own; ``quick`` asks for the smallest sizes and counts that
    still go through everything; ``say`` is given each stage in a sentence as it begins.
    """

    work: Path
    quick: bool
    say: Callable[[str], None]

    def rounds(self, full: int, quick: int = 2) -> int:
        """How often something is measured."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Run:
    """What one run of a command took. ``sync_s`` is how long the disk needed after it to hold everything."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    sync_s: float
    stdout: str = ""


def environment(home: Path, **more: str) -> dict[str, str]:
    """A small environment: this Python first on the path, a home of its own, and ``more``."""
    kept = {name: os.environ[name] for name in KEPT_FROM_ENVIRONMENT if name in os.environ}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**kept, "PATH": path, "HOME": str(home), **more}


def run(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    seconds_max: float = COMMAND_SECONDS_MAX,
    codes: Sequence[int] = (0,),
) -> Run:
    """Run a command under the stopwatch, with everything earlier on the disk before it starts.

    Raises ``CommandFailed`` where it does not end within ``seconds_max``, with one of the ``codes``.
    """
    os.sync()
    with tempfile.NamedTemporaryFile(prefix="stopwatch-", suffix=".json") as report:
        stdout = _watch(command, report.name, env, cwd, seconds_max, codes)
        return Run(**json.loads(Path(report.name).read_text()), stdout=stdout)


def _watch(
    command: Sequence[str],
    report: str,
    env: Mapping[str, str],
    cwd: Path,
    seconds_max: float,
    codes: Sequence[int],
) -> str:
    named = " ".join([Path(command[0]).name, *command[1:]])
    with subprocess.Popen(
        [sys.executable, "-I", "-S", str(STOPWATCH), report, *command],
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=seconds_max)
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(f"`{named}` was not done within {seconds_max:g} s") from error
        finally:
            if process.poll() is None:
                _kill_group(process.pid)
    if process.returncode not in codes:
        raise CommandFailed(f"`{named}` ended with {process.returncode}: {stderr.strip()[-2000:]}")
    return stdout


def _kill_group(leader: int) -> None:
    """End a command with everything it started that is still in its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def alternating(contenders: Sequence[T], rounds: int) -> Iterator[list[T]]:
    """The contenders in the order of each round: as given, then backwards, and so on."""
    for number in range(rounds):
        yield list(contenders) if number % 2 == 0 else list(reversed(contenders))


def walls(runs: Sequence[Run]) -> Series:
    """Seconds from start to end."""
    return Series(tuple(one.wall_s for one in runs), "s")


def milliseconds(runs: Sequence[Run]) -> Series:
    """Milliseconds from start to end."""
    return Series(tuple(one.wall_s * 1000 for one in runs), "ms")


def cpu(runs: Sequence[Run]) -> Series:
    """Seconds of processor time, of the command and of what it waited for."""
    return Series(tuple(one.cpu_s for one in runs), "s")


def peaks(runs: Sequence[Run]) -> Series:
    """The largest resident memory of the command or of anything it waited for, in MiB."""
    return Series(tuple(one.peak_bytes / MIB for one in runs), "MiB")


def to_disk(runs: Sequence[Run]) -> Series:
    """Seconds from start until the disk holds everything."""
    return Series(tuple(one.wall_s + one.sync_s for one in runs), "s")
