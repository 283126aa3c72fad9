"""A descriptor and what was signed for it, as the second reader sees them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from refloat.digest import canonical_json
from refloat.testing.world import WorldClock
from refloat.vault import layout
from refloat.vault.keys import KeyFile
from refloat.vault.replica import create_vault
from refloat.vault.stores.local import LocalStore

sys.path.insert(0, str(Path(__file__).parent))

from objects import Key, Refused
from reader import Replica as SecondReader


@pytest.fixture
def root(tmp_path: Path) -> Path:
    key_file, clock = KeyFile.create("vault-1", "demo"), WorldClock(datetime(2026, 11, 1, tzinfo=UTC))
    create_vault({r: LocalStore(tmp_path / r) for r in ("eu", "us")}, key_file, clock, "demo")
    (tmp_path / "key").write_bytes(key_file.to_bytes())
    return tmp_path


def notes(root: Path) -> list[Path]:
    return [path for path in (root / "eu" / "keys").iterdir() if b'"type":"descriptor"' in path.read_bytes()]


def test_the_second_reader_refuses_a_descriptor_that_was_not_signed(root: Path) -> None:  # fault 2
    key, store = Key.load(root / "key"), LocalStore(root / "eu")
    assert SecondReader(root / "eu", key).set_aside == {} and len(notes(root)) == 2
    other = layout.read_descriptor(store).model_copy(update={"replica": "f" * 32}).summed()
    (root / "eu" / layout.VAULT).write_bytes(canonical_json(other.model_dump(mode="json")))
    with pytest.raises(Refused, match="not what was signed for eu"):
        SecondReader(root / "eu", key)
    for path in notes(root):
        path.unlink()
    assert SecondReader(root / "eu", key).set_aside == {}, "as in a vault of before"


def test_the_second_reader_sets_a_note_of_nobody_aside(root: Path) -> None:
    stranger = KeyFile.create("vault-1", "demo")
    create_vault(
        {"eu": LocalStore(root / "other")}, stranger, WorldClock(datetime(2026, 11, 1, tzinfo=UTC)), "demo"
    )
    (note,) = (p for p in (root / "other" / "keys").iterdir() if b'"type":"descriptor"' in p.read_bytes())
    (root / "eu" / "keys" / note.name).write_bytes(note.read_bytes())
    assert list(SecondReader(root / "eu", Key.load(root / "key")).set_aside) == [f"keys/{note.name}"]
