"""Recipients: how their public keys are written, after the test vectors of BIP 173."""

from __future__ import annotations

import pytest

from refloat.errors import UsageError
from refloat.vault.recipients import (
    _DIGITS,
    RecipientKey,
    _regrouped,
    bech32,
    recipient_of,
    recipient_text,
    unbech32,
)

LONGEST = "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio"
VALID = {  # text: prefix and bytes
    "A12UEL5L": ("a", ""),
    "a12uel5l": ("a", ""),
    f"{LONGEST}1tt5tgs": (LONGEST, ""),
    "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw": ("abcdef", "00443214c74254b635cf84653a56d7c675be77df"),
    f"11{'q' * 82}c8247j": ("1", "00" * 51),
    "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w": (
        "split",
        "c5f38b70305f519bf66d85fb6cf03058f3dde463ecd7918f2dc743918f2d",
    ),
    "?1ezyfcl": ("?", ""),
}
INVALID = {  # text: the prefix that it would have
    "pzry9x0s0muk": "",
    "1pzry9x0s0muk": "",
    "x1b4n0q5v": "x",
    "li1dgmt3": "li",
    "de1lg7wt\xff": "de",
    "A1G7SGD8": "a",
    "1qzzfhee": "",
}
OF_NO_PREFIX = (" 1nwldj5", "\x7f1axkwrx", "\x801eym55h", "10a06t8")
PROGRAMS = {  # of the addresses there: what follows the version digit
    "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4": "751e76e8199196d454941c45d1b3a323f1433bd6",
    "tb1qqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesrxh6hy": (
        "000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433"
    ),
    "bc1zw508d6qejxtdg4y5r3zarvaryvqyzf3du": None,  # filled up by more than 4 bits
    "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3pjxtptv": None,  # filled up with other than zero
}


@pytest.mark.parametrize("text", VALID)
def test_what_is_valid_by_the_standard_is_read_and_written(text: str) -> None:
    prefix, content = VALID[text]
    assert unbech32(prefix, text).hex() == content
    assert bech32(prefix, bytes.fromhex(content)) == text.lower()


@pytest.mark.parametrize("text", INVALID)
def test_what_is_invalid_by_the_standard_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        unbech32(INVALID[text], text)


@pytest.mark.parametrize("text", [*VALID, *INVALID, *OF_NO_PREFIX])
def test_what_has_another_prefix_is_no_recipient(text: str) -> None:
    with pytest.raises(UsageError, match="no recipient"):
        recipient_of(text)


@pytest.mark.parametrize("text", PROGRAMS)
def test_digits_are_regrouped_to_bytes_as_by_the_standard(text: str) -> None:
    digits = [_DIGITS.index(letter) for letter in text.lower()[4:-6]]
    wanted = PROGRAMS[text]
    if wanted is None:
        with pytest.raises(ValueError):
            bytes(_regrouped(digits, 5, 8, fill=False))
    else:
        assert bytes(_regrouped(digits, 5, 8, fill=False)).hex() == wanted


def test_of_a_public_key_every_letter_that_was_mistyped_is_found() -> None:  # fault 66
    key = RecipientKey.create()
    text = recipient_text(key.public)
    assert recipient_of(text) == recipient_of(f" {text.upper()}\n") == key.public and len(text) == 66
    for at in range(len(text)):
        for letter in "qpzl1!":
            other = text[:at] + letter + text[at + 1 :]
            if other != text:
                with pytest.raises(UsageError, match="mistyped"):
                    recipient_of(other)
    for wrong in (text[:-1], text + "q", text[:9].upper() + text[9:], "refloat1", ""):
        with pytest.raises(UsageError, match="mistyped"):
            recipient_of(wrong)


@pytest.mark.parametrize("number", [0, 1])
def test_a_key_for_which_everybody_could_open_is_none(number: int) -> None:  # fault 58
    with pytest.raises(UsageError, match="no recipient"):
        recipient_of(recipient_text(number.to_bytes(32, "little")))
