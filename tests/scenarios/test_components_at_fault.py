"""Components that are down, that give only a part, or that another version wrote: no point passes them off as new.

Whole commands in this process. A component that fails keeps the age and the bytes of its last snapshot, the exit code
says so, and a recovery refuses what the target cannot read before anything live is touched.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sqlite3
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from refloat.cli.system import SystemClock
from refloat.vault.snapshot import SnapshotSink

pytestmark = pytest.mark.slow

DOWN_S = 3600.0  # more than the objective of a critical component, and less than that of the others
ROWS = 300  # enough for several pages
PAGE_BYTES = 4096

MANIFEST = """\
version: 1
pipeline: small
primary: eu
regions:
  eu: {vault: "eu/vault"}
  us: {vault: "us/vault"}
components:
  pages:
    kind: files
    tier: critical
    with: {path: "${region}/pages", expose: {current: current.json}}
  ledger:
    kind: sqlite
    tier: critical
    with: {path: "${region}/ledger.db", select: {version: "SELECT max(version) FROM release"}}
  answers:
    kind: predictions
    with: {path: "${region}/answers.jsonl"}
"""
VECTORS = """\
  vectors:
    kind: lancedb
    with: {path: "${region}/vectors"}
"""
SERVER = """\
  server:
    kind: process
    with:
      command: ["{root}/${{region}}/env/bin/python", -c, "pass"]
      cwd: "{root}"
      health: "http://127.0.0.1:9/"
      packages: [model-server]
"""
GROUP = """\
groups:
  serving:
    members: [pages, ledger]
    must: [pages.current.version == ledger.version, pages.current.schema == ledger.user_version]
