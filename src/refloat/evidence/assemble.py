"""Evidence from what is on record: the journal's view of a run, the point, and the manifest's objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from refloat.digest import Json
from refloat.evidence.model import ComponentResult, Evidence, Foreseen, Rpo, Rto, StepResult
from refloat.manifest.model import Manifest
from refloat.plan.estimate import rests_on, until_back
from refloat.plan.model import BEFORE_TRAFFIC, Plan, Step
from refloat.point.model import Point
from refloat.run.state import Status, View
from refloat.run.target import SET_ASIDE, SOURCE_AHEAD
from refloat.verification import judge
from refloat.verification.model import Check, Measurement

VERIFIED = "verified"
"""What the verify step remembers its findings by."""


def evidence(
    view: View,
    point: Point,
    manifest: Manifest,
    *,
    finished_at: datetime,
    lost_points: Sequence[str],
    versions: Mapping[str, str],
    vault: str,
) -> Evidence:
    """The record of a run that ended. Raises ``ValueError`` for a journal that was never begun."""
    plan, started = view.plan, view.started_at
    if plan is None or started is None:
        raise ValueError("a run that was never begun leaves no evidence")
    found = [view.memory[name][VERIFIED] for name in manifest.verify if VERIFIED in view.memory.get(name, {})]
    known = [entry for entry in found if isinstance(entry, Mapping)]
    checks = [Check.model_validate(check) for entry in known for check in _sequence(entry["checks"])]
    measured = [Measurement.model_validate(entry["measurement"]) for entry in known]
    names = [name for name in point.components if not plan.only or name in plan.only]
    return Evidence(
        kind="drill" if plan.drill else "recovery",
        pipeline=manifest.pipeline,
        run=view.run,
        state=str(view.state),
        flags=view.flags,
        point=plan.point,
        point_created_at=point.created_at,
        source=plan.source,
        to=plan.to,
        profile=point.profile,
        started_at=started,
        finished_at=finished_at,
        declared_at=view.declared_at,
        rto=_rto(plan.steps, view, min(manifest.tier(name).rto for name in names)),
        foreseen=_foreseen(plan, view),
        components={name: _component(name, plan, point, manifest, view) for name in names},
        groups={name: group for name, group in point.groups.items() if set(group.members) <= set(names)},
        verified=judge.verified(checks) if checks else None,
        checks=tuple(checks),
        baseline_region=next((str(e["baseline_region"]) for e in known if e["baseline_region"]), None),
        measurements={measurement.component: measurement for measurement in measured},
        skipped=tuple(
            id for id, step in view.steps.items() if step.status in (Status.SKIPPED, Status.FAILED)
        ),
        overrides=tuple(sorted(view.overrides)),
        lost_points=tuple(lost_points),
        steps=tuple(_step(step, view, started) for step in plan.steps if step.id in view.steps),
        versions=dict(versions),
        digests={"plan": plan.hash, "identity": point.identity_digest, "vault": vault},
    )


def _sequence(value: Json) -> Sequence[Json]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def _component(name: str, plan: Plan, point: Point, manifest: Manifest, view: View) -> ComponentResult:
    component, snapshot, tier = manifest.components[name], point.components[name], manifest.tier(name)
    own = [step for step in plan.steps if step.component == name]
    lost_from = view.declared_at or view.started_at
    recovered = lost_from is not None and view.committed
    lost_s = max(0.0, (lost_from - snapshot.as_of).total_seconds()) if lost_from and recovered else None
    basis = "from the start of its capture to " + (
        "the declared disaster" if view.declared_at else "the start of the run, as no disaster was declared"
    )
    if recovered and plan.moves and SOURCE_AHEAD not in view.overrides:
        lost_s, basis = 0.0, "what was live where it ran was what the point holds"
    layer = next(step.layer for step in own if step.layer is not None)
    return ComponentResult(
        kind=component.kind,
        layer=layer,
        tier=str(component.tier),
        rto=_rto(own, view, tier.rto),
        rpo=Rpo(
            seconds=None if lost_s is None else round(lost_s, 3),
            objective_s=tier.rpo,
            basis=basis,
        ),
        bytes=snapshot.bytes,
        files=snapshot.files,
        set_aside=tuple(str(path) for path in _sequence(view.memory.get(name, {}).get(SET_ASIDE))),
    )


def _rto(steps: Sequence[Step], view: View, objective_s: float) -> Rto:
    """From the disaster, or else the start of the run, to the end of the last step before traffic.

    Nothing was recovered, and no time taken, where one of them is not done.
    """
    since: Literal["declared", "run_start"] = "declared" if view.declared_at else "run_start"
    began = view.declared_at or view.started_at
    counted = [view.step(step.id) for step in steps if step.phase in BEFORE_TRAFFIC]
    done = all(step.status is Status.DONE for step in counted)
    known = [step.ended_at for step in counted if step.ended_at is not None]
    seconds = (max(known) - began).total_seconds() if done and known and began else None
    return Rto(seconds=None if seconds is None else round(seconds, 3), objective_s=objective_s, since=since)


def _foreseen(plan: Plan, view: View) -> Foreseen | None:
    """What the plan that the run began with foresaw; None for one without estimates."""
    if not all(step.estimate for step in plan.steps):
        return None
    counted = [view.step(step.id) for step in plan.steps if step.phase in BEFORE_TRAFFIC]
    ended = [step.ended_at for step in counted if step.status is Status.DONE and step.epoch == view.epoch]
    last = max((at for at in ended if at is not None), default=None)
    likely = until_back(plan)
    foreseen = Foreseen(p50_s=likely.p50_s, p95_s=likely.p95_s, rests_on=rests_on(plan))
    if last is None or view.started_at is None or len(ended) < len(counted):
        return foreseen
    return foreseen.against((last - view.started_at).total_seconds())


def _step(step: Step, view: View, started: datetime) -> StepResult:
    known = view.step(step.id)
    return StepResult(
        id=step.id,
        phase=str(step.phase),
        component=step.component,
        result=str(known.status),
        started_s=round((known.started_at - started).total_seconds(), 3) if known.started_at else 0.0,
        seconds=known.seconds,
        attempts=known.attempts,
        estimate_p50_s=step.estimate.p50_s if step.estimate else None,
        estimate_p95_s=step.estimate.p95_s if step.estimate else None,
        estimate_basis=step.estimate.basis if step.estimate else None,
        observed=known.observed,
        error=str((known.error or {}).get("message", "")),
    )
