"""Writes that are on the disk when they return, in the order that a crash cannot turn into half a file.

A name is durable only when the folder that holds it is synced as well (``fsync(2)``, notes).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import mmap
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from refloat.errors import RefloatError, Retry
from refloat.limits import KIB, LEFTOVER_GRACE_S

BLOCK_BYTES = 4 * KIB  # of a disk, and of the page cache
NAME_BYTES_MAX = 255  # of one name on every file system of Linux that matters (``NAME_MAX``)
STEM_BYTES_MAX = 150  # of a name in those that stand beside it: what else is in them takes at most 105
STEM_BYTES_CUT = 100
_PRIVATE = 0o700
_SCRATCH = re.compile(r"refloat-[0-9a-f]{16}")
_ANYBODY = 0o666  # less what the umask takes
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP)  # what a memory stick's file system answers
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1  # linux/fcntl.h, linux/fs.h
_ADVICE = {
    errno.ENOENT: (Retry.NEVER, "see whether the path in the component's settings exists in this region"),
    errno.EACCES: (Retry.NEVER, "run refloat as a user who may read and replace this path"),
    errno.EPERM: (Retry.NEVER, "run refloat as a user who may read and replace this path"),
    errno.EROFS: (Retry.NEVER, "it is mounted read-only: mount it for writing, or name another place"),
    errno.ENOSPC: (Retry.LATER, "free some space on this file system and run the same command again"),
    errno.EDQUOT: (Retry.LATER, "raise the quota or free some space there and run the same command again"),
    errno.EXDEV: (Retry.NEVER, "the path must not be a mount point: name a folder inside of it"),
    errno.EBUSY: (Retry.LATER, "the path must not be a mount point: name a folder inside of it"),
    errno.EIO: (Retry.LATER, "the disk may be failing: look at the kernel's log, or use another disk"),
}
_OTHERWISE = "see what the file system reports about this path and run the same command again"
_NOT_THERE = "see whether this path and the folders above it exist, and name one that does"
_NO_PATH = "run the same command again with --debug, which says where it was refused"
_NO_SCRATCH = "free one of these folders, or set TMPDIR to one that exists and may be written"
_PASSING = {errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT}


def advice(error: OSError) -> tuple[Retry, str]:
    """Whether trying again can help after an error of a file system, and what a person can do about it."""
    fallback = (Retry.LATER if error.errno in _PASSING else Retry.NEVER, _OTHERWISE)
    return _ADVICE.get(error.errno or 0, fallback)


def as_error(error: OSError) -> RefloatError:
    """An error of this machine, where no component is known to be concerned, as one that says what to do."""
    retry, next = advice(error)
    file = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else None
    if "temporary directory" in str(error.strerror):
        next = _NO_SCRATCH
    elif file is None and (error.errno == errno.ENOENT or next == _OTHERWISE):
        next = _NO_PATH
    elif error.errno == errno.ENOENT:
        next = _NOT_THERE
    return RefloatError(error.strerror or str(error), file=file, retry=retry, next=next)


def pages(size: int) -> memoryview:
    """Memory that begins with a page, as a disk needs it that writes past the page cache.

    In huge pages where the system has them: one that is touched for the first time costs more than sealing what
    it holds.
    """
    memory = mmap.mmap(-1, size)
    with suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)


def write_past_cache(descriptor: int, content: memoryview, at: int) -> int:
    """Write the whole blocks of ``content`` at a place of a file, past the page cache; how many bytes that were.

    Fewer, or none, where the file system does not, or ``content`` or ``at`` is not at the begin of a block. What is
    not read again soon would take the place of what the pipeline itself reads; and each new page of the cache can
    cost more than the disk does (``O_DIRECT``, ``open(2)``). Raises ``OSError``.
    """
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    written = 0
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
        while len(content) - written >= BLOCK_BYTES:
            whole = (len(content) - written) // BLOCK_BYTES * BLOCK_BYTES
            written += os.pwrite(descriptor, content[written : written + whole], at + written)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
    return written


@contextmanager
def opened_folder(path: Path) -> Iterator[int]:
    """A descriptor of a folder, closed when the context is left; a link to it is followed. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def opened_file(
    path: str | os.PathLike[str], *, folder: int | None = None, follow: bool = True
) -> Iterator[int]:
    """A descriptor of a regular file to read, closed when the context is left; no pipe can hold us up.

    ``folder`` is an open folder that a relative path starts at. Raises ``OSError``, also for what is no regular
    file.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
        yield descriptor
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make durable which names a folder holds: those created, renamed and removed in it. Raises ``OSError``."""
    with opened_folder(path) as descriptor:
        os.fsync(descriptor)


def name_beside(path: Path, ending: str, *, keep_bytes_max: int = STEM_BYTES_MAX) -> str:
    """The name ``.NAME.ENDING`` of what lies beside ``path``. It never grows beyond what a file may be called.

    Of a name that is longer than ``keep_bytes_max`` the beginning stands for it, with a digest of all of it.
    """
    name = os.fsencode(path.name)
    if len(name) > keep_bytes_max:
        name = name[:STEM_BYTES_CUT].decode("utf-8", "ignore").encode() + b"~" + _digest_of(name)
    return f".{os.fsdecode(name)}.{ending}"


