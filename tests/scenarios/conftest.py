"""A small pipeline on disk in two regions, and an operator who runs real commands in real processes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from refloat.cli.main import run

sys.path.insert(0, str(Path(__file__).parent))  # for the modules beside this one

import placed
from placed import Place, Tally

COMMAND_SECONDS_MAX = 120.0  # none takes this long; one that does is stuck

MANIFEST = """\
version: 1
pipeline: small
primary: eu
regions:
  eu: {{vault: "{root}/eu/vault"}}
  us: {{vault: "{root}/us/vault"}}
components:
  pages:
    kind: files
    tier: critical
    with: {{path: "{root}/${{region}}/pages", expose: {{current: current.json}}}}
  ledger:
    kind: sqlite
    with: {{path: "{root}/${{region}}/ledger.db", select: {{version: "SELECT max(version) FROM release"}}}}
  answers:
    kind: predictions
    with: {{path: "{root}/${{region}}/answers.jsonl"}}
groups:
  serving:
    members: [pages, ledger]
    must: [pages.current.version == ledger.version]
"""


@dataclass
class Operator:
    """Two regions as folders, a home, a key that lies in neither, and what is run from there.

    ``inside`` are the words before each command: what it is run in. Without them, what only has to be done is done by
    ``commands``, where there are some.
    """

    root: Path
    home: Path
    has_key: bool = True
    inside: tuple[str, ...] = ()
    commands: Commands | None = None
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def manifest(self) -> Path:
        return self.root / "desk" / "refloat.yaml"

    @property
    def key(self) -> Path:
        return self.root / "safe" / "small.key"

    @property
    def temporary(self) -> Path:
        return self.root / "tmp"

    @property
    def tally(self) -> Path:
        """Where the last command that was started with a place has counted what it did."""
        return self.root / "tally"

    def vault(self, region: str) -> str:
        return str(self.root / region / "vault")

    def entries(self, region: str = "us") -> int:
        """How many entries the journals of the region's runs have; one that is being written is none yet."""
        journals = self.root / region / "vault" / "log" / "runs"
        return sum(path.name.isdigit() for path in journals.glob("*/*"))

    def journal(self, entries: int, region: str = "us") -> tuple[str, int]:
        """The place at which the journals of the region's runs have that many entries."""
        return str(self.root / region / "vault" / "log" / "runs" / "*" / "*[0-9]"), entries

    # ------------------------------------------------------------------------------------ the pipeline lives

    def release(self, version: int, pages: int = 3) -> None:
        """Publish another release: its pages, the ledger's row, and an answer."""
        region = self.root / "eu"
        (region / "pages" / "deep").mkdir(parents=True, exist_ok=True)
        for number in range(pages):
            text = f"release {version}, page {number}\n" * 300
            (region / "pages" / "deep" / f"{version}-{number}.txt").write_text(text)
        (region / "pages" / "current.json").write_text(json.dumps({"version": version}))
        with contextlib.closing(sqlite3.connect(region / "ledger.db")) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS release (version INTEGER)")
            database.execute("INSERT INTO release VALUES (?)", (version,))
        self.answer(f"a{version}")

    def answer(self, id: str) -> None:
        """One more line in the log of answers."""
        with (self.root / "eu" / "answers.jsonl").open("a") as log:
            log.write(json.dumps({"id": id, "time": "2026-11-01T00:00:00Z"}) + "\n")

    def live(self, region: str) -> dict[str, bytes]:
        """What a program would read in a region: files by path, and the database's rows."""
        folder = self.root / region
        found = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted([folder / "answers.jsonl", *folder.glob("pages/**/*")])
            if path.is_file()
        }
        with contextlib.closing(
            sqlite3.connect(f"file:{folder / 'ledger.db'}?mode=ro", uri=True)
        ) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            found["ledger.db"] = repr(database.execute("SELECT version FROM release").fetchall()).encode()
        return found

    def lose(self, region: str = "eu") -> None:
        """The disaster: all of a region with its vault, the operator's desk and their home are gone."""
        for folder in (self.root / region, self.manifest.parent, self.home):
            shutil.rmtree(folder)
        self.home = self.root / "bare"
        self.home.mkdir()

    # ---------------------------------------------------------------------------------------------- commands

    def environment(self) -> dict[str, str]:
        """All that a command is given."""
        own = {"HOME": str(self.home), "TMPDIR": str(self.temporary), "PATH": os.environ["PATH"]}
        return {**own, **({"REFLOAT_KEY_FILE": str(self.key)} if self.has_key else {})}

    def start(self, *arguments: str, place: Place | None = None) -> subprocess.Popen[str]:
        """Begin a command in a process and a group of its own, which is sent a signal where it has its ``place``."""
        words = ["-m", "refloat"]
        if place is not None:
            words = [placed.__file__, json.dumps(placed.asked(place, self.tally))]
        process = subprocess.Popen(
            [*self.inside, sys.executable, *words, "--json", "--quiet", *arguments],
            cwd=self.home,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=placed.by_default,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> tuple[int, dict[str, Any], str]:
        """A command's exit code, its document, and what it said to people."""
        if self.commands is None or self.inside:
            process = self.start(*arguments)
            out, err = process.communicate(timeout=COMMAND_SECONDS_MAX)
            code = process.returncode
        else:
            ended = self.commands.run(self, "--json", "--quiet", *arguments)
            out, err, code = ended.out, ended.err, ended.code
        document = json.loads(out)
        assert document.pop("schema") == 1
        return code, document, err

    def refloat(self, *arguments: str, exits: int = 0) -> dict[str, Any]:
        """A command's document, where it ends as it must."""
        code, document, err = self.run(*arguments)
        assert code == exits, f"`refloat {' '.join(arguments)}` ended with {code}: {document} {err}"
        return document

    def here(self, *arguments: str, exits: int = 0) -> dict[str, Any]:
        """The same, by the manifest on the desk."""
        return self.refloat("-f", str(self.manifest), *arguments, exits=exits)

    def at_work(self) -> bool:
        """Whether a command that captures or restores is at its work, for which it has scratch space."""
        return any(self.temporary.glob("refloat-*"))

    def interrupted(self, *arguments: str, place: Place) -> tuple[int, str]:
        """A command that is sent a signal in its course: the exit code, and what stood on stdout."""
        process = self.start(*arguments, place=place)
        out, err = process.communicate(timeout=COMMAND_SECONDS_MAX)
        assert placed.told(self.tally).sent_at, f"it never came to {place}: {process.returncode} {out}{err}"
        return process.returncode, out

    def stopped(self, *arguments: str, place: Place) -> subprocess.Popen[str]:
        """A command that has come to a place in its course, and stands still there until it is sent SIGCONT."""
        assert place.number == signal.SIGSTOP
        process = self.start(*arguments, place=place)
        found = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert found is not None and found.si_code == os.CLD_STOPPED, process.communicate()
        return process

    def tidy(self) -> None:
        """Take away what a killed command could not."""
        shutil.rmtree(self.temporary)
        self.temporary.mkdir()

    def end(self) -> None:
        """End what still runs."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.communicate()


def newcomer_at(root: Path) -> Operator:
    """Somebody with a pipeline in ``eu``, and with nothing of refloat's yet."""
    for folder in ("desk", "safe", "home", "tmp"):
        (root / folder).mkdir(parents=True)
    operator = Operator(root, root / "home")
    operator.release(1)
    return operator


def operator_at(root: Path, commands: Commands) -> Operator:
    """Somebody whose pipeline has a manifest and an empty vault."""
    operator = newcomer_at(root)
    operator.commands = commands
    operator.manifest.write_text(MANIFEST.format(root=root))
    operator.here("vault", "init", "--key", str(operator.key))
    return operator


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Operator]:
    operator = newcomer_at(tmp_path)
    yield operator
    operator.end()


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> Iterator[Operator]:
    """One for all tests of a module."""
    operator = operator_at(tmp_path_factory.mktemp("small"), commands)
    yield operator
    operator.end()


