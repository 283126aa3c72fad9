"""The verdict on each bound: pass, fail, or too close to tell from so many samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from refloat.manifest.model import Bound, Ratio, Time
from refloat.verification.metrics import (
    END_TO_END,
    ERRORS,
    EXACT_MATCH,
    LOAD_METRICS,
    QUANTILES,
    samples_needed,
)
from refloat.verification.model import Check, Measurement, Metric
from refloat.verification.reference import Reference

ERRORS_SHARE_MAX = 0.05  # more unanswered questions than this is no recovery, whatever the manifest says
TOO_FEW = "too few samples to tell"
NO_BASELINE = "there is no baseline to compare with"
OTHER_QUESTIONS = "the golden questions are not those of the baseline"
ROUNDING = 1e-9  # two sums of the same figures in another order

Verdict = Literal["pass", "fail", "unknown"]


@dataclass(frozen=True)
class _Ask:
    """One bound on one metric of one component, with both measurements.

    ``before`` is None where nothing serves this bound, which ``reason`` explains; ``near`` tells what has changed
    since it was measured. ``known`` is the figure to show beside it.
    """

    component: str
    name: str
    bound: Bound
    before: Measurement | None
    after: Measurement
    reason: str = NO_BASELINE
    near: str = ""
    known: float | None = None


def judge(
    component: str, reference: Reference | None, recovered: Measurement, bounds: Mapping[str, Bound]
) -> list[Check]:
    """A check for each bound, in the manifest's order.

    A bound passes when the whole 95 % interval of what it compares keeps to it, fails when the whole
    interval breaks it, and is unknown otherwise. Quality is compared without an interval where both sides
    answered the same questions completely. Golden questions that there was no time to ask count as neither right
    nor wrong: a bound is settled where it is so whatever they would have brought. Without a baseline, bounds that are
    relative to it are unknown. A near one says nothing of quality; a bound on speed that is kept beside it passes and
    says so, and one that is not is unknown, since what changed may be why. Where the manifest gives no bound on
    ``errors``, at most 5 % may fail.
    """
    implied = {} if ERRORS in bounds else {ERRORS: Bound(at_most=ERRORS_SHARE_MAX)}
    return [
        _check(_ask(component, name, bound, reference, recovered))
        for name, bound in {**bounds, **implied}.items()
    ]


def _ask(
    component: str, name: str, bound: Bound, reference: Reference | None, recovered: Measurement
) -> _Ask:
    if reference is None:
        return _Ask(component, name, bound, None, recovered)
    measurement = reference.baseline.measurement
    if reference.exact:
        return _Ask(component, name, bound, measurement, recovered)
    if name in LOAD_METRICS:
        return _Ask(component, name, bound, measurement, recovered, near=reference.told)
    shown = measurement.metrics.get(name)
    known = None if shown is None else shown.value
    return _Ask(component, name, bound, None, recovered, reason=reference.told, known=known)


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
    """A bound in words: ``at most 1.25x``, ``at most 300ms``, ``at least 0.9``, ``drop at most 0.01``."""
    if bound.drop_at_most is not None:
        return f"drop at most {bound.drop_at_most:g}"
    word, limit = ("at most", bound.at_most) if bound.at_most is not None else ("at least", bound.at_least)
    if isinstance(limit, Ratio):
        return f"{word} {limit.of_baseline:g}x"
    if isinstance(limit, Time):
        return f"{word} {limit.seconds:g}s" if limit.seconds >= 1 else f"{word} {limit.seconds * 1000:g}ms"
    return f"{word} {limit:g}"


# --------------------------------------------------------------------------------------------- one check


def _check(ask: _Ask) -> Check:
    after = _after(ask)
    before = _before(ask)
    verdict, reason = _verdict(ask, before, after)
    return Check(
        name=ask.name,
        component=ask.component,
        baseline=ask.known if before is None else before.value,
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
    if after is None:
        return "unknown", _not_measured(ask)
    if not _is_relative(ask.bound):
        return _told(ask, _settled(_excess(ask.bound, None, after)))
    if ask.before is None:
        return "unknown", ask.reason
    reason = _no_comparison(ask.name, ask.bound, ask.before, ask.after.concurrency)
    if reason:
        return "unknown", reason
    return _beside(ask, _told(ask, _settled(_excess(ask.bound, before, after))))


def _not_measured(ask: _Ask) -> str:
    if ask.name == EXACT_MATCH and ask.before is None:
        return ask.reason
    otherwise = OTHER_QUESTIONS if ask.name == EXACT_MATCH else "it was not measured"
    return _not_all_asked(ask) or otherwise


def _told(ask: _Ask, settled: tuple[Verdict, str]) -> tuple[Verdict, str]:
    """What was settled, with the golden questions for which there was no time."""
    verdict, reason = settled
    return verdict, _not_all_asked(ask) or reason


def _not_all_asked(ask: _Ask) -> str:
    """How many golden questions there was no time to ask, where quality is judged by them."""
    unasked = len(ask.after.unasked)
    if not unasked or ask.name in LOAD_METRICS:
        return ""
    return f"there was no time to ask {unasked} of the golden questions"


def _beside(ask: _Ask, settled: tuple[Verdict, str]) -> tuple[Verdict, str]:
    """What a near baseline lets one say: that a bound is kept, never that it is broken."""
    verdict, _ = settled
    if not ask.near or verdict == "unknown":
        return settled
    if verdict == "pass":
        return "pass", f"beside a near baseline: {ask.near}"
    return "unknown", f"not kept beside a near baseline, and {ask.near}"


def _no_comparison(name: str, bound: Bound, before: Measurement, concurrency: int) -> str:
    """Why a baseline says nothing of a bound that is relative to it; empty where it does."""
    if name == EXACT_MATCH:
        return ""
    if name not in before.metrics:
        return "the baseline did not measure it"
    if _is_load(name) and before.concurrency != concurrency:
        return f"the baseline was measured with {before.concurrency} clients, this with {concurrency}"
    if before.metrics[name].value == 0 and _is_ratio(bound):
        return "the baseline is 0: bound it by a number, not by a ratio"
    return ""


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
    """The share of the baseline's answers that came back the same; None where the questions differ, or none was asked.

    Of those that there was no time to ask any number may be the same.
    """
    if before is None or not before.answers or set(after.answers) - set(before.answers):
        return None
    asked = before.answers.keys() - set(after.unasked)
    if not asked:
        return None
    same = sum(after.answers.get(question) == before.answers[question] for question in asked)
    return _open(_exactly(same / len(asked), len(asked)), len(before.answers) - len(asked))


def _open(share: Metric, unasked: int) -> Metric:
    """A share with room for the questions that there was no time to ask: none of them may be right, or all.

    They are no sample that chance took, so no narrower interval covers them.
    """
    if not unasked:
        return share
    whole = share.samples + unasked
    low, high = share.low * share.samples / whole, (share.high * share.samples + unasked) / whole
    return share.model_copy(update={"low": low, "high": high})


def _exactly(value: float, samples: int) -> Metric:
    return Metric(value=value, low=value, high=value, samples=samples)


def _collapsed(ask: _Ask, measured: Measurement, metric: Metric | None) -> Metric | None:
    """A quality metric without its interval where what is compared answered one golden set completely.

    Those questions are then not a sample of it: they are all of it.
    """
    if metric is None or ask.name in LOAD_METRICS:
        return metric
    before = ask.before if _is_relative(ask.bound) else None
    sides = [side for side in (before, ask.after) if side is not None]
    complete = all(ask.name in side.metrics and _is_complete(side, ask.name) for side in sides)
    if complete and all(_questions(side) == _questions(measured) for side in sides):
        metric = metric.model_copy(update={"low": metric.value, "high": metric.value})
    return _open(metric, len(measured.unasked))


def _questions(measured: Measurement) -> set[str]:
    """The golden questions that were answered, and those that would have been asked."""
    return {*measured.answers, *measured.unasked}


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
    return _combined((sign, after), None, -sign * (limit.seconds if isinstance(limit, Time) else limit))


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
