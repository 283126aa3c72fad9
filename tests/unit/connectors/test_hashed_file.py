"""A file that is read once, hashed meanwhile, and whose holes are not read at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from refloat.connectors import hashed_file
from refloat.connectors.hashed_file import BUFFER_BYTES, HashedFile
from refloat.errors import ConnectorError, Retry
from refloat.limits import FACTS_BYTES_MAX

HOLE = 3 * BUFFER_BYTES + 4096


def sparse(path: Path, *, tail: bytes = b"") -> bytes:
    """Data, a hole, data, and a hole at the end unless there is a ``tail``."""
    with path.open("wb") as file:
        file.write(b"head" * 2048)
        file.seek(HOLE, os.SEEK_CUR)
        file.write(b"middle" * 2048)
        file.truncate(file.tell() + HOLE)
        file.seek(0, os.SEEK_END)
        file.write(tail)
    return path.read_bytes()


def read(path: Path, *, size: int | None = None) -> tuple[bytes, HashedFile]:
    with path.open("rb", buffering=0) as opened:
        file = HashedFile(opened.fileno(), path.stat().st_size if size is None else size)
        content = file.readall()
        file.require_whole(path.name)
    return content, file


@pytest.mark.parametrize("tail", [b"", b"tail"])
def test_a_sparse_file_is_read_as_it_is_without_reading_its_holes(
    tmp_path: Path, tail: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = sparse(tmp_path / "f", tail=tail)
    asked: list[int] = []
    real = os.preadv

    def preadv(handle: int, buffers: list[memoryview], at: int) -> int:
        count = real(handle, buffers, at)
        asked.append(count)
        return count

    monkeypatch.setattr(hashed_file.os, "preadv", preadv)
    found, file = read(tmp_path / "f")
    assert found == content
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert sum(asked) < HOLE


def test_a_file_system_that_knows_no_holes_is_read_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = sparse(tmp_path / "f")

    def lseek(handle: int, at: int, how: int) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(hashed_file.os, "lseek", lseek)
    assert read(tmp_path / "f")[0] == content


def test_a_file_that_grows_meanwhile_is_read_up_to_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old and new")
    assert read(tmp_path / "f", size=3)[0] == b"old"


def test_a_file_that_says_it_is_empty_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    assert b"MemTotal" in read(Path("/proc/meminfo"))[0]
    (tmp_path / "f").touch()
    assert read(tmp_path / "f")[0] == b""


def test_a_disk_that_gives_less_than_it_promised_is_found_out(  # fault 41
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_bytes(b"x" * 5000)
    real = os.preadv
    monkeypatch.setattr(
        hashed_file.os, "preadv", lambda handle, buffers, at: 0 if at else real(handle, buffers, 0)
    )
    with (tmp_path / "f").open("rb", buffering=0) as opened:
        file = HashedFile(opened.fileno(), 5000)
        assert len(file.read(4096)) == 4096
        assert file.read(4096) == b""
        with pytest.raises(ConnectorError, match="ended after 4096 of its 5000 bytes") as caught:
            file.require_whole("f")
    assert caught.value.retry is Retry.NOW


def test_a_file_that_somebody_cut_short_is_no_failure_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 10)
    assert read(tmp_path / "f", size=5000)[0] == b"x" * 10


def test_no_more_is_kept_than_facts_may_hold(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * (FACTS_BYTES_MAX * 20))
    with (tmp_path / "f").open("rb", buffering=0) as opened:
        file = HashedFile(opened.fileno(), FACTS_BYTES_MAX * 20, keep=True)
        file.exhaust()
    assert FACTS_BYTES_MAX < len(file.document or b"") < FACTS_BYTES_MAX * 20
