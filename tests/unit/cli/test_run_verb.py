"""``refloat run``: what became of each recovery into a region."""

from __future__ import annotations

import pytest


@pytest.fixture
def recovered(desk):
    desk.planned = desk.ask("plan", "--to", "us")["phases"]
    desk.run = desk.ask("recover", "--to", "us")["run"]
    return desk


def test_the_list_has_exactly_these_keys_newest_first(recovered) -> None:
    second = recovered.ask("recover", "--to", "us", "--override", "target_primary")["run"]
    document = recovered.ask("run", "list", "--to", "us")
    assert document.keys() == {"runs"}
    assert [run.keys() for run in document["runs"]] == [{"run", "started_at", "point", "state"}] * 2
    assert [run["run"] for run in document["runs"]] == [second, recovered.run]
    assert {run["state"] for run in document["runs"]} == {"done"}


def test_a_region_into_which_nothing_was_recovered_has_no_runs(desk) -> None:
    assert desk.ask("run", "list", "--to", "us")["runs"] == []


def test_a_run_is_shown_step_by_step(recovered) -> None:
    shown = recovered.ask("run", "show", recovered.run, "--to", "us")
    assert shown.keys() == {"run", "state", "reason", "standing", "steps"}
    assert shown["state"] == "done"
    assert all(step.keys() == {"id", "status", "seconds", "attempts", "error"} for step in shown["steps"])
    assert {step["status"] for step in shown["steps"]} == {"done"}
    assert [step["id"] for step in shown["steps"]] == [
        s["id"] for phase in recovered.planned for s in phase["steps"]
    ]


def test_a_blocked_run_tells_which_step_and_why(desk) -> None:
    run = desk.ask("recover", "--to", "eu", exits=3)["run"]
    shown = desk.ask("run", "show", run, "--to", "eu")
    assert shown["state"] == "blocked"
    failed = {step["id"]: step["error"] for step in shown["steps"] if step["status"] == "failed"}
    assert failed["preflight.check:target:pages"]["rule"] == "target_primary"
    assert not any(step["attempts"] for step in shown["steps"] if step["id"].startswith("activate"))


def test_a_run_that_is_over_is_not_done_again(recovered) -> None:
    (recovered.root / "us" / "pages" / "1.txt").write_text("changed since")
    done = recovered.ask("recover", "--to", "us", "--resume", recovered.run)
    assert (done["run"], done["state"]) == (recovered.run, "done")
    assert recovered.pages("us")["1.txt"] == "changed since"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "nothing", "--to", "us"), "no run 'nothing'"),
        (("list", "--to", "asia"), "'asia'"),
        (("list",), "--to"),
    ],
)
def test_bad_usage_exits_2(desk, arguments: tuple[str, ...], words: str) -> None:
    assert words in desk.error("run", *arguments, exits=2)["message"]


def test_people_read_what_each_step_took(recovered) -> None:
    out = recovered.read("run", "show", recovered.run, "--to", "us")
    assert f"run {recovered.run}: done" in out
    assert "activate.activate:pages" in out
