"""Evidence is signed by the operator's key and appended to the evidence log of every replica that is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from refloat.digest import Json, json_form
from refloat.errors import Damaged, RefloatError, UsageError
from refloat.evidence.model import Evidence
from refloat.point.select import LATEST, called
from refloat.units import format_time, parse_time
from refloat.vault.keys import Role
from refloat.vault.layout import damaged, slot_name
from refloat.vault.missed_records import EVIDENCE
from refloat.vault.replica import Replica
from refloat.vault.slotlog import Entry

STREAM = EVIDENCE


def seal(evidence: Evidence, replicas: Sequence[Replica]) -> dict[str, str | RefloatError]:
    """Append the record in each region that does not hold it yet; the entry's name, or the error, by region."""
    outcome: dict[str, str | RefloatError] = {}
    for replica in replicas:
        try:
            outcome[replica.region] = slot_name(STREAM, _sealed_in(replica, evidence))
        except RefloatError as error:
            outcome[replica.region] = error
    return outcome


def _sealed_in(replica: Replica, evidence: Evidence) -> int:
    """The slot of the record: a run that is resumed after its end tells nothing new."""
    log = replica.log(STREAM, Role.OPERATOR)
    told = evidence.run, format_time(evidence.finished_at)
    for entry in log.entries():
        if not entry.void and _told(entry) == told:
            return entry.slot
    return log.append(json_form(evidence)).slot


def _told(entry: Entry) -> tuple[Json, str]:
    finished = str(entry.body.get("finished_at"))
    with suppress(ValueError):  # what another version wrote is none that this one would write again
        finished = format_time(parse_time(finished))
    return entry.body.get("run"), finished


def records(replica: Replica) -> Iterator[Evidence]:
    """Every record of a region, each signature checked, as runs ended: one that came late stands late in the log.

    Raises ``Damaged``.
    """
    entries = [entry for entry in replica.log(STREAM, Role.OPERATOR).entries() if not entry.void]
    yield from sorted(map(_record, entries), key=lambda evidence: evidence.finished_at)


@dataclass(frozen=True)
class Unread:
    """A record that is signed, and that this version cannot read: where it stands, and what it says all the same."""

    name: str
    body: Mapping[str, Json]

    @property
    def point(self) -> str:
        """The point that it names, empty for none."""
        return str(self.body.get("point") or "")

    def may_tell_after(self, moment: datetime) -> bool:
        """Whether its run may have ended after ``moment``; one that does not say when may have."""
        try:
            return parse_time(str(self.body.get("finished_at"))) > moment
        except ValueError:
            return True


def each_record(replica: Replica) -> Iterator[Evidence | Unread]:
    """Every record of a region, each by itself, in the order of the log. Raises ``Damaged`` for the log."""
    for entry in replica.log(STREAM, Role.OPERATOR).entries():
        if not entry.void:
            try:
                yield _record(entry)
            except Damaged:
                yield Unread(slot_name(STREAM, entry.slot), entry.body)


def _record(entry: Entry) -> Evidence:
    try:
        return Evidence.model_validate(entry.body)
    except ValidationError as error:
        what = slot_name(STREAM, entry.slot)
        raise damaged(what, f"{error.error_count()} fields of the record are wrong") from error


def find(replicas: Sequence[Replica], start: str) -> Evidence:
    """The newest record of the one run whose name begins so, or of the ``latest`` recovery, wherever it is kept.

    Raises ``UsageError`` where there is none, or several begin so.
    """
    known = {record.run: record for replica in replicas for record in records(replica)}
    by_age = sorted(known, key=lambda run: known[run].started_at)
    found = called([run for run in by_age if start != LATEST or known[run].kind == "recovery"], start)
    if len(found) == 1:
        return known[found[0]]
    problem = "more than one run begins with" if found else "no evidence of a run"
    raise UsageError(f"{problem} {start!r}", next="refloat evidence list")