def _digest_of(name: bytes) -> bytes:
    return hashlib.sha256(name).hexdigest()[:16].encode()


def partial_of(path: Path) -> Path:
    """Where ``replace_file`` writes before it renames; what a crash left there is removed by the next."""
    ending = "refloat-partial"
    return path.with_name(name_beside(path, ending, keep_bytes_max=NAME_BYTES_MAX - len(ending) - 2))


def replace_file(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``: after a crash the file is the old one or the new one, never between.

    The parent must exist. It is written to a file of its own, never to one that is there or through a link that
    somebody left there. Raises ``OSError``, leaving nothing.
    """
    partial = partial_of(path)
    partial.unlink(missing_ok=True)
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with suppress(OSError):  # the error that led here matters more
            partial.unlink()
        raise
    sync_folder(path.parent)


@contextmanager
def written_beside(path: Path, content: bytes, mode: int | None = None) -> Iterator[Path]:
    """A file beside ``path`` with all of ``content`` on the disk; what is then named is durable at the end.

    It has ``mode`` whatever the umask says; None: as the umask says. What one for this path that was killed has left
    there is removed, once it is old. Raises ``OSError``, leaving nothing.
    """
    ending = f"{secrets.token_hex(4)}.part"
    whole = path.with_name(name_beside(path, ending, keep_bytes_max=NAME_BYTES_MAX - len(ending) - 2))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(whole, flags, _ANYBODY if mode is None else mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        others = re.compile(re.escape(whole.name.removesuffix(ending)) + r"[0-9a-f]{8}\.part")
        for left in _leftovers(whole, others):
            with suppress(OSError):
                left.unlink()
        yield whole
    finally:
        whole.unlink(missing_ok=True)
    sync_folder(path.parent)


def create_file(path: Path, content: bytes, mode: int | None = None) -> None:
    """Put ``content`` where nothing is, not even a link: after a crash all of it is there, or nothing.

    It has ``mode`` whatever the umask says; None: as the umask says. Raises ``OSError``, leaving nothing, which is
    ``FileExistsError`` where the name is taken.
    """
    with written_beside(path, content, mode) as whole:
        try:
            os.link(whole, path)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            _rename_new(whole, path)


def _rename_new(source: Path, target: Path) -> None:
    """Rename where nothing has the new name (``renameat2(2)``), as on a memory stick, which knows no links."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), str(target))
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(target))


def hand_out(path: Path, content: bytes) -> None:
    """Write a file that somebody asked for under this name: the old one or the new one, never between.

    A link is followed, and what is no file, as a pipe or a terminal, gets the bytes as they are. Raises ``OSError``
    that names ``path``.
    """
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                file.write(content)
        else:
            replace_file(path.resolve(), content)
    except OSError as error:
        error.filename = str(path)
        raise


def remove_file(path: Path) -> None:
    """Remove a file durably; one that is not there is no error. Raises ``OSError``."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def open_up(folder: Path) -> None:
    """Let the owner change everything below a folder, however deep; no link is followed. Raises ``OSError``."""
    folder.chmod(_PRIVATE)
    for _, names, _, above in os.fwalk(folder):
        for name in names:
            if stat.S_ISDIR(os.lstat(name, dir_fd=above).st_mode):
                os.chmod(name, _PRIVATE, dir_fd=above)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A private folder for temporary files, gone when the context is left, also by an interruption at any moment.

    It is locked for as long. What commands that were killed have left is removed, once it is old.
    """
    folder = Path(tempfile.gettempdir()) / f"refloat-{secrets.token_hex(8)}"
    with ExitStack() as undo:
        undo.callback(take_away, folder)  # before it is made: nobody can come between
        folder.mkdir(_PRIVATE)
        ours = undo.enter_context(opened_folder(folder))
        with suppress(OSError):  # where nothing can be locked, nothing is removed either
            fcntl.flock(ours, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for left in _leftovers(folder, _SCRATCH):
            with suppress(OSError), opened_folder(left) as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody is at work in it any more
                take_away(left)
        yield folder


def _leftovers(ours: Path, names: re.Pattern[str]) -> list[Path]:
    """What lies beside something of ours under such a name, is of its kind and owner, and old by the same clock."""
    with suppress(OSError):
        now = ours.lstat()
        beside = [entry.path for entry in os.scandir(ours.parent) if names.fullmatch(entry.name)]
        return [
            Path(path)
            for path in beside
            if (found := os.lstat(path)).st_uid == now.st_uid
            and stat.S_IFMT(found.st_mode) == stat.S_IFMT(now.st_mode)
            and now.st_mtime - found.st_mtime > LEFTOVER_GRACE_S
        ]
    return []


def take_away(folder: Path) -> None:
    """Remove a folder as far as it lets itself be removed; what is left says by its name that it is temporary."""
    surely(lambda: remove_tree(folder))


def surely(undo: Callable[[], None]) -> None:
    """Undo as much as can be undone. An interruption that comes meanwhile is raised when that is done."""
    try:
        with suppress(OSError):
            undo()
    except KeyboardInterrupt:
        with suppress(OSError):
            undo()
        raise


def remove_tree(folder: Path) -> None:
    """Remove a folder with everything in it, read-only folders included. Raises ``OSError``."""
    open_up(folder)
    shutil.rmtree(folder)
