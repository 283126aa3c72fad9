"""The verdict on each bound: pass, fail, or too close to tell from so many samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from refloat.manifest.model import Bound, Ratio
from refloat.verify.metrics import (
    END_TO_END,
    ERRORS,
    EXACT_MATCH,
    LOAD_METRICS,
    QUANTILES,
    samples_needed,
)
from refloat.verify.model import Check, Measurement, Metric

ERRORS_SHARE_MAX = 0.05  # more unanswered questions than this is no recovery, whatever the manifest says
TOO_FEW = "too few samples to tell"
NO_BASELINE = "there is no baseline to compare with"
ROUNDING = 1e-9  # two sums of the same figures in another order

Verdict = Literal["pass", "fail", "unknown"]


@dataclass(frozen=True)
class _Ask:
    """One bound on one metric of one component, with both measurements."""

    component: str
    name: str
    bound: Bound
    before: Measurement | None
    after: Measurement
    reason: str


def judge(
    component: str,
    baseline: Measurement | None,
    recovered: Measurement,
    bounds: Mapping[str, Bound],
    *,
    reason: str = "",
) -> list[Check]:
    """A check for each bound, in the manifest's order.

    A bound passes when the whole 95 % interval of what it compares keeps to it, fails when the whole
    interval breaks it, and is unknown otherwise. Quality is compared without an interval where both sides
    answered the same questions completely. Without a baseline, which ``reason`` explains, bounds that are
    relative to it are unknown. Where the manifest gives no bound on ``errors``, at most 5 % may fail.
    """
    implied = {} if ERRORS in bounds else {ERRORS: Bound(at_most=ERRORS_SHARE_MAX)}
    return [
        _check(_Ask(component, name, bound, baseline, recovered, reason or NO_BASELINE))
        for name, bound in {**bounds, **implied}.items()
    ]


def needs_more(checks: Sequence[Check]) -> bool:
    """Whether some verdict may be found with more samples, and none has failed already."""
    return any(check.reason == TOO_FEW for check in checks) and verified(checks) is None


def verified(checks: Sequence[Check]) -> bool | None:
    """True when every bound passes, False when any fails, None while any is unknown or none was judged."""
    verdicts = {check.verdict for check in checks}
    if "fail" in verdicts:
        return False
    return True if verdicts == {"pass"} else None


def describe(bound: Bound) -> str:
    """A bound in words: ``at most 1.25x``, ``at least 0.9``, ``drop at most 0.01``."""
    if bound.drop_at_most is not None:
        return f"drop at most {bound.drop_at_most:g}"
    word, limit = ("at most", bound.at_most) if bound.at_most is not None else ("at least", bound.at_least)
    return f"{word} {limit.of_baseline:g}x" if isinstance(limit, Ratio) else f"{word} {limit:g}"


# --------------------------------------------------------------------------------------------- one check


def _check(ask: _Ask) -> Check:
    after = _after(ask)
    before = _before(ask)
    verdict, reason = _verdict(ask, before, after)
    return Check(
        name=ask.name,
        component=ask.component,
        baseline=None if before is None else before.value,
        recovered=None if after is None else after.value,
        bound=describe(ask.bound),
        samples=0 if after is None else after.samples,
        verdict=verdict,
        reason=reason,
        unit="" if after is None else after.unit,
    )


def _verdict(ask: _Ask, before: Metric | None, after: Metric | None) -> tuple[Verdict, str]:
    if _all_failed(ask.after):
        return "fail", "no question was answered"
    if ask.name == EXACT_MATCH and ask.before is not None and after is None:
        return "unknown", "the golden questions are not those of the baseline"
    if after is None:
        return ("unknown", ask.reason) if ask.name == EXACT_MATCH else ("unknown", "it was not measured")
    if not _is_relative(ask.bound):
        return _settled(_excess(ask.bound, None, after))
    if before is None:
        return "unknown", ask.reason if ask.before is None else "the baseline did not measure it"
    if ask.before is not None and _is_load(ask.name) and ask.before.concurrency != ask.after.concurrency:
        asked = f"{ask.before.concurrency} clients, this with {ask.after.concurrency}"
        return "unknown", f"the baseline was measured with {asked}"
    if before.value == 0 and _is_ratio(ask.bound):
        return "unknown", "the baseline is 0: bound it by a number, not by a ratio"
    return _settled(_excess(ask.bound, before, after))


def _all_failed(measured: Measurement) -> bool:
    errors = measured.metrics.get(ERRORS)
    return errors is not None and errors.value >= 1


def _is_ratio(bound: Bound) -> bool:
    return isinstance(bound.at_most, Ratio) or isinstance(bound.at_least, Ratio)


def _is_relative(bound: Bound) -> bool:
    return bound.drop_at_most is not None or _is_ratio(bound)


def _is_load(name: str) -> bool:
    return name in LOAD_METRICS and name not in (END_TO_END, ERRORS)  # end to end is one question at a time


# --------------------------------------------------------------------------------------------- the figures


def _after(ask: _Ask) -> Metric | None:
    if ask.name == EXACT_MATCH:
        return _matching(ask.before, ask.after)
    return _bounded(ask.name, _collapsed(ask, ask.after, ask.after.metrics.get(ask.name)))


def _before(ask: _Ask) -> Metric | None:
    if ask.before is None:
        return None
    if ask.name == EXACT_MATCH:
        return _exactly(1.0, len(ask.before.answers))
    return _bounded(ask.name, _collapsed(ask, ask.before, ask.before.metrics.get(ask.name)))


def _matching(before: Measurement | None, after: Measurement) -> Metric | None:
    """The share of the baseline's answers that came back the same; None where the questions differ."""
    if before is None or not before.answers or set(after.answers) - set(before.answers):
        return None
    same = sum(after.answers.get(question) == answer for question, answer in before.answers.items())
    return _exactly(same / len(before.answers), len(before.answers))


