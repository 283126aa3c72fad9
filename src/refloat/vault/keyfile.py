"""The key file: what a person holds, and where trust starts.

It carries the secrets of some roles, the vault's id and the admin's public key, so a store can neither swap
the vault nor vouch for a key of its own.

AES-256-GCM (NIST SP 800-38D), scrypt (RFC 7914). The stored forms are in ``docs/FORMAT.md``.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refloat.digest import canonical_json, object_name
from refloat.durable import create_file, written_beside
from refloat.errors import Refused, UsageError, VaultError, WrongKey
from refloat.limits import KIB
from refloat.vault.layout import FORMAT, damaged, key_name, newer_format, plain_object

KEY_OBJECT_BYTES_MAX = 16 * KIB  # a few hundred bytes each; a wrapped key file is about four thousand
BULK = "bulk"  # the affinity of everything that has no class of its own

NONCE_BYTES = 12
TAG_BYTES = 16
SEAL_BYTES = NONCE_BYTES + TAG_BYTES  # what a seal adds to what it seals
_SCRYPT: Final = "scrypt n=32768 r=8 p=1"  # 32 MiB and about 0.1 s a guess
_MARK: Final = "refloat key file"
RECIPIENT_MARK: Final = "refloat recipient key"
_PRIVATE: Final = 0o600


class Role(StrEnum):
    """What a holder may do."""

    WRITER = "writer"
    READER = "reader"
    OPERATOR = "operator"
    ADMIN = "admin"


def content_key_id(secret: bytes) -> bytes:
    """The id of a content key, 16 bytes: derived from the secret, so that no other key can pass for it."""
    return blake3(secret, derive_key_context="refloat format 1 content key id").digest(16)


def signer_id(public: bytes) -> str:
    """How a public key is called: the first 32 hex digits of its BLAKE3."""
    return object_name(public)[:32]


# ----------------------------------------------------------------------------------------------- sealing


def seal_bytes(key: bytes, plain: bytes, associated: bytes, nonce: bytes | None = None) -> bytes:
    """AES-256-GCM: nonce (12 bytes), ciphertext, tag (16 bytes). The nonce is random unless one is given.

    A nonce must never be given for two plain texts.
    """
    sealed = bytearray(len(plain) + SEAL_BYTES)
    seal_into(memoryview(sealed), key, plain, associated, nonce)
    return bytes(sealed)


def seal_into(
    room: memoryview,
    key: bytes,
    plain: bytes | memoryview,
    associated: bytes,
    nonce: bytes | None = None,
) -> None:
    """The same, written into ``room``, which is ``SEAL_BYTES`` longer than ``plain``."""
    nonce = nonce or secrets.token_bytes(NONCE_BYTES)
    room[:NONCE_BYTES] = nonce
    AESGCM(key).encrypt_into(nonce, plain, associated, room[NONCE_BYTES:])


def open_sealed(key: bytes, sealed: bytes | memoryview, associated: bytes) -> bytes:
    """What ``seal_bytes`` sealed. Raises cryptography's ``InvalidTag`` for anything else."""
    if len(sealed) < SEAL_BYTES:
        raise InvalidTag
    return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated)


def passphrase_key(passphrase: str, salt: bytes) -> bytes:
    """The 32 bytes that a passphrase and a salt stand for (scrypt, slow on purpose).

    Of a passphrase that is not UTF-8, as another encoding's keyboard may give it, the bytes count as they came.
    """
    typed = passphrase.encode("utf-8", "surrogateescape")
    return Scrypt(salt=salt, length=32, n=2**15, r=8, p=1).derive(typed)


Hex16 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class KeyObject(BaseModel):
    """What every object under ``keys/`` says: its format and the vault that it belongs to."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    vault: str


_Model = TypeVar("_Model", bound=KeyObject)
_Parsed = TypeVar("_Parsed")


class PassphraseKeyFile(KeyObject):
    """A whole key file that a passphrase opens."""

    type: Literal["key_file"] = "key_file"
    kdf: Literal["scrypt n=32768 r=8 p=1"] = _SCRYPT
    salt: Hex16
    sealed: str = Field(pattern=r"^([0-9a-f]{2})+$")


def parsed_object(model: type[_Model], document: Mapping[str, object], name: str) -> _Model:
    """The key object in a document. Raises ``Damaged``."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise damaged(name, f"{error.error_count()} of its fields are wrong") from error


