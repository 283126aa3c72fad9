"""The process that evaluates CEL expressions; it may be killed at any moment, so it holds nothing.

Started with the process id of who asks. Reads one JSON document ``{"expressions": [...], "scope": {...}}`` from
standard input and writes one JSON line for each expression, in order, as it is done:
``{"holds": true | false | null, "reason": "..."}``.
The language: https://github.com/google/cel-spec.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys

from refloat.point import language as cel

CPU_SECONDS_MAX = (
    60  # far above what anybody waits for; ends a worker that was orphaned before it could say so
)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
MEMORY_BYTES_MAX = 1 << 30  # an expression can build large lists; this process may not take the machine along


def verdict(expression: str, context: cel.Context) -> dict[str, object]:
    """Whether an expression holds; None with the reason where that cannot be told."""
    try:
        result = cel.evaluate(expression, context)
    except KeyError as error:
        return {"holds": None, "reason": f"the fact {error.args[0]!r} is missing"}
    except (ValueError, TypeError, RuntimeError) as error:
        return {"holds": None, "reason": str(error).splitlines()[0]}
    if isinstance(result, bool):
        return {"holds": result, "reason": ""}
    return {"holds": None, "reason": f"the expression gives {type(result).__name__}, not true or false"}


def die_with(parent: int) -> None:
    """Be killed as soon as who asked is gone (``prctl(2)``): nobody is left to stop an expression that runs on.

    Who was gone before this could be asked for is nobody's parent any more, and that is the end as well.
    """
    call = getattr(ctypes.CDLL(None), "prctl", None)
    if call is not None:
        call(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def main() -> None:
    """Evaluate what standard input asks for."""
    die_with(int(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS_MAX, CPU_SECONDS_MAX))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    asked = json.load(sys.stdin)
    context = cel.Context(variables=asked["scope"])
    for expression in asked["expressions"]:
        sys.stdout.write(json.dumps(verdict(expression, context)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
