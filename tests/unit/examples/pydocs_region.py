"""The example pipeline as a user runs it: its commands in processes of their own, its endpoint on a kept port."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "connectors"))

from held_port import held_port

from pydocs_assistant.paths import Region

EXAMPLE = Path(__file__).parents[3] / "examples" / "pydocs_assistant"


PATIENCE_S = 600.0  # only so that what hangs ends


def program(*words: str | Path, cwd: Path = EXAMPLE) -> subprocess.Popen[str]:
    """Start the program in a process of its own, as a user would."""
    return subprocess.Popen(
        [sys.executable, "-m", "pydocs_assistant", *words],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a process and return what it printed."""
    printed, _ = process.communicate(timeout=PATIENCE_S)
    return printed


def wait_until(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Poll until ``what`` holds; fail when the process ends before, or after too long."""
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert process.poll() is None, finish(process)
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


@dataclass(frozen=True)
class Served:
    """An endpoint that runs, with a client of it."""

    region: Region
    url: str
    process: subprocess.Popen[str]
    client: httpx.Client


@contextmanager
def serving(region: Region) -> Iterator[Served]:
    """Run the endpoint from the region's own code until the block ends."""
    with held_port() as port:
        url = f"http://127.0.0.1:{port}"
        process = program("serve", "--root", region.root, "--port", str(port), cwd=region.app)
        try:
            with httpx.Client(base_url=url, timeout=120.0) as client:
                wait_until(lambda: _is_healthy(client), process)
                yield Served(region, url, process, client)
        finally:
            process.terminate()
            finish(process)


def _is_healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False
