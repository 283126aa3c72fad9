"""Measure with a point, where the manifest asks for it, so that the newest point can be verified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refloat.clock import Clock
from refloat.contracts import Progress
from refloat.errors import ConnectorError, RefloatError, Retry
from refloat.flows import baselines, verify
from refloat.flows.components import Components
from refloat.manifest.model import Bound, Verification
from refloat.manifest.resolve import redact
from refloat.point.model import Point
from refloat.vault.replica import Replica
from refloat.verification import judge
from refloat.verification.golden import read_golden
from refloat.verification.metrics import EXACT_MATCH, LOAD_METRICS
from refloat.verification.model import Baseline
from refloat.verification.reference import Reference


def measure_with(
    point: Point,
    components: Components,
    files: Mapping[str, bytes],
    replicas: Sequence[Replica],
    known: baselines.Kept,
    clock: Clock,
    progress: Progress | None = None,
) -> tuple[dict[str, str | None], list[Baseline]]:
    """Measure what ``with_points`` asks for beyond what is ``known``, and keep it in every region.

    For each component measured, why it is not kept, or None; and what some region keeps now.
    What answers worse than the nearest baseline does is not kept: nobody has said that it is as it should be. Nor is
    what time cut off: of few samples, it would decide nothing. An error of one component is its own.
    """
    manifest, outcome, added = components.manifest, dict[str, str | None](), list[Baseline]()
    for name, asked in manifest.verify.items():
        if asked.with_points == "never":
            continue
        golden = files[baselines.carried_as(name)]
        try:
            questions = len(read_golden(golden))
            held = baselines.reference_for(known, point, manifest, name, questions, point.primary)
            if asked.with_points == "when_identity_moved" and held and held.exact and held.whole:
                continue
            made = verify.measure_baseline(
                components,
                name,
                golden,
                point.primary,
                clock,
                profile=point.profile,
                progress=progress,
                seconds_max=asked.within,
            )
            _require_fit(made, baselines.identities_in(point, manifest, name))
            verify.require_baseline(made.measurement, asked)
            _require_as_good(made, held, asked)
        except RefloatError as error:
            outcome[name] = redact(error.told, components.resolver.secrets)
        else:
            kept = baselines.save([made], replicas)
            lacking = {region: error for region, error in kept.items() if error}
            outcome[name] = "; ".join(f"{r} did not keep it: {error}" for r, error in lacking.items()) or None
            added += [made] if len(lacking) < len(kept) else []
    return outcome, added


def _require_fit(made: Baseline, captured: Mapping[str, str]) -> None:
    moved = [name for name in captured if captured[name] != made.identities.get(name)]
    if moved:
        raise ConnectorError(
            f"the identity of {', '.join(moved)} has moved since the point was made",
            component=made.component,
            retry=Retry.LATER,
            next="the next protect measures again",
        )


def _require_as_good(made: Baseline, held: Reference | None, asked: Verification) -> None:
    """Quality must not fall unseen: a model that was poisoned would become what a recovery has to match."""
    quality: dict[str, Bound] = {
        name: bound for name, bound in asked.bounds.items() if name not in LOAD_METRICS | {EXACT_MATCH}
    }
    beside = Reference(held.baseline) if held else None
    checks = judge.judge(made.component, beside, made.measurement, quality)
    failed = [
        f"{check.name} was {check.baseline:g} and is {check.recovered:g}"
        if check.baseline is not None
        else f"{check.name} is {check.recovered:g}"
        for check in checks
        if check.verdict == "fail" and check.recovered is not None
    ]
    if failed:
        raise ConnectorError(
            f"it answers worse: {', '.join(failed)}",
            component=made.component,
            next="see what changed: refloat points diff POINT LATER; if it is right so: refloat verify --save-baseline",
        )
