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
from refloat.flows.verify import golden_files, save_baseline
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


class _Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 4096  # head and body in one packet, or the body waits 40 ms for an acknowledgement

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answered = self.server.answer(self.path, asked["question"])  # type: ignore[attr-defined]
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

    def answer(self, path: str, question: str) -> str:
        if path == "/ledger":
            return question.upper()
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


@pytest.mark.parametrize(("poisoned", "newest"), [(1, None), (99, 3)])
def test_none_may_pass_and_all_may(
    bench: Bench, endpoint: Endpoint, poisoned: int, newest: int | None
) -> None:
    points = bench.protect(3)
    endpoint.poisoned = poisoned
    found = bench.search()
    assert (found.newest and found.newest.name) == (newest and points[newest - 1])
    assert found.ok is (newest is not None)
    assert (found.failing is None) is (newest is not None)
    said = found.spoken()[0]
    assert said.startswith("the newest point passes" if newest else "no point is known to pass")
    assert found.next.startswith("refloat recover" if newest else "refloat points list")


def test_what_a_person_knows_is_not_tried_again(bench: Bench, endpoint: Endpoint) -> None:
    points = bench.protect(4)
    endpoint.poisoned = 3
    found = bench.search(good=points[1], bad=points[2])
    assert found.trials == () and found.newest is not None and found.newest.name == points[1]
    assert found.document()["tried"] is False and "given as good, and not tried" in found.spoken()[0]
    assert found.newer == (points[3],)
    for good, bad, problem in (
        (points[2], points[1], "is not older"),
        ("zz", points[1], "no point here begins with"),
    ):
        with pytest.raises(UsageError, match=problem):
            flow.bisect(bench.opened(), good=good, bad=bad)


def test_each_trial_is_on_record_as_a_drill_in_every_region(bench: Bench) -> None:
    bench.protect(1)
    (trial,) = bench.search().trials
    vault = bench.world.vault()
    for replica in vault.replicas.values():
        (record,) = seal.records(replica)
        assert (record.kind, record.run, record.state) == ("drill", trial.run, "rolled_back")
        assert (record.to, record.point, record.verified) == ("bench", trial.point, True)
        assert record.checks == trial.checks
    learnt = {timing.step_id for timing in history(vault.replicas["eu"])}
    assert {"stage.stage:pages", "activate.activate:ledger", "verify.verify:pages"} <= learnt


def test_no_drill_is_taken_for_a_recovery(bench: Bench) -> None:
    bench.protect(1)
    recovered = bench.world.recover().evidence.run
    (trial,) = bench.search().trials[:1]
    for region in ("eu", "us"):
        replica = bench.world.vault().replicas[region]
        assert trial.run not in runs_of(replica, region)
        assert list(unfinished(replica, bench.world.clock)) == []
        with pytest.raises(UsageError, match="no run .* was begun in this region"):
            run_named(replica, region, trial.run)
    assert run_named(bench.world.vault().replicas["us"], "us", "latest") == recovered


# ------------------------------------------------------------------------------------------- what is asked


def test_every_point_is_asked_todays_questions_whatever_its_own_manifest_asks(
    bench: Bench, endpoint: Endpoint
) -> None:
    today = bench.world.group
    bench.world.group = ""
    first = bench.protect(1)[0]
    bench.world.group = today.replace("accuracy: {at_least: 1.0}", "accuracy: {at_least: 0.0}")
    bench.world.release(2)
    second = protect(
        bench.today,
        {MANIFEST: bench.world.text, "verify/pages.jsonl": b'{"id": "q", "request": {}}'},
        bench.world.vault(),
        bench.world.clock,
    ).name
    bench.world.group = today
    endpoint.poisoned = 2
    found = bench.search()
    assert {trial.point: trial.verdict for trial in found.trials} == {first: True, second: False}
    assert {check.bound for trial in found.trials for check in trial.checks} == {"at least 1", "at most 0.05"}


def test_how_fast_a_sandbox_answers_tells_nothing(tmp_path: Path, endpoint: Endpoint) -> None:
    bench = made(tmp_path, endpoint, bounds=f"{RIGHT}, latency_p95: {{at_most: 1ms}}")
    bench.protect(1)
    (trial,) = bench.search().trials
    assert trial.verdict is True and {check.name for check in trial.checks} == {"accuracy", "errors"}


def test_a_bound_that_needs_a_baseline_is_held_against_that_of_the_good_point_alone(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    """The baseline of a poisoned point was measured from poisoned answers: beside it each of them passes."""
    bench = made(tmp_path, endpoint, bounds="exact_match: {drop_at_most: 0.0}")
    points = []
    endpoint.pages, endpoint.poisoned = tmp_path / "eu" / "pages", 3
    for version in (1, 2, 3):
        bench.world.release(version)
        points.append(bench.world.protect().name)
        bench.measure()
    endpoint.pages = tmp_path / "bench" / "pages"
    with pytest.raises(
        UsageError, match="nothing tells whether answers are good: pages: exact_match"
    ) as error:
        bench.opened()
    assert "--good POINT" in str(error.value.next)
    found = bench.search(good=points[0])
    assert {trial.point: trial.verdict for trial in found.trials} == {points[1]: True, points[2]: False}
    assert found.newest is not None and found.newest.name == points[1]


def test_a_verdict_is_that_of_each_component(tmp_path: Path, endpoint: Endpoint) -> None:
    bench = made(tmp_path, endpoint, more=MORE)
    points = bench.protect(2)
    endpoint.poisoned = 2
    by_point = {trial.point: trial.components for trial in bench.search().trials}
    assert by_point[points[1]] == {"pages": False, "ledger": True}
    found = bench.search(component="ledger")
    assert [trial.components for trial in found.trials] == [{"ledger": True}]
    assert found.newest is not None and found.newest.name == points[1]
    with pytest.raises(UsageError, match="verifies no component 'answers'"):
        bench.search(component="answers")
