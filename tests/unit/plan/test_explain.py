"""What a plan prints: the same steps that run, with what their estimates rest on."""

from __future__ import annotations

import json

from refloat.contracts import Layer
from refloat.plan.explain import heading, phases, steps
from refloat.plan.model import Action, Estimate, Phase, Plan, Step

PLAN = Plan(
    pipeline="support",
    point="point-1",
    source="eu",
    to="us",
    steps=(
        Step(id="preflight.check:point", phase=Phase.PREFLIGHT, action=Action.CHECK, subject="point"),
        Step(
            id="activate.activate:answers",
            phase=Phase.ACTIVATE,
            action=Action.ACTIVATE,
            subject="answers",
            component="answers",
            layer=Layer.DATA,
            needs=("preflight.check:point",),
            touches_live=True,
            bytes=2048,
            estimate=Estimate(p50_s=1.5, p95_s=90, basis="learnt", samples=2),
        ),
        Step(
            id="reprotect.protect:pipeline",
            phase=Phase.REPROTECT,
            action=Action.PROTECT,
            subject="pipeline",
            critical=False,
        ),
    ),
)


def test_only_phases_with_steps_are_told_and_every_step_is() -> None:
    told = phases(PLAN)
    assert [phase["name"] for phase in told] == ["preflight", "activate", "reprotect"]
    assert [step["id"] for phase in told for step in phase["steps"]] == [step.id for step in PLAN.steps]
    json.dumps(told)


def test_a_step_tells_its_component_layer_needs_and_estimate() -> None:
    step = phases(PLAN)[1]["steps"][0]
    assert (step["component"], step["layer"], step["action"]) == ("answers", "data", "activate")
    assert step["needs"] == ["preflight.check:point"]
    assert step["estimate"] == {"p50_s": 1.5, "p95_s": 90.0, "basis": "learnt", "samples": 2, "together": 0.5}
    assert phases(PLAN)[0]["steps"][0]["estimate"] is None


def test_rows_say_what_a_person_must_know() -> None:
    text = "\n".join([heading(PLAN), *(" ".join(row) for row in steps(PLAN))])
    assert "point point-1 from eu into us" in text
    assert PLAN.hash[:12] in text
    assert "activate answers" in text
    assert "1.5s (p95 1m 30s, learnt)" in text
    assert "touches what is live" in text
    assert "2.0 KiB" in text
    assert "optional" in text
    assert "not estimated" in text
