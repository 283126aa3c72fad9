"""What is skipped says loudly what was not tried and why, and is counted where a run ends."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
LOUD = re.compile(r"^[A-Z][A-Z ]+ NOT TRIED: [a-z{]")


def reasons(source: str) -> Iterator[str]:
    """The reasons of ``pytest.skip``, with {} for what is put in."""
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.skip":
            (reason,) = call.args
            parts = reason.values if isinstance(reason, ast.JoinedStr) else [reason]
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)


def test_every_skip_says_what_was_not_tried_and_why() -> None:
    found = {reason for path in TESTS.rglob("*.py") for reason in reasons(path.read_text())}
    assert len(found) > 8
    assert [reason for reason in sorted(found) if not LOUD.match(reason)] == []


def test_nothing_is_skipped_without_saying_so_where_it_happens() -> None:
    marks = re.compile(r"mark\.(skip|skipif|xfail)\b|importorskip\(|SkipTest")
    others = [path for path in TESTS.rglob("*.py") if path != Path(__file__)]
    assert [str(path) for path in others if marks.search(path.read_text())] == []


@pytest.fixture
def run_of_skips(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs three tests that are skipped and one that is not, with these options."""
    skip = 'pytest.skip("A DISK NOT TRIED: there is none")'
    tests = [f"def test_{number}():\n    {skip}\n" for number in range(3)]
    (tmp_path / "test_some.py").write_text("import pytest\n" + "".join(tests) + "def test_good(): pass\n")
    plugins = ("-p", "conftest", "-p", "no:cacheprovider", "-p", "no:randomly")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        *plugins,
        "-c",
        os.devnull,
        "--rootdir",
        tmp_path,
        tmp_path,
    ]

    def ran(*options: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(TESTS)}
        return subprocess.run(
            [*command, *options], env=environment, capture_output=True, text=True, check=False
        )

    return ran


def test_a_run_ends_with_how_many_were_skipped_for_which_reason(
    run_of_skips: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    ran = run_of_skips()
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "3 skipped, A DISK NOT TRIED: there is none\n" in ran.stdout


@pytest.mark.parametrize("workers", [(), ("--numprocesses", "1")])
def test_where_all_must_be_tried_a_skip_is_a_failure(
    run_of_skips: Callable[..., subprocess.CompletedProcess[str]], workers: tuple[str, ...]
) -> None:
    ran = run_of_skips("--all-tried", *workers)
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED, ran.stdout + ran.stderr
    assert "3 skipped, A DISK NOT TRIED: there is none\n" in ran.stdout
    assert run_of_skips("--all-tried", "-k", "good", *workers).returncode == 0
