"""A secret in shares: any ``threshold`` of them give it back, and fewer tell nothing of it.

What is to be shared is sealed with a random secret of 256 bits, and that secret is shared by SLIP-0039 in one group.
A share is 33 words, which people type in lines with a check of their own:

    share 3 07 academic acid acne = 5QTB

The words begin with a random number, the *kit*, which is that of all shares made together. The stored form is in
``docs/FORMAT.md``.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag

from refloat.errors import Damaged, UsageError
from refloat.vault.keyfile import open_sealed, seal_bytes
from refloat.vault.keylines import COMPARE, canonical, check

THRESHOLD_MIN = 2  # one share alone would be the secret
SHARES_MAX = 16  # SLIP-0039 has four bits for the number of a share
LINES = 11
WORDS_A_LINE = 3

_LINE = re.compile(
    r"^\W{0,20}share\s+(\d{1,2})\s+(\d{1,2})\s+([^=]{0,200})=\s*(\S*)\s*$", re.IGNORECASE | re.MULTILINE
)
_SECRET_BYTES = 32
_NO_STRETCHING = 0  # the iteration exponent, which is for passphrases: this secret is as random as a key
_HEAD_BYTES = 4
_ASSOCIATED = b"refloat-1:recovery-kit:shares"


@dataclass(frozen=True)
class Split:
    """A secret in shares: the number of the kit, what is sealed for them, and the lines of each share, in order."""

    kit: int
    sealed: bytes
    lines: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Share:
    """A share as it was typed: its number, its kit, its words, and the page that it stands on."""

    number: int
    kit: int
    words: str
    page: str

    def __str__(self) -> str:
        return f"share {self.number} ({self.page})"


# ----------------------------------------------------------------------------------------------------- to print


def split(content: bytes, count: int, threshold: int) -> Split:
    """Seal ``content`` for any ``threshold`` of ``count`` shares. Raises ``UsageError`` outside of the limits."""
    require_limits(count, threshold)
    from shamir_mnemonic import generate_mnemonics

    secret = secrets.token_bytes(_SECRET_BYTES)
    (words,) = generate_mnemonics(
        1, [(threshold, count)], secret, extendable=True, iteration_exponent=_NO_STRETCHING
    )
    kit = _kit_of(words[0], 1)
    assert kit is not None  # what was made is what is read
    head = kit.to_bytes(2, "big") + bytes([threshold, count])
    lines = tuple(tuple(_lines(number, share.split())) for number, share in enumerate(words, 1))
    return Split(kit, head + seal_bytes(secret, content, _ASSOCIATED + head), lines)


def require_limits(count: int, threshold: int) -> None:
    """Raise ``UsageError`` for what is no number of shares, or of those that are needed."""
    if not THRESHOLD_MIN <= threshold <= count <= SHARES_MAX:
        raise UsageError(
            f"{count} shares of which {threshold} are needed cannot be made: there are {SHARES_MAX} at most, and "
            f"at least {THRESHOLD_MIN} and no more than all of them are needed",
            next="for example --shares 5 --threshold 3",
        )


def _lines(number: int, words: Sequence[str]) -> Iterator[str]:
    for line in range(1, LINES + 1):
        told = " ".join(words[(line - 1) * WORDS_A_LINE : line * WORDS_A_LINE])
        yield f"share {number} {line:02d} {told} = {_check(number, line, told)}"


def _check(number: int, line: int, words: str) -> str:
    return check(f"share:{number}:{line}:{words}")


# ------------------------------------------------------------------------------------------------------ to read


def typed(text: str, page: str) -> list[Share]:
    """The shares in a text. Raises ``Damaged`` naming the line that is missing or not as it was written."""
    shares: dict[int, dict[int, str]] = {}
    for found in _LINE.finditer(text):
        number, line, words = int(found[1]), int(found[2]), " ".join(found[3].lower().split())
        if canonical(found[4]) != _check(number, line, words):
            raise _mistyped(number, line, words)
        if shares.setdefault(number, {}).setdefault(line, words) != words:
            raise UsageError(
                f"share {number} stands in this text twice and differs: it is of two kits", next=_ONE_KIT
            )
    return [_share(number, lines, page) for number, lines in shares.items()]


_ONE_KIT = "bring pages of one kit together: each says which kit it is of"


def _mistyped(number: int, line: int, words: str) -> Damaged:
    from shamir_mnemonic.wordlist import WORD_INDEX_MAP

    place = f"share {number}, line {line} is not as it was written"
    unknown = [str(at) for at, word in enumerate(words.split(), 1) if word not in WORD_INDEX_MAP]
    return Damaged(f"{place}: no share has its word {unknown[0]}" if unknown else place, next=COMPARE)


def _share(number: int, lines: Mapping[int, str], page: str) -> Share:
    for line in range(1, LINES + 1):
        if line not in lines:
            raise Damaged(f"share {number}, line {line} is missing, or has not the form of one", next=COMPARE)
    words = " ".join(lines[line] for line in sorted(lines))
    kit = _kit_of(words, number)
    if kit is None:
        raise Damaged(
            f"each line of share {number} is right and together they are none: they are of two pages",
            next="take all lines of a share from one page",
        )
    return Share(number, kit, words, page)


def _kit_of(words: str, number: int) -> int | None:
    """The kit of a share as ``split`` makes them, or None where these words are none, or of another number."""
    from shamir_mnemonic import MnemonicError
    from shamir_mnemonic import Share as Decoded

    try:
        share = Decoded.from_mnemonic(words)
    except MnemonicError:
        return None
    form = (share.index, len(share.value), share.iteration_exponent)
    return share.identifier if form == (number - 1, _SECRET_BYTES, _NO_STRETCHING) else None


def require_one_kit(shares: Sequence[Share]) -> None:
    """Raise ``UsageError`` where shares were not made together, saying which are of which kit."""
    kits: dict[int, list[Share]] = {}
    for share in shares:
        kits.setdefault(share.kit, []).append(share)
    if len(kits) > 1:
        told = "; ".join(f"of kit {kit} {', '.join(map(str, those))}" for kit, those in kits.items())
        raise UsageError(f"these shares do not belong together: {told}", next=_ONE_KIT)


def opened(sealed: bytes, shares: Sequence[Share]) -> bytes:
    """What ``split`` sealed, by shares of one kit; one that was given again counts once.

    Raises ``UsageError`` where they are too few or of another kit, ``Damaged`` where they do not open it.
    """
    from shamir_mnemonic import MnemonicError, combine_mnemonics

    head = sealed[:_HEAD_BYTES]
    if len(head) < _HEAD_BYTES:
        raise Damaged("what is sealed for these shares is not whole", next="take another page of this kit")
    kit, threshold, count = int.from_bytes(head[:2], "big"), *head[2:]
    others = [share for share in shares if share.kit != kit]
    if others:
        raise UsageError(
            f"the key lines are of kit {kit}, and of kit {others[0].kit} {', '.join(map(str, others))}",
            next=_ONE_KIT,
        )
    here = {share.number: share for share in sorted(shares, key=lambda share: share.number)}
    if len(here) < threshold:
        raise _too_few(here, kit, threshold, count)
    try:
        secret = combine_mnemonics([share.words for share in here.values()][:threshold])
        return open_sealed(secret, sealed[_HEAD_BYTES:], _ASSOCIATED + head)
    except (MnemonicError, InvalidTag):
        raise Damaged("these shares do not open this key: they are of two kits", next=_ONE_KIT) from None


def _too_few(here: Mapping[int, Share], kit: int, threshold: int, count: int) -> UsageError:
    told = f": {', '.join(map(str, here.values()))}" if here else ""
    others = ", ".join(str(number) for number in range(1, count + 1) if number not in here)
    missing = threshold - len(here)
    return UsageError(
        f"{threshold} shares of kit {kit} are needed, and here {'is' if len(here) == 1 else 'are'} {len(here)}{told}",
        next=f"bring {missing} more of its pages, of shares {others}",
    )
