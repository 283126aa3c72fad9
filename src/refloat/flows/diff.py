"""What changed between two points: the facts of each component, its files, and whose they are and what they lead to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from refloat.attributes import Principal
from refloat.contracts import Entry, EntryType, Facts
from refloat.digest import Json, object_name
from refloat.point.model import Point
from refloat.vault.replica import Replica

LINES_MAX = 40  # of one component; more is not read by a person


DIGITS = 12  # enough of a digest to tell two values apart


@dataclass(frozen=True)
class How:
    """What differs of a path besides bytes and time: type, mode, owner, group, an attribute, what it leads to.

    None is said of what is not there.
    """

    path: str
    what: str
    before: str | None
    after: str | None

    def line(self) -> str:
        """As a person reads it."""
        return f"~ {self.path}: {self.what} {self.before or 'none'} -> {self.after or 'none'}"

    def document(self) -> dict[str, Json]:
        """As JSON tells it."""
        return {"path": self.path, "what": self.what, "before": self.before, "after": self.after}


@dataclass(frozen=True)
class Change:
    """One component: facts that differ as (before, after), and paths added, removed and changed.

    ``how`` says of what is changed what else it is than bytes and time, and ``rewritten`` in what that differs as well.
    """

    facts: Mapping[str, tuple[Json, Json]]
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    how: tuple[How, ...] = ()
    rewritten: frozenset[str] = frozenset()

    def summary(self) -> str:
        """The change in one line."""
        if not (self.facts or self.added or self.removed or self.changed):
            return "unchanged"
        return f"{len(self.added)} added, {len(self.removed)} removed, {len(self.changed)} changed files"

    def lines(self) -> list[str]:
        """Facts first, then files, as a person reads them."""
        facts = [f"{name}: {before} -> {after}" for name, (before, after) in self.facts.items()]
        told = {one.path for one in self.how}
        files = (
            [f"+ {p}" for p in self.added]
            + [f"- {p}" for p in self.removed]
            + [f"~ {p}" for p in self.changed if p not in told or p in self.rewritten]
            + [one.line() for one in self.how]
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
            **({"how": [one.document() for one in self.how]} if self.how else {}),
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
    return changes(facts, old, new)


def _files(replica: Replica, tree: str) -> dict[str, Entry]:
    return {entry.path: entry for entry in replica.source(tree, Facts()).entries()}


def changes(
    facts: Mapping[str, tuple[Json, Json]], old: Mapping[str, Entry], new: Mapping[str, Entry]
) -> Change:
    """What differs between two listings. A folder is one that changed, and none that came or went."""
    both = sorted(old.keys() & new.keys())
    how = tuple(one for path in both for one in _how(old[path], new[path]))
    otherwise = {one.path for one in how}
    rewritten = frozenset(path for path in both if _differs(old[path], new[path]))
    return Change(
        facts,
        added=tuple(sorted(path for path in new.keys() - old.keys() if _counts(new[path]))),
        removed=tuple(sorted(path for path in old.keys() - new.keys() if _counts(old[path]))),
        changed=tuple(path for path in both if path in otherwise or path in rewritten),
        how=how,
        rewritten=rewritten,
    )


def _counts(entry: Entry) -> bool:
    return entry.type is not EntryType.DIRECTORY


def _differs(one: Entry, other: Entry) -> bool:
    """Whether the bytes or the time differ; a folder's time is that of what is in it."""
    return _counts(one) and (one.size, one.mtime_ns) != (other.size, other.mtime_ns)


def _how(one: Entry, other: Entry) -> Iterator[How]:
    before, after = dict(_told(one)), dict(_told(other))
    for what in dict.fromkeys([*before, *after]):
        if before.get(what) != after.get(what):
            yield How(one.path, what, before.get(what), after.get(what))


def _told(entry: Entry) -> Iterator[tuple[str, str]]:
    """What is told of an entry, by what it is called."""
    yield "type", str(entry.type)
    yield "owner", _whose(entry.attributes.owner)
    yield "group", _whose(entry.attributes.group)
    if entry.type is EntryType.SYMLINK:
        yield "target", entry.target
    else:
        yield "mode", f"{entry.mode:04o}"
    if entry.link:
        yield "same file as", entry.link
    for name, value in entry.attributes.xattrs:
        yield f"attribute {name}", object_name(value)[:DIGITS]


def _whose(principal: Principal | None) -> str:
    if principal is None:
        return "0 (root)"
    return f"{principal.id} ({principal.name})" if principal.name else str(principal.id)


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
