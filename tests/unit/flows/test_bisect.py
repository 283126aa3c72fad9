"""The last good point: real recoveries of a small pipeline into a sandbox, asked over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from refloat.errors import Interrupted, Refused, UsageError, Waiting
from refloat.evidence import seal
from refloat.flows import bisect as flow
from refloat.flows.bisect import Bisected
from refloat.flows.components import Components
from refloat.flows.points import MANIFEST
from refloat.flows.prepare import history
from refloat.flows.protect import protect
from refloat.flows.recover import DRILLS, SANDBOX, journal_of, recover, run_named, runs_of, unfinished
from refloat.flows.trial import Sandbox, Trial
from refloat.manifest.parse import parse
from refloat.run.claim import Claim
from refloat.run.state import Holder
from refloat.testing.world import World
from refloat.vault.keys import Role

ASKED = """\
verify:
  pages:
    probe: {{http: "http://127.0.0.1:${{region.port}}/answer"}}
    golden: golden.jsonl
    metrics: {{accuracy: {{equal: {{expected: topic, found: topic}}}}, exact_match: {{same: [topic]}}}}
    bounds: {{{bounds}}}
    concurrency: 1
    samples: 20
    warmup: 0
"""
PLACES = """\
sandboxes:
  bench: {{vars: {{root: "{root}/bench", port: "{port}"}}}}
"""
RIGHT = "accuracy: {at_least: 1.0}"


class _Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 4096  # head and body in one packet, or the body waits 40 ms for an acknowledgement

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answered = self.server.answer(asked["question"])  # type: ignore[attr-defined]
        body = json.dumps({"topic": answered}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


class Endpoint(ThreadingHTTPServer):
    """Serves from the pages in the sandbox: wrong from version ``poisoned`` on."""

    daemon_threads = True
    pages: Path
    poisoned: int
    versions: list[int]

    def answer(self, question: str) -> str:
        version = json.loads((self.pages / "current.json").read_text())["version"]
        if version not in self.versions:
            self.versions.append(version)
        return question.upper() if version < self.poisoned else "poison"


@dataclass
class Served(World):
    """A pipeline of which each region is asked at a port of its own, where nobody listens."""

    @property
    def text(self) -> bytes:
        known = super().text
        for port, region in enumerate(("eu", "us"), start=1):
            known = known.replace(f'/{region}"}}'.encode(), f'/{region}", port: "{port}"}}'.encode())
        return known


@dataclass
class Bench:
    """A pipeline with points of several versions, and a sandbox in which an endpoint answers."""

    world: World
    endpoint: Endpoint
    points: list[str] = field(default_factory=list)

    @property
    def today(self) -> Components:
        return self.world.components()

    def protect(self, versions: int) -> list[str]:
        """A point of each version from 1; their names, oldest first."""
        for version in range(1, versions + 1):
            self.world.release(version)
            self.points.append(self.world.protect().name)
        return self.points

    def opened(self, **options: str | None) -> Sandbox:
        vault, clock = self.world.vault(), self.world.clock
        return flow.opened(self.today, self.world.root, vault, clock, "bench", **options)[0]

    def search(self, on_trial: Callable[[Trial], None] = lambda trial: None, **options: str) -> Bisected:
        component = options.pop("component", None)
        bench = self.opened(good=options.get("good"), component=component)
        return flow.bisect(bench, on_trial=on_trial, **options)

    def left(self) -> list[str]:
        """What lies in the sandbox."""
        folder = self.world.root / "bench"
        return [str(path.relative_to(folder)) for path in sorted(folder.rglob("*"))] if folder.exists() else []


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Endpoint]:
    with Endpoint(("127.0.0.1", 0), _Endpoint) as server:
        server.pages, server.poisoned, server.versions = tmp_path / "bench" / "pages", 99, []
        serving = Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield server
        server.shutdown()
        serving.join()


def made(
    root: Path, endpoint: Endpoint, *, bounds: str = RIGHT, places: str = PLACES, group: str = ""
) -> Bench:
    """A bench of which nothing is protected yet."""
    golden = [
        {"id": f"q{n}", "request": {"question": f"word {n}"}, "expected": {"topic": f"WORD {n}"}}
        for n in range(5)
    ]
    (root / "golden.jsonl").write_text("".join(json.dumps(question) + "\n" for question in golden))
    said = places.format(root=root, port=endpoint.server_port)
    return Bench(Served.small(root, group=group + ASKED.format(bounds=bounds) + said), endpoint)


@pytest.fixture
def bench(tmp_path: Path, endpoint: Endpoint) -> Bench:
    return made(tmp_path, endpoint)


# ------------------------------------------------------------------------------------------------ the search


def test_the_newest_point_whose_answers_pass_is_found_by_halves(bench: Bench, endpoint: Endpoint) -> None:
    points = bench.protect(7)
    endpoint.poisoned = 5
    told: list[Trial] = []
    live = bench.world.live("eu")
    found = bench.search(on_trial=told.append)
    assert found.ok and found.newest is not None and found.newest.name == points[3]
    assert found.failing is not None and found.failing.name == points[4]
    assert [(trial.point, trial.verdict) for trial in told] == [
        (points[3], True),
        (points[5], False),
        (points[4], False),
    ]
    assert endpoint.versions == [4, 6, 5], "each was recovered, and asked"
    assert found.next == f"refloat recover --to eu --point {points[3][:12]}"
    assert found.newer == (points[6],) and found.untested == {}
    assert bench.left() == [], "and cleaned up"
    assert bench.world.live("eu") == live
