"""The disk that dies: what is synced survives, what is not may be lost, and a cut stops everything after it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from refloat.durable import replace_file, sync_folder
from refloat.testing.disk import HALF, CutDisk, Recorder, changes, crash_states, watched, writes
from refloat.vault.stores.faulty import Crash


def written(path: Path, content: bytes, *, sync: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, content)
    if sync:
        os.fsync(descriptor)
    os.close(descriptor)


def possible(
    root: Path, story: Callable[[], None], *, after: bool = True
) -> set[tuple[tuple[str, bytes], ...]]:
    """What may lie in the folder after a loss of power: at any moment, or after the story's end."""
    recorder = Recorder(root)
    with recorder.recording():
        story()
        recorder.tell("end")
    found = set()
    for state in crash_states(recorder):
        if state.told or not after:
            copy = root.with_name("copy")
            state.write(copy)
            files = sorted(path for path in copy.rglob("*") if path.is_file())
            found.add(tuple((str(path.relative_to(copy)), path.read_bytes()) for path in files))
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


def test_a_file_that_was_never_synced_may_be_whole_half_empty_or_gone(root: Path) -> None:
    found = possible(root, lambda: written(root / "a", b"1234", sync=False))
    assert found == {(), (("a", b""),), (("a", b"12"),), (("a", b"1234"),)}


def test_a_synced_file_in_a_folder_that_was_not_may_be_gone_but_is_never_half(root: Path) -> None:
    assert possible(root, lambda: written(root / "a", b"1234", sync=True)) == {(), (("a", b"1234"),)}


def test_what_was_synced_with_its_folder_is_there(root: Path) -> None:
    def story() -> None:
        written(root / "a", b"1234", sync=True)
        sync_folder(root)

    assert possible(root, story) == {(("a", b"1234"),)}


def test_a_new_folder_is_lost_with_all_that_is_in_it_unless_its_parent_was_synced(root: Path) -> None:
    def story() -> None:
        (root / "b").mkdir()
        written(root / "b" / "a", b"1234", sync=True)
        sync_folder(root / "b")

    assert possible(root, story) == {(), (("b/a", b"1234"),)}


def test_a_file_replaced_durably_is_the_old_one_or_the_new_one_at_any_moment(root: Path) -> None:  # fault 19
    written(root / "a", b"old.", sync=True)
    found = possible(root, lambda: replace_file(root / "a", b"new."), after=False)
    assert {dict(files)["a"] for files in found} == {b"old.", b"new."}
    assert possible(root, lambda: replace_file(root / "a", b"next")) == {(("a", b"next"),)}


def test_bytes_written_past_the_functions_of_os_are_found(root: Path) -> None:
    def story() -> None:
        with (root / "a").open("wb") as file:
            file.write(b"12")

    assert (("a", b"1"),) in possible(root, story)


def test_a_cut_disk_changes_nothing_more_and_may_leave_half_a_write(root: Path) -> None:
    disk = CutDisk(2, torn=HALF)
    with watched(root, disk):
        with pytest.raises(Crash):
            written(root / "a", b"1234", sync=True)
        with pytest.raises(Crash):
            (root / "a").unlink()
    assert (root / "a").read_bytes() == b"12"
    assert [str(call) for call in disk.calls] == ["open a", "write a"]


@pytest.mark.parametrize(("torn", "left"), [(0.0, b"1"), (HALF, b"12"), (1.0, b"123")])
def test_a_torn_write_is_never_nothing_and_never_whole(root: Path, torn: float, left: bytes) -> None:
    disk = CutDisk(1, torn=torn, counts=writes)
    with pytest.raises(Crash), watched(root, disk):
        written(root / "a", b"1234", sync=True)
    assert (root / "a").read_bytes() == left
    assert [str(call) for call in disk.calls] == ["write a"]


def test_only_what_counts_is_counted(root: Path) -> None:
    disk = CutDisk(counts=changes)
    with watched(root, disk):
        written(root / "a", b"1234", sync=True)
    assert [str(call) for call in disk.calls] == ["open a", "write a"]


def test_what_lies_elsewhere_is_left_alone(root: Path, tmp_path: Path) -> None:
    disk = CutDisk(1)
    with watched(root, disk):
        written(tmp_path / "elsewhere", b"1234", sync=True)
    assert not disk.dead
