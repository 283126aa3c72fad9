"""What is skipped says loudly what was not tried and why, and is counted where a run ends."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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


def test_a_run_ends_with_how_many_were_skipped_for_which_reason(tmp_path: Path) -> None:
    skip = 'pytest.skip("A DISK NOT TRIED: there is none")'
    tests = [f"def test_{number}():\n    {skip}\n" for number in range(3)]
    (tmp_path / "test_some.py").write_text("import pytest\n" + "".join(tests) + "def test_good(): pass\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "conftest",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
    ]
    ran = subprocess.run(
        [*command, "--rootdir", tmp_path, tmp_path],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "3 skipped, A DISK NOT TRIED: there is none\n" in ran.stdout
