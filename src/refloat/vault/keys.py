"""Who may do what in one vault: the key objects that it holds, and the keyring that opens from a key file.

Four roles: the *writer* adds points, the *reader* opens contents, the *operator* signs journals, claims and
evidence, the *admin* vouches for the others.

Ed25519 (RFC 8032), X25519 (RFC 7748), HKDF-SHA256 (RFC 5869). The stored forms are in ``docs/FORMAT.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice

from refloat.contracts import Store
from refloat.digest import object_name
from refloat.errors import Damaged, Missing, RefloatError, VaultError, WrongKey
from refloat.units import format_time, parse_time
from refloat.vault.keyfile import BULK, KeyFile, Role, content_key_id, lacks, signer_id
from refloat.vault.keyobjects import (
    CERTIFIED,
    Certificate,
    DescriptorNote,
    HolderName,
    OfAdmin,
    OfHolders,
    OperatorRemoval,
    Removal,
    WrapNote,
    WrappedContentKey,
    WrapTold,
    is_signed,
    key_objects,
    public_of,
    publics_of,
    read_key_object,
    reader_public,
    signed_by,
    unwrap_content_key,
)
from refloat.vault.layout import (
    KEYS,
    POINTS_STREAM,
    VAULT,
    Descriptor,
    damaged,
    key_name,
    read_descriptor,
)

__all__ = ["BULK", "ContentKey", "KeyFile", "Keyring", "Known", "Removed", "Role", "Signature", "key_objects"]

BEGINNING = datetime(1, 1, 1, tzinfo=UTC)  # when what has no time is taken to have been said
KEY_OBJECTS_MAX = 4096  # more are not keys of people; a store that lists more is lying


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


@dataclass(frozen=True)
class Known:
    """Somebody the admin vouches for: a public key, its role, and what the admin calls its holder since when.

    ``object`` is what says so beside the certificate; of a key that was made with its vault, nothing does.
    """

    role: Role
    public: bytes
    name: str = ""
    since: datetime | None = None
    object: str = ""
    removed_at: datetime | None = None

    @property
    def id(self) -> str:
        """The signer id."""
        return signer_id(self.public)


@dataclass(frozen=True)
class Removed:
    """A key that the admin has removed: what it signed counts up to a slot and hash of each log, by region and stream.

    In a log that is not among ``heads`` nothing of it counts.
    """

    role: Role
    id: str
    at: datetime
    heads: Mapping[tuple[str, str], tuple[int, str]]
    objects: tuple[str, ...]

    def both(self, other: Removed) -> Removed:
        """What counts by both, where two speak of one key."""
        heads = {log: min(head, other.heads[log]) for log, head in self.heads.items() if log in other.heads}
        first = min(self, other, key=lambda one: (one.at, one.objects))
        return replace(first, heads=heads)


@dataclass(frozen=True)
class Noted:
    """What the admin says of a key file that the vault keeps sealed: by signer id whose it is, and since when.

    ``object`` is what says so.
    """

    told: WrapTold
    holders: frozenset[str]
    name: str
    since: datetime | None
    removed_at: datetime | None
    object: str

    @classmethod
    def of(cls, name: str, told: WrapNote) -> Noted:
        """What an object of this name says. Raises ``Damaged`` for times that are none."""
        since, removed_at = (_time(name, text) if text else None for text in (told.since, told.removed_at))
        what = WrapTold(told.wrap, bytes.fromhex(told.recipient) if told.recipient else None)
        return cls(what, frozenset(told.holders), told.name, since, removed_at, name)

    @property
    def said_at(self) -> tuple[datetime, bool]:
        """Of two the later counts; where both are of one moment, that which removes."""
        said = [one for one in (self.since, self.removed_at) if one is not None]
        return max(said, default=BEGINNING), self.removed_at is not None


def last_notes(notes: Iterable[Noted]) -> dict[str, Noted]:
    """By id the last word on each way to open the vault, of several regions' words."""
    last: dict[str, Noted] = {}
    for noted in notes:
        last[noted.told.id] = max(last.get(noted.told.id, noted), noted, key=lambda one: one.said_at)
    return last


def unproved_notes(store: Store) -> Iterator[Noted]:
    """What a store holds as the admin's notes on sealed key files, where no key tells whether they are the admin's."""
    for entry in islice(store.list(KEYS), KEY_OBJECTS_MAX):
        with suppress(VaultError):
            told = read_key_object(store, entry.name)
            if isinstance(told, WrapNote):
                yield Noted.of(entry.name, told)


