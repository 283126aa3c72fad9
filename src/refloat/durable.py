"""Writes that are on the disk when they return, in the order that a crash cannot turn into half a file.

A name is durable only when the folder that holds it is synced as well (``fsync(2)``, notes).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def opened_folder(path: Path) -> Iterator[int]:
    """A descriptor of a folder, closed when the context is left; a link to it is followed. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make durable which names a folder holds: those created, renamed and removed in it. Raises ``OSError``."""
    with opened_folder(path) as descriptor:
        os.fsync(descriptor)


def partial_of(path: Path) -> Path:
    """Where ``replace_file`` writes before it renames; what a crash left there is overwritten by the next."""
    return path.with_name(f".{path.name}.refloat-partial")


def replace_file(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``: after a crash the file is the old one or the new one, never between.

    The parent must exist. Raises ``OSError``.
    """
    partial = partial_of(path)
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def remove_file(path: Path) -> None:
    """Remove a file durably; one that is not there is no error. Raises ``OSError``."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)
