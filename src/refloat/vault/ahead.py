"""Reading a few chunks ahead of whoever writes them, so that fetching and opening them does not wait for the disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby

from refloat.vault.tree import Read

CHUNKS_AHEAD = 4  # of a file, each at most ``CHUNK_BYTES_MAX``: two cores open two, others are on their way


def read_in_order(read: Read, names: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks of ``names``, one after the other; one that comes several times in a row is read once.

    Raises what ``read`` raises, where the chunk's turn has come.
    """
    for name, again in groupby(names):
        chunk = read(name)
        for _ in again:
            yield chunk


def read_ahead(read: Read, names: Iterable[bytes]) -> Iterator[bytes]:
    """The same, while the next ``CHUNKS_AHEAD`` are read in other threads. Nothing is read once it is closed."""
    waiting: deque[tuple[Future[bytes], int]] = deque()
    with ThreadPoolExecutor(CHUNKS_AHEAD, thread_name_prefix="ahead") as pool:
        try:
            for name, again in groupby(names):
                waiting.append((pool.submit(read, name), sum(1 for _ in again)))
                if len(waiting) > CHUNKS_AHEAD:
                    yield from _repeated(*waiting.popleft())
            while waiting:
                yield from _repeated(*waiting.popleft())
        finally:
            for chunk, _ in waiting:
                chunk.cancel()


def _repeated(chunk: Future[bytes], times: int) -> Iterator[bytes]:
    for _ in range(times):
        yield chunk.result()
