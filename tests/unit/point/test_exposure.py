from __future__ import annotations

from datetime import UTC, datetime, timedelta

from refloat.point.exposure import Exposure, Held, exposure, worst

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def losing(lost: str, held: list[Held], rpo_s: float = 60) -> Exposure:
    return exposure("answers", lost, "eu", held, NOW, rpo_s)


def test_the_newest_copy_that_remains_counts() -> None:
    held = [
        Held("eu", {"answers": ago(1)}),
        Held("us", {"answers": ago(30)}),
        Held("ap", {"answers": ago(20)}),
    ]
    loss = losing("eu", held)
    assert (loss.seconds, loss.state) == (20, "ok")
    assert "ap" in loss.reason


def test_age_against_the_objective_decides_the_state() -> None:
    for age, state in ((48, "ok"), (49, "warn"), (60, "warn"), (61, "breach")):
        assert losing("eu", [Held("us", {"answers": ago(age)})]).state == state


def test_losing_a_region_where_nothing_runs_costs_nothing() -> None:
    assert losing("us", [Held("eu", {}), Held("us", {})]) == Exposure(0.0, "the pipeline runs in eu", "ok")


def test_with_one_region_its_loss_is_unprotected_and_the_age_is_given() -> None:
    loss = losing("eu", [Held("eu", {"answers": ago(7)})])
    assert (loss.seconds, loss.state) == (7, "unprotected")


def test_a_region_that_does_not_answer_cannot_be_counted_on() -> None:
    assert losing("eu", [Held("eu", {"answers": ago(7)}), Held("us", None)]).state == "unknown"
    assert losing("eu", [Held("us", None), Held("ap", {"answers": ago(5)})]).state == "ok"


def test_the_worst_state_wins() -> None:
    assert worst(["ok", "warn", "unprotected", "breach"]) == "unprotected"
    assert worst([]) == "ok"


def test_a_copy_from_the_future_says_that_clocks_disagree_and_not_that_nothing_is_lost() -> None:
    loss = losing("eu", [Held("us", {"answers": ago(-600)})])
    assert (loss.seconds, loss.state) == (0, "unknown")
    assert "ahead of this clock" in loss.reason
    assert losing("eu", [Held("us", {"answers": ago(-1)})]).state == "ok"
