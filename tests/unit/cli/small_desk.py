"""Where an operator works: a small pipeline on disk, a key, and the command line called as a function."""

from __future__ import annotations

import contextlib
import itertools
import json
import shlex
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from refloat.cli.main import run
from refloat.cli.system import SystemClock
from refloat.verification.load import measure

REGIONS = """\
regions:
  eu: {{vault: "eu/vault"}}
  us: {{vault: "us/vault"}}
"""
PIPELINE = """\
version: 1
pipeline: small
primary: eu
components:
  pages:
    kind: files
    tier: critical
    with: {{path: "${{region}}/pages", expose: {{current: current.json}}}}
  ledger:
    kind: sqlite
    with: {{path: "${{region}}/ledger.db", select: {{version: "SELECT max(version) FROM release"}}}}
  answers:
    kind: predictions
    with: {{path: "${{region}}/answers.jsonl"}}
"""
GROUP = """\
groups:
  serving:
    members: [pages, ledger]
    skew: {skew}
    must: [pages.current.version == ledger.version]
"""
VERIFY = """\
verify:
  pages:
    probe: {{http: "{url}"}}
    golden: golden.jsonl
    metrics: {{accuracy: {{equal: {{expected: topic, found: topic}}}}, exact_match: {{same: [topic]}}}}
    bounds: {{accuracy: {{drop_at_most: 0.01}}, exact_match: {{drop_at_most: 0.01}}, errors: {{at_most: 0.5}}}}
    concurrency: 2
    samples: 40
    warmup: 0
"""


@dataclass
class Desk:
    """Where an operator works: a folder with the manifest, and the commands."""

    root: Path
    capture: pytest.CaptureFixture[str] | None
    said: str = ""

    @property
    def manifest(self) -> Path:
        return self.root / "refloat.yaml"

    @property
    def key(self) -> Path:
        return self.root / "small.key"

    def vault(self, region: str) -> Path:
        return self.root / region / "vault"

    def write_manifest(self, *parts: str, regions: str = REGIONS, skew: str = "5s", url: str = "") -> None:
        """The pipeline, its regions, its group unless ``parts`` say what else, and ``parts``."""
        text = "".join([PIPELINE, regions, *(parts or (GROUP,))])
        self.manifest.write_text(text.format(skew=skew, url=url))

    def release(self, version: int, *, pages: int | None = None) -> None:
        """Write another release of everything; ``pages`` says otherwise for those, which breaks the group."""
        region = self.root / "eu"
        (region / "pages").mkdir(parents=True, exist_ok=True)
        told = version if pages is None else pages
        (region / "pages" / "current.json").write_text(json.dumps({"version": told}))
        (region / "pages" / f"{version}.txt").write_text(f"what page {version} says\n" * 50)
        with contextlib.closing(sqlite3.connect(region / "ledger.db")) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS release (version INTEGER)")
            database.execute("INSERT INTO release VALUES (?)", (version,))
        with (region / "answers.jsonl").open("a") as log:
            log.write(json.dumps({"id": f"a{version}", "time": "2026-11-01T00:00:00Z"}) + "\n")

    def pages(self, region: str) -> dict[str, str]:
        """What is live of the pages."""
        return {path.name: path.read_text() for path in (self.root / region).glob("pages/*")}

    def lose(self, region: str = "eu") -> None:
        """All of a region is gone, its vault too, and the manifest with it."""
        shutil.rmtree(self.root / region)
        self.manifest.unlink()

    def answer(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """A command's exit code and document; what it said to people is then in ``said``."""
        code = run(["-f", str(self.manifest), "--json", *arguments])
        out = self._heard()
        document = json.loads(out)
        assert document.pop("schema") == 1
        return code, document

    def ask(self, *arguments: str, exits: int = 0) -> dict[str, Any]:
        """A command's document, where it ends as it must."""
        code, document = self.answer(*arguments)
        assert code == exits, (document, self.said)
        return document

    def pasted(self, command: str) -> str:
        """What is said of a command, so that it can be pasted: with the manifest that was named."""
        return f"refloat -f {shlex.quote(str(self.manifest))} {command}"

    def error(self, *arguments: str, exits: int) -> dict[str, Any]:
        """The error of a command that ends as it must."""
        document = self.ask(*arguments, exits=exits)
        error: dict[str, Any] = document["error"]
        return error

    def read(self, *arguments: str) -> str:
        """What a person reads on stdout."""
        run(["-f", str(self.manifest), "--no-color", *arguments])
        return self._heard()

    def _heard(self) -> str:
        assert self.capture is not None
        out, self.said = self.capture.readouterr()
        return out


def set_clock(desk: Desk, patch: pytest.MonkeyPatch, seconds: float) -> None:
    """From now on it is so many seconds after the first point, and a little more at each look."""
    first = datetime.fromisoformat(desk.ask("points", "list")["points"][-1]["created_at"])
    looks = itertools.count()
    patch.setattr(
        SystemClock, "now", lambda self: first + timedelta(seconds=seconds, milliseconds=next(looks))
    )


def seated(root: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str] | None = None) -> Desk:
    """Sit down at a desk: be in its folder, with its key and its home."""
    for variable in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "REFLOAT_PASSPHRASE"):
        patch.delenv(variable, raising=False)
    desk = Desk(root, capture)
    patch.setenv("HOME", str(root / "home"))
    patch.setenv("REFLOAT_KEY_FILE", str(desk.key))
    patch.chdir(root)
    return desk


class SlowClock(SystemClock):
    """Five seconds pass for whoever looks."""

    def __init__(self) -> None:
        self._looks = itertools.count()

    def monotonic(self) -> float:
        return 5.0 * next(self._looks)


def make_slow(patch: pytest.MonkeyPatch) -> None:
    """From now on the forty questions of ``VERIFY`` take longer than the five minutes that a measurement has."""
    patch.setattr(
        "refloat.flows.verify.measure",
        lambda *given, **asked: measure(*given, **{**asked, "clock": SlowClock()}),
    )


@contextlib.contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    """Answer in a thread of its own, which has ended when the context is left."""
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
