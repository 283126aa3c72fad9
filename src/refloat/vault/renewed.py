"""A region's log of points that was lost with its region begins anew, and its admin says what was seen of the old one.

The log ``renewed`` of that region, signed by the admin:

    {"seen": [hash of an entry, ...]}

Without it a log that begins anew is contradicted by every other region and key file that saw the old one, as one that
was rolled back is. Only an empty log is begun anew, and only beside another region's whole one: then there is nothing
old in it that could pass for the newest, and whoever can only write to a store can say nothing of the kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from refloat.digest import Json
from refloat.errors import StoreError, VaultError
from refloat.vault.keys import Role
from refloat.vault.layout import RENEWED_STREAM
from refloat.vault.replica import Replica

SEEN_MAX = 40_000  # hashes of one entry, so that it fits a slot; of more the last ones
"""See ``slotlog.ENTRY_BYTES_MAX``: a hash takes about 90 bytes sealed."""


def renewed_hashes(replica: Replica) -> frozenset[str]:
    """The entries of a log that is gone, as far as the admin says so; up to the first damage."""
    found: set[str] = set()
    with suppress(VaultError, StoreError):
        for entry in replica.log(RENEWED_STREAM, Role.ADMIN).entries():
            seen = entry.body.get("seen")
            if isinstance(seen, list):
                found.update(hash for hash in seen if isinstance(hash, str))
    return frozenset(found)


def write_renewed(replica: Replica, hashes: Sequence[str]) -> None:
    """Say that these entries were of a log that is gone. Raises ``WrongKey`` without the admin's role."""
    seen: list[Json] = list(hashes[-SEEN_MAX:])
    replica.log(RENEWED_STREAM, Role.ADMIN).append({"seen": seen})
