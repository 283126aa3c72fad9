"""What has happened, by name, and what a recovery from it asks for: a closed table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from refloat.errors import UsageError
from refloat.manifest.document import nearest

_TICK = timedelta(microseconds=1)  # no time of a point is told more finely


@dataclass(frozen=True)
class Scenario:
    """What one scenario needs and rules out, as names of options. It takes all components."""

    needs: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()


SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        "region_loss": Scenario(excludes=("--only", "--before")),
        "corruption": Scenario(needs=("--before",), excludes=("--only", "--point", "--at")),
    }
)
"""In ``corruption`` no point can be named: the choice then takes none that is suspect, broken or unknown."""


def until(
    scenario: str | None, given: Collection[str], *, at: datetime | None, before: datetime | None
) -> datetime | None:
    """The last moment at which the point may have been made; ``given`` are the options that were used.

    Raises ``UsageError`` for a scenario that is not known, what it lacks and what does not go with it.
    """
    if scenario is None:
        if before is not None:
            raise UsageError(
                "--before says nothing without a scenario", next="--scenario corruption, or --at"
            )
        return at
    known = SCENARIOS.get(scenario)
    if known is None:
        hint = nearest(scenario, SCENARIOS) or f"scenarios: {', '.join(SCENARIOS)}"
        raise UsageError(f"no scenario is called {scenario!r}", next=hint)
    for option in known.excludes:
        if option in given:
            raise UsageError(f"{option} does not go with the scenario {scenario}", next=f"leave out {option}")
    for option in known.needs:
        if option not in given:
            raise UsageError(f"the scenario {scenario} needs {option}", next=f"add {option} TIME")
    return at if before is None else before - _TICK
