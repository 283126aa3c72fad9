"""A tree with a pipe and a file of several names, as the second reader sees it."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path

from refloat.contracts import Facts
from refloat.testing.world import World
from refloat.vault.replica import create_vault
from refloat.vault.stores.local import LocalStore

sys.path.insert(0, str(Path(__file__).parent))

from objects import Key
from reader import Replica as SecondReader


def test_the_second_reader_reads_pipes_and_files_of_several_names(tmp_path: Path) -> None:
    world = World(tmp_path, group="", stores={r: LocalStore(tmp_path / "vault" / r) for r in ("eu", "us")})
    world.release(1)
    pages = tmp_path / "eu" / "pages"
    os.link(pages / "deep" / "page-1.txt", pages / "again.txt")
    os.mkfifo(pages / "pipe")
    create_vault(world.stores, world.key_file, world.clock, "small")
    made = world.protect()
    (tmp_path / "key").write_bytes(world.key_file.to_bytes())
    other = SecondReader(tmp_path / "vault" / "eu", Key.load(tmp_path / "key"))
    other.restore(made.name, tmp_path / "out")
    content = tmp_path / "out" / "components" / "pages" / "content"
    assert (content / "again.txt").read_bytes() == (content / "deep" / "page-1.txt").read_bytes()
    assert stat.S_ISFIFO((content / "pipe").lstat().st_mode)


def test_the_second_reader_reads_owners_and_attributes(tmp_path: Path) -> None:
    world = World(tmp_path, group="", stores={r: LocalStore(tmp_path / "vault" / r) for r in ("eu", "us")})
    world.release(1)
    pages = tmp_path / "eu" / "pages"
    os.mkfifo(pages / "pipe")
    with contextlib.suppress(OSError):
        os.setxattr(pages / "current.json", "user.note", b"\xff")
        os.chown(pages / "pipe", 4321, 1)
    create_vault(world.stores, world.key_file, world.clock, "small")
    made = world.protect()
    (tmp_path / "key").write_bytes(world.key_file.to_bytes())
    other = SecondReader(tmp_path / "vault" / "eu", Key.load(tmp_path / "key"))
    (content,) = other.tree(other.points[made.name]["components"]["pages"]["tree"])
    read = {one.name.decode(): one for one in (content, *content.entries)}
    for entry in world.vault().replicas["eu"].source(made.point.components["pages"].tree, Facts()).entries():
        if entry.path in ("content", "content/pipe", "content/current.json"):
            one, kept = read[entry.path.rpartition("/")[2]], entry.attributes
            assert one.owner == (kept.owner and (kept.owner.id, kept.owner.name))
            assert one.group == (kept.group and (kept.group.id, kept.group.name))
            assert one.xattrs == dict(kept.xattrs)
