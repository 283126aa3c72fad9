"""Evidence is signed by the operator's key and appended to the evidence log of every replica that is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from refloat.errors import RefloatError
from refloat.evidence.model import Evidence
from refloat.vault.keys import Role
from refloat.vault.replica import Replica

STREAM = "evidence"


def seal(evidence: Evidence, replicas: Sequence[Replica]) -> dict[str, str | RefloatError]:
    """Append the record in each region; the entry's name, or the error, by region."""
    body = evidence.model_dump(mode="json")
    outcome: dict[str, str | RefloatError] = {}
    for replica in replicas:
        try:
            entry = replica.log(STREAM, Role.OPERATOR).append(body)
            outcome[replica.region] = f"log/{STREAM}/{entry.slot:016d}"
        except RefloatError as error:
            outcome[replica.region] = error
    return outcome


def records(replica: Replica) -> Iterator[Evidence]:
    """Every record of a region, oldest first, each signature checked. Raises ``Damaged``."""
    for entry in replica.log(STREAM, Role.OPERATOR).entries():
        yield Evidence.model_validate(entry.body)


def find(replica: Replica, run: str) -> Evidence | None:
    """The newest record of a run in a region."""
    found = [evidence for evidence in records(replica) if evidence.run.startswith(run)]
    return found[-1] if found else None
