"""One component's files on their way into the vault: the sink that capture fills."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Protocol

from refloat.attributes import PLAIN, Attributes
from refloat.contracts import EntryType
from refloat.deadline import require_wanted
from refloat.durable import opened_file
from refloat.errors import ConnectorError, Retry, StoreError, VaultError
from refloat.limits import ENTRY_NAME_BYTES_MAX
from refloat.vault.bases import Bases, EarlierFile, path_of
from refloat.vault.chunk import NAME_BYTES, Base
from refloat.vault.layout import Chunking
from refloat.vault.segmenters import FASTCDC, WHOLE, OpenFile, Piece, Readable, segments
from refloat.vault.source import Heard, Tree, join_path, split_path, unheard
from refloat.vault.tree import (
    FILE_MODE_MASK,
    FOLDER_MODE_MASK,
    Node,
    require_storable,
    store_folder,
)

_ANY_TREE = bytes(NAME_BYTES)  # of a folder whose entries are not known yet
_SET_TIME = "set its time of change, which is beyond what can be stored, with touch; or exclude it"
FOLDER_MODE = 0o755  # of folders that nobody recorded, because only what they hold was given
_UNTOLD = Node(b"", EntryType.DIRECTORY, FOLDER_MODE)


@dataclass(frozen=True)
class Stored:
    """What came of one capture: its root tree (hex), files, bytes, and what of that the vault had not."""

    tree: str
    files: int
    bytes: int
    new_bytes: int
    stored_bytes: int


@dataclass(frozen=True)
class Content:
    """A piece of a file on its way into the vault. ``width`` is how many bytes an element has, see ``codecs.encode``.

    ``base``, asked where the piece is new, may give what it resembles.
    """

    raw: bytes
    width: int = 1
    base: Callable[[], Base | None] | None = None


@dataclass(frozen=True)
class Placed:
    """A chunk that is on its way into the vault. ``new_bytes`` is 0 where the vault had it."""

    name: bytes
    raw_bytes: int
    new_bytes: int = 0
    stored_bytes: int = 0


class Chunks(Protocol):
    """What a sink needs of a writer."""

    chunking: Chunking

    def put_contents(self, contents: Iterable[Content]) -> Iterator[Placed]:
        """Store pieces of files; the results come in the same order."""

    def put_tree(self, raw: bytes) -> Placed:
        """Store a page of a folder."""

    def read_tree(self, name: bytes) -> bytes:
        """A page of a folder, from this session or an earlier one."""

    def holds_all(self, names: Iterable[bytes]) -> bool:
        """Whether the vault holds all these pieces of files, as written by this writer."""

    def finished(self, tree: str, needed: frozenset[bytes]) -> None:
        """A tree is whole; ``needed`` are all its chunks."""

    def name_of(self, raw: bytes) -> bytes:
        """What the chunk of these bytes is called."""

    def rests_on(self, name: bytes) -> bytes | None:
        """The base of a chunk that is stored; None where it has none."""

    def fetch(self, name: bytes) -> bytes | None:
        """A chunk's bytes out of the vault; None where they are not to be had."""

    def warn(self, text: str) -> None:
        """Note what a person may want to know of the capture, though nothing is wrong with it."""


@dataclass
class _Folder:
    told: Node = _UNTOLD
    entries: dict[bytes, Node | _Folder] = field(default_factory=dict)


class _Limited:
    """The first ``length`` bytes of a stream that may be growing."""

    def __init__(self, stream: Readable, length: int) -> None:
        self._stream = stream
        self._left = length

    def read(self, size: int, /) -> bytes:
        content = self._stream.read(min(size, self._left))
        self._left -= len(content)
        return content


@contextmanager
def _opened(content: Path | BinaryIO) -> Iterator[BinaryIO]:
    if not isinstance(content, Path):
        yield content
        return
    with opened_file(content, follow=False) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
        yield file


def _descriptor(stream: BinaryIO) -> int | None:
    """The descriptor that a stream reads from, if it is that of a file."""
    try:
        descriptor = stream.fileno()
        return descriptor if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    except OSError:  # also io.UnsupportedOperation
        return None


def _unreadable(path: str, error: OSError) -> ConnectorError:
    if isinstance(error, FileNotFoundError):
        return ConnectorError(
            f"{path} disappeared while it was being read", file=path, retry=Retry.NOW, next="capture again"
        )
    return ConnectorError(
        f"cannot read {path}: {error.strerror or error}",
        file=path,
        retry=Retry.LATER if error.errno == errno.EIO else Retry.NEVER,
        next="make the file readable for refloat, or exclude it",
    )


def _ambiguous(path: str, one: str, other: str) -> ConnectorError:
    return ConnectorError(
        f"{path} cannot be both a {one} and a {other}",
        file=path,
        next="capture again; if it comes back, it is a defect of the connector: report it",
    )


def _require_storable(path: str, node: Node) -> None:
    try:
        require_storable(node)
    except ValueError as error:
        raise ConnectorError(
            f"{path} cannot be stored as it is: {error}",
            file=path,
            next=_SET_TIME if "a time" in str(error) else f"see what is odd about {path}, or exclude it",
        ) from error


