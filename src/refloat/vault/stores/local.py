"""Objects in a directory, durable when ``create`` returns: temporary file, fsync, link, fsync of the folder.

Invariants, in the order of the writes:

1. the bytes are on the disk before the name exists (fsync of the temporary file, then ``link``);
2. a name appears once, whole, and is never replaced (``link`` fails where the name is taken);
3. the name is on the disk before ``create`` returns (fsync of the folder, and of every folder above it
   that this process has not yet synced);
4. an fsync that failed is not tried again on the same descriptor: the kernel may report clean pages that
   never reached the disk, so the attempt is over and says so.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from refloat.contracts import ObjectInfo, Put
from refloat.durable import surely, sync_folder, write_past_cache
from refloat.errors import Missing, Retry, StoreError, StoreFull
from refloat.limits import MIB
from refloat.vault.stores.names import checked, checked_prefix, is_name

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
_ADVICE = {
    errno.ENOSPC: (Retry.LATER, "free space there, or prune the vault, and try again"),
    errno.EDQUOT: (Retry.LATER, "raise the quota or free space there, and try again"),
    errno.EIO: (Retry.NEVER, "the disk is failing: look at the kernel's log, and use another disk"),
    errno.EACCES: (Retry.NEVER, "give this user the right to write there"),
    errno.EPERM: (Retry.NEVER, "use a file system with hard links, where this user may make them"),
    errno.EROFS: (Retry.NEVER, "it is mounted read-only: mount it for writing, or use another place"),
    errno.ENOTSUP: (Retry.NEVER, "use a file system with hard links, such as ext4 or xfs"),
}
DIRECT_BYTES_MIN = 1 * MIB  # what is shorter fits in the page cache at no cost
_TEMPORARY_SUFFIX = "~"  # no object's name may hold it, so a leftover is never taken for an object


class LocalStore:
    """A directory of objects. The directory is made by the first ``create``.

    Symbolic links below the directory are not followed and not listed.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()
        self.url = self.root.as_uri()
        self._synced: set[Path] = set()

    def create(self, name: str, content: bytes | memoryview) -> Put:
        """Write ``content`` durably unless the name is taken. Raises ``StoreError``, leaving nothing."""
        path = self.root / checked(name)
        temporary = path.parent / (secrets.token_hex(12) + _TEMPORARY_SUFFIX)
        with self._errors("write", name):
            try:
                self._write_temporary(temporary, content)
                put = _link(temporary, path)
            finally:  # it is invisible, and an error that led here matters more
                surely(temporary.unlink)
            self._sync_folders(path.parent)
        return put

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """``length`` bytes from ``start``, fewer where the object ends. Raises ``Missing``."""
        with self._errors("read", checked(name)):
            descriptor = os.open(self.root / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                rest = max(os.fstat(descriptor).st_size - start, 0)
                file.seek(start)
                return _read_exactly(descriptor, rest if length is None else min(length, rest))

    def size(self, name: str) -> int | None:
        """The object's size in bytes, or None."""
        with self._errors("look at", checked(name)):
            try:
                found = (self.root / name).lstat()
            except OSError as error:
                if error.errno in _ABSENT:
                    return None
                raise
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects below ``prefix``; temporary files and anything else that is no object stay unseen."""
        folder = checked_prefix(prefix).rpartition("/")[0]
        for name, size in self._walk(folder):
            if name.startswith(prefix):
                yield ObjectInfo(name, size)

    def delete(self, name: str) -> None:
        """Remove an object durably; one that is not there is no error."""
        path = self.root / checked(name)
        with self._errors("delete", name):
            try:
                path.unlink()
            except OSError as error:
                if error.errno in _ABSENT:
                    return
                raise
            sync_folder(path.parent)

    def sweep(self, before: datetime) -> int:
        """Remove temporary files that nobody has written to since; their bytes. Raises ``StoreError``."""
        swept = 0
        for path in self.root.rglob(f"*{_TEMPORARY_SUFFIX}"):
            with self._errors("sweep", path.name), suppress(FileNotFoundError):
                found = path.lstat()
                if stat.S_ISREG(found.st_mode) and found.st_mtime < before.timestamp():
                    path.unlink()
                    swept += found.st_size
        return swept

    def _write_temporary(self, temporary: Path, content: bytes | memoryview) -> None:
        try:
            descriptor = _open_new(temporary)
        except FileNotFoundError:
            self._make_folders(temporary.parent)
            descriptor = _open_new(temporary)
        _write_and_sync(descriptor, content)

    def _sync_folders(self, folder: Path) -> None:
        """The folder that got a name; and once a process, every folder from there up to the root."""
        sync_folder(folder)
        if folder in self._synced:
            return
        above = [parent for parent in folder.parents if self.root in (parent, *parent.parents)]
        for parent in above:
            sync_folder(parent)
        self._synced.update([folder, *above])

    def _make_folders(self, folder: Path) -> None:
        new = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        self._synced.clear()  # folders were made, perhaps made again: sync their names anew
        for path in new:
            with suppress(PermissionError):  # a parent that may be passed but not opened
                sync_folder(path.parent)

    def _walk(self, folder: str) -> Iterator[tuple[str, int]]:
        for entry in self._scan(folder):
            name = f"{folder}/{entry.name}" if folder else entry.name
            if not is_name(name):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(name)
            elif entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):  # deleted since
                    yield name, entry.stat(follow_symlinks=False).st_size

    def _scan(self, folder: str) -> tuple[os.DirEntry[str], ...]:
        try:
            with os.scandir(self.root / folder) as entries:
                return tuple(entries)
        except OSError as error:
            if error.errno in _ABSENT:
                return ()
            raise self._error("list", folder or ".", error) from error

    @contextmanager
    def _errors(self, verb: str, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _ABSENT and verb == "read":
                raise Missing(f"{name} is not in {self.url}", file=name) from error
            raise self._error(verb, name, error) from error

    def _error(self, verb: str, name: str, error: OSError) -> StoreError:
        fallback = (Retry.LATER, "see whether the directory is there and mounted")
        retry, advice = _ADVICE.get(error.errno or 0, fallback)
        reason = error.strerror or str(error)
        kind = StoreFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreError
        return kind(f"cannot {verb} {name} in {self.root}: {reason}", file=name, retry=retry, next=advice)


def _open_new(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)


def _write_and_sync(descriptor: int, content: bytes | memoryview) -> None:
    try:
        rest = memoryview(content).cast("B")
        total = len(rest)
        if total >= DIRECT_BYTES_MIN:
            written = write_past_cache(descriptor, rest, 0)
            rest = rest[os.lseek(descriptor, written, os.SEEK_SET) :]
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if os.fstat(descriptor).st_size != total:
            raise OSError(errno.EIO, "the file is not as long as what was written to it")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(temporary: Path, path: Path) -> Put:
    try:
        os.link(temporary, path)
    except FileExistsError:
        if not path.is_dir():
            return Put.EXISTS
        raise
    return Put.CREATED


def _read_exactly(descriptor: int, length: int) -> bytes:
    parts: list[bytes] = []
    while length > 0 and (part := os.read(descriptor, length)):
        parts.append(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
