"""What the connector ``mlflow`` puts between its parts and a snapshot: digests, a copy, rewritten files."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from typing_extensions import Buffer

from refloat.connectors.allowance import os_errors, unlimited
from refloat.connectors.mlflow_registry import Listing, Registry, read_registry
from refloat.connectors.sqlite_token import database_token
from refloat.contracts import Entry, Facts, Sink, Source
from refloat.digest import file_sha256
from refloat.durable import sync_folder
from refloat.errors import ConnectorError

DIGESTS_CACHED_MAX = 65536  # files whose digest is remembered for as long as the process lives
CONTENT = "content/"  # where the connector files puts what is in a folder
CTIME_NS = 2  # where a stamp holds it
_DEFECT = "this is a defect of the connector `sqlite`; report it"


def stamp_of(path: Path) -> tuple[int, ...]:
    """Size, times of change and inode: what tells a file from a changed one. Raises ``OSError``."""
    stat = path.stat()
    return (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


@functools.lru_cache(maxsize=DIGESTS_CACHED_MAX)
def _digest(path: Path, stamp: tuple[int, ...]) -> str:
    """A file's SHA-256; a file with another stamp is another file."""
    return file_sha256(path)


@dataclass(frozen=True)
class Disk:
    """A folder of artifacts as it lies on the disk; ``check`` raises once reading it is no longer wanted."""

    root: Path
    check: Callable[[], None] = unlimited

    def paths(self, below: str) -> Iterator[Path]:
        """Every regular file below a folder; links are not followed."""
        for folder, _folders, names in os.walk(self.root / below):
            for path in (Path(folder, name) for name in names):
                self.check()
                if path.is_file() and not path.is_symlink():
                    yield path

    def digest(self, relative: str) -> str:
        """The SHA-256 of one file. Raises ``OSError``."""
        path = self.root / relative
        return _digest(path, stamp_of(path))

    def listing(self, below: str) -> Listing:
        """Each file below a folder, relative to it, with its digest. Raises ``ConnectorError``."""
        with os_errors("reading MLflow artifacts", self.root / below):
            folder = self.root / below
            return {
                path.relative_to(folder).as_posix(): _digest(path, stamp_of(path))
                for path in self.paths(below)
            }

    def names(self, below: str) -> Listing:
        """Each file below a folder, without reading any."""
        folder = self.root / below
        return {path.relative_to(folder).as_posix(): "" for path in self.paths(below)}

    def stamps(self) -> dict[str, tuple[int, ...]]:
        """What tells every file from a changed one, by its path."""
        found = {}
        for path in self.paths(""):
            with contextlib.suppress(FileNotFoundError):
                found[path.relative_to(self.root).as_posix()] = stamp_of(path)
        return found


class KeptSink:
    """A sink for the database that also keeps the rows which it was given, to make facts of."""

    def __init__(self, sink: Sink, live: Path, copy: Path) -> None:
        self._sink = sink
        self._live = live
        self._copy = copy
        self._token = database_token(live)
        self._registry: Registry | None = None

    @property
    def registry(self) -> Registry:
        """The rows as they were captured. Raises ``ConnectorError`` before that."""
        if self._registry is None:
            raise ConnectorError("the database part captured no file", next=_DEFECT)
        return self._registry

    def file(self, path: str, content: Path | BinaryIO, **entry: Any) -> int:
        """Store the file from a copy, and read that."""
        self._copy.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, self._copy)
        else:
            with self._copy.open("wb") as file:
                shutil.copyfileobj(content, file)
        self._registry = read_registry(self._copy, staged=True)
        return self._sink.file(path, self._copy, **entry)

    def earlier(self, path: str) -> str:
        """As the sink says."""
        return self._sink.earlier(path)

    def carry(self, path: str, token: str, **entry: Any) -> bool:
        """Carry an unchanged database, where the live rows are certainly those that were captured."""
        self._registry = read_registry(self._live)
        return database_token(self._live) == self._token and self._sink.carry(path, token, **entry)

    def directory(self, path: str, **entry: Any) -> None:
        """As the sink does."""
        self._sink.directory(path, **entry)

    def symlink(self, path: str, target: str, **entry: Any) -> None:
        """As the sink does."""
        self._sink.symlink(path, target, **entry)

    def fifo(self, path: str, **entry: Any) -> None:
        """As the sink does."""
        self._sink.fifo(path, **entry)

    def under(self, prefix: str) -> Sink:
        """A part of a database has no parts."""
        raise ConnectorError(
            f"the database part wrote below {prefix!r}, where one file was expected", next=_DEFECT
        )


