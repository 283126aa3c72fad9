"""Where the bytes of a recovery will lie, also for a while: each file system must have room for its part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from refloat.connectors.mlflow import MLflow, MLflowSettings
from refloat.connectors.process import Process, ProcessSettings
from refloat.contracts import Connector, Entry, EntryType, Facts, Place, Settings
from refloat.flows.room import needs_of
from refloat.point.model import Snapshot
from refloat.room import Need
from refloat.run.target import ComponentTarget
from refloat.testing.memory_snapshot import MemorySource

SCRATCH = Path("/scratch")


def needs(connector: Connector, settings: Settings, stored: dict[str, bytes]) -> list[Need]:
    entries = {path: Entry(path, EntryType.FILE, len(content)) for path, content in stored.items()}
    source = MemorySource(entries, stored, Facts({}))
    size = sum(map(len, stored.values()))
    snapshot = Snapshot.model_construct(bytes=size, files=len(stored))
    component: Any = ComponentTarget(
        "it", connector, Place("it", "us", settings), snapshot, source=lambda *_: source
    )
    return list(needs_of(component, SCRATCH))


def process(folder: Path, environment: str) -> ProcessSettings:
    return ProcessSettings(
        command=(f"{folder}/venv/bin/python", "serve.py"),
        cwd=str(folder),
        environment=environment,
        health="http://127.0.0.1:1/health",
    )


def test_wheels_lie_among_temporary_files_and_where_they_are_installed(tmp_path: Path) -> None:
    stored = {"environment.json": b"{}", "wheels/a.whl": b"a" * 5000}
    found = needs(Process(), process(tmp_path, "wheels"), stored)
    assert found == [Need("it", tmp_path, 5002, 2), Need("it", SCRATCH, 5002, 2)]


def test_an_environment_that_is_compared_alone_needs_no_room(tmp_path: Path) -> None:
    assert needs(Process(), process(tmp_path, "verify"), {"environment.json": b"{}"}) == []


def test_rows_pass_through_temporary_files_and_artifacts_do_not(tmp_path: Path) -> None:
    settings = MLflowSettings(
        tracking_uri=f"sqlite:///{tmp_path}/db/rows.db", artifacts=str(tmp_path / "files")
    )
    found = needs(
        MLflow(), settings, {"database/rows.db": b"r" * 10, "artifacts/m": b"m" * 300, "artifacts/n": b"n"}
    )
    assert found == [
        Need("it", tmp_path / "db", 10, 1),
        Need("it", tmp_path, 301, 2),
        Need("it", SCRATCH, 10, 1),
    ]
