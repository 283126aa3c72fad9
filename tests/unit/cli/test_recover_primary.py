"""Recovering onto the living primary: refused on every way in, possible on purpose, free when it is empty."""

from __future__ import annotations

import shutil

import pytest


def emptied(desk) -> None:
    """The machine of the primary was rebuilt: nothing of the pipeline is there, and its vault still answers."""
    for path in (desk.root / "eu").iterdir():
        if path.name == "vault":
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def refused(desk, *more: str, rule: str = "target_primary") -> None:
    """The recovery is refused, nothing live has changed, and what to do instead is said."""
    region = more[more.index("--to") + 1]
    (desk.root / region / "pages" / "since.txt").write_text("written since")
    before = desk.pages(region)
    document = desk.ask("recover", *more, exits=3)
    assert (document["state"], document["error"]["rule"]) == ("blocked", rule)
    assert "--into DIR" in document["error"]["next"] and "another region" in document["error"]["next"]
    assert f"--override {rule}" in document["error"]["next"]
    assert desk.pages(region) == before


def test_where_the_point_was_captured(desk) -> None:  # fault 43
    refused(desk, "--to", "eu")


def test_where_the_point_was_captured_by_address_alone(desk) -> None:  # fault 43
    desk.manifest.unlink()
    refused(desk, "--vault", str(desk.vault("eu")), "--to", "eu")


def test_some_of_its_components_alone(desk) -> None:  # fault 43
    refused(desk, "--to", "eu", "--only", "pages", "--only", "ledger")


def test_where_it_was_recovered_to_and_lives_now(desk) -> None:  # fault 43
    older = desk.ask("points", "list")["points"][0]["point"]
    desk.ask("recover", "--to", "us")
    refused(desk, "--to", "us")
    refused(desk, "--to", "us", "--point", older)


def test_the_primary_of_the_manifest_after_the_pipeline_has_moved(desk) -> None:  # fault 43
    desk.ask("recover", "--to", "us")
    assert desk.ask("points", "list")["points"][0]["point"]
    refused(desk, "--to", "eu")


def test_taking_it_back_on_purpose_names_the_rule(desk) -> None:
    before = desk.pages("eu")
    (desk.root / "eu" / "pages" / "1.txt").write_text("spoilt")
    done = desk.ask("recover", "--to", "eu", "--override", "target_primary")
    assert (done["state"], done["overrides"]) == ("done", ["target_primary"])
    assert desk.pages("eu") == before


def test_the_rule_of_a_foreign_target_does_not_open_the_primary(desk) -> None:
    refused(desk, "--to", "eu", "--override", "target_foreign")


def test_an_empty_primary_is_recovered_without_a_word(desk) -> None:
    before = desk.pages("eu")
    emptied(desk)
    done = desk.ask("recover", "--to", "eu")
    assert (done["state"], done["overrides"]) == ("done", [])
    assert desk.pages("eu") == before


@pytest.mark.parametrize("left", ["ledger.db", "answers.jsonl"])
def test_a_primary_that_is_not_quite_empty_is_not_empty(desk, left: str) -> None:  # fault 43
    kept = (desk.root / "eu" / left).read_bytes()
    emptied(desk)
    (desk.root / "eu" / left).write_bytes(kept)
    document = desk.ask("recover", "--to", "eu", exits=3)
    assert document["error"]["rule"] == "target_primary"
    assert (desk.root / "eu" / left).read_bytes() == kept
    assert not (desk.root / "eu" / "pages").exists()


def in_one_place(desk) -> None:
    """The pages of us are those of eu, as on one machine that plays both."""
    there = '"eu/pages", expose'
    desk.manifest.write_text(desk.manifest.read_text().replace('"${region}/pages", expose', there))
    desk.ask("protect")


def refused_beside(desk, *more: str) -> None:
    before = desk.pages("eu")
    document = desk.ask("recover", "--to", "us", *more, exits=3)
    error = document["error"]
    assert (document["state"], error["rule"], error["component"]) == ("blocked", "target_primary", "pages")
    assert "pages is live in eu" in error["message"] and "us has the same place for it" in error["message"]
    assert "give us a place of its own" in error["next"] and "--override target_primary" in error["next"]
    assert desk.pages("eu") == before


def test_another_region_that_has_the_place_of_the_primary(desk) -> None:  # fault 43
    in_one_place(desk)
    (desk.root / "eu" / "pages" / "since.txt").write_text("written since")
    warned = [p for p in desk.ask("check")["problems"] if p["where"] == "components.pages.with"]
    assert [(p["level"], p["message"]) for p in warned] == [
        ("warning", f"pages has one place in eu and us: {desk.root}/eu/pages")
    ]
    refused_beside(desk)
    refused_beside(desk, "--override", "target_foreign")


def test_and_so_it_is_where_a_recovery_put_there_what_is_live(desk) -> None:  # fault 43
    in_one_place(desk)
    shutil.rmtree(desk.root / "eu" / "pages")
    desk.ask("recover", "--to", "eu", "--only", "pages")
    (desk.root / "eu" / "pages" / "since.txt").write_text("written since")
    refused_beside(desk, "--only", "pages")
    done = desk.ask("recover", "--to", "us", "--only", "pages", "--override", "target_primary")
    assert done["state"] == "done" and "since.txt" not in desk.pages("eu")


def test_one_path_on_two_machines_is_free_where_it_is_empty(desk) -> None:
    in_one_place(desk)
    shutil.rmtree(desk.root / "eu" / "pages")
    assert desk.ask("recover", "--to", "us", "--only", "pages")["state"] == "done"
