"""Small JSON and YAML documents of a component that become part of its facts."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import date

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from refloat.digest import Json
from refloat.errors import ConnectorError
from refloat.limits import FACTS_BYTES_MAX, MANIFEST_DEPTH_MAX

_VALUES_MAX = 20_000  # values in one document
_NEXT = "expose a small JSON or YAML file that lies below the component's path"


def parse_document(path: str, content: bytes | None) -> Json:
    """An exposed document as plain JSON. Raises ``ConnectorError`` for what is missing, too big or wrong."""
    if content is None:
        raise ConnectorError("a document that `expose` names is not there", file=path, next=_NEXT)
    if len(content) > FACTS_BYTES_MAX:
        raise ConnectorError(
            f"a document that `expose` names is larger than {FACTS_BYTES_MAX} bytes", file=path, next=_NEXT
        )
    try:
        if path.endswith(".json"):
            return _plain(json.loads(content), _Budget(), 0)
        return _plain(YAML(typ="safe", pure=True).load(content), _Budget(), 0)
    except (ValueError, YAMLError, RecursionError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "it is nested too deeply"
        raise ConnectorError(
            f"a document that `expose` names cannot be read: {reason}", file=path, next=_NEXT
        ) from error


@dataclass
class _Budget:
    """How many values a document may still have, those behind an alias counted each time."""

    values: int = _VALUES_MAX


def _plain(value: object, budget: _Budget, depth: int) -> Json:
    """``value`` with nothing in it but JSON; dates become text. Raises ``ValueError``."""
    budget.values -= 1
    if budget.values < 0 or depth > MANIFEST_DEPTH_MAX:
        raise ValueError("it holds too many values or is nested too deeply")
    match value:
        case None | bool() | int() | str():
            return value
        case float() if math.isfinite(value):
            return value
        case date():
            return value.isoformat()
        case list():
            return [_plain(item, budget, depth + 1) for item in value]
        case dict():
            return {_key(key): _plain(item, budget, depth + 1) for key, item in value.items()}
    raise ValueError(f"{type(value).__name__} is no JSON value")


def _key(key: object) -> str:
    if isinstance(key, str | int | float):
        return str(key)
    raise ValueError(f"{key!r} cannot be a key")
