"""One folder as a value: its sorted entries, stored as a chunk of canonical JSON, or a row of such chunks.

    {"entries": [entry, ...], "format": 1, 2 or 3, "next": "<chunk name in hex>" or null}

A folder whose entries need more than ``PAGE_BYTES_MAX`` goes on in the page that ``next`` names. An entry has
``name`` (base64 of its bytes), ``type`` and, by type:

    file       chunks (base64 of 32-byte chunk names in order), mode, mtime_ns, segmenter, size, token
    directory  mode, mtime_ns, tree (chunk name of its first page, hex)
    symlink    target (base64 of its bytes)
    fifo       mode, mtime_ns; only in a page of format 2

In a page of format 2 a file may have ``link`` as well: base64 of the path of an entry before it, from the root of the
tree, that is the same file under another name. In a page of format 3 any entry may have ``owner`` and ``group``,
each the number and the name, and ``xattrs``: extended attributes, each base64 of its value. A page without any of
these is of format 1, which any refloat reads.
"""

from __future__ import annotations

import base64
import builtins
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

from refloat.attributes import PLAIN, Attributes, Principal, may_be_kept, may_be_named, within_limits
from refloat.contracts import EntryType
from refloat.digest import canonical_json
from refloat.errors import ConnectorError, Damaged, Missing
from refloat.limits import (
    ATTRIBUTES_MAX,
    CHUNK_BYTES_MAX,
    ENTRY_NAME_BYTES_MAX,
    MIB,
    TREE_DEPTH_MAX,
    TREE_ENTRIES_MAX,
)
from refloat.vault.chunk import NAME_BYTES
from refloat.vault.layout import FORMAT, damaged, malformed, parse_object

PAGE_BYTES_MAX = 4 * MIB  # one page in memory at a time; a folder of ten thousand files takes one
FILE_MODE_MASK = 0o777  # set-user-id and the like are not brought back from a backup
FOLDER_MODE_MASK = 0o3777  # set-group-id and sticky are how shared folders work
_MTIME_NS_MAX = 2**63
_COMMON = {"name", "type"}
_KEYS = {
    EntryType.FILE: _COMMON | {"chunks", "mode", "mtime_ns", "segmenter", "size", "token"},
    EntryType.DIRECTORY: _COMMON | {"mode", "mtime_ns", "tree"},
    EntryType.SYMLINK: _COMMON | {"target"},
    EntryType.FIFO: _COMMON | {"mode", "mtime_ns"},
}
FORMAT_OF_MORE = 2
"""The format of a page that holds a pipe, or a file with several names."""
FORMAT_OF_OWNERS = 3
"""The format of a page with an entry that says whose it is, or has extended attributes."""
_ATTRIBUTES = {"owner", "group", "xattrs"}
_ID_MAX = 2**32 - 1  # which is no user and no group, but "leave it" to ``chown``
_LINK_BYTES_MAX = (ENTRY_NAME_BYTES_MAX + 1) * TREE_DEPTH_MAX


@dataclass(frozen=True)
class Node:
    """One entry of a folder. ``chunks`` are 32-byte names in order; ``tree`` is a folder's first page.

    ``link`` is the path, from the root of the tree, under which the same file stands before this one.
    """

    name: bytes
    type: EntryType
    mode: int = 0
    mtime_ns: int = 0
    size: int = 0
    chunks: tuple[bytes, ...] = ()
    segmenter: int = 0
    token: str = ""
    target: bytes = b""
    tree: bytes = b""
    link: bytes = b""
    attributes: Attributes = PLAIN


@dataclass(frozen=True)
class Page:
    """One stored piece of a folder; ``next`` is the name of the piece after it, empty for the last."""

    nodes: tuple[Node, ...]
    next: bytes = b""


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _document(node: Node) -> dict[str, object]:
    document: dict[str, object] = {"name": _text(node.name), "type": str(node.type)}
    document |= _told(node.attributes)
    if node.type is EntryType.SYMLINK:
        return {**document, "target": _text(node.target)}
    document |= {"mode": node.mode, "mtime_ns": node.mtime_ns}
    if node.type is EntryType.DIRECTORY:
        return {**document, "tree": node.tree.hex()}
    if node.type is EntryType.FIFO:
        return document
    if node.link:
        document["link"] = _text(node.link)
    chunks = _text(b"".join(node.chunks))
    content = {"chunks": chunks, "segmenter": node.segmenter, "size": node.size, "token": node.token}
    return {**document, **content}


