"""What is more than files and folders of a data set comes back as it was, through a vault and its recovery."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from refloat.contracts import EntryType
from refloat.flows.into import bring, choose
from refloat.testing.world import World
from refloat.vault import extract
from refloat.vault.tree import Node, Page, decode_page, encode_page


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World.small(tmp_path, group="")
    pages = tmp_path / "eu" / "pages"
    os.link(pages / "deep" / "page-1.txt", pages / "deep" / "again.txt")
    os.link(pages / "deep" / "page-1.txt", pages / "top.txt")
    os.mkfifo(pages / "deep" / "pipe", 0o620)
    (pages / "deep" / "pipe").chmod(0o620)
    os.utime(pages / "deep" / "pipe", ns=(7, 7))
    return world


def inodes(folder: Path) -> set[int]:
    return {(folder / name).stat().st_ino for name in ("top.txt", "deep/again.txt", "deep/page-1.txt")}


def brought(world: World, name: str = "out") -> Path:
    into = world.root / name
    bring(choose(list(world.vault().replicas.values())), into, world.clock)
    return into / "pages"


def test_a_pipe_is_made_again_and_a_file_with_several_names_is_one_file(world: World) -> None:
    assert world.protect().ok
    assert world.protect().point.components["pages"].carried
    assert world.recover().ok
    for pages in (world.root / "us" / "pages", brought(world) / "content"):
        found = (pages / "deep" / "pipe").lstat()
        assert stat.S_ISFIFO(found.st_mode) and (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o620, 7)
        assert len(inodes(pages)) == 1
        assert (pages / "top.txt").read_bytes() == (world.root / "eu" / "pages" / "top.txt").read_bytes()


def test_what_changed_is_captured_and_the_names_stay_together(world: World) -> None:
    world.protect()
    (world.root / "eu" / "pages" / "current.json").write_text("{}")
    made = world.protect()
    assert not made.point.components["pages"].carried
    assert len(inodes(brought(world) / "content")) == 1


def test_where_the_file_system_knows_no_other_names_each_is_a_file(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    world.protect()
    monkeypatch.setattr(extract.os, "link", refuse)
    pages = brought(world) / "content"
    assert len(inodes(pages)) == 3
    assert (pages / "deep" / "again.txt").read_bytes() == (pages / "top.txt").read_bytes()


def test_only_a_page_with_more_has_the_newer_format() -> None:
    plain = Page((Node(b"a", EntryType.SYMLINK, target=b"b"),))
    assert b'"format":1' in encode_page(plain)
    file = Node(b"b", EntryType.FILE, 0o644, size=1, chunks=(bytes(32),), link=b"deep/a")
    more = Page((Node(b"a", EntryType.FIFO, 0o600, 5), file))
    stored = encode_page(more)
    assert b'"format":2' in stored and decode_page(stored, what="page") == more


@pytest.mark.parametrize("link", [b"/etc/shadow", b"../up", b"a//b", b"a/../b"])
def test_another_name_never_leads_out_of_the_snapshot(link: bytes) -> None:
    from refloat.errors import Damaged

    node = Node(b"b", EntryType.FILE, 0o644, size=1, chunks=(bytes(32),), link=link)
    with pytest.raises(Damaged):
        decode_page(encode_page(Page((node,))), what="page")
    older = encode_page(Page((Node(b"a", EntryType.FIFO),))).replace(b'"format":2', b'"format":1')
    with pytest.raises(Damaged):
        decode_page(older, what="page")
