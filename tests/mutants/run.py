"""Take one defence out at a time, and demand that a test notices: ``make mutants``.

Each ``*.toml`` beside this file lists mutants: the row of the fault matrix that a defence is for, 0 for none, the text
of it and what stands there without it, and the tests that must fail then. They are tried on a copy of the tree.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
import venv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TESTS_SECONDS_MAX = 300.0  # of one mutant; a defence whose lack makes a test hang is noticed, too
WHOLE_SECONDS_MAX = 3600.0  # of all tests that are named, once, with every defence in its place
PYTEST = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider")
_LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis")


@dataclass(frozen=True)
class Mutant:
    """One defence, and the source without it. ``fault`` is 0 where it is for no row, but for what the manual says."""

    part: str
    fault: int
    defence: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"fault {self.fault}: {self.defence}" if self.fault else f"manual: {self.defence}"


def mutants() -> list[Mutant]:
    """All of them, by row."""
    found = [
        Mutant(part=path.stem, **{**entry, "tests": tuple(entry["tests"])})
        for path in sorted(HERE.glob("*.toml"))
        for entry in tomllib.loads(path.read_text())["mutant"]
    ]
    return sorted(found, key=lambda mutant: (mutant.fault, mutant.part))


class Copy:
    """A copy of the tree with an interpreter of its own that imports from it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "tree"
        shutil.copytree(ROOT, self.root, symlinks=True, ignore=_LEFT_OUT)
        builder = venv.EnvBuilder(with_pip=False, symlinks=True)
        builder.create(folder / "venv")
        self.python = folder / "venv" / "bin" / "python"
        packages = (
            folder / "venv" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        )
        (packages / "tree.pth").write_text(f"{self.root / 'src'}\n{sysconfig.get_path('purelib')}\n")
        self._changed = time.time()

    def fails(self, tests: Iterable[str], seconds_max: float = TESTS_SECONDS_MAX) -> bool:
        """Whether one of the tests fails, or takes too long. Raises ``SystemExit`` where they cannot even be run."""
        command = [
            str(self.python),
            *PYTEST,
            *dict.fromkeys(tests),
        ]
        try:
            ran = subprocess.run(
                command,
                cwd=self.root,
                env={**os.environ, "REFLOAT_MUTANT": "1"},
                capture_output=True,
                text=True,
                timeout=seconds_max,
            )
        except subprocess.TimeoutExpired:
            return True
        if ran.returncode not in (0, 1):
            raise SystemExit(f"{' '.join(command)}\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}")
        return ran.returncode == 1

    def write(self, file: str, text: str) -> None:
        """Change a file; its time moves by whole seconds, so that no compiled form of the old one is taken."""
        path = self.root / file
        path.write_text(text)
        self._changed += 2
        os.utime(path, (self._changed, self._changed))


def caught(copy: Copy, mutant: Mutant) -> bool:
    """Whether its tests fail without the defence."""
    whole = (copy.root / mutant.file).read_text()
    if whole.count(mutant.old) != 1:
        raise SystemExit(
            f"{mutant}: the text stands {whole.count(mutant.old)} times in {mutant.file}, not once"
        )
    copy.write(mutant.file, whole.replace(mutant.old, mutant.new))
    try:
        return copy.fails(mutant.tests)
    finally:
        copy.write(mutant.file, whole)


def main(arguments: Sequence[str]) -> int:
    """Try them; 1 where a defence can be taken out and no test notices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=int, action="append", metavar="ROW", help="only mutants of this row")
    parser.add_argument("--part", help="only mutants of this file")
    asked = parser.parse_args(arguments)
    chosen = [
        mutant
        for mutant in mutants()
        if (not asked.only or mutant.fault in asked.only) and (not asked.part or mutant.part == asked.part)
    ]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Copy(Path(folder))
        if copy.fails((test for mutant in chosen for test in mutant.tests), WHOLE_SECONDS_MAX):
            raise SystemExit("with every defence in its place a test fails already: run make test first")
        survived = 0
        for mutant in chosen:
            noticed = caught(copy, mutant)
            survived += not noticed
            print(f"{'caught  ' if noticed else 'SURVIVED'}  {mutant}", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} mutants were caught")
    return 1 if survived or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
