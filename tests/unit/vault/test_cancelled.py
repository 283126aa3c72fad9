"""Once an operation is cancelled, nothing more of a snapshot is read, written or stored."""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from refloat.contracts import EntryType, Facts
from refloat.durable import opened_folder
from refloat.errors import Cancelled, Damaged
from refloat.vault import extract
from refloat.vault.extract import LARGE_BYTES
from refloat.vault.kept import Kept
from refloat.vault.source import SnapshotSource
from refloat.vault.tree import Node, store_folder
from refloat.vault.writer import Writer

LARGE = random.Random(7).randbytes(2 * LARGE_BYTES)  # of several chunks, written past the page cache

HANG_S = 20.0  # ends a test that would hang; no verdict rests on it


class CancelledAfter(threading.Event):
    """Set from a certain look on, and counted: so a call is cancelled at every moment at which it looks."""

    def __init__(self, looks: int | None = None) -> None:
        super().__init__()
        self.looks = 0
        self._last = looks
        self._counting = threading.Lock()

    def is_set(self) -> bool:
        with self._counting:
            self.looks += 1
            return self._last is not None and self.looks > self._last


@pytest.fixture
def stored(world) -> Callable[..., SnapshotSource]:
    """Makes sources of one snapshot: files of one chunk and of many, an empty one, folders, links."""
    with Writer(world.replicas()) as writer:
        sink = writer.sink()
        sink.file("large", io.BytesIO(LARGE))
        for number in range(4):
            sink.file(f"deep/er/small-{number}", io.BytesIO(b"small %d" % number))
            sink.file(f"deep/empty-{number}", io.BytesIO(b""))
            sink.symlink(f"links/{number}", "../large")
        sink.directory("nothing")
        tree, manifest = sink.finish().tree, writer.sink().finish().tree
        writer.commit({"manifest": manifest, "components": {"files": {"tree": tree}}, "groups": {}})
    replica = world.open()
    return lambda cancelled, **more: replica.source(tree, Facts(), cancelled=cancelled, **more)


