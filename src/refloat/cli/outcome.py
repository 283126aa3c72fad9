"""What became of a run, for people: its objectives against results, what was measured, and one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from refloat.cli.console import Console
from refloat.evidence.model import Evidence
from refloat.evidence.render import foretold, headline, row
from refloat.units import format_duration
from refloat.verification.model import Check


def show_outcome(console: Console, evidence: Evidence) -> None:
    """Objectives and measurements, and last the sentence that says it all."""
    _results(console, evidence)
    _closing(console, evidence)


def _results(console: Console, evidence: Evidence) -> None:
    console.table(
        ("component", "layer", "tier", "RTO", "objective", "data lost", "objective"),
        [
            (
                name,
                str(part.layer),
                part.tier,
                format_duration(part.rto.seconds),
                format_duration(part.rto.objective_s),
                format_duration(part.rpo.seconds),
                format_duration(part.rpo.objective_s),
            )
            for name, part in evidence.components.items()
        ],
    )
    show_checks(console, evidence.checks)


def show_checks(console: Console, checks: Sequence[Check]) -> None:
    """What was measured, beside what was before, where anything was."""
    if checks:
        console.table(
            ("measured", "before", "after", "bound", "samples", "verdict"), [row(check) for check in checks]
        )


def _closing(console: Console, evidence: Evidence) -> None:
    console.print(headline(evidence))
    console.print(
        f"run {evidence.run}: {evidence.state}"
        + (f" ({', '.join(evidence.flags)})" if evidence.flags else "")
    )
    if told := foretold(evidence):
        console.print(told)
    for name, part in evidence.components.items():
        for path in part.set_aside:
            console.print(f"{name}: what was there before is set aside in {path}")


def show_record(console: Console, evidence: Evidence) -> None:
    """A whole record, the outcome first: then results, each step, and what is not as it should be."""
    _closing(console, evidence)
    _results(console, evidence)
    console.table(
        ("step", "result", "after", "took", "expected", "95 of 100", "basis"),
        [
            (
                step.id,
                step.result,
                format_duration(step.started_s),
                format_duration(step.seconds),
                format_duration(step.estimate_p50_s),
                format_duration(step.estimate_p95_s),
                step.estimate_basis or "",
            )
            for step in evidence.steps
        ],
    )
    console.print(f"point {evidence.point} of {evidence.source}, into {evidence.to}")
    for step in evidence.steps:
        if step.error:
            console.print(f"{step.id}: {step.error}")
    for what, names in (
        ("did not happen", evidence.skipped),
        ("rules overridden", evidence.overrides),
        ("newer points, seen only in a region that is lost", evidence.lost_points),
    ):
        if names:
            console.print(f"{what}: {', '.join(names)}")
