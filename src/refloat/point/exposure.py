"""RPO exposure: what would be lost of each component if a region were lost now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

WARN_SHARE = 0.8  # of the objective: the age at which a person should hear of it

SKEW_S = 5.0  # clocks of machines that are kept in time differ by less

State = Literal["ok", "warn", "breach", "unprotected", "unknown"]
SEVERITY: tuple[State, ...] = ("ok", "warn", "unknown", "breach", "unprotected")


@dataclass(frozen=True)
class Held:
    """What one region holds: the ``as_of`` of each component in its newest consistent point.

    ``as_of`` is None where the region does not answer.
    """

    region: str
    as_of: Mapping[str, datetime] | None


@dataclass(frozen=True)
class Exposure:
    """Seconds of one component's past that a loss would take; None where nothing would be left."""

    seconds: float | None
    reason: str
    state: State


def exposure(
    component: str, lost: str, primary: str, held: list[Held], now: datetime, rpo_objective_s: float
) -> Exposure:
    """What losing region ``lost`` would cost of a component.

    Losing a region where the pipeline does not run costs nothing of its data. Otherwise the newest copy in
    a region that remains counts; one that does not answer cannot be counted on.
    """
    if lost != primary:
        return Exposure(0.0, f"the pipeline runs in {primary}", "ok")
    remaining = [place for place in held if place.region != lost]
    copies = {p.region: p.as_of[component] for p in remaining if p.as_of is not None and component in p.as_of}
    if copies:
        region = max(copies, key=lambda name: copies[name])
        seconds = (now - copies[region]).total_seconds()
        if seconds < -SKEW_S:
            return Exposure(0.0, f"the newest copy, in {region}, is dated ahead of this clock", "unknown")
        state = _state(seconds, rpo_objective_s)
        return Exposure(round(max(0.0, seconds), 3), f"the newest copy is in {region}", state)
    silent = [place.region for place in remaining if place.as_of is None]
    if silent:
        return Exposure(None, f"{', '.join(silent)} does not answer", "unknown")
    return Exposure(_age(component, held, now), "no other region holds a copy", "unprotected")


def _age(component: str, held: list[Held], now: datetime) -> float | None:
    """The age of the newest copy anywhere, which says how stale even an unlucky recovery would be."""
    copies = [place.as_of[component] for place in held if place.as_of and component in place.as_of]
    return round((now - max(copies)).total_seconds(), 3) if copies else None


def _state(seconds: float, objective_s: float) -> State:
    if seconds > objective_s:
        return "breach"
    return "warn" if seconds > WARN_SHARE * objective_s else "ok"


def worst(states: list[State]) -> State:
    """The most severe of several states."""
    return max(states, key=SEVERITY.index, default="ok")
