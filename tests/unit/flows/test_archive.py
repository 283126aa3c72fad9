"""What a thief with a writer's key made of a tree: no archive holds what leads outside, or half of a file."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from refloat.contracts import EntryType
from refloat.digest import object_name
from refloat.errors import Damaged
from refloat.flows.archive import write_archive
from refloat.flows.export import Export, Part
from refloat.testing.world import World
from refloat.vault import layout
from refloat.vault.anywhere import Anywhere
from refloat.vault.chunk import chunk_name, seal_chunk
from refloat.vault.index import seal_index
from refloat.vault.pack import CATALOGUE_KEY, seal_pack
from refloat.vault.tree import Node, Page, encode_page

CONTENT = b"what the file says"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.small(tmp_path, group="")


def planted(world: World, raw: bytes) -> bytes:
    """A chunk that lies in a pack of the vault, listed as any other; its name."""
    keyring, store = world.vault().replicas["us"].keyring, world.stores["us"]
    name = chunk_name(keyring.chunk_name_key, raw)
    pack = seal_pack(keyring, CATALOGUE_KEY, [seal_chunk(raw, name, keyring.catalogue_key)])
    index = seal_index(keyring, [(pack.record, pack.directory)])
    store.create(layout.pack_name(pack.record.name), pack.stored)
    store.create(layout.index_name(object_name(index)), index)
    return name


def archived(world: World, out: io.BytesIO, *nodes: Node) -> None:
    """Write the archive of a component that is one folder with these entries."""
    tree = planted(world, encode_page(Page(nodes))).hex()
    replica = world.vault().replicas["us"]
    write_archive(Export("a point", {"pages": Part(tree)}), Anywhere([replica]), out, world.clock)


def file(world: World, name: bytes, size: int = len(CONTENT)) -> Node:
    return Node(name, EntryType.FILE, 0o644, 0, size, (planted(world, CONTENT),))


def test_a_sound_tree_is_archived(world: World) -> None:
    out = io.BytesIO()
    archived(world, out, file(world, b"f"))
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        assert archive.getnames() == ["pages/f"]
        content = archive.extractfile("pages/f")
        assert content is not None and content.read() == CONTENT


@pytest.mark.parametrize("name", [b"..", b"../escaped", b"/etc/escaped", b"deep/../../escaped", b"."])
@pytest.mark.parametrize("kind", ["folder", "link", "file"])
def test_no_member_has_a_path_that_leaves_its_folder(
    world: World, name: bytes, kind: str
) -> None:  # fault 60
    empty = planted(world, encode_page(Page(())))
    hostile = {
        "folder": Node(name, EntryType.DIRECTORY, 0o755, 0, tree=empty),
        "link": Node(name, EntryType.SYMLINK, target=b"/etc/passwd"),
        "file": file(world, name),
    }[kind]
    out = io.BytesIO()
    with pytest.raises(Damaged):
        archived(world, out, hostile)
    assert name not in out.getvalue()


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1, 10_000])
def test_a_member_that_is_not_as_long_as_its_folder_says_ends_the_archive_as_none_ends(
    world: World, size: int
) -> None:  # fault 6
    out = io.BytesIO()
    with pytest.raises(Damaged, match="not as long"):
        archived(world, out, file(world, b"a"), file(world, b"b", size))
    assert not out.getvalue().endswith(bytes(2 * tarfile.BLOCKSIZE)), (
        "an archive ends with two blocks of zeros"
    )
