"""What lies in a log and is not what was written is set aside, so that the log can be written on.

A log is one chain, so behind the first slot that is not what was written nothing in it counts in its place any more.
All that lies there is copied below ``aside/``, under the log's name, its slot and the BLAKE3 of its bytes, and then
removed, the first slot first: what was cut leaves a hole, which is damage as well, and the next try goes on. What
holds:

1. nothing is removed before a copy of it is there, whole, and before the log ``audit`` of the region says what and why;
2. an entry that verifies by itself still says what its signer said: whoever may sign the log can say it again, and what
   is said there already is not said twice;
3. in a vault with a lock nothing can be removed: there the audit names what lies there by the BLAKE3 of its bytes, and
   from then on that is no entry, so the slot is free. That counts of what operators sign themselves, and of no other
   log: who has an operator's key takes no point away, and what a removed operator set aside counts again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from refloat.contracts import Keeping
from refloat.digest import Json, canonical_json, object_name
from refloat.errors import Missing, VaultError, WrongKey
from refloat.limits import SLOT_DIGITS
from refloat.vault.forgotten import told
from refloat.vault.keys import Role
from refloat.vault.layout import (
    ADMIN_STREAMS,
    AUDIT_STREAM,
    FORGOTTEN_STREAM,
    OPERATOR_STREAMS,
    POINTS_STREAM,
    damaged,
    slot_name,
)
from refloat.vault.lock import may_be_set_aside
from refloat.vault.replica import Replica, committed
from refloat.vault.replicate import store_checked
from refloat.vault.slotlog import ENTRY_BYTES_MAX, Entry, SlotLog

ASIDE = "aside/"


def role_of(stream: str) -> Role | None:
    """Who signs a log; None for one that this refloat does not know."""
    if stream == POINTS_STREAM:
        return Role.WRITER
    if stream in ADMIN_STREAMS:
        return Role.ADMIN
    return Role.OPERATOR if stream.partition("/")[0] in OPERATOR_STREAMS else None


def _anything(entry: Entry) -> object:
    return entry


_MEANS: Mapping[str, Callable[[Entry], object]] = {POINTS_STREAM: committed, FORGOTTEN_STREAM: told}
"""What reads the entries of a log without which nothing behind them can be told; raises ``VaultError``."""


@dataclass(frozen=True)
class Break:
    """Where a log is not what was written any more: the first such slot, why, and which slots are there from it on."""

    slot: int
    error: VaultError
    behind: tuple[int, ...]

    @property
    def end(self) -> int:
        """How many slots were there, as far as can be told."""
        return max((self.slot, *self.behind)) + 1


def sound_entries(log: SlotLog) -> Generator[Entry, None, Break | None]:
    """The entries of a log up to its first break, which is what comes back; None where the log is whole.

    What lies far behind its end is a break, too: nobody who writes the log put it there. Raises ``WrongKey``,
    ``StoreError``.
    """
    means = _MEANS.get(log.stream, _anything)
    slot, seen = 0, log.seen
    while True:
        if not log.is_free(slot):
            try:
                entry = log.read(slot)
                if not entry.void:
                    means(entry)
            except WrongKey:
                raise
            except Missing:
                pass
            except VaultError as error:
                error.file = error.file or slot_name(log.stream, slot)
                return Break(slot, error, (slot, *log.behind(slot)))
            else:
                yield entry
                slot += 1
                continue
        behind = tuple(log.behind(slot))
        if not behind and seen < slot:
            return None
        why = "it is missing, though later slots are there" if behind else "it was there before"
        return Break(slot, damaged(slot_name(log.stream, slot), why), behind)


def first_break(log: SlotLog) -> Break | None:
    """The first break of a log; None where it is whole. Raises ``WrongKey``, ``StoreError``."""
    entries = sound_entries(log)
    while True:
        try:
            next(entries)
        except StopIteration as end:
            return cast("Break | None", end.value)


def may_set_aside(replica: Replica, stream: str) -> bool:
    """Whether what lies in a log can be set aside there at all."""
    return not isinstance(replica.store, Keeping) or may_be_set_aside(stream)


def set_aside(replica: Replica, log: SlotLog, found: Break, *, whole: bool = False, **more: Json) -> None:
    """Set aside what lies in a log from its break on, or with ``whole`` all of it.

    ``more`` is said of it in the audit. Raises ``WrongKey`` without the operator's role, ``StoreError``.
    """
    slots = log.listed() if whole else found.behind
    said: dict[str, Json] = {"reason": found.error.message, "whole": whole, **more}
    if isinstance(replica.store, Keeping):
        entries: list[Json] = [*_copied(replica, log.stream, slots)]
        _say(replica, log.stream, slots, {**said, "entries": entries})
        replica.reread(log.stream)
        return
    if log.stream != AUDIT_STREAM:
        _say(replica, log.stream, slots, said)
    _copied(replica, log.stream, slots)
    for slot in slots:
        replica.store.delete(slot_name(log.stream, slot))
    replica.reread(log.stream)
    if log.stream == AUDIT_STREAM:
        say_again(replica, AUDIT_STREAM, Role.OPERATOR)
        _say(replica, log.stream, slots, said)


def _copied(replica: Replica, stream: str, slots: Sequence[int]) -> list[str]:
    """Copy what lies in slots of a log below ``aside/``; what it is called by its bytes."""
    copied = []
    for slot in slots:
        with suppress(Missing):  # a listing may name what is gone
            stored = replica.store.get(slot_name(stream, slot), 0, ENTRY_BYTES_MAX + 1)
            copied.append(object_name(stored))
            store_checked(replica.store, f"{ASIDE}{stream}/{slot:0{SLOT_DIGITS}d}-{copied[-1]}", stored)
    return copied


def _say(replica: Replica, stream: str, slots: Sequence[int], said: Mapping[str, Json]) -> None:
    body = {"type": "set_aside", "stream": stream, "slots": list(slots), **said}
    replica.log(AUDIT_STREAM, Role.OPERATOR).append(body)


def audited(replica: Replica) -> list[Mapping[str, Json]]:
    """What the audit of a region says was set aside, in order: ``stream``, ``slots``, ``whole`` and more."""
    entries = sound_entries(replica.log(AUDIT_STREAM, Role.OPERATOR))
    return [entry.body for entry in entries if entry.body.get("type") == "set_aside"]


def streams_aside(replica: Replica) -> set[str]:
    """The logs of which something was set aside. Raises ``StoreError``."""
    names = (info.name.removeprefix(ASIDE) for info in replica.store.list(ASIDE))
    return {name.rpartition("/")[0] for name in names}


def said_aside(replica: Replica, stream: str, role: Role) -> Iterator[Entry]:
    """The entries of a log that were set aside and verify by themselves, by slot. Raises ``StoreError``."""
    prefix = f"{ASIDE}{stream}/"
    log, means = replica.log(stream, role), _MEANS.get(stream, _anything)
    for name in sorted(info.name for info in replica.store.list(prefix)):
        slot, _, digest = name.removeprefix(prefix).partition("-")
        with suppress(VaultError, ValueError):
            stored = replica.store.get(name, 0, ENTRY_BYTES_MAX + 1)
            if object_name(stored) == digest:
                entry = log.said(int(slot), stored)
                if not entry.void:
                    means(entry)
                    yield entry


def say_again(replica: Replica, stream: str, role: Role) -> int:
    """Say again what was set aside of a log, can be read, and is not said in it; how many entries.

    Raises ``WrongKey`` without the role, ``Damaged``, ``StoreError``.
    """
    entries = list(said_aside(replica, stream, role))
    log = replica.log(stream, role)
    said = {canonical_json(entry.body) for entry in log.entries()} if entries else set()
    again = {canonical_json(entry.body): entry.body for entry in entries}
    for body in (body for words, body in again.items() if words not in said):
        log.append(body)
    return len(again.keys() - said)
