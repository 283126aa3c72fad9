"""A search that is stopped, or that meets what it cannot try: the sandbox is clean, and what is known is told."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path

import pytest
from trial_bench import MORE, PLACES, Bench, Endpoint, made

from refloat.connectors.files import Files
from refloat.connectors.sqlite import SQLite
from refloat.errors import ConnectorError, Interrupted, Refused, Waiting
from refloat.evidence import seal
from refloat.flows import bisect as flow
from refloat.flows import forget, prepare, trial, verify
from refloat.flows.recover import DRILLS, SANDBOX, journal_of, recover
from refloat.flows.trial import Sandbox
from refloat.run.claim import Claim, _boot, _born, standing
from refloat.run.state import Holder, RunState, View
from refloat.testing.world import GROUP
from refloat.vault.keys import Role

INIT = Holder(host=socket.gethostname(), boot=_boot(), process=1, born=_born(1))
"""A process of this machine that lives."""


def stop_at(monkeypatch: pytest.MonkeyPatch, nth: int) -> None:
    """Ctrl-C, while the nth component is asked; after that all goes on as ever."""
    asked, measure = [], verify.measure_component

    def interrupted(*arguments, **options):
        asked.append(1)
        if len(asked) == nth:
            raise KeyboardInterrupt
        return measure(*arguments, **options)

    monkeypatch.setattr(verify, "measure_component", interrupted)


def states(bench: Bench) -> list[RunState]:
    """How each drill stands by its journal, oldest first."""
    replica = bench.world.vault().replicas["eu"]
    runs = standing(replica.log(f"targets/{SANDBOX}bench", Role.OPERATOR)).runs
    return [journal_of(replica, run, bench.world.clock, kind=DRILLS).view.state for run in runs]


def test_an_interruption_cleans_the_sandbox_and_says_how_the_search_goes_on(
    bench: Bench, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = bench.protect(5)
    endpoint.poisoned = 5
    stop_at(monkeypatch, 2)
    with pytest.raises(Interrupted) as error:
        bench.search()
    assert bench.left() == []
    assert error.value.message == "the search was interrupted; what was in the sandbox bench is put back"
    assert states(bench) == [RunState.ROLLED_BACK, RunState.ROLLED_BACK]
    assert error.value.next == f"refloat points bisect --sandbox bench --good {points[2][:12]}"
    found = bench.search(good=points[2])
    assert found.newest is not None and found.newest.name == points[3]


def test_what_a_killed_trial_has_left_is_put_back_by_the_next_search(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.protect(1)
    stop_at(monkeypatch, 1)
    with monkeypatch.context() as killed:
        killed.setattr(Sandbox, "_turn_back", lambda self, prepared, run: None)
        with pytest.raises(Interrupted):
            bench.search()
    assert "pages/current.json" in bench.left()
    found = bench.search()
    assert found.ok and bench.left() == []
    assert states(bench) == [RunState.ROLLED_BACK] * 2
    kinds = [record.kind for record in seal.records(bench.world.vault().replicas["us"])]
    assert kinds == ["drill", "drill"]


def test_a_point_that_a_cut_trial_needs_is_not_forgotten(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    (point,) = bench.protect(1)
    stop_at(monkeypatch, 1)
    monkeypatch.setattr(Sandbox, "_turn_back", lambda self, prepared, run: None)
    with pytest.raises(Interrupted):
        bench.search()
    in_use, unreadable = forget._in_use(bench.world.vault().replicas.values(), bench.world.clock)
    assert in_use == {point} and unreadable == ()


def test_a_sandbox_that_cannot_be_cleared_ends_the_search_until_it_can(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.protect(3)

    def discard(self, op):
        raise ConnectorError("the disk is read-only")

    with monkeypatch.context() as broken:
        broken.setattr(Files, "discard", discard)
        with pytest.raises(Waiting, match=r"bench could not be cleared: .*the disk is read-only") as error:
            bench.search()
    assert error.value.next == "refloat points bisect --sandbox bench"
    assert states(bench) == [RunState.DIRTY] and bench.left() != []
    assert bench.search().ok and bench.left() == []


def test_a_point_that_cannot_be_staged_is_stepped_over(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    points = bench.protect(3)
    stage = SQLite.stage

    def staged(self, source, op):
        if op.memory["point"] == points[1]:
            raise ConnectorError("no such luck")
        stage(self, source, op)

    monkeypatch.setattr(SQLite, "stage", staged)
    found = bench.search()
    assert [(one.point, one.verdict) for one in found.trials] == [(points[1], None), (points[2], True)]
    assert found.trials[0].reason == "ledger: no such luck"
    assert found.newest is not None and found.newest.name == points[2] and bench.left() == []


def test_where_nobody_listens_no_answer_is_wrong(bench: Bench, endpoint: Endpoint) -> None:
    bench.protect(1)
    endpoint.socket.close()
    (one,) = bench.search().trials
    assert one.verdict is None and one.components == {"pages": None}
    assert one.reason.startswith("pages: nobody listens where it is asked: connection refused at 127.0.0.1")
    assert bench.left() == []


def test_a_broken_point_is_not_tried_and_named(tmp_path: Path, endpoint: Endpoint) -> None:
    bench = made(tmp_path, endpoint, group=GROUP)
    points = bench.protect(2)
    bench.world.release(3, pages=7)
    broken = bench.world.protect().name
    found = bench.search()
    assert found.newest is not None and found.newest.name == points[1] and found.ok
    assert broken not in {one.point for one in found.trials}
    assert found.untested == {broken: "not tried: graded broken"}
    assert f"{broken[:12]} is not known: not tried: graded broken" in found.spoken()


def test_what_a_point_lacks_is_unknown_and_three_such_in_a_row_end_the_search(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    bench = made(tmp_path, endpoint, more=MORE)
    today, bench.world.group, bench.world.lacking = bench.world.group, "", "ledger"
    bench.protect(4)
    bench.world.group, bench.world.lacking = today, ""
    found = bench.search(component="ledger")
    assert [one.verdict for one in found.trials] == [None] * 3 and found.given_up
    assert found.next == "refloat points bisect --sandbox bench --component ledger"
    assert found.trials[0].components == {"ledger": None}
    found = bench.search()
    assert {one.components["pages"] for one in found.trials} == {True}
    assert {one.verdict for one in found.trials} == {None}
    assert "ledger is not in this point" in found.trials[0].reason


# -------------------------------------------------------------------------------------------------- claims


def test_a_sandbox_is_one_searchs_at_a_time(bench: Bench) -> None:
    bench.protect(1)
    replica = bench.world.vault().replicas["eu"]
    log = replica.log(f"targets/{SANDBOX}bench", Role.OPERATOR)
    Claim.win(log, run="other", view_of=lambda run: View(), clock=bench.world.clock, holder=INIT)
    with pytest.raises(Refused) as error:
        bench.search()
    assert error.value.rule == "target_claimed"
    assert error.value.next == "wait for the other trial to end, then refloat points bisect --sandbox bench"


def test_neither_a_drill_nor_a_recovery_waits_for_the_other(tmp_path: Path, endpoint: Endpoint) -> None:
    bench = made(tmp_path, endpoint, places=PLACES.replace("{{vars", "{{replica: us, vars"))
    world = bench.world
    today, world.group = world.group, ""
    (point,) = bench.protect(1)
    world.group = today

    def held(target: str) -> Claim:
        log = world.vault().replicas["us"].log(target, Role.OPERATOR)
        return Claim.win(log, run="other", view_of=lambda run: View(), clock=world.clock, holder=INIT)

    recovery = held("targets/us")
    assert [one.verdict for one in bench.search().trials] == [True]
    recovery.release()
    held(f"targets/{SANDBOX}bench")
    vault = world.vault()
    assert recover(world.prepared(vault, point=point), vault, world.clock).evidence.state == "done"


def test_a_trial_has_no_share_in_what_is_verified_or_where_the_pipeline_runs(bench: Bench) -> None:
    (point,) = bench.protect(1)
    assert bench.search().ok
    replicas = list(bench.world.vault().replicas.values())
    assert forget._verified(replicas) == (frozenset(), frozenset())
    assert {record.verified for replica in replicas for record in seal.records(replica)} == {True}
    assert trial.SPOKEN[True] == "pass" and point


# ------------------------------------------------------------------------------------------- what is damaged


def test_what_is_left_of_a_point_that_nobody_would_take_any_more_is_put_back_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.protect(1)
    stop_at(monkeypatch, 1)
    with monkeypatch.context() as killed:
        killed.setattr(Sandbox, "_turn_back", lambda self, prepared, run: None)
        with pytest.raises(Interrupted):
            bench.search()

    def doubted(known, *arguments, **options):
        return [dataclasses.replace(one, suspect={"pages": ("shrank",)}) for one in known]

    monkeypatch.setattr(prepare, "marked", doubted)
    (one,) = bench.search().trials
    assert one.verdict is None and "is suspect: pages" in one.reason
    assert bench.left() == []


def test_damaged_claims_on_a_sandbox_keep_nobody_from_it(bench: Bench) -> None:
    bench.protect(1)
    assert bench.search().ok
    store, name = bench.world.stores["eu"], f"log/targets/{SANDBOX}bench/{0:016d}"
    store.delete(name)
    store.create(name, b"not a claim")
    assert bench.search().ok and bench.left() == []


def test_points_of_a_log_that_was_rolled_back_are_not_searched(bench: Bench) -> None:
    bench.protect(1)
    vault = bench.world.vault()
    vault.replicas["eu"].keyring.adopt_seen({"eu": (99, "0" * 64)})
    with pytest.raises(Refused) as error:
        flow.opened(bench.today, bench.world.root, vault, bench.world.clock, "bench")
    assert error.value.rule == "log_rolled_back"
    assert error.value.next == "refloat vault rejoin eu"
