"""The objects under ``keys/``: who vouches for whom, and content keys wrapped for their readers.

They are made from a key file here, and read without believing any of it; ``keys.Keyring`` decides what counts.
The stored forms are in ``docs/FORMAT.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import BaseModel, ConfigDict, Field

from refloat.contracts import Store
from refloat.digest import canonical_json, object_name
from refloat.errors import VaultError
from refloat.limits import LOCK_SECONDS_MAX, SLOT_DIGITS
from refloat.units import format_time
from refloat.vault.keyfile import (
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
from refloat.vault.layout import Descriptor, damaged, key_name, plain_object

CERTIFIED = (Role.WRITER, Role.READER, Role.OPERATOR)
"""The roles that the admin vouches for."""

NAME_LENGTH_MAX = 128  # characters of what a holder is called
HEADS_IN_ONE_MAX = 64  # of logs with names of up to 100 characters: 12 KiB of the 16 that an object may have


class Certificate(KeyObject):
    """The admin's word that a public key holds a role."""

    type: Literal["certificate"] = "certificate"
    role: Literal["writer", "reader", "operator"]
    public: Hex32
    signature: str = Field("", pattern=r"^([0-9a-f]{128})?$")

    def message(self) -> bytes:
        """What is signed of it."""
        return b"certificate:" + canonical_json(self.model_dump(mode="json", exclude={"signature"}))


class HolderName(KeyObject):
    """The admin's word for who holds a key, and since when. Nothing is decided by it."""

    type: Literal["holder"] = "holder"
    role: Literal["writer", "reader", "operator"]
    holder: Hex16
    name: str = Field(max_length=NAME_LENGTH_MAX)
    since: str
    signature: str = Field("", pattern=r"^([0-9a-f]{128})?$")

    def message(self) -> bytes:
        """What is signed of it."""
        return b"holder:" + canonical_json(self.model_dump(mode="json", exclude={"signature"}))


class SeenHead(BaseModel):
    """The last entry of a region's log of points as the admin saw it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    slot: int = Field(ge=0, lt=10**SLOT_DIGITS)
    hash: Hex32


class Removal(KeyObject):
    """The admin's word that a key counts no more: a writer's, in a region's log, but for what ``heads`` lead to."""

    type: Literal["removal"] = "removal"
    role: Literal["writer", "reader"]
    holder: Hex16
    at: str
    heads: dict[str, SeenHead]
    signature: str = Field("", pattern=r"^([0-9a-f]{128})?$")

    def message(self) -> bytes:
        """What the admin signs."""
        return b"removal:" + canonical_json(self.model_dump(mode="json", exclude={"signature"}))


class LockTerm(KeyObject):
    """The admin's word for how long what a point needs is locked from then on."""

    type: Literal["lock"] = "lock"
    seconds: int = Field(ge=1, le=LOCK_SECONDS_MAX)
    signature: str = Field("", pattern=r"^([0-9a-f]{128})?$")

    def message(self) -> bytes:
        """What the admin signs."""
        return b"lock:" + canonical_json(self.model_dump(mode="json", exclude={"signature"}))


class OperatorRemoval(KeyObject):
    """The admin's word that an operator's key counts no more, but for what is in logs up to these heads.

    An operator's entries are in many logs, so one word may take several objects; it counts when all are there.
    """

    type: Literal["operator_removal"] = "operator_removal"
    holder: Hex16
    at: str
    part: int = Field(ge=1)
    parts: int = Field(ge=1)
    logs: dict[str, dict[str, SeenHead]]
    signature: str = Field("", pattern=r"^([0-9a-f]{128})?$")

    def message(self) -> bytes:
        """What the admin signs."""
        return b"operator_removal:" + canonical_json(self.model_dump(mode="json", exclude={"signature"}))