def _told(attributes: Attributes) -> dict[str, object]:
    told: dict[str, object] = {
        key: [principal.id, principal.name]
        for key, principal in (("owner", attributes.owner), ("group", attributes.group))
        if principal is not None
    }
    if attributes.xattrs:
        told["xattrs"] = {name: _text(value) for name, value in attributes.xattrs}
    return told


def require_storable(node: Node) -> None:
    """Refuse an entry that its own reader would not take. Raises ``ValueError`` that says what is wrong with it."""
    _node(_document(node))


def encode_page(page: Page) -> bytes:
    """The stored form of a page."""
    entries = [_document(node) for node in page.nodes]
    return canonical_json(
        {"format": _format(page.nodes), "entries": entries, "next": page.next.hex() or None}
    )


def _format(nodes: Sequence[Node]) -> int:
    if any(node.attributes for node in nodes):
        return FORMAT_OF_OWNERS
    more = any(node.type is EntryType.FIFO or node.link for node in nodes)
    return FORMAT_OF_MORE if more else FORMAT


def decode_page(raw: bytes, *, what: str) -> Page:
    """A page from its stored form.

    Raises ``Damaged`` for anything that ``encode_page`` would not make, ``VaultError`` for a newer format.
    """
    document = parse_object(raw, what, CHUNK_BYTES_MAX, FORMAT_OF_OWNERS)
    try:
        _require(set(document) == {"format", "entries", "next"}, "a set of fields")
        entries = cast("Sequence[Mapping[str, object]]", document["entries"])
        nodes = tuple(_node(entry) for entry in entries)
        after = b"" if document["next"] is None else _chunk_name(document["next"])
        _require(_ascending(nodes), "the order of its entries")
        _require(bool(nodes) or not after, "an empty page that goes on")
        _require(document["format"] == _format(nodes), "its format")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise damaged(what, f"it is not a folder listing: {error}") from error
    return Page(nodes, after)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{what} is wrong")


def _ascending(nodes: Sequence[Node]) -> bool:
    return all(a.name < b.name for a, b in pairwise(nodes))


def _whole(value: object, below: int) -> int:
    _require(isinstance(value, int) and not isinstance(value, bool) and 0 <= value < below, "a number")
    return cast(int, value)


def _moment(value: object) -> int:
    _require(type(value) is int and abs(value) < _MTIME_NS_MAX, "a time")
    return cast(int, value)


def _chunk_name(text: object) -> bytes:
    name = bytes.fromhex(cast(str, text))
    _require(len(name) == NAME_BYTES and name.hex() == text, "a chunk name")
    return name


def _octets(text: object) -> bytes:
    octets = base64.b64decode(cast(str, text), validate=True)
    _require(_text(octets) == text, "base64")  # bits that no byte takes may stand at its end
    return octets


def check_name(name: bytes) -> None:
    """Refuse what cannot be one path component. Raises ``ValueError``."""
    if not name or name in (b".", b"..") or b"/" in name or b"\0" in name or len(name) > ENTRY_NAME_BYTES_MAX:
        raise ValueError(f"{name[:80]!r} cannot name a file")


def _node(entry: Mapping[str, object]) -> Node:
    kind = EntryType(cast(str, entry["type"]))
    optional = {"link", *_ATTRIBUTES} if kind is EntryType.FILE else _ATTRIBUTES
    _require(set(entry) == _KEYS[kind] | (optional & set(entry)), "the keys of an entry")
    name = _octets(entry["name"])
    check_name(name)
    attributes = _attributes(entry) if _ATTRIBUTES & set(entry) else PLAIN
    if kind is EntryType.SYMLINK:
        return Node(name, kind, target=_target(entry), attributes=attributes)
    mtime_ns = _moment(entry["mtime_ns"])
    if kind is EntryType.FIFO:
        mode = _whole(entry["mode"], FILE_MODE_MASK + 1)
        return Node(name, kind, mode, mtime_ns, attributes=attributes)
    if kind is EntryType.DIRECTORY:
        mode = _whole(entry["mode"], FOLDER_MODE_MASK + 1)
        return Node(name, kind, mode, mtime_ns, tree=_chunk_name(entry["tree"]), attributes=attributes)
    return _file(name, mtime_ns, entry, attributes)


