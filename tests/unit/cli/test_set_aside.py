"""What somebody else put into the target is never deleted: with the override it is moved beside, and named."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

OVERRIDE = ("recover", "--to", "us", "--override", "target_foreign")


@pytest.fixture
def occupied(desk):
    """A region where somebody keeps pages and a ledger of their own."""
    (desk.root / "us" / "pages").mkdir()
    (desk.root / "us" / "pages" / "theirs.txt").write_text("years of work")
    with contextlib.closing(sqlite3.connect(desk.root / "us" / "ledger.db")) as database, database:
        database.execute("CREATE TABLE theirs AS SELECT 'years of work' AS told")
    return desk


def _ledger(path: Path) -> list[tuple[str]]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT told FROM theirs").fetchall()


def test_without_the_override_nothing_is_touched(occupied) -> None:
    assert occupied.ask("recover", "--to", "us", exits=3)["error"]["rule"] == "target_foreign"
    assert occupied.pages("us") == {"theirs.txt": "years of work"}


def test_with_it_what_was_found_lies_beside_and_the_evidence_says_where(occupied) -> None:
    done = occupied.ask(*OVERRIDE)
    assert occupied.pages("us") == occupied.pages("eu")
    (pages,) = done["components"]["pages"]["set_aside"]
    assert (Path(pages) / "theirs.txt").read_text() == "years of work"
    assert Path(pages).parent == occupied.root / "us"
    assert _ledger(Path(done["components"]["ledger"]["set_aside"][0])) == [("years of work",)]
    assert done["components"]["answers"]["set_aside"] == []  # nothing was there
    record = occupied.ask("evidence", "show", done["run"])
    assert record["components"]["pages"]["set_aside"] == [pages]


def test_a_person_reads_where_it_is(occupied) -> None:
    said = occupied.read(*OVERRIDE)
    (aside,) = (occupied.root / "us").glob(".pages.*.set-aside")
    assert f"pages: what was there before is set aside in {aside}" in said


def test_the_next_recovery_leaves_it_where_it_is(occupied) -> None:
    (pages,) = occupied.ask(*OVERRIDE)["components"]["pages"]["set_aside"]
    occupied.ask("protect", "--region", "eu")
    assert occupied.ask("recover", "--to", "us")["components"]["pages"]["set_aside"] == []
    assert (Path(pages) / "theirs.txt").read_text() == "years of work"


def test_a_recovery_that_is_rolled_back_puts_it_back(verified, endpoint) -> None:
    (verified.root / "us" / "pages").mkdir()
    (verified.root / "us" / "pages" / "theirs.txt").write_text("years of work")
    endpoint.topic_of = str.lower  # a wrong answer to everything
    done = verified.ask(*OVERRIDE, exits=1)
    assert done["state"] == "rolled_back"
    assert verified.pages("us") == {"theirs.txt": "years of work"}
    assert done["components"]["pages"]["set_aside"] == []
    assert not [*(verified.root / "us").glob(".pages.*")]
