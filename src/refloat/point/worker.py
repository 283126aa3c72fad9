"""The process that evaluates CEL expressions; it may be killed at any moment, so it holds nothing.

Reads one JSON document ``{"expressions": [...], "scope": {...}}`` from standard input and writes one JSON
line for each expression, in order, as it is done: ``{"holds": true | false | null, "reason": "..."}``.
The language: https://github.com/google/cel-spec.
"""

from __future__ import annotations

import json
import resource
import sys

import cel

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


def main() -> None:
    """Evaluate what standard input asks for."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    asked = json.load(sys.stdin)
    context = cel.Context(variables=asked["scope"])
    for expression in asked["expressions"]:
        sys.stdout.write(json.dumps(verdict(expression, context)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
