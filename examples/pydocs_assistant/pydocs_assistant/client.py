"""A user who asks at a steady rate and keeps a ledger of what was answered."""

from __future__ import annotations

import itertools
import json
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TextIO

import httpx

from pydocs_assistant.paths import now

_TIMEOUT_S = 2.0
_USERS = 25


class _Until:
    """Says when to stop: when the time is up, or on SIGTERM."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._told_to_stop = False
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._told_to_stop = True

    @property
    def over(self) -> bool:
        return self._told_to_stop or time.monotonic() >= self._end


def ask(url: str, ledger: Path, *, rate: float, seconds: float) -> int:
    """Ask ``rate`` questions a second for ``seconds``; append what was answered to ``ledger``; return 0.

    A question that was not answered leaves no line, whatever the reason: the ledger holds what a user has
    seen, and nothing else.
    """
    ledger.parent.mkdir(parents=True, exist_ok=True)
    until = _Until(seconds)
    with ledger.open("a", encoding="utf-8", buffering=1) as lines, httpx.Client(timeout=_TIMEOUT_S) as client:
        for number, question in enumerate(_questions()):
            if until.over:
                return 0
            began = time.monotonic()
            _ask_one(client, url, {"user": f"user-{number % _USERS}", "question": question}, lines)
            time.sleep(max(0.0, began + 1 / rate - time.monotonic()))
    return 0


def _ask_one(client: httpx.Client, url: str, body: dict[str, str], ledger: TextIO) -> None:
    asked = {"id": str(uuid.uuid4()), "asked_at": now()}
    try:
        response = client.post(f"{url}/answer", json=body | {"id": asked["id"]})
    except httpx.TransportError:
        return
    if response.status_code == httpx.codes.OK:
        ledger.write(json.dumps(asked | {"answered_at": now()}) + "\n")


def _questions() -> Iterator[str]:
    """Questions about every subject of the language reference, over and over."""
    from pydoc_data.topics import topics

    for subject in itertools.cycle(sorted(topics)):
        yield f"What should I know about {subject.replace('-', ' ')}?"
