"""Writing stored folders to disk without ever leaving the folder they go to.

Every step goes through the descriptor of an open folder, follows no symbolic link and creates each file under
a name of its own before it takes the place of what was there. So whatever names, links and targets a snapshot
holds, and whatever lies in the target folder already, nothing outside of that folder is touched.

Blocks of zeros are not written but left out as holes, so a sparse file comes back sparse.

A file has its name only when it is whole and synced. So whoever comes later may go on where another was stopped,
and whoever waits for a file may read it as soon as it is there, while the rest still comes.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from refloat.attributes import Withheld, put, put_owner
from refloat.contracts import EntryType
from refloat.durable import BLOCK_BYTES, advice, opened_file, opened_folder, pages, write_past_cache
from refloat.errors import ConnectorError
from refloat.limits import MIB
from refloat.patterns import EVERYTHING, Selection, rank
from refloat.vault.tree import Node, Read, check_depth, read_folder

FILES_AT_ONCE = 4  # each holds at most one chunk in memory
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PRIVATE_FILE = 0o600
_PRIVATE_FOLDER = 0o700
LARGE_BYTES = 8 * MIB  # less fits in the page cache at no cost
WINDOW_BYTES = 4 * MIB  # of a large file, written at once
_ZEROS = bytes(BLOCK_BYTES)  # what a file system leaves out of a file, or not
_TEMPORARY = re.compile(rb"\.refloat-[0-9a-f]{16}\.part")

T = TypeVar("T")

Pieces = Callable[[Node], Generator[bytes, None, None]]
"""A file's bytes in verified pieces."""

Find = Callable[[tuple[bytes, ...]], Node | None]
"""The entry at a path of a snapshot."""

Same = Callable[[int, Node], bool]
"""Whether an open folder holds a file exactly as it is stored, so that it need not be written."""


def nothing_there(folder: int, node: Node) -> bool:
    """The ``Same`` of folders that nobody was in before."""
    return False


@dataclass(frozen=True)
class Wish:
    """What of a snapshot is written, and what of it first.

    Files that match the first pattern of ``priority`` are there before any that matches the second, and so on, and
    these before all others; ``ready`` is told the path of each of them then. Paths are those of the whole snapshot,
    of which ``prefix`` is written. ``same`` tells what need not be written again. ``withheld`` counts what came without
    its owner or attributes.
    """

    selection: Selection = EVERYTHING
    priority: tuple[str, ...] = ()
    prefix: str = ""
    ready: Callable[[str], None] = lambda path: None
    same: Same = nothing_there
    withheld: Withheld = field(default_factory=Withheld)


@contextmanager
def explained(place: Path) -> Iterator[None]:
    """Turn an ``OSError`` of the target into a ``ConnectorError`` that says where."""
    try:
        yield
    except OSError as error:
        shown = error.filename if isinstance(error.filename, str) else None
        retry, next = advice(error)
        raise ConnectorError(
            f"cannot write {place}{f' ({shown})' if shown else ''}: {error.strerror or error}",
            file=str(place),
            retry=retry,
            next=next,
        ) from error


@contextmanager
def made_folder(path: Path) -> Iterator[int]:
    """A descriptor of a folder, which is made with those above it where it is not there."""
    path.mkdir(parents=True, exist_ok=True)
    with opened_folder(path) as folder:
        yield folder


def _temporary() -> bytes:
    return f".refloat-{secrets.token_hex(8)}.part".encode()


