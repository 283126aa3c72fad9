"""When a file was made (``statx(2)``), which Python does not tell: with its inode it tells a file from every other."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path
from typing import ClassVar

_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_STATX_BTIME = 0x800  # linux/stat.h


@functools.cache
def libc() -> ctypes.CDLL:
    """The C library that this process runs on."""
    return ctypes.CDLL(None, use_errno=True)


class _Statx(ctypes.Structure):
    """``struct statx`` up to the time of birth, and room for the rest (256 bytes in all)."""

    _fields_: ClassVar = [
        ("mask", ctypes.c_uint32),
        ("until_birth", ctypes.c_uint8 * 76),
        ("birth_s", ctypes.c_int64),
        ("birth_ns", ctypes.c_uint32),
        ("rest", ctypes.c_uint8 * 164),
    ]


def birth_ns(path: Path) -> int:
    """When a file was made, in nanoseconds since 1970; 0 where that is not kept."""
    call = getattr(libc(), "statx", None)
    found = _Statx()
    if call is None or call(
        _AT_FDCWD, os.fsencode(path), _AT_SYMLINK_NOFOLLOW, _STATX_BTIME, ctypes.byref(found)
    ):
        return 0
    return found.birth_s * 10**9 + found.birth_ns if found.mask & _STATX_BTIME else 0