@pytest.fixture(scope="session")
def operator_of(commands: Commands) -> Callable[[Path], Operator]:
    """Makes somebody in a folder whose pipeline has a manifest and no vault yet."""

    def make(root: Path) -> Operator:
        operator = newcomer_at(root)
        operator.commands = commands
        operator.manifest.write_text(MANIFEST.format(root=root))
        return operator

    return make


# ---------------------------------------------------------------------------------- without starting Python anew


@dataclass(frozen=True)
class Ended:
    """A command that ended; ``out`` and ``err`` are all that it said."""

    argv: tuple[str, ...]
    code: int
    tally: Tally
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one line on stdout, where that is JSON."""
        assert self.out.count("\n") == 1, self
        document: dict[str, Any] = json.loads(self.out)
        assert document["schema"] == 1, self
        return document


@dataclass(frozen=True)
class Commands:
    """Runs an operator's commands in processes that are forked from one that has imported everything."""

    server: subprocess.Popen[str]
    folder: Path

    def run(
        self,
        operator: Operator,
        *argv: str,
        env: Mapping[str, str] | None = None,
        place: Place | None = None,
    ) -> Ended:
        """One command to its end, which leaves nothing that runs and no traceback; perhaps with a signal in between."""
        assert self.server.stdin is not None and self.server.stdout is not None
        out, err, tally = self.folder / "out", self.folder / "err", self.folder / "tally"
        operator.home.mkdir(exist_ok=True)
        asked = {
            "argv": argv,
            "env": {**operator.environment(), **(env or {})},
            "cwd": str(operator.home),
            "out": str(out),
            "err": str(err),
            **placed.asked(place, tally),
        }
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        try:
            told = json.loads(self.server.stdout.readline())
        except BaseException:
            self.server.kill()  # or its answer would be taken for that to the next command
            raise
        ended = Ended(argv, told["code"], placed.told(tally), read(out), read(err))
        assert not told["hung"], f"it never ended: {ended}"
        assert told["left"] == [], f"it is gone, and this still runs: {told['left']}, {ended}"
        assert "Traceback" not in ended.err or "--debug" in argv, ended
        assert "Exception ignored" not in ended.err, ended
        return ended

    def done(self, operator: Operator, *argv: str, exits: int | Collection[int] = 0, **more: Any) -> Any:
        """The document of a command that ends as it must."""
        ended = self.run(operator, "--json", "--quiet", *argv, **more)
        assert ended.code in ([exits] if isinstance(exits, int) else exits), ended
        return ended.document


