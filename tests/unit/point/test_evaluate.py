from __future__ import annotations

import subprocess
import sys
import time

from refloat.contracts import Facts
from refloat.point.evaluate import evaluate, syntax_error

FACTS = {
    "registry": Facts({"models": {"embedder": {"champion": {"dimension": 64, "digest": "sha256:aa"}}}}),
    "index": Facts({"tables": {"passages": {"dimension": 64, "embedder": "sha256:bb"}}}, {"rows": 10}),
}


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
    assert verdict.holds is None
    assert "articles" in verdict.reason


def test_a_component_without_facts_is_unknown() -> None:
    (verdict,) = evaluate(["features.version == 3"], FACTS)
    assert verdict.holds is None


def test_what_is_not_a_truth_value_is_unknown() -> None:
    (verdict,) = evaluate(["index.position.rows"], FACTS)
    assert verdict.holds is None
    assert "true or false" in verdict.reason


def test_nothing_to_evaluate_starts_no_worker() -> None:
    assert evaluate([], FACTS) == []


def test_an_expression_that_never_ends_is_killed_and_unknown() -> None:  # fault 62
    facts = {"a": Facts({"l": list(range(2000))})}
    endless = "a.l.all(i, a.l.all(j, a.l.all(k, a.l.all(m, m >= 0))))"
    began = time.monotonic()
    verdicts = evaluate(["a.l.size() == 2000", endless], facts, seconds_max=1.5)
    assert time.monotonic() - began < 5
    assert [verdict.holds for verdict in verdicts] == [True, None]
    assert "1.5 s" in verdicts[1].reason


def test_a_worker_whose_parent_was_gone_before_it_began_does_nothing() -> None:  # fault 18
    asked = '{"expressions": ["1 == 1"], "scope": {}}'
    orphan = subprocess.run(
        [sys.executable, "-m", "refloat.point.worker", "1"], input=asked, capture_output=True, text=True
    )
    assert (orphan.returncode, orphan.stdout, orphan.stderr) == (1, "", "")


def test_bad_syntax_is_told_on_one_line() -> None:
    assert syntax_error("a.b == 1") is None
    told = syntax_error("a.b ===")
    assert told is not None and "\n" not in told
