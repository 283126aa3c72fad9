"""Evidence as a page for people: one HTML file that needs nothing else to be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from refloat.evidence.model import Evidence, Rpo, Rto, StepResult
from refloat.units import format_duration, format_size, format_time
from refloat.verification.model import Check

LABELS_WIDTH = 240.0  # of the picture's 1000 units, for the names of the steps
SINCE = {
    "declared": "the declared disaster",
    "detected": "its detection",
    "run_start": "the start of the run",
}
BAR_WIDTH_MIN = 2.0  # so that a step of a millisecond can still be seen


def page(evidence: Evidence) -> bytes:
    """The record as a self-contained HTML page in UTF-8, everything in it escaped; what UTF-8 lacks, by backslashes."""
    worst = max(
        (
            (result.rpo.seconds, name)
            for name, result in evidence.components.items()
            if result.rpo.seconds is not None
        ),
        default=(None, "no component"),
    )
    written = template().render(
        evidence=evidence,
        headline=headline(evidence),
        foretold=foretold(evidence),
        since=SINCE[evidence.rto.since],
        verified=_verified(evidence),
        worst_rpo=worst[0],
        worst_component=worst[1],
        timeline=_timeline(evidence.steps),
    )
    return written.encode("utf-8", "backslashreplace")


@cache
def template() -> Template:
    """The page without what stands in it, which takes longer to compile than to fill in."""
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters.update(
        duration=format_duration, size=format_size, moment=_moment, figure=figure, met=_met
    )
    return environment.from_string(files("refloat.evidence").joinpath("page.html.j2").read_text())


def headline(evidence: Evidence) -> str:
    """The outcome in one sentence."""
    what = evidence.pipeline
    if "partial" in evidence.flags:
        what = f"{', '.join(evidence.components)} of {what}"
    if evidence.kind == "drill":
        answers = {
            True: "its answers pass",
            False: "its answers do not pass",
            None: "its answers are not known",
        }
        left = {"rolled_back": "all was put back", "blocked": "nothing was touched"}
        how = left.get(evidence.state, evidence.state.replace("_", " "))
        return f"{what} was tried in {evidence.to}: {answers[evidence.verified]}; {how}"
    told = evidence.document()
    if evidence.state != "done":
        return f"{what} was not recovered in {evidence.to}: {evidence.state.replace('_', ' ')}{_missed(_worse(told))}"
    return f"{what} {back(told)}"


def back(recovered: Mapping[str, Any]) -> str:
    """What became of a pipeline that runs again, in words that follow its name; each objective missed is named.

    ``recovered`` is the document of a recovery.
    """
    answers = {
        True: f", and answers as well as before, after {format_duration(recovered['rto']['seconds'])}",
        False: ", and does not answer as well as before",
        None: "; whether it answers as before is not known",
    }
    missed = _missed([*_late(recovered), *_worse(recovered)])
    return f"is back in {recovered['to']}{answers[recovered['verified']]}{missed}"


def _missed(objectives: Sequence[str]) -> str:
    return f"; missed objectives: {', '.join(objectives)}" if objectives else ""


def _late(recovered: Mapping[str, Any]) -> list[str]:
    """Each RTO and RPO that was not met, with what came of it."""
    results = [("the RTO of the pipeline", recovered["rto"])]
    results += [
        (f"the {kind.upper()} of {name}", part[kind])
        for name, part in recovered["components"].items()
        for kind in ("rto", "rpo")
    ]
    return [
        f"{name} ({format_duration(result['seconds'])}, objective {format_duration(result['objective_s'])})"
        for name, result in results
        if result["seconds"] is not None and result["seconds"] > result["objective_s"]
    ]


def _worse(recovered: Mapping[str, Any]) -> list[str]:
    """Each bound on how it answers that does not hold: latency, throughput, quality."""
    return [
        f"{check['name']} of {check['component']} ({figure(check['recovered'], check['unit'])}, before "
        f"{figure(check['baseline'], check['unit'])}, bound {check['bound']})"
        for check in recovered["checks"]
        if check["verdict"] == "fail"
    ]


def foretold(evidence: Evidence) -> str:
    """How long it took beside what was expected when the run began; empty where that is not known."""
    foreseen = evidence.foreseen
    if foreseen is None or foreseen.seconds is None:
        return ""
    took, p50, p95 = map(format_duration, (foreseen.seconds, foreseen.p50_s, foreseen.p95_s))
    times = "" if foreseen.of_p50 is None else f"{foreseen.of_p50:.2f} times "
    outside = "" if foreseen.inside else ": longer than foreseen"
    return f"took {took}, {times}the {p50} expected; 95 of 100 within {p95}{outside}"


def figure(value: float | None, unit: str) -> str:
    """A measured figure for people, in the unit that suits its size."""
    if value is None:
        return "-"
    if unit == "s":
        return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"
    if unit == "1/s":
        return f"{value:.1f} /s"
    return f"{value:.3f}{unit}"


def row(check: Check) -> tuple[str, ...]:
    """A check for people: what was measured, before and after, the bound, the samples and the verdict."""
    return (
        check.name,
        figure(check.baseline, check.unit),
        figure(check.recovered, check.unit),
        check.bound,
        str(check.samples),
        check.verdict,
    )


def _moment(moment: datetime) -> str:
    return format_time(moment)[:19].replace("T", " ") + " UTC"


def _met(objective: Rto | Rpo) -> str:
    if objective.seconds is None:
        return "doubt"
    return "good" if objective.seconds <= objective.objective_s else "bad"


def _verified(evidence: Evidence) -> tuple[str, str]:
    return {True: ("yes", "good"), False: ("no", "bad"), None: ("unknown", "doubt")}[evidence.verified]


def _timeline(steps: Sequence[StepResult]) -> dict[str, list[dict[str, object]]]:
    """Where each step's bar lies, on a line from the start of the run to its end."""
    span = max((step.started_s + step.seconds for step in steps), default=0.0) or 1.0
    scale = (1000.0 - LABELS_WIDTH) / span
    rows: list[dict[str, object]] = [
        {
            "label": step.id.partition(".")[2] or step.id,
            "result": step.result,
            "x": round(LABELS_WIDTH + step.started_s * scale, 1),
            "width": round(max(BAR_WIDTH_MIN, step.seconds * scale - 1), 1),
            "title": f"{step.id}: {step.result} after {format_duration(step.seconds)}",
        }
        for step in steps
    ]
    ticks: list[dict[str, object]] = [
        {
            "x": round(LABELS_WIDTH + span * part / 4 * scale - (30 if part == 4 else 0), 1),
            "label": format_duration(span * part / 4),
        }
        for part in range(5)
    ]
    return {"rows": rows, "ticks": ticks}
