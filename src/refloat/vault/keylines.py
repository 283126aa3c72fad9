"""Bytes as lines that people type, each with a check of its own, so that what is mistyped is found and its line named.

    key 07 7ZK4P Q0M2S 81VXA 3N5TC GG9WE 4RYHB D6JFK 2XM1N = 5QTB

The form is in ``docs/FORMAT.md``.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from blake3 import blake3

from refloat.errors import Damaged, UsageError

LINE_BYTES = 25  # forty characters in groups of five: what an eye keeps its place in
COMPARE = "compare it with the page, character by character"

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: none is taken for another one
_RFC4648 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_WRITTEN = str.maketrans(_RFC4648, _DIGITS)
_READ = str.maketrans(_DIGITS + "OIL", _RFC4648 + "ABB")  # O is read as 0, I and L as 1
_LINE = re.compile(r"^\W*key\s+(\d{1,3})\s+([^=]*)=\s*(\S*)\s*$", re.IGNORECASE | re.MULTILINE)
_DIGEST_BYTES = 8


def lines_of(content: bytes) -> list[str]:
    """Bytes, with their digest behind them, as lines to be typed."""
    whole = content + blake3(content).digest(_DIGEST_BYTES)
    pieces = [whole[at : at + LINE_BYTES] for at in range(0, len(whole), LINE_BYTES)]
    return [_line(number, piece) for number, piece in enumerate(pieces, 1)]


def typed(text: str) -> dict[int, str]:
    """The digits of each key line in a text, by number. Raises ``Damaged`` naming one that is not as it was written."""
    lines: dict[int, str] = {}
    for found in _LINE.finditer(text):
        number, digits = int(found[1]), canonical(found[2])
        if canonical(found[3]) != _check(number, digits) or lines.setdefault(number, digits) != digits:
            raise Damaged(f"key line {number} is not as it was written", next=COMPARE)
    return lines


def bytes_of(lines: Mapping[int, str]) -> bytes:
    """What lines stand for. Raises ``UsageError`` for none, ``Damaged`` naming the line that is missing."""
    if not lines:
        raise UsageError(
            "there is no key line in this text", next="give the page that `refloat vault kit` printed"
        )
    numbers = range(1, max(lines) + 1)
    for number in numbers:
        if number not in lines:
            raise Damaged(f"key line {number} is missing, or has not the form of one", next=COMPARE)
    whole = b"".join(_piece(number, lines[number]) for number in numbers)
    content, digest = whole[:-_DIGEST_BYTES], whole[-_DIGEST_BYTES:]
    if blake3(content).digest(_DIGEST_BYTES) != digest:
        raise Damaged(
            "each key line is right and together they are none: the last ones are missing, or they are of two pages",
            next="take all key lines of one page",
        )
    return content


def check(told: str) -> str:
    """Four characters that go with what a line says in its place."""
    found = blake3(f"refloat-1:recovery-kit:{told}".encode()).digest(5)
    return base64.b32encode(found).decode("ascii")[:4].translate(_WRITTEN)


def canonical(typed: str) -> str:
    """What was typed as the page writes it: large letters, nothing between, no letter that looks like a digit."""
    plain = re.sub(r"[\s-]", "", typed).upper()
    return plain.translate(str.maketrans("OIL", "011"))


def _line(number: int, piece: bytes) -> str:
    digits = base64.b32encode(piece).decode("ascii").rstrip("=").translate(_WRITTEN)
    groups = " ".join(digits[at : at + 5] for at in range(0, len(digits), 5))
    return f"key {number:02d} {groups} = {_check(number, digits)}"


def _check(number: int, digits: str) -> str:
    return check(f"{number}:{digits}")


def _piece(number: int, digits: str) -> bytes:
    padded = digits.translate(_READ) + "=" * (-len(digits) % 8)
    try:
        return base64.b32decode(padded)
    except ValueError as error:
        raise Damaged(f"key line {number} is not as it was written", next=COMPARE) from error
