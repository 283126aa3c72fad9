"""``refloat recover --into``: the bytes alone, in a folder, and nothing else anywhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

KEYS = {"point", "grade", "into", "components", "overrides", "lost_points", "remarks"}


def tree(root: Path) -> dict[str, bytes | str]:
    """Every path below a folder, with what it holds or where it leads."""
    return {
        str(path.relative_to(root)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() or path.is_symlink()
    }


def test_the_document_has_exactly_these_keys(desk) -> None:
    point = desk.ask("points", "list")["points"][0]
    document = desk.ask("recover", "--into", "out")
    assert document.keys() == KEYS
    assert (document["point"], document["grade"]) == (point["point"], "exact")
    assert document["into"] == str(desk.root / "out")
    assert document["components"].keys() == {"pages", "ledger", "answers"}
    assert all(
        part.keys() == {"files", "bytes", "kept", "seconds"} for part in document["components"].values()
    )
    assert (document["overrides"], document["lost_points"]) == ([], [])


def test_one_address_and_the_key_are_enough_and_nothing_else_is_written(desk) -> None:
    pages = desk.pages("eu")
    desk.lose("eu")
    vault, home = tree(desk.vault("us")), tree(desk.root / "home")
    desk.ask("recover", "--into", "out", "--vault", str(desk.vault("us")))
    assert {path.name: path.read_text() for path in (desk.root / "out/pages/content").iterdir()} == pages
    assert (desk.root / "out/manifest/refloat.yaml").read_text().startswith("version: 1")
    assert tree(desk.vault("us")) == vault, "no claim, no journal, no evidence"
    assert not (desk.root / "us" / "pages").exists()
    assert tree(desk.root / "home") == home, "no page of evidence"
    assert "eu" in desk.said, "that the other region was not heard is said"


def test_a_link_comes_back_as_a_link_and_nothing_is_written_where_it_leads(desk) -> None:  # fault 60
    outside = desk.root / "outside"
    outside.mkdir()
    (desk.root / "eu/pages/away").symlink_to(outside)
    desk.ask("protect")
    desk.ask("recover", "--into", "out")
    assert (desk.root / "out/pages/content/away").readlink() == outside
    assert list(outside.iterdir()) == []


def test_the_golden_sets_come_with_the_manifest(verified) -> None:
    golden = (verified.root / "golden.jsonl").read_bytes()
    verified.ask("recover", "--into", "out")
    found = [path for path in (verified.root / "out/manifest").rglob("*") if path.is_file()]
    assert golden in [path.read_bytes() for path in found]


def test_secrets_that_components_need_are_not_asked_for(desk, monkeypatch) -> None:
    monkeypatch.setenv("PAGES_AT", "eu/pages")
    text = desk.manifest.read_text().replace("${region}/pages", "${env:PAGES_AT}")
    desk.manifest.write_text(text)
    desk.ask("protect")
    monkeypatch.delenv("PAGES_AT")
    desk.manifest.unlink()
    desk.ask("recover", "--into", "out", "--vault", str(desk.vault("us")))
    assert (desk.root / "out/pages/content/1.txt").exists()


def test_a_point_a_time_and_a_component_can_be_chosen(desk) -> None:
    first = desk.ask("points", "list")["points"][0]
    desk.release(2)
    second = desk.ask("protect")
    assert desk.ask("recover", "--into", "newest")["point"] == second["point"]
    assert desk.ask("recover", "--into", "at", "--at", first["created_at"])["point"] == first["point"]
    named = desk.ask("recover", "--into", "named", "--point", first["point"][:9], "--only", "pages")
    assert (named["point"], set(named["components"])) == (first["point"], {"pages"})
    assert not (desk.root / "named" / "ledger").exists()


# ------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize("there", ["file", "folder"])
def test_a_folder_that_holds_something_is_refused_and_left_alone(desk, there: str) -> None:  # fault 43
    out = desk.root / "out"
    if there == "folder":
        out.mkdir()
        (out / "mine").write_text("mine")
    else:
        out.write_text("mine")
    before = tree(desk.root)
    error = desk.error("recover", "--into", "out", exits=3)
    assert (error["code"], error["rule"]) == ("refused", "into_occupied")
    assert tree(desk.root) == before


def test_the_same_command_twice_never_writes_over_what_it_brought(desk) -> None:
    desk.ask("recover", "--into", "out")
    (desk.root / "out/pages/content/1.txt").write_text("changed since")
    assert desk.error("recover", "--into", "out", exits=3)["rule"] == "into_occupied"
    assert (desk.root / "out/pages/content/1.txt").read_text() == "changed since"


def test_a_broken_point_needs_its_rule_by_name(desk) -> None:  # fault 51
    desk.release(2, pages=7)
    broken = desk.ask("protect", exits=1)["point"]
    error = desk.error("recover", "--into", "out", "--point", broken, exits=3)
    assert error["rule"] == "group_broken"
    assert not (desk.root / "out").exists()
    done = desk.ask("recover", "--into", "out", "--point", broken, "--override", "group_broken")
    assert (done["point"], done["grade"], done["overrides"]) == (broken, "broken", ["group_broken"])


@pytest.mark.parametrize("bare", [False, True])
def test_a_log_that_was_rolled_back_needs_its_rule_by_name(desk, bare: bool) -> None:  # fault 54
    old = desk.root / "old"
    shutil.copytree(desk.vault("us"), old)
    desk.ask("protect")
    shutil.rmtree(desk.vault("us"))
    shutil.move(old, desk.vault("us"))
    where = ("--vault", str(desk.vault("us"))) if bare else ()
    error = desk.error("recover", "--into", "out", *where, exits=3)
    assert (error["rule"], error["region"]) == ("log_rolled_back", "us")
    done = desk.ask("recover", "--into", "out", *where, "--override", "log_rolled_back")
    assert done["overrides"] == ["log_rolled_back"]


# --------------------------------------------------------------------------------------------------- usage


SENSELESS = [
    ((), "neither --to nor --into"),
    (("--to", "us", "--into", "out"), "exclude each other"),
    (("--into", "out", "--resume", "3f2a"), "--resume"),
    (("--into", "out", "--lost-at", "2026-01-01T00:00:00Z"), "--lost-at"),
    (("--into", "out", "--override", "target_foreign"), "target_foreign"),
    (("--into", "out", "--override", "group_brokn"), "no safety rule"),
    (("--into", "out", "--at", "yesterday"), "--at:"),
    (("--into", "out", "--at", "2020-01-01T00:00:00Z"), "no point was made before"),
    (("--into", "out", "--point", "zz"), "'zz'"),
    (("--into", "out", "--only", "pagse"), "'pagse'"),
    (("--into", ""), "names no folder"),
    (("--into", "no/such/out"), "there is no folder"),
]


def test_what_makes_no_sense_is_a_usage_error_and_leaves_nothing(desk) -> None:
    before = tree(desk.root)
    for arguments, words in SENSELESS:
        error = desk.error("recover", *arguments, exits=2)
        assert words in error["message"] and error["next"], arguments
    assert tree(desk.root) == before


def test_a_region_that_is_gone_is_said_and_does_not_stop_it(desk) -> None:
    shutil.rmtree(desk.vault("eu"))
    desk.ask("recover", "--into", "out")
    assert "eu is passed over" in desk.said


def test_people_read_what_is_where_and_that_nothing_was_started(desk) -> None:
    out = desk.read("recover", "--into", "out")
    assert "nothing was started" in out and str(desk.root / "out") in out
    assert all(name in out for name in ("pages", "ledger", "answers"))
    assert "nothing is claimed, journaled or started" in desk.said
