"""Invariants in a worker process: what it says, and what is said of a worker that cannot or may not go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from refloat.contracts import Facts
from refloat.point import worker
from refloat.point.evaluate import Bounds, Evaluator, evaluate, syntax_error

FACTS = {
    "registry": Facts({"models": {"embedder": {"champion": {"dimension": 64, "digest": "sha256:aa"}}}}),
    "index": Facts({"tables": {"passages": {"dimension": 64, "embedder": "sha256:bb"}}}, {"rows": 10}),
}
LISTS = {"a": Facts({"l": list(range(2000)), "text": "x" * 100_000})}
TRUE = "a.l.size() == 2000"
ENDLESS = "a.l.all(i, a.l.all(j, a.l.all(k, a.l.all(m, m >= 0))))"
GREEDY = "[" * 14 + "a.text" + "].map(t, t + t)[0]" * 14 + ".size() == 0"  # doubles it until it is 1.6 GB
QUICK = Bounds(cpu_seconds=0.5)
PATIENT = Bounds(cpu_seconds=600)

BURNING = """
import time
def burning(line, answers=worker.answers):
    for answer in answers(line):
        end = time.process_time() + 0.6
        while time.process_time() < end: pass
        yield answer
worker.answers = burning
"""
"""Each expression takes so much CPU time."""

WORKER = "import sys; from refloat.point import worker; "


def doing(before: str, *arguments: str) -> list[str]:
    """A command that does something ``before`` it is a worker."""
    return [sys.executable, "-c", f"{WORKER}{before}\nworker.main()", str(os.getpid()), *arguments]


def counting(path: Path) -> list[str]:
    """A worker that leaves a line in ``path`` for each time that it was started."""
    return doing("open(sys.argv[2], 'a').write('started\\n')", str(path))


def starts(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def holds(evaluator: Evaluator, *expressions: str) -> list[bool | None]:
    return [verdict.holds for verdict in evaluator.evaluate(expressions, LISTS)]


def test_each_invariant_gets_its_own_verdict() -> None:
    verdicts = evaluate(
        [
            "registry.models.embedder.champion.dimension == index.tables.passages.dimension",
            "registry.models.embedder.champion.digest == index.tables.passages.embedder",
            "index.position.rows > 0",
        ],
        FACTS,
    )
    assert [verdict.holds for verdict in verdicts] == [True, False, True]
    assert verdicts[1].values["index.tables.passages.embedder"] == "sha256:bb"


def test_a_missing_fact_is_unknown_and_says_which() -> None:
    (verdict,) = evaluate(["index.tables.articles.dimension == 64"], FACTS)
    assert (verdict.holds, verdict.evaluated) == (None, True)
    assert "articles" in verdict.reason


def test_a_component_without_facts_is_unknown() -> None:
    (verdict,) = evaluate(["features.version == 3"], FACTS)
    assert verdict.holds is None


def test_what_is_not_a_truth_value_is_unknown() -> None:
    (verdict,) = evaluate(["index.position.rows"], FACTS)
    assert verdict.holds is None
    assert "true or false" in verdict.reason


def test_half_a_surrogate_pair_among_the_facts_hinders_no_verdict() -> None:
    scope = {"a": {"name": "x\udcff", "other": "x\udcfe", "\udcff": 1, "rows": [3, "\udcff"]}}
    asked = ["a.rows[0] == 3", "a.name == a.other", "a.name == a.name"]
    said = worker.answers(json.dumps({"expressions": asked, "scope": scope, "cpu_seconds": 0}))
    assert [answer["holds"] for answer in said] == [True, False, True]


# ------------------------------------------------------------------------------------------- one worker for all


def test_nothing_to_evaluate_starts_no_worker(tmp_path: Path) -> None:
    with Evaluator(command=counting(tmp_path / "starts")) as evaluator:
        assert evaluator.evaluate([], FACTS) == []
    assert starts(tmp_path / "starts") == 0


def test_all_groups_share_one_worker_which_ends_with_the_last(tmp_path: Path) -> None:
    with Evaluator(command=counting(tmp_path / "starts")) as evaluator:
        assert holds(evaluator, TRUE, "a.l.size() == 1") == [True, False]
        assert evaluator.evaluate([], LISTS) == []
        assert holds(evaluator, TRUE) == [True]
        (process,) = started_by(evaluator)
        assert process.poll() is None
    assert starts(tmp_path / "starts") == 1
    assert process.poll() is not None


def started_by(evaluator: Evaluator) -> Sequence[subprocess.Popen[bytes]]:
    worker = evaluator._worker
    return [] if worker is None else [worker._process]


@pytest.mark.slow
@pytest.mark.parametrize(("fatal", "bounds"), [(ENDLESS, QUICK), (GREEDY, PATIENT)], ids=["time", "memory"])
def test_after_a_worker_that_died_the_next_group_gets_another(
    tmp_path: Path, fatal: str, bounds: Bounds
) -> None:
    with Evaluator(bounds, counting(tmp_path / "starts")) as evaluator:
        assert holds(evaluator, fatal) == [None]
        assert holds(evaluator, TRUE) == [True]
    assert starts(tmp_path / "starts") == 2


def test_after_a_worker_that_was_killed_between_two_groups_the_next_gets_another(tmp_path: Path) -> None:
    with Evaluator(command=counting(tmp_path / "starts")) as evaluator:
        assert holds(evaluator, TRUE) == [True]
        (process,) = started_by(evaluator)
        process.kill()
        process.wait()
        assert holds(evaluator, TRUE) == [True]
    assert starts(tmp_path / "starts") == 2


# ---------------------------------------------------------------------------------------------- what it may take


def test_an_expression_that_never_ends_is_killed_and_unknown() -> None:  # fault 62
    with Evaluator(QUICK) as evaluator:
        verdicts = evaluator.evaluate([TRUE, ENDLESS, TRUE], LISTS)
    assert [verdict.holds for verdict in verdicts] == [True, None, None]
    assert [verdict.evaluated for verdict in verdicts] == [True, False, False]
    assert "0.5 CPU seconds" in verdicts[1].reason


@pytest.mark.slow
def test_what_the_start_takes_is_not_counted() -> None:  # fault 62
    """A start that takes more CPU time than there is for the expressions, as many a busy machine makes it."""
    slow = "import time\nwhile time.process_time() < 1.5: pass\n"
    with Evaluator(Bounds(cpu_seconds=1.0), doing(slow + BURNING)) as evaluator:
        assert holds(evaluator, TRUE) == [True]


def test_a_worker_that_waits_for_its_turn_is_waited_for(tmp_path: Path) -> None:
    """Started, and not run by the machine until something else has happened."""
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    waits = (
        "import os, pathlib, time\npathlib.Path(sys.argv[2]).touch()\n"
        "while not os.path.exists(sys.argv[3]): time.sleep(0.01)"
    )
    found: list[bool | None] = []

    def ask() -> None:
        with Evaluator(QUICK, doing(waits, str(begun), str(gate))) as evaluator:
            found.extend(holds(evaluator, TRUE))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    while not begun.exists():
        asking.join(0.01)
        assert asking.is_alive()
    assert found == []
    gate.touch()
    asking.join(60)
    assert found == [True]


@pytest.mark.slow
def test_the_budget_is_each_groups_own() -> None:  # fault 62
    """Together they take more than one has."""
    with Evaluator(Bounds(cpu_seconds=1.0), doing(BURNING)) as evaluator:
        assert [holds(evaluator, TRUE) for _ in range(3)] == [[True]] * 3
        assert holds(evaluator, TRUE, TRUE) == [True, None]


@pytest.mark.slow
def test_an_expression_that_wants_too_much_memory_is_unknown_and_says_so() -> None:  # fault 62
    with Evaluator(PATIENT) as evaluator:
        before, verdict = evaluator.evaluate([TRUE, GREEDY], LISTS)
    assert (before.holds, verdict.holds, verdict.evaluated) == (True, None, False)
    assert "1024 MiB of memory" in verdict.reason


def test_a_worker_that_hangs_is_killed_at_the_wall_limit_and_unknown() -> None:  # fault 62
    hangs = "worker.answers = lambda line: __import__('signal').pause()"
    with Evaluator(Bounds(wall_seconds=0.1), doing(hangs)) as evaluator:
        (verdict,) = evaluator.evaluate([TRUE], LISTS)
    assert (verdict.holds, verdict.evaluated) == (None, False)
    assert "hung" in verdict.reason and "0.1 s" in verdict.reason


def test_one_that_something_else_killed_says_by_what() -> None:
    killed = "worker.answers = lambda line: __import__('os').kill(__import__('os').getpid(), 9)"
    with Evaluator(command=doing(killed)) as evaluator:
        (verdict,) = evaluator.evaluate([TRUE], LISTS)
    assert (verdict.holds, verdict.reason) == (None, "not evaluated: its process was killed by SIGKILL")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["/nowhere/python"], "No such file"),
        ([sys.executable, "-c", "raise SystemExit(3)"], "ended with 3"),
        ([sys.executable, "-c", "import signal; signal.pause()"], "within 0.1 s"),
    ],
)
def test_a_worker_that_does_not_get_ready_is_unknown_and_not_waited_for_again(
    command: list[str], said: str
) -> None:
    with Evaluator(Bounds(ready_seconds=0.1 if "within" in said else 60), command) as evaluator:
        for _ in range(2):
            (verdict,) = evaluator.evaluate([TRUE], LISTS)
            assert (verdict.holds, verdict.evaluated) == (None, False)
            assert "did not get ready" in verdict.reason and said in verdict.reason
        assert not started_by(evaluator)


def test_a_worker_whose_parent_was_gone_before_it_began_does_nothing() -> None:  # fault 18
    orphan = subprocess.run(
        [sys.executable, "-m", "refloat.point.worker", "1"], input="", capture_output=True, text=True
    )
    assert (orphan.returncode, orphan.stdout, orphan.stderr) == (1, "", "")


def test_bad_syntax_is_told_on_one_line() -> None:
    assert syntax_error("a.b == 1") is None
    told = syntax_error("a.b ===")
    assert told is not None and "\n" not in told
