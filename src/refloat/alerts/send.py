"""The channels: a webhook that gets the document by POST, a command that gets it on standard input."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

import httpx

from refloat.digest import Json, canonical_json

CONNECT_S = 3.0  # until a webhook takes the connection: whoever protects waits for it
REPLY_S = 5.0  # until it has answered; its answer is not read
COMMAND_S = 20.0  # a command may do what a webhook does, with a try or two


class Undelivered(Exception):
    """An alert did not reach its channel; says why, without any address."""


def to_webhook(address: str, document: Mapping[str, Json]) -> None:
    """POST the document as JSON. Raises ``Undelivered`` unless the answer is a 2xx within seconds."""
    limits = httpx.Timeout(REPLY_S, connect=CONNECT_S)
    headers = {"Content-Type": "application/json", "User-Agent": "refloat"}
    try:
        with (
            httpx.Client(timeout=limits, follow_redirects=False) as client,
            client.stream("POST", address, content=canonical_json(document), headers=headers) as reply,
        ):
            status = reply.status_code
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise Undelivered(f"it does not answer: {type(error).__name__}") from error
    if not 200 <= status < 300:
        raise Undelivered(f"it answers with status {status}")


def to_command(words: Sequence[str], document: Mapping[str, Json]) -> None:
    """Run a command, without a shell, that reads the document. Raises ``Undelivered`` unless it exits with 0."""
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise Undelivered(f"it cannot be started: {getattr(error, 'strerror', None) or error}") from error
    try:
        process.communicate(canonical_json(document) + b"\n", timeout=COMMAND_S)
    except subprocess.TimeoutExpired as error:
        raise Undelivered(f"it has not ended within {COMMAND_S:g} s, and was ended") from error
    finally:
        _end(process)
    if process.returncode != 0:
        raise Undelivered(f"it ended with exit code {process.returncode}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it with all that it started, where it has not ended."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
