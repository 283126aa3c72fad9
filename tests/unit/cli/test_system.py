"""What the command line takes from the machine."""

from __future__ import annotations

import os
import subprocess
import sys

from refloat.cli.system import CAPTURE_NICENESS, give_way

GIVES_WAY = """
import os
from refloat.cli.system import SIGNALS, give_way
SIGNALS.watch()
os.nice({before})
give_way()
print(os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0) == os.SCHED_BATCH)
"""


def given_way(before: int) -> str:
    script = GIVES_WAY.format(before=before)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout


def test_a_capture_of_its_own_lets_what_serves_go_first() -> None:
    niceness = max(
        CAPTURE_NICENESS, os.getpriority(os.PRIO_PROCESS, 0)
    )  # these tests may have one of their own
    assert given_way(0) == f"{niceness} True\n"


def test_one_that_was_told_to_yield_more_goes_on_doing_so() -> None:
    assert given_way(19) == "19 True\n"


def test_a_program_that_imports_refloat_keeps_its_priority() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)
    give_way()
    assert (os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)) == before
