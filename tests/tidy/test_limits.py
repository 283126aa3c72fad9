"""How long a test may take: a minute, five where it is slow, what it says itself, in a soak as long as it likes."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
TOLD = """
import pytest

def told(request):
    marker = request.node.get_closest_marker("timeout")
    print(request.node.name, marker and marker.args[0])

def test_plain(request): told(request)

@pytest.mark.slow
def test_slow(request): told(request)

@pytest.mark.slow
@pytest.mark.timeout(960)
def test_own(request): told(request)
"""
HANGS = """
import threading

def test_hangs():
    threading.Thread(target=threading.Event().wait, name="another", daemon=True).start()
    threading.Event().wait()
"""


def run_of(folder: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_some.py").write_text(source)
    plugins = ("-p", "conftest", "-p", "no:cacheprovider", "-p", "no:randomly", "-W", "ignore")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-s",
        *plugins,
        "-c",
        os.devnull,
        "--rootdir",
        folder,
        folder,
    ]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    return subprocess.run([*command, *options], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("options", "limits"), [((), (None, 300, 960)), (("--timeout", "0"), (None, None, 960))]
)
def test_a_slow_test_has_its_own_limit_and_none_in_a_soak(
    tmp_path: Path, options: tuple[str, ...], limits: tuple[int | None, ...]
) -> None:
    ran = run_of(tmp_path, TOLD, *options)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for name, limit in zip(("test_plain", "test_slow", "test_own"), limits, strict=True):
        assert f"{name} {limit}" in ran.stdout


def test_what_hangs_is_ended_with_the_stacks_of_all_threads(tmp_path: Path) -> None:
    ran = run_of(tmp_path, HANGS, "--timeout", "1", "-o", "timeout_func_only=true")
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED, ran.stdout + ran.stderr
    assert "Stack of another" in ran.stdout, "the other thread's"
    assert "test_hangs" in ran.stdout and "Timeout (>1.0s)" in ran.stdout, "its own"


def test_every_test_has_a_minute() -> None:
    told = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert (told["timeout"], told["timeout_func_only"]) == (60, True)
