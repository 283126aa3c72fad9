"""Trees that a valid writer signed and that unfold to more than any disk: refused at once, and nowhere written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refloat.contracts import EntryType
from refloat.errors import Damaged, Malformed
from refloat.flows.export import Export, export, parts_of
from refloat.flows.into import bring, choose
from refloat.limits import CHUNK_BYTES_MAX, PRUNE_GRACE_S, TREE_DEPTH_MAX, TREE_ENTRIES_MAX
from refloat.testing.world import World
from refloat.vault import layout
from refloat.vault.check import check
from refloat.vault.prune import plan_prune, prune
from refloat.vault.snapshot import Content
from refloat.vault.tree import Node, store_folder
from refloat.vault.unfolded import Extent, Totals, extent_of, require_room, require_within
from refloat.vault.writer import Writer

LEVELS = 41
Put = Callable[[bytes], bytes]


def folder(name: bytes, tree: bytes) -> Node:
    return Node(name, EntryType.DIRECTORY, 0o755, tree=tree)


def linked(put: Put, levels: int = LEVELS) -> bytes:
    """A folder that holds the one below it twice, and so on: few pages, and 2^levels folders."""
    tree = store_folder([], put)
    for _ in range(levels):
        tree = store_folder([folder(b"a", tree), folder(b"b", tree)], put)
    return tree


def repeated(put: Put, chunk: bytes, count: int = 300_000) -> bytes:
    """A file of one chunk, many times: with one of a mebibyte three hundred gigabytes."""
    node = Node(b"large.bin", EntryType.FILE, 0o644, size=count << 20, chunks=(chunk,) * count, segmenter=1)
    return store_folder([node], put)


def forge(world: World, tree_of: Callable[[Put, bytes], bytes], **said: int) -> str:
    """A point of the writer's own whose pages are ``tree_of``; ``said`` of it is what is not as in the one before."""
    good = world.protect().name
    replicas = list(world.vault().replicas.values())
    body: dict[str, Any] = json.loads(json.dumps(replicas[0].read_point(good)))
    needed: set[bytes] = set()
    with Writer(replicas) as writer:

        def put(raw: bytes) -> bytes:
            needed.add(name := writer.put_tree(raw).name)
            return name

        (chunk,) = writer.put_contents([Content(bytes(range(256)) * 4096)])
        needed.add(chunk.name)
        root = store_folder([folder(b"content", tree_of(put, chunk.name))], put)
        writer.finished(root.hex(), frozenset(needed))
        body["components"]["pages"] |= {"tree": root.hex(), **said}
        name, _ = writer.commit({**body, "created_at": world.clock.now().isoformat()})
    return name


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.small(tmp_path, group="")


TREES: dict[str, Callable[[Put, bytes], bytes]] = {
    "a folder of folders of folders": lambda put, chunk: linked(put),
    "one chunk for ever": repeated,
}


@pytest.mark.parametrize("kind", TREES)
def test_what_unfolds_to_more_than_its_point_says_is_brought_nowhere(world: World, kind: str) -> None:
    # fault 53
    name = forge(world, TREES[kind])
    chosen = choose(list(world.vault().replicas.values()), point=name)
    into = world.root / "out"
    with pytest.raises(Malformed, match=r"folder [0-9a-f]{64} unfolds to \d+ entries") as caught:
        bring(chosen, into, world.clock)
    assert caught.value.component == "pages" and not into.exists()
    wanted = Export(name, {"pages": parts_of(chosen.point, None, None)["pages"]})
    with pytest.raises(Malformed) as caught:
        export(wanted, reader_of(world), into, world.clock)
    assert "large.bin" in caught.value.message or kind != "one chunk for ever"
    assert not list(world.root.rglob("large.bin"))
    assert not world.recover().ok


def reader_of(world: World) -> Any:
    from refloat.vault.anywhere import Anywhere

    return Anywhere(list(world.vault().replicas.values()))


def test_a_manifest_that_unfolds_without_end_is_refused(world: World) -> None:
    # fault 53
    forge(world, TREES["a folder of folders of folders"])
    vault = world.vault()
    point = choose(list(vault.replicas.values())).point
    forged = point.model_copy(update={"manifest": point.components["pages"].tree})
    from refloat.flows.points import manifest_files

    with pytest.raises(Malformed, match="unfolds to"):
        manifest_files(vault.replicas["eu"], forged)


def shelf() -> tuple[dict[bytes, bytes], Put]:
    pages: dict[bytes, bytes] = {}

    def put(raw: bytes) -> bytes:
        name = (len(pages) + 1).to_bytes(32, "big")
        pages[name] = raw
        return name

    return pages, put


