"""What a connector puts into a sink comes out of the source, and nothing else is touched on the way."""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refloat.contracts import Entry, EntryType, Facts
from refloat.errors import ConnectorError, Damaged, Missing, Retry, UsageError
from refloat.limits import TREE_DEPTH_MAX
from refloat.vault import extract
from refloat.vault.chunk import chunk_name
from refloat.vault.layout import Chunking
from refloat.vault.snapshot import Placed, SnapshotSink, Stored
from refloat.vault.source import SnapshotSource
from refloat.vault.tree import Node, Page, encode_page

FACTS = Facts(identity={"version": 1})
HOSTILE = [
    "new\nline",
    "-rf",
    " ",
    "snow\u2603",
    b"\xff\xfe".decode("utf-8", "surrogateescape"),
    "n" * 255,
    "~",
    "*",
]


class Shelf:
    """Chunks in a dictionary: what a sink needs of a writer, and a source of a replica."""

    chunking = Chunking(min=64, avg=256, max=1024)

    def __init__(self) -> None:
        self.chunks: dict[bytes, bytes] = {}
        self.reads: list[bytes] = []
        self.lost: set[bytes] = set()

    def _put(self, raw: bytes) -> Placed:
        name = chunk_name(bytes(32), raw)
        new = 0 if name in self.chunks else len(raw)
        self.chunks[name] = raw
        return Placed(name, len(raw), new, new)

    def put_contents(self, contents: Any) -> Iterator[Placed]:
        return (self._put(content.raw) for content in contents)

    def name_of(self, raw: bytes) -> bytes:
        return chunk_name(bytes(32), raw)

    def rests_on(self, name: bytes) -> None:
        return None

    def fetch(self, name: bytes) -> bytes | None:
        return self.chunks.get(name)

    def warn(self, text: str) -> None:
        raise AssertionError(text)

    def put_tree(self, raw: bytes) -> Placed:
        return self._put(raw)

    def read_tree(self, name: bytes) -> bytes:
        return self.read(name)

    def holds_all(self, names: Any) -> bool:
        return all(name in self.chunks and name not in self.lost for name in names)

    def finished(self, tree: str, needed: frozenset[bytes]) -> None:
        assert bytes.fromhex(tree) in needed
        assert needed <= set(self.chunks)

    def read(self, name: bytes) -> bytes:
        self.reads.append(name)
        if name not in self.chunks or name in self.lost:
            raise Missing(f"no chunk {name.hex()}")
        return self.chunks[name]


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def stored(shelf: Shelf, fill: Callable[[SnapshotSink], object], previous: str | None = None) -> Stored:
    sink = SnapshotSink(shelf, previous)
    fill(sink)
    return sink.finish()


def source(shelf: Shelf, fill: Callable[[SnapshotSink], object]) -> SnapshotSource:
    return SnapshotSource(shelf.read, stored(shelf, fill).tree, FACTS)


def everything(root: Path) -> dict[bytes, object]:
    """Every path below a folder with its mode, time and bytes or target."""
    found: dict[bytes, object] = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in folders + files:
            path = os.path.join(folder, name)  # noqa: PTH118 (names that are not UTF-8)
            status = os.lstat(path)
            content: object = stat.S_IMODE(status.st_mode), status.st_mtime_ns
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)  # noqa: PTH115
            elif stat.S_ISREG(status.st_mode):
                content = (content, Path(os.fsdecode(path)).read_bytes())
            found[os.path.relpath(path, os.fsencode(root))] = content
    return found


