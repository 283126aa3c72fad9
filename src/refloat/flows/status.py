"""Status: what each region holds, and what losing each of them now would cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from refloat.clock import Clock
from refloat.digest import Json
from refloat.errors import RefloatError, StoreError, VaultError
from refloat.flows import points
from refloat.manifest.model import Manifest
from refloat.point.exposure import Exposure, Held, State, exposure, worst
from refloat.point.model import Grade, Point
from refloat.units import format_time
from refloat.vault.replica import Replica
from refloat.vault.vault import Vault


@dataclass(frozen=True)
class ComponentStatus:
    """One component: where it stands against its objective, for each region that could be lost."""

    tier: str
    rpo_objective_s: float
    as_of: datetime | None
    exposure: Mapping[str, Exposure]

    @property
    def state(self) -> State:
        """The worst over all losses."""
        return worst([loss.state for loss in self.exposure.values()])


@dataclass(frozen=True)
class Status:
    """A pipeline's protection at one moment."""

    pipeline: str
    runs_in: str
    regions: Mapping[str, Mapping[str, Json]]
    components: Mapping[str, ComponentStatus]

    def exposure(self, lost: str) -> tuple[float | None, str]:
        """The worst over components of losing a region: seconds (None: all of it) and which one it is."""
        losses = {name: component.exposure[lost] for name, component in self.components.items()}
        name = max(losses, key=lambda n: (losses[n].seconds is None, losses[n].seconds or 0.0))
        return losses[name].seconds, f"{name}: {losses[name].reason}"

    def document(self) -> dict[str, Json]:
        """The JSON document of `status`."""
        lost = {region: self.exposure(region) for region in self.regions}
        return {
            "pipeline": self.pipeline,
            "runs_in": self.runs_in,
            "regions": dict(self.regions),
            "exposure": {name: {"seconds": seconds, "reason": why} for name, (seconds, why) in lost.items()},
            "components": {
                name: {
                    "tier": component.tier,
                    "rpo_objective_s": component.rpo_objective_s,
                    "as_of": format_time(component.as_of) if component.as_of else None,
                    "exposure": {
                        region: {"seconds": loss.seconds, "reason": loss.reason}
                        for region, loss in component.exposure.items()
                    },
                    "state": component.state,
                }
                for name, component in self.components.items()
            },
        }


def status(manifest: Manifest, vault: Vault, clock: Clock) -> Status:
    """Read every replica's newest consistent point and say what each loss would cost.

    The pipeline runs where the newest point was made, which after a recovery need not be the primary. A
    region whose log or newest point is damaged cannot be counted on, like one that does not answer.
    """
    newest: dict[str, Point | None] = {}
    errors: dict[str, RefloatError] = dict(vault.unreachable)
    for name, replica in vault.replicas.items():
        try:
            newest[name] = _newest_consistent(replica)
        except (VaultError, StoreError) as error:
            errors[name] = error
    if not newest:
        raise next(iter(errors.values()))
    held = [Held(name, _as_of(newest[name]) if name in newest else None) for name in manifest.regions]
    runs_in = _runs_in(manifest, newest.values())
    now = clock.now()
    return Status(
        pipeline=manifest.pipeline,
        runs_in=runs_in,
        regions={name: _region(name, vault, errors) for name in manifest.regions},
        components={name: _component(name, manifest, runs_in, held, now) for name in manifest.components},
    )


def _runs_in(manifest: Manifest, newest: Iterable[Point | None]) -> str:
    points = [point for point in newest if point is not None and point.primary in manifest.regions]
    return max(points, key=lambda point: point.created_at).primary if points else manifest.primary


def _component(
    name: str, manifest: Manifest, runs_in: str, held: list[Held], now: datetime
) -> ComponentStatus:
    objective_s = manifest.tier(name).rpo
    copies = [place.as_of[name] for place in held if place.as_of is not None and name in place.as_of]
    return ComponentStatus(
        tier=str(manifest.components[name].tier),
        rpo_objective_s=objective_s,
        as_of=max(copies, default=None),
        exposure={lost: exposure(name, lost, runs_in, held, now, objective_s) for lost in manifest.regions},
    )


def _region(name: str, vault: Vault, errors: Mapping[str, RefloatError]) -> dict[str, Json]:
    replica, error = vault.replicas.get(name), errors.get(name)
    if replica is None or error is not None:
        message = error.message if error is not None else "it is not part of this vault"
        return {"reachable": replica is not None, "head": None, "error": message}
    return {"reachable": True, "head": replica.head()}


def _newest_consistent(replica: Replica) -> Point | None:
    for committed in reversed(replica.points()):
        if points.candidate(committed).grade is not Grade.BROKEN:
            return points.read(replica, committed.name)
    return None


def _as_of(point: Point | None) -> dict[str, datetime]:
    return {name: snapshot.as_of for name, snapshot in point.components.items()} if point else {}
