"""Verdicts: pass and fail only where noise cannot have decided, unknown everywhere else."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from refloat.manifest.model import Bound
from refloat.verification.judge import (
    NO_BASELINE,
    TOO_FEW,
    describe,
    judge,
    needs_more,
    verified,
)
from refloat.verification.metrics import percentile_interval, rate_interval, wilson
from refloat.verification.model import Baseline, Check, Measurement, Metric
from refloat.verification.reference import Reference

FINE = wilson(0, 1000)


def measured(
    answers: Mapping[str, str] | None = None, *, concurrency: int = 4, **metrics: Metric
) -> Measurement:
    return Measurement(
        component="assistant",
        region="us",
        measured_at=datetime(2026, 1, 1, tzinfo=UTC),
        concurrency=concurrency,
        seconds=10.0,
        metrics={"errors": FINE, **metrics},
        answers=answers or {},
    )


def figure(value: float, low: float | None = None, high: float | None = None, samples: int = 1000) -> Metric:
    return Metric(
        value=value, low=value if low is None else low, high=value if high is None else high, samples=samples
    )


def one(before: Measurement | None, after: Measurement, name: str, **bound: Any) -> Check:
    (check,) = (c for c in judge("assistant", held(before), after, {name: Bound(**bound)}) if c.name == name)
    return check


def held(before: Measurement | None, *changed: str) -> Reference | None:
    """What was measured before as the baseline, since which some things have changed."""
    if before is None:
        return None
    baseline = Baseline(
        component="assistant",
        identities={},
        profile="default",
        region="us",
        measured_at=before.measured_at,
        measurement=before,
    )
    return Reference(baseline, changed)


# ------------------------------------------------------------------------------------------- one bound


@pytest.mark.parametrize(
    ("bound", "low", "high", "verdict"),
    [
        ({"at_most": 1.0}, 0.8, 1.0, "pass"),
        ({"at_most": 1.0}, 0.8, 1.1, "unknown"),
        ({"at_most": 1.0}, 1.01, 1.2, "fail"),
        ({"at_least": 1.0}, 1.0, 1.2, "pass"),
        ({"at_least": 1.0}, 0.9, 1.2, "unknown"),
        ({"at_least": 1.0}, 0.8, 0.99, "fail"),
        ({"at_most": "1.25x"}, 2.0, 2.5, "pass"),
        ({"at_most": "1.25x"}, 2.4, 2.6, "unknown"),
        ({"at_most": "1.25x"}, 2.51, 2.7, "fail"),
        ({"at_least": "0.8x"}, 1.6, 1.9, "pass"),
        ({"at_least": "0.8x"}, 1.5, 1.59, "fail"),
        ({"drop_at_most": 0.1}, 1.9, 2.1, "pass"),
        ({"drop_at_most": 0.1}, 1.85, 1.95, "unknown"),
        ({"drop_at_most": 0.1}, 1.7, 1.8, "fail"),
    ],
)
def test_the_whole_interval_must_keep_to_the_bound(
    bound: dict[str, Any], low: float, high: float, verdict: str
) -> None:
    before = measured(throughput=figure(2.0))
    check = one(before, measured(throughput=figure((low + high) / 2, low, high)), "throughput", **bound)
    assert check.verdict == verdict
    assert check.reason == (TOO_FEW if verdict == "unknown" else "")


def test_the_noise_of_the_baseline_counts_as_much_as_that_of_the_recovery() -> None:
    after = measured(latency_p50=figure(1.2, 1.19, 1.21))
    sharp, blurred = (measured(latency_p50=figure(1.0, 1.0 - by, 1.0 + by)) for by in (0.01, 0.2))
    assert one(sharp, after, "latency_p50", at_most="1.25x").verdict == "pass"
    assert one(blurred, after, "latency_p50", at_most="1.25x").verdict == "unknown"


def test_a_check_says_what_it_compared() -> None:
    check = one(
        measured(throughput=figure(100.0)), measured(throughput=figure(95.0)), "throughput", at_least="0.8x"
    )
    assert check.model_dump() == {
        "name": "throughput", "component": "assistant", "baseline": 100.0, "recovered": 95.0,
        "bound": "at least 0.8x", "samples": 1000, "verdict": "pass", "reason": "", "unit": "",
    }  # fmt: skip
    assert describe(Bound(drop_at_most=0.01)) == "drop at most 0.01"
    assert describe(Bound(at_most=0.25)) == "at most 0.25"


# ------------------------------------------------------------------------------------------- what is missing


def test_without_a_baseline_relative_bounds_are_unknown_and_absolute_ones_are_judged() -> None:
    after = measured({"q": "a"}, latency_p50=figure(0.1), accuracy=wilson(90, 100))
    checks = judge(
        "assistant",
        None,
        after,
        {
            "latency_p50": Bound(at_most="1.25x"),  # type: ignore[arg-type]
            "exact_match": Bound(drop_at_most=0.01),
            "accuracy": Bound(at_least=0.8),
        },
    )
    assert [(c.name, c.verdict) for c in checks] == [
        ("latency_p50", "unknown"), ("exact_match", "unknown"), ("accuracy", "pass"), ("errors", "pass"),
    ]  # fmt: skip
    assert checks[0].reason == checks[1].reason == NO_BASELINE
    assert verified(checks) is None
    assert not needs_more(checks), "more samples do not make a baseline"


def test_a_figure_that_was_not_measured_is_unknown() -> None:
    both = measured(throughput=figure(1.0))
    assert one(both, measured(), "throughput", at_least="0.8x").reason == "it was not measured"
    assert one(measured(), both, "throughput", at_least="0.8x").reason == "the baseline did not measure it"


def test_load_at_another_concurrency_is_not_compared() -> None:
    before = measured(concurrency=8, throughput=figure(1.0), end_to_end=figure(1.0))
    after = measured(concurrency=4, throughput=figure(1.0), end_to_end=figure(1.0))
    check = one(before, after, "throughput", at_least="0.8x")
    assert (check.verdict, check.reason) == (
        "unknown",
        "the baseline was measured with 8 clients, this with 4",
    )
    assert one(before, after, "throughput", at_least=0.5).verdict == "pass"
    assert one(before, after, "end_to_end", at_most="1.25x").verdict == "pass"


def test_a_ratio_of_nothing_says_so() -> None:
    check = one(measured(), measured(), "errors", at_most="2x")
    assert check.verdict == "unknown"
    assert "bound it by a number" in check.reason


def test_a_percentile_that_its_samples_cannot_bound_never_passes() -> None:
    seconds = [0.1] * 300
    few, enough = (measured(latency_p99=percentile_interval(seconds * times, 0.99)) for times in (1, 2))
    assert one(enough, few, "latency_p99", at_most="10x").verdict == "unknown"
    assert one(few, enough, "latency_p99", at_most="10x").verdict == "unknown"
    assert one(enough, enough, "latency_p99", at_most="10x").verdict == "pass"


# ------------------------------------------------------------------------------------------- errors


def test_errors_are_judged_even_where_the_manifest_forgot_them() -> None:
    broken = measured(errors=wilson(100, 1000), latency_p50=figure(0.1))
    checks = judge("assistant", held(broken), broken, {"latency_p50": Bound(at_most="1.25x")})  # type: ignore[arg-type]
    assert [(c.name, c.verdict) for c in checks] == [("latency_p50", "pass"), ("errors", "fail")]
    assert verified(checks) is False
    lenient = judge("assistant", held(broken), broken, {"errors": Bound(at_most=0.5)})
    assert [(c.name, c.verdict, c.bound) for c in lenient] == [("errors", "pass", "at most 0.5")]


def test_where_nothing_was_answered_every_bound_fails() -> None:
    dead = measured(errors=wilson(20, 20))
    before = measured({"q": "a"}, latency_p95=figure(0.1))
    bounds = {"latency_p95": Bound(at_most="9x"), "exact_match": Bound(drop_at_most=0.5)}  # type: ignore[arg-type]
    checks = judge("assistant", held(before), dead, bounds)
    assert {check.verdict for check in checks} == {"fail"}
    assert checks[0].reason == "no question was answered"
    assert not needs_more(checks)


# ------------------------------------------------------------------------------------------- quality


def test_quality_on_the_same_complete_golden_set_is_compared_without_noise() -> None:
    answers = {f"q{i}": "a" for i in range(100)}
    before = measured(answers, recall=wilson(90, 100))
    same, worse = (measured(answers, recall=wilson(right, 100)) for right in (90, 88))
    assert one(before, same, "recall", drop_at_most=0.01).verdict == "pass"
    assert one(before, worse, "recall", drop_at_most=0.01).verdict == "fail"
    assert one(before, worse, "recall", drop_at_most=0.02).verdict == "pass"
    assert one(before, same, "recall", at_least=0.9).verdict == "pass"


def test_quality_on_other_or_unanswered_questions_keeps_its_interval() -> None:
    answers = {f"q{i}": "a" for i in range(100)}
    before = measured(answers, recall=wilson(90, 100))
    other = measured({f"p{i}": "a" for i in range(100)}, recall=wilson(90, 100))
    unanswered = measured(dict.fromkeys(list(answers)[:99], "a"), recall=wilson(90, 100))
    for after in (other, unanswered):
        assert one(before, after, "recall", drop_at_most=0.01).verdict == "unknown"


def test_exact_match_is_the_share_of_the_baselines_answers_that_came_back() -> None:
    before = measured({f"q{i}": f"a{i}" for i in range(100)})
    for changed, verdict in ((0, "pass"), (1, "pass"), (2, "fail")):
        after = measured({f"q{i}": f"a{i}" if i >= changed else "other" for i in range(100)})
        check = one(before, after, "exact_match", drop_at_most=0.01)
        assert (check.baseline, check.recovered, check.verdict) == (1.0, 1 - changed / 100, verdict)
        assert one(before, after, "exact_match", at_least=0.99).verdict == verdict


def test_a_question_that_was_not_answered_is_no_match() -> None:
    before = measured({"q1": "a", "q2": "b"})
    assert one(before, measured({"q1": "a"}), "exact_match", drop_at_most=0.0).recovered == 0.5


def cut(answered: Mapping[str, str], unasked: int, **metrics: Metric) -> Measurement:
    """A measurement that time cut off before the last golden questions of a hundred were asked."""
    left = tuple(f"q{number}" for number in range(100 - unasked, 100))
    return measured(answered, **metrics).model_copy(update={"cut_off": True, "unasked": left})


WHOLE = {f"q{number}": "a" for number in range(100)}


@pytest.mark.parametrize(
    ("unasked", "other", "verdict", "share"),
    [
        (5, 0, "unknown", 1.0),
        (1, 0, "pass", 1.0),
        (5, 2, "fail", 93 / 95),
        (99, 0, "unknown", 1.0),
        (50, 1, "unknown", 49 / 50),
    ],
)
def test_questions_that_there_was_no_time_to_ask_are_no_mismatch(
    unasked: int, other: int, verdict: str, share: float
) -> None:
    """Of a hundred one may differ: it is settled where it is whatever the others would have brought."""
    answered = {name: "b" if n < other else "a" for n, name in enumerate(list(WHOLE)[: 100 - unasked])}
    check = one(
        measured(WHOLE),
        cut(answered, unasked),
        "exact_match",
        drop_at_most=0.01,
    )
    assert (check.verdict, check.recovered, check.samples) == (verdict, share, 100 - unasked)
    assert check.reason == f"there was no time to ask {unasked} of the golden questions"


@pytest.mark.parametrize("bound", [{"drop_at_most": 0.02}, {"at_least": 0.97}])
@pytest.mark.parametrize(
    ("unasked", "wrong", "verdict"),
    [(0, 1, "pass"), (50, 1, "unknown"), (2, 1, "pass"), (2, 2, "unknown"), (50, 4, "fail")],
)
def test_quality_is_not_judged_by_the_questions_that_there_was_time_for_alone(
    bound: dict[str, float], unasked: int, wrong: int, verdict: str
) -> None:
    count = 100 - unasked
    answered = dict.fromkeys(list(WHOLE)[:count], "a")
    before = measured(WHOLE, accuracy=wilson(99, 100))
    check = one(before, cut(answered, unasked, accuracy=wilson(count - wrong, count)), "accuracy", **bound)
    assert check.verdict == verdict
    assert check.reason == (f"there was no time to ask {unasked} of the golden questions" if unasked else "")
    assert check.recovered == (count - wrong) / count


def test_where_there_was_no_time_to_ask_any_question_nothing_has_failed() -> None:
    nothing = measured().model_copy(update={"metrics": {}, "cut_off": True, "unasked": tuple(WHOLE)})
    bounds = {"exact_match": Bound(drop_at_most=0.01), "accuracy": Bound(at_least=0.9)}
    checks = judge("assistant", held(measured(WHOLE, accuracy=wilson(99, 100))), nothing, bounds)
    assert {check.verdict for check in checks} == {"unknown"}
    told = "there was no time to ask 100 of the golden questions"
    assert [check.reason for check in checks] == [told, told, "it was not measured"]
    without = judge("assistant", None, nothing, bounds)
    assert [check.reason for check in without] == [NO_BASELINE, told, "it was not measured"]


def test_exact_match_on_other_questions_is_unknown() -> None:
    check = one(measured({"q1": "a"}), measured({"q2": "a"}), "exact_match", drop_at_most=0.0)
    assert (check.verdict, check.recovered) == ("unknown", None)
    assert "not those of the baseline" in check.reason


# ------------------------------------------------------------------------------------------- the whole


def test_verified_is_true_false_or_not_known() -> None:
    passed, failed, unknown = (
        Check(name="x", component="c", baseline=None, recovered=None, bound="", samples=1, verdict=verdict,
              reason=TOO_FEW if verdict == "unknown" else "")  # type: ignore[arg-type]
        for verdict in ("pass", "fail", "unknown")
    )  # fmt: skip
    assert verified([passed, passed]) is True
    assert verified([passed, failed, unknown]) is False
    assert verified([passed, unknown]) is None
    assert verified([]) is None
    assert needs_more([passed, unknown])
    assert not needs_more([failed, unknown]), "what has failed needs no more samples"
    assert not needs_more([passed])


# ------------------------------------------------------------------------------------------- simulation


TRIALS = 200


def simulated(dice: random.Random, slower: float, samples: int) -> Measurement:
    """An endpoint whose answers take 10 ms and an exponential 10 ms more, times ``slower``."""
    seconds = [slower * (0.01 + dice.expovariate(100)) for _ in range(samples)]
    size = samples // 10
    batches = [sum(seconds[start : start + size]) / size / 4 for start in range(0, samples, size)]
    return measured(
        latency_p50=percentile_interval(seconds, 0.5),
        latency_p95=percentile_interval(seconds, 0.95),
        throughput=rate_interval(batches, samples=samples),
    )


def verdicts(dice: random.Random, slower: float, samples: int, name: str, **bound: str) -> dict[str, float]:
    found = [
        one(simulated(dice, 1.0, samples), simulated(dice, slower, samples), name, **bound).verdict
        for _ in range(TRIALS)
    ]
    return {verdict: found.count(verdict) / TRIALS for verdict in ("pass", "fail", "unknown")}


BOUNDS = [
    ("latency_p50", {"at_most": "1.25x"}),
    ("latency_p95", {"at_most": "1.25x"}),
    ("throughput", {"at_least": "0.8x"}),
]


@pytest.mark.parametrize(("name", "bound"), BOUNDS)
@pytest.mark.parametrize("samples", [20, 300])
def test_a_target_that_is_twice_as_slow_passes_at_most_once_in_a_hundred(
    name: str, bound: dict[str, str], samples: int
) -> None:
    assert verdicts(random.Random(11), 2.0, samples, name, **bound)["pass"] <= 0.01


@pytest.mark.parametrize(("name", "bound"), BOUNDS)
@pytest.mark.parametrize("samples", [20, 300])
def test_an_equal_target_hardly_ever_fails(name: str, bound: dict[str, str], samples: int) -> None:
    assert verdicts(random.Random(12), 1.0, samples, name, **bound)["fail"] <= 0.01


@pytest.mark.parametrize(("name", "bound"), BOUNDS)
def test_a_target_just_at_its_bound_passes_no_more_often_than_2_5_percent(
    name: str, bound: dict[str, str]
) -> None:
    assert (
        verdicts(random.Random(13), 1.25, 300, name, **bound)["pass"] <= 0.05
    )  # 200 trials: 2.5 % and noise


@pytest.mark.parametrize(("name", "bound"), BOUNDS)
def test_with_samples_enough_the_verdict_is_found(name: str, bound: dict[str, str]) -> None:
    dice = random.Random(14)
    assert verdicts(dice, 2.0, 300, name, **bound)["fail"] >= 0.99
    assert verdicts(dice, 1.0, 1200, name, **bound)["pass"] >= 0.95


# ------------------------------------------------------------------------------------------- a near baseline


def beside_near(before: Measurement, after: Measurement, name: str, **bound: Any) -> Check:
    checks = judge("assistant", held(before, "index"), after, {name: Bound(**bound)})
    return next(check for check in checks if check.name == name)


def test_a_near_baseline_lets_speed_pass_and_says_what_has_changed() -> None:
    check = beside_near(
        measured(latency_p95=figure(1.0)), measured(latency_p95=figure(1.1)), "latency_p95", at_most="1.25x"
    )
    assert (check.verdict, check.baseline) == ("pass", 1.0)
    assert check.reason == "beside a near baseline: index changed since the baseline of 2026-01-01T00:00:00Z"


def test_a_near_baseline_never_fails_speed_since_what_changed_may_be_why() -> None:
    check = beside_near(
        measured(throughput=figure(2.0)), measured(throughput=figure(1.0)), "throughput", at_least="0.8x"
    )
    assert check.verdict == "unknown"
    assert check.reason.startswith("not kept beside a near baseline, and index changed")


def test_a_near_baseline_says_nothing_of_quality_and_is_shown() -> None:
    before, after = (measured({"q": "a"}, accuracy=wilson(1, 1)) for _ in range(2))
    check = beside_near(before, after, "accuracy", drop_at_most=0.01)
    assert (check.verdict, check.baseline) == ("unknown", 1.0)
    assert check.reason == "index changed since the baseline of 2026-01-01T00:00:00Z"
    assert beside_near(before, after, "exact_match", drop_at_most=0.01).verdict == "unknown"
    assert beside_near(before, after, "accuracy", at_least=0.9).verdict == "pass"


def test_a_bound_may_be_a_time() -> None:
    slow, quick = measured(latency_p95=figure(0.31)), measured(latency_p95=figure(0.29))
    assert one(None, slow, "latency_p95", at_most="300ms").verdict == "fail"
    check = one(None, quick, "latency_p95", at_most="300ms")
    assert (check.verdict, check.bound) == ("pass", "at most 300ms")


def test_an_absolute_bound_on_quality_is_judged_by_the_golden_answers_alone_whatever_the_baseline_was_asked() -> (
    None
):
    answers = {f"q{i}": "a" for i in range(10)}
    after, other = measured(answers, accuracy=wilson(9, 10)), measured({"p": "a"}, accuracy=wilson(1, 1))
    assert one(None, after, "accuracy", at_least=0.9).verdict == "pass"
    assert one(other, after, "accuracy", at_least=0.9).verdict == "pass"
    assert one(other, after, "accuracy", drop_at_most=0.1).verdict == "unknown"
