"""Status: what each region holds, and what losing each of them now would cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from refloat.clock import Clock
from refloat.digest import Json
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
    """Read every replica's newest consistent point and say what each loss would cost."""
    newest = {name: _newest_consistent(replica) for name, replica in vault.replicas.items()}
    held = [Held(name, _as_of(newest[name]) if name in newest else None) for name in manifest.regions]
    now = clock.now()
    return Status(
        pipeline=manifest.pipeline,
        regions={name: _region(name, vault) for name in manifest.regions},
        components={name: _component(name, manifest, held, now) for name in manifest.components},
    )


def _component(name: str, manifest: Manifest, held: list[Held], now: datetime) -> ComponentStatus:
    objective_s = manifest.tier(name).rpo
    copies = [place.as_of[name] for place in held if place.as_of is not None and name in place.as_of]
    return ComponentStatus(
        tier=str(manifest.components[name].tier),
        rpo_objective_s=objective_s,
        as_of=max(copies, default=None),
        exposure={
            lost: exposure(name, lost, manifest.primary, held, now, objective_s) for lost in manifest.regions
        },
    )


def _region(name: str, vault: Vault) -> dict[str, Json]:
    replica = vault.replicas.get(name)
    if replica is None:
        return {"reachable": False, "head": None, "error": vault.unreachable[name].message}
    return {"reachable": True, "head": replica.head()}


def _newest_consistent(replica: Replica) -> Point | None:
    for committed in reversed(replica.points()):
        if points.candidate(committed).grade is not Grade.BROKEN:
            return points.read(replica, committed.name)
    return None


def _as_of(point: Point | None) -> dict[str, datetime]:
    return {name: snapshot.as_of for name, snapshot in point.components.items()} if point else {}
