"""Section `vault`: protecting, checking and restoring one tree, side by side with restic on the same disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import tools
import tree
from measure import CommandFailed, Run, Setting, alternating, cpu, peaks, run, to_disk, walls
from report import ABSENT, MIB, Section, Series, Table, paired_ratio
from tools import Tool

TREE_BYTES, QUICK_BYTES = 256 * MIB, 16 * MIB
SEED = 7
FIRST, AGAIN, CHANGED, CHECK, RESTORE = (
    "first protect",
    "protect, nothing changed",
    "protect, 1 % changed",
    "check --read-data",
    "restore into nothing",
)
STEPS = (FIRST, AGAIN, CHANGED, CHECK, RESTORE)
MISSING = "RESTIC IS NOT INSTALLED"
NOTES = (
    "Before each command everything is written to the disk, and what the command reads is read once, for both "
    "tools alike: the figures are those of a warm page cache.",
    "restic restores files alone. `refloat recover` also plans, claims the region, keeps a journal, makes every "
    "file durable, checks what it staged, switches to it, protects it anew, and signs evidence; its stage step is "
    "the part that brings the bytes, and has no counterpart that could be timed alone.",
    "restic derives its key from a password at every start, by design slowly; refloat reads a key file here.",
    "What was restored is compared with the original, file by file by SHA-256, in every round.",
)


@dataclass
class Taken:
    """What the tools took so far, by tool and step, and what their stores hold, in MiB."""

    runs: dict[tuple[str, str], list[Run]] = field(default_factory=dict)
    stored_mib: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    staged_s: list[float] = field(default_factory=list)


def measure(setting: Setting) -> Section:
    """Measure every step with every tool that is there, round by round, in alternating order."""
    beside = tools.has_restic(setting.say)
    makers = [tools.refloat, tools.restic] if beside else [tools.refloat]
    live = setting.work / "live"
    size = QUICK_BYTES if setting.quick else TREE_BYTES
    setting.say(f"making a mixed tree of {size // MIB} MiB")
    tree.make(live / "tree", size, seed=SEED)
    taken, rounds = Taken(), setting.rounds(5)
    for number, order in enumerate(alternating(makers, rounds)):
        setting.say(f"round {number + 1} of {rounds}: protect, check and restore, with each tool")
        _round(setting.work / f"round_{number}", live, order, taken, seed=SEED + number + 1)
    return _section(taken, size, rounds, beside=beside)


def _round(
    work: Path, live: Path, order: Sequence[Callable[[Path, Path], Tool]], taken: Taken, *, seed: int
) -> None:
    """One round: new stores, every step with each tool in ``order``, and nothing left behind."""
    present = []
    for number, maker in enumerate(order):
        (work / str(number)).mkdir(parents=True)
        present.append(maker(work / str(number), live))
        run(present[-1].init, env=present[-1].env, cwd=live)
    for step in (FIRST, AGAIN):
        _each(present, live, taken, step)
    tree.change(live / "tree", seed=seed)
    _each(present, live, taken, CHANGED)
    for tool in present:
        tree.warm(tool.store)
        taken.runs.setdefault((tool.name, CHECK), []).append(run(tool.check, env=tool.env, cwd=live))
    for tool in present:
        _restore(tool, live, taken)
    shutil.rmtree(work)


def _each(present: Sequence[Tool], live: Path, taken: Taken, step: str) -> None:
    """Protect with each tool, and see how much its store holds then."""
    for tool in present:
        tree.warm(live)
        taken.runs.setdefault((tool.name, step), []).append(run(tool.protect, env=tool.env, cwd=live))
        taken.stored_mib.setdefault((tool.name, step), []).append(tree.size(tool.store) / MIB)


def _restore(tool: Tool, live: Path, taken: Taken) -> None:
    """Restore into an empty place, with the original set aside; see that it is the same, and put that back."""
    tree.warm(tool.store)
    aside = live.with_name("aside")
    live.rename(aside)
    live.mkdir()
    try:
        restored = run(tool.restore, env=tool.env, cwd=live)
        if tree.digests(live / "tree") != tree.digests(aside / "tree"):
            raise CommandFailed(f"{tool.name} restored other files than it was given")
    finally:
        shutil.rmtree(live)
        aside.rename(live)
    taken.runs.setdefault((tool.name, RESTORE), []).append(restored)
    if tool.name == "refloat":
        taken.staged_s.append(_staged_s(tool, json.loads(restored.stdout)["run"], live))


def _staged_s(tool: Tool, name: str, cwd: Path) -> float:
    """How long the step took that brings the bytes, from the run's evidence."""
    program = tool.restore[: tool.restore.index("recover")]
    shown = json.loads(run((*program, "evidence", "show", name), env=tool.env, cwd=cwd).stdout)
    return float(next(step["seconds"] for step in shown["steps"] if step["phase"] == "stage"))


# ------------------------------------------------------------------------------------------- tables


def _section(taken: Taken, size: int, rounds: int, *, beside: bool) -> Section:
    timed = partial(_table, taken, beside=beside)
    wall = timed("Wall time", STEPS, walls)
    staged = (f"{RESTORE}, the stage step alone", str(Series(tuple(taken.staged_s), "s")), ABSENT, ABSENT)
    wall = Table(wall.title, wall.headings, (*wall.rows, _until_on_disk(taken, beside=beside), staged))
    tables = (wall, timed("Processor time", STEPS, cpu), timed("Peak memory", STEPS, peaks))
    stored = _stored(taken, beside=beside)
    loud = () if beside else (f"{MISSING}, and could not be installed: nothing stands beside refloat.",)
    about = f"A tree of {size // MIB} MiB: text, random bytes, float arrays and SQLite, a quarter of each."
    return Section(
        name="vault",
        title=f"The vault beside restic, {rounds} interleaved runs",
        tables=(*tables, stored),
        notes=(*loud, about, *NOTES),
    )


def _table(
    taken: Taken,
    title: str,
    steps: Sequence[str],
    figures: Callable[[Sequence[Run]], Series],
    *,
    beside: bool,
) -> Table:
    rows = tuple(_row(step, _figures(taken, step, figures), beside=beside) for step in steps)
    return Table(title, ("step", "refloat", "restic", "refloat / restic"), rows)


def _figures(
    taken: Taken, step: str, figures: Callable[[Sequence[Run]], Series]
) -> tuple[Series, Series | None]:
    theirs = taken.runs.get(("restic", step))
    return figures(taken.runs["refloat", step]), figures(theirs) if theirs else None


def _row(what: str, series: tuple[Series, Series | None], *, beside: bool) -> tuple[str, str, str, str]:
    ours, theirs = series
    if not beside or theirs is None:
        return what, str(ours), MISSING, MISSING
    return what, str(ours), str(theirs), str(paired_ratio(ours, theirs))


def _until_on_disk(taken: Taken, *, beside: bool) -> tuple[str, str, str, str]:
    return _row(f"{RESTORE}, until on disk", _figures(taken, RESTORE, to_disk), beside=beside)


def _stored(taken: Taken, *, beside: bool) -> Table:
    """What the stores hold after each protect."""
    rows = []
    for step in (FIRST, AGAIN, CHANGED):
        ours, theirs = (taken.stored_mib.get((name, step)) for name in ("refloat", "restic"))
        pair = Series(tuple(ours or ()), "MiB"), Series(tuple(theirs), "MiB") if theirs else None
        rows.append(_row(f"after {step}", pair, beside=beside))
    return Table("Stored", ("", "refloat", "restic", "refloat / restic"), tuple(rows))
