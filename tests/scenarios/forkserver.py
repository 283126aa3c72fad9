"""Runs refloat commands as processes of their own without starting an interpreter for each.

Everything that a command imports is imported here once; then each line on standard input is one command, run in
a forked process with a session, an environment, a folder and outputs of its own, and killed at a moment where
one is given. One line says what became of it, and what of it still runs, by the process table.

    {"argv": [...], "env": {...}, "cwd": "...", "out": "...", "err": "...", "kill_after_s": 0.123 | null}
    {"code": 0 | -9, "seconds": 0.456, "left": ["what still runs of it"]}

``"with": 2 | 15`` sends that instead of SIGKILL: SIGTERM to the process alone, as a supervisor does, and SIGINT to
all that it started as well, as a terminal does.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from refloat import registry

IMPORTED = (
    "cel",
    "cryptography.hazmat.primitives.asymmetric.padding",
    "encodings.utf_8_sig",
    "refloat.cli.main",
    "refloat.connectors.files",
    "refloat.connectors.predictions",
    "refloat.connectors.sqlite",
    "refloat.evidence.render",
    "refloat.flows.into",
    "refloat.flows.opening",
    "refloat.flows.points",
    "refloat.flows.protect",
    "refloat.flows.recover",
    "refloat.flows.status",
    "refloat.flows.verify",
    "refloat.vault.check",
    "refloat.vault.repair",
    "refloat.vault.stores.local",
    "refloat.verify.probes.http",
    "typer._adapters",
    "typer._click.decorators",
)
LEFT_SECONDS_MAX = 3.0  # what loses its parent may take this long to notice
END_SECONDS_MAX = 60.0  # whoever is told to stop stops long before
SENT = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Serve until standard input ends; a forked process leaves by ``SystemExit`` of its command."""
    for name in IMPORTED:
        importlib.import_module(name)
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
        began = time.monotonic()
        signal.pthread_sigmask(signal.SIG_BLOCK, SENT)
        process = os.fork()
        if process == 0:
            become(asked)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SENT)
        code = outcome(process, asked["kill_after_s"], signal.Signals(asked.get("with", signal.SIGKILL)))
        left = left_of(process) if code else []
        told = {"code": code, "seconds": time.monotonic() - began, "left": left}
        replies.write(json.dumps(told) + "\n")
        replies.flush()


def become(asked: dict[str, Any]) -> None:
    """Be the command. Never returns."""
    os.setsid()
    for stream, path, flags in ((0, os.devnull, os.O_RDONLY), (1, asked["out"], 0), (2, asked["err"], 0)):
        descriptor = os.open(path, flags or os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, stream)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    tempfile.tempdir = None
    sys.argv = ["refloat", *asked["argv"]]
    from refloat.__main__ import _too_early
    from refloat.__main__ import main as command

    for number in SENT:  # as ``main`` does first; what came before is heard now
        signal.signal(number, _too_early)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SENT)
    command()
    raise AssertionError("a command ends by SystemExit")


def outcome(process: int, kill_after_s: float | None, sent: signal.Signals) -> int:
    """Its exit code, or minus the signal, once it is gone; killed after so long where it still runs."""
    handle = os.pidfd_open(process)
    ended, _, _ = select.select([handle], [], [], kill_after_s)
    if not ended:  # ours and not yet waited for, so the number is still its own
        everybody = sent is signal.SIGINT and os.getsid(process) == process  # it has become a command
        (os.killpg if everybody else os.kill)(process, sent)
        if not select.select([handle], [], [], END_SECONDS_MAX)[0]:
            os.kill(process, signal.SIGKILL)
    os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def left_of(session: int) -> list[str]:
    """What still runs in the session of a process that is gone."""
    end = time.monotonic() + LEFT_SECONDS_MAX
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
