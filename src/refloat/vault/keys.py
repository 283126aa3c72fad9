"""Who may do what in one vault: the key objects that it holds, and the keyring that opens from a key file.

Four roles: the *writer* adds points, the *reader* opens contents, the *operator* signs journals, claims and
evidence, the *admin* vouches for the others.

Ed25519 (RFC 8032), X25519 (RFC 7748), HKDF-SHA256 (RFC 5869). The stored forms are in ``docs/FORMAT.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import Field

from refloat.contracts import Store
from refloat.digest import canonical_json, object_name
from refloat.errors import Damaged, Missing, RefloatError, VaultError, WrongKey
from refloat.vault.keyfile import (
    BULK,
    KEY_OBJECT_BYTES_MAX,
    Hex16,
    Hex32,
    KeyFile,
    KeyObject,
    Role,
    content_key_id,
    lacks,
    open_sealed,
    parsed_object,
    seal_bytes,
    signer_id,
)
from refloat.vault.layout import KEYS, damaged, key_name, parse_object, read_descriptor

__all__ = ["BULK", "ContentKey", "KeyFile", "Keyring", "Role", "Signature", "key_objects"]

KEY_OBJECTS_MAX = 4096  # more are not keys of people; a store that lists more is lying

_CERTIFIED = (Role.WRITER, Role.READER, Role.OPERATOR)


@dataclass(frozen=True)
class Signature:
    """Who signed (the first 32 hex digits of BLAKE3(public key)), and the 64 bytes of Ed25519."""

    signer: str
    value: bytes


@dataclass(frozen=True)
class ContentKey:
    """A key that contents are sealed with: 16 bytes of id, 32 of secret. The secret is never printed."""

    id: bytes
    secret: bytes
    affinity: str

    def __repr__(self) -> str:
        return f"ContentKey(id={self.id.hex()!r}, affinity={self.affinity!r})"


class _Certificate(KeyObject):
    """The admin's word that a public key holds a role."""

    type: Literal["certificate"] = "certificate"
    role: Literal["writer", "reader", "operator"]
    public: Hex32
    signature: str = Field("", pattern=r"^([0-9a-f]{128})?$")

    def message(self) -> bytes:
        return b"certificate:" + canonical_json(self.model_dump(mode="json", exclude={"signature"}))


class _WrappedContentKey(KeyObject):
    """A writer's content key, which only the reader named can open."""

    type: Literal["content_key"] = "content_key"
    id: Hex16
    affinity: str
    reader: Hex16
    ephemeral: Hex32
    sealed: str = Field("", pattern=r"^([0-9a-f]{2})*$")
    signer: Hex16
    signature: str = Field("", pattern=r"^([0-9a-f]{128})?$")

    def header(self) -> bytes:
        return canonical_json(self.model_dump(mode="json", exclude={"sealed", "signature"}))

    def message(self) -> bytes:
        return b"content_key:" + canonical_json(self.model_dump(mode="json", exclude={"signature"}))


def _signed_message(role: Role, message: bytes) -> bytes:
    return b"refloat-1:" + role.value.encode("ascii") + b":" + message


def _sign(seed: str, role: Role, message: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)).sign(_signed_message(role, message))


def _public_of(seed: str) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)).public_key().public_bytes_raw()


def _reader_public(seed: str) -> bytes:
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(seed)).public_key().public_bytes_raw()


def key_objects(key_file: KeyFile) -> list[bytes]:
    """What a new vault holds under ``keys/``, each under the BLAKE3 of its bytes.

    The admin's certificates for the writer, the reader and the operator, and the writer's content keys
    wrapped for the reader. Raises ``WrongKey`` unless the file holds all four roles.
    """
    if key_file.writer is None:
        raise lacks(Role.WRITER)
    if key_file.reader is None:
        raise lacks(Role.READER)
    if key_file.operator is None:
        raise lacks(Role.OPERATOR)
    reader = _reader_public(key_file.reader.opening)
    publics = (_public_of(key_file.writer.signing), reader, _public_of(key_file.operator.signing))
    certificates = [
        _certificate(key_file, role, public) for role, public in zip(_CERTIFIED, publics, strict=True)
    ]
    wrapped = [_wrap(key_file, affinity, reader) for affinity in sorted(key_file.writer.content)]
    return [*certificates, *wrapped]


