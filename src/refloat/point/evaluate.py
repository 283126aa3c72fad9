"""Evaluates invariants in a worker process that is killed when it takes too long."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence

from refloat.contracts import Facts
from refloat.digest import Json
from refloat.limits import INVARIANT_SECONDS_MAX
from refloat.point import invariants
from refloat.point import language as cel
from refloat.point.model import Verdict

# The library quotes the whole expression, then each error with its place and all that it would have expected.
_FIRST_ERROR = re.compile(r"ERROR: <input>:\d+:(\d+): (?:Syntax error: )?(.*?)(?: expecting \{| \| )")


def evaluate(
    expressions: Sequence[str], facts: Mapping[str, Facts], *, seconds_max: float = INVARIANT_SECONDS_MAX
) -> list[Verdict]:
    """A verdict on each expression over the facts; unknown for what was not done in ``seconds_max``."""
    if not expressions:
        return []
    variables = invariants.scope(facts)
    lines = _answers(expressions, variables, seconds_max)
    late = {"holds": None, "reason": f"not evaluated within {seconds_max:g} s"}
    answers = [json.loads(line) for line in lines] + [late] * (len(expressions) - len(lines))
    return [
        Verdict(
            must=expression,
            holds=answer["holds"],
            values=invariants.values(expression, variables),
            reason=answer["reason"],
        )
        for expression, answer in zip(expressions, answers, strict=True)
    ]


def _answers(expressions: Sequence[str], variables: Mapping[str, Json], seconds_max: float) -> list[str]:
    """The lines the worker managed to write."""
    command = [sys.executable, "-m", "refloat.point.worker", str(os.getpid())]
    asked = json.dumps({"expressions": list(expressions), "scope": variables})
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as worker:
        try:
            output, _ = worker.communicate(asked, timeout=seconds_max)
        except subprocess.TimeoutExpired:
            worker.kill()
            output, _ = worker.communicate()
    complete = output[: output.rfind("\n") + 1]
    return complete.splitlines()


def syntax_error(expression: str) -> str | None:
    """What is wrong with an expression's syntax, on one line; None where nothing is."""
    try:
        cel.compile(expression)
    except ValueError as error:
        said = " ".join(str(error).split())
        found = _FIRST_ERROR.search(said)
        return f"column {found[1]}: {found[2]}" if found else said
    return None
