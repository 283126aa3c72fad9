"""The key file: what a person holds, and where trust starts.

It carries the secrets of some roles, the vault's id and the admin's public key, so a store can neither swap
the vault nor vouch for a key of its own.

AES-256-GCM (NIST SP 800-38D), scrypt (RFC 7914). The stored forms are in ``docs/FORMAT.md``.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
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
from refloat.durable import sync_folder
from refloat.errors import Refused, UsageError, WrongKey
from refloat.limits import KIB
from refloat.vault.layout import damaged, key_name, parse_object

KEY_OBJECT_BYTES_MAX = 64 * KIB  # a few hundred bytes each; a key file is about two thousand
BULK = "bulk"  # the affinity of everything that has no class of its own

NONCE_BYTES = 12
TAG_BYTES = 16
SEAL_BYTES = NONCE_BYTES + TAG_BYTES  # what a seal adds to what it seals
_SCRYPT: Final = "scrypt n=32768 r=8 p=1"  # 32 MiB and about 0.1 s a guess
_MARK: Final = "refloat key file"


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


def seal_bytes(key: bytes, plain: bytes, associated: bytes) -> bytes:
    """AES-256-GCM under a random nonce: nonce (12 bytes), ciphertext, tag (16 bytes)."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, associated)


def open_sealed(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    """What ``seal_bytes`` sealed. Raises cryptography's ``InvalidTag`` for anything else."""
    if len(sealed) < SEAL_BYTES:
        raise InvalidTag
    return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated)


def _passphrase_key(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=2**15, r=8, p=1).derive(passphrase.encode("utf-8"))


Hex16 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class KeyObject(BaseModel):
    """What every object under ``keys/`` says: its format and the vault that it belongs to."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    vault: str


_Model = TypeVar("_Model", bound=KeyObject)


class _WrappedKeyFile(KeyObject):
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


class _Secret(BaseModel):
    """A part of a key file. Neither its repr nor a validation error shows what is in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        return []


class _WriterSecrets(_Secret):
    signing: Hex32
    content: dict[str, Hex32]  # affinity to secret


class _ReaderSecrets(_Secret):
    opening: Hex32


class _SigningSecrets(_Secret):
    signing: Hex32


class _Head(_Secret):
    slot: int = Field(ge=0)
    hash: Hex32


class KeyFile(_Secret):
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

    @classmethod
    def load(cls, path: Path | str) -> KeyFile:
        """The key file at ``path``. Raises ``UsageError`` if unreadable, ``WrongKey`` if it is none."""
        try:
            with Path(path).open("rb") as file:
                content = file.read(KEY_OBJECT_BYTES_MAX + 1)
        except OSError as error:
            raise UsageError(
                f"cannot read the key file {path}: {error.strerror}",
                file=str(path),
                next="give the path of the key file that `refloat vault init` wrote",
            ) from error
        try:
            return cls.from_bytes(content)
        except WrongKey as error:
            error.at(file=str(path))
            raise

    @classmethod
    def from_bytes(cls, content: bytes) -> KeyFile:
        """A key file from its bytes. Raises ``WrongKey``."""
        try:
            return cls.model_validate_json(content[: KEY_OBJECT_BYTES_MAX + 1])
        except ValidationError:
            raise WrongKey(
                "this is not a refloat key file, or it is not whole", next="use the file as it was written"
            ) from None  # the cause could quote what is secret

    def to_bytes(self) -> bytes:
        """The file as JSON, indented so that a person sees what it is."""
        document = self.model_dump(mode="json", exclude_none=True)
        return (json.dumps(document, indent=2) + "\n").encode("ascii")

    def save(self, path: Path | str) -> None:
        """Write the file durably with mode 0600. Raises ``Refused`` (``key_exists``) over an existing one."""
        place = Path(path).absolute()
        try:
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError as error:
            raise Refused(
                "key_exists", f"{path} exists already", next="choose another path; a key is never overwritten"
            ) from error
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            _write_secret(descriptor, self.to_bytes())
            sync_folder(place.parent)
        except OSError as error:
            with suppress(OSError):
                place.unlink()
            raise _unwritable(path, error) from error

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

    def wrapped(self, passphrase: str) -> bytes:
        """The whole file sealed for a passphrase: an object that may stand under ``keys/``."""
        header = {
            "format": 1,
            "type": "key_file",
            "vault": self.vault,
            "kdf": _SCRYPT,
            "salt": secrets.token_hex(16),
        }
        key = _passphrase_key(passphrase, bytes.fromhex(str(header["salt"])))
        sealed = seal_bytes(key, self.to_bytes(), canonical_json(header))
        return canonical_json({**header, "sealed": sealed.hex()})

    @classmethod
    def unwrap(cls, stored: bytes, passphrase: str) -> KeyFile:
        """The file in a wrapped object. Raises ``WrongKey`` for a wrong passphrase, ``Damaged`` for junk."""
        name = key_name(object_name(stored))
        wrapped = parsed_object(_WrappedKeyFile, parse_object(stored, name, KEY_OBJECT_BYTES_MAX), name)
        header = wrapped.model_dump(mode="json", exclude={"sealed"})
        key = _passphrase_key(passphrase, bytes.fromhex(wrapped.salt))
        try:
            content = open_sealed(key, bytes.fromhex(wrapped.sealed), canonical_json(header))
        except InvalidTag:
            raise WrongKey("the passphrase does not open this key", next="try another passphrase") from None
        key_file = cls.from_bytes(content)
        if key_file.vault != wrapped.vault:
            raise damaged(name, "it holds the key of another vault")
        return key_file


def _write_secret(descriptor: int, content: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)  # whatever the umask was
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _unwritable(path: Path | str, error: OSError) -> UsageError:
    return UsageError(
        f"cannot write the key file {path}: {error.strerror}",
        file=str(path),
        next="choose a path on this machine that you may write to",
    )


def lacks(role: Role) -> WrongKey:
    """The error for a key file without ``role``."""
    return WrongKey(
        f"this key file does not hold the {role} role", next=f"use a key file with the {role} role"
    )
