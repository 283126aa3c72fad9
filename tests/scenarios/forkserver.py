"""Runs refloat commands as processes of their own without starting an interpreter for each.

Everything that a command imports is imported here once; then each line on standard input is one command, run in
a forked process with a session, an environment, a folder and outputs of its own, and sent a signal where one has its
place in its course (``placed.py``). One line says what became of it, and what of it still runs, by the process table.

    {"argv": [...], "env": {...}, "cwd": "...", "out": "...", "err": "...", "place": {...} | null, "tally": "..."}
    {"code": 0 | -9, "left": ["what still runs of it"], "hung": false}
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import placed

import refloat
from refloat import registry
from refloat.cli.main import VERBS, put_together
from refloat.evidence.render import template

BESIDE = (
    "cel",
    "cryptography.hazmat.primitives.asymmetric.padding",
    "encodings.utf_8_sig",
    "typer._adapters",
    "typer._click.decorators",
)
"""What refloat's own modules import only when they need it."""

HUNG_SECONDS = 240.0  # whatever runs that long runs for ever, and so does what is left of it


def main() -> None:
    """Serve until standard input ends; a forked process leaves by ``SystemExit`` of its command."""
    for name in (*own_modules(), *BESIDE):
        importlib.import_module(name)
    for verb in VERBS:
        put_together([verb])
    template()
    registry.names(registry.CONNECTORS)  # what is installed is looked for once
    registry.names(registry.PROBES)
    gc.freeze()  # no command looks through all of that again when it ends
    replies = os.fdopen(os.dup(1), "w")
    os.set_inheritable(replies.fileno(), False)
    assert threading.active_count() == 1, "a process with threads cannot be forked safely"
    replies.write("ready\n")
    replies.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        process = os.fork()
        if process == 0:
            become(asked)
        code, hung = outcome(process)
        left = left_of(process) if code else []
        replies.write(json.dumps({"code": code, "left": left, "hung": hung}) + "\n")
        replies.flush()


def own_modules() -> Iterator[str]:
    """Every module that a command may come to import."""
    for found in pkgutil.walk_packages(refloat.__path__, "refloat."):
        if not found.name.startswith(("refloat.testing", "refloat.demo")) and not found.name.endswith(
            "__main__"
        ):
            yield found.name


def become(asked: dict[str, Any]) -> None:
    """Be the command. Never returns."""
    placed.by_default()
    os.setsid()
    for stream, path, flags in ((0, os.devnull, os.O_RDONLY), (1, asked["out"], 0), (2, asked["err"], 0)):
        descriptor = os.open(path, flags or os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, stream)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    tempfile.tempdir = None
    placed.play(asked, asked["argv"])


def outcome(process: int) -> tuple[int, bool]:
    """Its exit code, or minus the signal, once it is gone; and whether it had to be ended."""
    handle = os.pidfd_open(process)
    hung = not select.select([handle], [], [], HUNG_SECONDS)[0]
    if hung:  # ours and not yet waited for, so the number is still its own
        os.kill(process, signal.SIGKILL)
    os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), hung


def left_of(session: int) -> list[str]:
    """What still runs in the session of a process that is gone; what loses its parent may take a while to notice."""
    end = time.monotonic() + HUNG_SECONDS
    while (left := members(session)) and time.monotonic() < end:
        time.sleep(0.01)
    return left


def members(session: int) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


if __name__ == "__main__":
    main()
