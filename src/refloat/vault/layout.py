"""Where everything stands in a vault: the name of every object, and the descriptor that says what it is."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from typing import Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from refloat.contracts import Put, Store
from refloat.digest import canonical_json, is_utf8, json_digest, object_name
from refloat.errors import Damaged, Malformed, Missing, Refused, UsageError, VaultError
from refloat.limits import CHUNK_BYTES_AVG, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, KIB, SLOT_DIGITS

FORMAT = 1
VAULT = "vault.json"
KEYS = "keys/"
PACKS = "packs/"
INDEX = "index/"
POINTS = "points/"
LOG = "log/"
TRIAL = "trial-"  # what is left of trying out a store that lets nothing be removed: nobody reads it
PROOF = "proof/"  # small objects that proved that a store keeps locks; nobody needs them
OBJECTS = (KEYS, PACKS, INDEX, POINTS)
"""What holds objects that are named by their bytes, each after what its objects may name: the order of writes."""
NAMES_NOTHING = frozenset({KEYS, PACKS})
"""Of these the objects that name no other."""

POINTS_STREAM = "points"
PRUNE_STREAM = "prune"
FORGOTTEN_STREAM = "forgotten"
RENEWED_STREAM = "renewed"
AUDIT_STREAM = "audit"
OPERATOR_STREAMS = frozenset({AUDIT_STREAM, "baselines", "drills", "evidence", "runs", "targets"})
"""The logs that operators sign: how they are called up to the first ``/``."""
ADMIN_STREAMS = frozenset({FORGOTTEN_STREAM, PRUNE_STREAM, RENEWED_STREAM})
"""The logs that the admin signs."""

DESCRIPTOR_BYTES_MAX = 64 * KIB  # a few hundred bytes; more is not a descriptor
_SUM_DIGITS = 64  # of a BLAKE3 in hex; a replica id without one is shorter
CHUNK_BYTES_LEAST = 64  # what the cutter can do; nobody signs how to cut, so it is held within bounds


def key_name(name: str) -> str:
    """Where a key object stands; ``name`` is the BLAKE3 of its bytes in hex."""
    return KEYS + name


def pack_name(name: str) -> str:
    """Where a pack stands: below the first two digits of its name, so that no folder grows too large."""
    return f"{PACKS}{name[:2]}/{name}"


def index_name(name: str) -> str:
    """Where an index object stands."""
    return INDEX + name


def point_name(name: str) -> str:
    """Where a sealed point body stands."""
    return POINTS + name


def objects(store: Store, prefix: str) -> dict[str, int]:
    """The objects below one of ``OBJECTS`` by the names that this format gives them, with their bytes; nothing else.

    In the order of their names. Raises ``StoreError``.
    """
    listed = sorted((info.name, info.size) for info in store.list(prefix))
    return {name: size for name, size in listed if is_object(name)}


def is_object(name: str) -> bool:
    """Whether this format gives the name to an object that is named by its bytes."""
    last = name.rpartition("/")[2]
    return bool(_OBJECT.fullmatch(last)) and any(name_of(last) == name for name_of in _NAME_OF.values())


def has_its_name(name: str, stored: bytes) -> bool:
    """Whether an object that is named by its bytes has the bytes of its name."""
    return object_name(stored) == name.rpartition("/")[2]


_OBJECT = re.compile(r"[0-9a-f]{64}")
_NAME_OF = {KEYS: key_name, PACKS: pack_name, INDEX: index_name, POINTS: point_name}


def stream_prefix(stream: str) -> str:
    """What the names of all slots of a stream start with."""
    return f"{LOG}{stream}/"


def slot_name(stream: str, slot: int) -> str:
    """Where a slot of a log stands. Raises ``UsageError`` for a slot that 16 digits cannot hold."""
    if not 0 <= slot < 10**SLOT_DIGITS:
        raise UsageError(f"{slot} is not a slot of a log", next=f"slots have at most {SLOT_DIGITS} digits")
    return f"{stream_prefix(stream)}{slot:0{SLOT_DIGITS}d}"


class Chunking(BaseModel):
    """How files without seams of their own are cut, in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    min: int = Field(CHUNK_BYTES_MIN, ge=CHUNK_BYTES_LEAST)
    avg: int = Field(CHUNK_BYTES_AVG, ge=CHUNK_BYTES_LEAST)
    max: int = Field(CHUNK_BYTES_MAX, le=CHUNK_BYTES_MAX)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min <= self.avg <= self.max:
            raise ValueError("min, avg and max are not in order")
        return self


class Descriptor(BaseModel):
    """What ``vault.json`` says. It is plain, what signs it stands under ``keys/``, and nothing is decided by it alone.

    ``region`` is a hint for people: which region this replica was made for. ``replica`` ends with the sum of all that
    is said, so that a flipped bit is found; one of an older vault may have none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    vault: str = Field(min_length=1, max_length=128)
    replica: str = Field(min_length=1, max_length=128)
    region: str = Field("", max_length=128)
    chunking: Chunking = Chunking()
    pipeline: str = Field(max_length=128)

    @classmethod
    def of_new(cls, vault: str, region: str, pipeline: str) -> Self:
        """That of a replica which is only being made: its id is like no other's."""
        return cls(vault=vault, replica=uuid.uuid4().hex, region=region, pipeline=pipeline).summed()

    @property
    def is_summed(self) -> bool:
        """Whether a flipped bit in it is found."""
        return len(self.replica) > _SUM_DIGITS

    def summed(self) -> Self:
        """The same, its replica id with the sum of what it says now."""
        own = self.replica[:-_SUM_DIGITS] if self.is_summed else self.replica
        plain = self.model_copy(update={"replica": own})
        return self.model_copy(update={"replica": own + json_digest(plain.model_dump(mode="json"))})


