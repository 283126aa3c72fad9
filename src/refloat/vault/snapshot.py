"""One component's files on their way in and out: the sink that capture fills, the source that stage reads."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from refloat.contracts import Entry, EntryType, Facts
from refloat.durable import opened_folder
from refloat.errors import ConnectorError, Missing, Retry, StoreError, UsageError, VaultError
from refloat.limits import ENTRY_NAME_BYTES_MAX, TREE_DEPTH_MAX
from refloat.vault import extract
from refloat.vault.layout import Chunking, damaged
from refloat.vault.segmenters import Readable, segments
from refloat.vault.tree import (
    FILE_MODE_MASK,
    FOLDER_MODE_MASK,
    Node,
    Read,
    check_depth,
    check_name,
    read_folder,
    store_folder,
)

FOLDERS_KEPT = 256  # folders whose entries stay in memory while single paths are looked up
FOLDER_MODE = 0o755  # of folders that nobody recorded, because only what they hold was given


@dataclass(frozen=True)
class Stored:
    """What came of one capture: its root tree (hex), files, bytes, and what of that the vault had not."""

    tree: str
    files: int
    bytes: int
    new_bytes: int
    stored_bytes: int


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

    def put_contents(self, pieces: Iterable[bytes]) -> Iterator[Placed]:
        """Store pieces of files; the results come in the same order."""

    def put_tree(self, raw: bytes) -> Placed:
        """Store a page of a folder."""

    def read_tree(self, name: bytes) -> bytes:
        """A page of a folder, from this session or an earlier one."""

    def holds_all(self, names: Iterable[bytes]) -> bool:
        """Whether the vault holds all these pieces of files, as written by this writer."""

    def finished(self, tree: str, needed: frozenset[bytes]) -> None:
        """A tree is whole; ``needed`` are all its chunks."""


def split_path(path: str) -> tuple[bytes, ...]:
    """The names in a relative path; none for the empty one. Raises ``ValueError`` for any other."""
    names = tuple(path.encode("utf-8", "surrogateescape").split(b"/")) if path else ()
    for name in names:
        check_name(name)
    if len(names) > TREE_DEPTH_MAX:
        raise ValueError(f"it lies deeper than {TREE_DEPTH_MAX} folders")
    return names


def join_path(names: Iterable[bytes]) -> str:
    """The path of names; bytes that are not UTF-8 become surrogates."""
    return b"/".join(names).decode("utf-8", "surrogateescape")


# ------------------------------------------------------------------------------------------ the way in


@dataclass
class _Folder:
    mode: int = FOLDER_MODE
    mtime_ns: int = 0
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
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not hold us up
    with os.fdopen(os.open(content, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        yield file


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


class SnapshotSink:
    """A ``contracts.Sink`` that stores chunks as they come and the folders at the end.

    A path that is given twice holds what was given last. What is read is what is stored: a file that changes
    meanwhile has the size that this returns.
    """

    def __init__(self, chunks: Chunks, previous: str | None = None) -> None:
        self._chunks = chunks
        self._root = _Folder()
        self._previous = None if previous is None else _Tree(bytes.fromhex(previous), chunks.read_tree)
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
        token: str = "",
        length: int | None = None,
    ) -> int:
        """Store a file and return its size in bytes.

        Raises ``ConnectorError``: with ``retry`` now where the file disappeared.
        """
        names = _checked(path)
        try:
            with _opened(content) as stream:
                segmenter, pieces = segments(
                    stream if length is None else _Limited(stream, length), self._chunks.chunking
                )
                placed = [self._count(chunk) for chunk in self._chunks.put_contents(pieces)]
        except OSError as error:
            raise _unreadable(path, error) from error
        node = Node(
            names[-1], EntryType.FILE, mode & FILE_MODE_MASK, mtime_ns, segmenter=segmenter, token=token
        )
        size = sum(chunk.raw_bytes for chunk in placed)
        self._place(names, replace(node, size=size, chunks=tuple(chunk.name for chunk in placed)))
        return size

    def carry(self, path: str, token: str) -> bool:
        """Take a file over from the previous snapshot where its token is the same and its chunks are."""
        names = _checked(path)
        node = self._earlier(names)
        if not token or node is None or node.type is not EntryType.FILE or node.token != token:
            return False
        if not self._chunks.holds_all(node.chunks):
            return False
        self._place(names, node)
        return True

    def directory(self, path: str, *, mode: int = 0o755, mtime_ns: int = 0) -> None:
        """Record a folder. The root has no attributes of its own: an empty path changes nothing."""
        if path:
            folder = self._folder(_checked(path))
            folder.mode, folder.mtime_ns = mode & FOLDER_MODE_MASK, mtime_ns

    def symlink(self, path: str, target: str) -> None:
        """Record a symbolic link. Raises ``ConnectorError`` for a target that no link can have."""
        names = _checked(path)
        stored = target.encode("utf-8", "surrogateescape")
        if not stored or b"\0" in stored or len(stored) > ENTRY_NAME_BYTES_MAX:
            raise ConnectorError(
                f"the link {path} has a target that no link can have", file=path, next="exclude the link"
            )
        self._place(names, Node(names[-1], EntryType.SYMLINK, target=stored))

    def under(self, prefix: str) -> Below:
        """A sink whose paths land below ``prefix``."""
        return Below(self, prefix)

    def finish(self) -> Stored:
        """Store the folders. The snapshot counts only once a point that names its tree is committed."""
        totals = _Totals()
        tree = self._store(self._root, totals).hex()
        self._chunks.finished(tree, frozenset(self._needed))
        return Stored(tree, totals.files, totals.bytes, self._new_bytes, self._stored_bytes)

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
        folder = self._root
        for name in names:
            below = folder.entries.setdefault(name, _Folder())
            if not isinstance(below, _Folder):
                path = join_path(names)
                raise _ambiguous(path, "folder", below.type)
            folder = below
        return folder

    def _place(self, names: tuple[bytes, ...], node: Node) -> None:
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
            return Node(name, EntryType.DIRECTORY, entry.mode, entry.mtime_ns, tree=tree)
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
        token: str = "",
        length: int | None = None,
    ) -> int:
        """As ``SnapshotSink.file``."""
        return self._sink.file(
            self._at(path), content, mode=mode, mtime_ns=mtime_ns, token=token, length=length
        )

    def carry(self, path: str, token: str) -> bool:
        """As ``SnapshotSink.carry``."""
        return self._sink.carry(self._at(path), token)

    def directory(self, path: str, *, mode: int = 0o755, mtime_ns: int = 0) -> None:
        """As ``SnapshotSink.directory``; an empty path is the folder ``prefix`` itself."""
        self._sink.directory(self._at(path) if path else self._prefix, mode=mode, mtime_ns=mtime_ns)

    def symlink(self, path: str, target: str) -> None:
        """As ``SnapshotSink.symlink``."""
        self._sink.symlink(self._at(path), target)

    def under(self, prefix: str) -> Below:
        """A sink further below."""
        return Below(self._sink, self._at(prefix))


# ------------------------------------------------------------------------------------------ the way out


class _Tree:
    """A stored tree in which single paths are looked up."""

    def __init__(self, root: bytes, read: Read) -> None:
        self._root = root
        self._read = read
        self._listing = lru_cache(FOLDERS_KEPT)(self._list)

    def _list(self, folder: bytes) -> dict[bytes, Node]:
        return {node.name: node for node in read_folder(folder, self._read)}

    def find(self, names: tuple[bytes, ...]) -> Node | None:
        """The entry at a path; None where there is none. The empty path is the root."""
        node: Node | None = Node(b"", EntryType.DIRECTORY, tree=self._root)
        for name in names:
            if node is None or node.type is not EntryType.DIRECTORY:
                return None
            node = self._listing(node.tree).get(name)
        return node


class _ChunkStream(io.RawIOBase):
    """A file's bytes, one chunk in memory at a time."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer is wider
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._piece = memoryview(piece)
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count


