"""While something still answers where the pipeline lived, nothing is staged in another region."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from small_desk import Desk, serving

REGIONS = """\
  assistant:
    kind: process
    with: {{command: [python3, -c, pass], cwd: ".", packages: [pytest], health: "{url}/${{region}}"}}
regions:
  eu: {{vault: "eu/vault"}}
  us: {{vault: "us/vault"}}
"""


class Health(ThreadingHTTPServer):
    """Answers 200 for each region in which the assistant is ``alive``, 503 for any other."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Health)
        self.alive = {"eu"}


class _Health(BaseHTTPRequestHandler):
    server: Health

    def do_GET(self) -> None:
        region = self.path.strip("/")
        self.send_response(200 if region in self.server.alive else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def health() -> Iterator[Health]:
    with Health() as server, serving(server):
        yield server


@pytest.fixture
def assisted(unprotected: Desk, health: Health) -> Desk:
    """A pipeline with an endpoint, protected while that answers."""
    unprotected.write_manifest(regions=REGIONS, url=f"http://127.0.0.1:{health.server_port}")
    unprotected.ask("protect")
    return unprotected


def test_what_still_answers_stands_in_the_way_until_it_is_stopped(assisted: Desk, health: Health) -> None:
    error = assisted.ask("recover", "--to", "us", "--only", "pages", exits=3)["error"]
    assert error["rule"] == "source_alive" and "assistant still answers in eu" in error["message"]
    assert error["next"].startswith("stop what runs in eu")
    assert error["next"].endswith("recover --to us --only pages --override source_alive")
    assert not (assisted.root / "us" / "pages").exists()
    health.alive.clear()
    done = assisted.ask("recover", "--to", "us", "--only", "pages")
    assert (done["state"], done["overrides"]) == ("done", [])


def test_whoever_knows_better_says_so(assisted: Desk) -> None:
    done = assisted.ask("recover", "--to", "us", "--only", "pages", "--override", "source_alive")
    assert (done["state"], done["overrides"]) == ("done", ["source_alive"])
