"""A caller may close any of the standard streams."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_changes_no_exit_code_and_is_no_defect(desk, closed: str) -> None:
    command = f'"{sys.executable}" -m refloat points list {closed}'
    ran = subprocess.run(
        ["sh", "-c", command], cwd=desk.root, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "defect" not in ran.stderr and "Traceback" not in ran.stderr


def test_an_error_that_a_full_device_does_not_take_is_said_as_to_a_person(desk) -> None:
    command = f'"{sys.executable}" -m refloat --json -f nowhere.yaml check > /dev/full'
    ran = subprocess.run(
        ["sh", "-c", command], cwd=desk.root, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: there is no manifest here") and "Traceback" not in ran.stderr
