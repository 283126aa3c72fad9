"""The ``predictions`` connector keeps the contract, and its facts are of exactly what it captured."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat.connectors import predictions
from refloat.connectors.predictions import Predictions, PredictionsSettings
from refloat.contracts import Health, Observed, Op, Place, Settings
from refloat.errors import ConnectorError, Retry
from refloat.testing.connector_contract import ActingSink, ConnectorContract
from refloat.testing.memory_snapshot import MemorySink


def append(path: Path, *numbers: int) -> None:
    with path.open("a") as file:
        for number in numbers:
            time = f"2026-11-01T12:00:{number:02d}Z"
            file.write(json.dumps({"id": f"q{number}", "time": time, "topic": "modules"}) + "\n")


class TestContract(ConnectorContract):
    connector = Predictions()

    def make_live(self, tmp_path: Path) -> Settings:
        append(tmp_path / "answers.jsonl", 1, 2, 3)
        return self.empty_target(tmp_path)

    def mutate(self, settings: Settings) -> None:
        append(Path(settings.path), 4, 5)  # type: ignore[attr-defined]

    def change_identity(self, settings: Settings) -> None:
        path = Path(settings.path)  # type: ignore[attr-defined]
        path.rename(path.with_name("answers.jsonl.1"))
        append(path, 9)

    def empty_target(self, tmp_path: Path) -> Settings:
        return PredictionsSettings(path=str(tmp_path / "answers.jsonl"))

    def fill_foreign(self, settings: Settings) -> None:
        append(Path(settings.path), 7)  # type: ignore[attr-defined]


def place(path: Path, **named: Any) -> Place:
    return Place("part", "eu", PredictionsSettings(path=str(path), **named))


def op(path: Path, **named: str) -> Op:
    return Op(place(path, **named), run="r", token="t", epoch=1, scratch=path.parent)


def test_facts_say_where_the_log_stands(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    append(path, 1, 2)
    first = path.read_bytes().split(b"\n")[0]
    facts = Predictions().inspect(place(path))
    assert facts.identity == {"first": f"sha256:{hashlib.sha256(first).hexdigest()}"}
    assert facts.position == {
        "bytes": path.stat().st_size,
        "records": 2,
        "last": "2026-11-01T12:00:02Z",
        "last_id": "q2",
    }


def test_the_names_of_time_and_identifier_are_settings(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"at": 17, "request": "a"}\n')
    position = Predictions().inspect(place(path, time_field="at", id_field="request")).position
    assert (position["last"], position["last_id"]) == (17, "a")


def test_a_record_that_is_still_being_written_is_not_captured(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    append(path, 1, 2)
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(b'{"id": "q3", "time": "2026')
    sink = MemorySink()
    facts = Predictions().capture(sink, op(path))
    assert sink.held.stored == {"log.jsonl": whole}
    assert (facts.position["records"], facts.position["last_id"]) == (2, "q2")


def test_what_is_appended_while_it_is_captured_belongs_to_the_next_point(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    append(path, 1, 2)
    before, connector = path.read_bytes(), Predictions()
    sink = ActingSink(lambda: append(path, 3, 4))
    facts = connector.capture(sink, op(path))
    assert sink.held.stored == {"log.jsonl": before}
    assert facts.position["records"] == 2
    after = connector.inspect(place(path))
    assert after.identity == facts.identity
    assert after.token != facts.token


def test_a_log_that_is_cut_short_meanwhile_is_an_error_worth_another_try(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    append(path, 1, 2)
    for act in (lambda: os.truncate(path, 10), lambda: path.write_text("")):
        append(path, 3)
        with pytest.raises(ConnectorError, match="cut short") as caught:
            Predictions().capture(ActingSink(act), op(path))
        assert caught.value.retry is Retry.NOW


def test_a_log_that_is_rotated_meanwhile_is_captured_whole_and_its_identity_moves(tmp_path: Path) -> None:
    path, connector = tmp_path / "answers.jsonl", Predictions()
    append(path, 1, 2)
    old = path.read_bytes()

    def rotate() -> None:
        path.rename(tmp_path / "answers.jsonl.1")
        append(path, 9)

    sink = ActingSink(rotate)
    facts = connector.capture(sink, op(path))
    assert sink.held.stored["log.jsonl"] == old
    assert connector.inspect(place(path)).identity != facts.identity


def test_an_empty_log_is_a_log_and_comes_back(tmp_path: Path) -> None:
    path, target = tmp_path / "answers.jsonl", tmp_path / "us" / "answers.jsonl"
    path.touch()
    sink, connector = MemorySink(), Predictions()
    facts = connector.capture(sink, op(path))
    assert facts.identity == {"first": ""}
    assert facts.position == {"bytes": 0, "records": 0, "last": None, "last_id": None}
    assert connector.health(place(path)) is Health.HEALTHY
    connector.stage(sink.source(facts), op(target))
    connector.activate(op(target))
    assert target.read_bytes() == b""
    assert connector.holder(place(target)) == "r"


@pytest.mark.parametrize("line", ["no json", "[1]", '{"time": {"a": 1}, "id": 1.5}', "[" * 100_000, "\udcff"])
def test_a_last_line_that_is_no_record_has_no_time(tmp_path: Path, line: str) -> None:
    path = tmp_path / "answers.jsonl"
    append(path, 1)
    with path.open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(line + "\n")
    position = Predictions().inspect(place(path)).position
    assert (position["records"], position["last"], position["last_id"]) == (2, None, None)
    assert (Predictions().health(place(path)) is Health.SICK) is not line.startswith("{")


def test_a_missing_log_is_sick(tmp_path: Path) -> None:
    assert Predictions().health(place(tmp_path / "gone")) is Health.SICK


def test_a_staged_log_with_other_records_is_refused(tmp_path: Path) -> None:
    path, target = tmp_path / "answers.jsonl", tmp_path / "us" / "answers.jsonl"
    append(path, 1, 2)
    sink = MemorySink()
    facts = Predictions().capture(sink, op(path))
    sink.held.stored["log.jsonl"] = sink.held.stored["log.jsonl"].replace(b"\n", b" ", 1)
    with pytest.raises(ConnectorError, match="not the captured one"):
        Predictions().stage(sink.source(facts), op(target))
    assert Predictions().observe(op(target)) is Observed.PARTIAL


def test_a_line_longer_than_a_block_is_one_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "_BLOCK_BYTES", 64)
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps({"id": "x" * 500, "time": 1}) + "\n" + "y" * 300)
    position = Predictions().inspect(place(path)).position
    assert (position["records"], position["last_id"], position["last"]) == (1, "x" * 500, 1)
    assert position["bytes"] == path.stat().st_size - 300


@given(
    lines=st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line)),
    cuts=st.lists(st.integers(1, 12), min_size=1),
    longest=st.integers(1, 40),
)
def test_a_tally_does_not_depend_on_how_the_bytes_come_in(
    lines: list[bytes], cuts: list[int], longest: int
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(predictions, "_LINE_BYTES_MAX", longest)
        content = b"".join(line + b"\n" for line in lines)
        tally, rest = predictions._Tally(), content
        for cut in itertools.cycle(cuts):
            tally.feed(rest[:cut])
            rest = rest[cut:]
            if not rest:
                break
    assert (tally.size, tally.records) == (len(content), len(lines))
    assert tally.last == (lines[-1][:longest] if lines else b"")
    digest = f"sha256:{hashlib.sha256(lines[0][:longest]).hexdigest()}" if lines else ""
    assert tally.first == digest


def test_a_pipe_where_the_log_should_be_holds_up_nobody(tmp_path: Path) -> None:  # fault 40
    path = tmp_path / "answers.jsonl"
    os.mkfifo(path)
    for act in (
        lambda: Predictions().inspect(place(path)),
        lambda: Predictions().capture(MemorySink(), op(path)),
    ):
        with pytest.raises(ConnectorError, match="not a regular file"):
            act()
    assert Predictions().health(place(path)) is Health.SICK


# ------------------------------------------------------------------------------------------- whose questions

PROBED = "7265666c-6f61-4c0e-8d6e-0123456789ab"


def told(path: Path, records: list[dict[str, object]], **named: Any) -> list[str]:
    """What the connector remarks of a log with these records."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return [remark.message for remark in Predictions().remarks(place(path, **named))]


