"""Ctrl-C and SIGTERM at any moment: 130 or 143, one line or one document, no traceback, and nothing left over.

Every moment comes from a seed. A process can answer for itself only once its handlers are in place, a few hundredths
of a second after its start; until then Python alone decides. So moments count from there.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import random
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

EARLY_S = 0.2  # while most of the program is still being loaded
EARLY, LATER = 8, 10
SLACK = 1.1  # a little happens after the last moment that was measured
SECONDS_MAX = 60.0
TRIES_MAX = 3  # until a signal comes where it is meant to
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


def listens(process: subprocess.Popen[str]) -> bool:
    """Whether it has put a handler in the place of the default for SIGTERM (``proc(5)``, SigCgt)."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) & 1 << signal.SIGTERM - 1)
    return False


def until_it_listens(process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + SECONDS_MAX
    while not listens(process) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.001)


@dataclass(frozen=True)
class Moment:
    """One kill: of which command, by what, and when."""

    seed: int
    verb: str
    json: bool
    number: signal.Signals
    after_s: float

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.number.name} {self.after_s:.3f} s into {self.verb}, json: {self.json}"
        )


def moments(usual_s: dict[str, float]) -> Iterator[Moment]:
    for seed in range(EARLY + LATER):
        dice = random.Random(seed)
        verb = dice.choice(sorted(usual_s))
        part = (seed - EARLY + dice.random()) / LATER * usual_s[verb] * SLACK
        after_s = dice.random() * EARLY_S if seed < EARLY else part
        yield Moment(seed, verb, dice.random() < 0.5, dice.choice(list(CODES)), after_s)


