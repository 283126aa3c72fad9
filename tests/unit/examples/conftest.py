"""One region of the example pipeline, built once for all tests; what changes it works on a copy."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[2] / "examples" / "pydocs_assistant")]
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from pydocs_assistant.paths import Region  # noqa: E402
from pydocs_region import Served, finish, program, serving, step_is, wait_until  # noqa: E402


@pytest.fixture(scope="session")
def region(tmp_path_factory: pytest.TempPathFactory) -> Region:
    """A region built in two goes: killed with SIGKILL while it trained its models, then resumed."""
    made = Region.at(tmp_path_factory.mktemp("regions") / "eu")
    first = program("build", "--root", made.root)
    wait_until(lambda: step_is(made, "training", "running"), first)
    os.kill(first.pid, signal.SIGKILL)
    finish(first)
    second = program("build", "--root", made.root)
    printed = finish(second)
    assert second.returncode == 0, printed
    return made


@pytest.fixture
def copied(region: Region, tmp_path: Path) -> Region:
    """A copy of the region that a test may change; the registry's addresses are those of the copy."""
    root = tmp_path / "copy"
    shutil.copytree(region.root, root, ignore=shutil.ignore_patterns("FENCE"))
    copy = Region.at(root)
    columns = {
        "experiments": "artifact_location",
        "runs": "artifact_uri",
        "logged_models": "artifact_location",
        "model_versions": "storage_location",
    }
    with closing(sqlite3.connect(copy.database)) as database, database:
        for table, column in columns.items():
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)",
                (str(region.artifacts), str(copy.artifacts)),
            )
    return copy


@pytest.fixture(scope="session")
def served(region: Region) -> Iterator[Served]:
    """The endpoint of the region."""
    with serving(region) as endpoint:
        yield endpoint
