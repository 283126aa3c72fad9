"""How an object is sealed and signed: one envelope for pack directories, index objects and points.

    offset  size  field
    0       4     "RFLT"
    4       4     what it is: PACK, INDX or PONT
    8       2     format version: 1, and 2 for an index object that counts in the place of another
    10      6     zero

A sealed part is a 12-byte nonce and the AES-256-GCM ciphertext with its 16-byte tag (NIST SP 800-38D). Its
key is derived from the catalogue key for one kind of object; what is authenticated along with it always
begins with the header and the vault id, so no object can pass for another or for another vault's.
"""

from __future__ import annotations

import struct
from enum import Enum

from blake3 import blake3
from cryptography.exceptions import InvalidTag

from refloat.digest import object_name
from refloat.limits import OBJECT_BYTES_MAX
from refloat.vault.keyfile import NONCE_BYTES, open_sealed, seal_bytes
from refloat.vault.keys import Keyring, Role, Signature
from refloat.vault.layout import FORMAT, damaged, require_format

MAGIC = b"RFLT"
_HEADER = struct.Struct(">4s4sH6s")
HEADER_BYTES = _HEADER.size
_SIGNER_BYTES = 32
_SIGNATURE_BYTES = 64


class Kind(Enum):
    """What a binary object is: how it is called, and its format version."""

    PACK = b"PACK", FORMAT
    INDEX = b"INDX", FORMAT
    POINT = b"PONT", FORMAT
    REDUCED_INDEX = b"INDX", 2

    @property
    def tag(self) -> bytes:
        """The four letters that it is called by."""
        return self.value[0]

    @property
    def header(self) -> bytes:
        """The first 16 bytes of such an object."""
        tag, version = self.value
        return _HEADER.pack(MAGIC, tag, version, bytes(6))

    @property
    def signed_as(self) -> Role:
        """Who signs such an object, if it is signed."""
        return Role.ADMIN if self is Kind.REDUCED_INDEX else Role.WRITER


def check_header(kind: Kind, header: bytes, *, what: str) -> None:
    """Refuse what does not begin as ``kind`` does. Raises ``Damaged``, ``VaultError`` for a newer format."""
    if len(header) < HEADER_BYTES:
        raise damaged(what, "it is too short")
    magic, found, version, _ = _HEADER.unpack_from(header)
    if magic != MAGIC or found != kind.tag:
        raise damaged(what, f"it is not a {kind.name.lower()} object")
    if header[:HEADER_BYTES] != kind.header:
        require_format(version, what)
        raise damaged(what, "it has an unknown header")


def newer_version(stored: bytes) -> int | None:
    """The format of a binary object that only a newer refloat writes; None for anything else."""
    if len(stored) < HEADER_BYTES or not stored.startswith(MAGIC):
        return None
    _, tag, version, _ = _HEADER.unpack_from(stored)
    newest = max((kind.value[1] for kind in Kind if kind.tag == tag), default=0)
    return int(version) if version > newest else None


def _key(keyring: Keyring, kind: Kind) -> bytes:
    return blake3(b"refloat-1 seal:" + kind.tag, key=keyring.catalogue_key).digest()


def seal(
    keyring: Keyring, kind: Kind, content: bytes, *, header: bytes = b"", nonce: bytes | None = None
) -> bytes:
    """``content`` sealed with the catalogue key, bound to its kind, its header and the vault."""
    bound = (header or kind.header) + keyring.vault.encode()
    return seal_bytes(_key(keyring, kind), content, bound, nonce)


def unseal(keyring: Keyring, kind: Kind, sealed: bytes, *, what: str, header: bytes = b"") -> bytes:
    """What was sealed. Raises ``Damaged``."""
    bound = (header or kind.header) + keyring.vault.encode()
    try:
        return open_sealed(_key(keyring, kind), sealed, bound)
    except InvalidTag:
        raise damaged(what, "it does not match its seal") from None


def _message(keyring: Keyring, kind: Kind, content: bytes) -> bytes:
    return kind.header + keyring.vault.encode() + content


def seal_signed(keyring: Keyring, kind: Kind, content: bytes) -> bytes:
    """A whole object: header, then sealed together the signer, its signature and ``content``.

    What the admin signs has the same bytes each time, and so one name in every region: its nonce is a keyed hash of
    what is sealed. Raises ``WrongKey`` without the role that signs it.
    """
    signature = keyring.sign(kind.signed_as, _message(keyring, kind, content))
    inner = signature.signer.encode("ascii") + signature.value + content
    nonce = _nonce_of(keyring, inner) if kind.signed_as is Role.ADMIN else None
    return kind.header + seal(keyring, kind, inner, nonce=nonce)


def _nonce_of(keyring: Keyring, plain: bytes) -> bytes:
    key = blake3(keyring.catalogue_key, derive_key_context="refloat format 1 nonce of its content").digest()
    return blake3(plain, key=key).digest(NONCE_BYTES)


def open_signed(keyring: Keyring, kind: Kind, name: str, stored: bytes, *, what: str) -> tuple[str, bytes]:
    """Who signed an object and its content, after its name, seal and signature were checked.

    ``name`` is the BLAKE3 of ``stored``. Raises ``Damaged``, ``VaultError`` for a newer format.
    """
    if len(stored) > OBJECT_BYTES_MAX:
        raise damaged(what, "it is larger than anything refloat writes")
    if object_name(stored) != name:
        raise damaged(what, "it does not match its name")
    check_header(kind, stored, what=what)
    inner = unseal(keyring, kind, stored[HEADER_BYTES:], what=what)
    if len(inner) < _SIGNER_BYTES + _SIGNATURE_BYTES:
        raise damaged(what, "it is too short")
    signer = inner[:_SIGNER_BYTES].decode("ascii", "replace")
    value = inner[_SIGNER_BYTES : _SIGNER_BYTES + _SIGNATURE_BYTES]
    content = inner[_SIGNER_BYTES + _SIGNATURE_BYTES :]
    keyring.verify(kind.signed_as, _message(keyring, kind, content), Signature(signer, value))
    return signer, content
