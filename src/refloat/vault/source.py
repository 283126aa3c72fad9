"""One component's files on their way out of the vault: the source that staging reads."""

from __future__ import annotations

import io
import os
import stat
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO, cast

from refloat.attributes import Withheld, put
from refloat.contracts import Entry, EntryType, Facts
from refloat.deadline import require_wanted
from refloat.durable import opened_folder
from refloat.errors import Missing, UsageError
from refloat.limits import TREE_DEPTH_MAX
from refloat.vault import extract
from refloat.vault.ahead import read_ahead, read_in_order
from refloat.vault.bases import EarlierFile
from refloat.vault.layout import damaged
from refloat.vault.segmenters import FASTCDC, WHOLE
from refloat.vault.tree import Extent, Node, Read, check_depth, check_name, read_folder
from refloat.vault.unfolded import UNTOLD, Totals, extent_of, require_room, require_within

FOLDERS_KEPT = 256  # folders whose entries stay in memory while single paths are looked up

Heard = Callable[[int], None]
"""Is told how many bytes more have passed."""


def unheard(size: int) -> None:
    """Nobody is told."""


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


class Tree:
    """A stored tree in which single paths are looked up."""

    def __init__(self, root: bytes, read: Read) -> None:
        self._root = root
        self._read = read
        self._listing = lru_cache(FOLDERS_KEPT)(self._list)
        # no cached_property: until Python 3.12 one lock is held for all trees while one of them is read
        self._unfolded = lru_cache(1)(partial(extent_of, root, read))

    def extent(self) -> Extent:
        """What all of it unfolds to. Raises ``Damaged``, ``StoreError``."""
        return self._unfolded()

    def _list(self, folder: bytes) -> dict[bytes, Node]:
        return {node.name: node for node in read_folder(folder, self._read)}

    def files(self) -> Iterator[EarlierFile]:
        """Every file that is cut at seams of its own."""
        left: list[tuple[bytes, tuple[bytes, ...]]] = [(self._root, ())]
        while left:
            folder, above = left.pop()
            check_depth(folder, len(above))
            for node in read_folder(folder, self._read):
                names = (*above, node.name)
                if node.type is EntryType.DIRECTORY:
                    left.append((node.tree, names))
                elif node.type is EntryType.FILE and node.segmenter not in (WHOLE, FASTCDC):
                    yield EarlierFile(join_path(names), node.size, node.mtime_ns, node.chunks)

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
    """A ``contracts.Source`` over a stored tree; ``read`` reads and verifies a chunk.

    ``priority`` are patterns of the files that are written first where everything is (``extract.Wish``). ``heard`` is
    told the bytes of each piece of a file that was read; several threads may do so. ``same`` tells which files need
    not be read again where everything is written to a folder in which an earlier attempt was stopped. Once
    ``cancelled`` is set nothing more is read or written: every method, and whoever reads a file, raises ``Cancelled``
    at the next chunk.

    ``totals`` are what the signed point says of the snapshot: a tree that unfolds to more is neither listed nor
    written, and no larger file is opened; each raises ``Malformed``. ``withheld`` counts what is written without its
    owner or attributes, because they could not be set.
    """

    def __init__(
        self,
        read: Read,
        tree: str,
        facts: Facts,
        prefix: tuple[bytes, ...] = (),
        *,
        priority: tuple[str, ...] = (),
        heard: Heard = unheard,
        same: extract.Same = extract.nothing_there,
        cancelled: threading.Event | None = None,
        totals: Totals = UNTOLD,
        withheld: Withheld | None = None,
    ) -> None:
        self.facts = facts
        self._cancelled = cancelled or threading.Event()
        self._heard = heard
        self._same = same
        self._priority = priority
        self._given = read
        self._root = bytes.fromhex(tree)
        self._tree = Tree(self._root, self._read)
        self._prefix = prefix
        self._totals = totals
        self._withheld = withheld or Withheld()

    def _wanted(self) -> None:
        require_wanted(self._cancelled, "reading the snapshot")

    def _read(self, name: bytes) -> bytes:
        self._wanted()
        return self._given(name)

    def under(self, prefix: str) -> SnapshotSource:
        """The part of the snapshot below ``prefix``; empty where nothing is there."""
        try:
            names = self._prefix + split_path(prefix)
        except ValueError as error:
            raise UsageError(f"{prefix!r} is not a path inside a snapshot: {error}") from error
        below = SnapshotSource(
            self._given,
            self._root.hex(),
            self.facts,
            names,
            priority=self._priority,
            heard=self._heard,
            same=self._same,
            cancelled=self._cancelled,
            totals=self._totals,
            withheld=self._withheld,
        )
        below._tree = self._tree
        return below

    def entries(self) -> Iterator[Entry]:
        """Every path, in order, folders before what they hold."""
        require_within(self._tree.extent(), self._totals, self._root.hex())
        top = self._tree.find(self._prefix)
        if top is not None and top.type is EntryType.DIRECTORY:
            yield from self._entries(top.tree, ())

    def _entries(self, folder: bytes, above: tuple[bytes, ...]) -> Iterator[Entry]:
        check_depth(folder, len(above))
        for node in read_folder(folder, self._read):
            names = (*above, node.name)
            target = node.target.decode("utf-8", "surrogateescape")
            path, kept, link = join_path(names), node.attributes, node.link.decode("utf-8", "surrogateescape")
            yield Entry(path, node.type, node.size, node.mode, node.mtime_ns, target, node.token, kept, link)
            if node.type is EntryType.DIRECTORY:
                yield from self._entries(node.tree, names)

    def open(self, path: str) -> BinaryIO:
        """A file's bytes as a stream that holds one chunk at a time. Raises ``Missing`` or ``Damaged``."""
        pieces = self.pieces(self._file(path))
        return cast(BinaryIO, io.BufferedReader(_ChunkStream(pieces)))

    def size(self, path: str) -> int:
        """How many bytes a file has. Raises ``Missing`` or ``Damaged``."""
        return self._file(path).size

    def fetch(self, path: str, to: Path) -> None:
        """Write one file to ``to`` whole and durably, or not at all; its parent exists.

        Raises ``Missing``, ``Damaged``, and ``ConnectorError`` where ``to`` cannot be written.
        """
        node = self._file(path)
        with extract.explained(to), opened_folder(to.parent) as folder:
            name = os.fsencode(to.name)
            extract.write_file(folder, name, node, self.pieces(node), self._withheld)
            os.fsync(folder)

    def fetch_all(self, into: Path) -> None:
        """Write every path below ``into``, which is made where it is not there; nothing outside of it.

        ``into`` itself gets owner and attributes of the folder that is written; its mode and time are the caller's.

        May be called again after a crash: what is there as it is stored stays, the rest is written anew under the
        same names. Raises as ``fetch``.
        """
        with extract.explained(into), extract.made_folder(into) as folder:
            same = self._same if any(into.iterdir()) else extract.nothing_there
            prefix = join_path(self._prefix)
            self.fill(
                folder,
                extract.Wish(priority=self._priority, prefix=prefix, same=same, withheld=self._withheld),
            )
            top = self._tree.find(self._prefix)
            if top is not None and top.attributes:
                mode = stat.S_IMODE(os.fstat(folder).st_mode)
                self._withheld.add(top.name, put(folder, mode, top.attributes))

    def fill(self, folder: int, wish: extract.Wish) -> None:
        """Write what is wished into an open folder. Raises ``OSError``, ``VaultError`` and ``ConnectorError``."""
        require_within(self._tree.extent(), self._totals, self._root.hex())
        require_room(self._tree.extent(), folder, self._root.hex())
        top = self._tree.find(self._prefix)
        if top is not None and top.type is EntryType.DIRECTORY:
            extract.Extractor(self._read, self.pieces, wish, self._wanted, self._tree.find).fill(
                folder, top.tree
            )

    def holds(self, path: str) -> bool:
        """Whether anything lies at a path. Raises ``Missing`` or ``Damaged`` for folders that are not whole."""
        try:
            return bool(path) and self._tree.find(self._prefix + split_path(path)) is not None
        except ValueError:
            return False

    def _file(self, path: str) -> Node:
        self._wanted()
        missing = Missing(f"the snapshot holds no file {path!r}", file=path)
        try:
            node = self._tree.find(self._prefix + split_path(path))
        except ValueError:
            raise missing from None
        if node is None or node.type is not EntryType.FILE:
            raise missing
        require_within(Extent().and_file(node), self._totals, self._root.hex())
        return node

    def pieces(self, node: Node) -> Generator[bytes, None, None]:
        """A file's chunks, verified, one after the other. Raises ``Damaged`` if they do not make its size.

        A chunk that comes several times in a row, as in the holes of a sparse file, is read once.
        """
        left = node.size
        in_order = read_ahead if node.size >= extract.LARGE_BYTES else read_in_order
        for piece in in_order(self._read, node.chunks):
            left -= len(piece)
            if left < 0:
                break
            self._wanted()  # it may have been read ahead, or have come so many times
            self._heard(len(piece))
            yield piece
        if left:
            raise damaged(_shown(node), "its chunks are not as long as its folder says")


def _shown(node: Node) -> str:
    return f"file {node.name.decode('utf-8', 'backslashreplace')}"
