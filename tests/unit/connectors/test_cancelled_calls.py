"""A call that was told to end does so also where it reads, checks or installs for long by itself."""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from refloat.connectors import mlflow, predictions, process_packages, sqlite
from refloat.connectors.allowance import Allowance
from refloat.connectors.mlflow import MLflowSettings
from refloat.connectors.mlflow_snapshot import Disk
from refloat.contracts import Op, Place, Settings
from refloat.errors import Cancelled

HANG_S = 20.0  # ends a test that would hang; no verdict rests on it
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n"


def op(scratch: Path, settings: Settings | None = None) -> Op:
    return Op(Place("part", "us", settings or Settings()), "run-1", "token-1", 1, scratch)


def called_off() -> None:
    raise Cancelled("it was called off")


def test_what_installs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """A child outlives the threads of its parent, and would go on writing into what is put back."""
    started = tmp_path / "started"
    script = (
        "import os, pathlib, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep({3 * HANG_S})'])\n"
        f"path = pathlib.Path({str(started)!r})\n"
        "path.with_suffix('.new').write_text(f'{os.getpid()} {child.pid}')\n"
        "path.with_suffix('.new').rename(path)\n"
        f"time.sleep({HANG_S})\n"
    )

    def check() -> None:
        if started.exists():
            called_off()

    with pytest.raises(Cancelled):
        process_packages._run([sys.executable, "-c", script], HANG_S, "install", check)
    tool, child = map(int, started.read_text().split())
    assert not Path(f"/proc/{tool}").exists()
    given_up = time.monotonic() + HANG_S
    while _state(child) not in ("", "Z", "X"):
        assert time.monotonic() < given_up, "it goes on"
        time.sleep(0.01)


def _state(pid: int) -> str:
    """What a process does, as the kernel says it; empty for one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def test_an_environment_is_not_made_any_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def run(command: list[str], seconds: float, doing: str, check: Callable[[], None]) -> str:
        begun.append(doing)
        check()
        return ""

    monkeypatch.setattr(process_packages, "_run", run)
    monkeypatch.setattr(process_packages, "_base", lambda captured: sys.executable)
    captured = process_packages.Environment.model_construct(packages={}, everything=True)
    with pytest.raises(Cancelled):
        process_packages.build(tmp_path / "venv", captured, tmp_path, called_off)
    assert begun == ["make a virtual environment"]


def test_a_check_of_a_database_is_interrupted(tmp_path: Path) -> None:
    path, looked = tmp_path / "database", threading.Event()
    sqlite3.connect(path).execute("CREATE TABLE t (x)").connection.close()

    def over() -> bool:
        looked.set()
        return True

    with (
        sqlite._reading(path, HANG_S, immutable=True, over=over) as connection,
        pytest.raises(sqlite3.OperationalError, match="interrupted"),
    ):
        connection.execute(f"{ENDLESS}) SELECT count(*) FROM n").fetchone()
    assert looked.is_set()


def test_the_check_of_what_is_staged_looks_whether_it_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    going = op(tmp_path)
    path = tmp_path / "database"
    sqlite3.connect(path).execute("CREATE TABLE t (x)").connection.close()

    def flaws(connection: sqlite3.Connection) -> list[str]:
        going.cancelled.set()
        connection.execute(f"{ENDLESS} LIMIT 9000000) SELECT count(*) FROM n").fetchone()
        return []

    monkeypatch.setattr(sqlite, "_flaws", flaws)
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        sqlite._require_sound(path, Allowance(going, "staging"), path, "choose another")


def test_a_log_is_counted_no_further(tmp_path: Path) -> None:
    path, looks = tmp_path / "log", []
    path.write_bytes(b'{"id": "a"}\n' * 200_000)

    def check() -> None:
        looks.append(1)
        called_off()

    with path.open("rb") as file, pytest.raises(Cancelled):
        predictions._tally(file, path.stat().st_size, check)
    assert len(looks) == 1


def test_artifacts_are_compared_no_further(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"weights")
    with pytest.raises(Cancelled):
        Disk(tmp_path, called_off).listing("")


def test_the_comparison_of_what_is_staged_looks_whether_it_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Seen(Exception):
        pass

    def disk(root: Path, check: Callable[[], None]) -> Disk:
        assert check == allowance.check
        raise Seen

    settings = MLflowSettings(
        tracking_uri=f"sqlite:////{tmp_path}/mlflow.db", artifacts=str(tmp_path / "artifacts")
    )
    going = op(tmp_path, settings)
    allowance = Allowance(going, "staging MLflow")
    for path in (settings.root, settings.database):
        mlflow.Beside(path, going.token).staged.touch()
    monkeypatch.setattr(mlflow, "Disk", disk)
    with pytest.raises(Seen):
        mlflow._validate(mlflow._Origin((), {}, {}), going, allowance)
