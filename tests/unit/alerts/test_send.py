"""The channels: a real server on loopback, a real command; what does not take an alert is told within seconds."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from refloat.alerts import send
from refloat.alerts.send import Undelivered, to_command, to_webhook

DOCUMENT = {"schema": 1, "alarms": []}


class _Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, self.headers["Content-Type"], json.loads(body)))  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""


class Hook(ThreadingHTTPServer):
    """Takes what is posted, and answers with ``status``."""

    status = 204

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hook)
        self.got: list[tuple[str, str, object]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/alerts"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Hook() as server:
        serving = Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield server
        server.shutdown()
        serving.join()


def test_a_webhook_gets_the_document_as_json(hook) -> None:
    to_webhook(hook.url, DOCUMENT)
    assert hook.got == [("/alerts", "application/json", DOCUMENT)]


@pytest.mark.parametrize("status", [302, 404, 500])
def test_an_answer_that_is_no_success_is_told_and_no_redirect_is_followed(hook, status: int) -> None:
    hook.status = status
    with pytest.raises(Undelivered, match=f"status {status}"):
        to_webhook(hook.url, DOCUMENT)
    assert [path for path, _, _ in hook.got] == ["/alerts"]


@pytest.mark.parametrize("address", ["ftp://x/", "nonsense", "http://", "http://\x00/", "http://[/"])
def test_an_address_that_is_none_is_told_without_itself(address: str) -> None:
    with pytest.raises(Undelivered) as told:
        to_webhook(address, DOCUMENT)
    assert address not in str(told.value)


def test_a_webhook_that_takes_the_connection_and_never_answers_is_given_up(monkeypatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(send, "REPLY_S", 0.05)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(Undelivered, match="does not answer"),
    ):
        to_webhook(f"http://127.0.0.1:{silent.getsockname()[1]}/", DOCUMENT)


def test_the_limits_of_time_are_seconds() -> None:
    assert send.CONNECT_S + send.REPLY_S + send.COMMAND_S < 30


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_command_reads_the_document(tmp_path: Path) -> None:
    copy = tmp_path / "got"
    to_command(python(f"import sys; open({str(copy)!r}, 'w').write(sys.stdin.read())"), DOCUMENT)
    assert json.loads(copy.read_text()) == DOCUMENT


def test_a_command_that_does_not_read_is_no_failure() -> None:
    to_command(["true"], {"text": "x" * 1_000_000})


def test_a_command_that_fails_is_told() -> None:
    with pytest.raises(Undelivered, match="exit code 3"):
        to_command(python("raise SystemExit(3)"), DOCUMENT)


@pytest.mark.parametrize("words", [["/no/such/program"], ["bad\x00name"]])
def test_a_command_that_is_not_there_is_told(words: list[str]) -> None:
    with pytest.raises(Undelivered, match="cannot be started"):
        to_command(words, DOCUMENT)


def test_a_command_that_hangs_is_ended_with_what_it_started(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(send, "COMMAND_S", 0.5)
    os.mkfifo(tmp_path / "alive")
    alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(Undelivered, match="has not ended"):
        to_command(["sh", "-c", f"exec 3>{tmp_path}/alive; sleep 90 & sleep 90"], DOCUMENT)
    os.set_blocking(alive, True)
    assert os.read(alive, 1) == b"", "it is read to its end once nobody holds the other"
    os.close(alive)
