"""Keys on paper, read by what docs/FORMAT.md and SLIP-0039 say; of a library they take the list of words alone."""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
SECRET, DIGEST = 255, 254


def check_of(told: str) -> str:
    bits = int.from_bytes(blake3(f"refloat-1:recovery-kit:{told}".encode()).digest()[:3], "big") >> 4
    return "".join(DIGITS[bits >> shift & 31] for shift in (15, 10, 5, 0))


# ------------------------------------------------------------------------------------------------- key lines


def bytes_of_lines(text: str) -> bytes:
    """What the key lines of a page stand for, as the format says it."""
    found: dict[int, str] = {}
    for line in text.splitlines():
        if match := re.fullmatch(r"key (\d{2,}) ([0-9A-Z ]+) = ([0-9A-Z]{4})", line):
            number, digits = int(match[1]), match[2].replace(" ", "")
            assert match[3] == check_of(f"{number}:{digits}")
            found[number] = digits
    return b"".join(in_bytes(found[number]) for number in range(1, len(found) + 1))


def in_bytes(digits: str) -> bytes:
    value = 0
    for digit in digits:
        value = value << 5 | DIGITS.index(digit)
    left = len(digits) * 5 % 8
    assert value & ((1 << left) - 1) == 0, "filled up with zero bits"
    return (value >> left).to_bytes(len(digits) * 5 // 8, "big")


def key_on(text: str, passphrase: str = "") -> dict[str, Any]:
    """The key file on one page, or on all pages of shares that a text has."""
    whole = bytes_of_lines(text)
    assert blake3(whole[:-8]).digest()[:8] == whole[-8:]
    kind, content = whole[0], whole[1:-8]
    if kind == 2:
        key = hashlib.scrypt(
            passphrase.encode(), salt=content[:16], n=32768, r=8, p=1, dklen=32, maxmem=1 << 26
        )
        content = AESGCM(key).decrypt(content[16:28], content[28:], b"refloat-1:recovery-kit")
    if kind == 3:
        head, sealed = content[:4], content[4:]
        shares = [share_of(words) for words in shares_on(text)]
        assert {share.identifier for share in shares} == {int.from_bytes(head[:2], "big")}
        assert {share.threshold for share in shares} == {head[2]} and len(shares) <= head[3]
        associated = b"refloat-1:recovery-kit:shares" + head
        content = AESGCM(joined(shares[: head[2]])).decrypt(sealed[:12], sealed[12:], associated)
    document: dict[str, Any] = json.loads(zlib.decompress(content))
    return document


# ----------------------------------------------------------------------------------------------- SLIP-0039


@dataclass(frozen=True)
class Share:
    """A share of the only group."""

    identifier: int
    extendable: bool
    exponent: int
    index: int
    threshold: int
    value: bytes


def shares_on(text: str) -> list[str]:
    """The words of each share in a text, in the order of their numbers."""
    found: dict[int, dict[int, str]] = {}
    for line in text.splitlines():
        if match := re.fullmatch(r"share (\d+) (\d\d) ([a-z]+ [a-z]+ [a-z]+) = ([0-9A-Z]{4})", line):
            number, place = int(match[1]), int(match[2])
            assert match[4] == check_of(f"share:{number}:{place}:{match[3]}")
            found.setdefault(number, {})[place] = match[3]
    assert all(sorted(lines) == list(range(1, 12)) for lines in found.values())
    shares = {number: " ".join(lines[place] for place in sorted(lines)) for number, lines in found.items()}
    assert all(share_of(words).index == number - 1 for number, words in shares.items())
    return [words for _, words in sorted(shares.items())]


def share_of(words: str) -> Share:
    spec = importlib.util.find_spec("shamir_mnemonic")
    assert spec is not None and spec.origin is not None
    known = (Path(spec.origin).parent / "wordlist.txt").read_text().split()
    indices = [known.index(word) for word in words.split()]
    head = bits_of(indices[:4])
    extendable = bool(head >> 24 & 1)
    label = b"shamir_extendable" if extendable else b"shamir"
    assert rs1024([*label, *indices]) == 1, "the checksum"
    assert (head >> 16 & 15, head >> 12 & 15, head >> 8 & 15) == (0, 0, 0), "the only group of one"
    value = bits_of(indices[4:-3])
    size = len(indices[4:-3]) * 10 // 16 * 2
    return Share(
        head >> 25, extendable, head >> 20 & 15, head >> 4 & 15, (head & 15) + 1, value.to_bytes(size, "big")
    )


def bits_of(indices: Sequence[int]) -> int:
    value = 0
    for index in indices:
        value = value << 10 | index
    return value


def rs1024(values: Sequence[int]) -> int:
    generator = (
        *(0xE0E040, 0x1C1C080, 0x3838100, 0x7070200, 0xE0E0009),
        *(0x1C0C2412, 0x38086C24, 0x3090FC48, 0x21B1F890, 0x3F3F120),
    )
    total = 1
    for value in values:
        top = total >> 20
        total = (total & 0xFFFFF) << 10 ^ value
        for place, factor in enumerate(generator):
            total ^= factor if top >> place & 1 else 0
    return total


def times(one: int, other: int) -> int:
    """In the field of 256 elements with x^8 + x^4 + x^3 + x + 1."""
    product = 0
    while other:
        product ^= one if other & 1 else 0
        one = one << 1 ^ (0x11B if one & 0x80 else 0)
        other >>= 1
    return product


def inverse(one: int) -> int:
    return next(other for other in range(1, 256) if times(one, other) == 1)


def at(place: int, points: Sequence[tuple[int, bytes]]) -> bytes:
    """The polynomial through ``points``, each of which is many side by side, at a place (Lagrange)."""
    total = bytes(len(points[0][1]))
    for x, value in points:
        factor = 1
        for other, _ in points:
            if other != x:
                factor = times(factor, times(place ^ other, inverse(x ^ other)))
        total = bytes(before ^ times(factor, byte) for before, byte in zip(total, value, strict=True))
    return total


def joined(shares: Sequence[Share], passphrase: bytes = b"") -> bytes:
    """The master secret of exactly as many shares as are needed."""
    first = shares[0]
    assert len(shares) == first.threshold > 1
    points = [(share.index, share.value) for share in shares]
    secret, digest = at(SECRET, points), at(DIGEST, points)
    assert hmac.digest(digest[4:], secret, "sha256")[:4] == digest[:4]
    salt = b"" if first.extendable else b"shamir" + first.identifier.to_bytes(2, "big")
    half = len(secret) // 2
    left, right = secret[:half], secret[half:]
    for turn in (3, 2, 1, 0):
        password, times_each = bytes([turn]) + passphrase, 2500 << first.exponent
        mixed = hashlib.pbkdf2_hmac("sha256", password, salt + right, times_each, half)
        left, right = right, bytes(a ^ b for a, b in zip(left, mixed, strict=True))
    return right + left
