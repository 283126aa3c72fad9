"""Codec 2: one Blosc2 chunk, bytes shuffled by the width of an element, then Zstandard level 1.

The first bytes of all elements come first, then the second bytes, and so on: signs and exponents of neighbouring
weights are alike and compress, mantissas are noise and are stored as they are.
Format: https://github.com/Blosc/c-blosc2/blob/main/README_CHUNK_FORMAT.rst.
"""

from __future__ import annotations

import importlib
import struct
from functools import cache
from types import ModuleType

import numpy as np
import numpy.typing as npt

from refloat.limits import KIB
from refloat.stand_in import stand_ins

ID = 2
LEVEL = 1
WIDTHS = (1, 2, 4, 8)  # bytes an element
_HEADER = struct.Struct(
    "<BBBBIII"
)  # version, version of the codec, flags, width, raw bytes, block bytes, stored bytes
_OVERHEAD_BYTES = 32
BLOCK_BYTES = 256 * KIB  # a tenth faster than the library's own choice, and no larger
_BLOCKED_BYTES_MIN = 2 * BLOCK_BYTES  # less, and Blosc2 4.14 loses what is behind the last whole element


@cache
def _library() -> ModuleType:
    """Blosc2 without its client of remote tables, and told not to hold the interpreter lock while it works."""
    with stand_ins({"blosc2.remote_ctable": ["RemoteCTable"]}):
        library = importlib.import_module("blosc2")
    library.set_releasegil(True)
    return library


def encode(raw: bytes | npt.NDArray[np.uint8], width: int) -> bytes:
    """One chunk. Each has a context of its own: one used before keeps the block size of its first chunk."""
    blosc2 = _library()
    stored: bytes = blosc2.compress2(
        raw,
        codec=blosc2.Codec.ZSTD,
        clevel=LEVEL,
        typesize=width,
        nthreads=1,
        filters=[blosc2.Filter.SHUFFLE],
        filters_meta=[0],
        blocksize=BLOCK_BYTES if len(raw) >= _BLOCKED_BYTES_MIN else 0,
    )
    return stored


def width_of(stored: bytes) -> int:
    """Bytes an element, as the chunk says. Raises ``ValueError``."""
    if len(stored) < _OVERHEAD_BYTES:
        raise ValueError("is too short for a Blosc2 chunk")
    width: int = _HEADER.unpack_from(stored)[3]
    if width not in WIDTHS:
        raise ValueError(f"has elements of {width} bytes")
    return width


def decode(stored: bytes, raw_length: int) -> bytes:
    """What was encoded. Raises ``ValueError`` when it is not ``raw_length`` bytes.

    The sizes that the chunk claims are held against what is there before memory is taken for them.
    """
    width_of(stored)
    *_, raw_bytes, _, stored_bytes = _HEADER.unpack_from(stored)
    if (raw_bytes, stored_bytes) != (raw_length, len(stored)):
        raise ValueError(f"does not hold the {raw_length} bytes that were expected")
    try:
        raw: bytes = _library().decompress2(stored, nthreads=1)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"is not a Blosc2 chunk: {error}") from error
    if len(raw) != raw_length:
        raise ValueError(f"does not hold the {raw_length} bytes that were expected")
    return raw
