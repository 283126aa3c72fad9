"""Durations, sizes and times as people write them: ``90s``, ``64MiB``, ``2026-11-01T12:00:00Z``."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "y": 365 * 86400.0}
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")
_RATIO = re.compile(r"(\d+(?:\.\d+)?)x")


def parse_duration(text: str) -> float:
    """Seconds of ``90s``, ``5m``, ``2h``, ``7d``, ``1y`` or ``250ms``. Raises ``ValueError``."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2] not in _SECONDS:
        raise ValueError(f"{text!r} is not a duration; write 250ms, 90s, 5m, 2h, 7d or 1y")
    return float(match[1]) * _SECONDS[match[2]]


def parse_size(text: str) -> int:
    """Bytes of ``512B``, ``64MiB``, ``2GiB``. Raises ``ValueError``."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2] not in _BYTES:
        raise ValueError(f"{text!r} is not a size; write 512B, 4KiB, 64MiB, 2GiB or 1TiB")
    return int(float(match[1]) * _BYTES[match[2]])


def parse_ratio(text: str) -> float:
    """The factor of ``1.25x``. Raises ``ValueError``."""
    match = _RATIO.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a ratio; write 1.25x")
    return float(match[1])


def format_duration(seconds: float | None) -> str:
    """A duration for people: ``0.34s``, ``12.1s``, ``3m 20s``, ``2h 05m``, ``3d 04h``; ``-`` for none."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds:.2f}s"
    if seconds < 60:
        return f"{seconds:.1f}s" if seconds % 1 else f"{seconds:.0f}s"
    whole = round(seconds)
    for unit, size, below, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size}{unit} {rest:02d}{below}" if rest else f"{whole // size}{unit}"
    raise AssertionError(whole)


def format_size(count: int | None) -> str:
    """A size for people: ``812 B``, ``1.4 MiB``; ``-`` for none."""
    if count is None:
        return "-"
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds and ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """A moment from RFC 3339; a time without an offset is refused. Raises ``ValueError``."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write 2026-11-01T12:00:00Z")
    return moment.astimezone(UTC)
