"""The HTTP probe against a real server: timed, bounded, followed into the log."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from refloat.contracts import Question
from refloat.errors import ManifestError
from refloat.registry import probe
from refloat.verification.probes.http import HttpProbe

QUESTION = Question("q1", {"question": "what is a list?", "id": "of the golden set"}, {})

Reply = Callable[["Handler", dict[str, Any]], None]


class Handler(BaseHTTPRequestHandler):
    """One request, as the test's ``reply`` answers it."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.client_address[1], dict(self.headers), body))
        self.server.reply(self, body)

    def send(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        """Nothing: the test's own output is enough."""


class Server(ThreadingHTTPServer):
    """A server on a free port that remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[int, dict[str, str], dict[str, Any]]] = []
        self.reply: Reply = lambda handler, body: handler.send(json.dumps({"topic": "types"}).encode())

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a client that hangs up is what some of these tests are about."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/answer"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


POLL_S = 0.5


class FakeTime:
    """The probe's time: it passes where the server says so, and where the probe waits; then things may happen."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.happens: list[tuple[float, Callable[[], object]]] = []

    def perf_counter(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        while self.happens and self.happens[0][0] <= self.now_s:
            self.happens.pop(0)[1]()

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        self.happens.append((self.now_s + seconds, act))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """Time of the probe's own, in larger steps; the network keeps the machine's."""
    clock = FakeTime()
    monkeypatch.setattr("refloat.verification.probes.http.LOG_POLL_S", POLL_S)
    monkeypatch.setattr("refloat.verification.probes.http.time", clock)
    return clock


@pytest.fixture
def client(server: Server) -> Iterator[Callable[..., HttpProbe]]:
    made: list[HttpProbe] = []

    def make(timeout_s: float = 60.0, **settings: Any) -> HttpProbe:
        made.append(HttpProbe({"url": server.url, **settings}, timeout_s))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_question_is_sent_marked_with_an_id_of_its_own(
    server: Server, client: Callable[..., HttpProbe]
) -> None:
    asking = client(headers={"Authorization": "Bearer t"}, id_field="request_id")
    answers = [asking.ask(QUESTION), asking.ask(QUESTION)]
    assert [(answer.question, answer.response, answer.error) for answer in answers] == [
        (QUESTION, {"topic": "types"}, "")
    ] * 2
    (port, headers, body), (same_port, _, other) = server.seen
    assert headers["X-Refloat-Probe"] == "1"
    assert headers["Authorization"] == "Bearer t"
    assert headers["baggage"] == "refloat.probe=1"
    assert body["question"] == "what is a list?" and body["id"] == "of the golden set"
    assert body["request_id"] != other["request_id"]
    assert port == same_port, "the connection is kept alive"
    assert uuid.UUID(body["request_id"]).version == 4, "some endpoints take nothing else"
    assert uuid.UUID(body["request_id"]).bytes.startswith(b"refloa")


def test_the_baggage_that_a_manifest_gives_stays(server: Server, client: Callable[..., HttpProbe]) -> None:
    client(headers={"Baggage": "tenant=a", "X-Refloat-Probe": "0"}).ask(QUESTION)
    ((_, headers, _),) = server.seen
    found = {name.lower(): value for name, value in headers.items()}
    assert found["baggage"] == "tenant=a,refloat.probe=1"
    assert found["x-refloat-probe"] == "1"


def test_an_endpoint_with_nothing_behind_its_port_says_so() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        probe = HttpProbe(f"http://127.0.0.1:{port}/answer")
        assert probe.unreachable() == f"connection refused at 127.0.0.1:{port}"
        assert probe.ask(QUESTION).error == f"connection refused at 127.0.0.1:{port}"
        probe.close()


def test_an_answer_is_timed_to_its_last_byte(
    server: Server, client: Callable[..., HttpProbe], clock: FakeTime
) -> None:
    def in_two_pieces(handler: Handler, body: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "2")
        handler.end_headers()
        handler.wfile.write(b"{")
        clock.now_s += 0.25
        handler.wfile.write(b"}")

    server.reply = in_two_pieces
    assert client().ask(QUESTION).seconds == 0.25


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (lambda handler, body: handler.send(b"{}", 503), "status 503"),
        (lambda handler, body: handler.send(b"", 307, Location="/other"), "status 307"),
        (lambda handler, body: handler.send(b"<html>"), "not JSON"),
        (lambda handler, body: handler.send(b"[1]"), "not a JSON object"),
        (lambda handler, body: handler.send(b" " * 5_000_000), "larger than 4194304 bytes"),
        (lambda handler, body: handler.connection.shutdown(socket.SHUT_RDWR), "disconnected"),
    ],
)
def test_what_is_no_answer_is_said_to_be_none(
    server: Server, client: Callable[..., HttpProbe], reply: Reply, why: str
) -> None:
    server.reply = reply
    answer = client().ask(QUESTION)
    assert why in answer.error
    assert (answer.seconds, answer.response) == (None, {})
    assert len(server.seen) == 1


