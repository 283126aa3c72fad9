"""The ``forkserver`` for thousands of commands whose last moments matter little.

A command that has said everything and let go of everything ends there, without taking the interpreter apart object by
object.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import Any

import forkserver

as_it_is = forkserver.become


def become(asked: dict[str, Any]) -> None:
    """Be the command. Never returns."""
    try:
        as_it_is(asked)
    except SystemExit as ended:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as every end does
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended.code if isinstance(ended.code, int) else 1)


if __name__ == "__main__":
    forkserver.become = become
    forkserver.main()