class SecretPart(BaseModel):
    """A part of a key file. Neither its repr nor a validation error shows what is in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        return []


class _WriterSecrets(SecretPart):
    signing: Hex32
    content: dict[str, Hex32]  # affinity to secret


class _ReaderSecrets(SecretPart):
    opening: Hex32


class _SigningSecrets(SecretPart):
    signing: Hex32


Heads = Mapping[str, tuple[int, str]]
"""By region, the slot and the hash of the last entry of its log of points."""


def newer_heads(heads: Heads, seen: Mapping[str, int]) -> Heads:
    """Those behind the slot that was ``seen`` of their region, and those of regions of which none was."""
    return {region: head for region, head in heads.items() if head[0] > seen.get(region, -1)}


class _Head(SecretPart):
    slot: int = Field(ge=0)
    hash: Hex32


class KeyFile(SecretPart):
    """What a person holds: the secrets of some roles, and what is trusted before any store is asked.

    ``heads`` are the last log heads seen, by region: a log that is shorter than that was rolled back.
    """

    kind: Literal["refloat key file"] = _MARK
    format: Literal[1] = 1
    vault: str = Field(min_length=1, max_length=128)
    pipeline: str = Field(max_length=128)
    admin_public: Hex32
    catalogue_key: Hex32
    chunk_name_key: Hex32 | None = None
    writer: _WriterSecrets | None = None
    reader: _ReaderSecrets | None = None
    operator: _SigningSecrets | None = None
    admin: _SigningSecrets | None = None
    heads: dict[str, _Head] = Field(default_factory=dict)

    @classmethod
    def create(cls, vault: str, pipeline: str) -> KeyFile:
        """New secrets for one holder of all four roles."""
        admin = Ed25519PrivateKey.generate()
        return cls(
            vault=vault,
            pipeline=pipeline,
            admin_public=admin.public_key().public_bytes_raw().hex(),
            catalogue_key=secrets.token_hex(32),
            chunk_name_key=secrets.token_hex(32),
            writer=_WriterSecrets(signing=secrets.token_hex(32), content={BULK: secrets.token_hex(32)}),
            reader=_ReaderSecrets(opening=secrets.token_hex(32)),
            operator=_SigningSecrets(signing=secrets.token_hex(32)),
            admin=_SigningSecrets(signing=admin.private_bytes_raw().hex()),
        )

    def for_another(self, *roles: Role) -> KeyFile:
        """A key file for somebody else of this vault: new secrets for ``roles``, of which none is the admin's.

        Everybody has the catalogue key; the chunk-name key does not go to an operator.
        """
        names_chunks = bool(set(roles) - {Role.OPERATOR})
        writer = _WriterSecrets(signing=secrets.token_hex(32), content={BULK: secrets.token_hex(32)})
        return self.model_copy(
            update={
                "chunk_name_key": self.chunk_name_key if names_chunks else None,
                "writer": writer if Role.WRITER in roles else None,
                "reader": _ReaderSecrets(opening=secrets.token_hex(32)) if Role.READER in roles else None,
                "operator": _SigningSecrets(signing=secrets.token_hex(32))
                if Role.OPERATOR in roles
                else None,
                "admin": None,
            }
        )

    def with_new_content_key(self, affinity: str = BULK) -> KeyFile:
        """The same file with another key to seal contents of an affinity with. Raises ``WrongKey`` for no writer."""
        if self.writer is None:
            raise lacks(Role.WRITER)
        content = {**self.writer.content, affinity: secrets.token_hex(32)}
        return self.model_copy(update={"writer": self.writer.model_copy(update={"content": content})})

    @classmethod
    def load(cls, path: Path | str) -> KeyFile:
        """The key file at ``path``.

        Raises ``UsageError`` if unreadable, ``WrongKey`` if it is none, ``VaultError`` if it is of a newer format.
        """
        return read_key(path, cls.from_bytes)

    @classmethod
    def from_bytes(cls, content: bytes) -> KeyFile:
        """A key file from its bytes. Raises ``WrongKey``, ``VaultError`` for one of a newer format."""
        try:
            return cls.model_validate_json(content[: KEY_OBJECT_BYTES_MAX + 1])
        except ValidationError:
            _require_known_format(content)
            raise WrongKey(
                "this is not a refloat key file, or it is not whole", next="use the file as it was written"
            ) from None  # the cause could quote what is secret

    def to_bytes(self) -> bytes:
        """The file as JSON, indented so that a person sees what it is."""
        document = self.model_dump(mode="json", exclude_none=True)
        return (json.dumps(document, indent=2) + "\n").encode("ascii")

    def save(self, path: Path | str) -> None:
        """Write the file durably and whole or not at all, with mode 0600.

        Raises ``Refused`` (``key_exists``) over an existing one, ``UsageError`` where it cannot be written.
        """
        write_secret(path, self.to_bytes(), what="the key file")

    @classmethod
    def pin(cls, path: Path | str, heads: Heads) -> None:
        """Keep newer heads in the key file at ``path``, which stays whole whatever happens meanwhile.

        A head that is older than the one kept is left out. Raises ``OSError`` where the file cannot be replaced,
        as on a read-only medium: the pin then stays as it was.
        """
        place = Path(path).resolve()
        kept = cls.load(place)
        newer = newer_heads(heads, {region: head.slot for region, head in kept.heads.items()})
        if newer:
            kept.with_heads(newer).put_back(place)

    def put_back(self, path: Path | str) -> None:
        """Write over the file that this one was, which stays whole whatever happens meanwhile. Raises ``OSError``."""
        place = Path(path).resolve()
        with written_beside(place, self.to_bytes(), _PRIVATE) as whole:
            before = place.stat()
            os.chown(whole, before.st_uid, before.st_gid)
            whole.chmod(stat.S_IMODE(before.st_mode))
            whole.replace(place)

    @property
    def roles(self) -> frozenset[Role]:
        """The roles whose secrets are in this file."""
        return frozenset(role for role in Role if getattr(self, role.value) is not None)

    def for_roles(self, *roles: Role) -> KeyFile:
        """The same file reduced to ``roles``. Raises ``WrongKey`` for one that is not in it.

        Only the catalogue key goes to everybody; the chunk-name key, by which contents can be recognised,
        does not go to an operator.
        """
        for role in roles:
            if role not in self.roles:
                raise lacks(role)
        dropped = {role.value: None for role in Role if role not in roles}
        names_chunks = bool(set(roles) - {Role.OPERATOR})
        return self.model_copy(
            update={**dropped, "chunk_name_key": self.chunk_name_key if names_chunks else None}
        )

    def with_heads(self, heads: Mapping[str, tuple[int, str]]) -> KeyFile:
        """The same file with newer heads pinned: region to (slot, hash)."""
        pinned = {region: _Head(slot=slot, hash=digest) for region, (slot, digest) in heads.items()}
        return self.model_copy(update={"heads": {**self.heads, **pinned}})

    def wrapped(self, passphrase: str, salt: str | None = None) -> bytes:
        """The whole file sealed for a passphrase: an object that may stand under ``keys/``.

        What is sealed anew for the same passphrase keeps its ``salt``, 32 hex digits, by which it is known.
        """
        header = {
            "format": 1,
            "type": "key_file",
            "vault": self.vault,
            "kdf": _SCRYPT,
            "salt": salt or secrets.token_hex(16),
        }
        key = passphrase_key(passphrase, bytes.fromhex(str(header["salt"])))
        sealed = seal_bytes(key, self.to_bytes(), canonical_json(header))
        return canonical_json({**header, "sealed": sealed.hex()})

    @classmethod
    def unwrap(cls, stored: bytes, passphrase: str) -> KeyFile:
        """The file in a wrapped object. Raises ``WrongKey`` for a wrong passphrase, ``Damaged`` for junk."""
        name = key_name(object_name(stored))
        wrapped = parsed_object(PassphraseKeyFile, plain_object(stored, name, KEY_OBJECT_BYTES_MAX), name)
        header = wrapped.model_dump(mode="json", exclude={"sealed"})
        key = passphrase_key(passphrase, bytes.fromhex(wrapped.salt))
        try:
            content = open_sealed(key, bytes.fromhex(wrapped.sealed), canonical_json(header))
        except InvalidTag:
            raise WrongKey("the passphrase does not open this key", next="try another passphrase") from None
        key_file = cls.from_bytes(content)
        if key_file.vault != wrapped.vault:
            raise damaged(name, "it holds the key of another vault")
        return key_file


def read_key(path: Path | str, parse: Callable[[bytes], _Parsed]) -> _Parsed:
    """What ``parse`` makes of the first bytes of a file; errors name the file. Raises ``UsageError`` if unreadable."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(KEY_OBJECT_BYTES_MAX + 1)
    except OSError as error:
        closed = isinstance(error, PermissionError)
        raise UsageError(
            f"cannot read the key file {path}: {error.strerror}",
            file=str(path),
            next="run it as the user who may read that file"
            if closed
            else "give the path of the key file that `refloat vault init` wrote",
        ) from error
    try:
        return parse(content)
    except VaultError as error:
        error.file = str(path)
        raise


