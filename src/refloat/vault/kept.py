"""Files of an attempt that was stopped, held against what is stored: what is there already is not fetched again."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from refloat.deadline import require_wanted
from refloat.errors import Missing, StoreError
from refloat.vault.tree import Node

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Naming(Protocol):
    """What knows a chunk by its contents: a replica, or several of them."""

    def name_of(self, raw: bytes) -> bytes:
        """What the chunk of these bytes is called."""

    def length_of(self, name: bytes) -> int:
        """How many bytes a chunk has. Raises ``Missing``, ``StoreError``."""


class Kept:
    """Tells which files are there as they are stored, and counts them; ``heard`` is told the bytes of each.

    Threads may share it. Once ``cancelled`` is set it raises ``Cancelled`` at the next chunk of a file.
    """

    def __init__(
        self, naming: Naming, heard: Callable[[int], None], cancelled: threading.Event | None = None
    ) -> None:
        self._cancelled = cancelled or threading.Event()
        self.files = 0
        self.bytes = 0
        self._naming = naming
        self._heard = heard
        self._lock = threading.Lock()

    def same(self, folder: int, node: Node) -> bool:
        """Whether an open folder holds a file with just these bytes, this mode and time. Nothing of it is fetched."""
        try:
            descriptor = os.open(node.name, _FLAGS, dir_fd=folder)
        except OSError:
            return False
        try:
            found = os.fstat(descriptor)
            looks = (found.st_size, stat.S_IMODE(found.st_mode), found.st_mtime_ns)
            if not stat.S_ISREG(found.st_mode) or looks != (node.size, node.mode, node.mtime_ns):
                return False
            if not self._holds(descriptor, node.chunks):
                return False
        finally:
            os.close(descriptor)
        with self._lock:
            self.files, self.bytes = self.files + 1, self.bytes + node.size
        self._heard(node.size)
        return True

    def _holds(self, descriptor: int, chunks: Sequence[bytes]) -> bool:
        at = 0
        for name in chunks:
            require_wanted(self._cancelled, "comparing what is there")
            try:
                length = self._naming.length_of(name)
            except (Missing, StoreError):
                return False  # what it is made of cannot be told: whoever fetches it says so
            if self._naming.name_of(os.pread(descriptor, length, at)) != name:
                return False
            at += length
        return True
