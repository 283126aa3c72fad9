"""The pages about facts and about other tools, played on the pipeline of their own manifests, command by command."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

from pages import DOCS, blocks, sections, typed
from small_desk import Desk, seated


def write_database(path: Path, version: int) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE release (version INTEGER)")
        database.execute("INSERT INTO release VALUES (?)", (version,))


def write_models(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "current.json").write_text('{"version": 3}\n')


@pytest.fixture
def empty(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk where nothing is yet: no vault, and no key is named."""
    desk = seated(tmp_path, monkeypatch, capsys)
    monkeypatch.delenv("REFLOAT_KEY_FILE")
    return desk


# ----------------------------------------------------------------------------------------------------- facts


def test_the_page_of_facts_shows_what_commands_print(empty: Desk) -> None:
    page = (DOCS / "FACTS.md").read_text()
    manifest, group = blocks(page, "yaml")
    facts, why = blocks(page, "text")
    write_models(empty.root / "eu" / "models")
    write_database(empty.root / "eu" / "ledger.db", 3)
    empty.manifest.write_text(manifest)

    played = sections("FACTS.md")
    for line in played["See them"]:
        typed(empty, line)
    printed = empty.read("check", "--facts").splitlines()
    assert [line for line in facts.splitlines() if line not in printed] == []
    assert "ledger.release" not in empty.read("check", "--facts", "models")

    empty.manifest.write_text(manifest + group)
    for line in played["Use them"]:
        typed(empty, line)
    mistyped = manifest + group.replace("ledger.release", "ledger.relese")
    empty.manifest.write_text(mistyped)
    (problem,) = empty.ask("check", exits=1)["problems"]
    assert "no fact is called ledger.relese" in problem["message"] and problem["line"]
    empty.manifest.write_text(manifest + group)

    for line in played["See what a point saw"]:
        typed(empty, line)
    assert why in empty.read("points", "why", "latest")
    assert '"version": 4' in empty.read("points", "show", "latest", "--facts")
    assert played.keys() == {"See them", "Use them", "See what a point saw"}


# --------------------------------------------------------------------------------------------- other tools


def restic(desk: Desk, words: list[str]) -> None:
    """``restic -r REPO restore latest:FOLDER --target DIR`` brings the folder's contents; ``backup`` reads one."""
    match words:
        case ["-r", _, "restore", source, "--target", target]:
            write_models(desk.root / target)
            assert source.startswith("latest:/srv/chat/")
        case ["-r", _, "backup", folder]:
            assert [*(desk.root / folder).rglob("current.json")]
        case _:
            raise AssertionError(words)


def sqlite(desk: Desk, words: list[str]) -> None:
    path, statements = words
    with contextlib.closing(sqlite3.connect(desk.root / path)) as database:
        database.executescript(statements)


def litestream(desk: Desk, words: list[str]) -> None:
    """``litestream restore -o PATH URL``, which ends with an error where something is."""
    _, _, path, url = words
    assert words[:2] == ["restore", "-o"] and url.startswith("s3://")
    assert not (desk.root / path).exists()
    write_database(desk.root / path, 3)


def export_all(desk: Desk, words: list[str]) -> None:
    """``export-all --output-dir DIR``: a folder of JSON and artifacts."""
    option, folder = words
    assert option == "--output-dir"
    (desk.root / folder / "models").mkdir(parents=True, exist_ok=True)
    (desk.root / folder / "models" / "models.json").write_text("{}")


PROGRAMS = {"restic": restic, "sqlite3": sqlite, "litestream": litestream, "export-all": export_all}


def test_every_command_of_the_page_about_other_tools_does_what_it_says(empty: Desk) -> None:
    (manifest,) = blocks((DOCS / "COMING_FROM.md").read_text(), "yaml")
    empty.manifest.write_text(manifest)
    ran = [typed(empty, line, PROGRAMS)[0] for lines in sections("COMING_FROM.md").values() for line in lines]
    assert ran.count("refloat") > 10 and PROGRAMS.keys() <= set(ran)
    assert (empty.root / "for-restic").is_dir()
    newest = empty.ask("points", "show", "latest")
    assert newest["primary"] == "us" and newest["grade"] == "exact"
    assert "models/models.json" in json.dumps(empty.ask("vault", "ls", newest["point"], "runs"))
