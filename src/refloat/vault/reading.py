"""Which packs a check has read, and when: so that a share a day reads every byte in its turn, and one that was
stopped goes on.

Kept on this machine, one line a pack as it is read, so what was read before an interruption is known after it. A
check of everything notes when it began, and takes the note away at its end: where it is still there, the next one
reads only what was not read since. Who loses the file only begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

from refloat.clock import Clock
from refloat.digest import object_name
from refloat.durable import replace_file
from refloat.units import format_time, parse_time
from refloat.vault.layout import Descriptor
from refloat.vault.pack import PackRecord

NEVER = datetime.min.replace(tzinfo=UTC)
GOES_ON_FOR = timedelta(hours=24)  # what was read longer ago than a night and a day is read again
_BEGAN = "began"  # in the place of a pack's name


@dataclass(frozen=True)
class ReadSoFar:
    """How far the packs of a replica have been read: since when all that ever were, and the bytes of the others.

    Where a check was gone on with that had been stopped: when that began, and the bytes that it had read.
    """

    since: datetime | None
    unread_bytes: int
    began_at: datetime | None = None
    before_bytes: int = 0


class Reading:
    """What was read of one replica. ``share`` is how much of its bytes are read this time; without one all are.

    All of it, where such a check was stopped in the last ``GOES_ON_FOR``, is what was not read since that began.
    """

    def __init__(
        self, folder: Path, replica: Descriptor, clock: Clock, share: Fraction | None = None
    ) -> None:
        self._share = share
        self._clock = clock
        self._before_bytes = 0
        self._path = folder / "read" / object_name(f"{replica.vault}\n{replica.replica}".encode())[:32]
        self._read_at = _load(self._path)
        began = self._read_at.pop(_BEGAN, None)
        self._began = began if began and timedelta() <= clock.now() - began <= GOES_ON_FOR else None
        self._goes_on = share is None and self._began is not None

    def due(self, packs: Sequence[PackRecord]) -> list[PackRecord]:
        """The packs to read now."""
        if self._share is not None and self._share < 1:
            return due(packs, self._read_at, self._share)
        if not self._goes_on:
            self._began = self._clock.now()
            self._note(_BEGAN, self._began)
            return due(packs, self._read_at, Fraction(1))
        left = [pack for pack in packs if not self._counts(pack.name)]
        self._before_bytes = sum(pack.size for pack in packs) - sum(pack.size for pack in left)
        return due(left, self._read_at, Fraction(1))

    def _counts(self, pack: str) -> bool:
        """Whether a pack was read since the check began that is gone on with."""
        return (self._began or NEVER) <= self._read_at.get(pack, NEVER) <= self._clock.now()

    def done(self, pack: str) -> None:
        """A pack was read just now, and is whole. Where that cannot be kept, it is only read again sooner."""
        self._read_at[pack] = self._clock.now()
        self._note(pack, self._read_at[pack])

    def _note(self, what: str, at: datetime) -> None:
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write(f"{format_time(at)} {what}\n")

    def so_far(self, packs: Sequence[PackRecord]) -> ReadSoFar:
        """How far these packs have been read."""
        times = [self._read_at[pack.name] for pack in packs if pack.name in self._read_at]
        unread = sum(pack.size for pack in packs if pack.name not in self._read_at)
        before = (self._began, self._before_bytes) if self._goes_on else (None, 0)
        return ReadSoFar(min(times, default=None), unread, *before)

    def tidy(self, packs: Sequence[PackRecord]) -> None:
        """What was to be read has been: keep one line for each pack that is still there."""
        lines = [f"{format_time(self._read_at[p.name])} {p.name}\n" for p in packs if p.name in self._read_at]
        if self._share is not None and self._share < 1 and self._began is not None:
            lines.append(
                f"{format_time(self._began)} {_BEGAN}\n"
            )  # a check of everything is still to be ended
        with suppress(OSError):
            replace_file(self._path, "".join(lines).encode())


def due(packs: Sequence[PackRecord], read_at: Mapping[str, datetime], share: Fraction) -> list[PackRecord]:
    """The packs that were not read for longest, of as many bytes as the share takes, and at least one."""
    wanted = share * sum(pack.size for pack in packs)
    chosen: list[PackRecord] = []
    taken = 0
    for pack in sorted(packs, key=lambda pack: (read_at.get(pack.name, NEVER), pack.name)):
        if chosen and taken >= wanted:
            break
        chosen.append(pack)
        taken += pack.size
    return chosen


def parse_share(text: str) -> Fraction:
    """The share that ``1/30`` says. Raises ``ValueError``."""
    try:
        share = Fraction(text)
    except (ValueError, ZeroDivisionError):
        share = Fraction(0)
    if not 0 < share <= 1 or "/" not in text:
        raise ValueError(f"{text!r} is not a share; write 1/30")
    return share


def _load(path: Path) -> dict[str, datetime]:
    """What the file says; a line that was cut says nothing."""
    found: dict[str, datetime] = {}
    with suppress(OSError, UnicodeDecodeError):
        for line in path.read_text().splitlines():
            time, _, pack = line.partition(" ")
            with suppress(ValueError):
                found[pack] = parse_time(time)
    return found
