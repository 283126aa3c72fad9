"""Which names a store takes: relative paths of a small alphabet that means the same on every store."""

from __future__ import annotations

import re
from functools import lru_cache

from refloat.errors import UsageError

NAME_CHARACTERS_MAX = 512  # S3 allows 1,024; a vault's prefix takes some of it
SEGMENT_CHARACTERS_MAX = 200  # file systems allow 255; a temporary file adds its suffix

NAMES_KEPT = 4096  # that were found good: each is looked at, read and listed again and again

_ALPHABET = re.compile(r"[a-z0-9_./-]*", re.ASCII)


@lru_cache(NAMES_KEPT)
def checked(name: str) -> str:
    """The name itself, when it may name an object. Raises ``UsageError`` otherwise."""
    segments = name.split("/")
    if not _ALPHABET.fullmatch(name) or len(name) > NAME_CHARACTERS_MAX:
        raise _refusal(name)
    if any(not segment.strip(".") or len(segment) > SEGMENT_CHARACTERS_MAX for segment in segments):
        raise _refusal(name)
    return name


def checked_prefix(prefix: str) -> str:
    """The prefix itself, when names can start with it. Raises ``UsageError`` otherwise."""
    if prefix:
        checked(prefix + "0")
    return prefix


def is_name(name: str) -> bool:
    """Whether ``name`` may name an object."""
    try:
        checked(name)
    except UsageError:
        return False
    return True


def _refusal(name: str) -> UsageError:
    return UsageError(
        f"{name[:80]!r} cannot name an object",
        next=f"use a relative path of a-z 0-9 _ . - and /, without empty or dot-only parts, "
        f"at most {NAME_CHARACTERS_MAX} characters",
    )
