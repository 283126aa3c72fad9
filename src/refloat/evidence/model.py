"""The record of a run: objectives against results, what was checked, and what was not done."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from refloat.contracts import Layer
from refloat.digest import Json, json_form
from refloat.plan.model import Basis
from refloat.point.model import GroupRecord
from refloat.units import format_time
from refloat.verification.model import Check, Measurement


class Value(BaseModel):
    """The base of what evidence is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Rto(Value):
    """Time to recover: to the moment verification passed, from the moment that ``since`` names.

    In JSON that key is ``from``, which Python keeps for itself.
    """

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    seconds: float | None
    objective_s: float
    since: Literal["declared", "detected", "run_start"] = Field(alias="from")


class Rpo(Value):
    """What was lost of a component, in seconds before the disaster; ``basis`` says how that is known."""

    seconds: float | None
    objective_s: float
    basis: str


class ComponentResult(Value):
    """One component's objectives and what was achieved."""

    kind: str
    layer: Layer
    tier: str
    rto: Rto
    rpo: Rpo
    bytes: int
    files: int
    set_aside: tuple[str, ...] = Field(default=(), description="where lies what somebody else had put there")


class StepResult(Value):
    """One step of the run."""

    id: str
    phase: str
    component: str | None
    result: str
    started_s: float = Field(description="seconds after the start of the run")
    seconds: float
    attempts: int
    estimate_p50_s: float | None = None
    estimate_p95_s: float | None = None
    estimate_basis: Basis | None = None
    observed: bool = Field(
        default=False, description="found done by who went on with the run: nobody timed it"
    )
    error: str = ""


class Foreseen(Value):
    """What was expected when the run began, of the time until users are let in, and how far off that was.

    ``seconds`` is what that took from the start of the run; None where not all was done, or not in one sitting.
    ``of_p50`` is how many times the p50 that is, ``inside`` whether no longer than the p95.
    """

    p50_s: float
    p95_s: float
    rests_on: Mapping[Basis, float] = Field(description="seconds of the critical path")
    seconds: float | None = None
    of_p50: float | None = None
    inside: bool | None = None

    def against(self, seconds: float) -> Foreseen:
        """The same, held against what came."""
        of_p50 = round(seconds / self.p50_s, 3) if self.p50_s else None
        return self.model_copy(
            update={"seconds": round(seconds, 3), "of_p50": of_p50, "inside": seconds <= self.p95_s}
        )


class Evidence(Value):
    """What happened in one run, signed by the operator's key and kept in every replica that is left."""

    format: int = 1
    kind: Literal["recovery", "drill"]
    pipeline: str
    run: str
    state: str
    flags: tuple[str, ...] = ()
    point: str
    point_created_at: datetime
    source: str
    to: str
    profile: str
    started_at: datetime
    finished_at: datetime
    declared_at: datetime | None
    rto: Rto
    foreseen: Foreseen | None = None
    components: Mapping[str, ComponentResult]
    groups: Mapping[str, GroupRecord]
    verified: bool | None
    checks: tuple[Check, ...]
    baseline_region: str | None = None
    measurements: Mapping[str, Measurement] = Field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    lost_points: tuple[str, ...] = ()
    steps: tuple[StepResult, ...]
    versions: Mapping[str, str]
    digests: Mapping[str, str]

    def document(self) -> dict[str, Json]:
        """The JSON document of `recover` and `drill`."""
        return {
            "run": self.run,
            "state": self.state,
            "flags": list(self.flags),
            "point": self.point,
            "to": self.to,
            "started_at": format_time(self.started_at),
            "finished_at": format_time(self.finished_at),
            "rto": json_form(self.rto),
            "foreseen": json_form(self.foreseen) if self.foreseen else None,
            "rpo": {
                name: {"seconds": result.rpo.seconds, "basis": result.rpo.basis}
                for name, result in self.components.items()
            },
            "components": {name: json_form(result) for name, result in self.components.items()},
            "verified": self.verified,
            "checks": [json_form(check) for check in self.checks],
            "invariants": [
                {"group": name, **json_form(verdict)}
                for name, group in self.groups.items()
                for verdict in group.invariants
            ],
            "skipped": list(self.skipped),
            "overrides": list(self.overrides),
            "lost_points": list(self.lost_points),
        }
