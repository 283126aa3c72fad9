"""Recipients: key files sealed for the public key of somebody, who opens them with the private one and nothing else.

The public key is printed as ``refloat1…`` in Bech32 (BIP 173), whose checksum finds what was mistyped; the private
one stands in a file of its own. HPKE in its base mode (RFC 9180), with X25519, HKDF-SHA256 and AES-256-GCM.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from pydantic import Field, ValidationError

from refloat.digest import canonical_json, object_name
from refloat.errors import UsageError, VaultError, WrongKey
from refloat.vault.keyfile import (
    KEY_OBJECT_BYTES_MAX,
    RECIPIENT_MARK,
    Hex32,
    KeyFile,
    KeyObject,
    PassphraseKeyFile,
    SecretPart,
    parsed_object,
    read_key,
    signer_id,
    write_secret,
)
from refloat.vault.keyobjects import WrapTold
from refloat.vault.layout import damaged, key_name, plain_object

_PREFIX: Final = "refloat"
_DIGITS: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"  # of Bech32
_STEPS: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECK_DIGITS: Final = 6
_PURPOSE: Final = b"refloat-1:recipient_key_file:"


# -------------------------------------------------------------------------------------------- the public key


def recipient_text(public: bytes) -> str:
    """A public key as people pass it on: 66 characters, of which the last six check the others."""
    return bech32(_PREFIX, public)


def recipient_of(text: str) -> bytes:
    """The 32 bytes of a public key from its text. Raises ``UsageError`` for one that was mistyped, or is no key."""
    try:
        public = unbech32(_PREFIX, text.strip())
        if len(public) == 32:  # and no point of low order, for which everybody could open what is sealed
            X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(public))
            return public
    except ValueError:
        pass
    raise UsageError(
        f"{text[:80]!r} is no recipient's public key, or it was mistyped",
        next="copy it whole, as it was printed when the key pair was made: refloat1…",
    )


def bech32(prefix: str, content: bytes) -> str:
    """Bytes in Bech32 (BIP 173) behind a prefix; no longer than what the standard lets be: 90 characters in all.

    Our own, since the package of that name has had no release after 1.2.0 of 2020, and is as long as this.
    """
    digits = list(_regrouped(content, 8, 5, fill=True))
    check = _polymod([*_expanded(prefix), *digits, *([0] * _CHECK_DIGITS)]) ^ 1
    check_digits = [check >> 5 * (_CHECK_DIGITS - 1 - at) & 31 for at in range(_CHECK_DIGITS)]
    return f"{prefix}1" + "".join(_DIGITS[digit] for digit in (*digits, *check_digits))


def unbech32(prefix: str, text: str) -> bytes:
    """The bytes behind a prefix. Raises ``ValueError`` where the checksum is not theirs, or the prefix another."""
    if text not in (text.lower(), text.upper()):
        raise ValueError("large and small letters are mixed")
    found, _, written = text.lower().rpartition("1")
    digits = [_DIGITS.index(letter) for letter in written]  # ValueError for a letter that is none of them
    if found != prefix or len(digits) < _CHECK_DIGITS or _polymod([*_expanded(prefix), *digits]) != 1:
        raise ValueError("its checksum is wrong")
    return bytes(_regrouped(digits[:-_CHECK_DIGITS], 5, 8, fill=False))


def _polymod(values: Iterable[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, step in enumerate(_STEPS):
            check ^= step if top >> bit & 1 else 0
    return check


def _expanded(prefix: str) -> list[int]:
    return [*(ord(letter) >> 5 for letter in prefix), 0, *(ord(letter) & 31 for letter in prefix)]


def _regrouped(values: Iterable[int], before: int, after: int, *, fill: bool) -> Iterable[int]:
    """The same bits in groups of another size. Raises ``ValueError`` for bits left over that say something."""
    held, bits = 0, 0
    for value in values:
        held, bits = held << before | value, bits + before
        while bits >= after:
            bits -= after
            yield held >> bits & (1 << after) - 1
        held &= (1 << bits) - 1
    if fill and bits:
        yield held << after - bits & (1 << after) - 1
    elif held or bits >= before:
        raise ValueError("its last digit is not one that is written")


# ------------------------------------------------------------------------------------------- the private key


class RecipientKey(SecretPart):
    """The private key of a recipient, as its holder keeps it in a file."""

    kind: Literal["refloat recipient key"] = RECIPIENT_MARK
    format: Literal[1] = 1
    recipient: str
    private: Hex32

    @classmethod
    def create(cls) -> RecipientKey:
        """A new key pair."""
        private = X25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        return cls(recipient=recipient_text(public), private=private.private_bytes_raw().hex())

    @property
    def public(self) -> bytes:
        """The public half, 32 bytes."""
        return self._private.public_key().public_bytes_raw()

    @property
    def _private(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(bytes.fromhex(self.private))

    def save(self, path: Path | str) -> None:
        """Write the file as a key file is written: whole or not at all, mode 0600, never over another."""
        write_secret(path, (json.dumps(self.model_dump(), indent=2) + "\n").encode(), what="the private key")


def load_key(path: Path | str) -> KeyFile | RecipientKey:
    """What is in a file that a person gives as the key: a key file, or a recipient's private key.

    Raises ``UsageError`` if unreadable, ``WrongKey`` if it is neither, ``VaultError`` if it is of a newer format.
    """
    return read_key(path, _either)


def _either(content: bytes) -> KeyFile | RecipientKey:
    try:
        return RecipientKey.model_validate_json(content)
    except ValidationError:
        return KeyFile.from_bytes(content)


# ------------------------------------------------------------------------------------------- what is sealed


class RecipientKeyFile(KeyObject):
    """A whole key file that only the recipient named can open."""

    type: Literal["recipient_key_file"] = "recipient_key_file"
    recipient: Hex32
    sealed: str = Field(pattern=r"^([0-9a-f]{2})*$")

    def purpose(self) -> bytes:
        """What the sealing is bound to: vault, recipient and type."""
        return _PURPOSE + canonical_json(self.model_dump(mode="json", exclude={"sealed"}))


def seal_key_file(key_file: KeyFile, recipient: bytes) -> bytes:
    """A key file sealed for a recipient's public key: an object that stands under ``keys/``."""
    empty = RecipientKeyFile(vault=key_file.vault, recipient=recipient.hex(), sealed="")
    public = X25519PublicKey.from_public_bytes(recipient)
    sealed = _suite().encrypt(key_file.to_bytes(), public, info=empty.purpose())
    return canonical_json({**empty.model_dump(mode="json"), "sealed": sealed.hex()})


