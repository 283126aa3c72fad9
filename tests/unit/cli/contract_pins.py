"""The documents of the command line as they are pinned in ``contract/``: keys and types, by command and case."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from refloat.cli.main import run

PINNED = Path(__file__).parent / "contract"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
TIMES = re.compile(r"(.*_)?(at|as_of|captured_from|captured_to|declared_at)")
ERROR_KEYS = ["code", "message", "component", "region", "file", "retry", "next"]
OBJECT = re.compile(r"[a-z]+(/[a-z0-9]+)+|chunk [0-9a-f]{64}")
"""The name of an object in a vault, where it is a key: another each time."""

Shape = dict[str, str]


def leaves(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """The path and the type of everything in a document that holds nothing else; ``[]`` is any item of a list."""
    if isinstance(value, Mapping) and value:
        for key, below in value.items():
            name = "OBJECT" if OBJECT.fullmatch(key) else key
            yield from leaves(below, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for below in value:
            yield from leaves(below, f"{path}[]")
    elif isinstance(value, str):
        yield path, "time" if TIME.fullmatch(value) else "string"
    else:
        names = {bool: "boolean", int: "integer", float: "number", type(None): "null", list: "[]", dict: "{}"}
        yield path, names[type(value)]


def shape(document: Mapping[str, object]) -> Shape:
    found: dict[str, set[str]] = {}
    for path, kind in leaves(document):
        found.setdefault(path, set()).add(kind)
    return {path: "|".join(sorted(kinds)) for path, kinds in sorted(found.items())}


def pins_of(verb: str) -> Path:
    return PINNED / f"{verb.replace(' ', '-')}.json"


def pinned(verb: str) -> dict[str, Shape]:
    file = pins_of(verb)
    return json.loads(file.read_text()) if file.exists() else {}


def require_pinned(verb: str, case: str, document: Mapping[str, object]) -> None:
    """No key more or less than the contract says, and each of the type that it says."""
    known = pinned(verb)
    if os.environ.get("REFLOAT_PIN"):
        known = {**known, case: shape(document)}
        pins_of(verb).write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    assert shape(document) == known.get(case)


def texts(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, below in value.items():
            yield from texts(below, name)
    elif isinstance(value, list):
        for below in value:
            yield from texts(below, key)
    elif isinstance(value, str):
        yield key, value


def printed(desk, *arguments: str, exits: int = 0) -> dict[str, Any]:
    """The one document that a command prints: one line, its schema first, every time in it RFC 3339 in UTC."""
    code = run(["-f", str(desk.manifest), "--json", *arguments])
    out, desk.said = desk.capture.readouterr()
    assert code == exits, (out, desk.said)
    assert out.startswith('{"schema": 1, ') and out.index("\n") == len(out) - 1
    assert "Traceback" not in desk.said
    document: dict[str, Any] = json.loads(out)
    del document["schema"]
    for key, text in texts(document):
        if TIMES.fullmatch(key) or re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:", text):
            assert TIME.fullmatch(text), (key, text)
    return document


def failed(desk, *arguments: str, exits: int) -> dict[str, Any]:
    """The error of a command that fails: nothing but the seven keys, and of a refusal the rule."""
    document = printed(desk, *arguments, exits=exits)
    error: dict[str, Any] = document["error"]
    assert list(document) == ["error"]
    assert list(error) == [*ERROR_KEYS, *(["rule"] if error["code"] == "refused" else [])]
    assert error["message"] and error["next"]
    assert error["retry"] in ("now", "later", "never")
    return error