class Keyring:
    """What this process may do in one vault, opened from a key file and the vault's own key objects.

    ``rejected`` names the objects under ``keys/`` that were set aside, with the reason: one that is damaged,
    or that somebody without the right put there, must not keep the others from a recovery. ``lock`` is for how long
    what a point needs is to be locked, the longest that the admin has said; ``lock_lacks`` where only another region
    keeps that.
    """

    def __init__(self, key_file: KeyFile) -> None:
        self._file = key_file
        self._signers: dict[Role, str] = {}
        self._publics: dict[tuple[Role, str], bytes] = {}
        self._holders: dict[tuple[Role, str], Known] = {}
        self._removed: dict[tuple[Role, str], Removed] = {}
        self._operators: dict[tuple[str, str], dict[int, tuple[str, OperatorRemoval]]] = {}
        self._notes: dict[str, Noted] = {}
        self._wrapped: list[WrappedContentKey] = []
        self._described: dict[str, DescriptorNote] = {}
        self._opened: dict[bytes, bytes] = {}
        self._seen: dict[str, tuple[int, str]] = {}
        self.lock: timedelta | None = None
        self.lock_lacks = False
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
                file=VAULT,
                next="use the key file that was written when this vault was made",
            )
        if descriptor.pipeline != key_file.pipeline:
            raise WrongKey(
                f"the key is that of pipeline {key_file.pipeline!r}; {store.url} holds {descriptor.pipeline!r}",
                file=VAULT,
                next="see what is at this address; where it should be this pipeline's: refloat vault repair",
            )
        return cls.vouched(key_file, store)

    @classmethod
    def vouched(cls, key_file: KeyFile, store: Store) -> Keyring:
        """The keyring by what is under ``keys/`` alone, whatever the descriptor says. Raises as ``open``."""
        keyring = cls(key_file)
        keyring._take(store)
        return keyring

    def pinned(self, region: str) -> list[tuple[int, str]]:
        """The slots and hashes of a region's log of points that the key file, and this machine, have seen last."""
        head = self._file.heads.get(region)
        seen = self._seen.get(region)
        return [*([(head.slot, head.hash)] if head else []), *([seen] if seen else [])]

    def adopt_seen(self, heads: Mapping[str, tuple[int, str]]) -> None:
        """Let what this machine saw last of each region's log of points count beside what the key file saw."""
        self._seen = dict(heads)

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
        seed, signer = self._seed(role), self.signer(role)
        if self._public(role, signer) is None:
            raise WrongKey(
                f"the vault does not vouch for this {role}" + self._set_aside(),
                next="ask the admin of the vault for a key file, or run `refloat vault repair`",
            )
        removed = self._removed.get((role, signer))
        if removed is not None:
            raise WrongKey(
                f"the admin of the vault removed this {role} at {format_time(removed.at)}",
                next="ask the admin of the vault for a key file of your own",
            )
        return Signature(signer, signed_by(seed, role, message))

    def signer(self, role: Role) -> str:
        """The signer id of this holder in a role that signs. Raises ``WrongKey`` without the role."""
        if role not in self._signers:
            self._signers[role] = signer_id(public_of(self._seed(role)))
        return self._signers[role]

    def vouches(self, role: Role, signer: str) -> bool:
        """Whether a certificate lies in the vault for a key, removed or not, by its signer id."""
        return self._public(role, signer) is not None

    def unvouched(self) -> list[Role]:
        """The roles of this holder for which the vault keeps no certificate, so that they count for nothing."""
        own = {role: signer_id(public) for role, public in publics_of(self._file).items()}
        return [role for role, signer in own.items() if self._public(role, signer) is None]

    def known(self) -> list[Known]:
        """Everybody the admin vouches for or did until they were removed, by role and signer id."""
        order = sorted(self._publics.items(), key=lambda one: (CERTIFIED.index(one[0][0]), one[0][1]))
        return [self._known(key, public) for key, public in order]

    def _known(self, key: tuple[Role, str], public: bytes) -> Known:
        removed = self._removed.get(key)
        known = self._holders.get(key, Known(key[0], public))
        return known if removed is None else replace(known, removed_at=removed.at)

    def removal(self, role: Role, signer: str) -> Removed | None:
        """What the admin says of a key that was removed; None of one that counts."""
        return self._removed.get((role, signer))

    def removals(self) -> list[Removed]:
        """Every key that was removed."""
        return list(self._removed.values())

    def notes(self) -> Mapping[str, Noted]:
        """What the admin says of the key files that the vault keeps sealed, by id."""
        return self._notes

    def adopt(self, removals: Iterable[Removed]) -> None:
        """Let removals count that another region keeps, of the same vault and admin: one may hide what it was told."""
        for one in removals:
            before = self._removed.get((one.role, one.id))
            self._removed[one.role, one.id] = one if before is None else before.both(one)

    def adopt_notes(self, notes: Iterable[Noted]) -> None:
        """Let notes count that another region keeps: what was let go there is let go here."""
        self._notes = last_notes([*self._notes.values(), *notes])

    def adopt_lock(self, term: timedelta) -> None:
        """Let a lock count that another region keeps: who takes the admin's word away undoes nothing."""
        if self.lock is None or self.lock < term:
            self.lock, self.lock_lacks = term, True

    def descriptor_notes(self) -> Mapping[str, DescriptorNote]:
        """What was signed for descriptors by somebody the admin vouches for, by the name of the object."""
        return self._described

    def adopt_descriptors(self, notes: Mapping[str, DescriptorNote]) -> None:
        """Let what another region keeps of the same vault and admin count: one may hide what was signed for it."""
        self._described |= notes

    def described(self, region: str) -> list[Descriptor]:
        """The descriptors that were signed for a region by keys that still count; none where nothing was signed."""
        found = [
            note.descriptor
            for _, note in sorted(self._described.items())
            if note.descriptor.region == region and (Role(note.role), note.signer) not in self._removed
        ]
        return list(dict.fromkeys(found))

    def require_described(self, region: str, descriptor: Descriptor) -> None:
        """Raises ``Damaged`` where another descriptor than this was signed for the region."""
        signed = self.described(region)
        if signed and descriptor not in signed:
            raise damaged(VAULT, f"it is not what was signed for region {region}").at(region=region)

    def sign_descriptor(self, descriptor: Descriptor) -> DescriptorNote | None:
        """The word of this holder for a descriptor; None where it has no role that signs, or none that counts."""
        for role in (Role.ADMIN, Role.OPERATOR, Role.WRITER):
            with suppress(WrongKey):
                told = {"descriptor": descriptor, "role": role.value, "signer": self.signer(role)}
                unsigned = DescriptorNote.model_validate({"vault": self.vault, **told})
                signature = self.sign(role, unsigned.message()).value.hex()
                return unsigned.model_copy(update={"signature": signature})
        return None

    def content_keys(self) -> dict[bytes, tuple[str, frozenset[str]]]:
        """By id: the affinity of each content key in the vault, and the signer ids of the readers who may open it."""
        found: dict[bytes, tuple[str, frozenset[str]]] = {}
        for wrapped in self._wrapped:
            id = bytes.fromhex(wrapped.id)
            affinity, readers = found.get(id, (wrapped.affinity, frozenset()))
            found[id] = (affinity, readers | {wrapped.reader})
        return found

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
        if not is_signed(public, role, message, signature.value):
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
        reader = signer_id(reader_public(seed))
        for wrapped in self._wrapped:
            if wrapped.id == id.hex() and wrapped.reader == reader:
                secret = unwrap_content_key(wrapped, seed)
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
        wrapped: dict[str, WrappedContentKey] = {}
        described: dict[str, DescriptorNote] = {}
        told: dict[str, OfHolders] = {}
        newer: VaultError | None = None
        parsed = False
        for name in sorted(entry.name for entry in islice(store.list(KEYS), KEY_OBJECTS_MAX)):
            try:
                found = read_key_object(store, name)
                parsed = parsed or found is not None
                if isinstance(found, Certificate):
                    self._take_certificate(name, found)
                elif isinstance(found, WrappedContentKey):
                    wrapped[name] = found
                elif isinstance(found, DescriptorNote):
                    described[name] = found
                elif found is not None:
                    told[name] = found
            except VaultError as error:
                self.rejected[name] = error.message
                newer = newer or (None if isinstance(error, Damaged | Missing | WrongKey) else error)
        if not self._publics:
            raise newer or self._nobody(store, parsed=parsed)
        for name, of_admin in told.items():
            with self._setting_aside(name):
                self._require_of_admin(name, of_admin)
                self._take_told(name, of_admin)
        self._take_operators()
        for name, key in wrapped.items():
            with self._setting_aside(name):
                self._take_content_key(name, key)
        for name, note in described.items():
            with self._setting_aside(name):
                self._take_descriptor(name, note)

    @contextmanager
    def _setting_aside(self, name: str) -> Iterator[None]:
        try:
            yield
        except VaultError as error:
            self.rejected[name] = error.message

    def _take_told(self, name: str, told: OfHolders) -> None:
        match told:
            case HolderName():
                self._take_holder(name, told)
            case Removal():
                self._take_removal(name, told)
            case OperatorRemoval():
                self._operators.setdefault((told.holder, told.at), {})[told.part] = (name, told)
            case WrapNote():
                self._take_note(name, told)
            case _:  # a term
                self.lock = max(self.lock or timedelta(0), timedelta(seconds=told.seconds))

    def _require_of_admin(self, name: str, told: OfAdmin) -> None:
        admin = bytes.fromhex(self._file.admin_public)
        if told.vault != self.vault:
            raise damaged(name, "it belongs to another vault")
        if not is_signed(admin, Role.ADMIN, told.message(), bytes.fromhex(told.signature)):
            raise WrongKey(f"{name} is not signed by the admin that the key file names", file=name)

    def _take_holder(self, name: str, told: HolderName) -> None:
        """Of two that speak of one key the newer counts: somebody was given another name."""
        since = _time(name, told.since)
        key = (Role(told.role), told.holder)
        public, before = self._publics.get(key), self._holders.get(key)
        if public is not None and (before is None or before.since is None or before.since <= since):
            self._holders[key] = Known(key[0], public, told.name, since, name)

    def _take_removal(self, name: str, told: Removal) -> None:
        heads = {(region, POINTS_STREAM): (head.slot, head.hash) for region, head in told.heads.items()}
        self.adopt([Removed(Role(told.role), told.holder, _time(name, told.at), heads, (name,))])

    def _take_operators(self) -> None:
        """A word of several objects counts when all are there: one that was cut has removed nobody yet."""
        for (holder, at), parts in self._operators.items():
            name, last = parts[max(parts)]
            if parts.keys() == set(range(1, last.parts + 1)):
                heads = {
                    (region, stream): (head.slot, head.hash)
                    for _, told in parts.values()
                    for region, streams in told.logs.items()
                    for stream, head in streams.items()
                }
                with self._setting_aside(name):
                    objects = tuple(name for name, _ in parts.values())
                    self.adopt([Removed(Role.OPERATOR, holder, _time(name, at), heads, objects)])

    def _take_note(self, name: str, told: WrapNote) -> None:
        noted = Noted.of(name, told)
        before = self._notes.setdefault(told.wrap, noted)
        if before.said_at < noted.said_at:
            self._notes[told.wrap] = noted

    def _take_certificate(self, name: str, certificate: Certificate) -> None:
        self._require_of_admin(name, certificate)
        public = bytes.fromhex(certificate.public)
        self._publics[Role(certificate.role), signer_id(public)] = public

    def _take_content_key(self, name: str, wrapped: WrappedContentKey) -> None:
        if wrapped.vault != self.vault:
            raise damaged(name, "it belongs to another vault")
        signature = Signature(wrapped.signer, bytes.fromhex(wrapped.signature))
        self.verify(Role.WRITER, wrapped.message(), signature)
        self._wrapped.append(wrapped)

    def _take_descriptor(self, name: str, note: DescriptorNote) -> None:
        if self.vault not in {note.vault} & {note.descriptor.vault}:
            raise damaged(name, "it belongs to another vault")
        if key_name(object_name(note.stored())) != name:
            raise damaged(name, "a field of its descriptor is missing")
        self.verify(Role(note.role), note.message(), Signature(note.signer, bytes.fromhex(note.signature)))
        self._described[name] = note

    def _nobody(self, store: Store, *, parsed: bool) -> RefloatError:
        if parsed:
            return WrongKey(
                f"no certificate in {store.url} is signed by the admin that the key file names",
                next="use the key file that was written when this vault was made",
            )
        if self.rejected:
            return Damaged(
                f"every key object in {store.url} is damaged", file=KEYS, next="refloat vault repair"
            )
        return Missing(f"there are no keys in {store.url}", file=KEYS, next="refloat vault repair")


def _time(name: str, text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise damaged(name, "its time is not one") from error
