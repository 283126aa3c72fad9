"""Runs one command and writes down what it took: seconds, CPU seconds, peak memory.

``python -I -S stopwatch.py REPORT COMMAND...`` It is alone in a small process because Linux counts into the peak
memory of a child what its parent held when it was started (getrusage(2), execve(2)).
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> int:
    """Run the command, write the JSON report, and end with the command's exit code."""
    report, *command = sys.argv[1:]
    began = time.perf_counter()
    process = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(process, 0)
    ended = time.perf_counter()
    os.sync()
    taken = {
        "wall_s": ended - began,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
        "sync_s": time.perf_counter() - ended,
    }
    with open(report, "w") as file:  # noqa: PTH123 - pathlib is another few milliseconds of start
        json.dump(taken, file)
    return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(main())
