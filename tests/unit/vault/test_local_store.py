"""The store in a directory: what is durable when, and what is left when a call fails."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from refloat.contracts import Put, Store
from refloat.durable import pages
from refloat.errors import Missing, Retry, StoreError
from refloat.testing.store_contract import SharedStoreContract
from refloat.vault.stores.local import DIRECT_BYTES_MIN, LocalStore


class TestLocalStore(SharedStoreContract):
    def make(self, tmp_path: Path) -> Store:
        return LocalStore(tmp_path / "made" / "by" / "create")


class Disk:
    """The calls that ``LocalStore`` makes to the disk, in order, with one of them failing where asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.failing: dict[str, int] = {}
        self._paths: dict[int, str] = {}
        self._patch(monkeypatch)

    def _patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real_open, real_write, real_fsync, real_link = os.open, os.write, os.fsync, os.link

        def opened(path: object, *arguments: int, **named: int) -> int:
            descriptor = real_open(path, *arguments, **named)  # type: ignore[call-overload]
            self._paths[descriptor] = Path(str(path)).name
            return int(descriptor)

        def write(descriptor: int, content: bytes) -> int:
            self._note("write", "temporary")
            return real_write(descriptor, content)

        def fsync(descriptor: int) -> None:
            name = self._paths[descriptor]
            self._note("fsync", "temporary" if name.endswith("~") else name)
            real_fsync(descriptor)

        def link(source: Path, target: Path) -> None:
            self._note("link", target.name)
            real_link(source, target)

        for name, patched in (("open", opened), ("write", write), ("fsync", fsync), ("link", link)):
            monkeypatch.setattr(os, name, patched)

    def _note(self, call: str, name: str) -> None:
        self.calls.append(f"{call} {name}")
        if code := self.failing.get(f"{call} {name}"):
            raise OSError(code, os.strerror(code))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    (tmp_path / "root").mkdir()
    return LocalStore(tmp_path / "root")


def test_the_bytes_are_synced_before_the_name_exists_and_the_folders_before_create_returns(
    store: LocalStore, disk: Disk
) -> None:
    store.create("packs/ab/one", b"1")
    order = disk.calls
    assert order.index("write temporary") < order.index("fsync temporary") < order.index("link one")
    after_link = order[order.index("link one") :]
    assert {"fsync ab", "fsync packs", "fsync root"} <= set(after_link)


def test_new_folders_above_the_root_are_synced_into_their_parents(tmp_path: Path, disk: Disk) -> None:
    LocalStore(tmp_path / "region" / "vault").create("a", b"1")
    assert f"fsync {tmp_path.name}" in disk.calls
    assert "fsync region" in disk.calls


def test_a_folder_that_was_synced_once_still_gets_its_new_name_synced(store: LocalStore, disk: Disk) -> None:
    store.create("packs/ab/one", b"1")
    disk.calls.clear()
    store.create("packs/ab/two", b"2")
    assert disk.calls == ["write temporary", "fsync temporary", "link two", "fsync ab"]


def test_an_object_that_another_process_just_made_is_synced_before_it_counts_as_there(
    store: LocalStore, disk: Disk
) -> None:
    LocalStore(store.root).create("packs/ab/one", b"1")
    disk.calls.clear()
    assert store.create("packs/ab/one", b"1") is Put.EXISTS
    assert "fsync ab" in disk.calls


