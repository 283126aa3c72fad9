"""Killed at any moment, a recovery is resumed to the same end: real processes, real signals.

``# fault 23`` and ``# fault 31`` of the fault matrix. Every kill has its place in the course of the command.
"""

from __future__ import annotations

import json
import shutil
import signal
from typing import Any

import pytest
from placed import Place

pytestmark = pytest.mark.slow

PLACES = {
    "before the first entry": (0, "^os.link .*/log/targets/", []),
    "before it acts": (3, "", ["preflight"]),
    "before the first step": (1, "^os.mkdir .*/us/", ["running"]),
    "amid its steps": (25, "", ["running"]),
    "after the last entry": (0, "^stdout.write", ["done"]),
}
"""Each how many entries the journal has then, what the command is about to do, and the states of the runs."""


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


@pytest.mark.parametrize("place", PLACES)
def test_a_recovery_killed_at_any_moment_is_resumed_to_the_same_end(lost, place: str) -> None:  # fault 23
    put_back(lost)
    entries, about_to, states = PLACES[place]
    there = (lost.journal(entries),) if entries else ()
    code, _ = lost.interrupted("recover", *where(lost), place=Place(of=about_to, there=there))
    assert code == -signal.SIGKILL
    lost.tidy()
    runs = runs_of(lost)
    assert [run["state"] for run in runs] == states
    resume = ("--resume", runs[0]["run"]) if runs else ()
    done = lost.refloat("recover", *where(lost), *resume)
    assert done["state"] == "done"
    assert [done["run"]] == [run["run"] for run in runs] or not runs
    assert done["evidence"].keys() == {"us"}
    assert lost.live("us") == lost.before


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_recovery_says_how_to_go_on_and_goes_on(
    lost, sent: signal.Signals, code: int
) -> None:  # fault 31
    put_back(lost)
    amid = Place(sent, there=(lost.journal(5),))
    ended, out = lost.interrupted("recover", *where(lost), place=amid)
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
