"""The first weeks of a pipeline that nobody here has shaped, over directories and over a real S3 server.

Its endpoint answers from the files of whichever region it is asked for: what came back answers, or nothing does.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import desk as desks
import pytest

pytestmark = pytest.mark.slow

MANIFEST = """\
version: 1
pipeline: helpdesk
primary: {primary}
tiers: {{operational: {{rpo: 1d}}}}
regions:
  eu: {{vault: "{eu}"}}
  us: {{vault: "{us}"}}
components:
  model: {{kind: files, with: {{path: "{root}/${{region}}/model"}}}}
  flags: {{kind: files, with: {{path: "{root}/${{region}}/flags"}}}}
  training: {{kind: files, with: {{path: "{root}/${{region}}/training"}}}}
  answers: {{kind: predictions, with: {{path: "{root}/${{region}}/answers.jsonl"}}}}
groups:
  serving: {{members: [model, flags]}}
verify:
  model:
    probe: {{http: "{url}/${{region}}"}}
    golden: golden.jsonl
    metrics: {{accuracy: {{equal: {{expected: topic, found: topic}}}}}}
    bounds: {{accuracy: {{drop_at_most: 0.01}}, errors: {{at_most: 0.2}}}}
    samples: 20
    warmup: 0
    concurrency: 2
