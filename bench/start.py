"""Section `start`: how long the command line takes to be there, and what it loads for that."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from measure import Run, Setting, alternating, environment, milliseconds, run
from report import ABSENT, Section, Series, Table

HELP_MS_MAX = 300.0
HEAVY = (
    "cel",
    "cryptography",
    "httpx",
    "lancedb",
    "mlflow",
    "numpy",
    "obstore",
    "pandas",
    "pyarrow",
    "pydantic",
    "sklearn",
)
"""Packages that take long to import, none of which help needs."""

_LOADED = (
    "import contextlib, io, json, sys\n"
    "from refloat.cli.main import run\n"
    "with contextlib.redirect_stdout(io.StringIO()):\n"
    "    run(['--help'])\n"
    "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
)


def measure(setting: Setting) -> Section:
    """Time help and version against a Python that does nothing."""
    refloat = str(Path(sys.executable).with_name("refloat"))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "refloat --help": [refloat, "--help"],
        "refloat --version": [refloat, "--version"],
    }
    env = environment(setting.work)
    setting.say("timing refloat --help and --version")
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for name in commands:
        run(commands[name], env=env, cwd=setting.work)  # once before, for compiled files and the page cache
    for order in alternating(list(commands), setting.rounds(15, quick=3)):
        for name in order:
            runs[name].append(run(commands[name], env=env, cwd=setting.work))
    loaded = json.loads(run([sys.executable, "-c", _LOADED], env=env, cwd=setting.work).stdout)
    heavy = ", ".join(name for name in HEAVY if name in loaded) or "none"
    return _section({name: milliseconds(taken) for name, taken in runs.items()}, heavy)


def _section(walls: dict[str, Series], heavy: str) -> Section:
    rows = [
        (name, str(wall), wall.against(HELP_MS_MAX) if name != "python -c pass" else ABSENT)
        for name, wall in walls.items()
    ]
    rounds = len(next(iter(walls.values())).values)
    return Section(
        name="start",
        title="Start of the command line",
        tables=(
            Table(f"Wall time, {rounds} interleaved runs", ("command", "wall time", "aim"), tuple(rows)),
        ),
        notes=(f"Heavy packages that `refloat --help` imports, of {', '.join(HEAVY)}: {heavy}.",),
    )
