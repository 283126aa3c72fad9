"""Accept: a person has looked at a suspect point and says that it is good; on record, in every region that lists it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from refloat.digest import Json
from refloat.errors import RefloatError, UsageError
from refloat.flows.suspects import suspects
from refloat.vault.forgotten import forgotten, write_accepted
from refloat.vault.keys import Role
from refloat.vault.vault import Vault

BECAUSE_MAX = 1000  # characters: a sentence or two, and the entry fits a slot


@dataclass(frozen=True)
class Accepted:
    """The point, why it was suspect by component, the regions that were told, and those that do not answer."""

    point: str
    because: str
    suspect: Mapping[str, Collection[str]]
    regions: tuple[str, ...]
    silent: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every region was told. What one says counts, but it may be lost."""
        return not self.silent

    def document(self) -> dict[str, Json]:
        """The JSON document of ``points accept``."""
        return {
            "point": self.point,
            "because": self.because,
            "suspect": {component: list(why) for component, why in self.suspect.items()},
            "regions": list(self.regions),
        }


def accept(vault: Vault, point: str, because: str) -> Accepted:
    """Say that ``point`` is good. Regions that list it are told one after the other; begun anew, it tells the rest.

    Raises ``UsageError`` where it is not suspect or no reason is given, ``WrongKey`` without the admin's role, and the
    error of a region whose logs cannot be read.
    """
    if not because.strip() or len(because) > BECAUSE_MAX:
        raise UsageError(
            f"--because takes a reason of 1 to {BECAUSE_MAX} characters", next="say what you looked at"
        )
    replicas = list(vault.replicas.values())
    for replica in replicas:
        replica.keyring.signer(Role.ADMIN)
    logs = {replica.region: (replica.points(), forgotten(replica)) for replica in replicas}
    listing = {region for region, (log, _) in logs.items() if any(known.name == point for known in log)}
    told = {region for region, (_, said) in logs.items() if point in said.good}
    suspect = suspects(replicas).get(point, {})
    if not suspect and not told & listing:
        raise UsageError(
            f"the point {point[:12]} is not suspect, there is nothing to accept", next="refloat points list"
        )
    for region in sorted(listing - told):
        log, said = logs[region]
        try:
            write_accepted(vault.replicas[region], said.next_slot, point, because, seen=log[-1].slot)
        except RefloatError as error:
            raise error.at(region=region) from error.__cause__
    return Accepted(point, because, suspect, tuple(sorted(listing)), tuple(sorted(vault.unreachable)))
