"""Room is counted for each file system, and what lies there already counts where it makes way."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from refloat.durable import BLOCK_BYTES
from refloat.room import Need, how_to_make, rooms, short, standing, taken_bytes

MEMORY = Path("/dev/shm")  # another file system than that of a test's folder, on any Linux


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How much is free, for every file system."""
    told = {"bytes": 0}
    monkeypatch.setattr(os, "statvfs", lambda folder: SimpleNamespace(f_bavail=told["bytes"], f_frsize=1))
    return told


def test_components_on_one_file_system_add_up_and_others_are_told_apart(tmp_path, free) -> None:
    free["bytes"] = 10_000
    (tmp_path / "one").mkdir()
    found = rooms(
        [
            Need("answers", tmp_path / "one", 4000, files=0),
            Need("pages", MEMORY, 9000, files=0),
            Need("flags", tmp_path / "two" / "not there yet", 7000, files=0),
        ]
    )
    assert [(room.components, room.needed_bytes, room.enough) for room in found] == [
        (("answers", "flags"), 11_000, False),
        (("pages",), 9000, True),
    ]
    told = short(found)
    assert (
        f"10.7 KiB needed for answers, flags in {tmp_path / 'one'}, 9.8 KiB free, 1000 B too little" in told
    )
    assert "pages" not in told
    assert how_to_make(found) == f"free 1000 B in {tmp_path / 'one'}"


def test_every_file_ends_within_a_block(tmp_path) -> None:
    (found,) = rooms([Need("flags", tmp_path, 100, files=1000)])
    assert found.needed_bytes == 100 + 1000 * BLOCK_BYTES


def test_a_place_that_is_not_there_yet_is_on_the_file_system_of_what_is(tmp_path) -> None:
    assert standing(tmp_path / "a" / "b") == tmp_path
    assert standing(tmp_path) == tmp_path


def test_what_is_taken_is_what_the_disk_gave_and_a_link_leads_nowhere(tmp_path) -> None:
    assert taken_bytes(tmp_path / "nothing") == 0
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(bytes(range(256)) * 64)
    (tmp_path / "folder" / "away").symlink_to("/usr")
    assert 0 <= taken_bytes(tmp_path) < 1_000_000
