"""Commands say which point is suspect, until ``refloat points accept``: a person finds it good, and only that one."""

from __future__ import annotations

import pytest

from refloat.vault.keys import KeyFile


@pytest.fixture
def hit(desk) -> str:
    """The name of a point whose pages shrank."""
    big = desk.root / "eu" / "pages" / "big.txt"
    big.write_text("a line of a page\n" * 10_000)
    desk.ask("protect")
    big.unlink()
    return str(desk.ask("protect", exits=1)["point"])


BECAUSE = ("--because", "we deleted the old crawl")


def test_what_is_accepted_is_chosen_again_and_compared_with(desk, hit) -> None:  # fault 50
    later = desk.ask("protect", exits=1)["point"]
    assert desk.ask("plan", "--to", "us")["point"] not in (hit, later)
    done = desk.ask("points", "accept", hit[:8], *BECAUSE)
    assert done == {
        "point": hit,
        "because": "we deleted the old crawl",
        "suspect": {"pages": ["shrank"]},
        "regions": ["eu", "us"],
    }
    assert desk.ask("plan", "--to", "us")["point"] == later
    assert desk.ask("points", "accept", hit, *BECAUSE)["suspect"] == {}
    assert desk.ask("vault", "check", "--read-data")["ok"]


def test_only_that_point_is_accepted_and_not_one_before_it(desk, hit) -> None:  # fault 50
    later = desk.ask("protect", exits=1)["point"]
    desk.ask("points", "accept", later, *BECAUSE)
    assert desk.error("recover", "--to", "us", "--point", hit, exits=3)["rule"] == "point_suspect"


def test_what_is_not_suspect_or_has_no_reason_or_no_admin_is_refused(desk, hit) -> None:
    good = desk.ask("plan", "--to", "us")["point"]
    assert "is not suspect" in desk.error("points", "accept", good, *BECAUSE, exits=2)["message"]
    assert "--because" in desk.error("points", "accept", hit, "--because", " ", exits=2)["message"]
    assert (
        desk.error("points", "accept", "f00d", *BECAUSE, exits=2)["next"]
        == f"refloat -f {desk.manifest} points list"
    )
    key = KeyFile.load(desk.key).model_copy(update={"admin": None})
    desk.key.unlink()
    key.save(desk.key)
    assert desk.error("points", "accept", hit, *BECAUSE, exits=4)["code"] == "vault_wrong_key"


def test_a_region_that_is_away_need_not_be_told(desk, hit) -> None:
    desk.vault("us").rename(desk.root / "away")
    assert desk.ask("points", "accept", hit, *BECAUSE, exits=1)["regions"] == ["eu"]
    assert "us is not told" in desk.said
    (desk.root / "away").rename(desk.vault("us"))
    assert desk.ask("plan", "--to", "us")["point"] == hit
    assert desk.ask("points", "accept", hit, *BECAUSE)["regions"] == ["eu", "us"]


def test_those_that_look_say_what_is_suspect_and_why_until_it_is_accepted(desk, hit) -> None:  # fault 50
    newest, good, _ = desk.ask("points", "list")["points"]
    assert (newest["point"], newest["suspect"], good["suspect"]) == (hit, {"pages": ["shrank"]}, {})
    assert [
        line.count("suspect") for line in desk.read("points", "list").splitlines() if hit[:12] in line
    ] == [1]
    shown = desk.ask("points", "show", hit)["components"]
    assert {name: said["suspect"] for name, said in shown.items() if said["suspect"]} == {"pages": ["shrank"]}
    assert "suspect, and no recovery takes it by itself: pages lost half" in desk.read("points", "show", hit)
    told = desk.ask("status", exits=1)["components"]
    assert (told["pages"]["suspect"], told["pages"]["state"]) == (["shrank"], "warn")
    assert (told["ledger"]["suspect"], told["ledger"]["state"]) == ([], "ok")
    assert "the newest point is suspect, and does not count: pages lost half" in desk.said
    desk.ask("points", "accept", hit, *BECAUSE)
    told = desk.answer("status")[1]["components"]["pages"]
    assert (told["suspect"], told["state"]) == ([], "ok")
    assert [entry["suspect"] for entry in desk.ask("points", "list")["points"]] == [{}] * 3
