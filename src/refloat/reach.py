"""Asking an address: whom a client trusts, and why nothing answers; no more of the address is told than its host."""

from __future__ import annotations

import functools
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit


@functools.cache
def trusted() -> ssl.SSLContext:
    """The authorities that httpx trusts by itself. To load them takes 10 ms of CPU, at each client that has none."""
    import httpx  # for those alone who ask over HTTP

    return httpx.create_ssl_context(trust_env=False)


def why_silent(error: BaseException, url: str) -> str:
    """``connection refused at 127.0.0.1:8101``: what stands behind an error of asking ``url``."""
    place = place_of(url)
    for cause in _causes(error):
        if isinstance(cause, ConnectionRefusedError):
            return f"connection refused at {place}"
        if isinstance(cause, socket.gaierror):
            return f"no machine is called {urlsplit(url).hostname}"
        if isinstance(cause, ssl.SSLError):
            return f"no trusted TLS at {place}: {cause.reason or cause}"
        if isinstance(cause, TimeoutError):
            return f"no answer in time from {place}"
        if isinstance(cause, ConnectionResetError | BrokenPipeError):
            return f"the connection to {place} was broken off"
    return f"no answer from {place}: {error or type(error).__name__}"


def place_of(url: str) -> str:
    """``HOST:PORT`` of an address; a password in it stays out."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{port_of(url)}"


def port_of(url: str) -> int:
    """The port of an address, by its scheme where it names none."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
