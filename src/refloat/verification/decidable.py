"""What no measurement could decide: each bound held against the best that could be measured, before any is."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import UTC, datetime

from refloat.manifest.model import SAMPLES_MAX, Verification
from refloat.verification import judge
from refloat.verification.metrics import (
    END_TO_END,
    ERRORS,
    LATENCIES,
    LOAD_METRICS,
    SAMPLES_FACTOR_MAX,
    THROUGHPUT,
    TRACES,
    samples_wanted,
    wilson,
)
from refloat.verification.model import Baseline, Check, Measurement, Metric
from refloat.verification.reference import Reference

LEAST, MOST = 1e-6, 1e9  # seconds, or answers a second, beyond which nothing answers

Doubts = dict[str, str]
"""The bounds of a component that can never be found to be kept, each with the reason."""


def undecidable(reference: Reference | None, asked: Verification, questions: Collection[str]) -> Doubts:
    """The bounds of a component that can never be found to be kept beside ``reference``, each with the reason.

    ``questions`` are the ids of the golden set. It is what the judge says of the best that could be measured: right
    answers to all of them, in no time, and as many samples as are ever taken.
    """
    checks = {name: _of_best(reference, asked, name, questions) for name in asked.bounds}
    return {
        name: _reason(check, reference, asked, questions)
        for name, check in checks.items()
        if check.verdict == "unknown"
    }


def too_few_samples(asked: Verification, questions: Collection[str]) -> Doubts:
    """The bounds for which ``samples`` are too few, whatever the baseline, each with the reason."""
    return undecidable(_ideal(asked, questions), asked, questions)


def _reason(
    check: Check, reference: Reference | None, asked: Verification, questions: Collection[str]
) -> str:
    if check.reason != judge.TOO_FEW:
        return check.reason
    if check.name not in LOAD_METRICS:
        return _few_questions(reference, questions)
    remedy = _remedy(asked, check.name, questions)
    if reference and _of_best(_sharpened(reference), asked, check.name, questions).verdict == "pass":
        count = reference.baseline.measurement.metrics[check.name].samples
        return f"the baseline's {count} samples are too few to tell{remedy}"
    return f"{check.samples} samples are too few to tell{remedy}"


def _few_questions(reference: Reference | None, questions: Collection[str]) -> str:
    """Quality is compared without noise where the baseline answers every question, so some are not answered there."""
    count = len(questions)
    answered = set(questions) & set(reference.baseline.measurement.answers if reference else ())
    beside = f" where the baseline answers {len(answered)} of them" if len(answered) < count else ""
    return f"{count} golden questions are too few to tell{beside}"


def _remedy(asked: Verification, name: str, questions: Collection[str]) -> str:
    """How many ``samples`` would do, where it is these that are too few."""
    enough = _enough(asked, name, questions)
    if enough == asked.samples:
        return ""
    return f": `samples` must be {enough} or more" if enough else ", and no number of `samples` would do"


def _enough(asked: Verification, name: str, questions: Collection[str]) -> int | None:
    """The fewest ``samples``, from those of the manifest on, with which a bound could be decided; None for none."""

    def would_do(samples: int) -> bool:
        more = asked.model_copy(update={"samples": samples})
        return _of_best(_ideal(more, questions), more, name, questions).verdict != "unknown"

    low, high = asked.samples, SAMPLES_MAX
    if not would_do(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if would_do(middle) else (middle + 1, high)
    return low


# ------------------------------------------------------------------------------------------- the best there is


def _of_best(
    reference: Reference | None, asked: Verification, name: str, questions: Collection[str]
) -> Check:
    """What is judged of the best that could be measured in a recovery."""
    bound = asked.bounds[name]
    first = samples_wanted(asked.samples, len(questions))
    most = max(first, asked.samples * SAMPLES_FACTOR_MAX)
    rounds = 1 + math.ceil((most - first) / asked.samples)
    same = {} if reference is None else reference.baseline.measurement.answers
    answers = {question: same.get(question, "") for question in questions}
    best = _measured(asked, MOST if bound.at_most is None else LEAST, most, TRACES * rounds, answers)
    return next(c for c in judge.judge("", reference, best, {name: bound}) if c.name == name)


def _ideal(asked: Verification, questions: Collection[str]) -> Reference:
    """The best baseline that ``samples`` give: of as many, and without noise."""
    count = samples_wanted(asked.samples, len(questions))
    made = _measured(asked, 1.0, count, TRACES, dict.fromkeys(questions, ""))
    metrics = {**made.metrics, ERRORS: made.metrics[THROUGHPUT]}  # a ratio of no errors would be none
    baseline = Baseline(
        component="",
        identities={},
        profile="",
        region="",
        measured_at=made.measured_at,
        measurement=made.model_copy(update={"metrics": metrics}),
    )
    return Reference(baseline)


def _sharpened(reference: Reference) -> Reference:
    """A reference as if its baseline had been measured without end."""
    measured = reference.baseline.measurement
    sharp = {
        name: metric.model_copy(update={"low": metric.value, "high": metric.value, "samples": SAMPLES_MAX})
        for name, metric in measured.metrics.items()
    }
    baseline = reference.baseline.model_copy(
        update={"measurement": measured.model_copy(update={"metrics": sharp})}
    )
    return Reference(baseline, reference.changed)


def _measured(
    asked: Verification, figure: float, samples: int, traces: int, answers: dict[str, str]
) -> Measurement:
    """A measurement without noise of its own but for shares: theirs is what so many samples leave."""

    def flat(count: int) -> Metric:
        return Metric(value=figure, low=figure, high=figure, samples=count)

    right = len(answers) if figure >= 1 else 0
    return Measurement(
        component="",
        region="",
        measured_at=datetime.min.replace(tzinfo=UTC),
        concurrency=asked.concurrency,
        seconds=0.0,
        metrics={
            **{name: flat(samples) for name in (*LATENCIES, THROUGHPUT)},
            END_TO_END: flat(traces),
            ERRORS: wilson(0, samples + traces),
            **({name: wilson(right, len(answers)) for name in asked.metrics} if answers else {}),
        },
        answers=answers,
    )
