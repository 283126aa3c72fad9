"""The figures: intervals that cover what they say they cover, and quality as the manifest describes it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat.contracts import Answer, Question
from refloat.errors import ManifestError
from refloat.verification.metrics import (
    accuracy,
    percentile_interval,
    quality,
    rate_interval,
    recall_at_k,
    samples_needed,
    wilson,
)

SECONDS = st.lists(st.floats(0, 1e6), min_size=1, max_size=200)


# ------------------------------------------------------------------------------------------- percentiles


@pytest.mark.parametrize(("count", "low", "high"), [(10, 2, 9), (20, 6, 15), (30, 10, 21)])
def test_a_median_lies_between_the_order_statistics_of_the_tables(count: int, low: int, high: int) -> None:
    metric = percentile_interval(list(range(1, count + 1)), 0.5)
    assert (metric.low, metric.value, metric.high) == (low, count // 2, high)
    assert (metric.samples, metric.unit) == (count, "s")


@pytest.mark.parametrize(("q", "count"), [(0.5, 6), (0.95, 72), (0.99, 368)])
def test_so_many_samples_are_needed_to_bound_a_percentile(q: float, count: int) -> None:
    assert samples_needed(q) == count
    assert 1 - q**count >= 0.975 > 1 - q ** (count - 1)


@pytest.mark.parametrize(("q", "count"), [(0.5, 40), (0.95, 300), (0.99, 1200)])
def test_the_interval_covers_the_true_percentile_19_times_in_20(q: float, count: int) -> None:
    dice = random.Random(7)
    covered = 0
    for _ in range(400):
        metric = percentile_interval([dice.random() for _ in range(count)], q)
        covered += metric.low <= q <= metric.high
    assert 0.93 <= covered / 400 <= 0.995


@given(SECONDS, st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_one_of_its_samples_inside_its_interval(samples: list[float], q: float) -> None:
    metric = percentile_interval(samples, q)
    assert {metric.value, metric.low, metric.high} <= set(samples)
    assert metric.low <= metric.value <= metric.high


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentile_interval([], 0.5)


# ------------------------------------------------------------------------------------------- shares and rates


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263
    metric = wilson(81, 263)
    assert (round(metric.low, 4), round(metric.high, 4)) == (0.2553, 0.3662)


def test_no_failure_among_few_is_no_proof_of_none() -> None:
    assert wilson(0, 20).high == pytest.approx(0.1611, abs=1e-4)
    assert wilson(0, 20).low == 0.0
    assert wilson(20, 20).high == 1.0


@given(st.integers(1, 5000), st.floats(0, 1))
def test_a_share_lies_in_its_interval_between_0_and_1(count: int, share: float) -> None:
    metric = wilson(share * count, count)
    assert 0 <= metric.low <= metric.value <= metric.high <= 1


def test_a_rate_covers_the_true_one_19_times_in_20() -> None:
    dice = random.Random(3)
    covered = 0
    for _ in range(400):
        batches = [sum(dice.expovariate(50) for _ in range(30)) / 30 for _ in range(10)]
        metric = rate_interval(batches, samples=300)
        covered += metric.low <= 50 <= metric.high
    assert 0.92 <= covered / 400 <= 0.98


@given(st.lists(st.floats(1e-6, 10), min_size=2, max_size=60))
def test_a_rate_lies_in_its_interval(batches: list[float]) -> None:
    metric = rate_interval(batches, samples=100)
    assert 0 < metric.low <= metric.value * (1 + 1e-9)
    assert metric.value <= metric.high * (1 + 1e-9)


def test_more_batches_make_a_narrower_rate() -> None:
    few, many = (rate_interval([0.01, 0.02] * count, samples=1) for count in (3, 30))
    assert many.high - many.low < few.high - few.low
    with pytest.raises(ValueError, match="two batches"):
        rate_interval([0.01], samples=1)


# ------------------------------------------------------------------------------------------- quality


def test_recall_counts_what_was_expected_among_the_first_k() -> None:
    assert recall_at_k(["a", "b"], ["x", "a", "b"], 2) == 0.5
    assert recall_at_k(["a"], ["a", "a"], 5) == 1.0
    assert recall_at_k(["a"], [], 5) == 0.0
    assert recall_at_k([], ["a"], 5) == 1.0


def test_accuracy_is_all_or_nothing() -> None:
    assert accuracy({"a": 1, "b": 2}, {"b": 2, "a": 1}) == 1.0
    assert accuracy("types", None) == 0.0
    assert accuracy(1, True) == 0.0


def answered(expected: dict[str, object], response: dict[str, object]) -> Answer:
    return Answer(Question("q1", {}, expected), 0.1, response)  # type: ignore[arg-type]


def test_metrics_are_found_where_the_manifest_says() -> None:
    scoring = quality(
        {
            "recall_at_2": {"recall": {"expected": "passages", "found": "result.ids", "k": 2}},
            "accuracy": {"equal": {"expected": "topic", "found": "result.topic"}},
            "exact_match": {"same": ["result.topic"]},
        }
    )
    answer = answered({"passages": "p2", "topic": "types"}, {"result": {"ids": ["p1", "p2"], "topic": "os"}})
    assert {name: score(answer) for name, score in scoring.scores.items()} == {
        "recall_at_2": 1.0,
        "accuracy": 0.0,
    }


def test_answers_are_the_same_when_the_named_fields_are() -> None:
    scoring = quality({"exact_match": {"same": ["topic", "ids"]}})
    first, later, other, lacking = (
        scoring.digest(answered({}, response))
        for response in (
            {"topic": "os", "ids": [1], "seconds": 0.1},
            {"ids": [1], "seconds": 0.2, "topic": "os"},
            {"topic": "os", "ids": [2]},
            {"topic": "os"},
        )
    )
    assert first == later
    assert len({first, other, lacking}) == 3


def test_without_named_fields_the_whole_response_must_be_the_same() -> None:
    scoring = quality({})
    assert scoring.digest(answered({}, {"a": 1})) != scoring.digest(answered({}, {"a": 1, "b": 2}))


@pytest.mark.parametrize(
    ("name", "spec", "why"),
    [
        ("recall", {"recall": {"expected": "a", "found": "b"}}, "metrics.recall.recall.k"),
        ("recall", {"recall": {"expected": "a", "found": "b", "k": 0}}, "metrics.recall.recall.k"),
        ("accuracy", {"equals": {"expected": "a", "found": "b"}}, "metrics.accuracy.equals"),
        ("accuracy", {}, "exactly one of recall, equal, same"),
        ("both", {"equal": {"expected": "a", "found": "b"}, "same": ["a"]}, "exactly one"),
        ("exact_match", {"same": []}, "metrics.exact_match.same"),
        ("exact_match", {"equal": {"expected": "a", "found": "b"}}, "belong together"),
        ("likeness", {"same": ["a"]}, "belong together"),
        ("errors", {"equal": {"expected": "a", "found": "b"}}, "choose another"),
    ],
)
def test_a_wrong_metric_is_named(name: str, spec: dict[str, object], why: str) -> None:
    with pytest.raises(ManifestError, match="metrics") as caught:
        quality({name: spec})  # type: ignore[dict-item]
    assert why in caught.value.message


def test_a_question_that_expects_nothing_of_a_metric_is_named_before_any_is_asked() -> None:
    scoring = quality({"accuracy": {"equal": {"expected": "topic", "found": "topic"}}})
    scoring.fits([Question("q1", {}, {"topic": "os"})])
    with pytest.raises(ManifestError, match="'q2' expects no 'topic'"):
        scoring.fits([Question("q1", {}, {"topic": "os"}), Question("q2", {}, {})])
