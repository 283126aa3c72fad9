"""A folder that is there whole or not at all: filled under another name beside it, then renamed in one step.

Until then it is called ``.NAME.refloat-partial``. What somebody stopped there, or a store that did not answer, is gone
on with by the next one that fills the same place with the same; what fills it with anything else removes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from refloat.digest import Json
from refloat.durable import open_up, opened_folder, partial_of, sync_folder, take_away
from refloat.errors import Refused, StoreError, UsageError, VaultError
from refloat.flows.filled_with import mark, marked, unmark
from refloat.vault.extract import explained

RULE = "into_occupied"
_PRIVATE = 0o700  # what was captured may be secret, and its own modes do not hide it from above


@contextmanager
def landing(into: Path, what: Mapping[str, Json]) -> Iterator[Path]:
    """A private folder to fill with ``what``; when the context is left without an error, it is ``into``.

    ``into`` is absolute, its parent exists, and it is absent or an empty folder, whose mode is kept. The folder is
    empty, or holds what an earlier attempt at the same has left. Where a ``VaultError``, a ``StoreError`` or an
    interruption is raised, what was filled stays; where anything else is, it is removed. Raises ``Refused`` (rule
    ``into_occupied``) where something is there or another process fills it, ``UsageError`` for a place that cannot be
    made in one step, and ``ConnectorError`` where it cannot be written.
    """
    mode = _mode_to_keep(into)
    partial = partial_of(into)
    with explained(into), _locked(partial, into):
        if not _is_begun(partial, what):
            _clear(partial)
            mark(partial, what)
        with ExitStack() as undo:
            undo.callback(take_away, partial)
            try:
                yield partial
            except (VaultError, StoreError, KeyboardInterrupt):
                undo.pop_all()
                raise
            unmark(partial)
            partial.chmod(mode)
            sync_folder(partial)
            _rename(partial, into)
            undo.pop_all()
        sync_folder(into.parent)


def _is_begun(partial: Path, what: Mapping[str, Json]) -> bool:
    with suppress(OSError):
        open_up(partial)
        return marked(partial) == what
    return False


def place(text: str) -> Path:
    """Where the folder that a person named lies, links followed.

    Raises ``Refused`` where it is taken, and ``UsageError`` for a place that no folder can be renamed to.
    """
    into = usable(text)
    _mode_to_keep(into)
    if into == Path.cwd() or into.is_mount():
        why = "something is mounted there" if into.is_mount() else "this command runs in it"
        raise UsageError(
            f"{into} cannot be filled in one step: {why}",
            next=f"name a folder in it: --into {shlex.quote(str(into / 'recovered'))}",
        )
    return into


def usable(text: str) -> Path:
    """The path of a folder that a person named, links followed. Raises ``UsageError`` where none can be made."""
    if not text:
        raise UsageError("--into names no folder", next="--into DIR; is a variable empty?")
    into = Path(os.path.realpath(text))
    if not into.parent.is_dir():
        raise UsageError(
            f"there is no folder {into.parent}", next=f"mkdir -p {shlex.quote(str(into.parent))}"
        )
    return into


def _mode_to_keep(into: Path) -> int:
    """The mode of the empty folder at ``into``, or that of a private one where there is none."""
    with explained(into):
        try:
            found = into.lstat()
        except FileNotFoundError:
            return _PRIVATE
        if not stat.S_ISDIR(found.st_mode) or any(into.iterdir()):
            raise _occupied(into, "is not empty" if into.is_dir() else "is not a folder")
        return stat.S_IMODE(found.st_mode)


def _occupied(into: Path, why: str) -> Refused:
    return Refused(RULE, f"{into} {why}", next="name a folder that is empty or not there yet")


@contextmanager
def _locked(partial: Path, into: Path) -> Iterator[None]:
    """Hold the folder that is filled, against another process; a process that died holds nothing."""
    with suppress(FileExistsError):
        partial.mkdir(_PRIVATE)
    with opened_folder(partial) as folder:
        busy = False
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # a network file system may not lock folders at all
            busy = error.errno in (errno.EWOULDBLOCK, errno.EAGAIN)
        if busy or not _is(partial, os.fstat(folder)):
            raise _occupied(
                into, f"is being filled by another process, or {partial.name} is no folder of ours"
            )
        yield


def _is(path: Path, opened: os.stat_result) -> bool:
    """Whether what was opened is what lies there now: not what a link leads to, nor what was just renamed."""
    try:
        return os.path.samestat(opened, path.lstat())
    except FileNotFoundError:
        return False


def _clear(folder: Path) -> None:
    """Remove all that lies in a folder, read-only folders included; no link is followed."""
    open_up(folder)
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _rename(partial: Path, into: Path) -> None:
    try:
        partial.rename(into)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise _occupied(into, "was filled by somebody else meanwhile") from error
        raise
