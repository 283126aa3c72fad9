"""A port that is kept for a server: whoever asks the system for a free one meanwhile is given another."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_port() -> Iterator[int]:
    """A port of loopback on which nobody answers until a server that may use an address again listens there.

    Linux lets a second socket bind where both say so and neither listens, and gives the port to nobody who asks for
    any; see SO_REUSEADDR in https://man7.org/linux/man-pages/man7/socket.7.html.
    """
    with socket.socket() as holding:
        holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holding.bind(("127.0.0.1", 0))
        yield int(holding.getsockname()[1])
