"""Bytes of packs, read ahead where somebody reads a pack from one end towards the other, as a kernel does for files.

What a restore reads lies in the order of writing, a few packs side by side. So far away as an object store may be, it
answers a few large requests at the same time as quickly as one small one. A disk that answers at once is read part by
part: there every copy costs more than it saves.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from refloat.errors import RefloatError
from refloat.limits import KIB, MIB

SMALL_BYTES = 128 * KIB  # less is not worth a request of its own
WINDOW_BYTES = 1 * MIB  # what is read for something small: its neighbours are wanted next
WINDOWS_KEPT = 32
BLOCK_BYTES = 4 * MIB  # what is read of a pack that is read from one end to the other
BLOCKS_AHEAD = 4
BLOCKS_KEPT = 20  # in memory: that and those ahead, for each pack that is read so
PACKS_AT_ONCE = 4
READS_IN_ORDER = 1  # behind another, before more is fetched than was asked for
FAR_SECONDS = (
    0.01  # that a request takes, before it pays to ask for more at once than is wanted; a disk takes a few ms
)
NEAR_BYTES = 8 * MIB  # threads that read side by side overtake each other by a chunk or two

Get = Callable[[str, int, int], bytes]
"""The bytes of an object from a place on, at most so many."""


class Ranges:
    """Reads parts of packs by ``get``; what neighbours will want is kept. Threads may share one.

    It reads ahead where the last request took ``far_seconds`` or more.
    """

    def __init__(self, get: Get, *, far_seconds: float = FAR_SECONDS) -> None:
        self._get = get
        self._far_seconds = far_seconds
        self._last_seconds = 0.0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(BLOCKS_KEPT, thread_name_prefix="ranges")
        self._windows: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._blocks: OrderedDict[tuple[str, int], Future[bytes]] = OrderedDict()
        self._ends: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def read(self, pack: str, size: int, start: int, length: int) -> bytes:
        """``length`` bytes from ``start`` of a pack of ``size`` bytes, fewer where it ends. Raises ``StoreError``."""
        if self._pays_to_read_ahead(pack, start, length):
            return _cut(lambda number: self._block(pack, size, number), BLOCK_BYTES, start, length)
        if length <= SMALL_BYTES:
            return _cut(lambda number: self._window(pack, number), WINDOW_BYTES, start, length)
        return self._timed(pack, start, length)

    def _timed(self, pack: str, start: int, length: int) -> bytes:
        began = time.monotonic()
        content = self._get(pack, start, length)
        self._last_seconds = time.monotonic() - began
        return content

    def forget(self, pack: str) -> None:
        """Keep nothing of a pack: what was read of it was wrong, and may be right when it is read again."""
        with self._lock:
            for kept in (self._windows, self._blocks):
                for key in [key for key in kept if key[0] == pack]:
                    kept.pop(key)
            self._ends.pop(pack, None)

    def _pays_to_read_ahead(self, pack: str, start: int, length: int) -> bool:
        """Whether the last reads of a pack were near each other, and its store is far."""
        with self._lock:
            end, times = self._ends.pop(pack, (start, -1))
            times = times + 1 if abs(start - end) <= NEAR_BYTES else 0
            self._ends[pack] = (start + length, times)
            if len(self._ends) > PACKS_AT_ONCE:
                self._ends.popitem(last=False)
        return times >= READS_IN_ORDER and self._last_seconds >= self._far_seconds

    def _window(self, pack: str, number: int) -> bytes:
        with self._lock:
            window = self._windows.pop((pack, number), None)
            if window is not None:
                self._windows[pack, number] = window
                return window
        window = self._timed(pack, number * WINDOW_BYTES, WINDOW_BYTES)
        with self._lock:
            self._windows[pack, number] = window
            while len(self._windows) > WINDOWS_KEPT:
                self._windows.popitem(last=False)
        return window

    def _block(self, pack: str, size: int, number: int) -> bytes:
        """A block, while those behind it are on their way. One that failed is not kept."""
        last = max(size - 1, 0) // BLOCK_BYTES
        block = self._on_its_way(pack, number)
        for ahead in range(number + 1, min(number + BLOCKS_AHEAD, last) + 1):
            self._on_its_way(pack, ahead)
        try:
            return block.result()
        except RefloatError:
            with self._lock:
                self._blocks.pop((pack, number), None)
            raise

    def _on_its_way(self, pack: str, number: int) -> Future[bytes]:
        with self._lock:
            block = self._blocks.pop((pack, number), None)
            if block is None:
                block = self._pool.submit(self._get, pack, number * BLOCK_BYTES, BLOCK_BYTES)
            self._blocks[pack, number] = block
            while len(self._blocks) > BLOCKS_KEPT:
                self._blocks.popitem(last=False)
        return block


def _cut(piece: Callable[[int], bytes], piece_bytes: int, start: int, length: int) -> bytes:
    """A range that lies in one or several pieces of a fixed size."""
    first, last = start // piece_bytes, max(start + length - 1, start) // piece_bytes
    if first == last:
        return piece(first)[start - first * piece_bytes :][:length]
    between = (memoryview(piece(number)) for number in range(first + 1, last))
    return b"".join(
        [
            memoryview(piece(first))[start - first * piece_bytes :],
            *between,
            memoryview(piece(last))[: start + length - last * piece_bytes],
        ]
    )
