"""A run's journal: every side effect announced before it happens and recorded after, in a slot log.

Order of writes, on which resuming rests:

1. ``Started`` is the first entry; it holds the whole plan, so that nothing else is needed to resume.
2. ``Intent`` is durable before its side effect begins, ``Remembered`` before the call returns.
3. ``Outcome`` is written after the side effect, so an intent without one is unknown, never done.
4. ``Finished`` is the last entry, written before the claim on the target is released.

A store has an entry whole or not at all, so a write that was cut is simply absent. One that is there and is not
what was written was damaged since, be it the last: it may have announced a side effect, so nobody goes on.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping

from pydantic import ValidationError

from refloat.clock import Clock
from refloat.digest import Json, json_form
from refloat.errors import Damaged, HoldLost, Missing, RefloatError, Retry, StoreError, VaultError
from refloat.run.state import JOURNAL_FORMAT, RECORD, AnyRecord, Finished, Held, Stamped, View, follow
from refloat.vault.slotlog import Entry, SlotLog, SlotTaken

APPEND_ATTEMPTS_MAX = 5  # with the pauses between them about three seconds of a store's absence
APPEND_PAUSE_S = 0.2  # doubled after each attempt
SAYING = frozenset({"error", "after", "detail"})  # parts of a record that say something to people
SAID = frozenset({"reason", "message", "next", "file", "why"})  # and what they say
RUNS = "runs/"
DAMAGED_NEXT = (
    "what the run did cannot be told, so it cannot go on: see what is live in the target, then begin another "
    "run: refloat recover --to REGION --override claim_damaged"
)


class Journal:
    """One run's journal, read once and then followed; safe to use from several threads.

    An entry is written to the slot after the last one known here. Losing that slot means that another
    orchestrator took over: ``HoldLost``. Once a write has failed for good nothing more is written. ``hide``
    takes the secrets out of a text: what went wrong quotes what it was given, and a journal is kept.
    """

    def __init__(self, log: SlotLog, clock: Clock, hide: Callable[[str], str] = str) -> None:
        self._log = log
        self._clock = clock
        self._hide = hide
        self._lock = threading.RLock()
        self._mark = uuid.uuid4().hex
        self._entries: list[Stamped] = []
        self._view = View()
        self._next = 0
        self._broken: RefloatError | None = None
        try:
            for entry in log.entries():
                self._take(entry)
        except VaultError as error:
            error.next = error.next if error.code == VaultError.code else DAMAGED_NEXT
            raise

    @property
    def view(self) -> View:
        """The run as the journal tells it now."""
        with self._lock:
            return self._view

    @property
    def broken(self) -> RefloatError | None:
        """Why nothing can be written any more; None while it can."""
        return self._broken

    def read(self) -> list[Stamped]:
        """Every record so far, in order, with its slot and time."""
        with self._lock:
            return list(self._entries)

    def append(self, record: AnyRecord) -> View:
        """Write ``record`` and return the view after it.

        Raises ``HoldLost`` when another orchestrator has written the slot, ``StoreError`` when the store
        does not take it; whether it landed is then settled by the next orchestrator's reading.
        """
        with self._lock:
            if self._broken is not None:
                raise self._broken
            try:
                self._take(self._write(self._body(record)))
            except RefloatError as error:
                self._broken = error
                raise
            return self._view

    def take_over(self, record: Held) -> View:
        """Write the record of a new holder after everything its predecessor still wrote meanwhile.

        Only for one that has won the claim on the target. Raises ``HoldLost`` when others write faster.
        """
        with self._lock:
            body = self._body(record)
            for _ in range(APPEND_ATTEMPTS_MAX):
                for entry in self._log.entries(self._next):
                    self._take(entry)
                try:
                    self._take(self._log.append_at(self._next, body))
                except SlotTaken:
                    continue
                return self._view
        raise HoldLost("another orchestrator goes on writing this run's journal", next="try again")

    def _body(self, record: AnyRecord) -> Mapping[str, Json]:
        told = {name: self._hidden(name, value) for name, value in json_form(record).items()}
        return {"record": told, "by": self._mark}

    def _hidden(self, name: str, value: Json) -> Json:
        """A part of a record without secrets in what it says to people; by the rest a run is resumed."""
        if name in SAID and isinstance(value, str):
            return self._hide(value)
        if name in SAYING and isinstance(value, Mapping):
            return {key: self._hidden(key, below) for key, below in value.items()}
        return value

    def _take(self, entry: Entry) -> None:
        """Follow an entry; of one that a removed operator signed nothing counts but that its slot is taken."""
        self._next = entry.slot + 1
        if entry.void:
            return
        stamped = Stamped(entry.slot, entry.time, _parsed(entry))
        self._entries.append(stamped)
        self._view = follow(self._view, stamped)

    def _write(self, body: Mapping[str, Json]) -> Entry:
        pause_s = APPEND_PAUSE_S
        for attempt in range(1, APPEND_ATTEMPTS_MAX + 1):
            try:
                return self._log.append_at(self._next, body)
            except SlotTaken as taken:
                return self._own(taken)
            except StoreError as error:
                if error.retry is Retry.NEVER or attempt == APPEND_ATTEMPTS_MAX:
                    raise
            self._clock.sleep(pause_s)
            pause_s *= 2
        raise AssertionError("unreachable")

    def _own(self, taken: SlotTaken) -> Entry:
        """The entry in the slot if an earlier attempt of ours landed unnoticed; ``HoldLost`` if not."""
        try:
            entry = self._log.read(self._next)
        except Missing:
            entry = None
        if entry is not None and entry.body.get("by") == self._mark:
            return entry
        raise HoldLost(
            "another orchestrator has taken over this run; this one stops",
            next=f"follow the run with `refloat run show {self._log.stream.removeprefix(RUNS)} --to REGION`",
        ) from taken


def is_over(entry: Entry) -> bool:
    """Whether an entry of a journal says that its run is over. Raises ``VaultError`` for one that is no record."""
    return not entry.void and isinstance(_parsed(entry), Finished)


def _parsed(entry: Entry) -> AnyRecord:
    """The record in an entry. Raises ``VaultError`` for one of a newer refloat, ``Damaged`` for no record."""
    record = entry.body.get("record")
    if not isinstance(record, Mapping):
        raise Damaged(f"slot {entry.slot} of the journal holds no record", next="refloat vault check")
    written = record.get("format", JOURNAL_FORMAT)
    if isinstance(written, int) and written > JOURNAL_FORMAT:
        raise VaultError(
            f"the journal has format {written}, this refloat reads up to {JOURNAL_FORMAT}",
            next="resume with the refloat that began the run, or a newer one",
        )
    try:
        return RECORD.validate_python(dict(record))
    except ValidationError as error:
        raise Damaged(
            f"slot {entry.slot} of the journal is no record: {error.error_count()} of its fields are wrong",
            next="resume with the refloat that began the run, or a newer one",
        ) from error
