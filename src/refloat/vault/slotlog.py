"""A log of signed entries in numbered slots, on nothing but create-if-absent.

Invariants:

1. slot *n* is written only by somebody who has read slot *n - 1*, so the slots are dense;
2. whoever loses the race for a slot knows it, because the name was taken;
3. an entry holds the hash of the one before it, so the log is one chain and a change anywhere shows;
4. the signature covers vault, stream, slot, chain, references and the sealed body, and is checked before
   the body is opened.

This one primitive orders recovery points, fences orchestrators and keeps the audit trail.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Literal, cast

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refloat.clock import Clock
from refloat.contracts import Keeping, Put, Store
from refloat.digest import Json, canonical_json, object_name
from refloat.errors import Damaged, Missing, RefloatError, Retry, StoreError, UsageError, VaultError
from refloat.limits import MIB, SLOT_APPEND_ATTEMPTS_MAX, SLOT_DIGITS
from refloat.units import format_time, parse_time
from refloat.vault.keyfile import open_sealed, seal_bytes
from refloat.vault.keys import Keyring, Role, Signature
from refloat.vault.layout import canonical_object, damaged, plain_object, slot_name, stream_prefix

ENTRY_BYTES_MAX = 4 * MIB  # facts of a whole pipeline fit many times; more is a lie or a mistake
_HINTS_MAX = (
    1024  # slots that somebody filled with garbage, where it cannot be removed; more are galloped over
)
FIRST = "0" * 64  # what slot 0 names as the entry before it


class SlotTaken(RefloatError):
    """Somebody else wrote this slot first."""

    code: ClassVar[str] = "slot_taken"


@dataclass(frozen=True)
class Entry:
    """One verified entry. ``hash`` is the BLAKE3 of the stored bytes, ``previous`` that of the slot before.

    ``refs`` are the names of the objects that the entry needs, readable without a key. An entry that is ``void``
    was signed by somebody the admin had removed: it is a link of the chain, and nothing of what it says counts.
    """

    slot: int
    hash: str
    previous: str
    time: datetime
    signer: str
    body: Mapping[str, Json]
    refs: tuple[str, ...]
    void: bool


class _Stored(BaseModel):
    """An entry as it is stored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    stream: str
    slot: int = Field(ge=0)
    previous: str = Field(pattern=r"^[0-9a-f]{64}$")
    time: str
    signer: str = Field(pattern=r"^[0-9a-f]{32}$")
    refs: list[str]
    sealed: str
    signature: str = Field("", pattern=r"^([0-9a-f]{128})?$")  # hex: one signature, one spelling

    def message(self, vault: str) -> bytes:
        signed = {name: value for name, value in self if name != "signature"}
        return b"slot:" + canonical_json({**signed, "vault": vault})


def _envelope(stored: bytes, name: str) -> _Stored:
    document = plain_object(stored, name, ENTRY_BYTES_MAX)
    try:
        return _Stored.model_validate(document)
    except ValidationError as error:
        raise damaged(name, f"{error.error_count()} of its fields are wrong") from error


def previous_of(keyring: Keyring, role: Role, stream: str, slot: int, stored: bytes) -> str | None:
    """What bytes name as the entry before them; None unless they are one for just this slot, signed by ``role``."""
    with suppress(VaultError):
        envelope = _envelope(stored, slot_name(stream, slot))
        signature = Signature(envelope.signer, bytes.fromhex(envelope.signature))
        keyring.verify(role, envelope.message(keyring.vault), signature)
        if (envelope.stream, envelope.slot) == (stream, slot):
            return envelope.previous
    return None


