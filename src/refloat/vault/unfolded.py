"""What a stored tree unfolds to, told from its folders alone: each is read once, wherever it stands.

Forty pages can name each other so that a restore would write 2^40 folders, and one chunk named a million times makes a
file larger than any disk. So before anything of a tree is listed or written, it is held against what its point says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from refloat.contracts import EntryType
from refloat.digest import Json
from refloat.errors import ConnectorError, Damaged, Malformed, Missing, Retry
from refloat.limits import MANIFEST_FILES_BYTES_MAX, MANIFEST_FILES_MAX, TREE_ENTRIES_MAX
from refloat.units import format_size
from refloat.vault.tree import Extent, Node, Read, check_depth, read_folder

ENTRY_BYTES = 256  # what a folder or a link takes on any disk, and more on most


@dataclass(frozen=True)
class Totals:
    """What a snapshot may unfold to: what the signed point says of it, and of entries what any tree may have."""

    files: int = TREE_ENTRIES_MAX
    bytes: int = 2**63 - 1
    entries: int = TREE_ENTRIES_MAX


UNTOLD = Totals()
"""Of a tree of which no point says more."""

MANIFEST_TOTALS = Totals(MANIFEST_FILES_MAX, MANIFEST_FILES_BYTES_MAX, MANIFEST_FILES_MAX)
"""Of the tree with the manifest and the files that it names, of which no point says more."""


def totals_of(body: Mapping[str, Json]) -> Iterator[tuple[str, Totals]]:
    """What a point's body says that its trees (hex) may unfold to, as a recovery holds them against it."""
    yield str(body["manifest"]), MANIFEST_TOTALS
    components = body["components"]
    for snapshot in components.values() if isinstance(components, Mapping) else ():
        if isinstance(snapshot, Mapping):
            files, size = snapshot.get("files"), snapshot.get("bytes")
            told = replace(UNTOLD, files=files) if isinstance(files, int) else UNTOLD
            yield str(snapshot["tree"]), replace(told, bytes=size) if isinstance(size, int) else told


def extent_of(folder: bytes, read: Read) -> Extent:
    """What a folder unfolds to. One that cannot be read counts as empty: whoever comes to it hears of that.

    Raises ``Damaged`` for folders nested deeper than any may be.
    """
    return _extent(folder, read, 0, {})


def _extent(folder: bytes, read: Read, depth: int, known: dict[bytes, Extent]) -> Extent:
    check_depth(folder, depth)
    found = Extent()
    for node in _readable(folder, read):
        if node.type is EntryType.DIRECTORY:
            below = known.get(node.tree) or _extent(node.tree, read, depth + 1, known)
            found = found.and_folder(below)
        else:
            found = found.and_file(node) if node.type is EntryType.FILE else found.and_other()
    known[folder] = found
    return found


def _readable(folder: bytes, read: Read) -> Iterator[Node]:
    with suppress(Missing, Damaged):
        yield from read_folder(folder, read)


def require_within(extent: Extent, totals: Totals, tree: str) -> None:
    """Refuse a tree (hex) that unfolds to more than its totals. Raises ``Malformed``."""
    if extent.entries <= totals.entries and extent.files <= totals.files and extent.bytes <= totals.bytes:
        return
    size, name = extent.largest
    shown = name.decode("utf-8", "backslashreplace")
    largest = f"; the largest is {shown}, of {format_size(size)}" if extent.bytes > totals.bytes else ""
    raise Malformed(
        f"folder {tree} unfolds to {extent.entries} entries, of which {extent.files} are files with "
        f"{format_size(extent.bytes)}{largest}; its point says {totals.files} files with {format_size(totals.bytes)}",
        file=shown if largest else f"folder {tree}",
        next="whoever wrote it means harm, or is no refloat: choose another point, and see who may write: "
        "`refloat vault keys list`",
    )


def require_room(extent: Extent, folder: int, tree: str) -> None:
    """Refuse folders and links for which an open folder's file system has no room. Raises ``ConnectorError``.

    Room for the files is asked for before, by those who know what is there already.
    """
    found, others = os.fstatvfs(folder), extent.entries - extent.files
    if others * ENTRY_BYTES <= found.f_bavail * found.f_frsize and (
        not found.f_files or others <= found.f_favail
    ):
        return
    raise ConnectorError(
        f"folder {tree} unfolds to {others} folders and links, for which there is no room",
        file=f"folder {tree}",
        retry=Retry.NEVER,
        next="choose another point, or a place with more room",
    )