def _remove(name: bytes, folder: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def write_file(folder: int, name: bytes, node: Node, pieces: Iterator[bytes], withheld: Withheld) -> None:
    """Write a file with mode, time and what else is kept of it, synced; it takes the place of ``name`` in one step.

    ``folder`` is a descriptor. Raises ``OSError``, and what ``pieces`` raises; nothing is left then.
    """
    temporary = _temporary()
    with ExitStack() as undo:
        descriptor = os.open(temporary, _NEW, _PRIVATE_FILE, dir_fd=folder)
        undo.callback(_remove, temporary, folder)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            write = _write_large if node.size >= LARGE_BYTES else _write_small
            size = write(file.fileno(), pieces)
            os.ftruncate(file.fileno(), size)
            withheld.add(name, put(file.fileno(), node.mode, node.attributes))
            os.utime(file.fileno(), ns=(node.mtime_ns, node.mtime_ns))
            os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        undo.pop_all()


def _write_small(descriptor: int, pieces: Iterator[bytes]) -> int:
    size = 0
    for piece in pieces:
        for start, end in _filled(piece, size):
            _write_all(descriptor, memoryview(piece)[start:end], size + start)
        size += len(piece)
    return size


def _write_large(descriptor: int, pieces: Iterator[bytes]) -> int:
    """The same past the page cache, in windows of whole blocks."""
    window = pages(WINDOW_BYTES)
    at = held = 0
    for piece in pieces:
        left = memoryview(piece)
        while left:
            count = min(len(left), len(window) - held)
            window[held : held + count] = left[:count]
            left, held = left[count:], held + count
            if held == len(window):
                for start, end in _filled(window, at):
                    written = write_past_cache(descriptor, window[start:end], at + start)
                    _write_all(descriptor, window[start + written : end], at + start + written)
                at, held = at + held, 0
    for start, end in _filled(window[:held], at):
        _write_all(descriptor, window[start:end], at + start)
    return at + held


def _filled(piece: bytes | memoryview, at: int) -> Iterator[tuple[int, int]]:
    """The runs of a piece that must be written: all but its blocks of zeros, where it stands ``at`` in a file."""
    start = block = 0
    while block < len(piece):
        length = min(BLOCK_BYTES - (at + block) % BLOCK_BYTES, len(piece) - block)
        if not piece[block] and bytes(piece[block : block + length]) == _ZEROS[:length]:
            if start < block:
                yield start, block
            start = block + length
        block += length
    if start < len(piece):
        yield start, len(piece)


def _write_all(descriptor: int, left: memoryview, at: int) -> None:
    while left:
        written = os.pwrite(descriptor, left, at)
        left, at = left[written:], at + written


def _own(folder: int, name: bytes, node: Node, withheld: Withheld) -> None:
    """Give what is no file and no folder its owner."""

    def chown(owner: int, group: int) -> None:
        os.chown(name, owner, group, dir_fd=folder, follow_symlinks=False)

    withheld.add(node.name, put_owner(os.lstat(name, dir_fd=folder), node.attributes, chown))


def write_link(folder: int, node: Node, withheld: Withheld) -> None:
    """Make a symbolic link, in place of whatever had its name. Raises ``OSError``."""
    temporary = _temporary()
    with ExitStack() as undo:
        os.symlink(node.target, temporary, dir_fd=folder)
        undo.callback(_remove, temporary, folder)
        _own(folder, temporary, node, withheld)
        os.rename(temporary, node.name, src_dir_fd=folder, dst_dir_fd=folder)
        undo.pop_all()


def write_fifo(folder: int, node: Node, withheld: Withheld) -> None:
    """Make a named pipe, in place of whatever had its name. Raises ``OSError``."""
    temporary = _temporary()
    with ExitStack() as undo:
        os.mkfifo(temporary, _PRIVATE_FILE, dir_fd=folder)
        undo.callback(_remove, temporary, folder)
        _own(folder, temporary, node, withheld)
        os.chmod(temporary, node.mode, dir_fd=folder)
        os.utime(temporary, ns=(node.mtime_ns, node.mtime_ns), dir_fd=folder)
        os.rename(temporary, node.name, src_dir_fd=folder, dst_dir_fd=folder)
        undo.pop_all()


def linked(root: int, path: Sequence[bytes], folder: int, name: bytes) -> bool:
    """Give the file at a path below an open folder another name, in place of whatever had it; False where it cannot be.

    No link is followed. Some file systems have no hard links, or no more of them; then nothing is changed.
    """
    temporary = _temporary()
    with ExitStack() as undo, suppress(OSError):
        for above in path[:-1]:
            root = os.open(above, FOLDER_FLAGS, dir_fd=root)
            undo.callback(os.close, root)
        os.link(path[-1], temporary, src_dir_fd=root, dst_dir_fd=folder, follow_symlinks=False)
        undo.callback(_remove, temporary, folder)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        return True
    return False


class _Left(Exception):
    """The rest is not wanted any more; nobody hears of it."""


class Extractor:
    """Fills open folders from stored ones; files of one folder are written several at a time.

    ``wanted`` raises once nobody waits any more for what is written: before each path, as ``pieces`` does in a file.
    ``find`` gives the entry at a path of the whole snapshot.
    """

    def __init__(
        self, read: Read, pieces: Pieces, wish: Wish, wanted: Callable[[], None], find: Find
    ) -> None:
        self._find = find
        self._read = read
        self._pieces = pieces
        self._wish = wish
        self._wanted = wanted
        self._left = threading.Event()
        self._top = -1

    def fill(self, folder: int, tree: bytes) -> None:
        """Write what is wished of ``tree`` into an open folder. Raises ``OSError``, ``VaultError``."""
        self._top = folder
        with ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="extract") as pool:
            if self._wish.priority:
                self._fill_first(pool, folder, tree)
            self._fill(pool, _Folder(folder), tree, self._wish.prefix)

    def _fill_first(self, pool: ThreadPoolExecutor, folder: int, tree: bytes) -> None:
        """Write the files that have priority; those of a pattern when those of the one before it are there."""
        by_rank: dict[int, list[tuple[str, Node]]] = {}
        for number, path, node in self._first(tree, self._wish.prefix, 0):
            by_rank.setdefault(number, []).append((path, node))
        for number in sorted(by_rank):
            self._each(pool, lambda found: self._file_below(folder, *found), by_rank[number])

    def _each(self, pool: ThreadPoolExecutor, write: Callable[[T], None], items: Sequence[T]) -> None:
        """Write several at a time; when this is left none is at work any more, and its folder may be closed."""
        writing = [pool.submit(write, item) for item in items]
        try:
            over, _ = wait(writing, return_when=FIRST_EXCEPTION)
            for one in over:
                one.result()
        except BaseException:  # raised again: it ends the others, too
            self._left.set()  # nobody needs to wait until large files are whole
            for one in writing:
                one.cancel()
            wait(writing)
            raise

    def _first(self, tree: bytes, above: str, depth: int) -> Iterator[tuple[int, str, Node]]:
        check_depth(tree, depth)
        for node in read_folder(tree, self._read):
            path = _below(above, node.name)
            if node.type is EntryType.DIRECTORY and self._wish.selection.enters(path):
                yield from self._first(node.tree, path, depth + 1)
            elif node.type is EntryType.FILE and self._wish.selection.holds(path):
                number = rank(self._wish.priority, path)
                if number is not None:
                    yield number, path, node

    def _file_below(self, folder: int, path: str, node: Node) -> None:
        """Write a file and the folders above it, which get their modes and times when all else is there."""
        below = os.fsencode(path)[len(os.fsencode(self._wish.prefix)) :].strip(b"/")
        with ExitStack() as opened:
            for name in below.split(b"/")[:-1]:
                folder = _made(folder, name)
                opened.callback(os.close, folder)
            self._file(folder, node)
            os.fsync(folder)
        self._wish.ready(path)

    def _fill(self, pool: ThreadPoolExecutor, folder: _Folder, tree: bytes, above: str) -> None:
        check_depth(tree, folder.depth)
        nodes = list(read_folder(tree, self._read))
        wanted = [node for node in nodes if self._wish.selection.holds(_below(above, node.name))]
        if wanted:
            if self._wish.same is not nothing_there:
                _sweep(folder.open(), nodes)
            files = [node for node in _only(wanted, EntryType.FILE) if not self._came_first(above, node)]
            self._each(
                pool, lambda node: self._file(folder.open(), node), [node for node in files if not node.link]
            )
            for node in files:
                if node.link and not self._again(folder.open(), node):
                    self._file(folder.open(), node)
        for node in _only(nodes, EntryType.DIRECTORY):
            path = _below(above, node.name)
            if self._wish.selection.enters(path):
                with _Folder(above=folder, node=node, withheld=self._wish.withheld) as below:
                    if self._wish.selection.holds(path):
                        below.open()
                    self._fill(pool, below, node.tree, path)
        for node in _only(wanted, EntryType.SYMLINK):  # last: no link is there while anything is written
            self._wanted()
            write_link(folder.open(), node, self._wish.withheld)
        for node in _only(wanted, EntryType.FIFO):
            self._wanted()
            write_fifo(folder.open(), node, self._wish.withheld)
        folder.sync()

    def _again(self, folder: int, node: Node) -> bool:
        """Give what was written under another name this one, too; False where it is to be written like any other file.

        The two must be stored alike: what a snapshot only says of them is not believed.
        """
        path = node.link.split(b"/")
        first = self._find(tuple(path))
        above = [os.fsencode(name) for name in self._wish.prefix.split("/") if name]
        told = None if first is None else replace(first, name=node.name, token=node.token, link=node.link)
        if (
            told != node
            or path[: len(above)] != above
            or not self._wish.selection.holds(os.fsdecode(node.link))
        ):
            return False
        return linked(self._top, path[len(above) :], folder, node.name)

    def _came_first(self, above: str, node: Node) -> bool:
        return bool(self._wish.priority) and rank(self._wish.priority, _below(above, node.name)) is not None

    def _file(self, folder: int, node: Node) -> None:
        self._wanted()
        if self._wish.same(folder, node):
            if node.attributes:
                self._put_again(folder, node)
            return
        with closing(self._pieces(node)) as pieces:
            write_file(folder, node.name, node, self._until_left(pieces), self._wish.withheld)

    def _put_again(self, folder: int, node: Node) -> None:
        """What could not be set then may be now; and what cannot is to be said again."""
        with opened_file(os.fsdecode(node.name), folder=folder, follow=False) as descriptor:
            self._wish.withheld.add(node.name, put(descriptor, node.mode, node.attributes))

    def _until_left(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if self._left.is_set():
                raise _Left
            yield piece


class _Folder:
    """A folder that is made when something in it is to be written; it has its mode and time when that is over."""

    def __init__(
        self,
        opened: int | None = None,
        *,
        above: _Folder | None = None,
        node: Node | None = None,
        withheld: Withheld | None = None,
    ) -> None:
        self.depth: int = 0 if above is None else above.depth + 1
        self._opened = opened
        self._above = above
        self._node = node
        self._withheld = withheld or Withheld()

    def open(self) -> int:
        """A descriptor of it. Raises ``OSError``."""
        if self._opened is None:
            assert self._above is not None and self._node is not None  # the top is given opened
            self._opened = _made(self._above.open(), self._node.name)
        return self._opened

    def sync(self) -> None:
        """What it holds has come to stay."""
        if self._opened is not None:
            os.fsync(self._opened)

    def __enter__(self) -> _Folder:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        if self._opened is None or self._node is None:
            return
        try:
            if failed is None:
                lacking = put(self._opened, self._node.mode, self._node.attributes)
                self._withheld.add(self._node.name, lacking)
                os.utime(self._opened, ns=(self._node.mtime_ns, self._node.mtime_ns))
        finally:
            os.close(self._opened)


def _made(above: int, name: bytes) -> int:
    """A descriptor of a folder in an open one, private until all is in it. Raises ``OSError``, also for a link."""
    with suppress(FileExistsError):
        os.mkdir(name, _PRIVATE_FOLDER, dir_fd=above)
    folder = os.open(name, FOLDER_FLAGS, dir_fd=above)
    try:
        os.fchmod(folder, _PRIVATE_FOLDER)
    except OSError:
        os.close(folder)
        raise
    return folder


def _sweep(folder: int, nodes: Sequence[Node]) -> None:
    """Remove what a killed process had begun to write; what is stored under such a name stays."""
    stored = {node.name for node in nodes}
    for name in map(os.fsencode, os.listdir(folder)):
        if _TEMPORARY.fullmatch(name) and name not in stored:
            _remove(name, folder)


def _below(above: str, name: bytes) -> str:
    own = os.fsdecode(name)
    return f"{above}/{own}" if above else own


def _only(nodes: list[Node], kind: EntryType) -> list[Node]:
    return [node for node in nodes if node.type is kind]
