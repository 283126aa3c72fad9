"""Room for what is to be written, by file system: how much it takes, and how much is free."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from refloat.digest import Json
from refloat.durable import BLOCK_BYTES
from refloat.units import format_size


@dataclass(frozen=True)
class Need:
    """What one component needs at one place. ``path`` need not be there yet; its file system is that of what is."""

    component: str
    path: Path
    bytes: int
    files: int = 1

    @property
    def room_bytes(self) -> int:
        """The room that it takes at most: each file ends within a block of the file system."""
        return self.bytes + self.files * BLOCK_BYTES


@dataclass(frozen=True)
class Room:
    """One file system, by the first folder that was asked about: what all components need there, and what is free."""

    path: Path
    components: tuple[str, ...]
    needed_bytes: int
    free_bytes: int

    @property
    def enough(self) -> bool:
        """Whether all of it fits."""
        return self.needed_bytes <= self.free_bytes

    @property
    def told(self) -> str:
        """In words, with what is lacking where it does not fit."""
        lacking = "" if self.enough else f", {format_size(self.needed_bytes - self.free_bytes)} too little"
        return (
            f"{format_size(self.needed_bytes)} needed for {', '.join(self.components)} in {self.path}, "
            f"{format_size(self.free_bytes)} free{lacking}"
        )

    def document(self) -> dict[str, Json]:
        """As ``--json`` prints it."""
        return {
            "path": str(self.path),
            "components": list(self.components),
            "needed_bytes": self.needed_bytes,
            "free_bytes": self.free_bytes,
            "enough": self.enough,
        }


def rooms(needs: Iterable[Need]) -> list[Room]:
    """The file systems on which something is to be put; what is put on the same one adds up. Raises ``OSError``."""
    found: dict[int, list[tuple[Path, Need]]] = {}
    for need in needs:
        folder = standing(need.path)
        found.setdefault(folder.stat().st_dev, []).append((folder, need))
    return [
        Room(
            path=there[0][0],
            components=tuple(dict.fromkeys(need.component for _, need in there)),
            needed_bytes=sum(need.room_bytes for _, need in there),
            free_bytes=free_bytes(there[0][0]),
        )
        for there in found.values()
    ]


def standing(path: Path) -> Path:
    """``path`` where it is a folder, else the nearest folder above it that is there."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())


def free_bytes(folder: Path) -> int:
    """What this user may still write to the file system of a folder (``statvfs(3)``). Raises ``OSError``."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def taken_bytes(folder: Path) -> int:
    """The room that lies below a folder now, links not followed; 0 where nothing is."""
    return sum(
        _allocated(Path(above) / name) for above, _, names in os.walk(folder, onerror=None) for name in names
    )


def _allocated(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512  # whatever the file system's own block is (``stat(2)``)
    except OSError:
        return 0


def short(found: Sequence[Room]) -> str:
    """What does not fit, in words; empty where all of it does."""
    return "; ".join(room.told for room in found if not room.enough)


def how_to_make(found: Sequence[Room]) -> str:
    """How much must be made free, and where."""
    return " and ".join(
        f"free {format_size(room.needed_bytes - room.free_bytes)} in {room.path}"
        for room in found
        if not room.enough
    )
