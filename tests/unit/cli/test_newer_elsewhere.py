"""The newest point is in one region alone: every verb that would go by an older one names it, and the way to it."""

from __future__ import annotations

import shutil

import pytest

from contract_pins import printed, require_pinned
from refloat.flows.newer import BEHIND_GRACE_S
from small_desk import Desk, set_clock

MOVE = ("--scenario", "planned_move")


def gone(desk: Desk) -> str:
    """The last slot of the log of ``us`` was deleted, and this machine never saw it; the newest point."""
    key = desk.key.read_bytes()
    desk.release(2)
    point = str(desk.ask("protect")["point"])
    desk.key.write_bytes(key)  # as on another machine
    shutil.rmtree(desk.root / "home")
    last = max((desk.vault("us") / "log" / "points").iterdir())
    last.unlink()
    return point


def missed(desk: Desk) -> str:
    """``us`` did not answer while a point was made; the newest point."""
    shutil.move(desk.vault("us"), desk.root / "away")
    desk.release(2)
    point = str(desk.ask("protect", exits=1)["point"])
    shutil.move(desk.root / "away", desk.vault("us"))
    return point


@pytest.fixture(params=[gone, missed])
def newest(request: pytest.FixtureRequest, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    """A point that ``eu`` holds and ``us`` does not, a moment younger than the first, however old that is by now."""
    set_clock(desk, monkeypatch, 1)
    point = request.param(desk)
    assert isinstance(point, str)
    return point


def is_named(said: str, point: str) -> bool:
    return f"us lacks the newer point {point[:12]} of" in said and "which is in eu" in said


def test_a_plan_names_the_newer_point_who_holds_it_and_the_way_to_it(desk: Desk, newest: str) -> None:
    older = desk.ask("plan", "--to", "us")["point"]
    assert older != newest
    assert is_named(desk.said, newest)
    assert "vault repair" in desk.said and f"recover --to us {way(desk)}" in desk.said
    assert desk.ask("plan", "--to", "us", *way(desk).split())["point"] == newest


def way(desk: Desk) -> str:
    """The option that takes the point from where it is."""
    return f"--vault {desk.vault('eu').as_uri()}"


def test_a_recovery_names_it_too(desk: Desk, newest: str) -> None:
    done = desk.ask("recover", "--to", "us")
    assert done["point"] != newest
    assert any(is_named(remark, newest) for remark in done["remarks"])
    assert is_named(desk.said, newest)


def test_the_named_way_takes_it(desk: Desk, newest: str) -> None:
    done = desk.ask("recover", "--to", "us", *way(desk).split())
    assert done["point"] == newest
    assert not any("newer" in remark for remark in done["remarks"])
    assert desk.pages("us")["current.json"] == '{"version": 2}'


def test_once_it_is_repaired_nothing_newer_is_spoken_of(desk: Desk, newest: str) -> None:
    assert desk.ask("vault", "repair")["points"]["us"]["committed"] == [newest]
    assert desk.ask("plan", "--to", "us")["point"] == newest
    assert "newer" not in desk.said


def test_a_point_that_was_asked_for_is_what_was_meant(desk: Desk, newest: str) -> None:
    older = desk.ask("points", "list")["points"][-1]
    desk.ask("plan", "--to", "us", "--point", older["point"])
    assert "newer" not in desk.said
    desk.ask("plan", "--to", "us", "--at", older["created_at"])
    assert "newer" not in desk.said


def test_a_point_that_only_another_region_lists_is_named_with_the_way_to_it(desk: Desk, newest: str) -> None:
    for verb in ("plan", "recover"):
        error = desk.error(verb, "--to", "us", "--point", newest[:8], exits=2)
        assert is_named(error["message"], newest) and way(desk) in error["next"]


@pytest.mark.parametrize("verb", ["plan", "recover"])
def test_a_move_takes_the_newest_point_of_all_or_none(desk: Desk, newest: str, verb: str) -> None:
    error = desk.error(verb, "--to", "us", *MOVE, exits=3)
    assert (error["rule"], error["region"]) == ("source_ahead", "us")
    assert is_named(error["message"], newest) and "vault repair" in error["next"]
    assert not (desk.root / "us" / "pages").exists()
    assert desk.ask("plan", "--to", "us", *MOVE, "--override", "source_ahead")["point"] != newest


def of_regions(desk: Desk) -> dict[str, dict[str, str]]:
    problems = desk.answer("check")[1]["problems"]
    return {one["where"]: one for one in problems if one["where"].startswith("regions.")}


def test_a_region_that_stays_behind_fails_status_check_and_vault_check(
    desk: Desk, newest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    repair = desk.pasted("vault repair")
    set_clock(desk, monkeypatch, BEHIND_GRACE_S / 2)
    assert "behind" not in desk.answer("status")[1]["regions"]["us"]
    assert of_regions(desk)["regions.us"]["level"] == "warning"
    assert "behind" not in desk.ask("vault", "check")
    set_clock(desk, monkeypatch, 2 * BEHIND_GRACE_S)
    found = printed(desk, "status", exits=1)
    require_pinned("status", "a region is behind", found)
    behind = found["regions"]["us"]["behind"]
    assert not found["well"] and "behind" not in found["regions"]["eu"]
    assert (behind["point"], behind["held_by"]) == (newest, ["eu"])
    assert is_named(behind["message"], newest) and behind["next"] == repair
    problem = of_regions(desk)["regions.us"]
    assert (problem["level"], problem["next"]) == ("error", repair) and is_named(problem["message"], newest)
    assert desk.answer("check")[0] == 1
    checked = printed(desk, "vault", "check", exits=1)
    require_pinned("vault check", "a region is behind", checked)
    assert not checked["ok"] and checked["behind"] == {"us": behind}
    assert is_named(desk.said, newest)
    desk.ask("vault", "repair")
    assert "behind" not in desk.answer("status")[1]["regions"]["us"]
    assert of_regions(desk) == {}
    assert "behind" not in desk.ask("vault", "check")


def test_a_lost_first_point_is_named_where_a_region_has_none(unprotected: Desk) -> None:
    desk = unprotected
    key = desk.key.read_bytes()
    point = desk.ask("protect")["point"]
    desk.key.write_bytes(key)
    shutil.rmtree(desk.root / "home")
    shutil.rmtree(desk.vault("us") / "log" / "points")
    for verb in ("plan", "recover"):
        error = desk.error(verb, "--to", "us", exits=2)
        assert is_named(error["message"], point) and way(desk) in error["next"]
