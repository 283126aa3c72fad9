"""A point or a run may be called by how it begins, or `latest`, wherever one is asked for."""

from __future__ import annotations

import pytest


@pytest.fixture
def two(desk):
    """Two points, the older first, and a run from the newer one."""
    first = desk.ask("points", "list")["points"][0]["point"]
    desk.release(2)
    desk.points = [first, desk.ask("protect")["point"]]
    desk.run = desk.ask("recover", "--to", "us")["run"]
    return desk


def test_a_point_is_called_so_everywhere(two) -> None:
    listed = [
        one["point"] for one in two.ask("points", "list")["points"]
    ]  # also the one that the recovery made
    first, last = two.points[0], listed[0]
    for called, name in (("latest", last), (first[:6], first), (two.points[1][:6], two.points[1])):
        for asked in (("points", "show"), ("points", "why"), ("vault", "ls")):
            assert two.ask(*asked, called)["point"] == name, (asked, called)
        assert two.ask("plan", "--to", "us", "--point", called)["point"] == name
        out = two.root / f"out-{called}"
        assert two.ask("vault", "export", called, "pages", "--into", str(out))["point"] == name
        assert two.ask("recover", "--into", f"{out}-into", "--point", called)["point"] == name
    assert two.ask("points", "diff", first[:6], "latest")["second"] == last


def test_the_latest_point_is_refused_like_any_other_where_it_is_broken(desk) -> None:
    desk.release(2, pages=7)
    desk.ask("protect", exits=1)
    assert desk.error("plan", "--to", "us", "--point", "latest", exits=3)["rule"] == "group_broken"


def test_a_run_is_called_so_everywhere(two) -> None:
    for called in ("latest", two.run[:5], two.run):
        assert two.ask("run", "show", called, "--to", "us")["run"] == two.run
        assert two.ask("evidence", "show", called)["run"] == two.run
        assert two.ask("recover", "--to", "us", "--resume", called)["run"] == two.run


def test_what_no_run_or_more_than_one_is_called_says_where_they_are_listed(two) -> None:
    error = two.error("run", "show", "nothing", "--to", "us", exits=2)
    assert error["next"] == f"refloat -f {two.manifest} run list --to us"
    assert "no run 'nothing'" in error["message"]
    two.ask("recover", "--to", "us", "--override", "target_primary")
    several = two.error("run", "show", "", "--to", "us", exits=2)
    assert "more than one run begins with" in several["message"]
    assert "more than one run begins with" in two.error("evidence", "show", "", exits=2)["message"]
