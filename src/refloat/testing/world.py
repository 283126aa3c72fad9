"""A small world for tests to live in: a pipeline of real files, a vault in memory, and a clock that tests own.

The pipeline has a folder, an SQLite database and an append-only log, in region ``eu``; the vault has replicas
in ``eu`` and ``us``. Every default is such that an option given in a test matters to it.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from refloat.contracts import Store
from refloat.flows.components import Components
from refloat.flows.points import MANIFEST
from refloat.flows.prepare import Prepared, Wanted, prepare
from refloat.flows.protect import Protected, protect
from refloat.flows.recover import Recovered, prepare_again, recover
from refloat.manifest.model import Manifest
from refloat.manifest.parse import parse
from refloat.manifest.resolve import Resolver
from refloat.vault.keys import KeyFile
from refloat.vault.replica import Replica, create_vault
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.vault import Vault

TEXT = """\
version: 1
pipeline: small
primary: eu
regions:
  eu: {{vault: "memory://eu", vars: {{root: "{root}/eu"}}}}
  us: {{vault: "memory://us", vars: {{root: "{root}/us"}}}}
components:
  pages:
    kind: files
    tier: critical
    with: {{path: "${{region.root}}/pages", expose: {{current: current.json}}}}
  ledger:
    kind: sqlite
    with: {{path: "${{region.root}}/ledger.db", select: {{version: "SELECT max(version) FROM release"}}}}
  answers:
    kind: predictions
    with: {{path: "${{region.root}}/answers.jsonl"}}
"""
"""The manifest of the small pipeline; ``{root}`` is a folder."""

GROUP = """\
groups:
  serving:
    members: [pages, ledger]
    must: [pages.current.version == ledger.version]
"""
"""What must hold in it. Evaluating it takes a process, which a test that protects a hundred times leaves out."""


class WorldClock:
    """A clock that moves by itself a little, so that nothing happens twice at one moment, and by ``sleep``.

    ``jump`` sets the wall time wrong, as a bad time server does; what is measured stays right.
    """

    def __init__(self, start: datetime = datetime(2026, 11, 1, tzinfo=UTC), step_s: float = 0.001) -> None:
        self._start = start
        self._step_s = step_s
        self._elapsed_s = 0.0
        self._wrong_s = 0.0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """The wall time, in UTC."""
        return self._start + timedelta(seconds=self.monotonic() + self._wrong_s)

    def monotonic(self) -> float:
        """Seconds since the world began; each look takes one step."""
        with self._lock:
            self._elapsed_s += self._step_s
            return self._elapsed_s

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass at once."""
        with self._lock:
            self._elapsed_s += seconds

    def jump(self, seconds: float) -> None:
        """Let the wall time be wrong by ``seconds`` more."""
        with self._lock:
            self._wrong_s += seconds


@dataclass
class World:
    """One pipeline, one key, and the stores of its regions."""

    root: Path
    group: str = GROUP
    clock: WorldClock = field(default_factory=WorldClock)
    key_file: KeyFile = field(default_factory=lambda: KeyFile.create("5ma11" * 4, "small"))
    stores: dict[str, Store] = field(default_factory=dict)

    @classmethod
    def small(cls, root: Path, *, group: str = GROUP) -> World:
        """The pipeline at its first release, and an empty vault."""
        world = cls(root, group, stores={region: MemoryStore() for region in ("eu", "us")})
        world.release(1)
        create_vault(world.stores, world.key_file, world.clock, "small")
        return world

    @property
    def text(self) -> bytes:
        """The manifest."""
        return (TEXT.format(root=self.root) + self.group).encode()

    @property
    def manifest(self) -> Manifest:
        """The manifest, parsed."""
        return parse(self.text)

    def resolver(self) -> Resolver:
        """A resolver that knows no variables and no files."""
        return Resolver({}, _no_file)

    def components(self) -> Components:
        """The manifest's components."""
        return Components(self.manifest, self.resolver())

    # ------------------------------------------------------------------------------------ the pipeline lives

    def release(self, version: int, *, pages: int | None = None) -> None:
        """Write release ``version`` of everything, and a line of the log; ``pages`` says otherwise for those."""
        folder = self.root / "eu"
        (folder / "pages" / "deep").mkdir(parents=True, exist_ok=True)
        told = version if pages is None else pages
        (folder / "pages" / "current.json").write_text(json.dumps({"version": told}))
        (folder / "pages" / "deep" / f"page-{version}.txt").write_text(f"what page {version} says\n" * 50)
        with sqlite3.connect(folder / "ledger.db") as database:
            database.execute("CREATE TABLE IF NOT EXISTS release (version INTEGER)")
            database.execute("INSERT INTO release VALUES (?)", (version,))
        database.close()
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
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.name.startswith(".") and path.suffix != ".db"
        }
        if (folder / "ledger.db").exists():
            database = sqlite3.connect(f"file:{folder / 'ledger.db'}?mode=ro", uri=True)
            found["ledger.db"] = repr(database.execute("SELECT version FROM release").fetchall()).encode()
            database.close()
        return found

    # ------------------------------------------------------------------------------------------- the flows

    def vault(self, stores: Mapping[str, Store] | None = None) -> Vault:
        """The vault, opened as a new process would; ``stores`` stand in for some of the world's own."""
        opened = {**self.stores, **(stores or {})}
        replicas = {r: Replica.open(r, store, self.key_file, self.clock) for r, store in opened.items()}
        return Vault(replicas, {})

    def protect(self, vault: Vault | None = None) -> Protected:
        """Make a recovery point."""
        return protect(self.components(), {MANIFEST: self.text}, vault or self.vault(), self.clock)

    def prepared(self, vault: Vault, *, point: str | None = None) -> Prepared:
        """The plan of a recovery into ``us``."""
        return prepare(
            vault.replicas["us"], Wanted("us", point), self.resolver, list(vault.replicas.values())
        )

    def recover(self, vault: Vault | None = None, *, run: str | None = None) -> Recovered:
        """Recover into ``us``, or go on with ``run``."""
        vault = vault or self.vault()
        if run is None:
            return recover(self.prepared(vault), vault, self.clock)
        others = list(vault.replicas.values())
        begun = prepare_again(vault.replicas["us"], run, self.resolver, self.clock, others)
        return recover(begun, vault, self.clock, run=run)


def _no_file(path: str) -> str:
    raise FileNotFoundError(path)
