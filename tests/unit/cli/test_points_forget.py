"""``refloat points forget``: what goes, what stays and why; and what a person reads of it."""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path

import pytest

from refloat.cli.completion import forget_rules
from refloat.cli.main import run
from refloat.vault.keys import KeyFile
from small_desk import GROUP, Desk, seated

KEEP = "keep: {{last: 1, daily: 0, monthly: 0}}\n"


@pytest.fixture(scope="module")
def with_three(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to copy, since every path in it is relative: three points, of which one is to stay."""
    folder = tmp_path_factory.mktemp("three") / "desk"
    shutil.copytree(prepared / "protected", folder)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        desk = seated(folder, patch)
        desk.write_manifest(GROUP, KEEP)
        for version in (2, 3):
            desk.release(version)
            assert run(["-q", "protect"]) == 0
    return folder


@pytest.fixture
def three(
    with_three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Desk:
    """A desk with three points, of which one is to stay."""
    shutil.copytree(with_three, tmp_path, dirs_exist_ok=True)
    return seated(tmp_path, monkeypatch, capsys)


def names(desk, *more: str) -> list[str]:
    return [entry["point"] for entry in desk.ask("points", "list", *more)["points"]]


def test_a_dry_run_says_exactly_what_the_run_then_does(three) -> None:
    newest, *older = names(three)
    planned = three.ask("points", "forget", "--dry-run")
    assert planned.keys() == {"dry_run", "points", "objections", "overrides", "regions"}
    assert names(three) == [newest, *older]
    assert three.ask("points", "forget") == {**planned, "dry_run": False}
    assert [entry["point"] for entry in planned["points"] if not entry["kept"]] == older
    assert planned["points"][0]["reasons"] == ["last 1", "newest exact", "newest consistent"]
    assert {region["forgotten"] for region in planned["regions"].values()} == {2}
    assert planned["regions"]["eu"]["prune_bytes"] > 0
    marked = three.ask("vault", "prune", "--dry-run")["regions"]["eu"]["marked"]
    assert len(marked) == planned["regions"]["eu"]["prune_objects"]
    assert three.ask("points", "forget")["regions"]["us"]["forgotten"] == 0


def test_people_read_a_line_a_point_and_what_a_prune_frees(three) -> None:
    newest, older, _ = names(three)
    told = three.read("points", "forget", "--dry-run")
    lines = {line.split()[0]: line for line in told.splitlines() if line.strip()}
    assert "stays" in lines[newest[:12]] and "last 1, newest exact" in lines[newest[:12]]
    assert "goes" in lines[older[:12]] and "beyond last 1" in lines[older[:12]]
    assert "2 of 3 points would be forgotten" in told and "refloat vault prune` then marks" in told


def test_a_forgotten_point_is_listed_with_all_and_can_be_named(three) -> None:
    newest, *older = names(three)
    three.ask("points", "forget")
    assert names(three) == [newest]
    everything = three.ask("points", "list", "--all")["points"]
    assert [entry["forgotten_in"] for entry in everything] == [[], ["eu", "us"], ["eu", "us"]]
    assert "eu, us" in three.read("points", "list", "--all")
    assert three.ask("points", "show", older[0][:12])["point"] == older[0]
    assert "forgotten" in three.ask("points", "why", older[0])["reason"]
    assert three.ask("plan", "--to", "us")["point"] == newest
    assert three.ask("recover", "--into", "out", "--point", older[0])["point"] == older[0]
    assert three.ask("vault", "check", "--read-data")["ok"]
    assert three.ask("status")["regions"]["us"]["head"]["point"] == newest
    assert three.ask("check")["ok"]


def test_a_rule_that_says_no_exits_3_and_forgets_nothing(three) -> None:  # fault 50
    for page in (three.root / "eu" / "pages").glob("*.txt"):
        page.unlink()
    three.ask("protect")
    before = names(three)
    error = three.error("points", "forget", exits=3)
    assert (error["code"], error["rule"]) == ("refused", "source_shrank")
    assert "--override source_shrank" in error["next"]
    three.ask("points", "forget", "--dry-run")
    assert "warning: the rule source_shrank says no" in three.said
    assert names(three) == before
    done = three.ask("points", "forget", "--override", "source_shrank")
    assert done["overrides"] == ["source_shrank"] and names(three) == before[:1]


def test_a_rule_that_does_not_exist_and_a_key_that_may_not_are_refused(three) -> None:
    assert three.error("points", "forget", "--override", "source_shrunk", exits=2)["next"]
    key = KeyFile.load(three.key).model_copy(update={"admin": None})
    three.key.unlink()
    key.save(three.key)
    assert three.error("points", "forget", exits=4)["code"] == "vault_wrong_key"


def test_a_region_that_is_away_is_told_the_next_time(three) -> None:
    three.vault("us").rename(three.root / "away")
    away = three.ask("points", "forget", exits=1)["regions"]
    assert (away["eu"]["forgotten"], away["us"]["forgotten"]) == (2, None)
    assert "us keeps what it has until it answers" in three.said
    (three.root / "away").rename(three.vault("us"))
    told = three.ask("points", "forget")["regions"]
    assert (told["eu"]["forgotten"], told["us"]["forgotten"]) == (0, 2)
    assert len(names(three)) == 1


def test_the_rules_are_completed() -> None:
    assert forget_rules("source_") == ["source_rewritten", "source_shrank"]


def test_one_point_that_is_named_goes_and_the_others_stay(three) -> None:
    newest, middle, oldest = names(three)
    planned = three.ask("points", "forget", middle[:20], "--dry-run")
    assert [(one["point"], one["kept"]) for one in planned["points"]] == [(middle, False)]
    assert names(three) == [newest, middle, oldest]
    assert three.ask("points", "forget", middle[:20]) == {**planned, "dry_run": False}
    assert names(three) == [newest, oldest]
    assert three.ask("points", "forget", newest, exits=3)["error"]["rule"] == "last_good"
