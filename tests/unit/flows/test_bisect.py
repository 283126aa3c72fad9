"""The last good point: real recoveries of a small pipeline into a sandbox, asked over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from trial_bench import MORE, RIGHT, Bench, Endpoint, made

from refloat.errors import UsageError
from refloat.evidence import seal
from refloat.flows import bisect as flow
from refloat.flows.points import MANIFEST
from refloat.flows.prepare import history
from refloat.flows.protect import protect
from refloat.flows.recover import plan_of, run_named, runs_of, unfinished
from refloat.flows.trial import Trial

# ------------------------------------------------------------------------------------------------ the search


def test_the_newest_point_whose_answers_pass_is_found_by_halves(bench: Bench, endpoint: Endpoint) -> None:
    points = bench.protect(7)
    endpoint.poisoned = 5
    told: list[Trial] = []
    live = bench.world.live("eu")
    found = bench.search(on_trial=told.append)
    assert found.ok and found.newest is not None and found.newest.name == points[3]
    assert found.failing is not None and found.failing.name == points[4]
    assert [(trial.point, trial.verdict) for trial in told] == [
        (points[3], True),
        (points[5], False),
        (points[4], False),
    ]
    assert endpoint.versions == [4, 6, 5], "each was recovered, and asked"
    assert found.next == f"refloat recover --to eu --point {points[3][:12]}"
    assert found.newer == (points[6],) and found.untested == {}
    assert bench.left() == [], "and cleaned up"
    assert bench.world.live("eu") == live


@pytest.mark.parametrize(("poisoned", "newest"), [(1, None), (99, 3)])
def test_none_may_pass_and_all_may(
    bench: Bench, endpoint: Endpoint, poisoned: int, newest: int | None
) -> None:
    points = bench.protect(3)
    endpoint.poisoned = poisoned
    found = bench.search()
    assert (found.newest and found.newest.name) == (newest and points[newest - 1])
    assert found.ok is (newest is not None)
    assert (found.failing is None) is (newest is not None)
    said = found.spoken()[0]
    assert said.startswith("the newest point passes" if newest else "no point is known to pass")
    assert found.next.startswith("refloat recover" if newest else "refloat points list")


def test_what_a_person_knows_is_not_tried_again(bench: Bench, endpoint: Endpoint) -> None:
    points = bench.protect(4)
    endpoint.poisoned = 3
    found = bench.search(good=points[1], bad=points[2])
    assert found.trials == () and found.newest is not None and found.newest.name == points[1]
    assert found.document()["tried"] is False and "given as good, and not tried" in found.spoken()[0]
    assert found.newer == (points[3],)
    for good, bad, problem in (
        (points[2], points[1], "is not older"),
        ("zz", points[1], "no point here begins with"),
    ):
        with pytest.raises(UsageError, match=problem):
            flow.bisect(bench.opened(), good=good, bad=bad)


def test_each_trial_is_on_record_as_a_drill_in_every_region(bench: Bench) -> None:
    bench.protect(1)
    (trial,) = bench.search().trials
    vault = bench.world.vault()
    for replica in vault.replicas.values():
        (record,) = seal.records(replica)
        assert (record.kind, record.run, record.state) == ("drill", trial.run, "rolled_back")
        assert (record.to, record.point, record.verified) == ("bench", trial.point, True)
        assert record.checks == trial.checks
    learnt = {timing.step_id for timing in history(vault.replicas["eu"], "bench")}
    assert {"stage.stage:pages", "activate.activate:ledger", "verify.verify:pages"} <= learnt


def test_no_drill_is_taken_for_a_recovery(bench: Bench) -> None:
    bench.protect(1)
    recovered = bench.world.recover().evidence.run
    (trial,) = bench.search().trials[:1]
    for region in ("eu", "us"):
        replica = bench.world.vault().replicas[region]
        assert trial.run not in runs_of(replica, region)
        assert list(unfinished(replica, bench.world.clock)) == []
        assert runs_of(replica, "bench") == [], "nor where a region is called as a sandbox was"
        with pytest.raises(UsageError, match="no run"):
            plan_of(replica, trial.run, bench.world.clock)
        with pytest.raises(UsageError, match=f"no run '{trial.run}' was begun"):
            run_named(replica, region, trial.run)
    replica = bench.world.vault().replicas["us"]
    assert run_named(replica, "us", "latest") == recovered == seal.find([replica], "latest").run
    assert seal.find([replica], trial.run).kind == "drill"


# ------------------------------------------------------------------------------------------- what is asked


def test_every_point_is_asked_todays_questions_whatever_its_own_manifest_asks(
    bench: Bench, endpoint: Endpoint
) -> None:
    today = bench.world.group
    bench.world.group = ""
    bench.world.release(1)
    none = bench.world.protect().name
    bench.world.group = today.replace("found: topic", "found: other")
    bench.world.release(2)
    files = {MANIFEST: bench.world.text, "verify/pages.jsonl": b'{"id": "q", "request": {}}'}
    others = protect(bench.today, files, bench.world.vault(), bench.world.clock).name
    bench.world.group = today
    bench.world.release(3)
    same = bench.world.protect().name
    endpoint.poisoned = 3
    found = bench.search()
    assert {trial.point: trial.verdict for trial in found.trials} == {others: True, same: False}
    assert {check.bound for trial in found.trials for check in trial.checks} == {"at least 1", "at most 0.05"}
    assert bench.opened().run(none, bench.world.clock.now()).verdict is True


def test_a_program_that_gives_no_answer_makes_no_point_bad(bench: Bench, endpoint: Endpoint) -> None:
    bench.protect(1)
    bench.protect(2)
    endpoint.poisoned, endpoint.mute = 9, 2
    found = bench.search()
    verdicts = {trial.point: trial.verdict for trial in found.trials}
    assert sorted(verdicts.values(), key=str) == [None, True] and found.failing is None
    assert any("no answer" in trial.reason for trial in found.trials if trial.verdict is None)


def test_how_fast_a_sandbox_answers_tells_nothing(tmp_path: Path, endpoint: Endpoint) -> None:
    bench = made(tmp_path, endpoint, bounds=f"{RIGHT}, latency_p95: {{at_most: 1ms}}")
    bench.protect(1)
    (trial,) = bench.search().trials
    assert trial.verdict is True and {check.name for check in trial.checks} == {"accuracy", "errors"}


def test_a_bound_that_needs_a_baseline_is_held_against_that_of_the_good_point_alone(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    """The baseline of a poisoned point was measured from poisoned answers: beside it each of them passes."""
    bench = made(tmp_path, endpoint, bounds="exact_match: {drop_at_most: 0.0}")
    points = []
    endpoint.pages, endpoint.poisoned = tmp_path / "eu" / "pages", 3
    for version in (1, 2, 3):
        bench.world.release(version)
        points.append(bench.world.protect().name)
        bench.measure()
    endpoint.pages = tmp_path / "bench" / "pages"
    with pytest.raises(
        UsageError, match="nothing tells whether answers are good: pages: exact_match"
    ) as error:
        bench.opened()
    assert "--good POINT" in str(error.value.next)
    found = bench.search(good=points[0])
    assert {trial.point: trial.verdict for trial in found.trials} == {points[1]: True, points[2]: False}
    assert found.newest is not None and found.newest.name == points[1]


def test_a_verdict_is_that_of_each_component(tmp_path: Path, endpoint: Endpoint) -> None:
    bench = made(tmp_path, endpoint, more=MORE)
    points = bench.protect(2)
    endpoint.poisoned = 2
    by_point = {trial.point: trial.components for trial in bench.search().trials}
    assert by_point[points[1]] == {"pages": False, "ledger": True}
    found = bench.search(component="ledger")
    assert [trial.components for trial in found.trials] == [{"ledger": True}]
    assert found.newest is not None and found.newest.name == points[1]
    with pytest.raises(UsageError, match="verifies no component 'answers'"):
        bench.search(component="answers")