# ------------------------------------------------------------------------------------------ there and back


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.dictionaries(
        st.tuples(st.sampled_from(HOSTILE), st.sampled_from(HOSTILE)).map("/".join),
        st.binary(max_size=3000),
        max_size=6,
    )
)
def test_any_files_come_back_whatever_they_are_called(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    shelf, into = Shelf(), tmp_path_factory.mktemp("into")
    restored = source(shelf, lambda sink: [sink.file(path, io.BytesIO(files[path])) for path in files])
    restored.fetch_all(into)
    assert {path: restored.open(path).read() for path in files} == files
    assert {path: (into / path).read_bytes() for path in files} == files
    assert sorted(e.path for e in restored.entries() if e.type is EntryType.FILE) == sorted(files)


def test_modes_times_links_and_empty_folders_come_back(shelf: Shelf, tmp_path: Path) -> None:
    def fill(sink: SnapshotSink) -> None:
        sink.directory("locked", mode=0o500, mtime_ns=11_000_000_022)
        sink.file("locked/secret", io.BytesIO(b"s"), mode=0o000, mtime_ns=1_600_000_000_123_456_789)
        sink.file("locked/script", io.BytesIO(b"#!"), mode=0o755, mtime_ns=-1_000_000_000)
        sink.directory("locked/empty", mode=0o2775, mtime_ns=33)
        sink.symlink("dangling", "../../nowhere")
        sink.file("empty", io.BytesIO(b""), mtime_ns=44)

    restored = source(shelf, fill)
    restored.fetch_all(tmp_path / "into")
    assert everything(tmp_path / "into") == {
        b"locked": (0o500, 11_000_000_022),
        b"locked/secret": ((0o000, 1_600_000_000_123_456_789), b"s"),
        b"locked/script": ((0o755, -1_000_000_000), b"#!"),
        b"locked/empty": (0o2775, 33),
        b"dangling": b"../../nowhere",
        b"empty": ((0o644, 44), b""),
    }


def test_fetching_again_after_a_crash_ends_in_the_same_place(shelf: Shelf, tmp_path: Path) -> None:
    def fill(sink: SnapshotSink) -> None:
        sink.directory("d", mode=0o555, mtime_ns=5)
        sink.file("d/f", io.BytesIO(b"right"), mode=0o444, mtime_ns=6)
        sink.symlink("l", "d")

    restored = source(shelf, fill)
    restored.fetch_all(tmp_path)
    before = everything(tmp_path)
    (tmp_path / "d" / "f").chmod(0o600)
    (tmp_path / "d" / "f").write_bytes(b"half of it was overwr")
    restored.fetch_all(tmp_path)
    assert everything(tmp_path) == before


def test_set_user_id_is_not_brought_back(shelf: Shelf) -> None:
    restored = source(shelf, lambda sink: sink.file("su", io.BytesIO(b"x"), mode=0o104755))
    assert [entry.mode for entry in restored.entries()] == [0o755]


def test_entries_list_folders_before_what_they_hold(shelf: Shelf) -> None:
    def fill(sink: SnapshotSink) -> None:
        sink.file("a/b/c", io.BytesIO(b"12"), token="t", mtime_ns=9)
        sink.symlink("z", "a")

    assert list(source(shelf, fill).entries()) == [
        Entry("a", EntryType.DIRECTORY, mode=0o755),
        Entry("a/b", EntryType.DIRECTORY, mode=0o755),
        Entry("a/b/c", EntryType.FILE, 2, 0o644, 9, "", "t"),
        Entry("z", EntryType.SYMLINK, mode=0, target="a"),
    ]


def test_a_part_sees_what_lies_below_its_prefix_and_only_that(shelf: Shelf, tmp_path: Path) -> None:
    def fill(sink: SnapshotSink) -> None:
        sink.file("outside", io.BytesIO(b"o"))
        part = sink.under("parts").under("database")
        part.file("main.db", io.BytesIO(b"rows"))
        part.directory("", mode=0o700)
        part.symlink("link", "main.db")
        assert not part.carry("main.db", "t")

    part = source(shelf, fill).under("parts").under("database")
    part.fetch_all(tmp_path / "part")
    assert sorted(everything(tmp_path / "part")) == [b"link", b"main.db"]
    assert part.open("main.db").read() == b"rows"
    assert part.facts == FACTS
    for path in ("outside", "../../outside", "main.db/x", "", "link"):
        with pytest.raises(Missing):
            part.open(path)
    with pytest.raises(UsageError):
        part.under("../..")
    assert list(source(shelf, fill).under("nothing/here").entries()) == []


def test_a_file_is_fetched_with_mode_and_time_in_one_step(shelf: Shelf, tmp_path: Path) -> None:
    restored = source(shelf, lambda sink: sink.file("f", io.BytesIO(b"new"), mode=0o640, mtime_ns=7))
    (tmp_path / "f").write_bytes(b"old")
    restored.fetch("f", tmp_path / "f")
    assert everything(tmp_path) == {b"f": ((0o640, 7), b"new")}


def test_a_large_file_is_read_one_chunk_at_a_time(shelf: Shelf) -> None:
    content = os.urandom(20_000)
    restored = source(shelf, lambda sink: sink.file("f", io.BytesIO(content)))
    stream = restored.open("f")
    shelf.reads.clear()
    assert stream.read(10) == content[:10]
    assert len(shelf.reads) <= 1 + io.DEFAULT_BUFFER_SIZE // 64
    assert content[10:] == stream.read()


# ------------------------------------------------------------------------------------------ the sink


def test_a_path_is_read_from_disk_and_a_growing_file_is_cut(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"line 1\nline 2\nhalf a li")
    restored = SnapshotSink(shelf)
    assert restored.file("log", tmp_path / "log", length=14) == 14
    tree = restored.finish()
    assert (tree.files, tree.bytes) == (1, 14)
    assert SnapshotSource(shelf.read, tree.tree, FACTS).open("log").read() == b"line 1\nline 2\n"


def test_a_stream_that_is_given_stays_open(shelf: Shelf) -> None:
    stream = io.BytesIO(b"content")
    SnapshotSink(shelf).file("f", stream)
    assert not stream.closed


def test_a_file_that_vanished_may_be_tried_again_now(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(ConnectorError, match="disappeared") as caught:
        SnapshotSink(shelf).file("gone", tmp_path / "gone")
    assert (caught.value.file, caught.value.retry) == ("gone", Retry.NOW)


def test_what_is_not_a_regular_file_is_not_read(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not yours")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo", "."):
        with pytest.raises(ConnectorError):
            SnapshotSink(shelf).file("f", tmp_path / name)
    assert shelf.chunks == {}


def test_a_disk_that_fails_while_it_is_read_is_an_error_of_the_component(shelf: Shelf) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(ConnectorError, match="Input/output error") as caught:
        SnapshotSink(shelf).file("f", Broken())
    assert caught.value.retry is Retry.LATER


DEEP = "/".join("d" * (TREE_DEPTH_MAX + 1))


@pytest.mark.parametrize("path", ["", "..", "a/../b", "/etc/passwd", "a//b", "a/", ".", "a\0b", DEEP])
def test_a_path_that_leads_elsewhere_is_refused_by_every_verb(shelf: Shelf, path: str) -> None:
    sink = SnapshotSink(shelf)
    for verb in (
        lambda: sink.file(path, io.BytesIO(b"")),
        lambda: sink.carry(path, "t"),
        lambda: sink.symlink(path, "t"),
        lambda: sink.under(path).file("f", io.BytesIO(b"")),
        lambda: sink.directory(path or "/"),
    ):
        with pytest.raises(ConnectorError):
            verb()


def test_a_path_cannot_be_a_folder_and_a_file(shelf: Shelf) -> None:
    sink = SnapshotSink(shelf)
    sink.file("a", io.BytesIO(b""))
    with pytest.raises(ConnectorError, match="both a folder and a file"):
        sink.file("a/b", io.BytesIO(b""))
    sink.directory("d")
    with pytest.raises(ConnectorError, match="both a symlink and a folder"):
        sink.symlink("d", "t")


def test_what_is_given_last_under_a_path_is_what_is_stored(shelf: Shelf) -> None:
    def fill(sink: SnapshotSink) -> None:
        sink.file("f", io.BytesIO(b"first"))
        sink.file("f", io.BytesIO(b"second"))

    assert source(shelf, fill).open("f").read() == b"second"


@pytest.mark.parametrize("target", ["", "a\0b", "x" * 5000])
def test_a_link_that_no_system_makes_is_refused(shelf: Shelf, target: str) -> None:
    with pytest.raises(ConnectorError, match="target"):
        SnapshotSink(shelf).symlink("l", target)


# ------------------------------------------------------------------------------------------ carrying over


def first(sink: SnapshotSink) -> None:
    sink.file("d/same", io.BytesIO(b"same" * 500), mode=0o600, mtime_ns=3, token="t1")
    sink.file("untold", io.BytesIO(b"untold"))


def test_a_file_with_the_same_token_is_carried_with_all_that_was_known_of_it(shelf: Shelf) -> None:
    before = stored(shelf, first)
    sink = SnapshotSink(shelf, before.tree)
    assert sink.carry("d/same", "t1")
    after = sink.finish()
    assert (after.files, after.bytes) == (1, 2000)
    assert after.new_bytes < 500  # the folder that no longer holds the other file
    entry = list(SnapshotSource(shelf.read, after.tree, FACTS).entries())[1]
    assert entry == Entry("d/same", EntryType.FILE, 2000, 0o600, 3, "", "t1")


def test_what_changed_is_new_or_has_no_token_is_read(shelf: Shelf) -> None:
    sink = SnapshotSink(shelf, stored(shelf, first).tree)
    assert not sink.carry("d/same", "t2")
    assert not sink.carry("d", "t1")
    assert not sink.carry("d/new", "t1")
    assert not sink.carry("d/same/below", "t1")
    assert not sink.carry("untold", "")
    assert not SnapshotSink(shelf).carry("d/same", "t1")


def test_what_the_vault_lost_is_read_again(shelf: Shelf) -> None:
    before = stored(shelf, first)
    pieces = {name for name, raw in shelf.chunks.items() if raw in b"same" * 500}
    shelf.lost = pieces
    assert not SnapshotSink(shelf, before.tree).carry("d/same", "t1")
    shelf.lost = {bytes.fromhex(before.tree)}
    assert not SnapshotSink(shelf, before.tree).carry("d/same", "t1")


# ------------------------------------------------------------------------------------------ hostile trees


def hostile(shelf: Shelf, *nodes: Node) -> SnapshotSource:
    page = encode_page(Page(tuple(sorted(nodes, key=lambda node: node.name))))
    return SnapshotSource(shelf.read, shelf.put_tree(page).name.hex(), FACTS)


def test_a_link_that_lies_in_the_target_already_leads_nobody_outside(shelf: Shelf, tmp_path: Path) -> None:
    # fault 60
    outside, into = tmp_path / "outside", tmp_path / "into"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    into.mkdir()
    (into / "d").symlink_to(outside)
    (into / "f").symlink_to(outside / "kept")
    before = everything(outside)
    with pytest.raises(ConnectorError) as caught:
        source(shelf, lambda sink: sink.file("d/kept", io.BytesIO(b"overwritten"))).fetch_all(into)
    assert str(into) in caught.value.message
    source(shelf, lambda sink: sink.file("f", io.BytesIO(b"in its place"))).fetch_all(into)
    assert not (into / "f").is_symlink()
    assert (into / "f").read_bytes() == b"in its place"
    assert everything(outside) == before


def test_links_out_of_the_snapshot_are_made_and_never_followed(shelf: Shelf, tmp_path: Path) -> None:
    outside, into = tmp_path / "outside", tmp_path / "into"
    outside.mkdir()

    def fill(sink: SnapshotSink) -> None:
        sink.symlink("a", str(outside))
        sink.symlink("b", "../outside/x")
        sink.file("c/f", io.BytesIO(b"f"))

    for _ in range(2):  # the second time the links are there already
        source(shelf, fill).fetch_all(into)
    assert (into / "a").readlink() == outside
    assert everything(outside) == {}


def test_a_tree_that_climbs_out_is_damage_and_writes_nothing(shelf: Shelf, tmp_path: Path) -> None:
    evil = hostile(shelf, Node(b"../escaped", EntryType.FILE))
    with pytest.raises(Damaged):
        evil.fetch_all(tmp_path / "into")
    assert list(tmp_path.iterdir()) == [tmp_path / "into"]


@pytest.mark.parametrize("size", [2, 4, 100])
def test_a_file_whose_chunks_are_not_its_size_is_damage_and_leaves_nothing(
    shelf: Shelf, tmp_path: Path, size: int
) -> None:
    chunk = shelf.put_tree(b"abc").name
    lying = hostile(shelf, Node(b"f", EntryType.FILE, 0o644, 0, size, (chunk,)))
    with pytest.raises(Damaged):
        lying.open("f").read()
    with pytest.raises(Damaged):
        lying.fetch("f", tmp_path / "f")
    with pytest.raises(Damaged):
        lying.fetch_all(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_lost_chunk_leaves_no_half_file_and_the_old_one_as_it_was(shelf: Shelf, tmp_path: Path) -> None:
    restored = source(shelf, lambda sink: sink.file("f", io.BytesIO(os.urandom(5000))))
    (tmp_path / "f").write_bytes(b"old")
    shelf.lost = set(list(shelf.chunks)[3:4])
    with pytest.raises(Missing):
        restored.fetch("f", tmp_path / "f")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"f": b"old"}


def test_a_target_that_cannot_be_written_says_where_and_what_to_do(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "into").write_text("a file, not a folder")
    restored = source(shelf, lambda sink: sink.file("f", io.BytesIO(b"x")))
    with pytest.raises(ConnectorError) as caught:
        restored.fetch_all(tmp_path / "into")
    assert caught.value.file == str(tmp_path / "into")
    assert caught.value.next
    (tmp_path / "d" / "f").mkdir(parents=True)
    with pytest.raises(ConnectorError, match="directory"):
        restored.fetch_all(tmp_path / "d")
    assert list((tmp_path / "d").iterdir()) == [tmp_path / "d" / "f"]


# ------------------------------------------------------------------------------------------ sparse files


LARGER_CHUNKS = Chunking(min=16_384, avg=65_536, max=262_144)  # than a block of the file system


@pytest.fixture(params=["through the page cache", "past it"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are written as small ones are, and as large ones are."""
    if request.param == "past it":
        monkeypatch.setattr(extract, "LARGE_BYTES", 1)
        monkeypatch.setattr(extract, "WINDOW_BYTES", 16 * 1024)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("at", [0, 1, 4096, 70_001])
def test_holes_come_back_as_holes_and_every_byte_as_it_was(shelf: Shelf, tmp_path: Path, at: int) -> None:
    content = bytes(at) + b"data" + bytes(1_000_000) + b"more" + bytes(500_000)
    shelf.chunking = LARGER_CHUNKS
    restored = source(shelf, lambda sink: sink.file("f", io.BytesIO(content)))
    restored.fetch_all(tmp_path)
    restored.fetch("f", tmp_path / "g")
    for name in ("f", "g"):
        assert (tmp_path / name).read_bytes() == content
        assert (tmp_path / name).stat().st_blocks * 512 <= 4 * 4096


@pytest.mark.usefixtures("either_way")
def test_a_file_of_zeros_alone_has_its_size_and_takes_no_room(shelf: Shelf, tmp_path: Path) -> None:
    shelf.chunking = LARGER_CHUNKS
    restored = source(shelf, lambda sink: sink.file("f", io.BytesIO(bytes(123_457))))
    restored.fetch_all(tmp_path)
    assert (tmp_path / "f").read_bytes() == bytes(123_457)
    assert (tmp_path / "f").stat().st_blocks == 0


def test_a_chunk_that_comes_many_times_in_a_row_is_read_once(shelf: Shelf) -> None:
    restored = source(shelf, lambda sink: sink.file("f", io.BytesIO(bytes(100 * 1024))))
    shelf.reads.clear()
    assert restored.open("f").read() == bytes(100 * 1024)
    assert len([name for name in shelf.reads if not any(shelf.chunks[name])]) < 5


@pytest.mark.usefixtures("either_way")
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.tuples(st.booleans(), st.integers(1, 12_000)), max_size=12))
def test_any_mixture_of_data_and_zeros_comes_back(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[bool, int]]
) -> None:
    shelf, into = Shelf(), tmp_path_factory.mktemp("into")
    content = b"".join((b"\x01" if full else b"\0") * length for full, length in parts)
    source(shelf, lambda sink: sink.file("f", io.BytesIO(content))).fetch_all(into)
    assert (into / "f").read_bytes() == content


# ------------------------------------------------------------------------------------------ disks that fail


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    ("code", "retry"), [(errno.EIO, Retry.LATER), (errno.ENOSPC, Retry.LATER), (errno.EROFS, Retry.NEVER)]
)
@pytest.mark.parametrize("call", ["fsync", "pwrite", "rename", "ftruncate"])
def test_what_the_disk_did_not_take_is_an_error_and_not_a_file(  # faults 13, 14
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, retry: Retry
) -> None:
    (tmp_path / "f").write_bytes(b"old")
    restored = source(shelf, lambda sink: sink.file("f", io.BytesIO(b"new")))

    def fail(*arguments: object, **named: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(ConnectorError, match=os.strerror(code)) as caught:
            restored.fetch_all(tmp_path)
    assert caught.value.retry is retry
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"f": b"old"}
    restored.fetch_all(tmp_path)
    assert (tmp_path / "f").read_bytes() == b"new"


@pytest.mark.usefixtures("either_way")
def test_short_writes_are_continued(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(5000)
    restored = source(shelf, lambda sink: sink.file("f", io.BytesIO(content)))
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, left, at: real(handle, left[:7], at))
    restored.fetch_all(tmp_path)
    assert (tmp_path / "f").read_bytes() == content


def test_a_target_that_an_attacker_prepared_leads_nobody_outside(
    shelf: Shelf, tmp_path: Path
) -> None:  # fault 60
    outside, into = tmp_path / "outside", tmp_path / "into"
    (outside / "deep").mkdir(parents=True)
    (outside / "kept").write_text("kept")
    (outside / "deep" / "kept").write_text("kept")
    into.mkdir()
    (into / "f").hardlink_to(outside / "kept")
    (into / "g").symlink_to(outside / "kept")
    (into / "l").symlink_to(outside / "deep")
    os.mkfifo(into / "p")
    before = everything(outside)

    def fill(sink: SnapshotSink) -> None:
        for name in ("f", "F", "g", "p"):
            sink.file(name, io.BytesIO(b"ours"))
        sink.symlink("l", "nowhere")

    source(shelf, fill).fetch_all(into)
    assert everything(outside) == before
    assert {name: (into / name).read_bytes() for name in ("f", "F", "g", "p")} == dict.fromkeys(
        "fFgp", b"ours"
    )
    assert os.readlink(into / "l") == "nowhere"  # noqa: PTH115


@pytest.mark.parametrize("name", [b"..", b".", b"/proc/x", b"../x", b"a/b", b"a\0b", b""])
@pytest.mark.parametrize("kind", [EntryType.FILE, EntryType.SYMLINK, EntryType.DIRECTORY])
def test_a_tree_with_a_name_that_is_none_is_damage_whatever_it_names(  # fault 60
    shelf: Shelf, tmp_path: Path, name: bytes, kind: EntryType
) -> None:
    tree = shelf.put_tree(encode_page(Page(()))).name if kind is EntryType.DIRECTORY else b""
    target = b"x" if kind is EntryType.SYMLINK else b""
    with pytest.raises(Damaged):
        hostile(shelf, Node(name, kind, tree=tree, target=target)).fetch_all(tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []


def test_a_link_and_a_folder_of_one_name_cannot_both_be_in_a_tree(
    shelf: Shelf, tmp_path: Path
) -> None:  # fault 60
    inner = shelf.put_tree(encode_page(Page((Node(b"f", EntryType.FILE),)))).name
    link = Node(b"d", EntryType.SYMLINK, target=str(tmp_path).encode())
    page = encode_page(Page((link, Node(b"d", EntryType.DIRECTORY, tree=inner))))
    evil = SnapshotSource(shelf.read, shelf.put_tree(page).name.hex(), FACTS)
    with pytest.raises(Damaged):
        evil.fetch_all(tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []


@pytest.mark.parametrize("mtime_ns", [2**63, -(2**63), 2**70])
def test_a_time_that_no_reader_would_take_is_refused_by_name(mtime_ns: int) -> None:
    # fault 14
    shelf = Shelf()
    sink = SnapshotSink(shelf)
    with pytest.raises(ConnectorError, match=r"far/away\.txt cannot be stored as it is: a time") as caught:
        sink.file("far/away.txt", io.BytesIO(b"x"), mtime_ns=mtime_ns)
    assert caught.value.file == "far/away.txt" and "touch" in (caught.value.next or "")
    with pytest.raises(ConnectorError, match="far cannot be stored"):
        sink.directory("far", mtime_ns=mtime_ns)


def test_a_tree_that_waits_for_its_store_holds_up_no_other() -> None:  # fault 8
    shelf, asked, answers = Shelf(), threading.Event(), threading.Event()
    tree = stored(shelf, lambda sink: sink.file("page", io.BytesIO(b"text"), mtime_ns=1, mode=0o644)).tree

    def hangs(name: bytes) -> bytes:
        asked.set()
        answers.wait()
        return shelf.read(name)

    slow = threading.Thread(target=lambda: list(SnapshotSource(hangs, tree, FACTS).entries()))
    slow.start()
    try:
        asked.wait()
        assert [entry.path for entry in SnapshotSource(shelf.read, tree, FACTS).entries()] == ["page"]
    finally:
        answers.set()
        slow.join()