def write_secret(path: Path | str, content: bytes, *, what: str) -> None:
    """Write a file that holds a key, durably and whole or not at all, with mode 0600.

    Raises ``Refused`` (``key_exists``) over an existing one, ``UsageError`` where it cannot be written.
    """
    place = Path(path).absolute()
    try:
        create_file(place, content, _PRIVATE)
    except FileExistsError as error:
        raise Refused(
            "key_exists", f"{path} exists already", next="choose another path; a key is never overwritten"
        ) from error
    except OSError as error:
        raise unwritable(path, error, what) from error


def _require_known_format(content: bytes) -> None:
    """Raise ``VaultError`` for a key file of a newer refloat, of which nothing else can be said."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return
    if isinstance(document, dict) and document.get("kind") in (_MARK, RECIPIENT_MARK):
        number = document.get("format")
        if type(number) is int and number > FORMAT:
            raise newer_format("the key file", number)


def unwritable(path: Path | str, error: OSError, what: str) -> UsageError:
    """The error for a file that holds a key and cannot be written where it was to go."""
    return UsageError(
        f"cannot write {what} {path}: {error.strerror}",
        file=str(path),
        next="choose a path on this machine that you may write to",
    )


def lacks(role: Role) -> WrongKey:
    """The error for a key file without ``role``."""
    return WrongKey(
        f"this key file does not hold the {role} role", next=f"use a key file with the {role} role"
    )
