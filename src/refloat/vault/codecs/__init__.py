"""The closed table of codecs: how a chunk's bytes are stored.

The table is part of the vault format, so that any refloat reads any vault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from refloat.errors import VaultError
from refloat.limits import KIB
from refloat.vault.codecs import difference, raw, shuffled, zstd

SAMPLE_BYTES = 64 * KIB  # enough to tell weights and archives from text, small enough to cost nothing
SAMPLE_PARTS = 4  # taken across the chunk, because the head of a file is often unlike the rest
GAIN_MIN = 0.03  # below this, unpacking costs more than the space is worth
TEXT_RATIO = 0.75  # what Zstandard alone makes this small is no array of numbers: no width is tried on it
WIDTHS_TRIED = (4, 2, 8)  # where nobody says how wide an element is
ARRAY_BYTES_MIN = 256  # what is shorter is tried as no array of numbers that nobody said it is


@dataclass(frozen=True)
class Codec:
    """One row of the table. ``decode`` takes the stored bytes, the raw length and, if ``based``, the base's bytes.

    It raises ``ValueError`` for bytes that are not its own.
    """

    id: int
    name: str
    decode: Callable[..., bytes]
    based: bool = False


RAW = Codec(raw.ID, "raw", raw.decode)
ZSTD = Codec(zstd.ID, "zstd", zstd.decode)
SHUFFLED = Codec(shuffled.ID, "blosc2", shuffled.decode)
DIFFERENCE = Codec(difference.ID, "blosc2+delta", difference.decode, based=True)
CODECS: Mapping[int, Codec] = {codec.id: codec for codec in (RAW, ZSTD, SHUFFLED, DIFFERENCE)}


def codec(id: int) -> Codec:
    """The codec of an id. Raises ``VaultError`` for one that this version cannot read."""
    found = CODECS.get(id)
    if found is None:
        raise VaultError(
            f"a chunk is stored with codec {id}, which this refloat cannot read",
            next="install a newer refloat and try again",
        )
    return found


@dataclass(frozen=True)
class _Way:
    """One way to store a chunk, to be tried on a sample and then done to all of it."""

    codec: Codec
    width: int = 1

    def encode(self, content: bytes, base: bytes | None) -> bytes:
        if self.codec is DIFFERENCE and base is not None:
            return difference.encode(content, self.width, base)
        if self.codec is SHUFFLED:
            return shuffled.encode(content, self.width)
        return zstd.encode(content) if self.codec is ZSTD else content

    def undoes(self, stored: bytes, content: bytes, base: bytes | None) -> bool:
        """Whether the content comes back: an encoder's mistake costs space, and not the content."""
        try:
            return self.codec.decode(stored, len(content), *([base] if self.codec.based else [])) == content
        except ValueError:
            return False


def encode(content: bytes, width: int = 1, base: bytes | None = None) -> tuple[Codec, bytes]:
    """The codec that suits ``content``, judged from a sample, and the bytes it makes of it.

    ``width`` is how many bytes an element has, 1 where nobody knows, 0 where it has no elements. ``base`` is content
    as long, of which this may differ only a little.
    """
    sample = _sample(content)
    against = None if base is None or len(base) != len(content) else _sample(base)
    best, packed, least = _Way(RAW), sample, len(sample) * (1 - GAIN_MIN)
    for way in _ways(width, len(content), based=against is not None):
        tried = way.encode(sample, against)
        if len(tried) <= least:
            best, packed, least = way, tried, len(tried) * (1 - GAIN_MIN)
        if way.codec is ZSTD and len(tried) <= len(sample) * TEXT_RATIO:
            break
    stored = packed if sample is content else best.encode(content, base)
    if len(stored) > len(content) * (1 - GAIN_MIN) or not best.undoes(stored, content, base):
        return RAW, content
    return best.codec, stored


def _ways(width: int, length: int, *, based: bool) -> Iterator[_Way]:
    """What is tried, in this order; a later one must gain clearly over an earlier one."""
    if width > 1:
        yield _Way(SHUFFLED, width)
    else:
        yield _Way(ZSTD)
        if width and length >= ARRAY_BYTES_MIN:
            yield from (_Way(SHUFFLED, each) for each in WIDTHS_TRIED)
    if based:
        yield _Way(DIFFERENCE, width)


def _sample(content: bytes) -> bytes:
    """Parts of the content that begin at whole elements, whatever their width."""
    if len(content) <= SAMPLE_BYTES:
        return content
    part = SAMPLE_BYTES // SAMPLE_PARTS
    stride = (len(content) - part) // (SAMPLE_PARTS - 1) // max(shuffled.WIDTHS) * max(shuffled.WIDTHS)
    return b"".join(content[n * stride : n * stride + part] for n in range(SAMPLE_PARTS))
