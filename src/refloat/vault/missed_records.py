"""Records that a region missed are said there, too: the baselines, and the evidence of runs.

A region's logs are its own and are never copied. What an operator signed in one of them while another region did not
answer is signed anew there by whoever copies it, which takes an operator's key. What holds:

1. a record is copied only where its entry verifies, and counts: what somebody signed who was removed is left behind;
2. records are told apart by what they say, so that copying them again changes nothing;
3. one that comes late stands after newer ones: readers go by the times that records tell, never by their order.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from refloat.digest import Json, canonical_json
from refloat.errors import VaultError
from refloat.vault.keys import Role
from refloat.vault.replica import Replica

BASELINES = "baselines"
EVIDENCE = "evidence"
STREAMS = (BASELINES, EVIDENCE)
"""The logs whose records every region should have."""


def are_as_many(replicas: Sequence[Replica]) -> bool:
    """Whether each region has as many records as the others: a few small requests, where reading all takes many."""
    counts = {
        tuple(replica.log(stream, Role.OPERATOR).last_slot() for stream in STREAMS) for replica in replicas
    }
    return len(counts) <= 1


def records_alone(replica: Replica, others: Sequence[Replica]) -> dict[str, int]:
    """By log, how many records of a region none of the others has."""
    return {
        stream: len(_bodies(replica, stream).keys() - set().union(*(_bodies(one, stream) for one in others)))
        for stream in STREAMS
    }


def make_up_records(replicas: Sequence[Replica], targets: Collection[str] | None = None) -> dict[str, int]:
    """Sign in each region, or in the ``targets``, the records that only others have; how many, by region.

    Nothing is done without the operator's role, nor in a log that is damaged. Raises ``StoreError``.
    """
    made = dict.fromkeys((replica.region for replica in replicas), 0)
    for stream in STREAMS:
        known = {replica.region: _bodies(replica, stream) for replica in replicas}
        everything = {said: body for of in known.values() for said, body in of.items()}
        for replica in replicas:
            if targets is not None and replica.region not in targets:
                continue
            if not replica.keyring.can(Role.OPERATOR):
                continue
            log = replica.log(stream, Role.OPERATOR)
            with suppress(VaultError):
                for body in (body for said, body in everything.items() if said not in known[replica.region]):
                    log.append(body)
                    made[replica.region] += 1
    return made


def _bodies(replica: Replica, stream: str) -> dict[bytes, Mapping[str, Json]]:
    """What the records of a log say, up to the first damage."""
    found: dict[bytes, Mapping[str, Json]] = {}
    with suppress(VaultError):
        for entry in replica.log(stream, Role.OPERATOR).entries():
            if not entry.void:
                found[canonical_json(entry.body)] = entry.body
    return found