"""
QUESTIONS = [{"id": f"q{n}", "request": {"n": n}, "expected": {"topic": f"topic {n}"}} for n in range(10)]


class Answering(ThreadingHTTPServer):
    """Answers from the files below ``root``; while it is ``learning`` it writes down more with each answer.

    What is ``spoilt`` answers something else, whatever the files say.
    """

    root: Path
    learning = False
    spoilt = False


class _Answers(BaseHTTPRequestHandler):
    server: Answering
    protocol_version = "HTTP/1.1"
    wbufsize = 4096  # head and body in one packet, or the body waits 40 ms for an acknowledgement

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        region = self.server.root / self.path.strip("/")
        if self.server.learning:
            with (region / "training" / "rows.txt").open("a") as rows:
                rows.write(f"{asked}\n")
            with (region / "answers.jsonl").open("a") as log:
                log.write('{"id": "a", "time": "2026-11-01T00:00:00Z"}\n')
        try:
            topics = json.loads((region / "model" / "topics.json").read_text())
            json.loads((region / "flags" / "flags.json").read_text())
            topic = "another" if self.server.spoilt else topics[str(asked["n"])]
            body, status = json.dumps({"topic": topic}).encode(), 200
        except FileNotFoundError:
            body, status = b"{}", 503
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


class Helpdesk:
    """The pipeline's files, its endpoint, and the operator's desk."""

    def __init__(self, desk: desks.Desk, places: dict[str, str], server: Answering) -> None:
        self.desk, self.root, self.places, self.server = desk, desk.folder, places, server
        self.url = f"http://127.0.0.1:{server.server_port}"
        for folder in ("model", "flags", "training"):
            (self.root / "eu" / folder).mkdir(parents=True)
        self.publish(1)
        self.flag(False)
        self.learn("the first row")
        (self.root / "eu" / "answers.jsonl").write_text('{"id": "a1", "time": "2026-11-01T00:00:00Z"}\n')
        (self.root / "golden.jsonl").write_text("".join(json.dumps(one) + "\n" for one in QUESTIONS))
        self.lives_in("eu")

    def lives_in(self, primary: str) -> None:
        places = {"root": self.root, "url": self.url, **self.places}
        (self.root / "refloat.yaml").write_text(MANIFEST.format(primary=primary, **places))

    def publish(self, version: int, region: str = "eu") -> None:
        """Another model, which answers as well."""
        topics = {"version": version, **{str(n): f"topic {n}" for n in range(10)}}
        (self.root / region / "model" / "topics.json").write_text(json.dumps(topics))

    def flag(self, on: bool, region: str = "eu") -> None:
        (self.root / region / "flags" / "flags.json").write_text(json.dumps({"on": on}))

    def learn(self, row: str, region: str = "eu") -> None:
        """A row more in the training folder, on which no answer depends."""
        with (self.root / region / "training" / "rows.txt").open("a") as rows:
            rows.write(row + "\n")

    def ask(self, *words: str, exits: int = 0) -> Any:
        return self.desk.ask(*words, exits=exits)


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Answering]:
    with Answering(("127.0.0.1", 0), _Answers) as server:
        server.root = tmp_path
        serving = Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield server
        server.shutdown()
        serving.join()


@pytest.fixture(params=["directories", "buckets"])
def helpdesk(request: pytest.FixtureRequest, desk: desks.Desk, answering: Answering, use: Any) -> Helpdesk:
    if request.param == "directories":
        return Helpdesk(desk, {region: f"{desk.folder}/{region}-vault" for region in ("eu", "us")}, answering)
    s3 = request.getfixturevalue("seaweedfs")
    use(s3.environment())
    return Helpdesk(desk, {region: s3.place() for region in ("eu", "us")}, answering)


def test_green_means_recoverable_and_a_lost_region_comes_back(helpdesk: Helpdesk) -> None:
    ask = helpdesk.ask
    ask("vault", "init", "--key", "small.key")
    ask("protect")
    assert ask("status", exits=1)["newest"]["unverifiable"].keys() == {"model"}, "nothing was measured yet"
    ask("verify", "--save-baseline")
    assert ask("status")["well"] is True

    helpdesk.learn("a row more, while it serves")
    ask("protect")
    assert ask("status")["well"] is True, "no answer depends on it"

    helpdesk.flag(True)
    ask("protect")
    told = "model: accuracy (flags changed since the baseline of"
    assert told in json.dumps(ask("check"))
    assert ask("plan", "--to", "us")["unverifiable"].keys() == {"model"}
    assert ask("status", exits=1)["newest"]["unverifiable"].keys() == {"model"}

    shutil.rmtree(helpdesk.root / "eu")
    waits = ask("recover", "--to", "us", exits=5)["error"]
    (run,) = ask("run", "list", "--to", "us")["runs"]
    assert run["state"] == "waiting" and run["run"] in waits["next"]
    assert (helpdesk.root / "us" / "model" / "topics.json").exists(), "nothing is put back"
    ask("verify", "--region", "us", "--save-baseline")
    done = ask("recover", "--to", "us", "--resume", run["run"])
    assert (done["state"], done["verified"]) == ("done", True)

    helpdesk.lives_in("us")
    helpdesk.learn("the first row after the disaster", "us")
    made = ask("protect")
    assert {name: region["complete"] for name, region in made["regions"].items()} == {"eu": True, "us": True}
    assert ask("status")["well"] is True

    shutil.rmtree(helpdesk.root / "us")
    back = ask("recover", "--to", "eu")
    assert (back["state"], back["verified"], back["overrides"]) == ("done", True, [])
    helpdesk.lives_in("eu")
    ask("protect")
    assert ask("status")["well"] is True


def test_a_recovery_that_waits_is_put_back_by_a_person_and_one_that_is_worse_by_itself(
    helpdesk: Helpdesk,
) -> None:
    ask = helpdesk.ask
    ask("vault", "init", "--key", "small.key")
    ask("verify", "--save-baseline")
    good = ask("protect")["point"]
    helpdesk.publish(2)
    ask("protect")
    shutil.rmtree(helpdesk.root / "eu")
    ask("recover", "--to", "us", exits=5)
    (run,) = ask("run", "list", "--to", "us")["runs"]
    assert ask("run", "abort", run["run"], "--to", "us")["state"] == "rolled_back"
    assert not (helpdesk.root / "us" / "model").exists()

    helpdesk.server.spoilt = True
    worse = ask("recover", "--to", "us", "--point", good, exits=1)
    assert (worse["state"], worse["verified"], worse["error"]["rule"]) == (
        "rolled_back",
        False,
        "quality_unverified",
    )
    assert not (helpdesk.root / "us" / "model").exists()

    helpdesk.server.spoilt = False
    (helpdesk.root / "golden.jsonl").unlink()  # the point carries its own
    done = ask("recover", "--to", "us", "--point", good)
    assert (done["state"], done["verified"]) == ("done", True)


def test_a_baseline_is_saved_while_everything_else_is_being_written(helpdesk: Helpdesk) -> None:
    ask = helpdesk.ask
    ask("vault", "init", "--key", "small.key")
    helpdesk.server.learning = True
    ask("verify", "--save-baseline")
    assert len((helpdesk.root / "eu" / "training" / "rows.txt").read_text().splitlines()) > len(QUESTIONS)
    ask("protect")
    assert ask("status")["well"] is True
    shutil.rmtree(helpdesk.root / "eu")
    done = ask("recover", "--to", "us")
    assert (done["state"], done["verified"]) == ("done", True)
