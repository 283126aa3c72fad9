"""Status: what each region holds, and what losing each of them now would cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

from refloat.clock import Clock
from refloat.digest import Json
from refloat.errors import ManifestError, Missing, RefloatError, StoreError, VaultError, most_hopeful
from refloat.flows import baselines, newer, points
from refloat.flows.baselines import Doubts, doubts_of
from refloat.flows.suspects import Judged, judged
from refloat.manifest.model import Manifest
from refloat.point.exposure import Exposure, Held, State, exposure, worst
from refloat.point.model import Grade, Point
from refloat.units import format_time
from refloat.vault.forgotten import kept_points
from refloat.vault.layout import point_name
from refloat.vault.lock import locked_until
from refloat.vault.replica import CommittedPoint, Replica
from refloat.vault.vault import Vault
from refloat.vault.witness import not_recoverable


@dataclass(frozen=True)
class ComponentStatus:
    """One component: where it stands against its objective, for each region that could be lost.

    ``suspect`` holds why the newest point of all does not count for it.
    """

    tier: str
    rpo_objective_s: float
    as_of: datetime | None
    exposure: Mapping[str, Exposure]
    suspect: tuple[str, ...] = ()

    @property
    def state(self) -> State:
        """The worst over all losses; a person should hear of a suspicion as well."""
        heard: list[State] = ["warn"] if self.suspect else []
        return worst([*heard, *(loss.state for loss in self.exposure.values())])

    @property
    def inside(self) -> bool:
        """Whether it keeps to its objective, whichever region is lost; where there is only one, by its age."""
        alone = len(self.exposure) == 1
        return all(self._is_kept(loss, alone=alone) for loss in self.exposure.values())

    def _is_kept(self, loss: Exposure, *, alone: bool) -> bool:
        if alone and loss.state == "unprotected":
            return loss.seconds is not None and loss.seconds <= self.rpo_objective_s
        return loss.state in ("ok", "warn")


@dataclass(frozen=True)
class Newest:
    """The newest point that any region lists, whether a recovery would take it or not.

    ``grade`` is what it is found to be now; ``doubts`` is what could not be verified if it were recovered now.
    """

    name: str
    point: Point
    grade: Grade
    suspect: Mapping[str, tuple[str, ...]]
    doubts: Doubts

    @property
    def sound(self) -> bool:
        """Whether it is consistent, whole, and could be verified."""
        return self.grade.consistent and not (self.suspect or self.point.not_captured or self.doubts)

    def document(self) -> dict[str, Json]:
        """What `status` prints of it."""
        return {
            "point": self.name,
            "created_at": format_time(self.point.created_at),
            "grade": str(self.grade),
            "not_captured": dict(self.point.not_captured),
            "unverifiable": baselines.document(self.doubts),
        }


@dataclass(frozen=True)
class Status:
    """A pipeline's protection at one moment."""

    pipeline: str
    runs_in: str
    regions: Mapping[str, Mapping[str, Json]]
    components: Mapping[str, ComponentStatus]
    newest: Newest | None
    behind: Mapping[str, newer.Behind] = field(default_factory=dict)
    """The regions that lack a newer point for longer than it takes to arrive."""
    unknown: Mapping[str, RefloatError] = field(default_factory=dict)
    """The regions of which nobody can tell whether they lack a newer point: why."""

    @property
    def well(self) -> bool:
        """Whether every region answers and has the newest point, which is sound, and every component its objective."""
        kept = all(component.inside for component in self.components.values())
        return (
            self.all_told
            and not (self.behind or self.unknown)
            and kept
            and self.newest is not None
            and self.newest.sound
        )

    @property
    def all_told(self) -> bool:
        """Whether every region of the manifest answered, and its log could be read."""
        return not any("error" in region for region in self.regions.values())

    def exposure(self, lost: str) -> tuple[float | None, str]:
        """The worst over components of losing a region: seconds, and which one it is and why.

        None is all of it, or not known. A component that no other region holds is worse than any age, and
        its seconds are the age of what would be lost with the region.
        """
        losses = {name: component.exposure[lost] for name, component in self.components.items()}
        name = max(losses, key=lambda n: _badness(losses[n]))
        return losses[name].seconds, f"{name}: {losses[name].reason}"

    def document(self) -> dict[str, Json]:
        """The JSON document of `status`."""
        lost = {region: self.exposure(region) for region in self.regions}
        return {
            "pipeline": self.pipeline,
            "well": self.well,
            "runs_in": self.runs_in,
            "newest": self.newest.document() if self.newest else None,
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
                    "suspect": list(component.suspect),
                }
                for name, component in self.components.items()
            },
        }


