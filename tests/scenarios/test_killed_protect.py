"""Killed at any moment, a protect loses no point that was acknowledged, and the next one succeeds.

``# fault 18`` of the fault matrix, with real processes and real signals. Every moment comes from a seed.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

EARLY, AMID = 1, 2  # kills before the work begins, and in its course
SLACK = 1.2  # a little is done after the scratch space is gone


@dataclass(frozen=True)
class Undisturbed:
    """How long a protect takes that nobody kills: to begin its work, and for the work itself."""

    start_s: float
    work_s: float


@dataclass(frozen=True)
class Moment:
    """Kill ``after_s`` after the start of the process, or after that of its work."""

    seed: int
    early: bool
    after_s: float

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.after_s:.3f} s after the start of {'all' if self.early else 'the work'}"
        )


def moments(usual: Undisturbed) -> list[Moment]:
    """Spread over the whole duration: one at random in each part of it."""
    found = []
    for seed in range(EARLY + AMID):
        dice, early = random.Random(seed), seed < EARLY
        part = (seed + dice.random()) / EARLY if early else (seed - EARLY + dice.random()) / AMID
        found.append(Moment(seed, early, part * (usual.start_s if early else usual.work_s * SLACK)))
    return found


@pytest.fixture(scope="module")
def living(operator):
    """A pipeline that lives, and of which there is a point."""
    operator.here("protect")
    return operator


def start(living):
    return living.start("-f", str(living.manifest), "protect")


def undisturbed(living) -> Undisturbed:
    living.release(2, pages=30)
    began = time.monotonic()
    process = start(living)
    while not living.at_work() and process.poll() is None:
        time.sleep(0.001)
    begun = time.monotonic()
    while living.at_work():
        time.sleep(0.001)
    usual = Undisturbed(begun - began, time.monotonic() - begun)
    _, err = process.communicate()
    assert process.returncode == 0, err
    return usual


def killed_at(living, moment: Moment) -> tuple[int, str]:
    """Protect and be killed: the exit code, and what had been printed."""
    ended = living.interrupt(
        start(living), signal.SIGKILL, lambda: moment.early or living.at_work(), moment.after_s
    )
    living.tidy()
    return ended


def complete_everywhere(living) -> set[str]:
    listed = living.here("points", "list")["points"]
    return {entry["point"] for entry in listed if entry["regions"] == ["eu", "us"]}


def test_a_killed_protect_loses_no_acknowledged_point(living) -> None:  # fault 18
    usual = undisturbed(living)
    acknowledged = complete_everywhere(living)
    assert len(acknowledged) == 2
    cut_short = 0
    for moment in moments(usual):
        living.release(10 + moment.seed, pages=30)
        code, out = killed_at(living, moment)
        print(f"{moment}; it ended with {code}")
        cut_short += code == -signal.SIGKILL
        acknowledged |= {json.loads(out)["point"]} if code == 0 else set()
        checked = living.here("vault", "check", "--read-data")
        assert (checked["ok"], checked["damaged"]) == (True, []), moment
        assert acknowledged <= complete_everywhere(living), moment
        acknowledged.add(living.here("protect")["point"])
    assert cut_short >= AMID // 2, "too few were killed before they were done"
    assert acknowledged <= complete_everywhere(living)


def test_an_interrupted_protect_leaves_no_half_point_and_the_next_one_succeeds(living) -> None:  # fault 31
    living.release(100, pages=30)
    before = living.here("points", "list")["points"]
    for sent, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        ended, out = living.interrupt(start(living), sent, living.at_work, 0.0)
        assert ended == code
        assert json.loads(out)["error"]["code"] == "interrupted"
        assert not list(living.temporary.glob("refloat-*/**/*")), "it takes its scratch space away"
        assert not living.at_work()  # it took its scratch space away
    assert living.here("points", "list")["points"] == before
    assert living.here("protect")["grade"] == "exact"


ENDLESS = "all(i, pages.current.many.all(j, pages.current.many.all(k, pages.current.many.all(m, m >= 0))))"


def test_nothing_that_a_killed_protect_started_lives_on(operator) -> None:  # fault 18
    """Not even an expression that never ends, which nobody is left to stop."""
    current = operator.root / "eu" / "pages" / "current.json"
    current.write_text(json.dumps({"version": 1, "many": list(range(2000))}))
    endless = operator.manifest.with_name("endless.yaml")
    must = f"pages.current.many.{ENDLESS}"
    endless.write_text(
        operator.manifest.read_text().replace("pages.current.version == ledger.version", f'"{must}"')
    )
    process = operator.start("-f", str(endless), "protect")
    while not (workers := children(process.pid)) and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.5)  # it is at the expression now
    process.kill()
    process.communicate()
    assert workers
    end = time.monotonic() + 20  # a worker that had not yet begun first loads its library
    while any(alive(worker) for worker in workers) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(alive(worker) for worker in workers)


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return [int(child) for task in tasks for child in task.read_text().split()]
    return []


def alive(process: int) -> bool:
    """Whether a process still runs; one that nobody has waited for does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False