def open_key_file(stored: bytes, key: RecipientKey) -> KeyFile:
    """The key file in such an object. Raises ``WrongKey`` for another recipient's, ``Damaged`` for junk."""
    name = key_name(object_name(stored))
    found = parsed_object(RecipientKeyFile, plain_object(stored, name, KEY_OBJECT_BYTES_MAX), name)
    if bytes.fromhex(found.recipient) != key.public:
        raise WrongKey(
            f"{name} is for recipient {signer_id(bytes.fromhex(found.recipient))}, and this is the key of another",
            file=name,
            next="use the private key of that recipient, or let the admin of the vault add this one",
        )
    try:
        content = _suite().decrypt(bytes.fromhex(found.sealed), key._private, info=found.purpose())
    except InvalidTag:
        raise damaged(name, "it does not open with its recipient's private key") from None
    key_file = KeyFile.from_bytes(content)
    if key_file.vault != found.vault:
        raise damaged(name, "it holds the key of another vault")
    return key_file


def told_of(stored: bytes) -> WrapTold | None:
    """What the key file in an object is sealed for; None for an object that is none, or is damaged."""
    with suppress(VaultError):
        name = key_name(object_name(stored))
        document = plain_object(stored, name, KEY_OBJECT_BYTES_MAX)
        match document.get("type"):
            case "key_file":
                return WrapTold(parsed_object(PassphraseKeyFile, document, name).salt)
            case "recipient_key_file":
                return for_recipient(bytes.fromhex(parsed_object(RecipientKeyFile, document, name).recipient))
    return None


def for_recipient(public: bytes) -> WrapTold:
    """What is said of a key file that is sealed for this public key."""
    return WrapTold(signer_id(public), public)


def _suite() -> Suite:
    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
