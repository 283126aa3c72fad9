"""Section `example`: the example pipeline protected, recovered, and asked while it is captured."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import CommandFailed, Run, Setting, alternating, run, walls
from refloat.contracts import Question
from refloat.demo.scenery import Scenery
from refloat.verification.golden import read_golden
from refloat.verification.metrics import percentile_interval
from refloat.verification.probes.http import HttpProbe
from report import ABSENT, MIB, Section, Series, Table, paired_ratio

PROTECT_S_MAX, RESTORE_S_MAX, RATIO_MAX = 2.0, 10.0, 1.05
QUESTIONS_PER_SECOND = 40
WINDOW_S, QUICK_WINDOW_S = 5.0, 2.0
PAIRS, QUICK_PAIRS = 40, 4
CHANGE_BYTES, CHANGES = 8 * MIB, 6  # what is captured in a window: as much as a small model, again and again
STOP_SECONDS_MAX = 30.0
STAGE, ACTIVATE, START = "stage.stage", "activate.activate", "activate.start"
PARTS = {
    "stage": (STAGE,),
    "activate": (ACTIVATE,),
    "start, until healthy": (START,),
    "restore: stage to start": (STAGE, ACTIVATE, START),
}
"""What is reported of a recovery, by what the ids of its steps begin with."""


def measure(setting: Setting) -> Section:
    """Build the pipeline in one region; protect, ask, and recover it in another; end all of it."""
    scenery = Scenery.under(setting.work / "scenery")
    try:
        setting.say("building the example pipeline in its first region")
        endpoint = _built(scenery)
        setting.say("protecting with nothing changed")
        protects = [_protect(scenery) for _ in range(setting.rounds(7))]
        asked = _asked(setting, scenery)
        _protect(scenery)
        scenery.destroy("eu", endpoint)
        recovered = _recovered(setting, scenery)
    finally:
        scenery.end()
        _stop_recovered(scenery)
    return Section(
        name="example",
        title="The example pipeline",
        tables=(_protect_table(protects), _recover_table(recovered), asked.table()),
        notes=asked.notes(),
    )


def _built(scenery: Scenery) -> subprocess.Popen[bytes]:
    """The pipeline with its first point in both regions' vaults, and its endpoint.

    Verification is taken out of the manifest: how long it takes is what the manifest asks for, no more.
    """
    scenery.program("build", "--root", str(scenery.pipeline("eu")))
    scenery.write_manifest()
    without, _, _ = scenery.manifest.read_text().partition("\nverify:")
    scenery.manifest.write_text(without + "\n")
    _command(scenery, "-f", str(scenery.manifest), "vault", "init", "--key", str(scenery.key_file))
    arguments = ("--root", str(scenery.pipeline("eu")), "--port", str(scenery.ports["eu"]))
    endpoint = scenery.spawn("serve", *arguments, code=scenery.pipeline("eu") / "app")
    scenery.wait_ready("eu")
    _protect(scenery)
    return endpoint


def _command(scenery: Scenery, *arguments: str) -> Run:
    command = [sys.executable, "-m", "refloat", "--json", "--quiet", *arguments]
    return run(command, env=scenery.environment(), cwd=scenery.home)


def _protect(scenery: Scenery) -> Run:
    return _command(scenery, "-f", str(scenery.manifest), "protect")


def _protect_table(runs: Sequence[Run]) -> Table:
    wall = walls(runs)
    rows = (("refloat protect, nothing changed", str(wall), wall.against(PROTECT_S_MAX)),)
    return Table(f"Protect, {len(runs)} runs", ("command", "wall time", "aim"), rows)


# ------------------------------------------------------------------------------------------- recover


@dataclass(frozen=True)
class Recovery:
    """One recovery: the command, and when each kind of step began and ended, in seconds of the run."""

    command: Run
    spans: dict[str, tuple[float, float]]

    def seconds(self, kinds: Sequence[str]) -> float:
        """From the beginning of the first step of some kinds to the end of the last."""
        return max(self.spans[kind][1] for kind in kinds) - min(self.spans[kind][0] for kind in kinds)


def _recovered(setting: Setting, scenery: Scenery) -> list[Recovery]:
    """Recover again and again from the same vault into the same empty region."""
    pristine = setting.work / "pristine"
    shutil.copytree(scenery.vault("us"), pristine)
    rounds, done = setting.rounds(5), []
    for number in range(rounds):
        setting.say(f"recovery {number + 1} of {rounds} in the second region")
        _emptied(scenery, pristine)
        done.append(_recovery(scenery))
    return done


def _emptied(scenery: Scenery, pristine: Path) -> None:
    """Leave of the second region nothing but its vault, as it was before any recovery."""
    _stop_recovered(scenery)
    for folder in (scenery.vault("us").parent, scenery.home):
        shutil.rmtree(folder)
        folder.mkdir()
    shutil.copytree(pristine, scenery.vault("us"))


def _stop_recovered(scenery: Scenery) -> None:
    """End the recovered endpoint and wait for it. Raises ``CommandFailed`` where it goes on listening."""
    scenery.stop_recovered()
    end = time.monotonic() + STOP_SECONDS_MAX
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", scenery.ports["us"])) != 0:
                return
        time.sleep(0.05)
    raise CommandFailed(f"the recovered endpoint still listens after {STOP_SECONDS_MAX:g} s")


def _recovery(scenery: Scenery) -> Recovery:
    vault = str(scenery.vault("us"))
    command = _command(scenery, "recover", "--vault", vault, "--to", "us")
    name = json.loads(command.stdout)["run"]
    shown = json.loads(_command(scenery, "evidence", "show", name, "--vault", vault).stdout)
    spans: dict[str, tuple[float, float]] = {}
    for step in shown["steps"]:
        kind, _, _ = step["id"].partition(":")
        begins, ends = step["started_s"], step["started_s"] + step["seconds"]
        first, last = spans.get(kind, (begins, ends))
        spans[kind] = min(first, begins), max(last, ends)
    return Recovery(command, spans)


def _recover_table(recoveries: Sequence[Recovery]) -> Table:
    rows = []
    for name, kinds in PARTS.items():
        series = Series(tuple(each.seconds(kinds) for each in recoveries), "s")
        aim = series.against(RESTORE_S_MAX) if len(kinds) > 1 else ABSENT
        rows.append((name, str(series), aim))
    rows.append(("the whole command", str(walls([each.command for each in recoveries])), ABSENT))
    title = f"Recover in a second region, {len(recoveries)} runs, without verification"
    return Table(title, ("part", "wall time", "aim"), tuple(rows))


# ------------------------------------------------------------------------------------------- endpoint


@dataclass(frozen=True)
class Asked:
    """The endpoint's p95 in each pair of windows, in milliseconds; ``captures`` ran in those with capture."""

    without: Series
    during: Series
    captures: Series
    window_s: float

    def table(self) -> Table:
        """Latency without and with a capture running, and their ratio."""
        ratio = paired_ratio(self.during, self.without)
        rows = (
            ("p95, no capture", str(self.without), ABSENT),
            ("p95, capture running", str(self.during), ABSENT),
            (f"ratio, {ratio.covers}", str(ratio), ratio.against(RATIO_MAX)),
        )
        return Table(f"Endpoint, {ratio.pairs} interleaved pairs", ("", "latency", "aim"), rows)

    def notes(self) -> tuple[str, ...]:
        """How it was asked."""
        return (
            f"The endpoint was asked {QUESTIONS_PER_SECOND} golden questions a second, one after the other, for "
            f"{self.window_s:g} s in each window. In a window with capture, `refloat protect` ran over and over "
            f"from beginning to end, as a process of its own on the same machine: {self.captures}. Before each of "
            f"them a file of {CHANGE_BYTES // MIB} MiB, half of it random, was exchanged for another one to capture.",
            "Latency is seen by the client, which shares the cores with the endpoint and with the capture.",
        )


