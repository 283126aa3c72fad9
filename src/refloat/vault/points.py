"""Recovery points as they are stored: a sealed, signed body that says the same in every region.

The content of a point object (see ``seal``) is canonical JSON. What a region adds to it, that everything the
point needs is there, stands in that region's own log.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from refloat.digest import Json, canonical_json
from refloat.vault.keys import Keyring
from refloat.vault.layout import damaged, point_name
from refloat.vault.seal import Kind, open_signed, seal_signed

_GRADES = ("exact", "fuzzy", "broken")


def seal_point(keyring: Keyring, body: Mapping[str, Json]) -> bytes:
    """The bytes that are stored for a point. Raises ``WrongKey`` without the writer's role."""
    return seal_signed(keyring, Kind.POINT, canonical_json(body))


def open_point(keyring: Keyring, name: str, stored: bytes) -> Mapping[str, Json]:
    """The body of the point ``name``, verified. Raises ``Damaged``, ``VaultError`` for a newer format."""
    what = point_name(name)
    _, content = open_signed(keyring, Kind.POINT, name, stored, what=what)
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise damaged(what, "it is not JSON") from error
    if not isinstance(body, dict):
        raise damaged(what, "it is not a JSON object")
    return cast("Mapping[str, Json]", body)


def roots(body: Mapping[str, Json]) -> list[str]:
    """The trees that a point names: its manifest's and each component's, in hex, without repetition.

    Raises ``ValueError`` for a body without them.
    """
    components = body.get("components")
    if not isinstance(components, Mapping):
        raise ValueError("a point's body has no components")
    trees = [body.get("manifest")]
    trees += [snapshot.get("tree") for snapshot in components.values() if isinstance(snapshot, Mapping)]
    if len(trees) != len(components) + 1 or not all(isinstance(tree, str) and tree for tree in trees):
        raise ValueError("a point's body does not name a tree for its manifest and each component")
    return list(dict.fromkeys(cast("list[str]", trees)))


def worst_grade(body: Mapping[str, Json]) -> str:
    """The worst grade among a body's groups; ``exact`` where there is none, ``broken`` for an unknown one."""
    groups = body.get("groups")
    found = groups.values() if isinstance(groups, Mapping) else ()
    return _GRADES[max((_rank(group) for group in found), default=0)]


def _rank(group: Json) -> int:
    grade = group.get("grade") if isinstance(group, Mapping) else None
    return _GRADES.index(grade) if isinstance(grade, str) and grade in _GRADES else len(_GRADES) - 1
