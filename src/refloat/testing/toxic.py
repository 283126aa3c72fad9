"""A proxy in front of a real store that spoils what passes, as bad networks and bad days do.

    with ToxicProxy("http://127.0.0.1:9000") as proxy:
        proxy.poison(lose_reply, method="PUT", times=1)
        store = open_store(...)  # with proxy.url as its endpoint

What no rule names passes unchanged. The first rule that fits a request is used, and used up where it has
``times``. It speaks HTTP/1.1 on loopback and listens on a free port.
"""

from __future__ import annotations

import fcntl
import http.client
import http.server
import random
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

FORWARD_S = 60.0  # the server behind is on this machine; one that takes longer is broken
HANG_S = 600.0  # longer than any test waits; a caller that leaves ends it at once
ARRIVES_S = 10.0  # what was sent to a server on this machine comes to it, or the server does not take it
SIP_S = 0.05  # between two pieces of a slow request
_NOT_PASSED_ON = ("content-length", "transfer-encoding", "connection", "date", "server")


@dataclass(frozen=True)
class Reply:
    """What the server behind answered. ``length`` is what it said of the body, which a HEAD has not."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    length: int


class Line(http.server.BaseHTTPRequestHandler):
    """One request and the line to who asked: what a toxic is given."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server
    taken: bytes = b""

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        self.taken = b""
        toxic = self.server.proxy.toxic_for(self.command, self.path)
        try:
            if toxic is None:
                self.reply(self.forward())
            else:
                toxic(self)
        except OSError:  # either end has gone, which is what toxics do to people
            self.close_connection = True
        self.close_connection |= len(self.taken) < self.length

    @property
    def length(self) -> int:
        """How many bytes the request's body has."""
        return int(self.headers.get("Content-Length") or 0)

    def take(self, count: int) -> bytes:
        """The next bytes of the request's body; fewer where it ends or who sends it has gone."""
        some = self.rfile.read(min(count, self.length - len(self.taken)))
        self.taken += some
        return some

    @property
    def body(self) -> bytes:
        """All of the request's body."""
        self.take(self.length)
        return self.taken

    def forward(self, *, without: str = "") -> Reply:
        """Ask the server behind, leaving out one header where it is named."""
        with self.begun(without=without) as behind:
            behind.send(self.body)
            return _answered(behind)

    @contextmanager
    def begun(self, *, without: str = "") -> Iterator[http.client.HTTPConnection]:
        """A line to the server behind that has got the head of the request, and nothing of its body."""
        behind = http.client.HTTPConnection(self.server.proxy.behind, timeout=FORWARD_S)
        try:
            behind.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() != without.lower():
                    behind.putheader(name, value)
            behind.endheaders()
            yield behind
        finally:
            behind.close()

    def head(self, reply: Reply, *, length: int) -> None:
        """Send the head of a reply that claims a body of ``length`` bytes, once the whole request is there."""
        self.take(self.length)
        self.send_response_only(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def reply(self, reply: Reply) -> None:
        """Send a whole reply."""
        self.head(reply, length=reply.length)
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def cut(self) -> None:
        """End the line, without another byte."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """End the line by an RST, which throws away what is under way."""
        self.close_connection = True
        _reset(self.connection)

    def wait(self, seconds: float) -> bool:
        """Let time pass; False, at once, when the caller has gone or the proxy ends."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            readable, _, _ = select.select([self.connection], [], [], min(left, 0.1))
            if self.server.proxy.closing.is_set() or (
                readable and not self.connection.recv(1, socket.MSG_PEEK)
            ):
                self.close_connection = True
                return False
            if readable:  # what is still to be taken
                time.sleep(min(left, 0.01))
        return True

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def _answered(behind: http.client.HTTPConnection) -> Reply:
    answer = behind.getresponse()
    body = answer.read()
    told = answer.getheader("Content-Length")
    kept = tuple(pair for pair in answer.getheaders() if pair[0].lower() not in _NOT_PASSED_ON)
    return Reply(answer.status, kept, body, int(told) if told else len(body))


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _has_arrived(connection: socket.socket) -> None:
    """Wait until the other end has acknowledged all that was sent to it; see SIOCOUTQ in tcp(7)."""
    until = time.monotonic() + ARRIVES_S
    under_way = bytearray(4)
    while time.monotonic() < until:
        fcntl.ioctl(connection, termios.TIOCOUTQ, under_way)
        if not any(under_way):
            return
        time.sleep(0.001)


Toxic = Callable[[Line], None]


def answer(status: int, code: str = "InternalError") -> Toxic:
    """The server is not asked; an error of its kind is answered."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
    return lambda line: line.reply(Reply(status, (("Content-Type", "application/xml"),), body, len(body)))


def lose_reply(line: Line) -> None:
    """The server does what is asked, and nobody hears of it."""
    line.forward()
    line.cut()


def lie(line: Line) -> None:
    """The server is not asked, and the answer is that all went well."""
    line.reply(Reply(200, (("ETag", '"0123456789abcdef0123456789abcdef"'),), b"", 0))


def hang(line: Line) -> None:
    """The request is taken, and never answered."""
    line.take(line.length)
    line.wait(HANG_S)
    line.cut()


def reset(line: Line) -> None:
    """The line is reset (RST) before the server is asked."""
    line.take(line.length)
    line.reset()


def cut_upload(count: int) -> Toxic:
    """The server gets the head and ``count`` bytes of the request's body, and both lines are reset.

    A negative ``count`` leaves so many out at the end.
    """

    def toxic(line: Line) -> None:
        with line.begun() as behind:
            behind.send(line.take(count if count >= 0 else line.length + count))
            _has_arrived(behind.sock)  # the reset would overtake what is under way
            _reset(behind.sock)
            line.reset()

    return toxic


def sip(bytes_per_s: int) -> Toxic:
    """The request's body is taken and passed on a little at a time."""

    def toxic(line: Line) -> None:
        with line.begun() as behind:
            while some := line.take(max(int(bytes_per_s * SIP_S), 1)):
                behind.send(some)
                if not line.wait(SIP_S):
                    return
            line.reply(_answered(behind))

    return toxic


def cut_body(line: Line) -> None:
    """The line is cut in the middle of the answer's body."""
    reply = line.forward()
    line.head(reply, length=reply.length)
    line.wfile.write(reply.body[: len(reply.body) // 2])
    line.cut()


def drip(bytes_per_s: float) -> Toxic:
    """The answer's body comes byte by byte."""

    def toxic(line: Line) -> None:
        reply = line.forward()
        line.head(reply, length=reply.length)
        for byte in reply.body:
            line.wfile.write(bytes([byte]))
            if not line.wait(1 / bytes_per_s):
                return

    return toxic


def wrong_length(by: int) -> Toxic:
    """The answer claims a body ``by`` bytes longer than it is, or shorter."""

    def toxic(line: Line) -> None:
        reply = line.forward()
        line.head(reply, length=reply.length + by)
        line.wfile.write(reply.body)
        line.cut()

    return toxic


def late(seconds: float) -> Toxic:
    """Everything takes longer."""

    def toxic(line: Line) -> None:
        if line.wait(seconds):
            line.reply(line.forward())

    return toxic


def without(header: str) -> Toxic:
    """The server never sees one header of the request."""
    return lambda line: line.reply(line.forward(without=header))


@dataclass
class _Rule:
    toxic: Toxic
    method: str | None
    path: str
    times: int | None
    share: float


@dataclass(frozen=True)
class Seen:
    """A request that came to the proxy."""

    method: str
    path: str


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    proxy: ToxicProxy

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a line that breaks is what this is for."""


@dataclass
class ToxicProxy:
    """A proxy before the server at ``backend`` (an ``http://`` address). ``seed`` throws its dice."""

    backend: str
    seed: int = 0
    seen: list[Seen] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.behind = urlsplit(self.backend).netloc
        self._dice = random.Random(self.seed)
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), Line)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """Where to ask instead of the server behind."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def poison(
        self,
        toxic: Toxic,
        *,
        method: str | None = None,
        path: str = "",
        times: int | None = None,
        share: float = 1.0,
    ) -> None:
        """Use ``toxic`` on requests by ``method`` whose path has ``path`` in it: ``times`` of them, or ``share``."""
        with self._lock:
            self._rules.append(_Rule(toxic, method, path, times, share))

    def heal(self) -> None:
        """Let everything pass again."""
        with self._lock:
            self._rules.clear()

    def count(self, method: str) -> int:
        """How many requests by ``method`` came."""
        with self._lock:
            return sum(seen.method == method for seen in self.seen)

    def toxic_for(self, method: str, path: str) -> Toxic | None:
        """The toxic that a request gets, if any; it is used up."""
        with self._lock:
            self.seen.append(Seen(method, path))
            for rule in self._rules:
                if rule.method not in (None, method) or rule.path not in path or rule.times == 0:
                    continue
                if self._dice.random() >= rule.share:
                    continue
                rule.times = None if rule.times is None else rule.times - 1
                return rule.toxic
        return None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
