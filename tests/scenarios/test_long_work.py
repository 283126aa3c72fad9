"""Long work on a real terminal: how far it is can be seen, Ctrl-C ends it, and the same command goes on.

The terminal is a pseudo terminal whose foreground process the command is, so what it reads there is a person's Ctrl-C.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import placed
import pytest

pytestmark = pytest.mark.slow

SECONDS_MAX = 50.0  # only what never ends takes as long
SLOWLY = "80KiB"  # a second: it would take far longer than anybody needs to type Ctrl-C
CTRL_C = b"\x03"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:[0-9]+;)*(?:3|4|9|10)[0-9](?:;[0-9]+)*m")
TOLD = re.compile(r"\d+%, (?:[0-9.]+ [KM]iB of [0-9.]+ [KM]iB, )?[0-9.]+ [KM]iB/s, \d+s left")
POINTS = 7
PAGE_BYTES = 120_000


@dataclass
class Screen:
    """A terminal, the command that runs on it, and all that was drawn."""

    process: subprocess.Popen[bytes]
    descriptor: int
    drawn: str = ""
    deadline: float = field(default_factory=lambda: time.monotonic() + SECONDS_MAX)

    def read(self) -> bool:
        """Take in what was drawn meanwhile; whether more may come."""
        if not select.select([self.descriptor], [], [], 0.05)[0]:
            return self.process.poll() is None and time.monotonic() < self.deadline
        try:
            piece = os.read(self.descriptor, 65536)
        except OSError:  # the last one who had it open is gone
            return False
        self.drawn += piece.decode()
        return bool(piece)

    def until(self, pattern: re.Pattern[str]) -> str:
        """What matches first; there is an error where the command ends before."""
        while (found := pattern.search(CONTROL.sub("", self.drawn))) is None and self.read():
            pass
        assert found is not None, self.drawn
        return found[0]

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self.read():
            pass
        return self.process.wait(SECONDS_MAX)

    def lines(self) -> list[str]:
        """Every state of every line, without control codes, and without the echo of a Ctrl-C."""
        return [line.rstrip() for line in re.split(r"[\r\n]+|\^C", CONTROL.sub("", self.drawn))]


@contextlib.contextmanager
def on_terminal(operator, *arguments: str, columns: int = 100, **more: str) -> Iterator[Screen]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "refloat", "-f", str(operator.manifest), *arguments],
        cwd=operator.home,
        env={**operator.environment(), "TERM": "xterm-256color", **more},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: (
            placed.by_default(),
            fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        ),  # whose Ctrl-C it hears
    )
    operator.started.append(process)
    os.close(theirs)
    try:
        yield Screen(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.fixture(scope="module")
def ahead(operator, commands):
    """A vault of which one region has several points, and the other one; ``behind`` is a copy of that."""
    manifest = ("-f", str(operator.manifest))
    operator.release(1)
    commands.done(operator, *manifest, "protect")
    us, behind = Path(operator.vault("us")), operator.root / "behind"
    us.rename(behind)
    for number in range(POINTS):
        (operator.root / "eu" / "pages" / f"{number}.bin").write_bytes(os.urandom(PAGE_BYTES))
        assert commands.run(operator, *manifest, "protect").code == 1
    shutil.copytree(behind, us)
    return operator


def objects(operator, region: str) -> set[str]:
    vault = Path(operator.vault(region))
    return {
        str(path.relative_to(vault))
        for part in ("packs", "index")
        for path in vault.glob(f"{part}/**/*")
        if path.is_file() and not path.name.endswith("~")
    }


@pytest.mark.parametrize(
    ("columns", "color"), [(100, ""), (40, "1")], ids=["wide", "narrow and without colour"]
)
def test_a_copy_says_how_far_it_is_and_goes_on_after_ctrl_c(ahead, columns, color) -> None:  # fault 31
    shutil.rmtree(ahead.vault("us"))
    shutil.copytree(ahead.root / "behind", ahead.vault("us"))
    wanted = objects(ahead, "eu") - objects(ahead, "us")
    arguments = ("vault", "replicate", "--from", "eu", "--to", "us")
    with on_terminal(ahead, *arguments, "--limit", SLOWLY, columns=columns, NO_COLOR=color) as screen:
        screen.until(TOLD)
        os.write(screen.descriptor, CTRL_C)
        assert screen.end() == 128 + signal.SIGINT, screen.drawn
    assert "Traceback" not in screen.drawn and screen.drawn.count("\x1b[?25h") >= 1, (
        "the cursor is given back"
    )
    assert bool(COLOUR.search(screen.drawn)) is not bool(color)
    told = [line for line in screen.lines() if TOLD.search(line)]
    assert told and all(len(line) <= columns for line in told)
    assert all("copy eu to us" in line for line in told)
    left = wanted - objects(ahead, "us")
    assert left < wanted, "what was copied stays"
    (copied,) = ahead.here(*arguments)["copied"]
    points = POINTS + 1
    assert len(left) <= copied["objects"] <= len(left) + points
    assert objects(ahead, "us") >= wanted
    assert ahead.here("vault", "check", "--read-data")["ok"]


def test_a_check_that_ctrl_c_stops_does_not_read_again_what_it_has_read(ahead) -> None:  # fault 2
    eu = ("vault", "check", "--read-data", "--vault", ahead.vault("eu"))
    known = ahead.home / ".local" / "state" / "refloat" / "read"
    shutil.rmtree(known, ignore_errors=True)
    everything = ahead.refloat(*eu)["bytes_read"]
    (read,) = known.iterdir()
    last = max(Path(ahead.vault("eu")).glob("packs/*/*"), key=lambda pack: pack.stat().st_size)
    packs = len(read.read_text().splitlines())
    read.write_text(f"2026-01-01T00:00:00.000000Z {last.name}\n")  # so all others have their turn before
    last.rename(ahead.root / "held")
    os.mkfifo(last)  # where a check comes to a standstill
    with on_terminal(ahead, *eu) as screen:
        while (
            len(read.read_text().splitlines()) < 1 + packs and screen.read()
        ):  # a note, and all but the last
            pass
        os.write(screen.descriptor, CTRL_C)
        assert screen.end() == 128 + signal.SIGINT, screen.drawn
    last.unlink()
    (ahead.root / "held").rename(last)
    done = ahead.refloat(*eu)
    assert done["ok"] and done["read"]["eu"]["unread_bytes"] == 0
    before = done["read"]["eu"]["before_bytes"]
    assert done["bytes_read"] == everything - before < 2 * last.stat().st_size
    assert ahead.refloat(*eu)["bytes_read"] == everything


def test_without_a_terminal_there_are_plain_lines_and_nothing_where_it_is_to_be_quiet(ahead) -> None:
    for quiet in ([], ["--quiet"]):
        command = [sys.executable, "-m", "refloat", *quiet, "-f", str(ahead.manifest)]
        done = subprocess.run(
            [*command, "vault", "check", "--read-data"],
            cwd=ahead.home,
            env=ahead.environment(),
            capture_output=True,
            text=True,
            check=True,
            timeout=SECONDS_MAX,
        )
        assert "\x1b" not in done.stdout + done.stderr and "region eu: sound" in done.stdout
        assert bool(
            re.search(r"^check eu: [0-9.]+ [KM]iB, [0-9.]+s$", done.stderr, re.MULTILINE)
        ) is not bool(quiet)
        assert not quiet or done.stderr == ""
