"""A file's bytes, hashed as they are read; the holes of a sparse file are known and cost no reading.

A hole that is read like anything else fills the page cache with zeros, so a file of 20 GB that holds 10 MB would
push out of memory what the component itself needs (``lseek(2)``, ``SEEK_HOLE``).
"""

from __future__ import annotations

import errno
import hashlib
import io
import os

from refloat.errors import ConnectorError, Retry
from refloat.limits import FACTS_BYTES_MAX, MIB

BUFFER_BYTES = 1 * MIB
_ZEROS = memoryview(bytes(BUFFER_BYTES))
_NO_HOLES = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


def buffer_bytes(size: int) -> int:
    """How large a buffer a file of ``size`` bytes is read into: a small file's is made sooner."""
    return min(max(size + 1, io.DEFAULT_BUFFER_SIZE), BUFFER_BYTES)


class HashedFile(io.RawIOBase):
    """An open regular file, read from its start up to the size that it had when it was looked at.

    So a file that grows as fast as it is read comes to an end as well. One that says that it is empty is read as
    far as it goes, since some file systems say so of everything. ``keep`` keeps the first bytes, as many as facts
    may have and one more.
    """

    def __init__(self, handle: int, size: int, *, keep: bool = False) -> None:
        self._handle = handle
        self._size = size
        self._at = 0
        self._data_until = 0
        self._hole_until = 0
        self._digest = hashlib.sha256()
        self._kept = bytearray() if keep else None

    @property
    def sha256(self) -> str:
        """The digest of what was read, in hex."""
        return self._digest.hexdigest()

    @property
    def document(self) -> bytes | None:
        """The first bytes of what was read, where they are kept."""
        return None if self._kept is None else bytes(self._kept)

    def fileno(self) -> int:
        """The descriptor of the file, by which its header can be looked at before."""
        return self._handle

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer is wider
        """Fill ``buffer`` as far as possible and return how many bytes that are; 0 at the end."""
        view = memoryview(buffer)
        wanted = min(len(view), self._size - self._at) if self._size else len(view)
        count = self._fill(view[:wanted]) if wanted else 0
        self._digest.update(view[:count])
        if self._kept is not None and len(self._kept) <= FACTS_BYTES_MAX:
            self._kept += view[:count]
        self._at += count
        return count

    def exhaust(self) -> None:
        """Read what is left."""
        buffer = memoryview(bytearray(buffer_bytes(self._size)))
        while self.readinto(buffer):
            continue

    def require_whole(self, path: str) -> None:
        """Raise ``ConnectorError`` where the disk gave less than the file is long, and nobody cut it short."""
        if self._at < min(self._size, os.fstat(self._handle).st_size):
            raise ConnectorError(
                f"{path} ended after {self._at} of its {self._size} bytes while it was read",
                file=path,
                retry=Retry.NOW,
                next="see whether its file system is whole, and protect again",
            )

    def _fill(self, buffer: memoryview) -> int:
        if self._at >= max(self._data_until, self._hole_until):
            self._look_ahead()
        if self._at < self._hole_until:
            count = min(len(buffer), self._hole_until - self._at, BUFFER_BYTES)
            buffer[:count] = _ZEROS[:count]
            return count
        return os.preadv(self._handle, [buffer[: max(1, self._data_until - self._at)]], self._at)

    def _look_ahead(self) -> None:
        """Find where the data goes on, and how far."""
        try:
            start = os.lseek(self._handle, self._at, os.SEEK_DATA)
            if start > self._at:
                self._hole_until = start
            else:
                self._data_until = os.lseek(self._handle, self._at, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no more data: the rest is a hole, or the file ends here
                self._hole_until = os.fstat(self._handle).st_size
            elif error.errno in _NO_HOLES:
                self._data_until = self._at + BUFFER_BYTES
            else:
                raise
