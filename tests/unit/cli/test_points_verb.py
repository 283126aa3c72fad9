"""``refloat points``: list, show, diff and why."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

import pytest

from contract_pins import printed, require_pinned
from refloat.cli.system import SystemClock


def test_the_list_has_exactly_these_keys_newest_first(desk) -> None:
    newest = desk.ask("protect")["point"]
    document = desk.ask("points", "list")
    assert document.keys() == {"points"}
    assert [point.keys() for point in document["points"]] == [
        {"point", "created_at", "grade", "suspect", "regions"}
    ] * 2
    assert document["points"][0]["point"] == newest
    assert [point["regions"] for point in document["points"]] == [["eu", "us"]] * 2


def test_a_point_that_one_region_missed_is_listed_for_the_other_alone(desk) -> None:
    aside = desk.root / "aside"
    shutil.move(desk.vault("us"), aside)
    made = desk.ask("protect", exits=1)["point"]
    shutil.move(aside, desk.vault("us"))
    listed = {entry["point"]: entry["regions"] for entry in desk.ask("points", "list")["points"]}
    assert listed[made] == ["eu"]
    assert sorted(listed.values()) == [["eu"], ["eu", "us"]]


def test_the_list_is_in_the_order_of_the_logs_whatever_the_clock_of_a_writer_says(desk, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(SystemClock, "now", lambda self: datetime(2035, 1, 1, tzinfo=UTC))
        ahead = desk.ask("protect")["point"]
    newest = desk.ask("protect")["point"]
    assert [point["point"] for point in desk.ask("points", "list")["points"]][:2] == [newest, ahead]


def test_one_address_is_enough_and_needs_no_manifest(desk) -> None:
    listed = desk.ask("points", "list")["points"]
    desk.lose("eu")
    (alone,) = desk.ask("points", "list", "--vault", str(desk.vault("us")))["points"]
    assert {**alone, "regions": ["eu", "us"]} == listed[0]


def test_a_point_is_shown_with_its_components_and_facts(desk) -> None:
    name = desk.ask("points", "list")["points"][0]["point"]
    shown = desk.ask("points", "show", name[:8])
    assert (shown["point"], shown["pipeline"], shown["primary"], shown["grade"]) == (
        name,
        "small",
        "eu",
        "exact",
    )
    assert shown["components"]["pages"]["identity"]["current"] == {"version": 1}
    assert shown["components"]["answers"]["position"]["records"] == 1
    assert shown["groups"]["serving"]["members"] == ["pages", "ledger"]
    assert '"version": 1' in desk.read("points", "show", name, "--facts")


def test_a_diff_names_facts_and_files(desk) -> None:
    first = desk.ask("points", "list")["points"][0]["point"]
    desk.release(2)
    (desk.root / "eu" / "pages" / "1.txt").unlink()
    second = desk.ask("protect")["point"]
    document = desk.ask("points", "diff", first[:10], second[:10])
    assert (document["first"], document["second"]) == (first, second)
    pages = document["components"]["pages"]
    assert pages.keys() == {"facts", "added", "removed", "changed"}
    assert (pages["added"], pages["removed"], pages["changed"]) == (
        ["content/2.txt"],
        ["content/1.txt"],
        ["content/current.json"],
    )
    assert pages["facts"]["current.version"] == {"before": 1, "after": 2}
    people = desk.read("points", "diff", first, second)
    assert "+ content/2.txt" in people and "- content/1.txt" in people and "~ content/current.json" in people


def test_a_diff_names_what_a_link_leads_to(desk) -> None:
    link = desk.root / "eu" / "pages" / "newest"
    link.symlink_to("1.txt")
    first = desk.ask("protect")["point"]
    link.unlink()
    link.symlink_to("current.json")
    second = desk.ask("protect")["point"]
    found = printed(desk, "points", "diff", first, second)
    require_pinned("points diff", "a link led elsewhere", found)
    pages = found["components"]["pages"]
    assert pages["changed"] == ["content/newest"]
    assert pages["how"] == [
        {"path": "content/newest", "what": "target", "before": "1.txt", "after": "current.json"}
    ]
    assert "~ content/newest: target 1.txt -> current.json" in desk.read("points", "diff", first, second)


def test_a_point_does_not_differ_from_itself(desk) -> None:
    name = desk.ask("points", "list")["points"][0]["point"]
    components = desk.ask("points", "diff", name, name)["components"]
    assert all(not any(change.values()) for change in components.values())


def test_why_names_the_invariant_that_a_broken_point_breaks(desk) -> None:
    good = desk.ask("points", "list")["points"][0]["point"]
    desk.release(2, pages=7)
    broken = desk.ask("protect", exits=1)["point"]
    why = desk.ask("points", "why", broken[:10])
    assert why.keys() == {"point", "grade", "reason", "groups", "not_captured", "unverifiable"}
    assert (why["point"], why["grade"]) == (broken, "broken")
    assert "pages.current.version == ledger.version" in why["groups"]["serving"]["reason"]
    assert "broken" in why["reason"]
    reasons = {entry["point"]: entry["reason"] for entry in desk.ask("points", "why")["points"]}
    assert "the newest consistent point" in reasons[good]
    people = desk.read("points", "why", broken)
    assert "does not hold: pages.current.version == ledger.version" in people
    assert "pages.current.version = 7" in people


@pytest.mark.parametrize("verb", [("show", "zz"), ("why", "zz"), ("diff", "zz", "zz"), ("show", "")])
def test_a_name_that_is_none_or_not_the_only_one_is_a_usage_error(desk, verb: tuple[str, ...]) -> None:
    desk.ask("protect")
    error = desk.error("points", *verb, exits=2)
    assert error["next"] == f"refloat -f {desk.manifest} points list"


def test_the_manifest_can_be_had_back_from_a_point_alone(desk) -> None:
    point = desk.ask("points", "list")["points"][0]["point"]
    assert desk.ask("points", "show", point, "--manifest")["manifest"] == desk.manifest.read_text()
