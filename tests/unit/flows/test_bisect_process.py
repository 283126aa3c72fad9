"""A pipeline that serves by itself: each trial starts the program of its point, fenced, and ends it."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "connectors"))  # for ports that are kept

from held_port import held_port

from refloat.connectors import process_table as table
from refloat.errors import Refused
from refloat.flows import bisect as flow
from refloat.flows.components import Components
from refloat.flows.points import MANIFEST
from refloat.flows.protect import protect
from refloat.manifest.parse import parse
from refloat.manifest.resolve import Resolver
from refloat.run.target import token
from refloat.testing.world import WorldClock
from refloat.vault.keys import KeyFile
from refloat.vault.replica import Replica, create_vault
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.vault import Vault

PROGRAM = """
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

version = json.loads(Path("model.json").read_text())["version"]

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"topic": asked["question"].upper() if version < 3 else "poison"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass

HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
TEXT = """\
version: 1
pipeline: small
primary: eu
regions:
  eu: {vault: "memory://eu", vars: {root: "ROOT/eu", port: "1"}}
sandboxes:
  bench: {vars: {root: "ROOT/bench", port: "PORT"}}
components:
  app:
    kind: files
    with: {path: "${region.root}/app"}
  assistant:
    kind: process
    needs: [app]
    with:
      command: [PYTHON, serve.py, "${region.port}"]
      cwd: "${region.root}/app"
      fence_file: "${region.root}/fence"
      health: "http://127.0.0.1:${region.port}/health"
      packages: [pytest]
      env: {STORE: "SECRET"}
verify:
  assistant:
    probe: {http: "http://127.0.0.1:${region.port}/answer"}
    golden: golden.jsonl
    metrics: {accuracy: {equal: {expected: topic, found: topic}}}
    bounds: {accuracy: {at_least: 1.0}}
    concurrency: 1
    samples: 20
    warmup: 0
"""


class Served:
    """A program and its model in a vault of one region, and a sandbox with a port of its own."""

    def __init__(self, root: Path, port: int) -> None:
        self.root, self.clock, self.port = root, WorldClock(), port
        self.key, self.store = KeyFile.create("5ma11" * 4, "small"), MemoryStore()
        create_vault({"eu": self.store}, self.key, self.clock, "small")
        (root / "golden.jsonl").write_text(
            '{"id": "q", "request": {"question": "a"}, "expected": {"topic": "A"}}'
        )
        (root / "eu" / "app").mkdir(parents=True)
        (root / "eu" / "app" / "serve.py").write_text(PROGRAM)

    @property
    def vault(self) -> Vault:
        return Vault({"eu": Replica.open("eu", self.store, self.key, self.clock)}, {})

    def text(self, secret: str = "nothing") -> bytes:
        changes = {"ROOT": self.root, "PORT": self.port, "PYTHON": sys.executable, "SECRET": secret}
        text = TEXT
        for word, value in changes.items():
            text = text.replace(word, str(value))
        return text.encode()

    def today(self, secret: str = "nothing") -> Components:
        return Components(parse(self.text(secret)), Resolver({}, lambda path: ""))

    def protect(self, version: int) -> str:
        (self.root / "eu" / "app" / "model.json").write_text(json.dumps({"version": version}))
        return protect(self.today(), {MANIFEST: self.text()}, self.vault, self.clock).name


def test_the_program_of_each_point_answers_and_is_ended(tmp_path: Path) -> None:
    with held_port() as port:
        served = Served(tmp_path, port)
        points = [served.protect(version) for version in (1, 2, 3)]
        sandbox, remarks = flow.opened(served.today(), tmp_path, served.vault, served.clock, "bench")
        found = flow.bisect(sandbox)
        assert remarks == []
        assert {trial.point: trial.verdict for trial in found.trials} == {points[1]: True, points[2]: False}
        assert found.newest is not None and found.newest.name == points[1]
        for trial in found.trials:
            assert table.carrying(token(trial.run, "assistant")) == []
        with socket.socket() as asking:
            assert asking.connect_ex(("127.0.0.1", port)) != 0
    left = {path.name for path in (tmp_path / "bench").iterdir()}
    assert left <= {"assistant.log"}, "not even its fence, and nothing of the point is left"
    assert {path.name for path in (tmp_path / "eu" / "app").iterdir()} == {"serve.py", "model.json"}
    assert {path.name for path in (tmp_path / "eu").iterdir()} == {"app"}


def test_a_program_that_is_told_of_something_alive_is_not_even_staged(tmp_path: Path) -> None:
    with held_port() as port:
        served = Served(tmp_path, port)
        served.protect(1)
        with pytest.raises(Refused) as error:
            flow.opened(
                served.today(f"{tmp_path}/eu/app/model.json"), tmp_path, served.vault, served.clock, "bench"
            )
    assert error.value.rule == "sandbox_shared"
    assert f"assistant in bench would use {tmp_path}/eu/app, which is used by app in eu" in str(error.value)
    assert not (tmp_path / "bench").exists()
