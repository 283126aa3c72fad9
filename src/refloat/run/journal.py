"""A run's journal: every side effect announced before it happens and recorded after, in a slot log.

Order of writes, on which resuming rests:

1. ``Started`` is the first entry; it holds the whole plan, so that nothing else is needed to resume.
2. ``Intent`` is durable before its side effect begins, ``Remembered`` before the call returns.
3. ``Outcome`` is written after the side effect, so an intent without one is unknown, never done.
4. ``Finished`` is the last entry, written before the claim on the target is released.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping

from pydantic import ValidationError

from refloat.clock import Clock
from refloat.digest import Json
from refloat.errors import Damaged, HoldLost, Missing, RefloatError, Retry, StoreError, VaultError
from refloat.run.state import JOURNAL_FORMAT, RECORD, AnyRecord, Held, Stamped, View, follow
from refloat.vault.slotlog import Entry, SlotLog, SlotTaken

APPEND_ATTEMPTS_MAX = 5  # with the pauses between them about three seconds of a store's absence
APPEND_PAUSE_S = 0.2  # doubled after each attempt


class Journal:
    """One run's journal, read once and then followed; safe to use from several threads.

    An entry is written to the slot after the last one known here. Losing that slot means that another
    orchestrator took over: ``HoldLost``. Once a write has failed for good nothing more is written.
    """

    def __init__(self, log: SlotLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.RLock()
        self._mark = uuid.uuid4().hex
        self._entries: list[Stamped] = []
        self._view = View()
        self._next = 0
        self._broken: RefloatError | None = None
        for entry in log.entries():
            self._take(entry)

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
        return {"record": record.model_dump(mode="json"), "by": self._mark}

    def _take(self, entry: Entry) -> None:
        stamped = Stamped(entry.slot, entry.time, _parsed(entry))
        self._entries.append(stamped)
        self._view = follow(self._view, stamped)
        self._next = entry.slot + 1

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
            next="follow the run with `refloat run show RUN --to REGION`",
        ) from taken


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
