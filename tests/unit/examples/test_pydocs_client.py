"""The client with its ledger: it holds what was answered, and nothing else."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from pydocs_assistant import client as asking
from pydocs_region import Served, finish, program, wait_until

pytestmark = pytest.mark.slow


def _ledger(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_every_answer_in_the_ledger_is_in_the_log(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    client = program("ask", "--url", served.url, "--ledger", path, "--rate", "20", "--seconds", "3600")
    wait_until(lambda: path.exists() and path.read_text().count("\n") >= 5, client)
    client.terminate()
    printed = finish(client)
    ledger = _ledger(path)
    logged = {json.loads(line)["id"] for line in served.region.predictions.read_text("utf-8").splitlines()}

    assert client.returncode == 0, printed
    assert {entry["id"] for entry in ledger} <= logged
    assert all(entry["asked_at"] < entry["answered_at"] for entry in ledger)
    assert all(entry["answered_at"].endswith("Z") for entry in ledger)


class _Time:
    """Time that passes only while the client waits, or a question takes it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.mark.parametrize("took_s", [0.0, 1 / 64])
def test_it_asks_at_a_steady_rate_for_as_long_as_it_was_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took_s: float
) -> None:
    time, asked = _Time(), []

    def ask_one(*_: object) -> None:
        asked.append(time.now_s)
        time.now_s += took_s

    monkeypatch.setattr(asking, "time", time)
    monkeypatch.setattr(asking, "signal", SimpleNamespace(signal=lambda *_: None, SIGTERM=signal.SIGTERM))
    monkeypatch.setattr(asking, "_ask_one", ask_one)

    assert asking.ask("http://nobody", tmp_path / "ledger.jsonl", rate=16, seconds=2) == 0
    assert asked == [1000 + number / 16 for number in range(32)]


def test_the_client_stops_when_it_is_told_to(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    client = program("ask", "--url", served.url, "--ledger", path, "--seconds", "3600")
    wait_until(lambda: path.exists() and path.read_text().count("\n") >= 2, client)
    client.send_signal(signal.SIGTERM)
    finish(client)

    assert client.returncode == 0
    assert len(_ledger(path)) >= 2


def test_what_was_not_answered_leaves_no_line(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        path = tmp_path / "ledger.jsonl"
        client = program("ask", "--url", url, "--ledger", path, "--rate", "50", "--seconds", "0.3")
        printed = finish(client)

    assert client.returncode == 0, printed
    assert path.read_bytes() == b""


def test_a_fenced_region_answers_nothing_into_the_ledger(served: Served, tmp_path: Path) -> None:
    fence = served.region.root / "FENCE"
    fence.touch()
    try:
        path = tmp_path / "ledger.jsonl"
        finish(program("ask", "--url", served.url, "--ledger", path, "--rate", "20", "--seconds", "0.3"))
    finally:
        fence.unlink()

    assert path.read_bytes() == b""
