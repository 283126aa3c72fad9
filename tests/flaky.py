"""Runs the suite several times in random order beside two busy loops, and lists each test whose outcome differed.

    make flaky                                  five runs of everything
    REFLOAT_RUNS=20 make flaky ARGS=tests/unit/run
    REFLOAT_FIRST_SEED=3 REFLOAT_RUNS=1 make flaky    one of them again

Every run prints its seed, which gives the order. Exits 1 where a test failed, or was not seen in every run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

RUNS = int(os.environ.get("REFLOAT_RUNS", "5"))
FIRST_SEED = int(os.environ.get("REFLOAT_FIRST_SEED", "1"))
BUSY_LOOPS = 2


@contextmanager
def busy() -> Iterator[None]:
    """Something else is at work on the machine, as on most."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY_LOOPS)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def outcomes(report: Path) -> dict[str, str]:
    """What became of each test, as a JUnit file tells it."""
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        told = {child.tag for child in case} & {"failure", "error", "skipped"}
        found[f"{case.get('classname')}::{case.get('name')}"] = min(told, default="passed")
    return found


def once(seed: int, report: Path, arguments: Sequence[str]) -> dict[str, str]:
    """The outcomes of one run in the order that ``seed`` gives."""
    shuffled = ("-p", "randomly", "--randomly-seed", str(seed))
    command = [
        *(sys.executable, "-m", "pytest", "--ignore", "tests/tidy"),
        *(*shuffled, f"--junitxml={report}", *arguments),
    ]
    began = time.monotonic()
    code = subprocess.run(command, check=False).returncode
    seen = outcomes(report) if report.is_file() else {}
    counted = ", ".join(f"{number} {word}" for word, number in Counter(seen.values()).most_common())
    print(f"seed {seed}: exit {code}, {counted}, {time.monotonic() - began:.0f} s", flush=True)
    return seen


def main(arguments: Sequence[str]) -> int:
    """Run, compare and tell."""
    runs: dict[str, list[str]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, busy():
        for seed in range(FIRST_SEED, FIRST_SEED + RUNS):
            for test, outcome in once(seed, Path(folder) / f"{seed}.xml", arguments).items():
                runs[test].append(outcome)
    bad = {test: seen for test, seen in runs.items() if set(seen) - {"passed", "skipped"}}
    differing = {test: seen for test, seen in runs.items() if len(set(seen)) > 1 or len(seen) < RUNS}
    for test, seen in sorted({**bad, **differing}.items()):
        print(f"{'differs' if test in differing else 'fails  '}  {test}: {', '.join(seen)}")
    print(f"{len(runs)} tests, {RUNS} runs: {len(differing)} differed, {len(bad)} failed at least once")
    return 1 if bad or differing or not runs else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
