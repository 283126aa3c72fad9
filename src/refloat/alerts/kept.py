"""What this machine has told of alarms, from one command to the next."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from refloat.alerts.model import Standing
from refloat.durable import replace_file

FORMAT = 1


class _Kept(BaseModel):
    """The file's content."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    standing: tuple[Standing, ...] = ()


class Register:
    """The alarms that stand, in one file; held by one process at a time while it is open."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> Sequence[Standing]:
        """What stands; nothing where there is no file, or where it is not ours: then all is told once more."""
        try:
            kept = _Kept.model_validate_json(self._file.read_bytes())
        except (FileNotFoundError, ValidationError):
            return ()
        return kept.standing if kept.format == FORMAT else ()

    def write(self, standing: Sequence[Standing]) -> None:
        """Keep what stands. Raises ``OSError``."""
        replace_file(self._file, _Kept(standing=tuple(standing)).model_dump_json(indent=1).encode() + b"\n")


@contextmanager
def register(file: Path) -> Iterator[Register]:
    """The register in a file, once whoever holds it has told what it has to tell. Raises ``OSError``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("a") as lock:
        with suppress(OSError):  # a network file system may not lock at all: an alert may be told twice
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield Register(file)