@pytest.mark.parametrize("id", [PROBED, PROBED.replace("-", ""), PROBED.upper()])
def test_a_question_of_a_verification_that_passes_for_a_users_is_remarked(tmp_path: Path, id: str) -> None:
    users = [{"id": "q1", "source": "user"}, {"id": "q2", "question": f"what is {PROBED}?", "source": "user"}]
    log, probes = tmp_path / "log", {"source": "probe"}
    assert told(log, users, probes=probes) == []
    assert told(log, [*users, {"id": id, "source": "probe"}], probes=probes) == []
    (unmarked,) = told(log, [*users, {"id": id, "source": "user"}], probes=probes)
    assert "without {'source': 'probe'}: 1 of its newest records" in unmarked
    (unsaid,) = told(log, [*users, {"id": id, "source": "probe"}])
    assert "nothing says how they are marked: 1 of" in unsaid


def test_it_goes_by_the_key_that_holds_the_identifier(tmp_path: Path) -> None:
    record: dict[str, object] = {"request": PROBED}
    assert told(tmp_path / "log", [record]) == []
    assert len(told(tmp_path / "log", [record], id_field="request")) == 1


def test_only_the_end_of_a_long_log_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "_LOOK_BYTES", 200)
    assert told(tmp_path / "log", [{"id": PROBED}, *[{"id": "x" * 50}] * 9]) == []
    assert len(told(tmp_path / "log", [*[{"id": "x" * 50}] * 9, {"id": PROBED}])) == 1
