"""A file in memory, as a segmenter reads it."""

from __future__ import annotations


class Held:
    """A ``RandomAccess`` of ``content``; what is beyond it and within ``size`` reads as zeros."""

    def __init__(self, content: bytes, size: int | None = None) -> None:
        self.content = content
        self.size = len(content) if size is None else size

    def read_at(self, start: int, length: int) -> bytes:
        """``length`` bytes from ``start`` on; fewer where the file ends."""
        found = self.content[start : start + length]
        return found + bytes(max(0, min(length, self.size - start) - len(found)))