def read(path: Path) -> str:
    return path.read_text(errors="surrogateescape")


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Commands]:
    """Commands whose outputs come to lie in a folder."""
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("quickserver.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None and server.stdout.readline() == "ready\n"
    yield Commands(server, folder)
    server.communicate()


@pytest.fixture(scope="session")
def served() -> Callable[[Path], contextlib.AbstractContextManager[Commands]]:
    """Makes more who run commands, for what goes on at once."""
    return serving


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    with serving(tmp_path_factory.mktemp("said")) as commands:
        yield commands


# ------------------------------------------------------------------------------------------- in this very process

Asked = tuple[int, dict[str, Any], str]
"""An exit code, the document on stdout, and what stood on stderr."""


@pytest.fixture(scope="module")
def ask() -> Callable[..., Asked]:
    """Runs a command in this process, in its folder and its environment."""
    return asked


def asked(*arguments: str) -> Asked:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(["--json", "--quiet", *arguments])
    assert out.getvalue().count("\n") == 1, (arguments, out.getvalue(), err.getvalue())
    assert "Traceback" not in err.getvalue(), (arguments, err.getvalue())
    document: dict[str, Any] = json.loads(out.getvalue())
    assert document.pop("schema") == 1
    assert document.get("error", {}).get("code") != "defect", (arguments, document)
    return code, document, err.getvalue()
