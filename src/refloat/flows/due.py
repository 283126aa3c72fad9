"""Protect on a schedule: look at what the vault holds, and decide what is due; ``protect`` then captures just that."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from refloat.clock import Clock
from refloat.digest import Json
from refloat.errors import StoreError, VaultError
from refloat.flows import points
from refloat.flows.protect import Protected, captured_of, previous_of
from refloat.manifest import graph
from refloat.manifest.model import Manifest
from refloat.point import due as schedule
from refloat.point.due import Due, Known, Unit
from refloat.units import format_time
from refloat.vault.vault import Vault


@dataclass(frozen=True)
class Kept:
    """What came of one look at the schedule.

    ``made`` is None where nothing was due, or another protect was at work on this machine. ``next_at`` is when the
    next unit will be due, as far as is known by now.
    """

    found: Due
    made: Protected | None
    next_at: datetime | None
    at_work: bool

    @property
    def ok(self) -> bool:
        """Whether nothing had to be done, or it succeeded."""
        return self.made is None or self.made.ok

    def document(self) -> dict[str, Json]:
        """The JSON document of `protect --due`."""
        return {
            "at_work": self.at_work,
            "units": [
                {
                    "components": list(unit.members),
                    "every_s": unit.every_s,
                    "due": unit.why is not None,
                    "why": str(unit.why) if unit.why else None,
                    "due_at": format_time(unit.at) if unit.at else None,
                }
                for unit in self.found.units
            ],
            "next_at": format_time(self.next_at) if self.next_at else None,
            "protect": self.made.document() if self.made else None,
        }


def kept(manifest: Manifest, found: Due, made: Protected | None, *, at_work: bool = False) -> Kept:
    """What is told once a point was ``made`` of what was due, or none."""
    if made is None:
        return Kept(found, None, found.next_at, at_work)
    known = Known({name: snapshot.as_of for name, snapshot in made.point.components.items()})
    after = schedule.due(units(manifest), known, made.point.created_at)
    return Kept(found, made, min((unit.at for unit in after.units if unit.at), default=None), at_work)


def look(manifest: Manifest, vault: Vault, clock: Clock, region: str | None = None) -> Due:
    """What is due of a pipeline that runs in ``region`` (the primary), as far as the regions that answer tell.

    Raises ``Refused`` (rule ``primary_moved``) and ``UsageError`` as ``protect`` does.
    """
    return schedule.due(units(manifest), _known(manifest, vault, region), clock.now())


def units(manifest: Manifest) -> list[Unit]:
    """The units of capture, each at its fastest member's cadence."""
    return [
        Unit(
            members=members,
            every_s=min(manifest.cadence_s(name) for name in members),
            rpo_s={name: manifest.tier(name).rpo for name in members},
        )
        for members in graph.units(manifest)
    ]


def _known(manifest: Manifest, vault: Vault, region: str | None) -> Known:
    runs_in, previous = previous_of(list(vault.replicas.values()), manifest, region)
    if previous is None:
        return Known()
    newest = {name: snapshot.as_of for name, snapshot in captured_of(previous, manifest).items()}
    others = _others(manifest, vault, runs_in)
    behind = {name: held for name, held in others.items() if held != newest}
    return Known(newest, behind, elsewhere=len(behind) < len(others))


def _others(manifest: Manifest, vault: Vault, runs_in: str) -> dict[str, dict[str, datetime]]:
    """What the newest point of every other region that can be read holds: the ``as_of`` of each component."""
    found: dict[str, dict[str, datetime]] = {}
    for name, replica in vault.replicas.items():
        if name == runs_in:
            continue
        try:
            last = points.newest([replica])
            held = captured_of(last[1], manifest) if last else {}
        except (StoreError, VaultError):
            continue  # whoever protects is told of it, and a region that cannot be read can hold no more
        found[name] = {component: snapshot.as_of for component, snapshot in held.items()}
    return found