def _asked(setting: Setting, scenery: Scenery) -> Asked:
    """Ask in pairs of windows, one without and one with capture, in alternating order."""
    pairs = setting.rounds(PAIRS, quick=QUICK_PAIRS)
    window_s = QUICK_WINDOW_S if setting.quick else WINDOW_S
    golden = scenery.pipeline("eu") / "golden" / "answers.jsonl"
    questions = itertools.cycle(read_golden(golden.read_bytes()))
    probe = HttpProbe(scenery.url("eu") + "/answer")
    p95_ms: dict[str, list[float]] = {"without": [], "during": []}
    captures = []
    changes = _Changes(setting.work / "changes", scenery.pipeline("eu") / "features" / "offline")
    setting.say(f"asking the endpoint in {pairs} pairs of windows, with and without a capture running")
    try:
        list(_latencies(probe, questions, window_s))  # once before, so that everything is loaded
        for order in alternating(("without", "during"), pairs):
            for window in order:
                changes.prepare()
                with _Capturing(scenery, changes, wanted=window == "during") as capturing:
                    latencies = list(_latencies(probe, questions, window_s))
                p95_ms[window].append(percentile_interval(latencies, 0.95).value * 1000)
                captures += [float(capturing.count)] if window == "during" else []
    finally:
        probe.close()
    without, during = (Series(tuple(p95_ms[window]), "ms") for window in ("without", "during"))
    return Asked(without, during, Series(tuple(captures), "captures"), window_s)


