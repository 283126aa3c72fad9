"""What a step action is given, and the protocol that every action follows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from refloat.clock import Clock
from refloat.contracts import Progress, Silent
from refloat.digest import Json
from refloat.errors import Refused
from refloat.plan.model import Step

Observation = Literal["done", "undone", "unclear"]
"""What became of a step that was announced and never settled."""


@dataclass(frozen=True)
class Context:
    """What a step needs to know of its run.

    ``memory`` is what earlier steps on the same component remembered; ``remember`` returns when its
    argument is in the journal. ``cancelled`` is set when the step has run out of time.
    """

    run: str
    epoch: int
    clock: Clock
    overrides: frozenset[str] = frozenset()
    memory: Mapping[str, Json] = field(default_factory=dict)
    remember: Callable[[Mapping[str, Json]], None] = lambda what: None
    cancelled: threading.Event = field(default_factory=threading.Event)
    progress: Progress = field(default_factory=Silent)

    def refuse(self, rule: str, message: str, *, component: str | None = None, next: str) -> dict[str, Json]:
        """Raise ``Refused``, unless a person has overridden the rule: then say so for the journal."""
        if rule in self.overrides:
            return {"overridden": rule, "why": message}
        raise Refused(rule, message, component=component, next=f"{next}, or name the rule: --override {rule}")


class StepAction(Protocol):
    """What a kind of step does. All three may be called again after a crash."""

    def do(self, step: Step, context: Context) -> Mapping[str, Json]:
        """Do it; what is returned goes into the journal for people to read."""

    def observe(self, step: Step, context: Context) -> Observation:
        """Whether an earlier, unfinished attempt took effect. ``undone`` is repeated with the same token."""

    def undo(self, step: Step, context: Context) -> None:
        """Put it back. Raises where what is found afterwards is not as before."""
