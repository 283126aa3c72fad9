"""A small pipeline on disk, an operator's key, and an endpoint that is asked."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from refloat.cli.main import run

sys.path.insert(0, str(Path(__file__).parent))  # for the modules beside this one

from small_desk import GROUP, VERIFY, Desk, seated, serving


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders for tests to copy, since every path in them is relative: ``unprotected`` and ``protected``."""
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        (folder / "unprotected").mkdir()
        desk = seated(folder / "unprotected", patch)
        desk.release(1)
        desk.write_manifest()
        assert run(["-q", "vault", "init", "--key", "small.key"]) == 0
        shutil.copytree(folder / "unprotected", folder / "protected")
        seated(folder / "protected", patch)
        assert run(["-q", "protect"]) == 0
    return folder


@pytest.fixture
def unprotected(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Desk:
    """A pipeline with a manifest, an empty vault and a key."""
    shutil.copytree(prepared / "unprotected", tmp_path, dirs_exist_ok=True)
    return seated(tmp_path, monkeypatch, capsys)


@pytest.fixture
def desk(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Desk:
    """The same, protected once."""
    shutil.copytree(prepared / "protected", tmp_path, dirs_exist_ok=True)
    return seated(tmp_path, monkeypatch, capsys)


class _Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 4096  # head and body in one packet, or the body waits 40 ms for an acknowledgement

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.log is not None:  # type: ignore[attr-defined]
            record = {"id": asked["id"], "source": self.server.source_of(self.headers)}  # type: ignore[attr-defined]
            with self.server.log.open("a") as log:  # type: ignore[attr-defined]
                log.write(json.dumps(record) + "\n")
        answered = json.dumps({"topic": self.server.topic_of(asked["question"])}).encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(answered)))
        self.end_headers()
        self.wfile.write(answered)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


class Endpoint(ThreadingHTTPServer):
    """Answers questions over HTTP; ``topic_of`` says how, and may be changed.

    Where there is a ``log``, every question is written there, with what ``source_of`` says of the headers.
    """

    daemon_threads = True
    topic_of: Callable[[str], str] = staticmethod(str.upper)
    log: Path | None = None
    source_of: Callable[[Mapping[str, str]], str] = staticmethod(lambda headers: "user")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/answer"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(("127.0.0.1", 0), _Endpoint) as server, serving(server):
        yield server


@pytest.fixture
def verified(unprotected: Desk, endpoint: Endpoint) -> Desk:
    """A protected pipeline that is verified by ten questions, and its baseline."""
    desk = unprotected
    golden = [
        {"id": f"q{n}", "request": {"question": f"word {n}"}, "expected": {"topic": f"WORD {n}"}}
        for n in range(10)
    ]
    (desk.root / "golden.jsonl").write_text("".join(json.dumps(question) + "\n" for question in golden))
    desk.write_manifest(GROUP, VERIFY, url=endpoint.url)
    desk.ask("verify", "--save-baseline")
    desk.ask("protect")
    return desk


@pytest.fixture
def closed() -> Iterator[int]:
    """A port that nobody listens on, and that nobody else gets meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
