"""Files that vanish, grow, or cannot be read while they are being captured: by command, on real disks and real users.

The reading fails in the kernel's name (``strace`` injects it), the permission is that of the file system, and the
files that come and go are written by somebody who does not wait for refloat.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from placed import Place

from refloat.connectors.hashed_file import BUFFER_BYTES
from refloat.errors import ConnectorError
from refloat.testing.world import World

pytestmark = pytest.mark.slow

READS = "read,pread64,preadv,preadv2"
LARGE_BYTES = 2 * 1024 * 1024  # read in several pieces
PROTECTS = 3  # while files come and go
HANG_SECONDS = 50.0
PAUSE_S = 0.001  # between two things that happen to the files


@dataclass
class Desk:
    """Somebody with a protected pipeline, each component of which is on its own, without a group."""

    operator: Any
    commands: Any
    versions: Iterator[int] = field(default_factory=lambda: itertools.count(2))
    good: dict[str, Any] = field(default_factory=dict)

    @property
    def live(self) -> Path:
        live: Path = self.operator.root / "eu"
        return live

    def done(self, *argv: str, exits: int = 0) -> Any:
        """A command's document, where it ends as it must."""
        return self.commands.done(self.operator, "-f", str(self.operator.manifest), *argv, exits=exits)

    def protect(self) -> None:
        """As it must be, and remembered."""
        self.good = self.done("protect")
        assert self.good["grade"] == "exact"
        assert not any(part["error"] for part in self.good["components"].values())

    def inside(self, words: Sequence[str], *argv: str, exits: int) -> Any:
        """The same in a process of its own, inside of another program."""
        self.operator.inside = tuple(words)
        try:
            return self.operator.here(*argv, exits=exits)
        finally:
            self.operator.inside = ()

    def brought(self, point: str) -> Path:
        """A point's bytes, in a folder of its own."""
        into: Path = self.operator.root / f"out-{point[:12]}"
        self.done("recover", "--point", point, "--into", str(into))
        return into


