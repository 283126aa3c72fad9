"""Invariants over facts: what an expression sees, what it speaks of, and what a set of verdicts means."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from refloat.contracts import Facts
from refloat.digest import Json, canonical_json
from refloat.limits import FACTS_BYTES_MAX
from refloat.manifest.parse import CEL_RESERVED
from refloat.point.model import Grade, GroupRecord, Verdict

VALUE_BYTES_MAX = 1024  # a verdict is read by people

_PATH = re.compile(r"(?<![\w.\"'])[a-z][a-z0-9_]*(?:\.[A-Za-z_]\w*|\[\"[^\"]*\"\])+(?!\w*\()")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SURROGATE = re.compile("[\ud800-\udfff]")
_STEP = re.compile(r"\.?([A-Za-z_]\w*)|\[\"([^\"]*)\"\]")


def scope(facts: Mapping[str, Facts]) -> dict[str, Json]:
    """The variables of an expression: each component's facts under its name, within the size limit.

    A component whose facts are too large is left out, so that what speaks of it is unknown; so is a single fact that
    the language cannot hold.
    """
    return {
        name: held
        for name, known in facts.items()
        if len(canonical_json(known.scope())) <= FACTS_BYTES_MAX
        for held in _held(known.scope())
    }


def _held(value: Json) -> Iterator[Json]:
    """The value as CEL can hold it, or nothing: a string there has no surrogates, and a list keeps its places."""
    match value:
        case str():
            if not _SURROGATE.search(value):
                yield value
        case Mapping():
            yield {
                name: held
                for name, below in value.items()
                if not _SURROGATE.search(name)
                for held in _held(below)
            }
        case list() | tuple():
            items = [held for item in value for held in _held(item)]
            if len(items) == len(value):
                yield items
        case _:
            yield value


def values(expression: str, variables: Mapping[str, Json]) -> dict[str, Json]:
    """The value of every fact that an expression names; None for one that is missing."""
    return {path: _shown(_lookup(path, variables)) for path in dict.fromkeys(_PATH.findall(expression))}


def spelled(component: str, facts: Facts) -> dict[str, Json] | None:
    """Every fact of a component by the name that an expression gives it; None where they are too large for one."""
    known = scope({component: facts})
    return dict(_leaves(component, known[component])) if component in known else None


def _leaves(name: str, value: Json) -> Iterator[tuple[str, Json]]:
    if not isinstance(value, Mapping) or not value:
        yield name, value
        return
    for key, below in value.items():
        plain = _PLAIN.fullmatch(key) and key not in CEL_RESERVED
        yield from _leaves(f"{name}.{key}" if plain else f"{name}[{json.dumps(key)}]", below)


def _shown(value: Json) -> Json:
    """The value, or how much of it there is where a person would not read it."""
    if isinstance(value, Sequence | Mapping) and len(canonical_json(value)) > VALUE_BYTES_MAX:
        return f"({len(value)} {'characters' if isinstance(value, str) else 'items'})"
    return value


def _lookup(path: str, variables: Mapping[str, Json]) -> Json:
    here: Json = variables
    for plain, quoted in _STEP.findall(path):
        key = plain or quoted
        if not isinstance(here, Mapping) or key not in here:
            return None
        here = here[key]
    return here


def grade(
    members: Sequence[str],
    verdicts: Sequence[Verdict],
    moved: Sequence[str],
    skew_s: float,
    skew_max_s: float,
) -> GroupRecord:
    """A group's grade from its verdicts, the members whose identity kept moving, and its skew.

    Broken where an invariant is not true, also where the facts cannot tell; unknown where nothing is against it but
    that one was not evaluated; fuzzy where members moved or lie too far apart; else exact.
    """
    against = _against(verdicts)
    if against is not None:
        outcome, reason = Grade.BROKEN, against  # or unknown, as the record tells by its verdicts
    elif moved:
        outcome, reason = Grade.FUZZY, f"{', '.join(moved)} changed identity while the group was captured"
    elif skew_s > skew_max_s:
        outcome, reason = Grade.FUZZY, f"members lie {skew_s:.1f} s apart; {skew_max_s:g} s are allowed"
    else:
        outcome, reason = Grade.EXACT, ""
    return GroupRecord(
        members=tuple(members),
        grade=outcome,
        reason=reason,
        skew_s=round(skew_s, 3),
        invariants=tuple(verdicts),
    )


def graded_anew(record: GroupRecord, verdicts: Sequence[Verdict]) -> GroupRecord:
    """An unknown group with new verdicts on the facts it was captured with.

    Fuzzy at best: whether its members moved meanwhile is not known any more.
    """
    against = _against(verdicts)
    return GroupRecord(
        members=record.members,
        grade=Grade.FUZZY if against is None else Grade.BROKEN,
        reason=against or "its invariants hold, which was not known when it was captured",
        skew_s=record.skew_s,
        invariants=tuple(verdicts),
    )


def _against(verdicts: Sequence[Verdict]) -> str | None:
    """What is against a group: rather what is so than what was not evaluated; None where nothing is."""
    against = [verdict for verdict in verdicts if verdict.holds is not True]
    if not against:
        return None
    worst = next((verdict for verdict in against if verdict.evaluated), against[0])
    if not worst.evaluated:
        return f"the invariant `{worst.must}` was {worst.reason}"
    return f"the invariant {worst.spoken}"


def skew_s(windows: Sequence[tuple[float, float]]) -> float:
    """How many seconds lie between the moments at which members can be true together.

    A window is the span (from, to) in which a member was as captured; 0 when one moment lies in all.
    """
    if not windows:
        return 0.0
    return max(0.0, max(start for start, _ in windows) - min(end for _, end in windows))
