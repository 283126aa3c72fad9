"""The closed table of codecs: how a chunk's bytes are stored.

The table is part of the vault format, so that any refloat reads any vault. ``RESERVED`` ids belong to
codecs that the format has a place for and this version does not write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from refloat.errors import VaultError
from refloat.limits import KIB
from refloat.vault.codecs import raw, zstd

SAMPLE_BYTES = 64 * KIB  # enough to tell weights and archives from text, small enough to cost nothing
SAMPLE_PARTS = 4  # taken across the chunk, because the head of a file is often unlike the rest
GAIN_MIN = 0.03  # below this, unpacking costs more than the space is worth


@dataclass(frozen=True)
class Codec:
    """One row of the table. ``decode`` raises ``ValueError`` for bytes that are not its own."""

    id: int
    name: str
    encode: Callable[[bytes], bytes]
    decode: Callable[[bytes, int], bytes]


RAW = Codec(raw.ID, "raw", raw.encode, raw.decode)
ZSTD = Codec(zstd.ID, "zstd", zstd.encode, zstd.decode)
CODECS: Mapping[int, Codec] = {codec.id: codec for codec in (RAW, ZSTD)}
RESERVED: Mapping[int, str] = {2: "blosc2", 3: "blosc2+delta"}


def codec(id: int) -> Codec:
    """The codec of an id. Raises ``VaultError`` for one that this version cannot read."""
    found = CODECS.get(id)
    if found is None:
        name = RESERVED.get(id, "unknown")
        raise VaultError(
            f"a chunk is stored with codec {id} ({name}), which this refloat cannot read",
            next="install a newer refloat and try again",
        )
    return found


def _sample(content: bytes) -> bytes:
    if len(content) <= SAMPLE_BYTES:
        return content
    part = SAMPLE_BYTES // SAMPLE_PARTS
    stride = (len(content) - part) // (SAMPLE_PARTS - 1)
    return b"".join(content[n * stride : n * stride + part] for n in range(SAMPLE_PARTS))


def _gains(encoded: bytes, content: bytes) -> bool:
    return len(encoded) <= len(content) * (1 - GAIN_MIN)


def encode(content: bytes) -> tuple[Codec, bytes]:
    """The codec that suits ``content``, judged from a sample, and the bytes it makes of it."""
    sample = _sample(content)
    trial = ZSTD.encode(sample)
    if not _gains(trial, sample):
        return RAW, content
    encoded = trial if len(sample) == len(content) else ZSTD.encode(content)
    return (ZSTD, encoded) if _gains(encoded, content) else (RAW, content)
