"""Ctrl-C and SIGTERM at random moments of every verb that does much: 130 or 143, and what it says to do next goes on.

Real processes, forked from one that has imported everything (``quickserver.py``), so that the moments fall into the
work. How far into it a signal is placed (``placed.py``) comes from a seed, which a failure names.

    REFLOAT_SIGNALS=50       that many moments of each verb
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import placed
import pytest
from echo import GOLDEN, echoing
from placed import Place

from refloat.testing.disk import folder_in_memory

pytestmark = pytest.mark.slow

MOMENTS = int(os.environ.get("REFLOAT_SIGNALS", "0"))
REACHED = (
    0.97  # of all that an undisturbed command does: threads wait for each other now more often and now less
)
ANEW_MAX = 20  # times that a signal is placed earlier, where the command was done before
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
RUN_ENTRIES = 8  # of a journal: in the course of its steps
VERIFY = """
verify:
  pages:
    probe: {{http: "{url}"}}
    golden: golden.jsonl
    metrics: {{accuracy: {{equal: {{expected: topic, found: topic}}}}}}
    bounds: {{accuracy: {{drop_at_most: 0.01}}, errors: {{at_most: 0.5}}}}
    concurrency: 2
    samples: 40
    warmup: 0
"""


@dataclass(frozen=True)
class Sent:
    """A signal, when in the course of the command, and what the seed was."""

    seed: int
    number: signal.Signals
    share: float
    json: bool


@dataclass
class Stage:
    """A world that is put back before each scene, and the server that runs commands in it."""

    operator: Any
    commands: Any
    states: Path
    known: dict[str, Any] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        root: Path = self.operator.root
        return root

    @property
    def manifest(self) -> tuple[str, ...]:
        return ("-f", str(self.operator.manifest))

    @property
    def us(self) -> tuple[str, ...]:
        return ("--vault", self.operator.vault("us"), "--to", "us")

    def run(self, *argv: str, **more: Any) -> Any:
        return self.commands.run(self.operator, *argv, **more)

    def done(self, *argv: str) -> Any:
        return self.commands.done(self.operator, *argv)

    def keep(self, state: str) -> None:
        shutil.copytree(self.root, self.states / state, symlinks=True)

    def put_back(self, state: str) -> None:
        shutil.rmtree(self.root)
        shutil.copytree(self.states / state, self.root, symlinks=True)


# ------------------------------------------------------------------------------------------------- the scenes


@dataclass(frozen=True)
class Scene:
    """A command in a world, and what must hold once it, or what it said to do next, has ended as it must.

    ``left`` is what an interrupted one may not leave; ``moments`` is how often it is interrupted.
    """

    command: Callable[[Stage], tuple[str, ...]]
    afterwards: Callable[[Stage, Any], None]
    exits: tuple[int, ...] = (0,)
    left: tuple[str, ...] = ()
    moments: int = 2


def recovered(stage: Stage, ended: Any) -> None:
    runs = stage.done("run", "list", *stage.us)["runs"]
    assert [run["state"] for run in runs] == ["done"], "one run, and it came to its end"
    assert stage.operator.live("us") == stage.known["live"]
    assert stage.done("vault", "check", "--read-data", "--vault", stage.operator.vault("us"))["ok"]


def brought(stage: Stage, ended: Any) -> None:
    into = stage.root / "out"
    found = {
        str(path.relative_to(into / "pages" / "content")): path.read_bytes()
        for path in (into / "pages" / "content").rglob("*")
        if path.is_file()
    }
    live = {
        name.removeprefix("pages/"): content
        for name, content in stage.known["live"].items()
        if name.startswith("pages/")
    }
    assert found == live


def mended(stage: Stage, ended: Any) -> None:
    if ended.code == 1:
        stage.done(*stage.manifest, "vault", "repair", "--read-data")
    checked = stage.done(*stage.manifest, "vault", "check", "--read-data")
    assert (checked["ok"], checked["damaged"]) == (True, [])
    assert stage.done(*stage.manifest, "points", "list")["points"] == stage.known["points"]


def begun(stage: Stage, ended: Any) -> None:
    assert stage.operator.key.stat().st_mode & 0o777 == 0o600
    assert stage.done(*stage.manifest, "protect")["grade"] == "exact"
    assert stage.done(*stage.manifest, "vault", "check", "--read-data")["ok"]


def passed(stage: Stage, ended: Any) -> None:
    assert "--json" not in ended.argv or ended.document["verified"] is True


def kept(stage: Stage, ended: Any) -> None:
    assert stage.done(*stage.manifest, "verify")["verified"] is True


SCENES = {
    "recover": Scene(lambda stage: ("recover", *stage.us), recovered),
    "resume": Scene(lambda stage: ("recover", *stage.us, "--resume", stage.known["run"]), recovered),
    "into": Scene(
        lambda stage: (
            *("recover", "--vault", stage.operator.vault("us")),
            *("--into", str(stage.root / "out")),
        ),
        brought,
        left=("out",),
        moments=3,
    ),
    "repair": Scene(lambda stage: (*stage.manifest, "vault", "repair", "--read-data"), mended, exits=(0, 1)),
    "init": Scene(
        lambda stage: (*stage.manifest, "vault", "init", "--key", str(stage.operator.key)),
        begun,
        left=("safe/*", "eu/vault/**/*.*", "us/vault/**/*.*", "us/vault/keys/*"),
        moments=3,
    ),
    "verify": Scene(lambda stage: (*stage.manifest, "verify"), passed),
    "baseline": Scene(lambda stage: (*stage.manifest, "verify", "--save-baseline"), kept),
}


def prepare(stage: Stage, url: str) -> None:
    """The worlds in which the scenes begin. Only ``recover`` has the group, whose invariants take a process."""
    grouped = stage.operator.manifest.with_name("grouped.yaml")
    components, _, group = stage.operator.manifest.read_text().partition("groups:")
    stage.operator.manifest.write_text(components + VERIFY.format(url=url))
    grouped.write_text(components + VERIFY.format(url=url) + "groups:" + group)
    stage.operator.manifest.with_name("golden.jsonl").write_text(GOLDEN)
    stage.keep("init")
    stage.done(*stage.manifest, "vault", "init", "--key", str(stage.operator.key))
    stage.keep("baseline")
    stage.done(*stage.manifest, "verify", "--save-baseline")
    stage.keep("verify")
    stage.done(*stage.manifest, "protect")
    stage.operator.release(2, pages=30)
    stage.done(*stage.manifest, "verify", "--save-baseline")
    stage.done(*stage.manifest, "protect")
    stage.known["live"] = stage.operator.live("eu")
    stage.known["points"] = stage.done(*stage.manifest, "points", "list")["points"]
    vault = stage.root / "us" / "vault"
    stage.keep("whole")
    spoil(vault)
    stage.keep("repair")
    stage.put_back("whole")
    shutil.rmtree(stage.root / "eu")
    stage.keep("into")
    stage.known["run"] = paused(stage)
    stage.keep("resume")
    stage.put_back("whole")
    stage.done("-f", str(grouped), "verify", "--save-baseline")
    stage.done("-f", str(grouped), "protect")
    shutil.rmtree(stage.root / "eu")
    stage.keep("recover")


def spoil(vault: Path) -> None:
    """Every pack with a flipped bit, and every point and index object gone."""
    for pack in vault.glob("packs/*/*"):
        content = bytearray(pack.read_bytes())
        content[len(content) // 2] ^= 1
        pack.write_bytes(content)
    for folder in ("points", "index"):
        for path in vault.glob(f"{folder}/*"):
            path.unlink()


def paused(stage: Stage) -> str:
    """Begin a recovery and interrupt it in the course of its steps; the run."""
    amid = Place(signal.SIGTERM, there=(stage.operator.journal(RUN_ENTRIES),))
    code, _ = stage.operator.interrupted("recover", *stage.us, place=amid)
    assert code == CODES[signal.SIGTERM]
    (run,) = stage.done("run", "list", *stage.us)["runs"]
    assert run["state"] == "paused"
    name: str = run["run"]
    return name


# -------------------------------------------------------------------------------------------------- the trials


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with echoing() as address:
        yield address


@pytest.fixture(scope="module")
def stage(operator_of: Callable[[Path], Any], commands: Any, url: str) -> Iterator[Stage]:
    with folder_in_memory() as folder:
        (folder / "states").mkdir()
        made = Stage(operator_of(folder / "world"), commands, folder / "states")
        prepare(made, url)
        yield made
        made.operator.end()


def moments(name: str) -> Iterator[Sent]:
    """One at random in each part of all that the command does, which is 1."""
    count = MOMENTS or SCENES[name].moments
    for number in range(count):
        seed = 100 * list(SCENES).index(name) + number
        dice = random.Random(seed)
        share = (number + dice.random()) / count * REACHED
        yield Sent(seed, list(CODES)[number % 2], share, json=dice.random() < 0.5)


def interrupted(stage: Stage, name: str, sent: Sent, events: int) -> Any:
    """What became of a command that a signal was sent to: it said one whole document, where that was asked."""
    flags = ("--json", "--quiet") if sent.json else ("--quiet",)
    share = sent.share
    for _ in range(ANEW_MAX):
        stage.put_back(name)
        place = Place(sent.number, nth=1 + int(share * events))
        ended = stage.run(*flags, *SCENES[name].command(stage), place=place)
        assert not stage.operator.at_work(), f"its scratch space is left: {sent}, {ended}"
        if sent.json:
            assert ended.out.count("\n") == 1 and ended.document["schema"] == 1, (sent, ended)
        if ended.tally.sent_at:
            return ended
        share *= REACHED
    raise AssertionError(f"{sent}: it does less each time: {ended}")


def ends_of(sent: Sent) -> tuple[int, int]:
    """How one ends that had done and said all: the second, where the interpreter was being taken down already."""
    return CODES[sent.number], -sent.number


def next_of(sent: Sent, ended: Any, command: tuple[str, ...]) -> tuple[str, ...]:
    """What an interrupted command says to run next."""
    if sent.json:
        said: str = ended.document["error"]["next"]
    else:
        said = ended.err.rpartition("next: ")[2].strip()
    if said == "the same command again":  # it came before the program was loaded
        return command
    program, *arguments = shlex.split(said)
    assert program == "refloat", (sent, ended)
    return tuple(word for word in arguments if word not in ("--json", "--quiet"))


@pytest.mark.parametrize("name", SCENES)
def test_a_verb_interrupted_at_any_moment_says_how_to_go_on_and_that_goes_on(
    stage: Stage, name: str
) -> None:  # fault 31
    scene = SCENES[name]
    stage.put_back(name)
    undisturbed = stage.run("--json", "--quiet", *scene.command(stage))
    assert undisturbed.code in scene.exits, undisturbed
    scene.afterwards(stage, undisturbed)
    stopped = 0
    for sent in moments(name):
        ended = interrupted(stage, name, sent, undisturbed.tally.events)
        if "interrupted" in ended.out + ended.err:
            stopped += 1
            assert ended.code == CODES[sent.number], (sent, ended)
            if "interrupted; " not in ended.out + ended.err:  # it was not over by then
                left = [path for pattern in scene.left for path in stage.root.glob(pattern)]
                assert left == [], (sent, ended)
            ended = stage.run("--json", "--quiet", *next_of(sent, ended, scene.command(stage)))
        assert ended.code in (*scene.exits, *ends_of(sent)), (sent, ended)
        scene.afterwards(stage, ended)
    print(f"{name}: {stopped} were stopped in the course of {undisturbed.tally.events} events")
    assert stopped, "none was interrupted before it was done"


def test_interrupted_when_its_key_is_there_already_an_init_takes_it_away(stage: Stage) -> None:  # fault 31
    making = (*stage.manifest, "vault", "init", "--key", str(stage.operator.key))
    stage.put_back("init")
    its_key_is_there = Place(signal.SIGTERM, there=((str(stage.operator.key), 1),))
    code, out = stage.operator.interrupted(*making, place=its_key_is_there)
    assert (code, json.loads(out)["error"]["message"]) == (CODES[signal.SIGTERM], "interrupted")
    assert not stage.operator.key.exists()
    assert not [path for path in stage.root.glob("*/vault/**/*") if path.is_file()]
    stage.done(*making)


@pytest.mark.parametrize("about_to", ["^os.fsync", "^os.link .*/vault/", "^os.remove .*/vault/.*~"])
def test_interrupted_while_it_writes_an_object_an_init_leaves_no_part_of_it(
    stage: Stage, about_to: str
) -> None:  # fault 31
    stage.put_back("init")
    amid_an_object = Place(signal.SIGTERM, of=about_to, there=((f"{stage.operator.vault('us')}/keys/*~", 1),))
    making = (*stage.manifest, "vault", "init", "--key", str(stage.operator.key))
    code, _ = stage.operator.interrupted(*making, place=amid_an_object)
    assert code == CODES[signal.SIGTERM]
    assert not [path for path in stage.root.glob("*/vault/**/*") if path.is_file()]


@pytest.mark.parametrize("about_to", ["^os.fwalk .*/refloat-", "^os.rmdir "])
def test_interrupted_while_it_takes_its_scratch_space_away_it_takes_it_away(
    stage: Stage, about_to: str
) -> None:  # fault 31
    stage.put_back("verify")
    scratch = ((str(stage.operator.temporary / "refloat-*"), 1),)
    taking_away = Place(signal.SIGTERM, of=about_to, there=scratch)
    code, _ = stage.operator.interrupted(*stage.manifest, "protect", place=taking_away)
    assert code == CODES[signal.SIGTERM]
    assert not stage.operator.at_work()


def test_interrupted_when_its_first_entry_has_just_landed_a_recovery_says_how_to_resume(
    stage: Stage,
) -> None:  # fault 31
    """The run is there, and whoever wrote it was not told so yet."""
    stage.put_back("into")
    landed = Place(signal.SIGTERM, of="^os.remove .*/log/runs/")  # the temporary file of the entry
    code, out = stage.operator.interrupted("recover", *stage.us, place=landed)
    assert code == CODES[signal.SIGTERM]
    (run,) = stage.done("run", "list", *stage.us)["runs"]
    said = shlex.split(json.loads(out)["error"]["next"])[1:]
    assert ["--resume", run["run"]] == said[said.index("--resume") :][:2]
    assert stage.done(*said)["state"] == "done"


def test_interrupted_when_only_the_telling_is_left_a_recovery_says_how_to_hear_it(
    stage: Stage,
) -> None:  # fault 31
    stage.put_back("into")
    stage.done("recover", *stage.us)
    claims = Path(stage.operator.vault("us"), "log", "targets", "us")
    last = max(path.name for path in claims.glob("*[0-9]"))  # with which the run gives its claim back
    stage.put_back("into")
    it_is_over = Place(signal.SIGTERM, there=((str(claims / last), 1),))
    code, out = stage.operator.interrupted("recover", *stage.us, place=it_is_over)
    assert code == CODES[signal.SIGTERM]
    (run,) = stage.done("run", "list", *stage.us)["runs"]
    assert run["state"] == "done"
    said = shlex.split(json.loads(out)["error"]["next"])[1:]
    assert ["--resume", run["run"]] == said[said.index("--resume") :][:2]
    heard = stage.done(*said)
    assert (heard["run"], heard["state"]) == (run["run"], "done")
    kept = stage.done("evidence", "list", "--vault", stage.operator.vault("us"))["evidence"]
    assert [record["run"] for record in kept] == [run["run"]], "its record is there, once"


def test_interrupted_while_nobody_reads_that_all_is_brought_it_says_that_it_is(
    stage: Stage,
) -> None:  # fault 31
    stage.put_back("into")
    out, home = stage.root / "out", stage.root / "bare"
    home.mkdir()
    reader, writer = full_pipe()
    its_last_words = Place(signal.SIGTERM, of="stdout.write", there=((str(out), 1),))
    asked = json.dumps(placed.asked(its_last_words, stage.operator.tally))
    process = subprocess.Popen(
        [sys.executable, placed.__file__, asked, "--json", *SCENES["into"].command(stage)],
        cwd=home,
        env=stage.operator.environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    with os.fdopen(reader) as said:
        document = json.loads(said.read())
    _, err = process.communicate()
    assert process.returncode == CODES[signal.SIGTERM]
    assert document["into"] == str(out), "what was begun to be said is said to its end"
    assert re.search(
        rf"error: interrupted; {out} is there, and whole\n  next: refloat (-f \S+ )?vault ls", err
    )
    brought(stage, None)


def full_pipe() -> tuple[int, int]:
    """A pipe that takes nothing more until somebody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, b" " * 512):
            continue
    os.set_blocking(writer, True)
    return reader, writer