@pytest.fixture(scope="module")
def desk(
    operator_of: Callable[[Path], Any], commands: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    root = tmp_path_factory.mktemp("unreadable")
    made = Desk(operator_of(root), commands)
    text = made.operator.manifest.read_text()
    made.operator.manifest.write_text(text.partition("groups:")[0])
    large = random.Random(1).randbytes(LARGE_BYTES)
    (made.live / "pages" / "large.bin").write_bytes(large)
    with contextlib.closing(sqlite3.connect(made.live / "ledger.db")) as database, database:
        database.execute("CREATE TABLE large AS SELECT ? AS content", (large,))
    made.done("vault", "init", "--key", str(made.operator.key))
    made.protect()
    yield made
    made.operator.end()


PARTS = [("pages", "pages/large.bin"), ("ledger", "ledger.db"), ("answers", "answers.jsonl")]


def kept_as_it_was(desk: Desk, made: Any, component: str, name: str, why: str) -> None:
    """Only this component failed, it is as it was before, and what is said names the file and what to do."""
    told = {part: known["error"] for part, known in made["components"].items() if known["error"]}
    assert told.keys() == {component}
    assert Path(name).name in told[component] and why in told[component] and "next: " in told[component]
    assert not made["components"][component]["carried"], "that would mean that it had not changed"
    for fact in ("snapshot", "as_of"):
        assert made["components"][component][fact] == desk.good["components"][component][fact]


# ---------------------------------------------------------------------------------------- a disk that cannot read


def failing(path: Path, calls: str, code: str, nth: str) -> tuple[str, ...]:
    """The words before a command for which the ``nth`` of these calls on a file fails, in each of its threads."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("FAILING READ NOT TRIED: strace is not installed: apt-get install strace")
    inject = f"inject={calls}:error={code}:when={nth}"
    words = (strace, "-f", "-qq", "-o", "/dev/null", "-P", str(path), "-e", f"trace={calls}", "-e", inject)
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("FAILING READ NOT TRIED: strace may not trace here; its in-process twin has run")
    return words


@pytest.mark.parametrize(("component", "name"), PARTS)
def test_a_file_that_cannot_be_read_to_its_end_is_named_and_what_was_captured_before_stays(
    desk: Desk, component: str, name: str
) -> None:  # fault 14
    desk.operator.release(next(desk.versions))
    (desk.live / name).touch()  # what is as it was is not read
    nth = "1+" if component == "answers" else "2+"  # the log is read in one piece
    made = desk.inside(failing(desk.live / name, READS, "EIO", nth), "protect", exits=1)
    kept_as_it_was(desk, made, component, name, "")
    desk.protect()
    if component == "pages":
        assert (
            desk.brought(desk.good["point"]) / "pages" / "content" / "large.bin"
        ).stat().st_size == LARGE_BYTES
        assert desk.done("vault", "check", "--read-data")["ok"]


def test_wherever_the_reading_fails_no_point_holds_what_was_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fault 14
    """The twin of the one above: in this process, at every single read, the capture's own included."""
    world = World.small(tmp_path, group="")
    (tmp_path / "eu" / "pages" / "large.bin").write_bytes(random.Random(1).randbytes(LARGE_BYTES))
    read = os.preadv
    for nth in itertools.count(1):
        reads = itertools.count(1)

        def preadv(handle: int, buffers: list[memoryview], at: int, reads=reads, nth=nth) -> int:
            if next(reads) == nth:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return read(handle, buffers, at)

        with monkeypatch.context() as patch, contextlib.suppress(ConnectorError):
            patch.setattr(os, "preadv", preadv)
            world.protect()
            break
        assert not [point for replica in world.vault().replicas.values() for point in replica.points()], nth
    assert nth > LARGE_BYTES // BUFFER_BYTES, "every piece of every file was tried"
    assert world.protect().ok


# ----------------------------------------------------------------------------------------- a file one may not read


def without_rights() -> tuple[str, ...]:
    """The words before a command that makes it one whom modes concern: whoever is root is then only the owner."""
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    words = (setpriv or "", "--bounding-set", "-dac_override,-dac_read_search")
    if setpriv is None or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("TAKEN PERMISSION NOT TRIED: this is root, and setpriv is not to be had")
    return words


@pytest.mark.parametrize(("component", "name"), [*PARTS[:2], ("pages", "pages/deep")])
def test_what_one_may_not_read_is_named_with_what_to_do(desk: Desk, component: str, name: str) -> None:
    desk.operator.release(next(desk.versions))
    path = desk.live / name
    before = path.stat().st_mode
    path.chmod(0)
    made = desk.inside(without_rights(), "protect", exits=1)
    path.chmod(before)
    kept_as_it_was(desk, made, component, name, "user")
    desk.protect()


def test_a_permission_that_is_taken_away_between_the_listing_and_the_reading_is_told(desk: Desk) -> None:
    """When the first file is about to be read, the last one is closed to us."""
    first, last = desk.live / "pages" / "aaa.bin", desk.live / "pages" / "zzz.txt"
    first.write_bytes(b"first")
    last.write_text("soon to be closed")
    reads_first = Place(signal.SIGSTOP, of=r"^open (.*/)?aaa\.bin")
    desk.operator.inside = without_rights()
    process = desk.operator.stopped("-f", str(desk.operator.manifest), "protect", place=reads_first)
    desk.operator.inside = ()
    last.chmod(0)
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate()
    assert process.returncode == 1, err
    kept_as_it_was(desk, json.loads(out), "pages", "zzz.txt", "Permission denied")
    last.chmod(0o644)
    desk.protect()
    assert (desk.brought(desk.good["point"]) / "pages/content/zzz.txt").read_text() == "soon to be closed"


# ------------------------------------------------------------------------------------------ files that come and go


class Restless:
    """Somebody who makes, grows, cuts, replaces and removes files, and never waits.

    Every file begins as ``whole`` says, however long it is, so what was read of one at any moment can be told.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self._pages, self._root = root / "eu" / "pages" / "restless", root / "eu"
        self._dice = random.Random(seed)
        self._over = threading.Event()
        self._done = threading.Semaphore(0)
        self.deeds = 0

    def __enter__(self) -> Restless:
        self._thread = threading.Thread(target=self._live)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _live(self) -> None:
        while not self._over.wait(PAUSE_S):
            self._do()
            self.deeds += 1
            self._done.release()

    def go_on(self, deeds: int) -> None:
        """Wait until as much more has happened."""
        for _ in range(deeds):
            assert self._done.acquire(timeout=HANG_SECONDS), "nothing happens any more"

    def _do(self) -> None:
        folder = self._pages / f"{self._dice.randrange(3)}"
        path = folder / f"{self._dice.randrange(8)}.bin"
        deed = self._dice.choice(["make", "grow", "grow", "replace", "remove", "clear", "row", "answer"])
        if deed == "row":
            with contextlib.closing(sqlite3.connect(self._root / "ledger.db")) as database, database:
                database.execute("CREATE TABLE IF NOT EXISTS restless (deed INTEGER)")
                database.execute("INSERT INTO restless VALUES (?)", (self.deeds,))
        elif deed == "answer":
            with (self._root / "answers.jsonl").open("a") as log:
                log.write(json.dumps({"id": f"r{self.deeds}", "time": "2026-11-01T00:00:00Z"}) + "\n")
        elif deed == "clear":
            shutil.rmtree(folder, ignore_errors=True)
        elif deed == "remove":
            path.unlink(missing_ok=True)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._write(path, deed)

    def _write(self, path: Path, deed: str) -> None:
        content = whole(path.name)
        length = self._dice.randrange(len(content))
        if deed == "grow":
            known = path.stat().st_size if path.exists() else 0
            with path.open("ab") as file:
                file.write(content[known : known + length])
        elif deed == "make":
            path.write_bytes(content[:length])
        else:
            other = path.with_suffix(".new")
            other.write_bytes(whole(other.name)[:length])
            other.unlink()
            path.write_bytes(content)


def whole(name: str) -> bytes:
    """What a file of this name holds once it is as long as it gets."""
    return random.Random(name).randbytes(200_000)


def test_every_point_of_files_that_come_and_go_is_whole(
    operator_of: Callable[[Path], Any], tmp_path: Path, commands: Any
) -> None:
    desk = operator_of(tmp_path)
    commands.done(desk, "-f", str(desk.manifest), "vault", "init", "--key", str(desk.key))
    made = []
    with Restless(tmp_path, seed=7) as restless:
        for _ in range(PROTECTS):
            restless.go_on(50)
            ended = commands.run(desk, "--json", "--quiet", "-f", str(desk.manifest), "protect")
            told = [part["error"] for part in ended.document.get("components", {}).values() if part["error"]]
            if ended.code == 1 and "point" not in ended.document:
                assert ended.document["error"]["component"] and ended.document["error"]["file"], ended
                continue
            suspect = [part["suspect"] for part in ended.document["components"].values() if part["suspect"]]
            assert ended.code == (1 if told or suspect else 0), ended
            assert all("next: " in text for text in told), ended
            made.append(ended.document)
    assert made, "no point was made"
    checked = commands.done(desk, "-f", str(desk.manifest), "vault", "check", "--read-data")
    assert (checked["ok"], checked["damaged"]) == (True, [])
    for document in made:
        is_whole(desk, commands, document)


def is_whole(desk: Any, commands: Any, document: dict[str, Any]) -> None:
    """A point's bytes are what its facts say, and every file is as it was at some moment."""
    point = document["point"]
    into = desk.root / f"out-{point[:12]}"
    shrank = any(part["suspect"] for part in document["components"].values())
    glass = ("--override", "point_suspect") if shrank else ()
    commands.done(desk, "-f", str(desk.manifest), "recover", "--point", point, "--into", str(into), *glass)
    pages = into / "pages" / "content"
    files = [path for path in pages.rglob("*") if path.is_file()]
    shown = commands.done(desk, "-f", str(desk.manifest), "points", "show", point)["components"]
    facts = shown["pages"]["identity"]
    assert facts["files"] == len(files)
    assert facts["bytes"] == sum(path.stat().st_size for path in files)
    for path in (pages / "restless").rglob("*.*"):
        assert whole(path.name).startswith(path.read_bytes()), path
    with contextlib.closing(sqlite3.connect(into / "ledger" / "database.sqlite")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (rows,) = database.execute("SELECT count(*) FROM restless").fetchone()
    assert rows == shown["ledger"]["position"]["rows"]["restless"]
    lines = (into / "answers" / "log.jsonl").read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == shown["answers"]["position"]["records"]
