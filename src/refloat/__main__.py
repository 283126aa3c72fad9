"""``python -m refloat`` and the ``refloat`` command: in order from the first moment, also when it is ended there."""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
from types import FrameType

GARBAGE_OBJECTS = 50_000  # between two looks for garbage: a start makes far more, and all of them stay
CORE_BYTES_MAX = 1  # no file is that small, and to a program that collects cores it means none (``core(5)``)


def main() -> None:
    """Run the command line. Until it is loaded, a signal ends the process at once: nothing is open yet."""
    gc.set_threshold(GARBAGE_OBJECTS)
    _leave_no_core()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _too_early)
    from refloat.cli.main import main as command  # takes most of the time until the work begins

    command()


def _leave_no_core() -> None:
    """What the process holds, such as the key, stays in memory however it ends. Who is started may allow it again."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    if most == resource.RLIM_INFINITY or most >= CORE_BYTES_MAX:
        resource.setrlimit(resource.RLIMIT_CORE, (CORE_BYTES_MAX, most))


def _too_early(number: int, frame: FrameType | None) -> None:
    """Say what every interrupted command says, with nothing that may be half loaded yet."""
    if "--json" in sys.argv:
        places = dict.fromkeys(("component", "region", "file"))
        ended = {"code": "interrupted", "message": "interrupted", **places, "retry": "now"}
        said = json.dumps({"schema": 1, "error": {**ended, "next": "the same command again"}})
        os.write(1, said.encode() + b"\n")
    else:
        os.write(2, b"error: interrupted\n  next: the same command again\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
