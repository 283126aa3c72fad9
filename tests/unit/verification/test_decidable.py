"""What no measurement could decide is known before one is taken, by the arithmetic that judges it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from refloat.manifest.model import Verification
from refloat.verification.decidable import too_few_samples, undecidable
from refloat.verification.judge import judge
from refloat.verification.metrics import TRACES, percentile_interval, wilson
from refloat.verification.model import Baseline, Measurement, Metric
from refloat.verification.reference import Reference

QUESTIONS = [f"q{number}" for number in range(1000)]
ANSWERS = dict.fromkeys(QUESTIONS, "a")


def asking(bounds: Mapping[str, Any], samples: int = 300) -> Verification:
    written = {"probe": {"http": ""}, "golden": "", "bounds": bounds, "samples": samples}
    metrics = {
        "accuracy": {"equal": {"expected": "a", "found": "a"}},
        "recall": {"equal": {"expected": "a", "found": "a"}},
    }
    return Verification.model_validate({**written, "metrics": metrics})


def held(answers: Mapping[str, str], *changed: str, concurrency: int = 4, **metrics: Metric) -> Reference:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    measurement = Measurement(
        component="assistant",
        region="us",
        measured_at=at,
        concurrency=concurrency,
        seconds=10.0,
        metrics={"errors": wilson(0, 1000), **metrics},
        answers=answers,
    )
    baseline = Baseline(
        component="assistant",
        identities={},
        profile="default",
        region="us",
        measured_at=at,
        measurement=measurement,
    )
    return Reference(baseline, changed)


def flat(value: float) -> Metric:
    return Metric(value=value, low=value, high=value, samples=1000)


BOUNDS: dict[str, dict[str, Any]] = {
    "latency_p50": {"at_most": "1.25x"},
    "latency_p95": {"at_most": "2s"},
    "throughput": {"at_least": "0.8x"},
    "end_to_end": {"at_most": "2x"},
    "accuracy": {"drop_at_most": 0.01},
    "recall": {"at_least": 0.5},
    "exact_match": {"drop_at_most": 0.01},
    "errors": {"at_most": "2x"},
}
FULL = {
    **{name: flat(0.2) for name in ("latency_p50", "latency_p95", "throughput", "end_to_end", "errors")},
    **{name: flat(1.0) for name in ("accuracy", "recall")},
}


@pytest.mark.parametrize(
    "reference",
    {
        "none": None,
        "exact": held(ANSWERS, **FULL),
        "near": held(ANSWERS, "index", **FULL),
        "of other questions": held({"other": "a"}, **FULL),
        "with other clients": held(ANSWERS, concurrency=8, **FULL),
        "of nothing": held(ANSWERS),
    }.items(),
    ids=lambda named: named[0],
)
def test_what_is_undecidable_is_just_what_no_measurement_decides(
    reference: tuple[str, Reference | None],
) -> None:
    """With a measurement that keeps every bound, nothing else is unknown."""
    asked = asking(BOUNDS)
    known = undecidable(reference[1], asked, QUESTIONS)
    checks = judge("assistant", reference[1], held(ANSWERS, **FULL).baseline.measurement, asked.bounds)
    assert {check.name: check.reason for check in checks if check.verdict == "unknown"} == known


def test_a_percentile_that_the_samples_of_the_baseline_cannot_bound_is_told_with_the_samples_that_would_do() -> (
    None
):
    few, enough = (held({}, latency_p99=percentile_interval([0.1] * count, 0.99)) for count in (367, 368))
    for samples, remedy in ((300, ": `samples` must be 368 or more"), (368, "")):
        asked = asking({"latency_p99": {"at_most": "2x"}}, samples)
        assert undecidable(few, asked, ["q"]) == {
            "latency_p99": f"the baseline's 367 samples are too few to tell{remedy}"
        }
        assert undecidable(enough, asked, ["q"]) == {}


def test_samples_are_counted_with_those_that_are_taken_where_noise_would_decide() -> None:
    """A recovery takes four times as many, and no more: 368 bound the 99th percentile."""
    asked = asking({"latency_p99": {"at_most": "300ms"}}, 91)
    assert undecidable(None, asked, ["q"]) == {
        "latency_p99": "364 samples are too few to tell: `samples` must be 92 or more"
    }
    assert undecidable(None, asking({"latency_p99": {"at_most": "300ms"}}, 92), ["q"]) == {}
    assert undecidable(None, asked, QUESTIONS) == {}, (
        "every golden question is asked once, and these are more"
    )


@pytest.mark.parametrize("limit", [0.01, 0.001])
def test_what_would_do_is_found_by_the_interval_itself(limit: float) -> None:
    """No question fails, and the upper end of Wilson's interval must keep to the bound all the same."""
    bounds = {"errors": {"at_most": limit}}
    (told,) = too_few_samples(asking(bounds, 20), ["q"]).values()
    enough = int(told.split("must be ")[1].split()[0])
    for samples, keeps in ((enough, True), (enough - 1, False)):
        assert (wilson(0, 4 * samples + 4 * TRACES).high <= limit) is keeps
        assert (too_few_samples(asking(bounds, samples), ["q"]) == {}) is keeps


def test_a_bound_that_no_number_of_samples_could_decide_says_so() -> None:
    found = too_few_samples(asking({"errors": {"at_most": 0}}), ["q"])
    assert found == {"errors": "1280 samples are too few to tell, and no number of `samples` would do"}


def test_a_relative_percentile_needs_the_samples_in_the_baseline_which_takes_them_once() -> None:
    bounds = {
        "latency_p99": {"at_most": "2x"},
        "latency_p95": {"at_most": "2x"},
        "throughput": {"at_least": "0.8x"},
    }
    assert too_few_samples(asking(bounds, 300), ["q"]) == {
        "latency_p99": "the baseline's 300 samples are too few to tell: `samples` must be 368 or more"
    }
    assert too_few_samples(asking(bounds, 368), ["q"]) == {}
    assert too_few_samples(asking(BOUNDS, 300), ["q"]) == {}, (
        "quality is judged by every golden question, however few"
    )


def test_quality_beside_a_baseline_that_lacks_answers_may_have_too_few_questions() -> None:
    questions = QUESTIONS[:100]
    before = held(dict.fromkeys(questions[1:], "a"), accuracy=wilson(99, 100))
    asked = asking({"accuracy": {"drop_at_most": 0.01}, "recall": {"at_least": 1.0}})
    assert undecidable(before, asked, questions) == {
        "accuracy": "100 golden questions are too few to tell where the baseline answers 99 of them"
    }


def test_a_near_baseline_of_too_few_samples_is_told_too() -> None:
    near = held(ANSWERS, "index", latency_p95=percentile_interval([0.1] * 20, 0.95))
    told = undecidable(near, asking({"latency_p95": {"at_most": "2x"}}), QUESTIONS)
    assert told == {"latency_p95": "the baseline's 20 samples are too few to tell"}
