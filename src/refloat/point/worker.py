"""The process that evaluates CEL expressions; it may be killed at any moment, so it holds nothing.

Started with the process id of who asks. Says ``{"ready": true}`` on a line of its own when it can begin. Then reads
one JSON document a line, ``{"expressions": [...], "scope": {...}, "cpu_seconds": N}``, from standard input, and writes
one JSON line for each expression, in order, as it is done: ``{"holds": true | false | null, "reason": "..."}``.
It ends with its input. It is killed by ``SIGPROF`` when a document takes more CPU seconds than it was given, and where
it would take more memory than it may it aborts: who asked then knows of all that has no line that it was not evaluated.
The language: https://github.com/google/cel-spec.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator

from refloat.limits import INVARIANT_BYTES_MAX
from refloat.point import language as cel

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


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


def bounded() -> None:
    """Take no more memory than an expression may, leave no core, and let ``SIGPROF`` kill, whatever was inherited."""
    resource.setrlimit(resource.RLIMIT_AS, (INVARIANT_BYTES_MAX, INVARIANT_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})


def answers(line: str) -> Iterator[dict[str, object]]:
    """The verdicts on one document. The clock runs from here: what the start of the process took counts for nothing."""
    asked = json.loads(line)
    signal.setitimer(signal.ITIMER_PROF, asked["cpu_seconds"])
    context = cel.Context(variables={name: spelt(value) for name, value in asked["scope"].items()})
    for expression in asked["expressions"]:
        yield verdict(expression, context)
    signal.setitimer(signal.ITIMER_PROF, 0)


def spelt(value: object) -> object:
    """The same with half a surrogate pair, which no CEL string can hold, written as its escape: equal stays equal."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, list):
        return [spelt(item) for item in value]
    if isinstance(value, dict):
        return {spelt(key): spelt(item) for key, item in value.items()}
    return value


def say(answer: dict[str, object]) -> None:
    """One line, now."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Evaluate what standard input asks for, until it ends."""
    die_with(int(sys.argv[1]))
    bounded()
    say({"ready": True})
    for line in sys.stdin:
        for answer in answers(line):
            say(answer)


if __name__ == "__main__":
    main()
