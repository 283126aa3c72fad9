"""Writing stored folders to disk without ever leaving the folder they go to.

Every step goes through the descriptor of an open folder, follows no symbolic link and creates each file under
a name of its own before it takes the place of what was there. So whatever names, links and targets a snapshot
holds, and whatever lies in the target folder already, nothing outside of that folder is touched.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from refloat.contracts import EntryType
from refloat.durable import opened_folder
from refloat.errors import ConnectorError, Retry
from refloat.vault.tree import Node, Read, check_depth, read_folder

FILES_AT_ONCE = 4  # each holds at most one chunk in memory
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PRIVATE_FILE = 0o600
_PRIVATE_FOLDER = 0o700

Pieces = Callable[[Node], Iterator[bytes]]
"""A file's bytes in verified pieces."""


@contextmanager
def explained(place: Path) -> Iterator[None]:
    """Turn an ``OSError`` of the target into a ``ConnectorError`` that says where."""
    try:
        yield
    except OSError as error:
        shown = error.filename if isinstance(error.filename, str) else None
        raise ConnectorError(
            f"cannot write {place}{f' ({shown})' if shown else ''}: {error.strerror or error}",
            file=str(place),
            retry=Retry.LATER,
            next="make room or give access there, or remove what is in the way, and try again",
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


def write_file(folder: int, name: bytes, node: Node, pieces: Iterator[bytes]) -> None:
    """Write a file with mode and time, synced, and let it take the place of ``name`` in one step.

    ``folder`` is a descriptor. Raises ``OSError``, and what ``pieces`` raises; nothing is left then.
    """
    temporary = _temporary()
    with ExitStack() as undo:
        descriptor = os.open(temporary, _NEW, _PRIVATE_FILE, dir_fd=folder)
        undo.callback(_remove, temporary, folder)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            for piece in pieces:
                _write_all(file.fileno(), piece)
            os.fchmod(file.fileno(), node.mode)
            os.utime(file.fileno(), ns=(node.mtime_ns, node.mtime_ns))
            os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        undo.pop_all()


def _write_all(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def write_link(folder: int, node: Node) -> None:
    """Make a symbolic link, in place of whatever had its name. Raises ``OSError``."""
    temporary = _temporary()
    with ExitStack() as undo:
        os.symlink(node.target, temporary, dir_fd=folder)
        undo.callback(_remove, temporary, folder)
        os.rename(temporary, node.name, src_dir_fd=folder, dst_dir_fd=folder)
        undo.pop_all()


class Extractor:
    """Fills open folders from stored ones; files of one folder are written several at a time."""

    def __init__(self, read: Read, pieces: Pieces) -> None:
        self._read = read
        self._pieces = pieces

    def fill(self, folder: int, tree: bytes) -> None:
        """Write all that ``tree`` holds into an open folder. Raises ``OSError``, ``VaultError``."""
        with ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="extract") as pool:
            self._fill(pool, folder, tree, 0)

    def _fill(self, pool: ThreadPoolExecutor, folder: int, tree: bytes, depth: int) -> None:
        check_depth(tree, depth)
        nodes = list(read_folder(tree, self._read))
        for _ in pool.map(lambda node: self._file(folder, node), _only(nodes, EntryType.FILE)):
            pass
        for node in _only(nodes, EntryType.DIRECTORY):
            with self._entered(folder, node) as below:
                self._fill(pool, below, node.tree, depth + 1)
        for node in _only(nodes, EntryType.SYMLINK):  # last: no link is there while anything is written
            write_link(folder, node)
        os.fsync(folder)

    def _file(self, folder: int, node: Node) -> None:
        write_file(folder, node.name, node, self._pieces(node))

    @contextmanager
    def _entered(self, folder: int, node: Node) -> Iterator[int]:
        """Make and open a folder; its mode and time are set when everything in it is there."""
        with suppress(FileExistsError):
            os.mkdir(node.name, _PRIVATE_FOLDER, dir_fd=folder)
        descriptor = os.open(node.name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
        try:
            os.fchmod(descriptor, _PRIVATE_FOLDER)
            yield descriptor
            os.fchmod(descriptor, node.mode)
            os.utime(descriptor, ns=(node.mtime_ns, node.mtime_ns))
        finally:
            os.close(descriptor)


def _only(nodes: list[Node], kind: EntryType) -> list[Node]:
    return [node for node in nodes if node.type is kind]
