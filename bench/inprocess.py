"""The vault alone, in one Python process: no start of an interpreter, no manifest, no connector, no evidence.

``python bench/inprocess.py PLAN`` reads a JSON document: ``vault``, an empty folder; ``captures``, for each its row,
the folder to store and what it is called; ``verify`` and ``restore``, their rows; ``into``, where to restore to;
``one``, a file to read alone, by its row. It prints how many seconds each row took, and the digest of that file.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from refloat.cli.system import SystemClock
from refloat.contracts import Facts, Store
from refloat.point.model import Point, Snapshot
from refloat.vault.check import check
from refloat.vault.keys import KeyFile
from refloat.vault.replica import Replica
from refloat.vault.stores import open_store
from refloat.vault.writer import Stored, Writer

T = TypeVar("T")

REGION, COMPONENT, PIPELINE = "here", "live", "bench"


class Alone:
    """A vault with one replica, opened anew for each thing that is measured, as a command does."""

    def __init__(self, store: Store) -> None:
        self._clock = SystemClock()
        self._store = store
        self._keys = KeyFile.create(uuid.uuid4().hex, PIPELINE)
        Replica.create(REGION, self._store, self._keys, self._clock, pipeline=PIPELINE)
        self._held: list[tuple[str, Path]] = []
        self._tree: str | None = None

    def _opened(self) -> Replica:
        return Replica.open(REGION, self._store, self._keys, self._clock)

    def capture(self, folder: Path, name: str) -> None:
        """Store a folder beside what was stored before, which is carried over, and commit a point."""
        new = [] if (name, folder) in self._held else [(name, folder)]
        with Writer([self._opened()]) as writer:
            sink = writer.sink(self._tree)
            for held, there in self._held + new:
                for path in sorted(path for path in there.rglob("*") if path.is_file()):
                    self._put(sink, f"{held}/{path.relative_to(there)}", path)
            manifest = writer.sink()
            manifest.file("refloat.yaml", io.BytesIO(b"version: 1\n"))
            stored = sink.finish()
            writer.commit(self._body(stored, manifest.finish().tree))
        self._held, self._tree = self._held + new, stored.tree

    @staticmethod
    def _put(sink: Any, name: str, path: Path) -> None:
        found = path.stat()
        token = f"{found.st_size}:{found.st_mtime_ns}:{found.st_ino}"
        if not sink.carry(name, token):
            sink.file(name, path, token=token, mtime_ns=found.st_mtime_ns)

    def _body(self, stored: Stored, manifest: str) -> Mapping[str, Any]:
        now = self._clock.now()
        snapshot = Snapshot(
            kind="files",
            tree=stored.tree,
            identity={},
            position={},
            as_of=now,
            captured_from=now,
            captured_to=now,
        )
        point = Point(
            pipeline=PIPELINE,
            primary=REGION,
            created_at=now,
            manifest=manifest,
            components={COMPONENT: snapshot},
        )
        return point.model_dump(mode="json")

    def verify(self) -> None:
        """Verify every byte."""
        if not check(self._opened(), read_data=True).ok:
            raise SystemExit("the vault is damaged")

    def restore(self, into: Path) -> None:
        """Bring everything back."""
        assert self._tree is not None
        self._opened().source(self._tree, Facts()).fetch_all(into)

    def read(self, path: str) -> bytes:
        """One file out of everything."""
        assert self._tree is not None
        return self._opened().source(self._tree, Facts()).open(path).read()


def taken(action: Callable[[], T]) -> tuple[float, T]:
    """Seconds that it took, and what came of it."""
    os.sync()
    began = time.perf_counter()
    result = action()
    return time.perf_counter() - began, result


def main(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Do what the plan says, and tell the seconds by row."""
    alone, seconds, digest = Alone(open_store(plan["vault"])), {}, ""
    for capture in plan["captures"]:
        folder, name = Path(capture["folder"]), capture["name"]
        seconds[capture["row"]], _ = taken(partial(alone.capture, folder, name))
    for row in plan["verify"]:
        seconds[row], _ = taken(alone.verify)
    for row in plan["restore"]:
        seconds[row], _ = taken(partial(alone.restore, Path(plan["into"])))
    for row, path in plan["one"].items():
        seconds[row], content = taken(partial(alone.read, path))
        digest = hashlib.sha256(content).hexdigest()
    return {"seconds": seconds, "digest": digest}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