class SnapshotSource:
    """A ``contracts.Source`` over a stored tree; ``read`` reads and verifies a chunk."""

    def __init__(self, read: Read, tree: str, facts: Facts, prefix: tuple[bytes, ...] = ()) -> None:
        self.facts = facts
        self._read = read
        self._root = bytes.fromhex(tree)
        self._tree = _Tree(self._root, read)
        self._prefix = prefix

    def under(self, prefix: str) -> SnapshotSource:
        """The part of the snapshot below ``prefix``; empty where nothing is there."""
        try:
            names = self._prefix + split_path(prefix)
        except ValueError as error:
            raise UsageError(f"{prefix!r} is not a path inside a snapshot: {error}") from error
        below = SnapshotSource(self._read, self._root.hex(), self.facts, names)
        below._tree = self._tree
        return below

    def entries(self) -> Iterator[Entry]:
        """Every path, in order, folders before what they hold."""
        top = self._tree.find(self._prefix)
        if top is not None and top.type is EntryType.DIRECTORY:
            yield from self._entries(top.tree, ())

    def _entries(self, folder: bytes, above: tuple[bytes, ...]) -> Iterator[Entry]:
        check_depth(folder, len(above))
        for node in read_folder(folder, self._read):
            names = (*above, node.name)
            target = node.target.decode("utf-8", "surrogateescape")
            yield Entry(join_path(names), node.type, node.size, node.mode, node.mtime_ns, target, node.token)
            if node.type is EntryType.DIRECTORY:
                yield from self._entries(node.tree, names)

    def open(self, path: str) -> BinaryIO:
        """A file's bytes as a stream that holds one chunk at a time. Raises ``Missing`` or ``Damaged``."""
        pieces = self.pieces(self._file(path))
        return cast(BinaryIO, io.BufferedReader(_ChunkStream(pieces)))

    def fetch(self, path: str, to: Path) -> None:
        """Write one file to ``to`` whole and durably, or not at all; its parent exists.

        Raises ``Missing``, ``Damaged``, and ``ConnectorError`` where ``to`` cannot be written.
        """
        node = self._file(path)
        with extract.explained(to), opened_folder(to.parent) as folder:
            extract.write_file(folder, os.fsencode(to.name), node, self.pieces(node))
            os.fsync(folder)

    def fetch_all(self, into: Path) -> None:
        """Write every path below ``into``, which is made where it is not there; nothing outside of it.

        May be called again after a crash: files are written anew under the same names. Raises as ``fetch``.
        """
        top = self._tree.find(self._prefix)
        extractor = extract.Extractor(self._read, self.pieces)
        with extract.explained(into), extract.made_folder(into) as folder:
            if top is not None and top.type is EntryType.DIRECTORY:
                extractor.fill(folder, top.tree)

    def _file(self, path: str) -> Node:
        missing = Missing(f"the snapshot holds no file {path!r}", file=path)
        try:
            node = self._tree.find(self._prefix + split_path(path))
        except ValueError:
            raise missing from None
        if node is None or node.type is not EntryType.FILE:
            raise missing
        return node

    def pieces(self, node: Node) -> Iterator[bytes]:
        """A file's chunks, verified, one after the other. Raises ``Damaged`` if they do not make its size."""
        left = node.size
        for name in node.chunks:
            piece = self._read(name)
            left -= len(piece)
            if left < 0:
                break
            yield piece
        if left:
            raise damaged(_shown(node), "its chunks are not as long as its folder says")


def _shown(node: Node) -> str:
    return f"file {node.name.decode('utf-8', 'backslashreplace')}"
