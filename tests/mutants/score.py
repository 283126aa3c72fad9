"""Change the heart of the vault in small ways and count how many changes the tests notice: ``make score``.

What is changed is what ``[tool.coverage.run]`` includes; how, ``changes`` says; which of the changes, a seed. Each is
tried in a copy of the tree with the tests that run its lines, among those of the files that are named.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import coverage
from changes import Change, changes

from run import PYTEST, ROOT, Copy

HERE = Path(__file__).parent
SCORE_MIN = 0.85
TESTS_SECONDS_MAX = 40.0  # of the tests of one change together, the quickest first
PATIENCE = 5.0  # how many times as long as without a change they may take; what hangs is noticed, too
COUNT = int(os.environ.get("REFLOAT_MUTANTS", "300"))
SEED = int(os.environ.get("REFLOAT_MUTANTS_SEED", "7"))
WATCHED = (*PYTEST, "-p", "watched", "--hypothesis-profile", "mutants")


@dataclass(frozen=True)
class Watched:
    """Which tests run a line of a file, and how long each test takes, in seconds."""

    lines: Mapping[str, Mapping[int, frozenset[str]]]
    took: Mapping[str, float]

    def tests_of(self, change: Change) -> list[str]:
        """The tests that run one of its lines, the quickest first; all of them where it is run by an import."""
        of_file = self.lines[change.file]
        found = frozenset().union(*(of_file.get(n, ()) for n in range(change.first, change.last + 1)))
        tests = self.took.keys() if "" in found else found
        chosen, spent = [], 0.0
        for test in sorted(tests, key=lambda test: (self.took[test], test)):
            spent += self.took[test]
            if chosen and spent > TESTS_SECONDS_MAX:
                break
            chosen.append(test)
        return chosen


class Trial:
    """A copy of the tree, in which one change after the other is tried."""

    def __init__(self, copy: Copy, files: Sequence[str], tests: Sequence[str]) -> None:
        self._copy = copy
        self._environ = {**os.environ, "PYTHONPATH": str(HERE), "WATCHED_TO": ""}
        self._watched = self._watch(files, tests)

    def _watch(self, files: Sequence[str], tests: Sequence[str]) -> Watched:
        """Run the tests once without a change. Raises ``SystemExit`` where one fails."""
        told, kept = self._copy.root / "took.json", self._copy.root / ".coverage"
        command = [str(self._copy.python), "-m", "coverage", "run", f"--data-file={kept}", *WATCHED, *tests]
        environ = {**self._environ, "WATCHED_TO": str(told)}
        if subprocess.run(command, cwd=self._copy.root, env=environ).returncode:
            raise SystemExit("without any change a test fails already: run make test first")
        data = coverage.CoverageData(str(kept))
        data.read()
        lines = {
            file: {
                line: frozenset(contexts)
                for line, contexts in data.contexts_by_lineno(str(self._copy.root / file)).items()
            }
            for file in files
        }
        return Watched(lines, json.loads(told.read_text()))

    def noticed(self, change: Change) -> bool:
        """Whether a test fails, or takes too long, when the change is made."""
        tests = self._watched.tests_of(change)
        whole = (self._copy.root / change.file).read_text()
        patience = 20.0 + PATIENCE * sum(self._watched.took[test] for test in tests)
        self._copy.write(change.file, change.text)
        try:
            return bool(tests) and self._fails(tests, patience)
        finally:
            self._copy.write(change.file, whole)

    def _fails(self, tests: Sequence[str], seconds_max: float) -> bool:
        command = [str(self._copy.python), *WATCHED, *tests]
        try:
            ran = subprocess.run(
                command, cwd=self._copy.root, env=self._environ, capture_output=True, timeout=seconds_max
            )
        except subprocess.TimeoutExpired:
            return True
        return ran.returncode != 0


def changed_files() -> list[str]:
    """The files whose branches are all run, and whose changes are tried."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included: list[str] = settings["tool"]["coverage"]["run"]["include"]
    return included


def main(tests: Sequence[str]) -> int:
    """Try them; 1 where too few are noticed."""
    files = changed_files()
    everything = [change for file in files for change in changes(file, (ROOT / file).read_text())]
    chosen = random.Random(SEED).sample(everything, min(COUNT, len(everything)))
    with tempfile.TemporaryDirectory(prefix="score-") as folder:
        trial = Trial(Copy(Path(folder)), files, tests)
        noticed = 0
        for number, change in enumerate(chosen, 1):
            if trial.noticed(change):
                noticed += 1
            else:
                print(f"SURVIVED ({number} of {len(chosen)})  {change}", flush=True)
    score = noticed / len(chosen)
    print(
        f"{noticed} of {len(chosen)} changes were noticed, {score:.1%};"
        f" there are {len(everything)}, and seed {SEED} chose these"
    )
    return 0 if score >= SCORE_MIN else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