@pytest.mark.parametrize("call", ["write temporary", "fsync temporary", "link one"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_a_create_that_fails_leaves_nothing_and_says_what_to_do(
    store: LocalStore, disk: Disk, call: str, code: int
) -> None:  # faults 13, 14
    disk.failing[call] = code
    with pytest.raises(StoreError) as caught:
        store.create("packs/ab/one", b"1")
    assert caught.value.next and os.strerror(code) in caught.value.message
    assert caught.value.retry is (Retry.LATER if code in (errno.ENOSPC, errno.EDQUOT) else Retry.NEVER)
    assert [path for path in store.root.rglob("*") if path.is_file()] == []
    assert disk.calls.count("fsync temporary") <= 1


def test_a_folder_that_cannot_be_synced_is_an_error_and_is_tried_again_the_next_time(
    store: LocalStore, disk: Disk
) -> None:
    disk.failing["fsync packs"] = errno.EIO
    with pytest.raises(StoreError) as caught:
        store.create("packs/ab/one", b"1")
    assert caught.value.retry is Retry.NEVER
    disk.failing.clear()
    disk.calls.clear()
    store.create("packs/ab/two", b"2")
    assert "fsync packs" in disk.calls


def test_a_disk_that_accepts_bytes_and_keeps_none_is_found_out(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "write", lambda descriptor, content: len(content))
    with pytest.raises(StoreError, match="not as long"):
        store.create("a", b"lost")
    assert store.size("a") is None


def test_short_writes_are_continued(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: real(descriptor, content[:3]))
    store.create("a", b"0123456789")
    assert store.get("a") == b"0123456789"


@pytest.mark.parametrize("length", [DIRECT_BYTES_MIN, DIRECT_BYTES_MIN + 1, 3 * DIRECT_BYTES_MIN - 1])
@pytest.mark.parametrize("offset", [0, 1])
def test_what_is_written_past_the_page_cache_is_what_was_given(
    store: LocalStore, length: int, offset: int
) -> None:
    """Also where the memory does not begin with a block, or its end is none."""
    content = pages(length + offset)
    content[:] = os.urandom(len(content))
    store.create("packs/aa", content[offset:])
    assert store.get("packs/aa") == bytes(content[offset:])


def test_a_file_system_that_writes_through_its_cache_alone_is_written_through_it(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, command: int, *more: int) -> int:
        if command == fcntl.F_SETFL and more[0] & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no such thing here")
        return set_flags(descriptor, command, *more)

    set_flags = fcntl.fcntl
    monkeypatch.setattr("refloat.durable.fcntl.fcntl", refuse)
    content = pages(DIRECT_BYTES_MIN)
    content[:] = os.urandom(len(content))
    store.create("packs/aa", content)
    assert store.get("packs/aa") == bytes(content)


def test_a_leftover_temporary_file_is_not_listed(store: LocalStore) -> None:
    store.create("packs/ab/one", b"1")
    (store.root / "packs" / "ab" / ("0" * 24 + "~")).write_bytes(b"half")
    assert [found.name for found in store.list("packs/")] == ["packs/ab/one"]


def test_links_in_the_directory_are_neither_listed_nor_followed(store: LocalStore, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not an object")
    (store.root / "points").symlink_to(tmp_path)
    (store.root / "link").symlink_to(secret)
    assert list(store.list("")) == []
    with pytest.raises(StoreError):
        store.get("link")


def test_a_directory_that_was_deleted_is_made_again(store: LocalStore) -> None:
    store.create("packs/ab/one", b"1")
    (store.root / "packs" / "ab" / "one").unlink()
    (store.root / "packs" / "ab").rmdir()
    (store.root / "packs").rmdir()
    store.root.rmdir()
    assert store.create("packs/ab/one", b"2") is Put.CREATED


def test_a_directory_that_somebody_else_is_making_again_is_synced_as_well(
    store: LocalStore, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create("packs/ab/one", b"1")
    shutil.rmtree(store.root / "packs")
    patched = os.open

    def late(path: object, *arguments: int) -> int:
        monkeypatch.setattr(os, "open", patched)
        (store.root / "packs" / "ab").mkdir(parents=True)
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "open", late)
    disk.calls.clear()
    store.create("packs/ab/one", b"1")
    assert {"fsync ab", "fsync packs", "fsync root"} <= set(disk.calls)


def test_a_file_where_the_directory_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    store = LocalStore(tmp_path / "file")
    with pytest.raises(StoreError):
        store.create("a", b"1")
    with pytest.raises(Missing):
        store.get("a")


def test_a_real_full_disk_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    small = _tmpfs(tmp_path / "small")
    if small is None:
        # The same errors are injected above; only the kernel's own ENOSPC needs a mount, which not every user may make.
        pytest.skip("REAL FULL DISK NOT TRIED: this user may not mount a tmpfs")
    try:
        store = LocalStore(small)
        store.create("a", b"1")
        with pytest.raises(StoreError) as caught:
            store.create("b", bytes(4 * 1024 * 1024))
        assert caught.value.retry is Retry.LATER and "free space" in (caught.value.next or "")
        assert [found.name for found in store.list("")] == ["a"]
        assert sorted(path.name for path in small.iterdir()) == ["a"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def _tmpfs(place: Path) -> Path | None:
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    return place if subprocess.run(mount, capture_output=True, check=False).returncode == 0 else None


def test_no_descriptor_is_left_open(store: LocalStore, disk: Disk) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    actions: list[Callable[[], object]] = [
        lambda: store.create("a", b"1"),
        lambda: store.get("a"),
        lambda: store.delete("a"),
    ]
    for action in actions:
        action()
    disk.failing["fsync temporary"] = errno.EIO
    with pytest.raises(StoreError):
        store.create("b", b"1")
    assert descriptors() == before
