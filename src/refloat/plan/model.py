"""A plan as a value: the steps that take one point into one region. What prints is what runs."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field

from refloat.contracts import Layer
from refloat.digest import json_digest
from refloat.limits import STEP_ATTEMPTS_MAX


class Phase(StrEnum):
    """The phases of a run, in order."""

    PREFLIGHT = "preflight"
    PROVISION = "provision"
    STAGE = "stage"
    VALIDATE = "validate"
    ACTIVATE = "activate"
    VERIFY = "verify"
    TRAFFIC = "traffic"
    REPROTECT = "reprotect"


BEFORE_TRAFFIC = (
    Phase.PREFLIGHT,
    Phase.PROVISION,
    Phase.STAGE,
    Phase.VALIDATE,
    Phase.ACTIVATE,
    Phase.VERIFY,
)
"""The phases that recovery time counts, foreseen or achieved: all until users are let in."""


UNMOVED = "unmoved"
"""The subject of the check of a move that what is live in the source is what the point holds."""


APART = "apart"
"""The subject of the check of a drill that what it uses is used by nothing that lives."""


class Action(StrEnum):
    """What a step does."""

    CHECK = "check"
    PROVISION = "provision"
    STAGE = "stage"
    VALIDATE = "validate"
    ACTIVATE = "activate"
    START = "start"
    VERIFY = "verify"
    SHIFT = "shift"
    PROTECT = "protect"
    CLEANUP = "cleanup"


SIZED = (Action.STAGE, Action.VALIDATE)
"""The actions whose steps go through every byte of a component."""


class Value(BaseModel):
    """The base of what a plan is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Basis: TypeAlias = Literal["measured", "learnt", "assumed"]
BASES: tuple[Basis, ...] = get_args(Basis)


class Estimate(Value):
    """How long a step is expected to take, and on what that rests.

    ``together`` is the share of its variation that it has in common with the other steps of a run.
    """

    p50_s: float
    p95_s: float
    basis: Basis
    samples: int = 0
    together: float = Field(default=0.5, ge=0, le=1)


class Step(Value):
    """One thing to do. ``id`` is deterministic: phase, action and subject.

    ``touches_live`` says that what is live is changed where it stands. A step that is not ``critical``
    may fail without ending the run; it is then reported as skipped.
    """

    id: str
    phase: Phase
    action: Action
    subject: str
    component: str | None = None
    layer: Layer | None = None
    needs: tuple[str, ...] = ()
    timeout_s: float = 3600.0
    attempts: int = STEP_ATTEMPTS_MAX
    reversible: bool = False
    critical: bool = True
    touches_live: bool = False
    bytes: int = 0
    estimate: Estimate | None = None

    @property
    def title(self) -> str:
        """What it does to what, for people; of no other step of a plan."""
        return f"{self.action} {self.subject}"


class Plan(Value):
    """A graph of steps that takes ``point`` into region ``to``; ``steps`` are in an order that works."""

    pipeline: str
    point: str
    source: str
    to: str
    only: tuple[str, ...] = ()
    steps: tuple[Step, ...]

    @property
    def hash(self) -> str:
        """The digest of what is done and in which order; estimates are left out."""
        return json_digest(self.model_dump(mode="json", exclude={"steps": {"__all__": {"estimate"}}}))

    @property
    def moves(self) -> bool:
        """Whether it moves a pipeline that loses nothing by it."""
        return any(step.subject == UNMOVED for step in self.steps)

    @property
    def drill(self) -> bool:
        """Whether it only tries: then everything is put back as soon as it is verified."""
        return any(step.subject == APART for step in self.steps)

    def step(self, id: str) -> Step:
        """The step of an id. Raises ``KeyError``."""
        return self.by_id[id]

    @property
    def by_id(self) -> Mapping[str, Step]:
        """Every step by its id."""
        return {step.id: step for step in self.steps}
