"""One chunk: named by a keyed hash of its bytes, packed by a codec, sealed for one content key.

A record is a 12-byte nonce and the AES-256-GCM ciphertext with its tag. Its key is keyed BLAKE3, under the
content key, of (chunk name, codec id, base name), and the same 65 bytes are authenticated with it. Nothing
in it says where it lies, so a record moves from pack to pack without being opened.
"""

from __future__ import annotations

from dataclasses import dataclass

from blake3 import blake3
from cryptography.exceptions import InvalidTag

from refloat.limits import CHUNK_BYTES_MAX
from refloat.vault import codecs
from refloat.vault.keyfile import SEAL_BYTES, open_sealed, seal_bytes
from refloat.vault.layout import damaged

NAME_BYTES = 32
NO_BASE = bytes(NAME_BYTES)
RECORD_BYTES_MAX = CHUNK_BYTES_MAX + SEAL_BYTES


@dataclass(frozen=True)
class SealedChunk:
    """A chunk as a pack takes it. ``raw_length`` is the size in bytes of what ``record`` unpacks to."""

    name: bytes
    codec: int
    base: bytes
    raw_length: int
    record: bytes


def chunk_name(name_key: bytes, raw: bytes) -> bytes:
    """The 32-byte name of a chunk: BLAKE3 of its raw bytes, keyed, so that a store cannot guess contents."""
    return blake3(raw, key=name_key).digest()


def _described(name: bytes, codec: int, base: bytes) -> bytes:
    return name + bytes([codec]) + base


def _record_key(secret: bytes, described: bytes) -> bytes:
    return blake3(described, key=secret).digest()


def seal_chunk(raw: bytes, name: bytes, secret: bytes) -> SealedChunk:
    """Pack and seal ``raw``, whose chunk name is ``name``, for the content key ``secret`` (32 bytes)."""
    codec, encoded = codecs.encode(raw)
    described = _described(name, codec.id, NO_BASE)
    record = seal_bytes(_record_key(secret, described), encoded, described)
    return SealedChunk(name, codec.id, NO_BASE, len(raw), record)


def open_chunk(sealed: SealedChunk, *, name_key: bytes, secret: bytes, what: str) -> bytes:
    """The raw bytes of a chunk, its seal, length and name checked.

    ``what`` names the object it lies in. Raises ``Damaged``, ``VaultError`` for an unknown codec.
    """
    codec = codecs.codec(sealed.codec)
    if sealed.base != NO_BASE:
        raise damaged(
            what, f"it holds chunk {sealed.name.hex()} with a base, which codec {codec.name} has not"
        )
    if sealed.raw_length > CHUNK_BYTES_MAX:
        raise damaged(what, f"it holds chunk {sealed.name.hex()} with an impossible length")
    described = _described(sealed.name, sealed.codec, sealed.base)
    try:
        encoded = open_sealed(_record_key(secret, described), sealed.record, described)
        raw = codec.decode(encoded, sealed.raw_length)
    except InvalidTag:
        raise damaged(what, f"it holds chunk {sealed.name.hex()} that does not match its seal") from None
    except ValueError as error:
        raise damaged(what, f"it holds chunk {sealed.name.hex()} that {error}") from error
    if chunk_name(name_key, raw) != sealed.name:
        raise damaged(what, f"it holds chunk {sealed.name.hex()} that does not match its name")
    return raw
