"""The prediction log: every question with its answer, one JSON line each, written before it is sent."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path


class PredictionLog:
    """An append-only log; each record is one write, so that threads never mix their lines."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_unfinished(path)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def append(self, record: Mapping[str, object]) -> None:
        """Append one record. Raises ``OSError`` when it could not be written whole."""
        line = (json.dumps(record, ensure_ascii=False) + "\n").encode()
        if os.write(self._file, line) != len(line):
            raise OSError(f"the record {record['id']} was not written whole")

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


def _drop_unfinished(path: Path) -> None:
    """Drop a last line without its end: its answer was never sent."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        start = max(0, end - 1_000_000)  # far longer than any record
        file.seek(start)
        tail = file.read()
        if tail and not tail.endswith(b"\n"):
            file.truncate(start + tail.rfind(b"\n") + 1)
