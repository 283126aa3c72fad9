"""What a folder that is being filled is marked with, so that the same work, and no other, goes on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from refloat.digest import Json
from refloat.durable import remove_file, replace_file
from refloat.limits import MIB

MARKER = ".refloat-export"
MARKER_BYTES_MAX = 16 * MIB  # ours holds the names of a few components, and the patterns that were given


def mark(folder: Path, what: Mapping[str, Json], ready: Sequence[str] = ()) -> None:
    """Say what a folder is filled with, and which components are there whole. Raises ``OSError``."""
    told = {"format": 1, "what": dict(what), "ready": list(ready)}
    replace_file(folder / MARKER, json.dumps(told).encode())


def marked(folder: Path) -> Json:
    """What a folder is marked with; None where that cannot be told. Raises ``OSError`` where no file marks it."""
    descriptor = os.open(folder / MARKER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        try:
            told = json.loads(file.read(MARKER_BYTES_MAX))
        except (ValueError, RecursionError):
            return None
    return told.get("what") if isinstance(told, dict) else None


def unmark(folder: Path) -> None:
    """It is whole. Raises ``OSError``."""
    remove_file(folder / MARKER)