def test_a_server_that_drips_is_given_up_at_the_deadline(
    server: Server, client: Callable[..., HttpProbe], clock: FakeTime
) -> None:
    over = threading.Event()

    def drip(handler: Handler, body: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(20):
            clock.now_s += 4
            handler.wfile.write(b" ")
        over.wait(60)

    server.reply = drip
    assert "not complete within 60 s" in client(timeout_s=60.0).ask(QUESTION).error
    over.set()


def test_a_server_that_is_not_there_or_says_nothing_is_an_error_not_a_crash(
    server: Server, client: Callable[..., HttpProbe]
) -> None:
    over = threading.Event()
    server.reply = lambda handler, body: over.wait(60)
    assert client(timeout_s=0.1).ask(QUESTION).error
    over.set()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = HttpProbe(f"http://127.0.0.1:{unused.getsockname()[1]}/")
        assert "refused" in nobody.ask(QUESTION).error
        assert nobody.trace(QUESTION).error
        nobody.close()


# ------------------------------------------------------------------------------------------- the log


def append(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def logging(log: Path, clock: FakeTime) -> Reply:
    """A server that answers at once and writes its log later, a line in two pieces."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        line = json.dumps({"id": body["id"], "topic": "types"}) + "\n"
        clock.later(20, lambda: append(log, line[:20]))
        clock.later(25, lambda: append(log, line[20:]))
        handler.send(b"{}")

    return reply


def test_a_trace_runs_until_the_answer_stands_in_the_log(
    server: Server, client: Callable[..., HttpProbe], clock: FakeTime, tmp_path: Path
) -> None:
    log = tmp_path / "answers.jsonl"
    log.write_text('{"id": "earlier"}\nno JSON at all\n')
    server.reply = logging(log, clock)
    answer = client(log=str(log)).trace(QUESTION)
    assert answer.error == ""
    assert answer.seconds == 0
    assert answer.end_to_end_s == pytest.approx(25, abs=2 * POLL_S)


def test_a_log_that_begins_anew_is_read_from_its_start(
    server: Server, client: Callable[..., HttpProbe], clock: FakeTime, tmp_path: Path
) -> None:
    log = tmp_path / "answers.jsonl"
    log.write_text('{"id": "earlier"}\n' * 100)
    write = logging(log, clock)

    def rotate(handler: Handler, body: dict[str, Any]) -> None:
        log.unlink()
        write(handler, body)

    server.reply = rotate
    assert client(log=str(log)).trace(QUESTION).error == ""


def test_only_what_is_appended_after_the_question_is_read(
    server: Server,
    client: Callable[..., HttpProbe],
    clock: FakeTime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = uuid.UUID(int=1)
    monkeypatch.setattr("refloat.verification.probes.http.uuid.uuid4", lambda: name)
    log = tmp_path / "answers.jsonl"
    log.write_text(json.dumps({"id": name.hex}) + "\n")
    assert "not in the log" in client(log=str(log)).trace(QUESTION).error


def test_an_answer_that_never_reaches_the_log_is_a_failure(
    server: Server, client: Callable[..., HttpProbe], clock: FakeTime, tmp_path: Path
) -> None:
    log = tmp_path / "answers.jsonl"
    answer = client(log=str(log)).trace(QUESTION)
    assert "not in the log within 60 s" in answer.error
    assert answer.end_to_end_s is None


def test_a_record_that_only_mentions_the_id_is_not_the_answer(
    server: Server, client: Callable[..., HttpProbe], clock: FakeTime, tmp_path: Path
) -> None:
    log = tmp_path / "answers.jsonl"

    def mention(handler: Handler, body: dict[str, Any]) -> None:
        log.write_text(json.dumps({"id": "other", "seen": body["id"]}) + f"\n{body['id']}\n")
        handler.send(b"{}")

    server.reply = mention
    assert "not in the log" in client(log=str(log)).trace(QUESTION).error


def test_without_a_log_the_response_is_the_end(server: Server, client: Callable[..., HttpProbe]) -> None:
    answer = client().trace(QUESTION)
    assert answer.end_to_end_s == answer.seconds is not None


# ------------------------------------------------------------------------------------------- settings


def test_an_address_alone_is_settings_enough(server: Server) -> None:
    assert probe("http") is HttpProbe
    asking = HttpProbe(server.url)
    assert asking.ask(QUESTION).error == ""
    asking.close()


@pytest.mark.parametrize(
    "wrong", ["ftp://host/", {}, {"url": "http://h/", "uri": 1}, {"url": "http://h/", "method": "GET"}]
)
def test_wrong_settings_are_named(wrong: Any) -> None:
    with pytest.raises(ManifestError, match=r"probe\.http\."):
        HttpProbe(wrong)