def start(operator, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "refloat", "-f", str(operator.manifest), *arguments]
    process = subprocess.Popen(
        command,
        cwd=operator.home,
        env=operator.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    operator.started.append(process)
    return process


def usual_s(operator, verb: str) -> float:
    """How long it takes from when it listens until it ends, where nobody interferes."""
    process = start(operator, verb)
    until_it_listens(process)
    began_s = time.monotonic()
    out, err = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 0, out + err
    return time.monotonic() - began_s


def test_a_signal_at_any_moment_ends_in_order(operator) -> None:  # fault 31
    operator.release(1)
    operator.here("protect")
    usual = {verb: usual_s(operator, verb) for verb in ("check", "protect")}
    ended_early = 0
    for moment in moments(usual):
        operator.release(10 + moment.seed)
        flags = ["--json"] if moment.json else []
        process = start(operator, *flags, moment.verb)
        until_it_listens(process)
        time.sleep(moment.after_s)
        process.send_signal(moment.number)
        out, err = process.communicate(timeout=SECONDS_MAX)
        told = f"{moment}: {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err and "Exception ignored" not in err, told
        assert process.returncode in (CODES[moment.number], 0), told
        assert not operator.at_work(), told  # its scratch space is gone
        if moment.json:
            assert out.count("\n") == 1, told
            document = json.loads(out)
        if "interrupted" in out + err:
            ended_early += 1
            assert process.returncode == CODES[moment.number], told
            error = (
                document["error"] if moment.json else {"code": "interrupted", "next": err.split("next: ")[1]}
            )
            assert error["code"] == "interrupted", told
            assert error["next"].startswith(("refloat -f", "the same command again")), told
            assert moment.json or out == "", told
        else:
            assert "point" in out or "ready" in out or '"ok": true' in out, told
    assert ended_early >= (EARLY + LATER) // 2, "too few were interrupted before they were done"
    checked = operator.here("vault", "check", "--read-data")
    assert (checked["ok"], checked["damaged"]) == (True, [])


def test_nothing_large_is_loaded_before_a_signal_is_listened_for() -> None:  # fault 31
    program = "import refloat.__main__, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"typer", "rich", "pydantic", "refloat.cli", "refloat.errors"}


# ------------------------------------------------------------------------------------------ twice, and cleaning up

CLEANING = """
import sys, time
from refloat.cli.main import app, main

@app.command("act")
def act():
    try:
        print("waiting", file=sys.stderr, flush=True)
        time.sleep(60)
    finally:
        print("cleaning up", file=sys.stderr, flush=True)
        time.sleep({cleaning_s})
        print("clean", file=sys.stderr, flush=True)

sys.argv = ["refloat", "act", *sys.argv[1:]]
main()
"""


@contextlib.contextmanager
def cleaning(cleaning_s: float, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command that was interrupted and now cleans up."""
    program = CLEANING.format(cleaning_s=cleaning_s)
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "cleaning up\n"
        yield process
        process.kill()


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_who_asks_twice_is_not_kept_waiting(second: signal.Signals) -> None:  # fault 31
    for arguments in ((), ("--json",)):
        with cleaning(SECONDS_MAX, *arguments) as process:
            time.sleep(0.6)  # longer than an echo takes
            process.send_signal(second)
            out, err = process.communicate(timeout=5)
        assert process.returncode == 130  # what the first one said
        if arguments:
            assert json.loads(out)["error"]["code"] == "interrupted"
            assert err == ""
        else:
            assert (out, err) == ("", "error: interrupted\n  next: refloat act\n")


def test_a_signal_that_is_passed_on_at_once_does_not_count_twice() -> None:  # fault 31
    for _ in range(TRIES_MAX):  # on a busy machine one may be acted on later than an echo comes
        with cleaning(1.0) as process:
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        if err.startswith("clean"):
            break
    assert err == "clean\nerror: interrupted\n  next: refloat act\n"


def test_a_signal_that_a_finalizer_swallowed_is_not_lost() -> None:  # fault 31
    program = """
import signal, sys, time
from refloat.cli.main import app, main

class Held:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
        time.sleep(0)

@app.command("act")
def act():
    held = Held()
    del held
    time.sleep(30)

sys.argv = ["refloat", "act"]
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n  next: refloat act\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("waiting", ["sys.stdin.readline()", "threading.Event().wait()", "os.read(0, 1)"])
def test_a_signal_that_comes_just_before_a_wait_ends_it(
    number: signal.Signals, waiting: str
) -> None:  # fault 31
    # Sent to another thread it is noted and wakes nobody, as one between the last look and the wait.
    program = f"""
import os, signal, sys, threading, time
from refloat.cli.main import app, main

def missed():
    time.sleep(0.3)
    signal.pthread_kill(threading.get_ident(), {int(number)})

@app.command("act")
def act():
    threading.Thread(target=missed, daemon=True).start()
    {waiting}

sys.argv = ["refloat", "act"]
main()
"""
    command = [sys.executable, "-c", program]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        try:
            assert process.wait(timeout=SECONDS_MAX) == CODES[number]
        finally:
            process.kill()
        assert process.stderr.read() == "error: interrupted\n  next: refloat act\n"


# --------------------------------------------------------------------------------------------------- at a prompt


@contextlib.contextmanager
def at_a_terminal(operator, *arguments: str, asked: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command on a terminal of its own that waits for an answer."""
    ours, theirs = pty.openpty()
    environment = {**operator.environment(), "TERM": "xterm"}
    environment.pop("REFLOAT_KEY_FILE", None)
    command = [sys.executable, "-m", "refloat", *arguments]
    process = subprocess.Popen(
        command,
        cwd=operator.home,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=lambda: (os.setsid(), os.close(os.open(os.ttyname(0), os.O_RDWR))),
    )
    os.close(theirs)
    said = b""
    while asked.encode() not in said and select.select([ours], [], [], SECONDS_MAX)[0]:
        said += os.read(ours, 4096)
    yield process, ours
    process.kill()
    process.wait()
    os.close(ours)


def read_to_the_end(ours: int) -> str:
    said = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while select.select([ours], [], [], 10)[0]:
            said += os.read(ours, 4096)
    return said.decode()


@pytest.mark.parametrize(("verb", "asked"), [("init", "Name of the pipeline"), ("status", "Passphrase")])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_question_can_be_left(operator, verb: str, asked: str, number: signal.Signals) -> None:  # fault 31
    manifest = operator.home / "new.yaml" if verb == "init" else operator.manifest
    with at_a_terminal(operator, "-f", str(manifest), verb, asked=asked) as (process, ours):
        if number is signal.SIGINT:
            os.write(ours, b"\x03")  # what Ctrl-C types
        else:
            process.send_signal(number)
        said = read_to_the_end(ours)
        assert process.wait(timeout=20) == CODES[number], said
        assert "Traceback" not in said
        assert "error:" in said and "interrupted" in said
        with contextlib.suppress(termios.error):
            assert termios.tcgetattr(ours)[3] & termios.ECHO, "what is typed now would not be seen"
    assert not (operator.home / "new.yaml").exists()


# -------------------------------------------------------------------------------------------- nobody is listening


@pytest.mark.parametrize("arguments", [("check",), ("--json", "check"), ("--help",), ("points", "list")])
def test_a_reader_that_left_is_no_defect(operator, arguments: tuple[str, ...]) -> None:
    process = start(operator, *arguments)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    with process.stderr:
        err = process.stderr.read()
    assert process.wait(timeout=SECONDS_MAX) in (0, 1)
    assert "Traceback" not in err and "Exception ignored" not in err and "defect" not in err, err


@pytest.mark.parametrize(
    ("redirected", "code"), [(">/dev/full", 1), ("2>/dev/full", 0), (">/dev/full 2>&1", 1)]
)
def test_a_full_disk_under_the_output_is_told_where_it_can_be(operator, redirected: str, code: int) -> None:
    command = f'"{sys.executable}" -m refloat -f "{operator.manifest}" --json check {redirected}'
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=operator.home,
        env=operator.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    if redirected == ">/dev/full":
        assert "No space left on device" in done.stderr