def _exactly(value: float, samples: int) -> Metric:
    return Metric(value=value, low=value, high=value, samples=samples)


def _collapsed(ask: _Ask, measured: Measurement, metric: Metric | None) -> Metric | None:
    """A quality metric without its interval where both sides answered one golden set completely.

    Those questions are then not a sample of it: they are all of it.
    """
    if metric is None or ask.name in LOAD_METRICS:
        return metric
    sides = [ask.after] if ask.before is None else [ask.before, ask.after]
    complete = all(ask.name in side.metrics and _is_complete(side, ask.name) for side in sides)
    if complete and all(set(side.answers) == set(measured.answers) for side in sides):
        return metric.model_copy(update={"low": metric.value, "high": metric.value})
    return metric


def _is_complete(measured: Measurement, name: str) -> bool:
    return len(measured.answers) == measured.metrics[name].samples


def _bounded(name: str, metric: Metric | None) -> Metric | None:
    """A percentile with an open end where its samples cannot bound it."""
    if metric is None or name not in QUANTILES or metric.samples >= samples_needed(QUANTILES[name]):
        return metric
    return metric.model_copy(update={"low": min(metric.low, 0.0), "high": math.inf})


# --------------------------------------------------------------------------------------------- the bound


def _excess(bound: Bound, before: Metric | None, after: Metric) -> tuple[float, float]:
    """The interval of by how much the bound is broken; negative where it is kept to."""
    if bound.drop_at_most is not None:
        assert before is not None
        return _combined((1.0, before), (-1.0, after), -bound.drop_at_most)
    limit, sign = (bound.at_most, 1.0) if bound.at_most is not None else (bound.at_least, -1.0)
    if isinstance(limit, Ratio):
        assert before is not None
        return _combined((sign, after), (-sign * limit.of_baseline, before), 0.0)
    assert limit is not None
    return _combined((sign, after), None, -sign * limit)


_Term = tuple[float, Metric]


def _combined(first: _Term, second: _Term | None, constant: float) -> tuple[float, float]:
    """The 95 % interval of a sum of weighted, independent figures and a constant.

    By MOVER, which needs no more than the interval of each (Zou and Donner, Statistics in Medicine 27,
    2008); on two shares with Wilson's intervals it is Newcombe's method 10.
    """
    terms = [first] if second is None else [first, second]
    value = constant + math.fsum(weight * metric.value for weight, metric in terms)
    below = math.hypot(*(_reach(weight, metric, min) for weight, metric in terms))
    above = math.hypot(*(_reach(weight, metric, max) for weight, metric in terms))
    return value - below, value + above


def _reach(weight: float, metric: Metric, side: Callable[[float, float], float]) -> float:
    """How far a weighted figure's interval reaches to one side."""
    return weight * metric.value - side(weight * metric.low, weight * metric.high)


def _settled(excess: tuple[float, float]) -> tuple[Verdict, str]:
    low, high = excess
    if high <= ROUNDING:
        return "pass", ""
    return ("fail", "") if low > ROUNDING else ("unknown", TOO_FEW)
