"""Orders and cycles of components: what starts first, what is captured first, what is captured together."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from refloat.manifest.model import Manifest, TierName

Edges = Mapping[str, Iterable[str]]
"""For each name, the names that it points to."""


def cycle_in(edges: Edges) -> list[str] | None:
    """A cycle as the names along it, the first repeated at the end; None where there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return None


def order_by_needs(manifest: Manifest, names: Iterable[str]) -> list[str]:
    """``names`` so that each stands after what it needs, also through components that are not asked for.

    Ties are in the manifest's order. Raises ``KeyError`` for a name that is no component.
    """
    needs = {name: component.needs for name, component in manifest.components.items()}
    return _among(_sorted(needs, list(needs)), names, manifest)


def order_of_need(manifest: Manifest, names: Iterable[str]) -> list[str]:
    """``names`` in the order in which serving needs them: critical before operational before development.

    What a component needs is as urgent as it is itself, and stands before it. Ties are in the manifest's order.
    Raises ``KeyError`` for a name that is no component.
    """
    tiers = list(TierName)
    urgency = {name: tiers.index(component.tier) for name, component in manifest.components.items()}
    by_needs = order_by_needs(manifest, manifest.components)
    for name in reversed(by_needs):
        for needed in manifest.components[name].needs:
            urgency[needed] = min(urgency[needed], urgency[name])
    wanted = {name: urgency[name] for name in names}
    return sorted((name for name in by_needs if name in wanted), key=wanted.__getitem__)


def capture_order(
    manifest: Manifest, refers_to_kinds: Mapping[str, Sequence[str]], members: Iterable[str]
) -> list[str]:
    """``members`` so that what points stands before what it points to; ties in the manifest's order.

    A component points to what its ``refers_to`` names, and to every component of the kinds that
    ``refers_to_kinds`` gives for its own kind. Where kinds point at each other in a circle, the pointer
    that would close it is left out, the last in the manifest's order. Raises ``KeyError`` for a name that is
    no component.
    """
    order = list(manifest.components)
    pointed_by: dict[str, set[str]] = {name: set() for name in order}
    for name, component in manifest.components.items():
        for target in component.refers_to:
            pointed_by[target].add(name)
    for pointer, target in _by_kind(manifest, refers_to_kinds):
        if not _reaches(pointed_by, start=pointer, goal=target):
            pointed_by[target].add(pointer)
    return _among(_sorted(pointed_by, order), members, manifest)


def units(manifest: Manifest) -> list[tuple[str, ...]]:
    """What is captured together: groups that share a member are one unit, the rest are units of one.

    Units, and the names within one, are in the manifest's order.
    """
    unit_of = {name: {name} for name in manifest.components}
    for group in manifest.groups.values():
        whole = set[str]().union(*(unit_of[member] for member in group.members))
        for member in whole:
            unit_of[member] = whole
    in_order: dict[int, list[str]] = {}
    for name, whole in unit_of.items():
        in_order.setdefault(id(whole), []).append(name)
    return [tuple(names) for names in in_order.values()]


def with_their_groups(manifest: Manifest, names: Iterable[str]) -> list[str]:
    """``names`` and everything that they are grouped with, in turn; a name that is no component stays."""
    unit_of = {name: unit for unit in units(manifest) for name in unit}
    return list(dict.fromkeys(member for name in names for member in unit_of.get(name, (name,))))


def answers_depend_on(manifest: Manifest, component: str) -> tuple[str, ...]:
    """The components that what ``component`` answers may depend on, itself among them, in the manifest's order.

    Those are what it needs and what it is grouped with, and what these need and are grouped with in turn. Raises
    ``KeyError`` for a name that is no component.
    """
    found, left = set[str](), [component]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += manifest.components[name].needs
            left += [m for group in manifest.groups.values() if name in group.members for m in group.members]
    return tuple(name for name in manifest.components if name in found)


def _by_kind(manifest: Manifest, kinds: Mapping[str, Sequence[str]]) -> Iterable[tuple[str, str]]:
    for name, component in manifest.components.items():
        if pointed := kinds.get(component.kind):
            for other, target in manifest.components.items():
                if name != other and target.kind in pointed:
                    yield name, other


def _reaches(edges: Mapping[str, Iterable[str]], *, start: str, goal: str) -> bool:
    seen, ahead = set[str](), [start]
    while ahead:
        name = ahead.pop()
        if name == goal:
            return True
        if name not in seen:
            seen.add(name)
            ahead.extend(edges[name])
    return False


def _sorted(predecessors: Edges, order: Sequence[str]) -> list[str]:
    """Every name after its predecessors; of those that are ready, the first in ``order`` goes first."""
    rank = {name: position for position, name in enumerate(order)}
    sorter = TopologicalSorter(predecessors)
    sorter.prepare()
    ready: list[int] = []
    result: list[str] = []
    while sorter.is_active():
        for name in sorter.get_ready():
            heapq.heappush(ready, rank[name])
        name = order[heapq.heappop(ready)]
        sorter.done(name)
        result.append(name)
    return result


def _among(ordered: Sequence[str], names: Iterable[str], manifest: Manifest) -> list[str]:
    wanted = {name: manifest.components[name] for name in names}
    return [name for name in ordered if name in wanted]
