"""What a prune has marked: objects that no point needs, and since when. No writer that begins later relies on one.

The log ``prune`` of each region, signed by the admin. Its last entry says all that is marked:

    {"marked": {object name: time, ...}}
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from refloat.digest import Json
from refloat.errors import VaultError
from refloat.units import format_time, parse_time
from refloat.vault.keys import Role
from refloat.vault.layout import PRUNE_STREAM, damaged, slot_name
from refloat.vault.slotlog import Entry, SlotLog

if TYPE_CHECKING:
    from refloat.vault.replica import Replica

MARKS_MAX = 20_000  # of one region at a time, so that the entry fits a slot; the next prune goes on
"""See ``slotlog.ENTRY_BYTES_MAX``: a name and a time take about 140 bytes sealed."""


def prune_log(replica: Replica) -> SlotLog:
    """The log that marks stand in. Writing to it takes the admin's role."""
    return replica.log(PRUNE_STREAM, Role.ADMIN)


def marks(replica: Replica) -> tuple[int, dict[str, datetime]]:
    """The slot that the next marks go to, and what is marked since when. Raises ``Damaged``, ``StoreError``."""
    head = prune_log(replica).head()
    return (0, {}) if head is None else (head.slot + 1, _marked(head))


def marked_objects(replica: Replica) -> frozenset[str]:
    """The names of objects that a writer does not rely on. Raises ``StoreError``.

    Behind damage in the log nobody removes anything, so nothing is marked then.
    """
    try:
        return frozenset(marks(replica)[1])
    except VaultError:
        return frozenset()


def write_marks(replica: Replica, slot: int, marked: Mapping[str, datetime]) -> None:
    """Say what is marked from now on. Raises ``SlotTaken`` where somebody else has since."""
    told: dict[str, Json] = {name: format_time(since) for name, since in sorted(marked.items())}
    prune_log(replica).append_at(slot, {"marked": told})


def _marked(entry: Entry) -> dict[str, datetime]:
    try:
        told = entry.body["marked"]
        if not isinstance(told, dict):
            raise ValueError("it holds no marks")
        return {name: parse_time(str(since)) for name, since in told.items()}
    except (KeyError, ValueError) as error:
        raise damaged(slot_name(PRUNE_STREAM, entry.slot), "it does not say what is marked") from error
