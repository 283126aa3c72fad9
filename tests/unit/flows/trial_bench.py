"""A small pipeline with points of several versions, and a sandbox in which an endpoint answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from refloat.flows import bisect as flow
from refloat.flows.bisect import Bisected
from refloat.flows.components import Components
from refloat.flows.trial import Sandbox, Trial
from refloat.flows.verify import golden_files, save_baseline
from refloat.testing.world import World

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
MORE = """\
  ledger:
    probe: {{http: "http://127.0.0.1:${{region.port}}/ledger"}}
    golden: golden.jsonl
    metrics: {{accuracy: {{equal: {{expected: topic, found: topic}}}}}}
    bounds: {{accuracy: {{at_least: 1.0}}}}
    concurrency: 1
    samples: 20
    warmup: 0
"""
PLACES = """\
sandboxes:
  bench: {{vars: {{root: "{root}/bench", port: "{port}"}}}}
"""
RIGHT = "accuracy: {at_least: 1.0}"


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 4096  # head and body in one packet, or the body waits 40 ms for an acknowledgement

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answered = self.server.answer(self.path, asked["question"])  # type: ignore[attr-defined]
        if answered is None:
            self.close_connection = True
            return
        body = json.dumps({"topic": answered}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


class Endpoint(ThreadingHTTPServer):
    """Serves from the pages in the sandbox: wrong from version ``poisoned`` on, and not at all those of ``mute``."""

    daemon_threads = True
    pages: Path
    poisoned: int
    versions: list[int]
    mute: int = 0

    def answer(self, path: str, question: str) -> str | None:
        if path == "/ledger":
            return question.upper()
        version = json.loads((self.pages / "current.json").read_text())["version"]
        if version not in self.versions:
            self.versions.append(version)
        if version == self.mute:
            return None
        return question.upper() if version < self.poisoned else "poison"


@dataclass
class Served(World):
    """A pipeline of which each region is asked at a port of its own, where nobody listens.

    ``us_in`` is the folder of the region ``us``, ``more`` what else is said of a region, and ``lacking`` a component
    that is not there.
    """

    us_in: str = "us"
    more: dict[str, str] = field(default_factory=dict)
    lacking: str = ""

    @property
    def text(self) -> bytes:
        known = super().text.decode()
        if self.lacking:
            known = re.sub(rf"  {self.lacking}:\n(    .*\n)+", "", known)
        for port, region in enumerate(("eu", "us"), start=1):
            more = f'", port: "{port}"}}{self.more.get(region, "")}'
            known = known.replace(f'/{region}"}}', f"/{region}{more}")
        return known.replace(f"{self.root}/us", f"{self.root}/{self.us_in}").encode()


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

    def measure(self) -> None:
        """Keep what is answered in the primary as the baseline of what is live there."""
        asked = self.world.group
        self.world.group = asked.replace("${region.port}", str(self.endpoint.server_port))
        files = golden_files(self.today, self.world.root)
        save_baseline(self.today, files, self.world.vault(), "eu", self.world.clock)
        self.world.group = asked

    def left(self) -> list[str]:
        """What lies in the sandbox."""
        folder = self.world.root / "bench"
        return (
            [str(path.relative_to(folder)) for path in sorted(folder.rglob("*"))] if folder.exists() else []
        )


def made(
    root: Path,
    endpoint: Endpoint,
    *,
    bounds: str = RIGHT,
    places: str = PLACES,
    more: str = "",
    group: str = "",
) -> Bench:
    """A bench of which nothing is protected yet."""
    golden = [
        {"id": f"q{n}", "request": {"question": f"word {n}"}, "expected": {"topic": f"WORD {n}"}}
        for n in range(5)
    ]
    (root / "golden.jsonl").write_text("".join(json.dumps(question) + "\n" for question in golden))
    said = places.format(root=root, port=endpoint.server_port)
    return Bench(Served.small(root, group=group + (ASKED + more).format(bounds=bounds) + said), endpoint)
