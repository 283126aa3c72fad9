"""From a point to a plan, as tables: which steps there are and what each waits for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat.contracts import Layer, Settings, Spec, Staging
from refloat.errors import UsageError
from refloat.manifest.model import Manifest
from refloat.plan.build import build, in_order, reduced
from refloat.plan.model import Action, Phase, Plan, Step
from refloat.plan.scenario import DRILL
from refloat.point.model import Point, Snapshot

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPECS = {
    spec.kind: spec
    for spec in (
        Spec("files", "", Layer.DATA, Settings),
        Spec("lancedb", "", Layer.DATA, Settings, refers_to=("files",)),
        Spec("mlflow", "", Layer.MODEL, Settings, refers_to=("lancedb", "files"), deadline_s=900.0),
        Spec(
            "process", "", Layer.SERVING, Settings, staging=Staging.NONE, refers_to=("mlflow",), runnable=True
        ),
        Spec("managed", "", Layer.DATA, Settings, staging=Staging.IN_PLACE),
    )
}
MANIFEST = {
    "version": 1,
    "pipeline": "support",
    "regions": {"eu": {"vault": "memory://eu"}, "us": {"vault": "memory://us"}},
    "primary": "eu",
    "components": {
        "web": {"kind": "process", "needs": ["assistant"]},
        "assistant": {"kind": "process", "needs": ["registry", "answers"]},
        "registry": {"kind": "mlflow"},
        "answers": {"kind": "lancedb", "deadline": "30s"},
        "prompts": {"kind": "files", "refers_to": ["articles"]},
        "articles": {"kind": "files"},
    },
    "groups": {
        "serving": {"members": ["registry", "answers"]},
        "texts": {"members": ["prompts", "articles"]},
    },
    "verify": {
        "assistant": {"probe": {"http": "http://x"}, "golden": "g", "bounds": {"errors": {"at_most": 0.1}}}
    },
}


def _manifest(**changes) -> Manifest:
    return Manifest.model_validate({**MANIFEST, **changes})


def _point(manifest: Manifest, *, without: str = "") -> Point:
    def snapshot(kind: str) -> Snapshot:
        return Snapshot(
            kind=kind,
            tree="00",
            identity={},
            position={},
            as_of=NOW,
            captured_from=NOW,
            captured_to=NOW,
            bytes=7,
        )

    named = {name: snapshot(part.kind) for name, part in manifest.components.items() if name != without}
    return Point(pipeline="support", primary="eu", created_at=NOW, manifest="00", components=named)


def _plan(to: str = "us", *, only=(), **changes) -> Plan:
    manifest = _manifest(**changes)
    return build("point-1", _point(manifest), manifest, to, SPECS, only=only)


def _before(plan: Plan, id: str) -> set[str]:
    """Everything that must be over before a step begins."""
    found: set[str] = set()
    ahead = [*plan.step(id).needs]
    while ahead:
        need = ahead.pop()
        if need not in found:
            found.add(need)
            ahead += plan.step(need).needs
    return found


def _ids(plan: Plan, phase: Phase, action: Action | None = None) -> list[str]:
    return [s.id for s in plan.steps if s.phase is phase and action in (None, s.action)]


def test_the_steps_of_a_whole_plan_are_these() -> None:
    names = ["web", "assistant", "registry", "answers", "prompts", "articles"]
    staged = names[2:]
    needed_first = ["registry", "answers", "assistant", "web", "prompts", "articles"]
    assert [step.id for step in _plan().steps] == [
        "preflight.check:point",
        "preflight.check:source",
        "preflight.check:room",
        *(f"preflight.check:target:{name}" for name in names),
        *(f"stage.stage:{name}" for name in needed_first),
        *(f"validate.validate:{name}" for name in staged),
        "validate.validate:group:serving",
        "validate.validate:group:texts",
        *(f"activate.activate:{name}" for name in ("articles", "prompts", "answers", "registry", "assistant", "web")),
        "activate.start:assistant",
        "activate.start:web",
        "verify.verify:assistant",
        "traffic.shift:web",
        "traffic.shift:assistant",
        "reprotect.protect:pipeline",
        *(f"reprotect.cleanup:{name}" for name in staged),
    ]  # fmt: skip


def test_the_same_point_gives_the_same_plan_and_hash() -> None:
    assert _plan() == _plan()
    assert _plan().hash == _plan().hash
    assert _plan().hash != _plan(only=["answers"]).hash


def test_a_recovery_where_the_source_was_does_not_ask_whether_the_source_is_alive() -> None:
    assert "preflight.check:source" not in _plan("eu").by_id


def test_steps_stand_after_what_they_need() -> None:
    plan, seen = _plan(), set()
    for step in plan.steps:
        assert set(step.needs) <= seen
        seen.add(step.id)


def test_nothing_is_staged_before_every_check_and_nothing_switched_before_everything_is_valid() -> None:
    plan = _plan()
    for id in _ids(plan, Phase.STAGE):
        assert set(_ids(plan, Phase.PREFLIGHT)) <= _before(plan, id)
    for id in _ids(plan, Phase.ACTIVATE):
        assert {*_ids(plan, Phase.STAGE), *_ids(plan, Phase.VALIDATE)} <= _before(plan, id)


def test_what_is_pointed_to_is_switched_before_what_points_to_it() -> None:
    plan = _plan()
    switched = "activate.activate:{}".format
    assert switched("articles") in _before(plan, switched("prompts"))
    assert {switched("articles"), switched("prompts")} <= _before(plan, switched("answers"))
    assert switched("answers") in _before(plan, switched("registry"))
    assert switched("registry") in _before(plan, switched("assistant"))
    assert switched("prompts") not in _before(plan, switched("articles"))


def test_the_layer_outranks_a_pointer_that_goes_up() -> None:
    components = {**MANIFEST["components"], "articles": {"kind": "files", "refers_to": ["registry"]}}
    plan = _plan(components=components)
    assert "activate.activate:registry" not in _before(plan, "activate.activate:articles")


def test_components_start_in_the_order_of_their_needs_after_every_switch() -> None:
    plan = _plan()
    assert "activate.start:assistant" in _before(plan, "activate.start:web")
    assert set(_ids(plan, Phase.ACTIVATE, Action.ACTIVATE)) <= _before(plan, "activate.start:assistant")


def test_a_need_reaches_through_what_does_not_run() -> None:
    components = {
        **MANIFEST["components"],
        "web": {"kind": "process", "needs": ["prompts"]},
        "prompts": {"kind": "files", "needs": ["assistant"]},
    }
    assert "activate.start:assistant" in _before(_plan(components=components), "activate.start:web")


def test_nobody_is_served_before_verification_and_nothing_set_aside_is_removed_before_that() -> None:
    plan = _plan()
    for id in [*_ids(plan, Phase.TRAFFIC), *_ids(plan, Phase.REPROTECT)]:
        assert "verify.verify:assistant" in _before(plan, id)
    assert "traffic.shift:web" in _before(plan, "reprotect.cleanup:answers")


def test_without_verification_traffic_waits_for_every_start() -> None:
    plan = _plan(verify={})
    assert not _ids(plan, Phase.VERIFY)
    assert "activate.start:web" in _before(plan, "traffic.shift:assistant")


def test_what_stages_nothing_has_nothing_to_validate_or_to_remove() -> None:
    plan = _plan()
    assert "validate.validate:assistant" not in plan.by_id
    assert "reprotect.cleanup:assistant" not in plan.by_id
    assert not plan.step("stage.stage:assistant").reversible


def test_what_is_staged_in_place_waits_until_all_that_stands_beside_is_valid() -> None:
    components = {**MANIFEST["components"], "articles": {"kind": "managed"}}
    plan = _plan(components=components)
    assert plan.step("stage.stage:articles").touches_live
    assert {f"validate.validate:{n}" for n in ("registry", "answers", "prompts")} <= _before(
        plan, "stage.stage:articles"
    )
    assert not plan.step("stage.stage:answers").touches_live


def test_only_what_can_be_put_back_is_called_reversible_and_only_the_end_is_optional() -> None:
    plan = _plan()
    assert {step.action for step in plan.steps if step.reversible} == {
        Action.STAGE,
        Action.ACTIVATE,
        Action.START,
    }
    assert {step.phase for step in plan.steps if not step.critical} == {Phase.REPROTECT}
    assert {step.action for step in plan.steps if step.touches_live} == {Action.ACTIVATE}


def test_deadlines_are_the_components_own_then_the_connectors() -> None:
    plan = _plan()
    assert plan.step("stage.stage:answers").timeout_s == 30
    assert plan.step("activate.activate:answers").timeout_s == 30
    assert plan.step("stage.stage:registry").timeout_s == 900
    assert plan.step("stage.stage:articles").timeout_s == 3600


def test_a_part_of_the_pipeline_has_only_the_groups_and_probes_that_are_whole() -> None:
    plan = _plan(only=["articles", "prompts"])
    assert plan.only == ("prompts", "articles")
    assert _ids(plan, Phase.VALIDATE)[-1] == "validate.validate:group:texts"
    assert "validate.validate:group:serving" not in plan.by_id
    assert not _ids(plan, Phase.VERIFY)
    assert not _ids(plan, Phase.TRAFFIC)
    assert {step.component for step in plan.steps} == {None, "prompts", "articles"}


@pytest.mark.parametrize(
    ("ask", "message", "hint"),
    [
        (lambda: _plan(only=["answer"]), "no component is called 'answer'", "'answers'"),
        (lambda: _plan("uk"), "no region is called 'uk'", "eu, us"),
        (lambda: _plan(components={"x": {"kind": "file"}}, groups={}, verify={}), "connector", "'files'"),
    ],
)
def test_what_is_not_known_is_refused_with_the_nearest(ask, message, hint) -> None:
    with pytest.raises(UsageError, match=message) as error:
        ask()
    assert hint in error.value.next


def test_a_point_that_lacks_a_component_is_refused_and_says_what_can_be_had() -> None:
    manifest = _manifest()
    with pytest.raises(UsageError, match="no snapshot of prompts") as error:
        build("point-1", _point(manifest, without="prompts"), manifest, "us", SPECS)
    assert "articles" in error.value.next
    assert build("point-1", _point(manifest, without="prompts"), manifest, "us", SPECS, only=["articles"])


def _steps(edges: dict[int, set[int]]) -> list[Step]:
    def step(n: int) -> Step:
        needs = tuple(str(m) for m in sorted(edges[n]))
        return Step(id=str(n), phase=Phase.STAGE, action=Action.STAGE, subject=str(n), needs=needs)

    return [step(n) for n in edges]


GRAPHS = st.integers(1, 8).flatmap(
    lambda n: st.fixed_dictionaries(
        {k: st.sets(st.integers(0, k - 1)) if k else st.just(set()) for k in range(n)}
    )
)


@given(GRAPHS, st.randoms(use_true_random=False))
def test_any_graph_is_put_in_order_and_loses_no_ordering_when_reduced(edges, dice) -> None:
    steps = _steps(edges)
    shuffled = sorted(steps, key=lambda _: dice.random())
    ordered = in_order(shuffled)
    assert sorted(s.id for s in ordered) == sorted(s.id for s in steps)
    slim = {s.id: s for s in reduced(ordered)}

    def closure(by_id, id):
        needs = by_id[id].needs
        return set(needs).union(*(closure(by_id, need) for need in needs))

    full = {s.id: s for s in steps}
    for id in full:
        assert closure(slim, id) == closure(full, id)
        for need in slim[id].needs:
            assert all(need not in closure(slim, other) for other in slim[id].needs)


def test_a_circle_of_steps_is_refused() -> None:
    with pytest.raises(UsageError, match="no step can go first"):
        in_order(_steps({0: {1}, 1: {0}}))


def test_what_serving_needs_first_is_staged_first() -> None:
    tiers = {"prompts": "development", "answers": "critical"}
    components = {
        name: {**part, **({"tier": tiers[name]} if name in tiers else {})}
        for name, part in {
            **MANIFEST["components"],
            "vectors": {"kind": "lancedb", "tier": "critical"},
        }.items()
    }
    plan = _plan(components=components | {"answers": components["answers"] | {"needs": ["articles"]}})
    staged = [step.component for step in plan.steps if step.action is Action.STAGE]
    assert staged == ["articles", "answers", "vectors", "registry", "assistant", "web", "prompts"]


def test_a_drill_looks_at_nothing_before_it_is_known_to_lie_apart_and_serves_and_protects_nothing() -> None:
    manifest = _manifest()
    plan = build("p", _point(manifest), manifest, "us", SPECS, scenario=DRILL)
    assert plan.drill and not build("p", _point(manifest), manifest, "us", SPECS).drill
    assert all(step.reversible for step in plan.steps if step.action is Action.STAGE)
    assert not {"preflight.check:source", "preflight.check:unmoved"} & plan.by_id.keys()
    assert not {step.phase for step in plan.steps} & {Phase.TRAFFIC, Phase.REPROTECT}
    assert [step.id for step in plan.steps if step.phase is Phase.VERIFY] == ["verify.verify:assistant"]
    apart = "preflight.check:apart"
    for step in plan.steps:
        if step.id not in ("preflight.check:point", apart):
            assert apart in _before(plan, step.id), step.id