def _latencies(probe: HttpProbe, questions: Iterator[Question], seconds: float) -> Iterator[float]:
    """Ask at a steady rate and give the seconds that each answer took. Raises ``CommandFailed`` for none."""
    began = time.monotonic()
    for number, question in enumerate(questions):
        due = began + number / QUESTIONS_PER_SECOND
        if due >= began + seconds:
            return
        time.sleep(max(0.0, due - time.monotonic()))
        answer = probe.ask(question)
        if answer.seconds is None or answer.error:
            raise CommandFailed(f"the endpoint did not answer {question.id}: {answer.error}")
        yield answer.seconds


class _Changes:
    """Files that are ready before a window begins, each to take the place of the one before it in no time."""

    def __init__(self, folder: Path, place: Path) -> None:
        self._folder = folder
        self._live = place / "bench.bin"
        self._dice = random.Random(1)
        self._made = 0
        folder.mkdir()

    def prepare(self) -> None:
        """Have as many files as a window could need, on the disk."""
        for _ in range(CHANGES - len(list(self._folder.iterdir()))):
            self._made += 1
            noise = self._dice.randbytes(CHANGE_BYTES // 2)
            text = f"row {self._made}\n".encode() * (CHANGE_BYTES // 2 // 8)
            (self._folder / str(self._made)).write_bytes(noise + text)
        os.sync()

    def one(self) -> None:
        """Exchange the file; nothing where all were used."""
        ready = next(self._folder.iterdir(), None)
        if ready is not None:
            ready.rename(self._live)


class _Capturing:
    """While its context is open, and where it is ``wanted``, one capture of a change follows another."""

    def __init__(self, scenery: Scenery, changes: _Changes, *, wanted: bool) -> None:
        self._scenery = scenery
        self._changes = changes
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._capture, name="capture") if wanted else None
        self._error: CommandFailed | None = None
        self.count = 0

    def __enter__(self) -> _Capturing:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the capture that is running. Raises ``CommandFailed`` where one failed."""
        self._enough.set()
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _capture(self) -> None:
        try:
            while not self._enough.is_set():
                self._changes.one()
                _protect(self._scenery)
                self.count += 1
        except CommandFailed as error:
            self._error = error