"""


@dataclass
class Desk:
    """Where an operator works: a folder with the manifest, its vaults, its key, and the two regions."""

    root: Path
    process: Callable[..., tuple[int, dict[str, Any], str]]
    elapsed_s: float = 0.0
    points: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, *arguments: str, exits: int = 0) -> dict[str, Any]:
        code, document, err = self.process(*arguments)
        assert code == exits, (document, err)
        return document

    def write_manifest(self, more: str = "", group: str = "") -> None:
        (self.root / "refloat.yaml").write_text(MANIFEST + more + group)

    def release(self, version: int, *, schema: int = 7, told: int = 7) -> None:
        """Another release; ``schema`` is that of the database, and ``told`` what the pages say of it."""
        pages = self.root / "eu" / "pages"
        pages.mkdir(parents=True, exist_ok=True)
        (pages / "current.json").write_text(json.dumps({"version": version, "schema": told}))
        with contextlib.closing(sqlite3.connect(self.root / "eu" / "ledger.db")) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS release (version INTEGER, notes TEXT)")
            rows = [(version, f"note {number} of release {version}") for number in range(ROWS)]
            database.executemany("INSERT INTO release VALUES (?, ?)", rows)
            database.execute(f"PRAGMA user_version = {schema}")
        with (self.root / "eu" / "answers.jsonl").open("a") as log:
            log.write(json.dumps({"id": f"a{version}", "time": "2026-11-01T00:00:00Z"}) + "\n")

    def protect(self, *, exits: int = 0) -> dict[str, Any]:
        made = self.ask("protect", exits=exits)
        self.points.append(made)
        return made

    def live(self, region: str) -> list[str]:
        """What is live in a region, its vault aside."""
        return sorted(path.name for path in (self.root / region).iterdir() if path.name != "vault")


@pytest.fixture
def desk(tmp_path: Path, ask: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    for variable in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "REFLOAT_PASSPHRASE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(tmp_path / "small.key"))
    monkeypatch.chdir(tmp_path)
    made = Desk(tmp_path, ask)
    now = SystemClock.now
    monkeypatch.setattr(SystemClock, "now", lambda self: now(self) + timedelta(seconds=made.elapsed_s))
    made.release(1)
    made.write_manifest()
    made.ask("vault", "init", "--key", "small.key")
    yield made


def failed(desk: Desk, made: dict[str, Any]) -> set[str]:
    """Who failed; each has the age and the bytes of the good point before."""
    good = desk.points[-2]["components"]
    who = {name for name, part in made["components"].items() if part["error"]}
    for name in who:
        part = made["components"][name]
        assert "next: " in part["error"]
        assert not part["carried"], "that would mean that it had not changed"
        assert [part[fact] for fact in ("snapshot", "as_of")] == [
            good[name][f] for f in ("snapshot", "as_of")
        ]
    return who


# ------------------------------------------------------------------------------------------------- it is down


@pytest.mark.parametrize(
    ("component", "path"), [("pages", "pages"), ("ledger", "ledger.db"), ("answers", "answers.jsonl")]
)
def test_what_is_down_keeps_its_age_which_the_point_and_the_status_tell(
    desk: Desk, component: str, path: str
) -> None:  # fault 39
    good = desk.protect()
    desk.release(2)
    desk.elapsed_s += DOWN_S
    place = desk.root / "eu" / path
    place.rename(desk.root / "away")

    made = desk.protect(exits=1)
    assert failed(desk, made) == {component}
    shown = desk.ask("points", "show", made["point"])["components"]
    for name, part in shown.items():
        age = (
            as_of(good["components"][name]) if name == component else as_of(good["components"][name]) + DOWN_S
        )
        assert as_of(part) == pytest.approx(age, abs=DOWN_S / 2)
    status = desk.ask("status", exits=1)["components"]
    aged = {name: part["exposure"]["eu"]["seconds"] >= DOWN_S for name, part in status.items()}
    assert aged == {name: name == component for name in status}
    late = {name: part["state"] for name, part in status.items() if part["state"] != "ok"}
    assert late == {component: "breach"}

    (desk.root / "away").rename(place)
    again = desk.protect()
    assert not any(part["error"] for part in again["components"].values())
    assert as_of(again["components"][component]) > as_of(good["components"][component]) + DOWN_S / 2


def as_of(part: dict[str, Any]) -> float:
    return datetime.fromisoformat(part["as_of"]).timestamp()


def test_of_nothing_but_what_is_down_there_is_no_point(desk: Desk) -> None:  # fault 39
    desk.protect()
    before = desk.ask("points", "list")
    for path in ("pages", "ledger.db", "answers.jsonl"):
        (desk.root / "eu" / path).rename(desk.root / f"away-{path}")
    error = desk.ask("protect", exits=1)["error"]
    assert error["component"] and error["region"] == "eu" and error["next"]
    assert desk.ask("points", "list") == before


# ------------------------------------------------------------------------------------- it gives only a part


def test_a_database_that_has_lost_a_page_is_not_captured_and_the_whole_one_comes_back(desk: Desk) -> None:
    # fault 41
    desk.protect()
    desk.release(2)
    ledger = desk.root / "eu" / "ledger.db"
    with contextlib.closing(sqlite3.connect(ledger)) as database, database:
        database.execute("CREATE TABLE large AS SELECT zeroblob(50000)")  # whose pages no count looks at
    with ledger.open("r+b") as file:
        file.seek(-3 * PAGE_BYTES, os.SEEK_END)
        file.write(bytes(PAGE_BYTES))
    made = desk.protect(exits=1)
    assert failed(desk, made) == {"ledger"}
    assert desk.ask("recover", "--to", "us")["state"] == "done"
    with contextlib.closing(sqlite3.connect(desk.root / "us" / "ledger.db")) as database:
        assert database.execute("SELECT count(*), max(version) FROM release").fetchone() == (ROWS, 1)


def test_a_table_that_has_lost_a_file_is_not_captured_and_the_whole_one_comes_back(desk: Desk) -> None:
    # fault 41
    import lancedb
    import pyarrow as pa

    desk.write_manifest(VECTORS)
    table = lancedb.connect(str(desk.root / "eu" / "vectors")).create_table(
        "notes", pa.table({"id": range(300)})
    )
    desk.protect()
    table.add(pa.table({"id": range(300, 600)}))
    data = desk.root / "eu" / "vectors" / "notes.lance" / "data"
    min(data.iterdir(), key=lambda path: path.stat().st_mtime_ns).unlink()
    made = desk.protect(exits=1)
    assert failed(desk, made) == {"vectors"}
    assert desk.ask("recover", "--to", "us", "--only", "vectors")["state"] == "done"
    recovered = lancedb.connect(str(desk.root / "us" / "vectors")).open_table("notes")
    assert recovered.count_rows("true") == 300


# -------------------------------------------------------------------------------------- another version wrote it


def test_a_schema_that_moved_without_the_rest_is_never_recovered_unless_a_person_says_so(desk: Desk) -> None:
    # fault 42
    desk.write_manifest(group=GROUP)
    good = desk.protect()
    desk.release(2, schema=8)  # and the pages still speak of 7
    broken = desk.protect(exits=1)
    assert broken["grade"] == "broken"
    refused = desk.ask("recover", "--to", "us", "--point", broken["point"], exits=3)["error"]
    assert refused["rule"] == "group_broken" and refused["next"]
    assert desk.live("us") == []
    done = desk.ask("recover", "--to", "us")
    assert (done["state"], done["point"]) == ("done", good["point"])
    with contextlib.closing(sqlite3.connect(desk.root / "us" / "ledger.db")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (7,)


@dataclass
class Newer:
    """A sink through which a newer program has written: some files are of a format that is not known here."""

    whose: str
    changed: Callable[[bytes], bytes]

    def file(self, sink: SnapshotSink, path: str, content: Path | BinaryIO, **more: Any) -> int:
        if self.whose in path:
            kept = content.read_bytes() if isinstance(content, Path) else content.read()
            content = io.BytesIO(self.changed(kept))
        return as_it_was(sink, path, content, **more)


as_it_was = SnapshotSink.file


def newer_sqlite(content: bytes) -> bytes:
    """A file whose header asks for a reader of a later time (file format, offset 19)."""
    return content[:19] + b"\x09" + content[20:]


def newer_lance(content: bytes) -> bytes:
    """A manifest that asks for a feature of readers which is not known yet."""
    start = int.from_bytes(content[-16:-8], "little")
    asks = content[start + 4 : -16] + bytes([9 << 3, 0x80, 0x80, 0x04])
    return content[:start] + len(asks).to_bytes(4, "little") + asks + content[-16:]


@pytest.mark.parametrize(
    ("component", "newer"),
    [
        ("ledger", Newer("database.sqlite", newer_sqlite)),
        ("vectors", Newer(".manifest", newer_lance)),
    ],
)
def test_what_a_newer_program_wrote_is_refused_before_anything_is_switched(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, component: str, newer: Newer
) -> None:  # fault 42
    if component == "vectors":
        import lancedb
        import pyarrow as pa

        desk.write_manifest(VECTORS)
        lancedb.connect(str(desk.root / "eu" / "vectors")).create_table("notes", pa.table({"id": range(9)}))
    with monkeypatch.context() as patch:
        patch.setattr(SnapshotSink, "file", lambda sink, *a, **more: newer.file(sink, *a, **more))
        desk.protect()
    shutil.rmtree(desk.root / "eu" / "pages")
    refused = desk.ask("recover", "--to", "us", exits=1)
    assert refused["state"] == "rolled_back"
    assert refused["error"]["component"] == component and refused["error"]["next"]
    assert (
        "newer" in refused["error"]["message"]
        or "cannot be read by this version" in refused["error"]["message"]
    )
    assert desk.live("us") == [], "nothing is live, and nothing staged is left"
    stages = {step["phase"] for step in desk.ask("evidence", "show", refused["run"])["steps"]}
    assert "stage" in stages and "activate" not in stages


def test_a_target_whose_packages_are_of_another_version_is_refused_before_anything_is_switched(
    desk: Desk,
) -> None:  # fault 42
    for region, version in (("eu", "3.1.0"), ("us", "3.2.0")):
        environment(desk.root / region / "env", version)
    desk.write_manifest(SERVER.format(root=desk.root))
    desk.protect()
    refused = desk.ask("recover", "--to", "us", exits=1)
    assert refused["state"] == "rolled_back"
    error = refused["error"]
    assert error["component"] == "server"
    assert "3.1.0" in error["message"] and "3.2.0" in error["message"]
    assert "install exactly these versions" in error["next"]
    assert desk.live("us") == ["env"]
    environment(desk.root / "us" / "env", "3.1.0")
    assert desk.ask("recover", "--to", "us", "--only", "pages")["state"] == "done"


def environment(folder: Path, version: str) -> None:
    """A virtual environment in which one package is installed, or is said to be."""
    shutil.rmtree(folder, ignore_errors=True)
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    (packages,) = folder.glob("lib/python3.*/site-packages")
    described = packages / f"model_server-{version}.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: model-server\nVersion: {version}\n")
    (described / "RECORD").write_text("")
