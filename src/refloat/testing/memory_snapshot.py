"""A snapshot in memory: a real ``Sink`` and ``Source``, so that a connector is tested without a vault."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from refloat.attributes import PLAIN, Attributes
from refloat.contracts import Entry, EntryType, Facts
from refloat.errors import Missing


@dataclass
class Held:
    """What a ``MemorySink`` holds; shared by all of its views.

    ``read`` lists the paths whose bytes were handed over, ``carried`` those taken over from before.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)
    carried: list[str] = field(default_factory=list)


class MemorySink:
    """A ``contracts.Sink`` that keeps what it is given in a dictionary."""

    def __init__(self, previous: MemorySink | None = None) -> None:
        self.held = Held()
        self._previous = previous.held if previous else Held()
        self._prefix = ""

    def file(
        self,
        path: str,
        content: Path | BinaryIO,
        *,
        mode: int = 0o644,
        mtime_ns: int = 0,
        token: str | Callable[[], str] = "",
        length: int | None = None,
        link: str = "",
        attributes: Attributes = PLAIN,
    ) -> int:
        """Keep at most ``length`` bytes of ``content`` and return how many there were."""
        name = self._name(path)
        if isinstance(content, Path):
            with content.open("rb") as file:
                stored = _read(file, length)
        else:
            stored = _read(content, length)
        told = token() if callable(token) else token
        entry = Entry(
            name,
            EntryType.FILE,
            size=len(stored),
            mode=mode & 0o7777,
            mtime_ns=mtime_ns,
            token=told,
            attributes=attributes,
        )
        self.held.entries[name], self.held.stored[name] = entry, stored
        self.held.read.append(name)
        return len(stored)

    def earlier(self, path: str) -> str:
        """The token of a file in the sink before this one; empty where it was not there."""
        before = self._previous.entries.get(self._name(path))
        return "" if before is None else before.token

    def carry(self, path: str, token: str, *, attributes: Attributes = PLAIN) -> bool:
        """Take ``path`` over from the sink before this one if its token was ``token``, which is not empty."""
        name = self._name(path)
        before = self._previous.entries.get(name)
        if not token or before is None or before.token != token:
            return False
        self.held.entries[name] = replace(before, attributes=attributes)
        self.held.stored[name] = self._previous.stored[name]
        self.held.carried.append(name)
        return True

    def directory(
        self, path: str, *, mode: int = 0o755, mtime_ns: int = 0, attributes: Attributes = PLAIN
    ) -> None:
        """Record a folder."""
        name = self._name(path)
        self.held.entries[name] = Entry(
            name, EntryType.DIRECTORY, mode=mode & 0o7777, mtime_ns=mtime_ns, attributes=attributes
        )

    def symlink(self, path: str, target: str, *, attributes: Attributes = PLAIN) -> None:
        """Record a symbolic link."""
        name = self._name(path)
        self.held.entries[name] = Entry(name, EntryType.SYMLINK, target=target, attributes=attributes)

    def fifo(
        self, path: str, *, mode: int = 0o644, mtime_ns: int = 0, attributes: Attributes = PLAIN
    ) -> None:
        """Record a named pipe."""
        name = self._name(path)
        self.held.entries[name] = Entry(
            name, EntryType.FIFO, mode=mode & 0o777, mtime_ns=mtime_ns, attributes=attributes
        )

    def under(self, prefix: str) -> MemorySink:
        """A view whose paths land below ``prefix`` of the same snapshot."""
        view = MemorySink.__new__(MemorySink)
        view.held, view._previous, view._prefix = self.held, self._previous, f"{self._name(prefix)}/"
        return view

    def source(self, facts: Facts) -> MemorySource:
        """What was kept, as ``stage`` reads it."""
        return MemorySource(dict(self.held.entries), dict(self.held.stored), facts)

    def _name(self, path: str) -> str:
        parts = path.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"{path!r} is not a relative path of a snapshot")
        return self._prefix + path


class MemorySource:
    """A ``contracts.Source`` over entries and bytes held in memory."""

    def __init__(self, entries: dict[str, Entry], stored: dict[str, bytes], facts: Facts) -> None:
        self.facts = facts
        self._entries = entries
        self._stored = stored
        self._prefix = ""

    def entries(self) -> Iterator[Entry]:
        """Every path of the snapshot, folders before what they hold."""
        for name in sorted(self._entries, key=lambda name: name.split("/")):
            if name.startswith(self._prefix):
                yield replace(self._entries[name], path=name.removeprefix(self._prefix))

    def open(self, path: str) -> BinaryIO:
        """A file's bytes. Raises ``Missing``."""
        return io.BytesIO(self._content(path))

    def fetch(self, path: str, to: Path) -> None:
        """Write one file to ``to`` durably, through a temporary file beside it."""
        content, entry = self._content(path), self._entries[self._prefix + path]
        partial = to.with_name(f".{to.name}.partial")
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(entry.mode)
        os.utime(partial, ns=(entry.mtime_ns, entry.mtime_ns))
        partial.replace(to)

    def fetch_all(self, into: Path) -> None:
        """Write every path below ``into``; folders get their mode and time when they are full."""
        into.mkdir(parents=True, exist_ok=True)
        folders = []
        for entry in self.entries():
            if ".." in PurePosixPath(entry.path).parts:
                raise ValueError(f"{entry.path!r} leaves the folder it is written to")
            path = into / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry.type is EntryType.DIRECTORY:
                path.mkdir(exist_ok=True)
                folders.append((path, entry))
            elif entry.type is EntryType.SYMLINK:
                path.unlink(missing_ok=True)
                path.symlink_to(entry.target)
            elif entry.type is EntryType.FIFO:
                path.unlink(missing_ok=True)
                os.mkfifo(path, entry.mode)
            else:
                self.fetch(entry.path, path)
        for path, entry in reversed(folders):
            path.chmod(entry.mode)
            os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))

    def under(self, prefix: str) -> MemorySource:
        """The part of the snapshot below ``prefix``; a failing subclass stays one."""
        view = self.__class__.__new__(self.__class__)
        view.__dict__.update(self.__dict__)
        view._prefix = f"{self._prefix}{prefix}/"
        return view

    def _content(self, path: str) -> bytes:
        name = self._prefix + path
        if name not in self._stored:
            raise Missing(f"the snapshot holds no file {name!r}", file=name)
        return self._stored[name]


def _read(file: BinaryIO, length: int | None) -> bytes:
    """At most ``length`` bytes, in blocks, as a vault reads them."""
    blocks, left = [], length if length is not None else -1
    while left and (block := file.read(min(left, 1 << 20) if left > 0 else 1 << 20)):
        blocks.append(block)
        left = left - len(block) if left > 0 else left
    return b"".join(blocks)