def status(manifest: Manifest, vault: Vault, clock: Clock) -> Status:
    """Read every replica's newest point that a recovery would choose and say what each loss would cost.

    The pipeline runs where the newest point was made, which after a recovery need not be the primary. A
    region whose log or newest point is damaged, or whose log was rolled back, cannot be counted on, like one that does
    not answer.
    """
    newest: dict[str, Point | None] = {}
    last: list[CommittedPoint] = []
    known = judged(list(vault.replicas.values()))
    errors: dict[str, RefloatError] = dict(vault.unreachable)
    for name, replica in vault.replicas.items():
        try:
            kept = [point for point in kept_points(replica) if point.name not in known.malformed]
            newest[name] = _newest_good(replica, kept, known)
            last.extend(kept[-1:])
        except (VaultError, StoreError) as error:
            errors[name] = error
    if not newest:
        raise most_hopeful(errors.values())
    sound = [replica for name, replica in vault.replicas.items() if name not in errors]
    errors |= not_recoverable(sound)
    unknown: dict[str, RefloatError] = {}
    behind = newer.late([replica for replica in sound if replica.region not in errors], unknown)
    counts = newest.keys() - errors.keys()
    held = [Held(name, _as_of(newest[name]) if name in counts else None) for name in manifest.regions]
    runs_in = _runs_in(manifest, newest.values())
    now = clock.now()
    made_last = max(last, key=lambda point: point.created_at, default=None)
    suspect = known.suspects.get(made_last.name, {}) if made_last else {}
    return Status(
        pipeline=manifest.pipeline,
        runs_in=runs_in,
        regions={
            name: _region(name, vault, errors, behind.get(name), unknown.get(name))
            for name in manifest.regions
        },
        components={
            name: replace(_component(name, manifest, runs_in, held, now), suspect=suspect.get(name, ()))
            for name in manifest.components
        },
        newest=_newest(made_last, known, sound, manifest) if made_last else None,
        behind=behind,
        unknown=unknown,
    )


def _newest(
    committed: CommittedPoint, known: Judged, replicas: Sequence[Replica], manifest: Manifest
) -> Newest | None:
    """What is known of a point; None where no region that answers holds its body."""
    holder = next((r for r in replicas if any(p.name == committed.name for p in r.points())), None)
    if holder is None:
        return None
    body = known.bodies.get(committed.name) or points.read(holder, committed.name)
    (now,) = known.graded_now([points.candidate(committed)], [holder])
    return Newest(
        name=committed.name,
        point=body,
        grade=now.grade,
        suspect=known.suspects.get(committed.name, {}),
        doubts=_doubts(holder, body, replicas, manifest),
    )


def _doubts(holder: Replica, body: Point, replicas: Sequence[Replica], manifest: Manifest) -> Doubts:
    """What could not be verified: all of it where what the point carries for that cannot be read."""
    try:
        return doubts_of(holder, body, replicas)
    except (VaultError, StoreError, ManifestError) as error:
        return {name: dict.fromkeys(asked.bounds, error.message) for name, asked in manifest.verify.items()}


def _badness(loss: Exposure) -> tuple[bool, bool, float]:
    return loss.seconds is None, loss.state == "unprotected", loss.seconds or 0.0


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


def _region(
    name: str,
    vault: Vault,
    errors: Mapping[str, RefloatError],
    behind: newer.Behind | None,
    unknown: RefloatError | None,
) -> dict[str, Json]:
    replica, error = vault.replicas.get(name), errors.get(name)
    if replica is None or error is not None:
        message = error.told if error is not None else "it is not part of this vault"
        return {"reachable": replica is not None, "head": None, "error": message}
    late: dict[str, Json] = {} if behind is None else {"behind": behind.document()}
    late |= {} if unknown is None else {"unknown": unknown.told}
    return {"reachable": True, "head": replica.head(), **_lock(replica), **late}


def _lock(replica: Replica) -> dict[str, Json]:
    """For how long the region locks its points, and until when its newest one is locked, as its body is."""
    term, newest = replica.keyring.lock, replica.last_point()
    body = None if newest is None else point_name(newest.name)
    until = None
    if body and term:
        with suppress(Missing):
            until = locked_until(replica.store, [body]).get(body)
    return {
        "lock_s": int(term.total_seconds()) if term else 0,
        "locked_until": format_time(until) if until else None,
        "lock_lapsed": bool(body and term) and (until is None or until <= replica.clock.now()),
    }


def _newest_good(replica: Replica, kept: Sequence[CommittedPoint], known: Judged) -> Point | None:
    candidates = known.graded_now([points.candidate(committed) for committed in kept], [replica])
    good = [candidate for candidate in candidates if candidate.grade.consistent and not candidate.suspect]
    return points.read(replica, good[-1].name) if good else None


def _as_of(point: Point | None) -> dict[str, datetime]:
    return {name: snapshot.as_of for name, snapshot in point.components.items()} if point else {}