@dataclass(frozen=True)
class WrapTold:
    """What a key file is sealed for: a passphrase, known by its salt, or a recipient, known by the public key.

    ``id`` has 32 hex digits, and is the same when the key file is sealed anew.
    """

    id: str
    recipient: bytes | None = None

    @property
    def kind(self) -> Literal["passphrase", "recipient"]:
        """Which of both it is."""
        return "passphrase" if self.recipient is None else "recipient"

    def fields(self) -> dict[str, str]:
        """As a note says it."""
        return {
            "wrap": self.id,
            "kind": self.kind,
            "recipient": "" if self.recipient is None else self.recipient.hex(),
        }


class WrapNote(KeyObject):
    """The admin's word for whose key file the vault keeps sealed, for whom and since when; or that it does no more."""

    type: Literal["wrap"] = "wrap"
    wrap: Hex16
    kind: Literal["passphrase", "recipient"]
    recipient: str = Field(pattern=r"^([0-9a-f]{64})?$")
    holders: list[Hex16]
    name: str = Field(max_length=NAME_LENGTH_MAX)
    since: str
    removed_at: str
    signature: str = Field("", pattern=r"^([0-9a-f]{128})?$")

    def message(self) -> bytes:
        """What the admin signs."""
        return b"wrap:" + canonical_json(self.model_dump(mode="json", exclude={"signature"}))


class WrappedContentKey(KeyObject):
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
        """What is authenticated along with the secret."""
        return canonical_json(self.model_dump(mode="json", exclude={"sealed", "signature"}))

    def message(self) -> bytes:
        """What is signed of it."""
        return b"content_key:" + canonical_json(self.model_dump(mode="json", exclude={"signature"}))


class DescriptorNote(KeyObject):
    """The word of somebody who may sign for what one region's ``vault.json`` says."""

    type: Literal["descriptor"] = "descriptor"
    descriptor: Descriptor
    role: Literal["writer", "operator", "admin"]
    signer: Hex16
    signature: str = Field("", pattern=r"^([0-9a-f]{128})?$")

    def message(self) -> bytes:
        """What is signed of it."""
        return b"descriptor:" + canonical_json(self.model_dump(mode="json", exclude={"signature"}))

    def stored(self) -> bytes:
        """The bytes that stand under ``keys/``."""
        return canonical_json(self.model_dump(mode="json"))


OfHolders = HolderName | Removal | OperatorRemoval | WrapNote | LockTerm
"""What the admin says of keys that are certified, and of the vault."""

OfAdmin = Certificate | OfHolders
"""What the admin signs under ``keys/``."""


def _signed_message(role: Role, message: bytes) -> bytes:
    return b"refloat-1:" + role.value.encode("ascii") + b":" + message


def signed_by(seed: str, role: Role, message: bytes) -> bytes:
    """The 64 bytes of Ed25519 over a role and a message."""
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)).sign(_signed_message(role, message))


def public_of(seed: str) -> bytes:
    """The public half of a signing key, given in hex."""
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)).public_key().public_bytes_raw()


def reader_public(seed: str) -> bytes:
    """The public half of a reader's key, given in hex."""
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(seed)).public_key().public_bytes_raw()


def publics_of(key_file: KeyFile) -> dict[Role, bytes]:
    """The public keys of a holder's roles, but for the admin's."""
    publics: dict[Role, bytes] = {}
    if key_file.writer is not None:
        publics[Role.WRITER] = public_of(key_file.writer.signing)
    if key_file.reader is not None:
        publics[Role.READER] = reader_public(key_file.reader.opening)
    if key_file.operator is not None:
        publics[Role.OPERATOR] = public_of(key_file.operator.signing)
    return publics


def key_objects(key_file: KeyFile, stored: Iterable[tuple[str, bytes]] = ()) -> list[bytes]:
    """What a new vault holds under ``keys/``, each under the BLAKE3 of its bytes.

    The admin's certificates for the writer, the reader and the operator, and the writer's content keys
    wrapped for the reader; those that are ``stored`` already are not wrapped anew.
    Raises ``WrongKey`` unless the file holds all four roles.
    """
    publics = publics_of(key_file)
    for role in CERTIFIED:
        if role not in publics:
            raise lacks(role)
    assert key_file.writer is not None  # it is in ``publics``
    certificates = [certificate(key_file, role, publics[role]) for role in CERTIFIED]
    reader = publics[Role.READER]
    known = {
        id: wrap for (id, who), (_, wrap) in wrapped_by(key_file, stored).items() if who == signer_id(reader)
    }
    content = [(kind, bytes.fromhex(secret)) for kind, secret in sorted(key_file.writer.content.items())]
    return [
        *certificates,
        *(
            known.get(content_key_id(secret)) or wrap_content_key(key_file, affinity, secret, reader)
            for affinity, secret in content
        ),
    ]


