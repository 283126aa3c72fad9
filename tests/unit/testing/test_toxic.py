"""The toxic proxy: what a server behind it gets of a request that is cut or slow, byte for byte."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from refloat.testing.toxic import SIP_S, Line, Toxic, ToxicProxy, cut_upload, sip

BODY = bytes(range(256)) * 400


@dataclass
class Taker:
    """A server that takes what it gets from one caller, and never answers."""

    listening: socket.socket
    came: bytes = b""
    broken: bool = False
    over: threading.Event = field(default_factory=threading.Event)

    def take(self) -> None:
        connection, _ = self.listening.accept()
        with connection, suppress(ConnectionResetError):
            self.broken = True
            while some := connection.recv(1 << 16):
                self.came += some
            self.broken = False
        self.over.set()

    @property
    def body(self) -> bytes:
        return self.came.partition(b"\r\n\r\n")[2]


@pytest.fixture
def taker() -> Iterator[Taker]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        taker = Taker(listening)
        thread = threading.Thread(target=taker.take, daemon=True)
        thread.start()
        yield taker
    thread.join(60)


def put(taker: Taker, toxic: Toxic) -> None:
    """Send the body through a proxy that ends the line, and wait for an answer that never comes."""
    with ToxicProxy(f"http://127.0.0.1:{taker.listening.getsockname()[1]}") as proxy:
        proxy.poison(toxic)
        caller = http.client.HTTPConnection(proxy.url.removeprefix("http://"), timeout=60)
        with pytest.raises((OSError, http.client.HTTPException)):
            caller.request("PUT", "/packs/a", BODY)
            caller.getresponse()
        caller.close()
        assert taker.over.wait(60)


@pytest.mark.parametrize(("count", "comes"), [(1, 1), (5000, 5000), (-1, len(BODY) - 1)])
def test_the_server_gets_the_head_and_so_many_bytes_and_then_a_reset(
    taker: Taker, count: int, comes: int
) -> None:
    put(taker, cut_upload(count))
    assert f"Content-Length: {len(BODY)}\r\n".encode() in taker.came
    assert taker.body == BODY[:comes]
    assert taker.broken


def test_a_slow_request_comes_a_little_at_a_time(taker: Taker, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def wait(line: Line, seconds: float) -> bool:
        """The line ends in the fourth pause."""
        waits.append(seconds)
        if len(waits) == 4:
            line.cut()
        return len(waits) < 4

    monkeypatch.setattr(Line, "wait", wait)
    put(taker, sip(20_000))
    assert waits == [SIP_S] * 4
    assert taker.body == BODY[: int(20_000 * SIP_S) * 4]
