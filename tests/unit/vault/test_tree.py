"""A folder listing comes back as it was; anything that leads elsewhere is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from refloat.attributes import PLAIN, Attributes, Principal
from refloat.contracts import EntryType
from refloat.digest import canonical_json
from refloat.errors import ConnectorError, Damaged, Malformed, Missing
from refloat.limits import CHUNK_BYTES_MAX, TREE_DEPTH_MAX
from refloat.vault import tree as tree_module
from refloat.vault.tree import (
    Node,
    Page,
    check_name,
    chunk_names,
    decode_page,
    encode_page,
    read_folder,
    store_folder,
)


def is_name(name: bytes) -> bool:
    try:
        check_name(name)
    except ValueError:
        return False
    return True


NAMES = st.binary(min_size=1, max_size=255).filter(is_name)
CHUNK = st.binary(min_size=32, max_size=32)
TIMES = st.integers(-(2**62), 2**62)
PRINCIPALS = st.none() | st.builds(
    Principal, st.integers(0, 2**32 - 2), st.text(max_size=9).filter(str.isprintable)
)
XATTRS = st.dictionaries(
    st.sampled_from(("user.a", "user.\udcff", "system.posix_acl_access", "system.posix_acl_default")),
    st.binary(max_size=9),
)
ATTRIBUTES = st.builds(
    Attributes, PRINCIPALS, PRINCIPALS, XATTRS.map(lambda found: tuple(sorted(found.items())))
)
FILES = st.builds(
    Node,
    name=NAMES,
    type=st.just(EntryType.FILE),
    mode=st.integers(0, 0o777),
    mtime_ns=TIMES,
    size=st.integers(1, 2**62),
    chunks=st.lists(CHUNK, min_size=1, max_size=3).map(tuple),
    segmenter=st.integers(0, 6),
    token=st.text(max_size=10),
    attributes=st.just(PLAIN) | ATTRIBUTES,
)
EMPTY_FILES = FILES.map(lambda node: replace(node, size=0, chunks=()))
FOLDERS = st.builds(
    Node,
    name=NAMES,
    type=st.just(EntryType.DIRECTORY),
    mode=st.integers(0, 0o3777),
    mtime_ns=TIMES,
    tree=CHUNK,
)
LINKS = st.builds(
    Node,
    name=NAMES,
    type=st.just(EntryType.SYMLINK),
    target=st.binary(min_size=1, max_size=60).filter(lambda target: b"\0" not in target),
)
NODES = st.lists(FILES | EMPTY_FILES | FOLDERS | LINKS, max_size=8, unique_by=lambda node: node.name)


class Shelf:
    """Chunks in a dictionary."""

    def __init__(self) -> None:
        self.chunks: dict[bytes, bytes] = {}

    def store(self, raw: bytes) -> bytes:
        name = blake3(raw).digest()
        self.chunks[name] = raw
        return name

    def read(self, name: bytes) -> bytes:
        if name not in self.chunks:
            raise Missing(f"no chunk {name.hex()}")
        return self.chunks[name]


@given(NODES, st.none() | CHUNK)
def test_any_folder_comes_back(nodes: list[Node], after: bytes | None) -> None:
    page = Page(tuple(sorted(nodes, key=lambda node: node.name)), (after or b"") if nodes else b"")
    assert decode_page(encode_page(page), what="tree") == page


@settings(max_examples=30)
@given(NODES, st.integers(1, 400))
def test_a_folder_in_pages_of_any_size_is_the_same_folder(nodes: list[Node], page_bytes: int) -> None:
    shelf = Shelf()
    before, tree_module.PAGE_BYTES_MAX = tree_module.PAGE_BYTES_MAX, page_bytes
    try:
        first = store_folder(nodes, shelf.store)
    finally:
        tree_module.PAGE_BYTES_MAX = before
    assert list(read_folder(first, shelf.read)) == sorted(nodes, key=lambda node: node.name)
    assert set(chunk_names(first, lambda name: shelf.chunks.get(name, encode_page(Page(()))))) >= set(
        shelf.chunks
    )


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_garbage_is_damage(junk: bytes) -> None:
    with pytest.raises(Damaged):
        decode_page(junk, what="tree")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ENTRY = json.loads(
    encode_page(Page((Node(b"f", EntryType.FILE, 0o644, 5, 3, (b"c" * 32,), 1, "t"),))).decode()
)["entries"][0]


@given(st.sampled_from(sorted(ENTRY)), JSON)
def test_a_field_with_any_other_value_is_damage_or_the_value_it_says(field: str, value: object) -> None:
    raw = canonical_json({"format": 1, "entries": [{**ENTRY, field: value}], "next": None})
    try:
        page = decode_page(raw, what="tree")
    except Damaged:
        return
    assert is_name(page.nodes[0].name)
    assert bool(page.nodes[0].size) == bool(page.nodes[0].chunks)


@pytest.mark.parametrize("name", [b"..", b".", b"", b"a/b", b"/", b"a\0b", b"x" * 4097])
def test_a_name_that_leads_elsewhere_is_damage(name: bytes) -> None:
    raw = encode_page(Page((Node(name, EntryType.SYMLINK, target=b"t"),)))
    with pytest.raises(Damaged, match="cannot name a file"):
        decode_page(raw, what="tree")


def test_the_same_name_twice_is_damage() -> None:
    link = Node(b"x", EntryType.SYMLINK, target=b"t")
    with pytest.raises(Damaged, match="order"):
        decode_page(encode_page(Page((link, link))), what="tree")


@pytest.mark.parametrize("mode", [0o4755, -1, 0o10000])
def test_a_file_that_would_run_as_somebody_else_is_damage(mode: int) -> None:
    with pytest.raises(Damaged):
        decode_page(encode_page(Page((Node(b"f", EntryType.FILE, mode),))), what="tree")


@pytest.mark.parametrize(
    ("said", "other"),
    [
        (b'"dA=="', b'"dB=="'),
        (b'"abab', b'"ABab'),
        (b'"abab', b'" abab'),
        (b'"mtime_ns":1', b'"mtime_ns":true'),
    ],
)
def test_a_second_spelling_of_the_same_entry_is_damage(said: bytes, other: bytes) -> None:  # fault 53
    link = Node(b"a", EntryType.SYMLINK, target=b"t")
    folder = Node(b"b", EntryType.DIRECTORY, 0o755, 1, tree=bytes.fromhex("ab" * 32))
    raw = encode_page(Page((link, folder)))
    assert raw.count(said) == 1
    with pytest.raises(Damaged):
        decode_page(raw.replace(said, other), what="tree")


def test_json_that_nests_without_end_is_damage() -> None:
    with pytest.raises(Damaged):
        decode_page(b"[" * 100_000, what="tree")


def test_a_page_that_does_not_go_on_where_the_one_before_ended_is_damage() -> None:
    shelf = Shelf()
    link = Node(b"b", EntryType.SYMLINK, target=b"t")
    second = shelf.store(encode_page(Page((replace(link, name=b"a"),))))
    first = shelf.store(encode_page(Page((link,), second)))
    with pytest.raises(Damaged, match="go on"):
        list(read_folder(first, shelf.read))


def test_folders_nested_deeper_than_any_capture_are_damage_and_not_a_crash() -> None:
    shelf = Shelf()
    tree = shelf.store(encode_page(Page(())))
    for _ in range(TREE_DEPTH_MAX + 1):
        tree = shelf.store(encode_page(Page((Node(b"d", EntryType.DIRECTORY, 0o755, tree=tree),))))
    with pytest.raises(Damaged, match="deeper"):
        list(chunk_names(tree, shelf.read))


def multiplied(shelf: Shelf, times: int) -> bytes:
    """A folder that holds one twice, which holds one twice, and so on."""
    tree = shelf.store(encode_page(Page(())))
    for _ in range(times):
        pair = tuple(Node(name, EntryType.DIRECTORY, 0o755, tree=tree) for name in (b"a", b"b"))
        tree = shelf.store(encode_page(Page(pair)))
    return tree


def test_folders_that_multiply_by_standing_in_each_other_twice_are_read_once() -> None:
    shelf = Shelf()
    assert len(list(chunk_names(multiplied(shelf, 20), shelf.read))) == 21


def test_folders_that_unfold_to_more_than_any_disk_holds_are_damage() -> None:
    # fault 53
    shelf = Shelf()
    with pytest.raises(Damaged, match="unfolds to more than"):
        list(chunk_names(multiplied(shelf, 60), shelf.read))


def test_a_folder_that_is_too_deep_only_where_it_stands_a_second_time_is_damage() -> None:
    # fault 53
    shelf = Shelf()
    low = shelf.store(encode_page(Page(())))
    for _ in range(TREE_DEPTH_MAX // 2):
        low = shelf.store(encode_page(Page((Node(b"d", EntryType.DIRECTORY, 0o755, tree=low),))))
    high = low
    for _ in range(TREE_DEPTH_MAX // 2 + 1):
        pair = (
            Node(b"a", EntryType.DIRECTORY, 0o755, tree=low),
            Node(b"b", EntryType.DIRECTORY, 0o755, tree=high),
        )
        high = shelf.store(encode_page(Page(pair)))
    with pytest.raises(Damaged, match="deeper"):
        list(chunk_names(high, shelf.read))


def test_a_file_of_more_chunks_than_an_entry_holds_is_refused_by_name() -> None:
    chunks = (b"c" * 32,) * (CHUNK_BYTES_MAX // 40)
    with pytest.raises(ConnectorError, match="too many chunks") as caught:
        store_folder([Node(b"huge.bin", EntryType.FILE, size=1, chunks=chunks)], Shelf().store)
    assert caught.value.file == "huge.bin"


def test_what_is_no_listing_says_why_whatever_the_reason_itself_says() -> None:
    shelf = Shelf()
    name = shelf.store(b"7")
    with pytest.raises(Malformed) as caught:
        list(read_folder(name, shelf.read))
    with pytest.raises(Damaged) as first:
        decode_page(b"7", what="x is damaged: y")
    assert caught.value.reason == first.value.reason != ""
    assert first.value.message == f"x is damaged: y is damaged: {first.value.reason}"
