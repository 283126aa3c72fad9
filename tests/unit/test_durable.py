"""The writes that everything durable rests on: whole or not at all, and synced in the right order."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from refloat.connectors.beside import is_own_name
from refloat.durable import (
    create_file,
    hand_out,
    opened_file,
    opened_folder,
    partial_of,
    remove_file,
    remove_tree,
    replace_file,
    scratch_folder,
    sync_folder,
)
from refloat.limits import LEFTOVER_GRACE_S
from refloat.testing.disk import CutDisk, watched
from refloat.vault.stores.faulty import Crash


class Killed(BaseException):
    """The process died here."""


def _watch(monkeypatch: pytest.MonkeyPatch, *, die_at: str = "") -> list[str]:
    """Record what is done to the disk, in order; die before the step ``die_at``."""
    steps: list[str] = []

    def step(name: str) -> None:
        if name == die_at:
            raise Killed
        steps.append(name)

    def fsync(descriptor: int) -> None:
        kind = "folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file"  # noqa: PTH112
        step(f"sync {kind}")
        real_fsync(descriptor)

    def replace(source: Path, target: Path) -> Path:
        step("rename")
        return real_replace(source, target)

    def unlink(path: Path, missing_ok: bool = False) -> None:
        step("remove")
        real_unlink(path, missing_ok=missing_ok)

    real_fsync, real_replace, real_unlink = os.fsync, Path.replace, Path.unlink
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(Path, "unlink", unlink)
    return steps


def test_a_file_is_synced_before_it_is_renamed_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = _watch(monkeypatch)
    replace_file(tmp_path / "state.json", b"new")
    assert steps == ["remove", "sync file", "rename", "sync folder"]
    assert (tmp_path / "state.json").read_bytes() == b"new"
    assert not partial_of(tmp_path / "state.json").exists()


def cut_everywhere(root: Path, write: Callable[[], None]) -> Iterator[None]:
    """What is there after the process was killed at each system call of a write, and in the middle of each."""
    whole = CutDisk()
    with watched(root, whole):
        write()
    for at, torn in itertools.product(range(1, len(whole.calls) + 1), (None, 0.5)):
        for path in root.iterdir():
            path.unlink()
        with suppress(Crash), watched(root, CutDisk(at, torn=torn)):
            write()
        yield


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_file_that_is_made_is_whole_or_not_there_wherever_it_was_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    path = tmp_path / "refloat.yaml"
    if not links:
        monkeypatch.setattr(os, "link", _no_links)
    for _ in cut_everywhere(tmp_path, lambda: create_file(path, b"a whole manifest")):
        if path.exists():
            assert path.read_bytes() == b"a whole manifest"
            with pytest.raises(FileExistsError):
                create_file(path, b"another")
        else:
            create_file(path, b"another")
            assert path.read_bytes() == b"another"


def _no_links(*paths: object) -> None:
    """A memory stick."""
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_file_that_is_made_never_takes_a_name_that_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", _no_links)
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dangling").symlink_to("elsewhere")
    for name in ("file", "dangling"):
        with pytest.raises(FileExistsError):
            create_file(tmp_path / name, b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file"]


def test_who_may_read_a_file_that_is_made_is_said_or_left_to_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        create_file(tmp_path / "page", b"")
        create_file(tmp_path / "key", b"", 0o604)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("page", "key")] == [0o640, 0o604]


def test_what_is_handed_out_is_the_old_file_or_the_new_one_wherever_it_was_cut(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    page, kept = tmp_path / "run.html", tmp_path / "store" / "kept"
    page.symlink_to(kept)

    def write() -> None:
        kept.write_bytes(b"old")
        hand_out(page, b"a new page")

    seen = {kept.read_bytes() for _ in cut_everywhere(kept.parent, write)}
    assert seen == {b"old", b"a new page"}
    hand_out(page, b"a newer page")
    assert page.is_symlink() and kept.read_bytes() == b"a newer page"


def test_a_pipe_gets_what_is_handed_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    hand_out(tmp_path / "pipe", b"a page")
    assert os.read(reader, 100) == b"a page"
    os.close(reader)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_removed_name_is_synced_away_and_an_absent_one_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "FENCE"
    file.write_bytes(b"up")
    steps = _watch(monkeypatch)
    remove_file(file)
    remove_file(file)
    assert steps == ["remove", "sync folder"] * 2
    assert not file.exists()


@pytest.mark.parametrize("step", ["sync file", "rename"])
def test_a_write_that_dies_leaves_the_old_file_and_the_next_one_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    file = tmp_path / "state.json"
    file.write_bytes(b"old")
    with monkeypatch.context() as patched:
        _watch(patched, die_at=step)
        with pytest.raises(Killed):
            replace_file(file, b"a new one that is longer than the next")
    assert file.read_bytes() == b"old"
    replace_file(file, b"next")
    assert file.read_bytes() == b"next"
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("name", ["FENCE", ".index.refloat.json", ".index.refloat-t.done"])
def test_what_a_crash_leaves_is_never_captured_as_a_users_file(name: str) -> None:
    assert is_own_name(partial_of(Path(name)).name)


def test_a_descriptor_of_a_folder_is_closed_also_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(Killed), opened_folder(tmp_path) as descriptor:
        raise Killed
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_syncing_a_folder_that_is_a_file_or_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        sync_folder(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "absent")


def test_a_link_where_a_file_is_written_first_leads_nobody_outside(tmp_path: Path) -> None:  # fault 60
    outside, file = tmp_path / "outside", tmp_path / "region" / "state.json"
    outside.write_bytes(b"theirs")
    file.parent.mkdir()
    partial_of(file).symlink_to(outside)
    replace_file(file, b"new")
    assert (outside.read_bytes(), file.read_bytes()) == (b"theirs", b"new")
    assert [path.name for path in file.parent.iterdir()] == ["state.json"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(  # faults 13, 14
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    file = tmp_path / "state.json"
    file.write_bytes(b"old")

    def fsync(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match=os.strerror(code)):
        replace_file(file, b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"state.json": b"old"}


def test_a_file_is_opened_only_where_it_is_one(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"f")
    (tmp_path / "link").symlink_to("f")
    os.mkfifo(tmp_path / "pipe")
    with opened_file(tmp_path / "link") as descriptor:
        assert os.read(descriptor, 9) == b"f"
    for name in ("pipe", ".", "link"):
        with pytest.raises(OSError), opened_file(tmp_path / name, follow=False):
            pytest.fail("it was opened")
    assert len(list(Path("/proc/self/fd").iterdir())) < 200


def deep(folder: Path, levels: int) -> None:
    """Folders within folders, whose path is longer than any system call takes."""
    folder.mkdir()
    above = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d" * 250, dir_fd=above)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = below
    os.fchmod(above, 0o500)
    os.close(above)


def test_a_tree_is_removed_however_deep_it_is_and_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir(mode=0o500)
    deep(tmp_path / "tree", 40)
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "tree").chmod(0o500)
    remove_tree(tmp_path / "tree")
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert (tmp_path / "outside").stat().st_mode & 0o777 == 0o500


# --------------------------------------------------------------------------------- what killed commands have left


def aged(path: Path, seconds: float, now: float) -> Path:
    """Let something be that many seconds older than the moment ``now``."""
    os.utime(path, (now - seconds, now - seconds), follow_symlinks=False)
    return path


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left_by_a_kill(folder: Path, seconds: float) -> Path:
    """A scratch folder that a command has left, so many seconds ago, with something in it."""
    with scratch_folder() as ours:
        left = folder / f"refloat-{seconds:016.0f}"
        (left / "deep").mkdir(parents=True)
        (left / "deep" / "wheel.tmp").write_bytes(b"half")
        return aged(left, seconds, ours.stat().st_mtime)


def test_a_scratch_folder_that_was_left_goes_with_the_next_and_no_other_folder(temporary: Path) -> None:
    old, young = (left_by_a_kill(temporary, LEFTOVER_GRACE_S + more) for more in (60, -60))
    now = young.stat().st_mtime + LEFTOVER_GRACE_S
    others = [temporary / name for name in ("refloat-demo-x", "refloat-123", f"refloat-{'0' * 16}x", "mine")]
    for other in others:
        other.mkdir()
        aged(other, 10 * LEFTOVER_GRACE_S, now)
    file = temporary / f"refloat-{'f' * 16}"
    file.write_bytes(b"no folder")
    link = temporary / f"refloat-{'e' * 16}"
    link.symlink_to(others[0])
    for one in (file, link):
        aged(one, 10 * LEFTOVER_GRACE_S, now)
    with scratch_folder():
        assert not old.exists() and young.exists()
        assert all(one.exists() for one in (*others, file, link))


def test_a_scratch_folder_of_a_command_that_is_at_work_stays_however_old(temporary: Path) -> None:
    with scratch_folder() as working:
        (working / "part").write_bytes(b"of something")
        aged(working, 10 * LEFTOVER_GRACE_S, working.stat().st_mtime)
        with scratch_folder():
            assert (working / "part").read_bytes() == b"of something"
    assert list(temporary.iterdir()) == []


def test_what_a_write_that_was_killed_left_beside_a_file_goes_with_the_next_for_that_file(
    tmp_path: Path,
) -> None:
    key = tmp_path / "a[1].key"
    create_file(key, b"whole", 0o600)
    now = key.stat().st_mtime
    left = {
        tmp_path / f".a[1].key.{digits}.part": age
        for digits, age in (("00000000", LEFTOVER_GRACE_S + 60), ("11111111", LEFTOVER_GRACE_S - 60))
    }
    others = [".a1.key.00000000.part", ".a[1].key.x.part", ".b.key.00000000.part", "a[1].key.00000000.part"]
    left |= {tmp_path / name: 10 * LEFTOVER_GRACE_S for name in others}
    for path, age in left.items():
        path.write_bytes(b"wh")
        aged(path, age, now)
    create_file(tmp_path / "another.key", b"other")
    assert all(path.exists() for path in left)
    with pytest.raises(FileExistsError):
        create_file(key, b"other")
    assert [path.exists() for path in left] == [False, True, *(True for _ in others)]
