"""Ctrl-C and SIGTERM at any moment: 130 or 143, one line or one document, no traceback, and nothing left over.

Every moment comes from a seed, and is placed in what the command does (``placed.py``). A process can answer for itself
only once its handlers are in place; until then Python alone decides. So events count from there.
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
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

import placed
import pytest
from placed import Place

pytestmark = pytest.mark.slow

MOMENTS = 12
REACHED = (
    0.97  # of all that an undisturbed command does: threads wait for each other now more often and now less
)
ANEW_MAX = 20  # times that a signal is placed earlier, where the command was done before
NOWHERE = Place(nth=0)
SECONDS_MAX = 50.0  # only what never ends takes as long
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@dataclass(frozen=True)
class Moment:
    """One signal: to which command, which one, and how far into all that the command does."""

    seed: int
    verb: str
    json: bool
    number: signal.Signals
    share: float

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.number.name} at {self.share:.1%} of {self.verb}, json: {self.json}"


def moments() -> Iterator[Moment]:
    """One at random in each part of all that the command does, which is 1."""
    for seed in range(MOMENTS):
        dice = random.Random(seed)
        share = (seed + dice.random()) / MOMENTS * REACHED
        verb = dice.choice(["check", "protect"])
        yield Moment(seed, verb, dice.random() < 0.5, dice.choice(list(CODES)), share)


def start(operator, *arguments: str, place: Place | None = None) -> subprocess.Popen[str]:
    command = ["-m", "refloat"]
    if place is not None:
        command = [placed.__file__, json.dumps(placed.asked(place, operator.tally))]
    process = subprocess.Popen(
        [sys.executable, *command, "-f", str(operator.manifest), *arguments],
        cwd=operator.home,
        env=operator.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    operator.started.append(process)
    return process


def events(operator, verb: str) -> int:
    """How many it has where nobody interferes."""
    process = start(operator, verb, place=NOWHERE)
    out, err = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 0, out + err
    return placed.told(operator.tally).events


def sent(operator, moment: Moment, usual: int) -> tuple[int, str, str]:
    """What became of a command that is sent a signal: its exit code, and all that it said."""
    share = moment.share
    for _ in range(ANEW_MAX):
        flags = ["--json"] if moment.json else []
        process = start(operator, *flags, moment.verb, place=Place(moment.number, nth=1 + int(share * usual)))
        out, err = process.communicate(timeout=SECONDS_MAX)
        if placed.told(operator.tally).sent_at:
            return process.returncode, out, err
        share *= REACHED
    raise AssertionError(f"{moment}: it does less each time: {out}{err}")


def test_a_signal_at_any_moment_ends_in_order(operator) -> None:  # fault 31
    operator.release(1)
    operator.here("protect")
    usual = {verb: events(operator, verb) for verb in ("check", "protect")}
    ended_early = 0
    for moment in moments():
        operator.release(10 + moment.seed)
        code, out, err = sent(operator, moment, usual[moment.verb])
        told = f"{moment}: {code}\n{out}\n{err}"
        assert "Traceback" not in err and "Exception ignored" not in err, told
        assert code in (CODES[moment.number], 0), told
        assert not operator.at_work(), told  # its scratch space is gone
        if moment.json:
            assert out.count("\n") == 1, told
            document = json.loads(out)
        if "interrupted" in out + err:
            ended_early += 1
            assert code == CODES[moment.number], told
            error = (
                document["error"] if moment.json else {"code": "interrupted", "next": err.split("next: ")[1]}
            )
            assert error["code"] == "interrupted", told
            assert error["next"].startswith(("refloat -f", "the same command again")), told
            assert moment.json or out == "", told
        else:
            assert "point" in out or "ready" in out or '"ok": true' in out, told
    assert ended_early >= MOMENTS // 2, "most of what a command does comes before its result"
    checked = operator.here("vault", "check", "--read-data")
    assert (checked["ok"], checked["damaged"]) == (True, [])


def test_nothing_large_is_loaded_before_a_signal_is_listened_for() -> None:  # fault 31
    program = "import refloat.__main__, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=SECONDS_MAX, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"typer", "rich", "pydantic", "refloat.cli", "refloat.errors"}


# ------------------------------------------------------------------------------------------ twice, and cleaning up

PROGRAM = """
import os, signal, sys, threading, time, types
from refloat.cli import system
from refloat.cli.main import main, whole

for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)  # whoever started the tests may have had it ignored

{before}

@whole().command("act")
def act():
{act}