def certificate(key_file: KeyFile, role: Role, public: bytes) -> bytes:
    """The admin's word that a public key holds a role: always the same bytes. Raises ``WrongKey`` for no admin."""
    unsigned = Certificate.model_validate(
        {"vault": key_file.vault, "role": role.value, "public": public.hex()}
    )
    return _by_admin(key_file, unsigned)


def holder_object(key_file: KeyFile, role: Role, public: bytes, name: str, since: datetime) -> bytes:
    """The admin's word for what the holder of a key is called. Raises ``WrongKey`` for no admin."""
    told = {"role": role.value, "holder": signer_id(public), "name": name, "since": format_time(since)}
    return _by_admin(key_file, HolderName.model_validate({"vault": key_file.vault, **told}))


def removal_object(
    key_file: KeyFile, role: Role, holder: str, at: datetime, heads: Mapping[str, tuple[int, str]]
) -> bytes:
    """The admin's word that a key counts no more, but for what is in each log up to its head."""
    seen = {region: {"slot": slot, "hash": digest} for region, (slot, digest) in heads.items()}
    told = {"role": role.value, "holder": holder, "at": format_time(at), "heads": seen}
    return _by_admin(key_file, Removal.model_validate({"vault": key_file.vault, **told}))


def lock_object(key_file: KeyFile, seconds: int) -> bytes:
    """The admin's word for how long points are locked. Raises ``WrongKey`` for no admin."""
    return _by_admin(key_file, LockTerm.model_validate({"vault": key_file.vault, "seconds": seconds}))


def operator_removal_objects(
    key_file: KeyFile, holder: str, at: datetime, heads: Mapping[tuple[str, str], tuple[int, str]]
) -> list[bytes]:
    """The admin's word that an operator's key counts no more, but for what each (region, log) holds up to its head."""
    ordered = sorted(heads.items())
    pieces = [ordered[at : at + HEADS_IN_ONE_MAX] for at in range(0, max(1, len(ordered)), HEADS_IN_ONE_MAX)]
    told = {"vault": key_file.vault, "holder": holder, "at": format_time(at), "parts": len(pieces)}
    objects = []
    for part, piece in enumerate(pieces, 1):
        logs: dict[str, dict[str, object]] = {}
        for (region, stream), (slot, digest) in piece:
            logs.setdefault(region, {})[stream] = {"slot": slot, "hash": digest}
        objects.append(
            _by_admin(key_file, OperatorRemoval.model_validate({**told, "part": part, "logs": logs}))
        )
    return objects


def wrap_note(
    key_file: KeyFile, wrap: WrapTold, *, holders: Iterable[str], name: str, since: str, removed_at: str = ""
) -> bytes:
    """The admin's word on a key file that the vault keeps sealed. Raises ``WrongKey`` for no admin."""
    told = {"holders": sorted(holders), "name": name, "since": since, "removed_at": removed_at}
    return _by_admin(key_file, WrapNote.model_validate({"vault": key_file.vault, **wrap.fields(), **told}))


def _by_admin(key_file: KeyFile, unsigned: OfAdmin) -> bytes:
    if key_file.admin is None:
        raise lacks(Role.ADMIN)
    signature = signed_by(key_file.admin.signing, Role.ADMIN, unsigned.message())
    return canonical_json({**unsigned.model_dump(mode="json"), "signature": signature.hex()})


