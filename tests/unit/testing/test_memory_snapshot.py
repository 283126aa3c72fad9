"""The snapshot in memory behaves as the vault's does, so that what passes with it passes there."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import pytest

from refloat.contracts import EntryType, Facts
from refloat.errors import Missing
from refloat.testing.memory_snapshot import MemorySink


def test_what_is_given_comes_back_below_the_folder(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"from a path")
    sink = MemorySink()
    sink.directory("deep", mode=0o700, mtime_ns=10**18)
    assert sink.file("deep/a", tmp_path / "source", mode=0o600, mtime_ns=10**18) == 11
    assert sink.file("b", io.BytesIO(b"from a stream"), length=6) == 6
    sink.symlink("link", "deep/a")
    facts = Facts(identity={"n": 1})
    source = sink.source(facts)
    source.fetch_all(tmp_path / "into")
    source.fetch_all(tmp_path / "into")
    into = tmp_path / "into"
    assert (into / "deep" / "a").read_bytes() == b"from a path"
    assert (into / "b").read_bytes() == source.open("b").read() == b"from a"
    assert str((into / "link").readlink()) == "deep/a"
    assert stat.S_IMODE((into / "deep").stat().st_mode) == 0o700
    assert (into / "deep").stat().st_mtime_ns == (into / "deep" / "a").stat().st_mtime_ns == 10**18
    assert source.facts == facts


def test_folders_come_before_what_they_hold() -> None:
    sink = MemorySink()
    for path in ("a-b/x", "a/y", "a"):
        sink.file(path, io.BytesIO()) if "/" in path else sink.directory(path)
    assert [entry.path for entry in sink.source(Facts()).entries()] == ["a", "a/y", "a-b/x"]


def test_a_view_is_a_part_of_the_same_snapshot(tmp_path: Path) -> None:
    sink = MemorySink()
    sink.under("one").under("two").file("a", io.BytesIO(b"1"))
    assert list(sink.held.stored) == ["one/two/a"]
    part = sink.source(Facts()).under("one").under("two")
    assert [(entry.path, entry.type) for entry in part.entries()] == [("a", EntryType.FILE)]
    part.fetch("a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"1"
    with pytest.raises(Missing):
        part.open("one/two/a")


def test_only_the_same_token_is_carried_and_an_empty_one_never() -> None:
    first = MemorySink()
    first.under("part").file("a", io.BytesIO(b"1"), token="t1")
    first.file("b", io.BytesIO(b"2"))
    second = MemorySink(first)
    assert second.under("part").carry("a", "t1")
    assert not second.under("part").carry("a", "t2")
    assert not second.carry("b", "")
    assert not second.carry("c", "t1")
    assert (second.held.stored, second.held.carried, second.held.read) == ({"part/a": b"1"}, ["part/a"], [])


@pytest.mark.parametrize("path", ["../a", "/a", "a/../b", "a//b", "", "./a", "a/"])
def test_a_path_that_leaves_the_snapshot_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="relative path"):
        MemorySink().file(path, io.BytesIO())
