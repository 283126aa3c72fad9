"""What the story counts and concludes, without playing it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from refloat.demo import story, table
from refloat.demo.story import Told, _violated, closing, compare
from refloat.errors import RefloatError

RECOVER: dict[str, Any] = {
    "to": "us",
    "verified": True,
    "rto": {"seconds": 12.5, "objective_s": 300.0},
    "components": {
        "registry": {
            "layer": "model",
            "tier": "operational",
            "rto": {"seconds": 3.0, "objective_s": 14400.0},
            "rpo": {"seconds": 4.5, "objective_s": 1800.0},
            "bytes": 2048,
        },
        "assistant": {
            "layer": "serving",
            "tier": "critical",
            "rto": {"seconds": 301.0, "objective_s": 300.0},
            "rpo": {"seconds": None, "objective_s": 60.0},
            "bytes": 0,
        },
    },
    "checks": [
        {
            "name": "latency_p95",
            "component": "assistant",
            "baseline": 0.0125,
            "recovered": 0.02,
            "bound": "at most 3x",
            "samples": 400,
            "verdict": "pass",
            "unit": "s",
        },
        {
            "name": "throughput",
            "component": "assistant",
            "baseline": 81.0,
            "recovered": None,
            "bound": "at least 0.4x",
            "samples": 0,
            "verdict": "unknown",
            "unit": "1/s",
        },
    ],
}
BACK: dict[str, Any] = {
    "protect": {"regions": {"eu": {"complete": True}, "us": {"complete": True}}, "unverifiable": {}}
}
STATUS: dict[str, Any] = {"protected": {"well": True}, "recovered": {"well": True}}
LEDGER = {"answered": 90, "lost": 41}


def write(path: Path, ids: Iterable[str]) -> Path:
    path.write_text("".join(json.dumps({"id": id}) + "\n" for id in ids))
    return path


def drawn(drawing: Table) -> str:
    console = Console(width=120, no_color=True)
    with console.capture() as capture:
        console.print(drawing)
    return capture.get()


@pytest.mark.parametrize(
    ("answered", "recovered", "counted"),
    [
        (["a", "b", "c"], ["a", "b"], {"answered": 3, "lost": 1}),
        (["a"], ["a"], {"answered": 1, "lost": 0}),
        (["a", "b"], [], {"answered": 2, "lost": 2}),
        (["a"], ["a", "probe-1", "probe-2"], {"answered": 1, "lost": 0}),
        (["a", "a"], ["a"], {"answered": 1, "lost": 0}),
    ],
)
def test_lost_is_what_the_client_saw_answered_and_the_recovered_log_does_not_hold(
    tmp_path: Path, answered: list[str], recovered: list[str], counted: dict[str, int]
) -> None:
    assert compare(write(tmp_path / "ledger", answered), write(tmp_path / "log", recovered)) == counted


def test_the_invariant_that_is_named_is_the_first_that_does_not_hold() -> None:
    def group(*verdicts: tuple[str, bool | None]) -> dict[str, Any]:
        return {"invariants": [{"must": must, "holds": holds} for must, holds in verdicts]}

    assert _violated({"groups": {"a": group(("x", True)), "b": group(("y", True), ("z", False))}}) == "z"
    assert _violated({"groups": {"a": group(("unknown", None), ("z", False))}}) == "unknown"
    with pytest.raises(RefloatError, match="no invariant noticed"):
        _violated({"groups": {"a": group(("x", True))}})


def test_the_document_is_made_of_the_commands_own() -> None:
    told = Told({"point": "p"}, RECOVER, {"grade": "broken"}, BACK, STATUS, LEDGER, 41.237)
    assert told.document() == {
        "protect": {"point": "p"},
        "recover": RECOVER,
        "refused": {"grade": "broken"},
        "back": BACK,
        "status": STATUS,
        "ledger": LEDGER,
        "seconds": 41.24,
    }


def test_how_it_stands_is_said_in_a_sentence_that_names_what_is_not_well() -> None:
    parts = {"index": {"state": "ok"}, "predictions": {"state": "breach"}}
    well = story.standing({"well": True, "runs_in": "eu", "components": parts})
    assert well.startswith("status: it runs in eu, and every component keeps to its objective")
    bad = story.standing({"well": False, "runs_in": "us", "components": parts})
    assert bad == "status: it runs in us, and not all is well: predictions (breach)."


def test_the_closing_words_count_what_was_lost() -> None:
    words = closing(Told({}, RECOVER, {}, BACK, STATUS, LEDGER, 41.0))
    assert "All of it is back in us, and answers as well as before, after 12.5s; missed objectives: " in words
    assert "the RTO of assistant (5m 01s, objective 5m). Of 90" in words
    assert "Of 90 answers that the client saw, 41 are not in the recovered log" in words


def test_the_closing_words_say_where_the_next_point_lies_and_whether_it_could_be_verified() -> None:
    assert "lies whole in eu and us again, and could be verified." in closing(
        Told({}, RECOVER, {}, BACK, STATUS, LEDGER, 41.0)
    )
    regions = {"eu": {"complete": False}, "us": {"complete": True}}
    doubtful = {"protect": {"regions": regions, "unverifiable": {"assistant": ["no baseline"]}}}
    assert "lies whole in us, where it could not be verified." in closing(
        Told({}, RECOVER, {}, doubtful, STATUS, LEDGER, 41.0)
    )


def test_the_table_has_each_component_beside_its_objectives() -> None:
    text = drawn(table.components(RECOVER, LEDGER))
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    for words in ("model", "operational", "3s of 4h", "4.5s of 30m", "2.0 KiB"):
        assert words in rows["registry"], words
    assert "unknown" in rows["assistant"]
    assert "12.5s of 5m" in rows["the"]  # the pipeline's row
    assert "41 of 90 answers lost" in text


def test_the_table_of_behaviour_has_before_and_after() -> None:
    rows = {line.split()[0]: line for line in drawn(table.behaviour(RECOVER)).splitlines() if line.strip()}
    for words in ("12.5 ms", "20.0 ms", "at most 3x", "400", "pass"):
        assert words in rows["latency_p95"], words
    for words in ("81.0 /s", " - ", "unknown"):
        assert words in rows["throughput"], words


@pytest.mark.parametrize(
    ("seconds", "colour"), [(1.0, "green"), (60.0, "green"), (60.1, "red"), (None, "yellow")]
)
def test_what_was_achieved_is_green_only_within_the_objective(seconds: float | None, colour: str) -> None:
    text = table.achieved({"seconds": seconds, "objective_s": 60.0})
    assert colour in {str(span.style) for span in text.spans} | {str(text.style)}


class Client:
    """Asks, and has one answer more whenever somebody waits; after ``last`` of them it ends."""

    def __init__(self, ledger: Path, last: int) -> None:
        self.ledger, self.last, self.had = ledger, last, 0

    def wait(self, seconds: float) -> None:
        self.had += 1
        write(self.ledger, map(str, range(self.had)))

    def poll(self) -> int | None:
        return 0 if self.had == self.last else None


def test_the_story_goes_on_by_answers_and_not_by_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(tmp_path / "ledger.jsonl", last=10)
    monkeypatch.setattr(story.time, "sleep", client.wait)
    story._answered(client, client.ledger, 3)
    assert client.had == 3
    story._answered(client, client.ledger, 4)
    assert client.had == 7
    with pytest.raises(RefloatError, match="ended before it had 11 answers"):
        story._answered(client, client.ledger, 4)
