"""Killed at any moment, a recovery is resumed to the same end: real processes, real signals.

``# fault 23`` and ``# fault 31`` of the fault matrix. Every moment comes from a seed, which a failure prints.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from dataclasses import dataclass
from typing import Any

import pytest

EARLY, AMID, LATE = 1, 2, 1  # kills before the first entry of the journal, in its course, after its last
JITTER_S = 0.01  # about the time between two entries
AFTERMATH_S = 0.15  # from the last entry to the end of the process


@dataclass(frozen=True)
class Undisturbed:
    """How a recovery goes that nobody kills: when its work begins, and the entries of its journal."""

    start_s: float
    entries: int


@dataclass(frozen=True)
class Moment:
    """Kill ``after_s`` after the journal has this many entries."""

    seed: int
    entries: int
    after_s: float

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.after_s * 1000:.0f} ms after entry {self.entries}"


def moments(usual: Undisturbed) -> list[Moment]:
    """Spread over the whole duration: one at random in each part of it."""
    found = []
    for seed in range(EARLY + AMID + LATE):
        dice = random.Random(seed)
        if seed < EARLY:
            found.append(Moment(seed, 0, usual.start_s * (seed + dice.random()) / EARLY))
        elif seed < EARLY + AMID:
            share = (seed - EARLY + dice.random()) / AMID
            found.append(Moment(seed, 1 + int(share * (usual.entries - 1)), dice.random() * JITTER_S))
        else:
            found.append(Moment(seed, usual.entries, dice.random() * AFTERMATH_S))
    return found


@pytest.fixture(scope="module")
def lost(operator):
    """A pipeline whose region is lost, and the means to put the other one back as it then was."""
    for version in range(2, 5):
        operator.release(version, pages=30)
    operator.here("protect")
    operator.before = operator.live("eu")
    operator.lose("eu")
    shutil.copytree(operator.root / "us", operator.root / "us-as-it-was")
    return operator


def put_back(lost) -> None:
    shutil.rmtree(lost.root / "us")
    shutil.copytree(lost.root / "us-as-it-was", lost.root / "us")


def where(lost) -> tuple[str, ...]:
    return ("--vault", lost.vault("us"), "--to", "us")


def runs_of(lost) -> list[dict[str, Any]]:
    """The runs that were begun, as a person would look them up."""
    found: list[dict[str, Any]] = lost.refloat("run", "list", *where(lost))["runs"]
    return found


def undisturbed(lost) -> Undisturbed:
    put_back(lost)
    began = time.monotonic()
    process = lost.start("recover", *where(lost))
    while not lost.entries() and process.poll() is None:
        time.sleep(0.001)
    start_s = time.monotonic() - began
    _, err = process.communicate()
    assert process.returncode == 0, err
    return Undisturbed(start_s, lost.entries())


def killed_at(lost, moment: Moment) -> int:
    """Recover and be killed: the exit code."""
    process = lost.start("recover", *where(lost))
    code, _ = lost.interrupt(
        process, signal.SIGKILL, lambda: lost.entries() >= moment.entries, moment.after_s
    )
    lost.tidy()
    return int(code)


def test_a_recovery_killed_at_any_moment_is_resumed_to_the_same_end(lost) -> None:  # fault 23
    usual = undisturbed(lost)
    under_way = 0
    for moment in moments(usual):
        put_back(lost)
        code = killed_at(lost, moment)
        runs = runs_of(lost)
        states = [run["state"] for run in runs]
        print(f"{moment} of {usual.entries}; it ended with {code}, its runs {states}")
        under_way += states not in ([], ["done"])
        resume = ("--resume", runs[0]["run"]) if runs else ()
        done = lost.refloat("recover", *where(lost), *resume)
        assert done["state"] == "done", moment
        assert [done["run"]] == [run["run"] for run in runs] or not runs, moment
        assert done["evidence"].keys() == {"us"}, moment
        assert lost.live("us") == lost.before, moment
    assert under_way >= AMID // 2, "too few were killed between their first step and their last"


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_recovery_says_how_to_go_on_and_goes_on(
    lost, sent: signal.Signals, code: int
) -> None:  # fault 31
    put_back(lost)
    process = lost.start("recover", *where(lost))
    ended, out = lost.interrupt(process, sent, lambda: lost.entries() >= 5, 0.0)
    assert ended == code
    error = json.loads(out)["error"]
    assert error["code"] == "interrupted"
    (run,) = runs_of(lost)
    assert run["state"] == "paused"
    assert f"--resume {run['run']}" in error["next"]
    assert not lost.at_work()  # it took its scratch space away
    done = lost.refloat("recover", *where(lost), "--resume", run["run"])
    assert (done["run"], done["state"]) == (run["run"], "done")
    assert lost.live("us") == lost.before