def _attributes(entry: Mapping[str, object]) -> Attributes:
    owner, group = (_principal(entry[key]) if key in entry else None for key in ("owner", "group"))
    if "xattrs" not in entry:
        return Attributes(owner, group)
    told = cast("Mapping[str, object]", entry["xattrs"])
    _require(isinstance(told, dict) and 0 < len(told) <= ATTRIBUTES_MAX, "a set of extended attributes")
    xattrs = tuple((name, _octets(told[name])) for name in sorted(told))
    _require(all(map(may_be_kept, told)) and within_limits(xattrs), "an extended attribute")
    _require(entry["type"] in (EntryType.FILE, EntryType.DIRECTORY), "what has extended attributes")
    return Attributes(owner, group, xattrs)


def _principal(value: object) -> Principal:
    _require(isinstance(value, list) and len(value) == 2, "an owner")
    number, name = cast("list[object]", value)
    _require(isinstance(name, str) and may_be_named(name), "an owner")
    return Principal(_whole(number, _ID_MAX), cast(str, name))


def _target(entry: Mapping[str, object]) -> bytes:
    target = _octets(entry["target"])
    _require(0 < len(target) <= ENTRY_NAME_BYTES_MAX and b"\0" not in target, "the target of a link")
    return target


def _link(entry: Mapping[str, object]) -> bytes:
    if "link" not in entry:
        return b""
    link = _octets(entry["link"])
    _require(0 < len(link) <= _LINK_BYTES_MAX, "the path of the same file")
    for name in link.split(b"/"):
        check_name(name)
    return link


def _file(name: bytes, mtime_ns: int, entry: Mapping[str, object], attributes: Attributes) -> Node:
    joined = _octets(entry["chunks"])
    size, token = _whole(entry["size"], 2**63), entry["token"]
    _require(len(joined) % NAME_BYTES == 0 and bool(joined) == bool(size), "a list of chunks")
    _require(isinstance(token, str), "a token")
    return Node(
        name=name,
        type=EntryType.FILE,
        mode=_whole(entry["mode"], FILE_MODE_MASK + 1),
        mtime_ns=mtime_ns,
        size=size,
        chunks=tuple(joined[at : at + NAME_BYTES] for at in range(0, len(joined), NAME_BYTES)),
        segmenter=_whole(entry["segmenter"], 256),
        token=cast(str, token),
        link=_link(entry),
        attributes=attributes,
    )


# ------------------------------------------------------------------------------------------ whole folders

Read = Callable[[bytes], bytes]
"""Reads a chunk by its name."""


def _pages(nodes: Sequence[Node]) -> list[tuple[Node, ...]]:
    pages: list[list[Node]] = [[]]
    room = PAGE_BYTES_MAX
    for node in nodes:
        size = len(canonical_json(_document(node))) + 1
        if size > CHUNK_BYTES_MAX - 1024:
            raise ConnectorError(
                f"{node.name!r} has too many chunks for one entry of a folder",
                file=_shown(node.name),
                next="exclude the file, or split it",
            )
        if pages[-1] and size > room:
            pages.append([])
            room = PAGE_BYTES_MAX
        pages[-1].append(node)
        room -= size
    return [tuple(page) for page in pages]


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def store_folder(nodes: Sequence[Node], store: Callable[[bytes], bytes]) -> bytes:
    """Store a folder's entries page by page, the last first, and return the name of the first page.

    ``store`` stores a chunk and returns its name. Raises ``ConnectorError`` for a file of too many chunks.
    """
    after = b""
    for page in reversed(_pages(sorted(nodes, key=lambda node: node.name))):
        after = store(encode_page(Page(page, after)))
    return after


