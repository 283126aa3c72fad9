"""What is measured, as pure arithmetic: figures with their 95 % intervals, and the quality of answers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from refloat.contracts import Answer, Question
from refloat.digest import Json, json_digest
from refloat.errors import ManifestError
from refloat.manifest.model import Time, Verification
from refloat.manifest.parse import Mistake, complaint, dotted
from refloat.verification.model import Metric

Z = 1.959964  # the normal quantile of a two-sided 95 % interval
TAIL = 0.025  # what a 95 % interval leaves out on either side

LATENCIES = {"latency_p50": 0.50, "latency_p95": 0.95, "latency_p99": 0.99}
END_TO_END, THROUGHPUT, ERRORS = "end_to_end", "throughput", "errors"
QUANTILES = {**LATENCIES, END_TO_END: 0.50}
EXACT_MATCH = "exact_match"
"""The quality metric that compares answers with the baseline's own."""

SAMPLES_FACTOR_MAX = 4  # how many times the samples asked for are taken where noise would decide
TRACES = 20  # single questions followed end to end, in each round

LOAD_METRICS = frozenset({*LATENCIES, END_TO_END, THROUGHPUT, ERRORS})

# ------------------------------------------------------------------------------------------- intervals


def percentile_interval(samples: Sequence[float], q: float, *, unit: str = "s") -> Metric:
    """The ``q`` quantile with an interval between two order statistics, right for any distribution.

    The number of samples below the true quantile is binomial (David and Nagaraja, Order Statistics, 7.1).
    With fewer than ``samples_needed(q)`` samples nothing bounds the quantile on one side: the interval then
    ends at the smallest or largest sample and covers less than 95 %. Raises ``ValueError`` for no samples.
    """
    if not samples:
        raise ValueError("a percentile of no samples")
    ordered = sorted(samples)
    count = len(ordered)
    value = ordered[max(0, math.ceil(q * count) - 1)]
    low, high = _order_statistics(count, q)
    return Metric(value=value, low=ordered[low], high=ordered[high], samples=count, unit=unit)


def samples_needed(q: float) -> int:
    """The fewest samples whose extremes bound the ``q`` quantile from both sides at 95 %."""
    return math.ceil(math.log(TAIL) / math.log(max(q, 1 - q)))


def samples_wanted(samples: int, questions: int) -> int:
    """How many answers a measurement takes at least where time does not cut it off: every question comes once."""
    return max(samples, questions)


def _order_statistics(count: int, q: float) -> tuple[int, int]:
    """Indices of the samples that bound the quantile, each missing it with at most 2.5 %."""
    below, low, high = 0.0, 0, count - 1
    for index in range(count):  # `below`: the chance that at most `index` samples lie under the quantile
        below += math.exp(_log_binomial(count, index, q))
        if below <= TAIL:
            low = index
        if below >= 1 - TAIL:
            high = index
            break
    return low, high


def _log_binomial(count: int, k: int, q: float) -> float:
    choose = math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
    return choose + k * math.log(q) + (count - k) * math.log1p(-q)


def wilson(successes: float, count: int) -> Metric:
    """A share with Wilson's score interval (J. Am. Stat. Assoc. 22, 1927); sound at 0 and at 1.

    ``successes`` may be a sum of part scores between 0 and 1. Raises ``ValueError`` for a count of nothing.
    """
    if count <= 0:
        raise ValueError("a share of nothing")
    share, weight = successes / count, Z * Z / count
    centre = (share + weight / 2) / (1 + weight)
    half = Z / (1 + weight) * math.sqrt(share * (1 - share) / count + weight / (4 * count))
    low, high = max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))
    return Metric(value=share, low=low, high=high, samples=count)


def rate_interval(batches: Sequence[float], *, samples: int) -> Metric:
    """A rate with its interval by batch means: ``batches`` are mean seconds per answer of equal batches.

    Batches hide the dependence between one answer and the next (Law and Kelton, Simulation Modeling, 9.5).
    Raises ``ValueError`` for fewer than two.
    """
    count = len(batches)
    if count < 2:
        raise ValueError("an interval by batch means needs two batches")
    mean = math.fsum(batches) / count
    variance = math.fsum((batch - mean) ** 2 for batch in batches) / (count - 1)
    half = _student(count - 1) * math.sqrt(variance / count)
    slowest, fastest = mean + half, mean - half
    high = 1 / fastest if fastest > 0 else 1 / min(batches)
    return Metric(value=1 / mean, low=1 / slowest, high=high, samples=samples, unit="1/s")


_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def _student(freedom: int) -> float:
    """Student's two-sided 95 % quantile; beyond the table by its expansion (Abramowitz and Stegun 26.7.5)."""
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    return Z + (Z**3 + Z) / (4 * freedom) + (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * freedom**2)


# ------------------------------------------------------------------------------------------- quality


def recall_at_k(expected: Sequence[Json], found: Sequence[Json], k: int) -> float:
    """The share of ``expected`` that is among the first ``k`` of ``found``; 1 where nothing is expected."""
    wanted = {json_digest(one) for one in expected}
    seen = {json_digest(one) for one in found[:k]}
    return len(wanted & seen) / len(wanted) if wanted else 1.0


def accuracy(expected: Json, found: Json) -> float:
    """1 where the answer is the expected one, else 0."""
    return float(json_digest(expected) == json_digest(found))