class SlotLog:
    """One stream of one replica. Every entry is signed by a holder of ``role``.

    Threads may share one. What this object has seen it remembers: an entry that changes later, or a log
    that has become shorter, is ``Damaged``.
    """

    def __init__(
        self, store: Store, stream: str, keyring: Keyring, *, role: Role, clock: Clock, region: str = ""
    ) -> None:
        self._store = store
        self._keeping = (
            store if isinstance(store, Keeping) else None
        )  # asked once: it takes as long as a small read
        self._stream = stream
        self._keyring = keyring
        self._role = role
        self._region = region
        self._clock = clock
        self._lock = threading.Lock()
        self._hashes: dict[int, str] = {}
        self._previous: dict[int, str] = {}
        self._anchored: set[tuple[int, str]] = set()
        self._last: Entry | None = None
        self._body_key = blake3(
            keyring.catalogue_key, derive_key_context="refloat format 1 slot log body"
        ).digest()

    @property
    def stream(self) -> str:
        """What the log is called."""
        return self._stream

    @property
    def seen(self) -> int:
        """The last slot that this object has seen; -1 where it has seen none."""
        return -1 if self._last is None else self._last.slot

    def head(self) -> Entry | None:
        """The last entry, or None for an empty log. Raises ``Damaged`` for one shorter than seen before."""
        known = self._last if self._last is not None else self._hint()
        last = self._gallop(-1 if known is None else known.slot)
        if last < 0:
            return None
        if known is not None and last > known.slot + 1:
            self._still(known.slot)
        return self._still(last)

    def read(self, slot: int) -> Entry:
        """The entry in a slot, verified. Raises ``Missing``, or ``Damaged`` naming the slot."""
        return self._remember(
            self.said(slot, self._store.get(slot_name(self._stream, slot), 0, ENTRY_BYTES_MAX + 1))
        )

    def said(self, slot: int, stored: bytes) -> Entry:
        """The entry for a slot that these bytes are, verified by itself, wherever they lie; no link of the chain.

        Raises ``Damaged`` naming the slot.
        """
        envelope = _envelope(stored, slot_name(self._stream, slot))
        if envelope.stream != self._stream or envelope.slot != slot:
            raise self._damaged(slot, f"it holds slot {envelope.slot} of {envelope.stream!r}")
        self._verify(slot, envelope)
        void = self._is_void(slot, envelope.signer)
        body = {} if void else self._open(slot, envelope)
        return self._entry(envelope, stored, body, void=void)

    def stranger(self, slot: int) -> str | None:
        """Who signed what has the form of an entry in a slot, if the vault does not vouch for them here; else None."""
        name = slot_name(self._stream, slot)
        with suppress(VaultError):
            signer = _envelope(self._store.get(name, 0, ENTRY_BYTES_MAX + 1), name).signer
            return None if self._keyring.vouches(self._role, signer) else signer
        return None

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """The entries from ``start`` to the head, in order, the chain checked.

        Raises ``Damaged`` naming the first slot that is not what was written, or that is gone.
        """
        head = self.head()
        for slot in range(start, 0 if head is None else head.slot + 1):
            try:
                yield self.read(slot)
            except Missing as error:
                raise self._damaged(slot, "it is missing, though later slots are there") from error

    def append(self, body: Mapping[str, Json], refs: Sequence[str] = ()) -> Entry:
        """Write ``body`` into the next free slot, however many others are writing.

        Raises ``StoreError`` after losing too many races, and where it is unknown whether the entry landed.
        """
        last = self._last or self.head()
        for _ in range(SLOT_APPEND_ATTEMPTS_MAX):
            try:
                return self._write(0 if last is None else last.slot + 1, _hash_of(last), body, refs)
            except SlotTaken:
                last = self.head()
        raise StoreError(
            f"lost {SLOT_APPEND_ATTEMPTS_MAX} races in a row for a slot of {self._stream!r}",
            retry=Retry.LATER,
            next="see what else writes to this log, and try again",
        )

    def append_at(self, slot: int, body: Mapping[str, Json], refs: Sequence[str] = ()) -> Entry:
        """Write ``body`` into exactly this slot. Raises ``SlotTaken`` when somebody else has.

        Raises ``Missing`` where the slot before it is empty. A lost reply to our own write is a success.
        """
        return self._write(slot, _hash_of(self._before(slot)), body, refs)

    def append_past(self, slot: int, body: Mapping[str, Json], refs: Sequence[str] = ()) -> Entry:
        """Write ``body`` into this slot though the one before it is damaged, whose bytes the chain then names.

        Readers of the whole log still stop at the damage; who asks for its end goes on. Raises as ``append_at``.
        """
        stored = self._store.get(slot_name(self._stream, slot - 1), 0, ENTRY_BYTES_MAX + 1)
        return self._write(slot, object_name(stored), body, refs)

    def listed(self) -> list[int]:
        """The slots that a listing names, in order, whatever lies in them."""
        prefix = stream_prefix(self._stream)
        slots = (_slot(info.name, prefix) for info in self._store.list(prefix))
        return sorted(slot for slot in slots if slot is not None)

    def is_free(self, slot: int) -> bool:
        """Whether what lies in a slot of a locked vault is no entry, so that the next one is written over it."""
        return self._keeping is not None and not self._there(slot)

    def behind(self, slot: int) -> list[int]:
        """The slots after one that a listing names and that are there; in a locked vault, those with an entry."""
        later = (other for other in self.listed() if other > slot)
        return [other for other in later if self._keeping is None or self._there(other)]

    def last_slot(self) -> int:
        """The last slot that is there, whole or not; -1 in an empty log."""
        return self._gallop(self.seen)

    # ------------------------------------------------------------------------------------------- writing

    def _before(self, slot: int) -> Entry | None:
        if slot == 0:
            return None
        last = self._last
        return last if last is not None and last.slot == slot - 1 else self.read(slot - 1)

    def _write(self, slot: int, previous: str, body: Mapping[str, Json], refs: Sequence[str]) -> Entry:
        envelope = self._sealed(slot, previous, dict(body), refs)
        stored = canonical_json(envelope.model_dump(mode="json"))
        if len(stored) > ENTRY_BYTES_MAX:
            raise UsageError(
                f"an entry of {self._stream!r} would have {len(stored)} bytes",
                next=f"entries hold at most {ENTRY_BYTES_MAX} bytes; store what is large as an object",
            )
        # by its own reader: nothing else is committed
        written = _envelope(stored, slot_name(self._stream, slot))
        entry = self._entry(written, stored, self._open(slot, written))
        self._create(slot, stored)
        return self._remember(entry)

    def _create(self, slot: int, stored: bytes) -> None:
        """Create-if-absent, settled: the random nonce makes equal bytes our own bytes."""
        name = slot_name(self._stream, slot)
        try:
            if self._store.create(name, stored) is Put.CREATED:
                return
        except StoreError as error:
            if error.retry is Retry.NEVER or not self._landed(name, stored):
                raise
            return
        if self._store.get(name, 0, ENTRY_BYTES_MAX + 1) != stored:
            raise SlotTaken(
                f"slot {slot} of {self._stream!r} in {self._store.url} is taken",
                file=name,
                retry=Retry.NOW,
                next="read the log, and decide again",
            )

    def _landed(self, name: str, stored: bytes) -> bool:
        with suppress(StoreError, Missing):
            return self._store.get(name, 0, ENTRY_BYTES_MAX + 1) == stored
        return False

    def _sealed(self, slot: int, previous: str, body: Mapping[str, Json], refs: Sequence[str]) -> _Stored:
        sealed = seal_bytes(self._body_key, canonical_json(body), self._associated(slot))
        unsigned = _Stored(
            stream=self._stream,
            slot=slot,
            previous=previous,
            time=format_time(self._clock.now()),
            signer=self._keyring.signer(self._role),
            refs=list(refs),
            sealed=base64.b64encode(sealed).decode("ascii"),
        )
        signature = self._keyring.sign(self._role, unsigned.message(self._keyring.vault))
        return unsigned.model_copy(update={"signature": signature.value.hex()})

    # ------------------------------------------------------------------------------------------- reading

    def _verify(self, slot: int, envelope: _Stored) -> None:
        try:
            signature = Signature(envelope.signer, bytes.fromhex(envelope.signature))
            self._keyring.verify(self._role, envelope.message(self._keyring.vault), signature)
        except Damaged as error:
            raise self._damaged(slot, str(error)) from error

    def _is_void(self, slot: int, signer: str) -> bool:
        """Whether the admin had removed the signer before. Raises ``Damaged`` for a log that was written anew since."""
        removed = self._keyring.removal(self._role, signer)
        if removed is None:
            return False
        seen = removed.heads.get((self._region, self._stream))
        if seen is None or slot > seen[0]:
            return True
        self._anchor(*seen)
        return False

    def _anchor(self, last: int, hash: str) -> None:
        """Hold the log up to a slot against the entry that the admin saw there, whose hash covers all before it.

        The key of somebody who was removed may be a thief's, so its signature alone says nothing of when it was made.
        """
        if (last, hash) in self._anchored:
            return
        found: dict[int, str] = {}
        previous = FIRST
        for slot in range(last + 1):
            name = slot_name(self._stream, slot)
            try:
                stored = self._store.get(name, 0, ENTRY_BYTES_MAX + 1)
            except Missing as error:
                raise self._damaged(slot, "it is missing, though the admin saw it") from error
            if _envelope(stored, name).previous != previous:
                raise self._damaged(slot, "it does not follow the entry before it")
            previous = found[slot] = object_name(stored)
        if previous != hash:
            raise self._damaged(last, "it is not the entry that the admin saw when a signer was removed")
        with self._lock:
            for slot, seen in found.items():
                if self._hashes.setdefault(slot, seen) != seen:
                    raise self._damaged(slot, "it was another entry before: the log was rewritten")
            self._anchored.add((last, hash))

    def _open(self, slot: int, envelope: _Stored) -> Mapping[str, Json]:
        try:
            sealed = base64.b64decode(envelope.sealed, validate=True)
            body = canonical_object(open_sealed(self._body_key, sealed, self._associated(slot)))
        except (InvalidTag, ValueError) as error:
            raise self._damaged(slot, "its body does not open") from error
        return cast("Mapping[str, Json]", body)

    def _entry(
        self, envelope: _Stored, stored: bytes, body: Mapping[str, Json], *, void: bool = False
    ) -> Entry:
        try:
            time = parse_time(envelope.time)
        except ValueError as error:
            raise self._damaged(envelope.slot, "its time is not one") from error
        return Entry(
            slot=envelope.slot,
            hash=object_name(stored),
            previous=envelope.previous,
            time=time,
            signer=envelope.signer,
            body=body,
            refs=tuple(envelope.refs),
            void=void,
        )

    def _remember(self, entry: Entry) -> Entry:
        """Check an entry against what was seen of its slot and its neighbours, then keep its hash."""
        slot = entry.slot
        with self._lock:
            if self._hashes.get(slot, entry.hash) != entry.hash:
                raise self._damaged(slot, "it was another entry before: the log was rewritten or rolled back")
            if entry.previous != (FIRST if slot == 0 else self._hashes.get(slot - 1, entry.previous)):
                raise self._damaged(slot, "it does not follow the entry before it")
            if self._previous.get(slot + 1, entry.hash) != entry.hash:
                raise self._damaged(slot, "the entry after it does not follow it")
            self._hashes[slot] = entry.hash
            self._previous[slot] = entry.previous
            if self._last is None or slot > self._last.slot:
                self._last = entry
        return entry

    def _associated(self, slot: int) -> bytes:
        return canonical_json({"vault": self._keyring.vault, "stream": self._stream, "slot": slot})

    def _damaged(self, slot: int, reason: str) -> Damaged:
        name = slot_name(self._stream, slot)
        return Damaged(
            f"slot {slot} of {self._stream!r} in {self._store.url} is damaged: {reason}",
            region=self._region or None,
            file=name,
            next="compare the regions with `refloat vault check`",
        )

    # ------------------------------------------------------------------------------------------- the head

    def _hint(self) -> Entry | None:
        """The last entry a listing names, if it verifies: a listing may lag, and anybody may add to it."""
        for slot in reversed(self.listed()[-_HINTS_MAX if self._keeping else -1 :]):
            with suppress(VaultError):
                if self._keeping is None or self._there(slot):
                    return self.read(slot)
        return None

    def _there(self, slot: int) -> bool:
        if slot >= 10**SLOT_DIGITS:  # a store that says that everything is there is not asked for ever
            return False
        name = slot_name(self._stream, slot)
        if self._keeping is not None:  # an entry cannot go, so what is none was put into a free slot
            return self._keeping.holds(name)
        return self._store.size(name) is not None

    def _still(self, slot: int) -> Entry:
        """An entry that was there a moment ago, or when this log was last read."""
        try:
            return self.read(slot)
        except Missing as error:
            raise self._damaged(slot, "it was there before: the log was cut or rolled back") from error

    def _gallop(self, known: int) -> int:
        """The last slot that is there, from ``known`` forward; the slots are dense."""
        low, step = known, 1
        while self._there(low + step):
            low, step = low + step, step * 2
        high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._there(middle) else (low, middle)
        return low


def read_back(log: SlotLog, slot: int) -> None:
    """An answer alone is not a commit. Raises ``StoreError`` for an entry that was taken and is not there."""
    try:
        log.read(slot)
    except Missing as error:
        raise StoreError(
            f"the store took {error.file} and does not hold it",
            file=error.file,
            retry=Retry.LATER,
            next="check the store, then run again: refloat protect",
        ) from error


def _hash_of(entry: Entry | None) -> str:
    return FIRST if entry is None else entry.hash


def _slot(name: str, prefix: str) -> int | None:
    digits = name.removeprefix(prefix)
    return int(digits) if len(digits) == SLOT_DIGITS and digits.isdecimal() else None
