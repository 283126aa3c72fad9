"""refloat's vault beside restic and borg, on what real training leaves behind: the measuring of `bench-vault`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import contenders
import goals
import limits
import tools
import training
import tree
from contenders import Command, Contender
from goals import (
    BF16,
    FIRST,
    LATER,
    MIXED,
    NEXT,
    ONE,
    PRUNE,
    RESTORE,
    RESTORE_ON_DISK,
    TUNED,
    TUNED_ELSEWHERE,
    UNCHANGED,
    VERIFY,
    Row,
    Taken,
)
from measure import CommandFailed, Run, Setting, alternating, environment, run
from report import MIB, Section
from training import Sources

Maker = Callable[[Path, Path], Contender]

SECONDS_MAX = 900.0  # for one command; the slowest reads two gigabytes
LIMIT_BYTES, QUICK_LIMIT_BYTES = 512 * MIB, 16 * MIB
INPROCESS = Path(__file__).with_name("inprocess.py")


def measure(setting: Setting, sources: Sources, *, rounds: int, only: str | None = None) -> Section:
    """Measure every row with every tool that is there, round by round, in alternating order."""
    makers = _makers(setting.say)
    taken = Taken(names=tuple(maker.__name__ for maker in makers))
    size = QUICK_LIMIT_BYTES if setting.quick else LIMIT_BYTES
    largest = max(tree.files(sources.root), key=lambda path: path.stat().st_size)
    for number, order in enumerate(alternating(makers, rounds)):
        taken.add_limits(limits.measure(largest, setting.work, size))
        taken.starts_s.append(limits.start_s())
        for story in [only] if only else STORIES:
            setting.say(f"round {number + 1} of {rounds}: {story}")
            for tell in TOLD[story]:
                work = setting.work / f"{tell.__name__}_{number}"
                work.mkdir()
                tell(_Stage(work, sources, order, taken))
                shutil.rmtree(work)
    return goals.section(taken, sources, rounds)


def _makers(say: Callable[[str], None]) -> list[Maker]:
    makers: list[Maker] = [contenders.refloat]
    if tools.has_restic(say):
        makers.append(contenders.restic)
    if tools.has("borg", "borgbackup", say):
        makers.append(contenders.borg)
    return makers


def _series(stage: _Stage) -> None:
    """Checkpoints come one after the other, and the earlier stay, until training keeps the last alone."""
    folders = [f"{training.SERIES}/step-{step}" for step in stage.sources.steps]
    captures = [
        Capture(row, folder, Path(folder).name)
        for row, folder in zip((FIRST, NEXT, LATER), folders, strict=True)
    ]
    for capture in captures:
        stage.capture(capture)
    stage.verify(VERIFY)
    stage.restore(RESTORE, RESTORE_ON_DISK)
    stage.in_one_process(captures, verify=[VERIFY], restore=[RESTORE])
    for capture in captures[:-1]:
        stage.leave(capture.name)
    stage.prune(PRUNE, sum(stage.sources.size(folder) for folder in folders[:-1]))


def _weights(stage: _Stage) -> None:
    """A model in bf16, and a light fine-tune of it as the next version."""
    captures = [Capture(BF16, training.BASE, "v1"), Capture(TUNED, training.TUNED, "v2")]
    for capture in captures:
        stage.capture(capture)
    stage.in_one_process(captures)


def _weights_elsewhere(stage: _Stage) -> None:
    """The same two, in folders whose names say nothing of each other."""
    stage.arrive(training.BASE, "base")
    stage.protect()
    stage.capture(Capture(TUNED_ELSEWHERE, training.TUNED, "tuned"))


def _mixed(stage: _Stage) -> None:
    """A checkpoint, a data set in three formats and an index; nothing changes; one file is wanted."""
    first = Capture(MIXED, training.MIXED, training.MIXED)
    again, shard = replace(first, row=UNCHANGED), stage.sources.shard
    stage.capture(first)
    stage.measure(again)
    stage.one(ONE, shard, stage.sources.digests[shard])
    stage.in_one_process([first, again], one={ONE: shard})


TOLD: dict[str, tuple[Callable[[_Stage], None], ...]] = {
    training.SERIES: (_series,),
    training.WEIGHTS: (_weights, _weights_elsewhere),
    training.MIXED: (_mixed,),
}
STORIES = tuple(TOLD)


@dataclass(frozen=True)
class Capture:
    """A folder of the sources that is protected under a name of its own."""

    row: Row
    folder: str
    name: str


class _Stage:
    """One story in one round: a folder that grows, and every tool with an empty store of its own."""

    def __init__(self, work: Path, sources: Sources, order: Sequence[Maker], taken: Taken) -> None:
        self.sources = sources
        self._work, self._taken = work, taken
        self._live = work / contenders.FOLDER
        self._live.mkdir()
        self._held: dict[str, str] = {}
        self._present: list[Contender] = []
        self._points: dict[str, list[str]] = {}
        for maker in order:
            place = work / maker.__name__
            place.mkdir()
            tool = maker(place, self._live)
            self._do(tool, tool.init)
            self._present.append(tool)
            self._points[tool.name] = []

    def arrive(self, folder: str, name: str) -> None:
        """A folder of the sources appears among what is protected."""
        shutil.copytree(self.sources.root / folder, self._live / name, copy_function=_link)
        for path, digest in self.sources.digests.items():
            if path.startswith(f"{folder}/"):
                self._held[f"{name}/{path.removeprefix(f'{folder}/')}"] = digest

    def leave(self, name: str) -> None:
        """A folder goes."""
        shutil.rmtree(self._live / name)
        self._held = {path: digest for path, digest in self._held.items() if not path.startswith(f"{name}/")}

    def capture(self, capture: Capture) -> None:
        """A folder appears, and each tool protects it."""
        self.arrive(capture.folder, capture.name)
        self.measure(capture)

    def measure(self, capture: Capture) -> None:
        """Protect with each tool, and see by how much its store grows."""
        size = self.sources.size(capture.folder)
        for tool in self._present:
            tree.warm(self._live)
            before = tree.size(tool.store)
            self._taken.add(tool.name, capture.row, self._protected(tool), size)
            self._taken.add_stored(tool.name, capture.row, (tree.size(tool.store) - before) / MIB)

    def protect(self) -> None:
        """Protect with each tool, unmeasured."""
        for tool in self._present:
            self._protected(tool)

    def _protected(self, tool: Contender, codes: Sequence[int] = (0,)) -> Run:
        points = self._points[tool.name]
        number = len(points) + 1
        ran = self._do(tool, tool.protect(number), codes=codes)
        points.append(tool.point(number, ran.stdout))
        return ran

    def verify(self, row: Row) -> None:
        """Read and verify every byte; the speed is in bytes of the source."""
        for tool in self._present:
            tree.warm(tool.store)
            self._taken.add(tool.name, row, self._do(tool, tool.verify), tree.size(self._live))

    def restore(self, row: Row, on_disk: Row) -> None:
        """Restore the last point into nothing, and see that it is what was protected."""
        into = self._work / "into"
        for tool in self._present:
            tree.warm(tool.store)
            into.mkdir()
            ran = self._do(tool, tool.restore(self._points[tool.name][-1], into), cwd=into)
            self._require_same(into / tool.restored, tool.name)
            shutil.rmtree(into)
            size = tree.size(self._live)
            self._taken.add(tool.name, row, ran, size)
            self._taken.add(tool.name, on_disk, replace(ran, wall_s=ran.wall_s + ran.sync_s), size)

    def one(self, row: Row, path: str, digest: str) -> None:
        """One file out of everything, to standard output."""
        out = self._work / "one"
        for tool in self._present:
            tree.warm(tool.store)
            command = tool.cat(self._points[tool.name][-1], path)
            ran = self._do(tool, ("sh", "-c", f'exec "$@" > "{out}"', "sh", *command))
            content = out.read_bytes()
            if hashlib.sha256(content).hexdigest() != digest:
                raise CommandFailed(f"{tool.name} brought another file than {path}")
            self._taken.add(tool.name, row, ran, len(content))

    def prune(self, row: Row, size: int) -> None:
        """Drop the earlier half of the points; the speed is in bytes of the source that only they have."""
        for tool in self._present:
            gone = list(self._points[tool.name])
            if tool.accept is None:
                self._protected(tool)
            else:
                self._protected(tool, codes=(0, 1))  # it asks whether so much was to go
                self._do(tool, tool.accept(self._points[tool.name][-1]))
            for _ in gone[1:]:
                self._protected(tool)
            tree.warm(tool.store)
            before = tree.size(tool.store)
            self._taken.add(tool.name, row, self._do(tool, tool.drop(gone, len(gone))), size)
            self._taken.add_stored(tool.name, row, (tree.size(tool.store) - before) / MIB)

    def in_one_process(
        self,
        captures: Sequence[Capture],
        *,
        verify: Sequence[Row] = (),
        restore: Sequence[Row] = (),
        one: dict[Row, str] | None = None,
    ) -> None:
        """The same work by the vault alone, in one process."""
        vault, into, told = self._work / "alone", self._work / "alone-into", self._work / "plan.json"
        vault.mkdir()
        root = self.sources.root
        plan = {
            "vault": str(vault),
            "into": str(into),
            "captures": [
                {"row": each.row.name, "folder": str(root / each.folder), "name": each.name}
                for each in captures
            ],
            "verify": [row.name for row in verify],
            "restore": [row.name for row in restore],
            "one": {row.name: path for row, path in (one or {}).items()},
        }
        told.write_text(json.dumps(plan))
        tree.warm(self._live)
        command = (sys.executable, str(INPROCESS), str(told))
        ran = run(command, env=environment(self._work), cwd=self._work, seconds_max=SECONDS_MAX)
        answer = json.loads(ran.stdout)
        if restore:
            self._require_same(into, "the vault in one process")
        for path in (one or {}).values():
            if answer["digest"] != self.sources.digests[path]:
                raise CommandFailed(f"the vault in one process brought another file than {path}")
        self._taken.add_alone(answer["seconds"])
        shutil.rmtree(vault)
        shutil.rmtree(into, ignore_errors=True)

    def _require_same(self, folder: Path, who: str) -> None:
        if tree.digests(folder) != self._held:
            raise CommandFailed(f"{who} restored other files than it was given")

    def _do(
        self, tool: Contender, command: Command, cwd: Path | None = None, codes: Sequence[int] = (0,)
    ) -> Run:
        return run(command, env=tool.env, cwd=cwd or self._work, seconds_max=SECONDS_MAX, codes=codes)


def _link(source: str, to: str) -> None:
    """A second name of the same file; a copy where the two lie on different disks."""
    try:
        os.link(source, to)
    except OSError:
        shutil.copy2(source, to)