class _Score(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Recall(_Score):
    expected: str
    found: str
    k: int = Field(ge=1)


class _Equal(_Score):
    expected: str
    found: str


class _Quality(_Score):
    """One entry of ``metrics`` in the manifest: exactly one way of scoring."""

    recall: _Recall | None = None
    equal: _Equal | None = None
    same: tuple[str, ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one(self) -> _Quality:
        if sum(way is not None for way in (self.recall, self.equal, self.same)) != 1:
            raise ValueError("give exactly one of recall, equal, same")
        return self


Score = Callable[[Answer], float]
"""How good one answer is, from 0 to 1."""


class Quality(BaseModel):
    """How answers are scored: ``scores`` by metric, and the fields that make two answers the same."""

    model_config = ConfigDict(frozen=True)

    scores: Mapping[str, Score]
    same: tuple[str, ...] = ()

    def fits(self, questions: Sequence[Question]) -> None:
        """Raise ``ManifestError`` for a question that lacks what a metric expects of it."""
        for question in questions:
            for score in self.scores.values():
                score(Answer(question, None, {}))

    def digest(self, answer: Answer) -> str:
        """What must be equal for two answers to be the same; of the whole response where nothing is named."""
        named = {field: _at(answer.response, field) for field in self.same}
        return json_digest(named or dict(answer.response))


def quality(metrics: Mapping[str, Mapping[str, Json]]) -> Quality:
    """The quality metrics of a manifest. Raises ``ManifestError`` naming the metric.

    ``{recall: {expected: FIELD, found: FIELD, k: 5}}`` is recall at k, ``{equal: {expected: FIELD, found:
    FIELD}}`` accuracy, and ``{same: [FIELD, ...]}``, under the name ``exact_match`` alone, the fields of an
    answer that must be as they were. ``expected`` is a field of the golden question, ``found`` of the
    response; ``a.b`` is a field within a field.
    """
    parsed = {name: _parse(name, spec) for name, spec in metrics.items()}
    same = parsed[EXACT_MATCH].same if EXACT_MATCH in parsed else None
    scores = {name: _score(name, spec) for name, spec in parsed.items() if spec.same is None}
    return Quality(scores=scores, same=same or ())


_WAYS = "write {recall: {expected: a, found: b, k: 5}}, {equal: {expected: a, found: b}} or {same: [a]}"


def mistakes(asked: Verification) -> Iterator[Mistake]:
    """What is wrong with the metrics and bounds of a verification, at paths that start at it."""
    for name, spec in asked.metrics.items():
        yield from _mistakes(name, spec)
    known = [*QUANTILES, THROUGHPUT, ERRORS, EXACT_MATCH, *asked.metrics]
    for name, bound in asked.bounds.items():
        path = ("bounds", name)
        if isinstance(bound.at_most or bound.at_least, Time) and name not in QUANTILES:
            yield Mistake(path, "a time bounds what is not measured in seconds", "write a number", key=True)
        if name not in known:
            yield Mistake(path, f"nothing measures {name[:80]!r}", key=True, known=known, word=name)


def _parse(name: str, spec: Mapping[str, Json]) -> _Quality:
    for mistake in _mistakes(name, spec):
        raise ManifestError(
            f"{dotted(mistake.path)}: {mistake.message}", path=mistake.path, next=mistake.advice or _WAYS
        )
    return _Quality.model_validate(dict(spec))


def _mistakes(name: str, spec: Mapping[str, Json]) -> Iterator[Mistake]:
    path = ("metrics", name)
    try:
        parsed = _Quality.model_validate(dict(spec))
    except ValidationError as error:
        yield from (_refusal(path, detail) for detail in error.errors(include_url=False))
        return
    if name in LOAD_METRICS:
        yield Mistake(path, "this name is measured by the load itself; choose another", _WAYS, key=True)
    elif (parsed.same is not None) != (name == EXACT_MATCH):
        yield Mistake(path, f"`same` and the name `{EXACT_MATCH}` belong together", _WAYS, key=True)


def _refusal(path: tuple[str, ...], detail: ErrorDetails) -> Mistake:
    where, kind = (*path, *detail["loc"]), detail["type"]
    if kind == "missing":
        return Mistake(where, "is missing", _WAYS)
    if kind == "extra_forbidden":
        word, known = str(detail["loc"][-1]), _known_beside(detail["loc"])
        return Mistake(where, f"unknown key {word[:80]!r}", key=True, known=known, word=word)
    words, hint = complaint(detail)
    return Mistake(where, words, hint or _WAYS)


def _known_beside(location: tuple[int | str, ...]) -> list[str]:
    """The keys that could stand where a metric has one that is not known."""
    ways: Mapping[str, type[BaseModel]] = {"recall": _Recall, "equal": _Equal}
    return list((ways[str(location[0])] if location[1:] else _Quality).model_fields)


def _score(name: str, spec: _Quality) -> Score:
    if spec.recall is not None:
        return functools.partial(_recall_of, name, spec.recall)
    assert spec.equal is not None  # the model allows exactly one, and `same` has no score of its own
    return functools.partial(_accuracy_of, name, spec.equal)


def _recall_of(name: str, spec: _Recall, answer: Answer) -> float:
    expected = _listed(_expected(name, answer, spec.expected))
    return recall_at_k(expected, _listed(_at(answer.response, spec.found)), spec.k)


def _accuracy_of(name: str, spec: _Equal, answer: Answer) -> float:
    return accuracy(_expected(name, answer, spec.expected), _at(answer.response, spec.found))


def _expected(name: str, answer: Answer, field: str) -> Json:
    expected = _at(answer.question.expected, field)
    if expected is None:
        raise ManifestError(
            f"metrics.{name}: the golden question {answer.question.id!r} expects no {field!r}",
            next="correct the golden set or the metric's `expected`",
        )
    return expected


def _at(document: Json, field: str) -> Json:
    """The value of a field, ``a.b`` within a field; None where there is none."""
    for part in field.split("."):
        document = document.get(part) if isinstance(document, Mapping) else None
    return document


def _listed(value: Json) -> Sequence[Json]:
    if value is None:
        return ()
    return value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
