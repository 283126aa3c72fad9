"""Two plans side by side: what one does and the other does not."""

from __future__ import annotations

from refloat.plan.diff import difference
from refloat.plan.model import Action, Estimate, Phase, Plan, Step


def step(subject: str, **more: object) -> Step:
    given = {"id": f"stage.stage:{subject}", "phase": Phase.STAGE, "action": Action.STAGE, "subject": subject}
    return Step.model_validate({**given, **more})


def plan(*steps: Step, **more: object) -> Plan:
    given = {"pipeline": "chat", "point": "aa", "source": "eu", "to": "us", "steps": steps}
    return Plan.model_validate({**given, **more})


A, B = step("a", bytes=10), step("b", needs=("stage.stage:a",))


def test_a_plan_is_as_itself_however_long_it_is_expected_to_take() -> None:
    slow = A.model_copy(update={"estimate": Estimate(p50_s=9, p95_s=10, basis="learnt")})
    found = difference(plan(A, B), plan(slow, B))
    assert found.none and plan(A, B).hash == plan(slow, B).hash
    assert list(found.lines()) == []


def test_what_is_added_and_what_is_gone_is_named() -> None:
    found = difference(plan(A), plan(B))
    assert (found.added, found.removed, found.none) == ((B,), (A,), False)
    assert list(found.lines()) == ["- stage a", "+ stage b"]


def test_each_field_that_differs_is_told_with_what_it_was() -> None:
    other = A.model_copy(update={"bytes": 30, "critical": False, "needs": ("x", "y")})
    found = difference(plan(A), plan(other, point="bb", only=("a",)))
    assert list(found.lines()) == [
        "~ point: aa -> bb",
        "~ only: none -> a",
        "~ stage.stage:a: needs none -> x, y, critical True -> False, bytes 10 -> 30",
    ]
    assert found.document()["changed"] == {
        "stage.stage:a": {
            "needs": {"was": [], "now": ["x", "y"]},
            "critical": {"was": True, "now": False},
            "bytes": {"was": 10, "now": 30},
        }
    }


def test_another_order_is_a_difference() -> None:
    c = step("c")
    found = difference(plan(A, c), plan(c, A))
    assert found.reordered and plan(A, c).hash != plan(c, A).hash
    assert list(found.lines()) == ["~ the steps come in another order"]


def test_there_is_none_exactly_where_the_hashes_are_equal() -> None:
    plans = [
        plan(A),
        plan(A, B),
        plan(B, A),
        plan(A, point="bb"),
        plan(A.model_copy(update={"timeout_s": 1.0})),
    ]
    for one in plans:
        for other in plans:
            assert difference(one, other).none == (one.hash == other.hash)