def wrap_content_key(key_file: KeyFile, affinity: str, secret: bytes, reader: bytes) -> bytes:
    """A content key for the reader with this public key, on the word of the writer whose key file this is.

    Raises ``WrongKey`` for a file of no writer.
    """
    if key_file.writer is None:
        raise lacks(Role.WRITER)
    ephemeral = X25519PrivateKey.generate()
    public = ephemeral.public_key().public_bytes_raw()
    empty = WrappedContentKey(
        vault=key_file.vault,
        id=content_key_id(secret).hex(),
        affinity=affinity,
        reader=signer_id(reader),
        ephemeral=public.hex(),
        signer=signer_id(public_of(key_file.writer.signing)),
    )
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(reader))
    key = _wrapping_key(shared, key_file.vault, public, reader)
    sealed = seal_bytes(key, secret, empty.header())
    unsigned = empty.model_copy(update={"sealed": sealed.hex()})
    signature = signed_by(key_file.writer.signing, Role.WRITER, unsigned.message())
    return canonical_json({**unsigned.model_dump(mode="json"), "signature": signature.hex()})


def wrapped_by(
    key_file: KeyFile, stored: Iterable[tuple[str, bytes]]
) -> dict[tuple[bytes, str], tuple[str, bytes]]:
    """Which content keys the writer of a key file has wrapped for whom, among key objects, vouched for or not.

    By id and the reader's signer id: the object's name and bytes. Of two for one reader either is taken.
    """
    public = publics_of(key_file).get(Role.WRITER)
    found: dict[tuple[bytes, str], tuple[str, bytes]] = {}
    for name, content in stored if public is not None else ():
        with suppress(VaultError):
            wrapped = parsed_key_object(name, content)
            if isinstance(wrapped, WrappedContentKey) and wrapped.vault == key_file.vault:
                signature = bytes.fromhex(wrapped.signature)
                if public is not None and is_signed(public, Role.WRITER, wrapped.message(), signature):
                    found[bytes.fromhex(wrapped.id), wrapped.reader] = (name, content)
    return found


def _wrapping_key(shared: bytes, vault: str, ephemeral: bytes, reader: bytes) -> bytes:
    """One key for one wrapping (HKDF binds it to both public keys and the vault)."""
    purpose = b"refloat-1:content-key:" + vault.encode("utf-8") + b":" + ephemeral + reader
    return HKDF(SHA256(), length=32, salt=None, info=purpose).derive(shared)


KeyObjectTold = OfAdmin | WrappedContentKey | DescriptorNote
"""What an object under ``keys/`` may say."""


def read_key_object(store: Store, name: str) -> KeyObjectTold | None:
    """What an object under ``keys/`` says, of which nothing is believed yet; None for one of another type.

    Only this much of it is kept: what a store serves besides does not fill the memory.
    """
    return parsed_key_object(name, store.get(name, 0, KEY_OBJECT_BYTES_MAX + 1))


def parsed_key_object(name: str, stored: bytes) -> KeyObjectTold | None:
    """What the bytes under a name say; None for an object of another type. Raises ``Damaged``."""
    if key_name(object_name(stored)) != name:
        raise damaged(name, "its bytes are not the ones it is named after")
    document = plain_object(stored, name, KEY_OBJECT_BYTES_MAX)
    match document.get("type"):
        case "certificate":
            return parsed_object(Certificate, document, name)
        case "holder":
            return parsed_object(HolderName, document, name)
        case "removal":
            return parsed_object(Removal, document, name)
        case "lock":
            return parsed_object(LockTerm, document, name)
        case "operator_removal":
            return parsed_object(OperatorRemoval, document, name)
        case "wrap":
            return parsed_object(WrapNote, document, name)
        case "descriptor":
            return parsed_object(DescriptorNote, document, name)
        case "content_key":
            return parsed_object(WrappedContentKey, document, name)
    return None


def is_signed(public: bytes, role: Role, message: bytes, signature: bytes) -> bool:
    """Whether it is the signature of this key's holder, as ``role``, over the message."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _signed_message(role, message))
    except InvalidSignature:
        return False
    return True


def unwrap_content_key(wrapped: WrappedContentKey, seed: str) -> bytes | None:
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
