"""Section `evaluate`: what it costs that invariants are evaluated in a process that can be killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from measure import Setting, alternating
from refloat.contracts import Facts
from refloat.point.evaluate import evaluate
from report import Section, Series, Table

COMMAND_SECONDS_MAX = 30.0
FACTS = {
    "registry": Facts(
        {
            "champion": {"digest": "a" * 64, "dimension": 256},
            "models": [f"model_{number}" for number in range(20)],
        }
    ),
    "index": Facts({"embedder": "a" * 64, "dimension": 256, "rows": 5000}, {"version": 7}),
    "prompts": Facts({"versions": [f"v{number}" for number in range(12)], "model": "model_3"}),
}
EXPRESSIONS = (
    "registry.champion.digest == index.embedder",
    "registry.champion.dimension == index.dimension",
    "index.rows > 0",
    "index.position.version >= 7",
    "size(registry.models) == 20",
    "prompts.model in registry.models",
    "registry.models.all(name, name.startsWith('model_'))",
    "prompts.versions.exists(version, version == 'v11')",
    "prompts.versions.map(version, size(version)).all(length, length < 4)",
    "index.rows % 1000 == 0 && registry.champion.dimension / 2 == 128",
)


def measure(setting: Setting) -> Section:
    """Time the worker with one expression and with ten, against a Python that does nothing."""
    contenders: dict[str, Callable[[], None]] = {
        "python -c pass": _nothing,
        "the worker, 1 expression": lambda: _evaluated(EXPRESSIONS[:1]),
        "the worker, 10 expressions": lambda: _evaluated(EXPRESSIONS),
    }
    setting.say("timing the evaluation of invariants")
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    _evaluated(EXPRESSIONS)  # once before, for compiled files and the page cache
    for order in alternating(list(contenders), setting.rounds(15, quick=3)):
        for name in order:
            began = time.perf_counter()
            contenders[name]()
            taken[name].append((time.perf_counter() - began) * 1000)
    rows = tuple((name, str(Series(tuple(values), "ms"))) for name, values in taken.items())
    rounds = len(taken["python -c pass"])
    return Section(
        name="evaluate",
        title="Evaluation of invariants",
        tables=(Table(f"Wall time, {rounds} interleaved runs", ("what", "wall time"), rows),),
        notes=(
            "The worker's time runs from the call in the protecting process to the last verdict: start of the "
            "process, its imports, and the expressions.",
        ),
    )


def _nothing() -> None:
    subprocess.run([sys.executable, "-c", "pass"], check=True, timeout=COMMAND_SECONDS_MAX)


def _evaluated(expressions: Sequence[str]) -> None:
    """Raises ``ValueError`` where an expression does not hold: then something else was timed."""
    for verdict in evaluate(expressions, FACTS):
        if verdict.holds is not True:
            raise ValueError(f"{verdict.must} is {verdict.holds}: {verdict.reason}")
