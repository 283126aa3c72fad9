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
