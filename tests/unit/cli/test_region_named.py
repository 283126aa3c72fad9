"""A message about a region is about that region: one is rolled back, and every verb that says so names it alone."""

from __future__ import annotations

import json
import re
import shutil

import pytest

OTHER = {"east": "west", "west": "east"}
REGIONS = """\
regions:
  east: {{vault: "east/vault"}}
  west: {{vault: "west/vault"}}
"""
ABOUT = re.compile(r"the log of points in (\w+) was rolled back|refloat [^\n`]*vault rejoin (\w+)")


@pytest.fixture
def desk(unprotected, monkeypatch):
    """The small pipeline with other names, so that nothing can be right by accident of an order; it runs in east."""
    desk = unprotected
    (desk.root / "eu").rename(desk.root / "east")
    shutil.rmtree(desk.root / "us")
    shutil.rmtree(desk.root / "east" / "vault")
    desk.key.unlink()
    desk.write_manifest("", regions=REGIONS)
    text = desk.manifest.read_text().replace("primary: eu", "primary: east")
    desk.manifest.write_text(text)
    desk.ask("vault", "init", "--key", "small.key")
    return desk


def roll_back(desk, region: str) -> None:
    """The region's disk is put back from before its last two points."""
    desk.ask("protect")
    shutil.copytree(desk.vault(region), desk.root / "before")
    desk.ask("protect")
    desk.ask("protect")
    shutil.rmtree(desk.vault(region))
    (desk.root / "before").rename(desk.vault(region))


SAY_SO = (
    "status",
    "check",
    "plan --to east",
    "plan --to west",
    "recover --into brought",
    "vault prune",
    "points forget",
    "protect",
    "recover --to west",
    "recover --to east --override target_primary",
)
"""Verbs that take from the regions, or judge them; the last two, and `protect`, may write."""


@pytest.mark.parametrize("rolled", OTHER)
def test_every_verb_names_the_region_that_was_rolled_back_and_no_other(desk, rolled) -> None:
    roll_back(desk, rolled)
    for line in SAY_SO:
        _, document = desk.answer(*line.split())
        told = json.dumps(document) + desk.said
        named = {name for match in ABOUT.findall(told) for name in match if name}
        error = document.get("error") or {}
        if error.get("rule") == "log_rolled_back":
            named.add(error["region"])
        assert named == {rolled}, line


@pytest.mark.parametrize("rolled", OTHER)
def test_the_region_that_was_rolled_back_rejoins_and_nothing_speaks_of_it_any_more(desk, rolled) -> None:
    roll_back(desk, rolled)
    plan = desk.ask("vault", "rejoin", rolled, "--dry-run")
    assert plan["rolled_back"] == {"seen": 3, "left": 1}
    error = desk.error("vault", "rejoin", OTHER[rolled], "--dry-run", exits=2)
    assert error["region"] == OTHER[rolled] and "no other region" in error["message"]
    desk.ask("vault", "rejoin", rolled)
    for line in ("status", "check", "plan --to west"):
        _, document = desk.answer(*line.split())
        assert "rolled back" not in json.dumps(document) + desk.said, line