def test_what_a_tree_unfolds_to_is_told_by_reading_each_folder_once() -> None:
    pages, put = shelf()
    tree = linked(put)
    read: list[bytes] = []
    extent = extent_of(tree, lambda name: read.append(name) or pages[name])  # type: ignore[func-returns-value]
    assert extent.entries == 2 ** (LEVELS + 1) - 2 and len(read) == LEVELS + 1
    with pytest.raises(Malformed, match="unfolds to 4398046511102 entries"):
        require_within(extent, Totals(), tree.hex())


def test_a_tree_that_is_just_as_large_as_its_point_says_is_none_too_large() -> None:
    file = Node(b"f", EntryType.FILE, size=CHUNK_BYTES_MAX)
    extent = Extent().and_folder(Extent().and_file(file).and_file(file).and_other())
    assert (extent.entries, extent.files, extent.bytes) == (4, 2, 2 * CHUNK_BYTES_MAX)
    require_within(extent, Totals(2, 2 * CHUNK_BYTES_MAX), "aa")
    for less in (Totals(1, 2 * CHUNK_BYTES_MAX), Totals(2, 2 * CHUNK_BYTES_MAX - 1), Totals(entries=3)):
        with pytest.raises(Malformed):
            require_within(extent, less, "aa")


def test_folders_that_no_disk_has_room_for_are_refused(tmp_path: Path) -> None:
    from refloat.durable import opened_folder
    from refloat.errors import ConnectorError

    with opened_folder(tmp_path) as there:
        require_room(Extent(entries=10, files=5), there, "aa")
        with pytest.raises(ConnectorError, match="for which there is no room"):
            require_room(Extent(entries=TREE_ENTRIES_MAX << 20), there, "aa")


# ------------------------------------------------------------------------- a forged tree stops no check and no prune


def deep(put: Put, chunk: bytes) -> bytes:
    """More folders below one another than any may be, and a file at the end of them."""
    node = Node(b"hidden.bin", EntryType.FILE, 0o644, size=1 << 20, chunks=(chunk,), segmenter=1)
    tree = store_folder([node], put)
    for _ in range(TREE_DEPTH_MAX + 1):
        tree = store_folder([folder(b"a", tree)], put)
    return tree


def endless(put: Put, chunk: bytes) -> bytes:
    """Folders that unfold to more entries than any tree may have."""
    node = Node(b"hidden.bin", EntryType.FILE, 0o644, size=1 << 20, chunks=(chunk,), segmenter=1)
    tree = store_folder([node], put)
    for _ in range(LEVELS):
        tree = store_folder([folder(b"a", tree), folder(b"b", tree)], put)
    return tree


def no_folder(put: Put, chunk: bytes) -> bytes:
    """A folder beside one that is none."""
    return store_folder([folder(b"a", chunk), folder(b"b", store_folder([], put))], put)


FORGED: dict[str, Callable[[Put, bytes], bytes]] = {
    "too deep": deep,
    "endless": endless,
    "no folder": no_folder,
    "larger than its point says": repeated,
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_check_names_the_point_and_a_prune_goes_on_beside_it_and_keeps_what_it_names(
    world: World, kind: str
) -> None:
    # faults 20, 53
    name = forge(world, FORGED[kind], files=1, bytes=1)
    chunk = world.vault().replicas["eu"].name_of(bytes(range(256)) * 4096)
    for replica in world.vault().replicas.values():
        (found,) = check(replica, read_data=True).damaged
        assert found.malformed and found.affects == (name,) and found.object.startswith("folder ")
        assert "`refloat vault keys list`" in found.next
        replica.store.create(left := layout.point_name("0" * 64), b"what a killed command left")
    for plan in plan_prune(vault := world.vault(), world.clock.now()):
        assert list(plan.beside) == [found.object] and left in plan.mark
        prune(vault.replicas[plan.region], plan)
    world.clock.sleep(PRUNE_GRACE_S)
    for plan in plan_prune(vault := world.vault(), world.clock.now()):
        assert left in plan.remove
        prune(vault.replicas[plan.region], plan)
    for replica in world.vault().replicas.values():
        assert replica.read_chunk(chunk) == bytes(range(256)) * 4096
        assert [one.object for one in check(replica, read_data=True).damaged] == [found.object]


def test_what_a_point_says_right_of_itself_is_no_finding(world: World) -> None:
    # fault 53
    forge(world, lambda put, chunk: repeated(put, chunk, 3), files=1, bytes=3 << 20)
    assert all(check(one, read_data=False).ok for one in world.vault().replicas.values())
    forge(world, lambda put, chunk: repeated(put, chunk, 3), files=1, bytes=(3 << 20) - 1)
    assert not any(check(one, read_data=False).ok for one in world.vault().replicas.values())


def test_a_tree_of_which_something_is_lost_still_stops_a_prune(world: World) -> None:
    # fault 20
    world.protect()
    for store in world.stores.values():
        for pack in layout.objects(store, layout.PACKS):
            store.delete(pack)
    with pytest.raises(Damaged, match="nothing is pruned"):
        plan_prune(world.vault(), world.clock.now())
