"""A point whose invariants nobody came to evaluate: unknown, not broken, and evaluated anew when one is chosen."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from refloat.digest import Json
from refloat.errors import Refused
from refloat.flows import anew, points
from refloat.flows import protect as protecting
from refloat.flows.forget import plan_forget
from refloat.flows.into import choose
from refloat.flows.prepare import Wanted, prepare
from refloat.flows.status import status
from refloat.flows.suspects import judged
from refloat.limits import UNKNOWN_POINTS_MAX
from refloat.manifest.parse import parse
from refloat.point.evaluate import Evaluator
from refloat.point.model import Grade
from refloat.testing.world import World
from refloat.vault.points import seal_point, worst_grade

NO_WORKER = (sys.executable, "-c", "raise SystemExit(3)")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.small(tmp_path)


@contextlib.contextmanager
def nothing_evaluated(*modules: Any) -> Iterator[list[object]]:
    """As on a machine whose workers die, where these modules evaluate; the list counts who wanted to."""
    wanted: list[object] = []

    class Without(Evaluator):
        def __init__(self) -> None:
            super().__init__(command=NO_WORKER)

        def evaluate(self, *asked: Any) -> Any:
            wanted.append(asked)
            return super().evaluate(*asked)

    with pytest.MonkeyPatch.context() as patched:
        for module in modules:
            patched.setattr(module, "Evaluator", Without)
        yield wanted


def protect_unknown(world: World) -> str:
    with nothing_evaluated(protecting):
        made = world.protect()
    assert (made.point.grade, made.ok) == (Grade.UNKNOWN, False)
    return made.name


def choice(world: World, **wanted: Any) -> Any:
    vault = world.vault()
    return prepare(vault.replicas["us"], Wanted("us", **wanted), world.resolver)


def test_what_was_not_evaluated_is_unknown_and_says_why(world: World) -> None:  # fault 62
    with nothing_evaluated(protecting):
        made = world.protect()
    record = made.document()["groups"]["serving"]  # type: ignore[index,call-overload]
    assert not made.ok and record["grade"] == "unknown"
    assert "was not evaluated: its process did not get ready (its process ended with 3)" in record["reason"]
    assert record["invariants"][0]["holds"] is None


def test_it_is_stored_as_broken_which_every_reader_takes_for_no_good(world: World) -> None:
    name = protect_unknown(world)
    for replica in world.vault().replicas.values():
        body = replica.read_point(name)
        assert worst_grade(body) == "broken"
        assert body["groups"]["serving"]["grade"] == "broken"  # type: ignore[index,call-overload]
        assert replica.points()[-1].grade == "broken"
        assert points.read(replica, name).grade is Grade.UNKNOWN


def test_it_is_chosen_like_any_other_when_its_invariants_hold_after_all(world: World) -> None:  # fault 62
    world.protect()
    world.release(2)
    name = protect_unknown(world)
    prepared = choice(world)
    assert prepared.plan.point == name
    assert prepared.point.groups["serving"].grade is Grade.FUZZY
    assert [verdict.holds for verdict in prepared.point.groups["serving"].invariants] == [True]
    assert choice(world, point=name).plan.point == name
    assert choose(list(world.vault().replicas.values())).name == name
    held = status(world.manifest, world.vault(), world.clock).components["pages"]
    assert held.as_of == prepared.point.components["pages"].as_of
    assert world.recover().ok


def test_it_is_broken_when_they_do_not(world: World) -> None:
    good = world.protect().name
    world.release(2, pages=7)
    name = protect_unknown(world)
    assert choice(world).plan.point == good
    with pytest.raises(Refused, match="graded broken") as refused:
        choice(world, point=name)
    assert refused.value.rule == "group_broken"


def test_while_it_stays_unknown_an_older_one_is_chosen_and_both_are_told(world: World) -> None:  # fault 62
    good = world.protect().name
    world.release(2)
    name = protect_unknown(world)
    with nothing_evaluated(anew):
        found = choice(world).choice
        assert found.point == good
        assert [passed.name for passed in found.passed_over] == [name]
        assert "unknown" in found.passed_over[0].doubt
        with pytest.raises(Refused, match="graded unknown: its invariants could not be evaluated") as refused:
            choice(world, point=name)
        assert refused.value.rule == "group_broken" and "--override group_broken" in refused.value.next_step
        glass = choice(world, point=name, overrides=frozenset({"group_broken"}))
        assert (glass.plan.point, glass.point.grade) == (name, Grade.UNKNOWN)


def test_where_no_other_is_there_the_refusal_says_unknown(world: World) -> None:
    protect_unknown(world)
    with nothing_evaluated(anew), pytest.raises(Refused, match="every point that fits is graded unknown"):
        choice(world)


def test_what_cannot_be_evaluated_is_tried_on_so_many_points_and_no_more(world: World) -> None:
    good = world.protect().name
    for _ in range(UNKNOWN_POINTS_MAX + 2):
        protect_unknown(world)
    with nothing_evaluated(anew) as wanted:
        assert choice(world).plan.point == good
    assert len(wanted) == UNKNOWN_POINTS_MAX


def test_nothing_is_evaluated_that_no_choice_is_about(world: World) -> None:
    protect_unknown(world)
    world.protect()
    with nothing_evaluated(anew) as wanted:
        choice(world)
    assert wanted == []


def test_a_group_that_is_carried_over_is_evaluated_anew(world: World) -> None:
    protect_unknown(world)
    (world.root / "eu" / "ledger.db").unlink()
    made = world.protect()
    assert set(made.errors) == {"ledger"}
    assert made.point.groups["serving"].grade is Grade.FUZZY


def test_a_point_of_an_earlier_refloat_that_ran_out_of_time_is_unknown_too(world: World) -> None:
    """It graded one broken, with the reason of its verdict as all that tells why."""
    name = protect_unknown(world)
    replica = world.vault().replicas["eu"]
    body: dict[str, Any] = dict(replica.read_point(name))
    (verdict,) = body["groups"]["serving"]["invariants"]
    for reason, grade in [
        ("not evaluated within 5 s", Grade.UNKNOWN),
        ("the fact 'version' is missing", Grade.BROKEN),
    ]:
        serving = {**body["groups"]["serving"], "invariants": [{**verdict, "reason": reason}]}
        told: Mapping[str, Json] = {**body, "groups": {"serving": serving}}
        assert seal_point(replica.keyring, told)
        assert points.checked(told, name).grade is grade


def test_a_listing_says_unknown_and_evaluates_nothing(world: World) -> None:
    protect_unknown(world)
    replicas = list(world.vault().replicas.values())
    with nothing_evaluated(anew) as wanted:
        listed = judged(replicas).mark(points.candidates(replicas[0]))
    assert ([candidate.grade for candidate in listed], wanted) == ([Grade.UNKNOWN], [])


def test_forgetting_keeps_the_one_that_a_recovery_would_choose(world: World) -> None:
    keep = b"keep: {last: 1, daily: 0, monthly: 0}\n"
    world.protect()
    world.release(2)
    unknown = protect_unknown(world)
    world.release(3, pages=7)
    assert world.protect().point.grade is Grade.BROKEN
    plan = plan_forget(parse(world.text + keep), world.vault(), world.clock)
    kept = {one.point.name: one for one in plan.decided if one.kept}
    assert any(reason.startswith("newest consistent") for reason in kept[unknown].reasons)


def test_one_worker_evaluates_all_groups_of_a_protect(tmp_path: Path) -> None:
    groups = (
        "groups:\n"
        "  serving: {members: [pages, ledger], must: [pages.current.version == ledger.version]}\n"
        "  again: {members: [ledger, answers], must: [ledger.version == 1]}\n"
        "  third: {members: [pages, answers], must: [pages.current.version == 1]}\n"
    )
    world = World.small(tmp_path, group=groups)
    starts = tmp_path / "starts"
    command = (
        sys.executable,
        "-c",
        "import os, sys; open(sys.argv[1], 'a').write('started\\n'); sys.argv[1:] = [str(os.getppid())]\n"
        "from refloat.point.worker import main; main()",
        str(starts),
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(protecting, "Evaluator", lambda: Evaluator(command=command))
        made = world.protect()
    assert made.ok and len(made.point.groups) == 3
    assert starts.read_text() == "started\n"
