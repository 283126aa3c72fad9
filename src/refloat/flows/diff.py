"""What changed between two points: the facts of each component, and its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from refloat.contracts import Entry, Facts
from refloat.digest import Json
from refloat.point.model import Point
from refloat.vault.replica import Replica

LINES_MAX = 40  # of one component; more is not read by a person


@dataclass(frozen=True)
class Change:
    """One component: facts that differ as (before, after), and paths added, removed and changed."""

    facts: Mapping[str, tuple[Json, Json]]
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def summary(self) -> str:
        """The change in one line."""
        if not (self.facts or self.added or self.removed or self.changed):
            return "unchanged"
        return f"{len(self.added)} added, {len(self.removed)} removed, {len(self.changed)} changed files"

    def lines(self) -> list[str]:
        """Facts first, then files, as a person reads them."""
        facts = [f"{name}: {before} -> {after}" for name, (before, after) in self.facts.items()]
        files = (
            [f"+ {p}" for p in self.added]
            + [f"- {p}" for p in self.removed]
            + [f"~ {p}" for p in self.changed]
        )
        rest = len(facts) + len(files) - LINES_MAX
        return (facts + files)[:LINES_MAX] + ([f"and {rest} more"] if rest > 0 else [])

    def document(self) -> dict[str, Json]:
        """The change as JSON."""
        return {
            "facts": {
                name: {"before": before, "after": after} for name, (before, after) in self.facts.items()
            },
            "added": list(self.added),
            "removed": list(self.removed),
            "changed": list(self.changed),
        }


def diff(before: Point, before_in: Replica, after: Point, after_in: Replica) -> dict[str, Change]:
    """Every component of either point, with what changed."""
    names = dict.fromkeys([*before.components, *after.components])
    return {name: _component(name, before, before_in, after, after_in) for name in names}


def _component(name: str, before: Point, before_in: Replica, after: Point, after_in: Replica) -> Change:
    first, second = before.components.get(name), after.components.get(name)
    facts = differing(first.facts if first else Facts(), second.facts if second else Facts())
    if first and second and first.tree == second.tree:
        return Change(facts)
    old = _files(before_in, first.tree) if first else {}
    new = _files(after_in, second.tree) if second else {}
    return Change(
        facts,
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(sorted(p for p in old.keys() & new.keys() if _differs(old[p], new[p]))),
    )


def _files(replica: Replica, tree: str) -> dict[str, Entry]:
    return {entry.path: entry for entry in replica.source(tree, Facts()).entries() if entry.type == "file"}


def _differs(one: Entry, other: Entry) -> bool:
    return (one.size, one.mtime_ns, one.mode) != (other.size, other.mtime_ns, other.mode)


def differing(before: Facts, after: Facts, prefix: str = "") -> dict[str, tuple[Json, Json]]:
    """Every fact, by its dotted path, whose value is not the same."""
    return _differing(before.scope(), after.scope(), prefix)


def _differing(before: Json, after: Json, path: str) -> dict[str, tuple[Json, Json]]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found: dict[str, tuple[Json, Json]] = {}
        for key in dict.fromkeys([*before, *after]):
            found |= _differing(before.get(key), after.get(key), f"{path}.{key}" if path else key)
        return found
    return {} if before == after else {path: (before, after)}