def _certificate(key_file: KeyFile, role: Role, public: bytes) -> bytes:
    if key_file.admin is None:
        raise lacks(Role.ADMIN)
    unsigned = _Certificate.model_validate(
        {"vault": key_file.vault, "role": role.value, "public": public.hex()}
    )
    signature = _sign(key_file.admin.signing, Role.ADMIN, unsigned.message())
    return canonical_json({**unsigned.model_dump(mode="json"), "signature": signature.hex()})


def _wrap(key_file: KeyFile, affinity: str, reader: bytes) -> bytes:
    if key_file.writer is None:
        raise lacks(Role.WRITER)
    secret = bytes.fromhex(key_file.writer.content[affinity])
    ephemeral = X25519PrivateKey.generate()
    public = ephemeral.public_key().public_bytes_raw()
    empty = _WrappedContentKey(
        vault=key_file.vault,
        id=content_key_id(secret).hex(),
        affinity=affinity,
        reader=signer_id(reader),
        ephemeral=public.hex(),
        signer=signer_id(_public_of(key_file.writer.signing)),
    )
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(reader))
    key = _wrapping_key(shared, key_file.vault, public, reader)
    sealed = seal_bytes(key, secret, empty.header())
    unsigned = empty.model_copy(update={"sealed": sealed.hex()})
    signature = _sign(key_file.writer.signing, Role.WRITER, unsigned.message())
    return canonical_json({**unsigned.model_dump(mode="json"), "signature": signature.hex()})


def _wrapping_key(shared: bytes, vault: str, ephemeral: bytes, reader: bytes) -> bytes:
    """One key for one wrapping (HKDF binds it to both public keys and the vault)."""
    purpose = b"refloat-1:content-key:" + vault.encode("utf-8") + b":" + ephemeral + reader
    return HKDF(SHA256(), length=32, salt=None, info=purpose).derive(shared)