class SnapshotSink:
    """A ``contracts.Sink`` that stores chunks as they come and the folders at the end.

    A path that is given twice holds what was given last. What is read is what is stored: a file that changes
    meanwhile has the size that this returns. ``heard`` is told the bytes of each piece, and of what is carried.
    Once ``cancelled`` is set nothing more is taken or stored: every method raises ``Cancelled``, ``file`` at the next
    piece, so that a capture that was given up ends.
    """

    def __init__(
        self,
        chunks: Chunks,
        previous: str | None = None,
        heard: Heard = unheard,
        cancelled: threading.Event | None = None,
    ) -> None:
        self._cancelled = cancelled or threading.Event()
        self._chunks = chunks
        self._heard = heard
        self._root = _Folder()
        self._previous = None if previous is None else Tree(bytes.fromhex(previous), chunks.read_tree)
        self._bases = Bases(
            chunks.chunking, self._earlier_files, chunks.rests_on, chunks.name_of, chunks.fetch
        )
        self._needed: set[bytes] = set()
        self._new_bytes = 0
        self._stored_bytes = 0

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
        """Store a file and return its size in bytes.

        Raises ``ConnectorError``: with ``retry`` now where the file disappeared.
        """
        names = _checked(path)
        try:
            with _opened(content) as stream:
                descriptor = _descriptor(stream)
                found = segments(
                    stream if length is None else _Limited(stream, length),
                    self._chunks.chunking,
                    None if descriptor is None else OpenFile(descriptor),
                )
                has_seams = found.segmenter not in (WHOLE, FASTCDC)
                source = path_of(descriptor) if has_seams and descriptor is not None else None
                placed = list(self._stored(path, found.pieces, source))
        except OSError as error:
            raise _unreadable(path, error) from error
        told = token() if callable(token) else token
        node = Node(
            names[-1],
            EntryType.FILE,
            mode & FILE_MODE_MASK,
            mtime_ns,
            segmenter=found.segmenter,
            token=told,
            attributes=attributes,
        )
        if link:
            node = replace(node, link=b"/".join(_checked(link)))
        if found.refused:
            self._chunks.warn(f"{path} is not cut at its tensors or columns: {found.refused}")
        size = sum(chunk.raw_bytes for chunk in placed)
        self._place(names, replace(node, size=size, chunks=tuple(chunk.name for chunk in placed)))
        return size

    def earlier(self, path: str) -> str:
        """The token of a file in the previous snapshot; empty where that cannot be told."""
        node = self._earlier(_checked(path))
        return "" if node is None or node.type is not EntryType.FILE else node.token

    def carry(self, path: str, token: str, *, attributes: Attributes = PLAIN) -> bool:
        """Take a file over from the previous snapshot where its token is the same and its chunks are.

        ``attributes`` are what it has now: an older refloat may not have captured them.
        """
        self._wanted()
        names = _checked(path)
        node = self._earlier(names)
        if not token or node is None or node.type is not EntryType.FILE or node.token != token:
            return False
        if not self._chunks.holds_all(node.chunks):
            return False
        self._place(names, replace(node, attributes=attributes))
        self._heard(node.size)
        return True

    def directory(
        self, path: str, *, mode: int = 0o755, mtime_ns: int = 0, attributes: Attributes = PLAIN
    ) -> None:
        """Record a folder. The root has no attributes of its own: an empty path changes nothing."""
        if path:
            names = _checked(path)
            told = Node(
                names[-1], EntryType.DIRECTORY, mode & FOLDER_MODE_MASK, mtime_ns, attributes=attributes
            )
            _require_storable(path, replace(told, tree=_ANY_TREE))
            self._folder(names).told = told

    def symlink(self, path: str, target: str, *, attributes: Attributes = PLAIN) -> None:
        """Record a symbolic link. Raises ``ConnectorError`` for a target that no link can have."""
        names = _checked(path)
        stored = target.encode("utf-8", "surrogateescape")
        if not stored or b"\0" in stored or len(stored) > ENTRY_NAME_BYTES_MAX:
            raise ConnectorError(
                f"the link {path} has a target that no link can have", file=path, next="exclude the link"
            )
        self._place(names, Node(names[-1], EntryType.SYMLINK, target=stored, attributes=attributes))

    def fifo(
        self, path: str, *, mode: int = 0o644, mtime_ns: int = 0, attributes: Attributes = PLAIN
    ) -> None:
        """Record a named pipe."""
        names = _checked(path)
        told = Node(names[-1], EntryType.FIFO, mode & FILE_MODE_MASK, mtime_ns, attributes=attributes)
        self._place(names, told)

    def under(self, prefix: str) -> Below:
        """A sink whose paths land below ``prefix``."""
        return Below(self, prefix)

    def finish(self) -> Stored:
        """Store the folders. The snapshot counts only once a point that names its tree is committed."""
        self._wanted()
        totals = _Totals()
        tree = self._store(self._root, totals).hex()
        self._chunks.finished(tree, frozenset(self._needed))
        return Stored(tree, totals.files, totals.bytes, self._new_bytes, self._stored_bytes)

    def _stored(self, path: str, pieces: Iterator[Piece], source: Path | None) -> Iterator[Placed]:
        """Store the pieces of a file; each is a base of what comes after it."""
        waiting: deque[tuple[Piece, int]] = deque()

        def contents() -> Iterator[Content]:
            for piece in pieces:
                self._wanted()
                waiting.append((replace(piece, raw=b""), len(piece.raw)))
                yield Content(piece.raw, piece.width, self._bases.of(path, piece, source))

        for chunk in self._chunks.put_contents(contents()):
            piece, length = waiting.popleft()
            self._bases.stored(path, piece, length, chunk.name, source)
            self._heard(length)
            yield self._count(chunk)

    def _earlier_files(self) -> Iterator[EarlierFile]:
        """The files of the snapshot before, as far as they can be listed."""
        if self._previous is not None:
            with suppress(VaultError, StoreError):
                yield from self._previous.files()

    def _count(self, chunk: Placed) -> Placed:
        self._new_bytes += chunk.new_bytes
        self._stored_bytes += chunk.stored_bytes
        return chunk

    def _earlier(self, names: tuple[bytes, ...]) -> Node | None:
        if self._previous is None:
            return None
        try:
            return self._previous.find(names)
        except (VaultError, StoreError):
            return None  # what cannot be carried is read

    def _folder(self, names: tuple[bytes, ...]) -> _Folder:
        self._wanted()
        folder = self._root
        for name in names:
            below = folder.entries.setdefault(name, _Folder())
            if not isinstance(below, _Folder):
                path = join_path(names)
                raise _ambiguous(path, "folder", below.type)
            folder = below
        return folder

    def _wanted(self) -> None:
        require_wanted(self._cancelled, "storing the snapshot")

    def _place(self, names: tuple[bytes, ...], node: Node) -> None:
        _require_storable(join_path(names), node)
        entries = self._folder(names[:-1]).entries
        if isinstance(entries.get(names[-1]), _Folder):
            path = join_path(names)
            raise _ambiguous(path, node.type, "folder")
        entries[names[-1]] = node

    def _store(self, folder: _Folder, totals: _Totals) -> bytes:
        return store_folder(
            [self._node(name, entry, totals) for name, entry in folder.entries.items()], self._put
        )

    def _node(self, name: bytes, entry: Node | _Folder, totals: _Totals) -> Node:
        if isinstance(entry, _Folder):
            tree = self._store(entry, totals)
            return replace(entry.told, name=name, tree=tree)
        self._needed.update(entry.chunks)
        totals.files += entry.type is EntryType.FILE
        totals.bytes += entry.size
        return entry

    def _put(self, raw: bytes) -> bytes:
        name = self._count(self._chunks.put_tree(raw)).name
        self._needed.add(name)
        return name