sys.argv = ["refloat", "act", *sys.argv[1:]]
main()
"""


def played(act: str, *arguments: str, before: str = "", **more: object) -> tuple[int, str, str]:
    """A command of which this is all: its exit code, and what it said."""
    program = PROGRAM.format(before=before, act=textwrap.indent(textwrap.dedent(act), "    "))
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
        **more,
    )
    return done.returncode, done.stdout, done.stderr


CLOCK = """
now = [0.0]
system.time = types.SimpleNamespace(monotonic=lambda: now[0], sleep=time.sleep)
"""
CLEANING = """
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        now[0] += {passed_s}
        signal.raise_signal({second})
        print("clean", file=sys.stderr, flush=True)
"""
LATE_S, SOON_S = 0.6, 0.4  # after the first: longer than an echo takes, and not so long


@pytest.mark.parametrize("second", list(CODES))
@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_who_asks_twice_is_not_kept_waiting(
    second: signal.Signals, arguments: tuple[str, ...]
) -> None:  # fault 31
    cleaning = CLEANING.format(passed_s=LATE_S, second=int(second))
    code, out, err = played(cleaning, *arguments, before=CLOCK)
    assert code == 130  # what the first one said
    if arguments:
        assert json.loads(out)["error"]["code"] == "interrupted"
        assert err == ""
    else:
        assert (out, err) == ("", "error: interrupted\n  next: refloat act\n")


@pytest.mark.parametrize("second", list(CODES))
def test_a_signal_that_is_passed_on_at_once_does_not_count_twice(second: signal.Signals) -> None:  # fault 31
    code, _, err = played(CLEANING.format(passed_s=SOON_S, second=int(second)), before=CLOCK)
    assert (code, err) == (130, "clean\nerror: interrupted\n  next: refloat act\n")


def test_a_signal_that_a_finalizer_swallowed_is_not_lost() -> None:  # fault 31
    held = """
    class Held:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)
            time.sleep(0)

    held = Held()
    del held
    threading.Event().wait()
    """
    code, _, err = played(held)
    assert (code, err) == (130, "error: interrupted\n  next: refloat act\n")


@pytest.mark.parametrize("number", list(CODES))
def test_a_signal_that_a_library_made_an_error_of_is_no_defect(number: signal.Signals) -> None:  # fault 31
    # As pydantic does, where it comes while a model is made.
    making = f"""
    try:
        signal.raise_signal({int(number)})
    except KeyboardInterrupt as error:
        raise RuntimeError('Error building "default" validator') from error
    """
    code, _, err = played(making)
    assert (code, err) == (CODES[number], "error: interrupted\n  next: refloat act\n")


@pytest.mark.parametrize("number", list(CODES))
@pytest.mark.parametrize("waiting", ["sys.stdin.readline()", "threading.Event().wait()", "os.read(0, 1)"])
def test_a_signal_that_comes_just_before_a_wait_ends_it(
    number: signal.Signals, waiting: str
) -> None:  # fault 31
    # Sent to another thread it is noted and wakes nobody, as one between the last look and the wait.
    missed = f"""
    main = threading.main_thread().native_id

    def missed():
        looks = 0
        while looks < 30:  # as often as that it is found asleep, and not only until it may go on
            asleep = open(f"/proc/self/task/{{main}}/stat").read().rpartition(")")[2].split()[0] == "S"
            looks = looks + 1 if asleep else 0
            time.sleep(0.001)
        signal.pthread_kill(threading.get_ident(), {int(number)})

    threading.Thread(target=missed, daemon=True).start()
    {waiting}
    """
    ours, theirs = os.pipe()
    try:
        code, _, err = played(missed, stdin=ours)
    finally:
        os.close(ours)
        os.close(theirs)
    assert (code, err) == (CODES[number], "error: interrupted\n  next: refloat act\n")


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
        start_new_session=True,
        preexec_fn=lambda: (placed.by_default(), os.close(os.open(os.ttyname(0), os.O_RDWR))),
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
        while select.select([ours], [], [], SECONDS_MAX)[0]:
            said += os.read(ours, 4096)
    return said.decode()


@pytest.mark.parametrize(("verb", "asked"), [("init", "Name of the pipeline"), ("status", "Passphrase")])
@pytest.mark.parametrize("number", list(CODES))
def test_a_question_can_be_left(operator, verb: str, asked: str, number: signal.Signals) -> None:  # fault 31
    manifest = operator.home / "new.yaml" if verb == "init" else operator.manifest
    with at_a_terminal(operator, "-f", str(manifest), verb, asked=asked) as (process, ours):
        if number is signal.SIGINT:
            os.write(ours, b"\x03")  # what Ctrl-C types
        else:
            process.send_signal(number)
        said = read_to_the_end(ours)
        assert process.wait(timeout=SECONDS_MAX) == CODES[number], said
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
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    if redirected == ">/dev/full":
        assert "No space left on device" in done.stderr
