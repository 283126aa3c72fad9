"""Recovery points as they are stored: a sealed, signed body that says the same in every region.

The content of a point object (see ``seal``) is canonical JSON. What a region adds to it, that everything the
point needs is there, stands in that region's own log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

from refloat.digest import Json, canonical_json
from refloat.errors import Damaged, Malformed, UsageError
from refloat.limits import MIB
from refloat.vault.keys import Keyring
from refloat.vault.layout import FORMAT, malformed, parse_object, point_name
from refloat.vault.seal import Kind, open_signed, seal_signed

POINT_BYTES_MAX = 8 * MIB  # the largest facts of thirty components; parsed, it takes up to thirty times that
FORMAT_WITH_GAPS = 2
"""The format of a point that says of which components it has nothing newer than the one before."""
_CHUNK = re.compile("[0-9a-f]{64}")
_GRADES = ("exact", "fuzzy", "broken")


def seal_point(keyring: Keyring, body: Mapping[str, Json]) -> bytes:
    """The bytes that are stored for a point.

    Raises ``WrongKey`` without the writer's role, ``UsageError`` for a body that is too large to be read, and what
    ``open_point`` would for any other that is no point.
    """
    content = canonical_json({"format": _format(body), **body})
    if len(content) > POINT_BYTES_MAX:
        raise UsageError(
            f"the point would have {len(content)} bytes, and at most {POINT_BYTES_MAX} can be read",
            next="give the components fewer facts: expose less of their files, select less of their databases",
        )
    _parsed(content, "the new point")  # by its own reader: what cannot be read is not committed
    return seal_signed(keyring, Kind.POINT, content)


def open_point(keyring: Keyring, name: str, stored: bytes) -> Mapping[str, Json]:
    """The body of the point ``name``, verified.

    Raises ``Damaged``, ``Malformed`` where it is well signed all the same, ``VaultError`` for a newer format.
    """
    return open_signed_point(keyring, name, stored)[1]


def open_signed_point(keyring: Keyring, name: str, stored: bytes) -> tuple[str, Mapping[str, Json]]:
    """The writer that signed the point ``name``, and its body. Raises as ``open_point``."""
    what = point_name(name)
    signer, content = open_signed(keyring, Kind.POINT, name, stored, what=what)
    return signer, _parsed(content, what)


def _parsed(content: bytes, what: str) -> Mapping[str, Json]:
    try:
        body = cast("Mapping[str, Json]", parse_object(content, what, POINT_BYTES_MAX, FORMAT_WITH_GAPS))
        if body["format"] != _format(body):
            raise malformed(what, "its format is not that of what it says")
        roots(body)
    except Malformed:
        raise
    except Damaged as error:
        raise malformed(what, error.reason) from error
    except ValueError as error:
        raise malformed(what, str(error)) from error
    return body


def _format(body: Mapping[str, Json]) -> int:
    return FORMAT_WITH_GAPS if "not_captured" in body else FORMAT


def roots(body: Mapping[str, Json]) -> list[str]:
    """The trees that a point names: its manifest's and each component's, in hex, without repetition.

    Raises ``ValueError`` for a body without them, or with another name than a chunk's.
    """
    components = body.get("components")
    if not isinstance(components, Mapping):
        raise ValueError("a point's body has no components")
    trees = [body.get("manifest")]
    trees += [snapshot.get("tree") for snapshot in components.values() if isinstance(snapshot, Mapping)]
    if len(trees) != len(components) + 1 or not all(
        isinstance(tree, str) and _CHUNK.fullmatch(tree) for tree in trees
    ):
        raise ValueError("a point's body does not name a tree for its manifest and each component")
    return list(dict.fromkeys(cast("list[str]", trees)))


def committing_entry(
    name: str, body: Mapping[str, Json], heads: Mapping[str, Mapping[str, Json]]
) -> dict[str, Json]:
    """What a region's log says of a point; ``heads`` are those of the other regions as last seen."""
    return {
        "point": name,
        "heads": {region: dict(head) for region, head in heads.items()},
        "grade": worst_grade(body),
        "created_at": body.get("created_at"),
        "pipeline": body.get("pipeline"),
    }


def worst_grade(body: Mapping[str, Json]) -> str:
    """The worst grade among a body's groups; ``exact`` where there is none, ``broken`` for an unknown one."""
    groups = body.get("groups")
    found = groups.values() if isinstance(groups, Mapping) else ()
    return _GRADES[max((_rank(group) for group in found), default=0)]


def _rank(group: Json) -> int:
    grade = group.get("grade") if isinstance(group, Mapping) else None
    return _GRADES.index(grade) if isinstance(grade, str) and grade in _GRADES else len(_GRADES) - 1
