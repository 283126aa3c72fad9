"""A folder that is filled file by file, and gone on with where another attempt was stopped.

As long as something is missing a file called ``.refloat-export`` lies in it, which says what it is filled with and
which components are there whole by now. So whoever waits for one may begin before the rest is there.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from refloat.digest import Json
from refloat.durable import opened_folder, partial_of, sync_folder
from refloat.errors import Refused
from refloat.flows.filled_with import MARKER, mark, marked, unmark
from refloat.flows.landing import RULE
from refloat.vault.extract import explained

_PRIVATE = 0o700  # what was captured may be secret
_NEXT = (
    "name a folder that is empty or not there yet; an export that was stopped is gone on with as it was begun"
)


@dataclass
class Filling:
    """A folder that is being filled: its descriptor, and whether an earlier attempt had begun."""

    into: Path
    folder: int
    again: bool
    what: Mapping[str, Json]
    ready: list[str] = field(default_factory=list)

    def is_ready(self, component: str) -> None:
        """Say that a component is there whole. Raises ``OSError``."""
        self.ready.append(component)
        self.say()

    def say(self) -> None:
        """Write the marker anew. Raises ``OSError``."""
        mark(self.into, self.what, self.ready)


@contextmanager
def filling(into: Path, what: Mapping[str, Json]) -> Iterator[Filling]:
    """A folder to fill with ``what``; when the context is left without an error, it is whole and the marker goes.

    ``into`` is absolute, no link, and its parent exists. After an error what was written stays, to be gone on with.
    Raises ``Refused`` (rule ``into_occupied``) where anything else is there or another process fills it, and
    ``ConnectorError`` where it cannot be written.
    """
    with explained(into):
        if not os.path.lexists(into):
            into.mkdir(_PRIVATE)
            sync_folder(into.parent)
        elif into.is_symlink() or not into.is_dir():
            raise _occupied(into, "is not a folder")
        with opened_folder(into) as folder:
            _lock(folder, into)
            found = Filling(into, folder, _is_ours(into, what), what)
            found.say()
            yield found
            os.fsync(folder)
            unmark(into)


def _is_ours(into: Path, what: Mapping[str, Json]) -> bool:
    """Whether the folder was begun to be filled with the same. Raises ``Refused`` where it holds anything else."""
    there = {path.name for path in into.iterdir()} - {partial_of(into / MARKER).name}
    if not there:
        return False
    if MARKER not in there:
        raise _occupied(into, "is not empty")
    if marked(into) != what:
        raise _occupied(into, "is being filled with something else")
    return True


def _lock(folder: int, into: Path) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # a network file system may not lock folders at all
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
            raise _occupied(into, "is being filled by another process") from error


def _occupied(into: Path, why: str) -> Refused:
    return Refused(RULE, f"{into} {why}", next=_NEXT)