def _has_its_sum(document: Mapping[str, object]) -> bool:
    """Whether a descriptor has a sum, and it is that of what it says; of one without a sum nobody can tell."""
    replica = document.get("replica")
    if not isinstance(replica, str) or len(replica) <= _SUM_DIGITS:
        return False
    own, told = replica[:-_SUM_DIGITS], replica[-_SUM_DIGITS:]
    return told == json_digest({**document, "replica": own})


def write_descriptor(store: Store, descriptor: Descriptor) -> None:
    """Turn a place into a replica. Raises ``Refused`` (rule ``vault_exists``) where one is already."""
    if store.create(VAULT, canonical_json(descriptor.model_dump(mode="json"))) is Put.EXISTS:
        raise Refused(
            "vault_exists",
            f"there is a vault in {store.url} already",
            next="choose an empty place, or use the vault that is there with its own key",
        )


def read_descriptor(store: Store) -> Descriptor:
    """The descriptor of the replica in ``store``.

    Raises ``Missing`` where there is none, ``VaultError`` for a newer format, ``Damaged`` for garbage.
    """
    try:
        stored = store.get(VAULT, 0, DESCRIPTOR_BYTES_MAX + 1)
    except Missing as error:
        raise Missing(
            f"there is no vault in {store.url}",
            file=VAULT,
            next="check the address, or run `refloat vault init`",
        ) from error
    try:
        document = plain_object(stored, VAULT)
    except VaultError as error:
        if not isinstance(error, Damaged) and _has_its_sum(
            cast("dict[str, object]", _loaded(stored)) | {"format": FORMAT}
        ):
            raise damaged(VAULT, "its format is not the one that was written") from error
        raise
    try:
        descriptor = Descriptor.model_validate(document)
    except ValidationError as error:
        raise damaged(VAULT, f"{error.error_count()} of its fields are wrong") from error
    if descriptor.is_summed and not _has_its_sum(document):
        raise damaged(VAULT, "its sum is not that of what it says")
    return descriptor


def canonical_object(content: bytes) -> dict[str, object]:
    """The JSON object in ``content``, which must be as ``canonical_json`` writes it. Raises ``ValueError``.

    So there is no NaN in it, no infinity and no name twice, and equal documents have equal bytes.
    """
    document = _loaded(content)
    if not _is_canonical(document, content):
        raise ValueError("it is not a JSON object in canonical form")
    return cast("dict[str, object]", document)


def _loaded(content: bytes) -> object:
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it nests too deep") from None


def _is_canonical(document: object, content: bytes) -> bool:
    return isinstance(document, dict) and canonical_json(document) == content


def parse_object(
    stored: bytes, name: str, bytes_max: int = DESCRIPTOR_BYTES_MAX, newest: int = FORMAT
) -> dict[str, object]:
    """The JSON document of a plain object of this format, or of one up to ``newest``.

    Raises ``VaultError`` for one of a newer format and ``Damaged`` for anything that is not canonical JSON
    with a format number, so that equal documents have equal bytes.
    """
    if len(stored) > bytes_max:
        raise damaged(name, f"it is larger than {bytes_max} bytes")
    try:
        document = _loaded(stored)
        canonical = _is_canonical(document, stored)
    except (ValueError, RecursionError) as error:
        raise damaged(name, "it is not JSON") from error
    if not isinstance(document, dict) or type(document.get("format")) is not int:
        raise damaged(name, "it is not a document of a vault")
    require_format(document["format"], name, newest)
    if not canonical:
        raise damaged(name, "it is not in canonical form")
    return document


def plain_object(stored: bytes, name: str, bytes_max: int = DESCRIPTOR_BYTES_MAX) -> dict[str, object]:
    """As ``parse_object``, of an object that is not sealed: every text in it is refloat's own, and has UTF-8.

    Raises ``Damaged`` for one with a surrogate, which only what was captured may hold, and as ``parse_object``.
    """
    document = parse_object(stored, name, bytes_max)
    if b"\\ud" in stored and not is_utf8(document):
        raise damaged(name, "it holds a text that is not UTF-8")
    return document


def require_format(number: int, name: str, newest: int = FORMAT) -> None:
    """Refuse another format than this one, or up to ``newest``.

    Raises ``VaultError`` for a newer one, ``Damaged`` for none.
    """
    if number > newest:
        raise newer_format(name, number)
    if number < FORMAT:
        raise damaged(name, f"there is no vault format {number}")


def newer_format(name: str, number: int) -> VaultError:
    """The error for an object of a format that this refloat does not read."""
    return VaultError(
        f"{name} is written in vault format {number}; this refloat reads format {FORMAT}",
        file=name,
        next=f"install a refloat that reads format {number}: pip install --upgrade refloat",
    )


def damaged(name: str, reason: str) -> Damaged:
    """The error for an object that is not what was written."""
    error = Damaged(f"{name} is damaged: {reason}", file=name, next="refloat vault repair")
    error.reason = reason
    return error


def malformed(name: str, reason: str) -> Malformed:
    """The error for an object that is just what its signer signed, and nothing that refloat writes."""
    hint = "`refloat vault keys list` names who may write; choose another point"
    error = Malformed(f"{name} is signed, and malformed: {reason}", file=name, next=hint)
    error.reason = reason
    return error