@dataclass
class _Totals:
    files: int = 0
    bytes: int = 0


def _checked(path: str) -> tuple[bytes, ...]:
    try:
        names = split_path(path)
        if not names:
            raise ValueError("it is empty")
    except ValueError as error:
        raise ConnectorError(f"{path!r} is not a path inside a snapshot: {error}", file=path) from error
    return names


class Below:
    """A ``contracts.Sink`` for what lies below a folder of another one."""

    def __init__(self, sink: SnapshotSink, prefix: str) -> None:
        _checked(prefix)
        self._sink = sink
        self._prefix = prefix

    def _at(self, path: str) -> str:
        return f"{self._prefix}/{path}"

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
        """As ``SnapshotSink.file``."""
        return self._sink.file(
            self._at(path),
            content,
            mode=mode,
            mtime_ns=mtime_ns,
            token=token,
            length=length,
            link=self._at(link) if link else "",
            attributes=attributes,
        )

    def earlier(self, path: str) -> str:
        """As ``SnapshotSink.earlier``."""
        return self._sink.earlier(self._at(path))

    def carry(self, path: str, token: str, *, attributes: Attributes = PLAIN) -> bool:
        """As ``SnapshotSink.carry``."""
        return self._sink.carry(self._at(path), token, attributes=attributes)

    def directory(
        self, path: str, *, mode: int = 0o755, mtime_ns: int = 0, attributes: Attributes = PLAIN
    ) -> None:
        """As ``SnapshotSink.directory``; an empty path is the folder ``prefix`` itself."""
        at = self._at(path) if path else self._prefix
        self._sink.directory(at, mode=mode, mtime_ns=mtime_ns, attributes=attributes)

    def symlink(self, path: str, target: str, *, attributes: Attributes = PLAIN) -> None:
        """As ``SnapshotSink.symlink``."""
        self._sink.symlink(self._at(path), target, attributes=attributes)

    def fifo(
        self, path: str, *, mode: int = 0o644, mtime_ns: int = 0, attributes: Attributes = PLAIN
    ) -> None:
        """As ``SnapshotSink.fifo``."""
        self._sink.fifo(self._at(path), mode=mode, mtime_ns=mtime_ns, attributes=attributes)

    def under(self, prefix: str) -> Below:
        """A sink further below."""
        return Below(self._sink, self._at(prefix))
