"""Codec 0: the bytes as they are."""

from __future__ import annotations

ID = 0


def decode(stored: bytes, raw_length: int) -> bytes:
    """The same bytes. Raises ``ValueError`` when there are not ``raw_length`` of them."""
    if len(stored) != raw_length:
        raise ValueError(f"holds {len(stored)} bytes where {raw_length} were expected")
    return stored
