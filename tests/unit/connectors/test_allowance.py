"""Time that is over and errors of the file system reach a person in words."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from refloat.connectors.allowance import Allowance, os_errors
from refloat.contracts import Op, Place, Settings
from refloat.errors import ConnectorError, DeadlineExceeded, Retry


def op(tmp_path: Path, deadline_s: float) -> Op:
    return Op(Place("part", "eu", Settings()), "r", "t", 1, tmp_path, deadline_s, threading.Event())


def test_a_call_within_its_time_goes_on(tmp_path: Path) -> None:
    allowance = Allowance(op(tmp_path, 60.0), "capturing")
    allowance.check()
    assert 50 < allowance.left_s <= 60


def test_time_that_is_over_is_a_deadline_and_names_the_limit(tmp_path: Path) -> None:
    allowance = Allowance(op(tmp_path, 0.0), "capturing")
    assert allowance.left_s == 0
    with pytest.raises(DeadlineExceeded, match="capturing took longer than 0 s") as caught:
        allowance.check()
    assert caught.value.retry is Retry.LATER


def test_a_cancelled_call_has_no_time_left_and_is_no_deadline(tmp_path: Path) -> None:
    cancelled = op(tmp_path, 60.0)
    allowance = Allowance(cancelled, "capturing")
    cancelled.cancelled.set()
    assert allowance.left_s == 0
    with pytest.raises(ConnectorError, match="cancelled") as caught:
        allowance.check()
    assert not isinstance(caught.value, DeadlineExceeded)


@pytest.mark.parametrize(
    ("code", "retry", "advice"),
    [
        (errno.ENOENT, Retry.NEVER, "exists in this region"),
        (errno.EACCES, Retry.NEVER, "as a user who may"),
        (errno.ENOSPC, Retry.LATER, "free some space"),
        (errno.EBUSY, Retry.LATER, "mount point"),
        (errno.EIO, Retry.LATER, "kernel's log"),
        (errno.EROFS, Retry.NEVER, "mounted read-only"),
        (errno.ETIMEDOUT, Retry.LATER, "file system reports"),
    ],
)
def test_an_error_of_the_file_system_says_what_to_do(
    tmp_path: Path, code: int, retry: Retry, advice: str
) -> None:
    with pytest.raises(ConnectorError) as caught, os_errors("staging", tmp_path):
        raise OSError(code, os.strerror(code))
    assert caught.value.message == f"staging failed: {os.strerror(code)}"
    assert caught.value.file == str(tmp_path)
    assert (caught.value.retry, advice in str(caught.value.next)) == (retry, True)