class HashedSink:
    """A sink for the artifacts that keeps the SHA-256 of every file as it was stored."""

    def __init__(
        self, sink: Sink, disk: Disk, prefix: str = "", digests: dict[str, str] | None = None
    ) -> None:
        self._sink = sink
        self._disk = disk
        self._prefix = prefix
        self._digests: dict[str, str] = {} if digests is None else digests

    def file(self, path: str, content: Path | BinaryIO, *, length: int | None = None, **entry: Any) -> int:
        """Store the file and remember the digest of what was read of it."""
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(content.open("rb")) if isinstance(content, Path) else content
            reader = _HashingReader(stream, length)
            size = self._sink.file(path, cast(BinaryIO, io.BufferedReader(reader)), length=length, **entry)
        self._digests[self._below(path)] = reader.hash.hexdigest()
        return size

    def earlier(self, path: str) -> str:
        """As the sink says."""
        return self._sink.earlier(path)

    def carry(self, path: str, token: str, **entry: Any) -> bool:
        """Carry what is unchanged; its digest is then that of the file as it lies there."""
        carried = self._sink.carry(path, token, **entry)
        if carried:
            with os_errors("reading MLflow artifacts", self._disk.root):
                self._digests[self._below(path)] = self._disk.digest(self._below(path))
        return carried

    def directory(self, path: str, **entry: Any) -> None:
        """As the sink does."""
        self._sink.directory(path, **entry)

    def symlink(self, path: str, target: str, **entry: Any) -> None:
        """As the sink does."""
        self._sink.symlink(path, target, **entry)

    def fifo(self, path: str, **entry: Any) -> None:
        """As the sink does."""
        self._sink.fifo(path, **entry)

    def under(self, prefix: str) -> Sink:
        """A view below ``prefix`` whose digests are kept in the same place."""
        return HashedSink(self._sink.under(prefix), self._disk, f"{self._prefix}{prefix}/", self._digests)

    def _below(self, path: str) -> str:
        return (self._prefix + path).removeprefix(CONTENT)

    def listing(self, below: str) -> Listing:
        """Each file that was stored below a folder, relative to it, with its digest."""
        prefix = "" if below in ("", ".") else f"{below}/"
        return {p.removeprefix(prefix): digest for p, digest in self._digests.items() if p.startswith(prefix)}


class _HashingReader(io.RawIOBase):
    """Reads at most ``length`` bytes of a stream and hashes what it hands on."""

    def __init__(self, stream: BinaryIO, length: int | None) -> None:
        super().__init__()
        self._stream = stream
        self._left = length
        self.hash = hashlib.sha256()

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Buffer) -> int:
        """Fill ``buffer`` with what comes next."""
        view = memoryview(buffer).cast("B")
        block = self._stream.read(len(view) if self._left is None else min(len(view), self._left))
        self.hash.update(block)
        view[: len(block)] = block
        if self._left is not None:
            self._left -= len(block)
        return len(block)


@dataclass
class PartSource:
    """A part's snapshot with the part's own facts, some files replaced by local ones."""

    source: Source
    facts: Facts
    replaced: Mapping[str, Path] = field(default_factory=dict)

    def entries(self) -> Iterator[Entry]:
        """Every path, with the size that it has now."""
        for entry in self.source.entries():
            local = self.replaced.get(entry.path)
            yield replace(entry, size=local.stat().st_size) if local else entry

    def open(self, path: str) -> BinaryIO:
        """A file's bytes."""
        local = self.replaced.get(path)
        return local.open("rb") if local else self.source.open(path)

    def fetch(self, path: str, to: Path) -> None:
        """Write one file's bytes durably."""
        local = self.replaced.get(path)
        if local is None:
            self.source.fetch(path, to)
            return
        shutil.copy2(local, to)
        with to.open("rb") as file:
            os.fsync(file.fileno())
        sync_folder(to.parent)

    def fetch_all(self, into: Path) -> None:
        """Write every path below ``into``."""
        self.source.fetch_all(into)
        for path in self.replaced:
            self.fetch(path, into / path)

    def under(self, prefix: str) -> Source:
        """The part below ``prefix``; nothing below one was replaced."""
        return self.source.under(prefix)
