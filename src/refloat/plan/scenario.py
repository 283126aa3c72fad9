"""What has happened or is to, by name, and what a recovery from it asks for: a closed table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from refloat.errors import UsageError
from refloat.manifest.document import nearest

_GIVEN_AS = {"--before": "TIME", "--only": "NAME"}
_TICK = timedelta(microseconds=1)  # no time of a point is told more finely


@dataclass(frozen=True)
class Scenario:
    """What one scenario needs and rules out, as names of options.

    One that ``moves`` loses nothing: what is live where the pipeline runs must be what the point holds. ``grouped``
    brings what is named with everything that it is grouped with, in turn. With ``dependents`` what stays is verified
    too, where its answers depend on what comes back. A ``drill`` leads into a sandbox: nothing is served or protected
    there, and the source may live.
    """

    needs: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    moves: bool = False
    grouped: bool = False
    dependents: bool = False
    drill: bool = False


_MOVE = Scenario(excludes=("--only", "--point", "--at", "--before"), moves=True)

SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        "region_loss": Scenario(excludes=("--only", "--before")),
        "planned_move": _MOVE,
        "failback": _MOVE,
        "component_loss": Scenario(needs=("--only",), excludes=("--before",), dependents=True),
        "corruption": Scenario(needs=("--before",), excludes=("--only", "--point", "--at")),
        "bad_model": Scenario(
            needs=("--only", "--before"), excludes=("--point", "--at"), grouped=True, dependents=True
        ),
    }
)
"""With ``--before`` no point can be named: the choice then takes none that is suspect, broken or unknown."""

UNNAMED = Scenario()
"""What is asked where nobody says what has happened."""

DRILL = Scenario(drill=True)
"""What is asked of a trial in a sandbox, after which everything is put back."""


def named(scenario: str | None) -> Scenario:
    """The scenario of that name; ``UNNAMED`` for none. Raises ``UsageError`` for one that is not known."""
    if scenario is None:
        return UNNAMED
    if scenario not in SCENARIOS:
        hint = nearest(scenario, SCENARIOS) or f"scenarios: {', '.join(SCENARIOS)}"
        raise UsageError(f"no scenario is called {scenario!r}", next=hint)
    return SCENARIOS[scenario]


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
    known = named(scenario)
    for option in known.excludes:
        if option in given:
            raise UsageError(f"{option} does not go with the scenario {scenario}", next=f"leave out {option}")
    for option in known.needs:
        if option not in given:
            raise UsageError(
                f"the scenario {scenario} needs {option}", next=f"add {option} {_GIVEN_AS[option]}"
            )
    return at if before is None else before - _TICK
