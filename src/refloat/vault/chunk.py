"""One chunk: named by a keyed hash of its bytes, packed by a codec, sealed for one content key.

A record is a 12-byte nonce and the AES-256-GCM ciphertext with its tag. Its key is keyed BLAKE3, under the
content key, of (chunk name, codec id, base name), and the same 65 bytes are authenticated with it. Nothing
in it says where it lies, so a record moves from pack to pack without being opened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from blake3 import blake3
from cryptography.exceptions import InvalidTag

from refloat.limits import CHUNK_BYTES_MAX
from refloat.vault import codecs
from refloat.vault.keyfile import SEAL_BYTES, open_sealed, seal_into
from refloat.vault.layout import damaged

NAME_BYTES = 32
NO_BASE = bytes(NAME_BYTES)
BASES_MAX = 8  # chunks that must be opened one after the other for one; we write 1
RECORD_BYTES_MAX = CHUNK_BYTES_MAX + SEAL_BYTES


@dataclass(frozen=True)
class SealedChunk:
    """A chunk as a pack takes it. ``raw_length`` is the size in bytes of what ``record`` unpacks to."""

    name: bytes
    codec: int
    base: bytes
    raw_length: int
    record: bytes | memoryview


@dataclass(frozen=True)
class Base:
    """A chunk that another may be stored as the difference from: its name and its raw bytes."""

    name: bytes
    raw: bytes


Room = Callable[[int], memoryview]
"""Gives memory of a length for a record to be written into."""


def _of_its_own(length: int) -> memoryview:
    return memoryview(bytearray(length))


def chunk_name(name_key: bytes, raw: bytes) -> bytes:
    """The 32-byte name of a chunk: BLAKE3 of its raw bytes, keyed, so that a store cannot guess contents."""
    return blake3(raw, key=name_key).digest()


def _described(name: bytes, codec: int, base: bytes) -> bytes:
    return name + bytes([codec]) + base


def _record_key(secret: bytes, described: bytes) -> bytes:
    return blake3(described, key=secret).digest()


def seal_chunk(
    raw: bytes,
    name: bytes,
    secret: bytes,
    *,
    width: int = 1,
    base: Base | None = None,
    room: Room = _of_its_own,
) -> SealedChunk:
    """Pack and seal ``raw``, whose chunk name is ``name``, for the content key ``secret`` (32 bytes).

    ``width`` is how many bytes an element has, see ``codecs.encode``. ``base`` is used where that pays. The record
    is written where ``room`` says.
    """
    codec, encoded = codecs.encode(raw, width, None if base is None else base.raw)
    rests_on = base.name if base is not None and codec.based else NO_BASE
    described = _described(name, codec.id, rests_on)
    record = room(len(encoded) + SEAL_BYTES)
    seal_into(record, _record_key(secret, described), encoded, described)
    return SealedChunk(name, codec.id, rests_on, len(raw), record)


def open_chunk(
    sealed: SealedChunk, *, name_key: bytes, secret: bytes, what: str, read: Callable[[bytes], bytes]
) -> bytes:
    """The raw bytes of a chunk, its seal, length and name checked.

    ``what`` names the object it lies in; ``read`` gives the raw bytes of the chunk that it rests on. Raises
    ``Damaged``, ``VaultError`` for an unknown codec, and what ``read`` raises.
    """
    codec = codecs.codec(sealed.codec)
    if codec.based != (sealed.base != NO_BASE):
        found = (
            "without a base, which codec {} must have"
            if codec.based
            else "with a base, which codec {} has not"
        )
        raise damaged(what, f"it holds chunk {sealed.name.hex()} {found.format(codec.name)}")
    if sealed.raw_length > CHUNK_BYTES_MAX:
        raise damaged(what, f"it holds chunk {sealed.name.hex()} with an impossible length")
    described = _described(sealed.name, sealed.codec, sealed.base)
    try:
        encoded = open_sealed(_record_key(secret, described), sealed.record, described)
        bases = [read(sealed.base)] if codec.based else []
        raw = codec.decode(encoded, sealed.raw_length, *bases)
    except InvalidTag:
        raise damaged(what, f"it holds chunk {sealed.name.hex()} that does not match its seal") from None
    except ValueError as error:
        raise damaged(what, f"it holds chunk {sealed.name.hex()} that {error}") from error
    if chunk_name(name_key, raw) != sealed.name:
        raise damaged(what, f"it holds chunk {sealed.name.hex()} that does not match its name")
    return raw