def _finished(folder: Path) -> set[str]:
    """What has its name, relative to the folder; temporary names apart."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_a_source_that_was_cancelled_gives_and_writes_nothing(stored, tmp_path) -> None:
    cancelled = threading.Event()
    source = stored(cancelled)
    streams = [source.open("large"), source.under("deep").open("empty-1")]
    assert streams[0].read(1) == LARGE[:1]
    cancelled.set()
    (tmp_path / "files").mkdir()
    calls: list[Callable[[], object]] = [
        lambda: source.open("large"),
        lambda: source.fetch("large", tmp_path / "files" / "large"),
        lambda: source.fetch_all(tmp_path / "files"),
        lambda: source.under("links").fetch_all(tmp_path / "files"),
        lambda: list(source.entries()),
        streams[0].read,
    ]
    for call in calls:
        with pytest.raises(Cancelled):
            call()
    assert _finished(tmp_path) == set()


def test_fetching_all_ends_wherever_it_is_cancelled_and_leaves_only_whole_files(stored, tmp_path) -> None:
    counted = CancelledAfter()
    stored(counted).fetch_all(tmp_path / "whole")
    whole = _finished(tmp_path / "whole")
    assert counted.looks > len(whole) == 13, "it looks before each path and at each chunk"
    for looks in range(0, counted.looks, 3):
        folder = tmp_path / f"after-{looks}"
        with pytest.raises(Cancelled):
            stored(CancelledAfter(looks)).fetch_all(folder)
        left = _finished(folder)
        assert left <= whole, "something stays under a temporary name"
        assert "large" not in left or (folder / "large").read_bytes() == LARGE


def test_links_end_between_any_two(stored, tmp_path) -> None:
    counted = CancelledAfter()
    stored(counted).under("links").fetch_all(tmp_path / "whole")
    lengths = set()
    for looks in range(counted.looks):
        folder = tmp_path / f"after-{looks}"
        with pytest.raises(Cancelled):
            stored(CancelledAfter(looks)).under("links").fetch_all(folder)
        lengths.add(len(_finished(folder)))
    assert lengths == {0, 1, 2, 3}


def test_a_chunk_that_comes_after_the_end_is_not_written(stored, tmp_path) -> None:
    """As from a store that hung: the chunk is there at last, and nobody wants it any more."""
    cancelled = threading.Event()
    source = stored(threading.Event())
    late = SnapshotSource(
        lambda name: (cancelled.set(), source._read(name))[1],
        source._root.hex(),
        Facts(),
        cancelled=cancelled,
    )
    with pytest.raises(Cancelled):
        late.fetch_all(tmp_path / "into")
    assert _finished(tmp_path / "into") == set()


def test_comparing_what_is_there_already_ends_too(stored, tmp_path) -> None:
    folder = tmp_path / "into"
    stored(threading.Event()).fetch_all(folder)
    counted = CancelledAfter()
    stored(counted).fetch_all(folder)
    for looks in range(counted.looks):
        with pytest.raises(Cancelled):
            stored(CancelledAfter(looks)).fetch_all(folder)


def test_a_large_file_that_is_there_is_compared_no_further(stored, tmp_path) -> None:
    class Naming:
        """Knows every chunk, and is called off with the first."""

        def name_of(self, raw: bytes) -> bytes:
            cancelled.set()
            return raw

        def length_of(self, name: bytes) -> int:
            return 1

    cancelled = threading.Event()
    path = tmp_path / "ab"
    path.write_bytes(b"ab")
    found = path.stat()
    node = Node(b"ab", EntryType.FILE, found.st_mode & 0o7777, found.st_mtime_ns, size=2, chunks=(b"a", b"b"))
    with opened_folder(tmp_path) as folder, pytest.raises(Cancelled):
        Kept(Naming(), lambda size: None, cancelled).same(folder, node)


def test_no_folder_is_closed_while_a_file_in_it_is_written(tmp_path, monkeypatch) -> None:
    """Its number would soon be another folder's, and the file is written, renamed and removed by that number."""
    chunks: dict[bytes, bytes] = {}

    def put(raw: bytes) -> bytes:
        chunks[name := b"%032d" % len(chunks)] = raw
        return name

    slow, bad = put(b"slow"), put(b"bad")
    below = store_folder([Node(n, EntryType.FILE, size=4, chunks=(n,)) for n in (slow, bad)], put)
    root = store_folder([Node(b"below", EntryType.DIRECTORY, tree=below)], put)
    begun, go_on, written = threading.Event(), threading.Event(), threading.Event()
    closed_early: list[bool] = []

    def read(name: bytes) -> bytes:
        if name == bad:
            assert begun.wait(HANG_S)
            raise Damaged("the chunk is not what was stored")
        if name == slow:
            begun.set()
            assert go_on.wait(HANG_S)
            written.set()
        return chunks[name]

    def wait(writing, **until) -> object:
        if not until:  # no other file is begun any more
            go_on.set()
        return waited(writing, **until)

    def close(folder, *error) -> None:
        closed_early.append(not written.is_set())
        go_on.set()
        leave(folder, *error)

    waited, leave = extract.wait, extract._Folder.__exit__
    monkeypatch.setattr(extract, "wait", wait)
    monkeypatch.setattr(extract._Folder, "__exit__", close)
    with pytest.raises(Damaged):
        SnapshotSource(read, root.hex(), Facts()).fetch_all(tmp_path / "into")
    assert closed_early == [False]
    assert _finished(tmp_path / "into") <= {f"below/{slow.decode()}"}


# ------------------------------------------------------------------------------------------ on the way in


def test_a_sink_that_was_cancelled_takes_and_stores_nothing(world) -> None:
    with Writer(world.replicas()) as writer:
        before = writer.sink()
        before.file("kept", io.BytesIO(b"kept"), token="t")
        tree = before.finish().tree
        cancelled, heard = threading.Event(), []
        sink = writer.sink(tree, heard.append, cancelled)
        sink.file("first", io.BytesIO(b"first"))
        assert heard == [5]
        cancelled.set()
        below = sink.under("part")
        calls: list[Callable[[], object]] = [
            lambda: sink.file("second", io.BytesIO(b"second")),
            lambda: sink.file("empty", io.BytesIO(b"")),
            lambda: sink.carry("kept", "t"),
            lambda: sink.directory("folder"),
            lambda: sink.symlink("link", "first"),
            lambda: below.file("second", io.BytesIO(b"second")),
            sink.finish,
        ]
        for call in calls:
            with pytest.raises(Cancelled):
                call()
        assert heard == [5]


def test_a_file_that_is_being_taken_is_left_at_the_next_piece(world) -> None:
    class Long(io.BytesIO):
        """Is called off as soon as it is read."""

        def read(self, size: int | None = -1) -> bytes:
            cancelled.set()
            return super().read(size)

    cancelled, heard = threading.Event(), []
    with Writer(world.replicas()) as writer:
        sink = writer.sink(None, heard.append, cancelled)
        with pytest.raises(Cancelled):
            sink.file("long", Long(LARGE))
    assert heard == []
