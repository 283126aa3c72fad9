"""Codec 3: a Blosc2 chunk of how each element differs from the one in the same place of a base chunk.

Elements are taken as little-endian integers of the width that the Blosc2 chunk names. The difference wraps round,
and its sign moves to the lowest bit (zigzag), so that small steps in either direction leave the high bytes zero:

    z = (d << 1) ^ (d >> (8 width - 1)),   d = new - base

Bytes behind the last whole element are kept as they are. Weights of neighbouring training steps have the same
exponent and nearly the same mantissa, so half of their bytes vanish.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from refloat.limits import KIB
from refloat.vault.codecs import shuffled

ID = 3
BLOCK_BYTES = 128 * KIB  # of each array: a block of all three stays in a core's cache


def encode(raw: bytes, width: int, base: bytes) -> bytes:
    """What makes ``raw`` of ``base``, which is as long."""
    return shuffled.encode(difference(raw, base, width), width)


def decode(stored: bytes, raw_length: int, base: bytes) -> bytes:
    """What was encoded. Raises ``ValueError`` where it does not fit the base, or is not ``raw_length`` bytes."""
    if len(base) != raw_length:
        raise ValueError(f"has a base of {len(base)} bytes instead of {raw_length}")
    width = shuffled.width_of(stored)
    return undone(shuffled.decode(stored, raw_length), base, width).tobytes()


def difference(raw: bytes, base: bytes, width: int) -> npt.NDArray[np.uint8]:
    """The zigzag of ``raw`` minus ``base``, element by element."""
    out, parts = _begin(raw, width)
    kind = np.dtype(f"<i{width}")
    new, old = (np.frombuffer(each, kind, len(raw) // width) for each in (raw, base))
    moved = out[: new.nbytes].view(kind)
    sign = np.empty(BLOCK_BYTES // width, kind)
    for part in parts:
        step = np.subtract(new[part], old[part], out=moved[part])
        of = np.right_shift(step, 8 * width - 1, out=sign[: len(step)])
        np.left_shift(step, 1, out=step)
        np.bitwise_xor(step, of, out=step)
    return out


def undone(zigzag: bytes, base: bytes, width: int) -> npt.NDArray[np.uint8]:
    """What ``zigzag`` was made of."""
    out, parts = _begin(zigzag, width)
    kind = np.dtype(f"<u{width}")
    step, old = (np.frombuffer(each, kind, len(zigzag) // width) for each in (zigzag, base))
    new = out[: step.nbytes].view(kind)
    sign = np.empty(BLOCK_BYTES // width, kind)
    for part in parts:
        of = np.bitwise_and(step[part], 1, out=sign[: len(step[part])])
        np.negative(of, out=of)
        moved = np.right_shift(step[part], 1, out=new[part])
        np.bitwise_xor(moved, of, out=moved)
        np.add(moved, old[part], out=moved)
    return out


def _begin(content: bytes, width: int) -> tuple[npt.NDArray[np.uint8], list[slice]]:
    """Room for the result, with the bytes behind the last element in it, and the blocks to do one by one."""
    out = np.empty(len(content), np.uint8)
    whole = len(content) - len(content) % width
    out[whole:] = np.frombuffer(content, np.uint8)[whole:]
    step = BLOCK_BYTES // width
    return out, [slice(at, at + step) for at in range(0, whole // width, step)]
