"""One region of the example pipeline, built once for all tests and processes; what changes it works on a copy."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[2] / "examples" / "pydocs_assistant")]
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from pydocs_assistant.paths import Region  # noqa: E402
from pydocs_region import EXAMPLE, Served, finish, program, serving  # noqa: E402

KILLED_BETWEEN_ITS_MODELS = """
import os, signal, sys
from pydocs_assistant import __main__ as command
command._quiet_libraries()
from pydocs_assistant import training
training._train_classifier = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.exit(command.main())
"""


def build_in_two_goes(made: Region) -> None:
    """Build a region: killed with SIGKILL when one of its two models is trained, then resumed."""
    words = [sys.executable, "-c", KILLED_BETWEEN_ITS_MODELS, "build", "--root", str(made.root)]
    first = subprocess.run(
        words, cwd=EXAMPLE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert first.returncode == -signal.SIGKILL, first.stdout
    second = program("build", "--root", made.root)
    printed = finish(second)
    assert second.returncode == 0, printed


def copy_of(region: Region, root: Path) -> Region:
    """A copy of a region; the registry's addresses are those of the copy."""
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
def region(tmp_path_factory: pytest.TempPathFactory) -> Region:
    """A region built in two goes, by the first process of this run that asks for one; a copy for each process."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with (shared / "region.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        whole = shared / "region"
        if not whole.exists():
            making = shared / "region-being-built"
            shutil.rmtree(making, ignore_errors=True)  # what a build left that failed
            build_in_two_goes(Region.at(making))
            copy_of(Region.at(making), whole)
    return copy_of(Region.at(whole), tmp_path_factory.mktemp("regions") / "eu")


@pytest.fixture
def learning() -> Iterator[None]:
    """For a test that trains in this process, where everything is loaded: it is shared with other tests.

    As in the program itself, linear algebra has one thread: others that wait would keep the machine busy.
    """
    import mlflow
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)
    os.environ.pop("MLFLOW_REGISTRY_URI", None)  # which that leaves as it was


@pytest.fixture
def copied(region: Region, tmp_path: Path) -> Region:
    """A copy of the region that a test may change."""
    return copy_of(region, tmp_path / "copy")


@pytest.fixture(scope="session")
def served(region: Region) -> Iterator[Served]:
    """The endpoint of the region."""
    with serving(region) as endpoint:
        yield endpoint
