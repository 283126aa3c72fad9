"""Codec 1: one Zstandard frame (RFC 8878) that states its content size, level 3."""

from __future__ import annotations

import zstandard

ID = 1
LEVEL = 3


def encode(raw: bytes) -> bytes:
    """One frame with the size of its content and no checksum: the seal and the name cover the bytes."""
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True, write_checksum=False)
    return compressor.compress(raw)


def decode(stored: bytes, raw_length: int) -> bytes:
    """The content of one frame. Raises ``ValueError`` when it is not ``raw_length`` bytes.

    The size that the frame claims is held against ``raw_length`` first, so that a frame which unpacks
    to far more than it should is refused before memory is taken for it.
    """
    try:
        if zstandard.frame_content_size(stored) != raw_length:
            raise ValueError(f"does not hold the {raw_length} bytes that were expected")
        decompressor = zstandard.ZstdDecompressor()
        return decompressor.decompress(stored, max_output_size=raw_length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"is not a Zstandard frame: {error}") from error
