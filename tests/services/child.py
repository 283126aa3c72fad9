"""A server in a process of its own: it ends with the test that began it, however that ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from pathlib import Path

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def begin(command: list[str], folder: Path, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Run ``command`` in ``folder``, with nothing of our environment but ``env``; what it says is in ``folder/log``."""
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={"HOME": str(folder), "PATH": os.defpath} | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_dies_with_us,
        )


def said(folder: Path) -> str:
    """What the server has said so far."""
    return (folder / "log").read_text(errors="replace")


def kill(process: subprocess.Popen[bytes]) -> None:
    """End the server and what it has begun; one that found its port taken has ended by itself."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _dies_with_us() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