class Keyring:
    """What this process may do in one vault, opened from a key file and the vault's own key objects.

    ``rejected`` names the objects under ``keys/`` that were set aside, with the reason: one that is damaged,
    or that somebody without the right put there, must not keep the others from a recovery.
    """

    def __init__(self, key_file: KeyFile) -> None:
        self._file = key_file
        self._publics: dict[tuple[Role, str], bytes] = {}
        self._wrapped: list[_WrappedContentKey] = []
        self._opened: dict[bytes, bytes] = {}
        self.rejected: dict[str, str] = {}
        self.vault = key_file.vault
        self.catalogue_key = bytes.fromhex(key_file.catalogue_key)

    @classmethod
    def open(cls, key_file: KeyFile, store: Store) -> Keyring:
        """The keyring of ``key_file`` for the vault in ``store``.

        Raises ``WrongKey`` where the vault is another one or is vouched for by another admin, ``Missing``
        where there is no vault or it holds no keys, ``Damaged`` where not one of them is whole.
        """
        descriptor = read_descriptor(store)
        if descriptor.vault != key_file.vault:
            raise WrongKey(
                f"the key opens vault {key_file.vault}; {store.url} holds vault {descriptor.vault}",
                next="use the key file that was written when this vault was made",
            )
        keyring = cls(key_file)
        keyring._take(store)
        return keyring

    @property
    def chunk_name_key(self) -> bytes:
        """The key of chunk names, 32 bytes. Raises ``WrongKey`` for an operator's file, which has none."""
        if self._file.chunk_name_key is None:
            raise lacks(Role.READER)
        return bytes.fromhex(self._file.chunk_name_key)

    @property
    def writer(self) -> str:
        """The signer id of this holder as a writer; empty where it is none."""
        return self.signer(Role.WRITER) if self.can(Role.WRITER) else ""

    def can(self, role: Role) -> bool:
        """Whether this holder has the role."""
        return role in self._file.roles

    def sign(self, role: Role, message: bytes) -> Signature:
        """This holder's signature as ``role``, over the role and the message.

        Raises ``WrongKey`` when the holder lacks the role, or when the vault no longer vouches for it. The
        reader signs nothing.
        """
        seed = self._seed(role)
        signer = signer_id(_public_of(seed))
        if self._public(role, signer) is None:
            raise WrongKey(
                f"the vault does not vouch for this {role}" + self._set_aside(),
                next="ask the admin of the vault for a key file, or run `refloat vault repair`",
            )
        return Signature(signer, _sign(seed, role, message))

    def signer(self, role: Role) -> str:
        """The signer id of this holder in a role that signs. Raises ``WrongKey`` without the role."""
        return signer_id(_public_of(self._seed(role)))

    def unvouched(self) -> list[Role]:
        """The roles of this holder for which the vault keeps no certificate, so that they count for nothing."""
        own = [role for role in (Role.WRITER, Role.OPERATOR) if self.can(role)]
        return [role for role in own if self._public(role, self.signer(role)) is None]

    def _seed(self, role: Role) -> str:
        parts = {
            Role.WRITER: self._file.writer,
            Role.OPERATOR: self._file.operator,
            Role.ADMIN: self._file.admin,
        }
        part = parts.get(role)
        if part is None:
            raise lacks(role)
        return part.signing

    def verify(self, role: Role, message: bytes, signature: Signature) -> None:
        """Nothing where somebody the admin vouches for signed ``message`` as ``role``; else ``Damaged``."""
        public = self._public(role, signature.signer)
        if public is None:
            raise Damaged(
                f"{signature.signer} signed as {role}, but the vault does not vouch for it"
                + self._set_aside(),
                next="refloat vault repair",
            )
        if not _is_signed(public, role, message, signature.value):
            raise Damaged(f"the signature of {role} {signature.signer} is wrong", next="refloat vault repair")

    def content_key(self, affinity: str = BULK) -> ContentKey:
        """The writer's own key for an affinity. Raises ``WrongKey`` without the role or the key."""
        if self._file.writer is None:
            raise lacks(Role.WRITER)
        stored = self._file.writer.content.get(affinity)
        if stored is None:
            raise WrongKey(
                f"this key file has no content key for {affinity!r}",
                next="ask the admin of the vault for one",
            )
        secret = bytes.fromhex(stored)
        return ContentKey(content_key_id(secret), secret, affinity)

    def open_content_key(self, id: bytes) -> bytes:
        """The secret of a content key, opened with the reader's private key.

        Raises ``WrongKey`` without that role, ``Missing`` where no whole copy of the key is in the vault.
        """
        if self._file.reader is None:
            raise lacks(Role.READER)
        if id not in self._opened:
            self._opened[id] = self._open(id, self._file.reader.opening)
        return self._opened[id]

    def _open(self, id: bytes, seed: str) -> bytes:
        reader = signer_id(_reader_public(seed))
        for wrapped in self._wrapped:
            if wrapped.id == id.hex() and wrapped.reader == reader:
                secret = _unwrap(wrapped, seed)
                if secret is not None:
                    return secret
        raise Missing(
            f"the content key {id.hex()} is not in the vault for this reader" + self._set_aside(),
            file=KEYS,
            next="refloat vault repair",
        )

    def _public(self, role: Role, signer: str) -> bytes | None:
        if role is Role.ADMIN:
            admin = bytes.fromhex(self._file.admin_public)
            return admin if signer == signer_id(admin) else None
        return self._publics.get((role, signer))

    def _set_aside(self) -> str:
        return f" (set aside as unsound: {', '.join(sorted(self.rejected))})" if self.rejected else ""

    def _take(self, store: Store) -> None:
        """Certificates first: they say whose content keys count."""
        documents = self._documents(store)
        self._take_each("certificate", documents, self._take_certificate)
        if not self._publics:
            raise self._nobody(store, documents)
        self._take_each("content_key", documents, self._take_content_key)

    def _documents(self, store: Store) -> dict[str, Mapping[str, object]]:
        documents: dict[str, Mapping[str, object]] = {}
        for name in sorted(entry.name for entry in islice(store.list(KEYS), KEY_OBJECTS_MAX)):
            try:
                documents[name] = _read_key_object(store, name)
            except VaultError as error:
                self.rejected[name] = error.message
        return documents

    def _take_each(
        self,
        type: str,
        documents: Mapping[str, Mapping[str, object]],
        take: Callable[[str, Mapping[str, object]], None],
    ) -> None:
        for name, document in documents.items():
            try:
                if document.get("type") == type:
                    take(name, document)
            except VaultError as error:
                self.rejected[name] = error.message

    def _take_certificate(self, name: str, document: Mapping[str, object]) -> None:
        certificate = parsed_object(_Certificate, document, name)
        admin = bytes.fromhex(self._file.admin_public)
        signature = bytes.fromhex(certificate.signature)
        if certificate.vault != self.vault:
            raise damaged(name, "it belongs to another vault")
        if not _is_signed(admin, Role.ADMIN, certificate.message(), signature):
            raise WrongKey(f"{name} is not signed by the admin that the key file names", file=name)
        public = bytes.fromhex(certificate.public)
        self._publics[Role(certificate.role), signer_id(public)] = public

    def _take_content_key(self, name: str, document: Mapping[str, object]) -> None:
        wrapped = parsed_object(_WrappedContentKey, document, name)
        if wrapped.vault != self.vault:
            raise damaged(name, "it belongs to another vault")
        signature = Signature(wrapped.signer, bytes.fromhex(wrapped.signature))
        self.verify(Role.WRITER, wrapped.message(), signature)
        self._wrapped.append(wrapped)

    def _nobody(self, store: Store, documents: Mapping[str, object]) -> RefloatError:
        if documents:
            return WrongKey(
                f"no certificate in {store.url} is signed by the admin that the key file names",
                next="use the key file that was written when this vault was made",
            )
        if self.rejected:
            return Damaged(
                f"every key object in {store.url} is damaged", file=KEYS, next="refloat vault repair"
            )
        return Missing(f"there are no keys in {store.url}", file=KEYS, next="refloat vault repair")


def _read_key_object(store: Store, name: str) -> Mapping[str, object]:
    stored = store.get(name, 0, KEY_OBJECT_BYTES_MAX + 1)
    if key_name(object_name(stored)) != name:
        raise damaged(name, "its bytes are not the ones it is named after")
    return parse_object(stored, name, KEY_OBJECT_BYTES_MAX)


def _is_signed(public: bytes, role: Role, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _signed_message(role, message))
    except InvalidSignature:
        return False
    return True


def _unwrap(wrapped: _WrappedContentKey, seed: str) -> bytes | None:
    """The secret, or None where this is not the key that its id names."""
    private = X25519PrivateKey.from_private_bytes(bytes.fromhex(seed))
    ephemeral = bytes.fromhex(wrapped.ephemeral)
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        key = _wrapping_key(shared, wrapped.vault, ephemeral, private.public_key().public_bytes_raw())
        secret = open_sealed(key, bytes.fromhex(wrapped.sealed), wrapped.header())
    except (InvalidTag, ValueError):  # ValueError: an ephemeral key of low order
        return None
    return secret if content_key_id(secret).hex() == wrapped.id else None
