"""Killed at any moment, a protect loses no point that was acknowledged, and the next one succeeds.

``# fault 18`` of the fault matrix, with real processes and real signals. Every kill has its place in the course of the
command.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import time
from pathlib import Path

import pytest
from placed import Place

pytestmark = pytest.mark.slow

HANG_SECONDS = 50.0
LOADED_CPU_S = 1.0  # far more than an interpreter and a library need until they are loaded
PLACES = {
    "before its work": Place(of="^os.mkdir .*/refloat-"),
    "before its first pack": Place(of="^os.link .*/packs/"),
    "when one region has a pack": Place(of="^os.link .*/packs/", nth=2),
    "before any region has the point": Place(of="^os.link .*/log/points/"),
    "when one region has the point": Place(of="^os.link .*/log/points/", nth=2),
    "before it says so": Place(of="^stdout.write"),
}


@pytest.fixture(scope="module")
def living(operator):
    """A pipeline that lives, and of which there is a point."""
    operator.here("protect")
    return operator


def protect(living, place: Place) -> tuple[int, str]:
    """Protect and be sent a signal: the exit code, and what had been printed."""
    code, out = living.interrupted("-f", str(living.manifest), "protect", place=place)
    return code, out


def complete_everywhere(living) -> set[str]:
    listed = living.here("points", "list")["points"]
    return {entry["point"] for entry in listed if entry["regions"] == ["eu", "us"]}


versions = itertools.count(2)  # releases, of which each test has one of its own


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_protect_loses_no_acknowledged_point(living, place: str) -> None:  # fault 18
    acknowledged = complete_everywhere(living)
    living.release(next(versions), pages=30)
    assert protect(living, PLACES[place]) == (-signal.SIGKILL, "")
    living.tidy()
    checked = living.here("vault", "check", "--read-data")
    assert (checked["ok"], checked["damaged"]) == (True, [])
    assert acknowledged <= complete_everywhere(living)
    acknowledged.add(living.here("protect")["point"])
    assert acknowledged <= complete_everywhere(living)


def test_an_interrupted_protect_leaves_no_half_point_and_the_next_one_succeeds(living) -> None:  # fault 31
    living.release(next(versions), pages=30)
    before = living.here("points", "list")["points"]
    at_work = ((str(living.temporary / "refloat-*"), 1),)
    for sent, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        ended, out = protect(living, Place(sent, there=at_work))
        assert ended == code
        assert json.loads(out)["error"]["code"] == "interrupted"
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
    while not (at_it := [worker for worker in children(process.pid) if cpu_s(worker) > LOADED_CPU_S]):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    end = time.monotonic() + HANG_SECONDS
    while any(alive(worker) for worker in at_it) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(alive(worker) for worker in at_it)


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return [int(child) for task in tasks for child in task.read_text().split()]
    return []


def alive(process: int) -> bool:
    """Whether a process still runs; one that nobody has waited for does not."""
    return bool(fields := stat_of(process)) and fields[0] not in "ZX"


def cpu_s(process: int) -> float:
    """How long a process has been at work; 0 where it is gone."""
    return sum(int(ticks) for ticks in stat_of(process)[11:13]) / os.sysconf("SC_CLK_TCK")


def stat_of(process: int) -> list[str]:
    """What the kernel tells of a process from its state on (``proc(5)``); nothing where it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return []