def _read_pages(name: bytes, read: Read) -> Iterator[tuple[bytes, Page]]:
    last = b""
    while name:
        what = f"folder {name.hex()}"
        raw = read(name)
        try:
            page = decode_page(raw, what=what)
        except Damaged as error:  # it has the name that whoever named it gave it: so it was stored
            raise malformed(what, error.reason) from error
        if last and not (page.nodes and page.nodes[0].name > last):
            raise malformed(what, "it does not go on where the page before it ended")
        yield name, page
        last = page.nodes[-1].name if page.nodes else last
        name = page.next


def read_folder(name: bytes, read: Read) -> Iterator[Node]:
    """The entries of a folder in order, page by page. Raises ``Missing`` or ``Damaged``."""
    for _, page in _read_pages(name, read):
        yield from page.nodes


def check_depth(folder: bytes, depth: int) -> None:
    """Refuse a stored folder with more than ``TREE_DEPTH_MAX`` folders above it. Raises ``Malformed``."""
    if depth > TREE_DEPTH_MAX:
        raise malformed(f"folder {folder.hex()}", f"it lies deeper than {TREE_DEPTH_MAX} folders")


@dataclass(frozen=True)
class Extent:
    """How many entries a folder unfolds to, files among them, and their bytes; the largest file by its name."""

    entries: int = 0
    files: int = 0
    bytes: int = 0
    largest: tuple[int, builtins.bytes] = (0, b"")

    def and_file(self, node: Node) -> Extent:
        """The same with one more file."""
        largest = max(self.largest, (node.size, node.name))
        return Extent(self.entries + 1, self.files + 1, self.bytes + node.size, largest)

    def and_folder(self, below: Extent) -> Extent:
        """The same with one more folder, and all that is in it."""
        return Extent(
            self.entries + 1 + below.entries,
            self.files + below.files,
            self.bytes + below.bytes,
            max(self.largest, below.largest),
        )

    def and_other(self) -> Extent:
        """The same with one more entry that is neither."""
        return Extent(self.entries + 1, self.files, self.bytes, self.largest)


def chunk_names(root: bytes, read: Read) -> Generator[bytes, None, Extent]:
    """Every chunk that a tree needs, the trees' own among them; a name may come more than once.

    What comes back is what the tree unfolds to. A folder that stands in several places is read once. Raises
    ``Missing`` or ``Damaged``, and ``Malformed`` for what is no folder, for folders nested deeper than
    ``TREE_DEPTH_MAX``, and for ones that stand in each other so often that what a restore would write has more than
    ``TREE_ENTRIES_MAX`` entries.
    """
    extent, _ = yield from _walk(root, read, 0, {})
    return extent


def _walk(
    folder: bytes, read: Read, depth: int, known: dict[bytes, tuple[Extent, int]]
) -> Generator[bytes, None, tuple[Extent, int]]:
    """The chunks of a folder; what it unfolds to, and how many folders lie below one another in it."""
    check_depth(folder, depth)
    found, height = Extent(), 0
    for name, page in _read_pages(folder, read):
        yield name
        for node in page.nodes:
            yield from node.chunks
            if node.type is EntryType.DIRECTORY:
                below = known.get(node.tree) or (yield from _walk(node.tree, read, depth + 1, known))
                found, height = found.and_folder(below[0]), max(height, below[1] + 1)
            else:
                found = found.and_file(node) if node.type is EntryType.FILE else found.and_other()
    check_depth(folder, depth + height)
    if found.entries > TREE_ENTRIES_MAX:
        raise malformed(f"folder {folder.hex()}", f"it unfolds to more than {TREE_ENTRIES_MAX} entries")
    known[folder] = (found, height)
    return known[folder]


def chunks_named(root: bytes, read: Read) -> Iterator[bytes]:
    """Every chunk that a tree names which nobody recovers, however deep and whatever it unfolds to, each folder once.

    What cannot be read or is no folder is passed over, itself named. Raises ``WrongKey``, and ``VaultError`` for a
    newer format.
    """
    seen: set[bytes] = set()
    left = [root]
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        yield name
        with suppress(Missing, Damaged):
            page = decode_page(read(name), what=f"folder {name.hex()}")
            left += [page.next] if page.next else []
            for node in page.nodes:
                yield from node.chunks
                left += [node.tree] if node.type is EntryType.DIRECTORY else []
