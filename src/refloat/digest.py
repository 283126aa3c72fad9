"""Digests and the one JSON form they are taken of.

BLAKE3 (https://github.com/BLAKE3-team/BLAKE3-specs) names what refloat stores; SHA-256 stands where
a user's own program must be able to compute the same digest with ``sha256sum``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from blake3 import blake3
from pydantic import BaseModel
from pydantic_core import to_jsonable_python
from typing_extensions import TypeAliasType

Json = TypeAliasType("Json", "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None")
"""A value that JSON can hold."""

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def may_be_named(name: str, content: bytes) -> bool:
    """Whether bytes may stand under a name of the vault, as far as the name tells: where it is a digest, theirs."""
    last = name.rpartition("/")[2]
    return len(last) != 64 or object_name(content) == last


def object_name(stored: bytes | bytearray | memoryview) -> str:
    """The name of a stored object: BLAKE3 of its bytes, 64 hex digits."""
    return blake3(stored).hexdigest()


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys, no spaces and UTF-8, so that equal values have equal bytes.

    Every string has such a form, also what a program cut in the middle of a character, or a file name that is not
    UTF-8. A high surrogate before a low one is the character that both make, as every reader of JSON takes them;
    any other surrogate, which UTF-8 does not know, is JSON's own escape: ``\\udcff``, in lower case. Of two names in
    an object that are the same by this, the one that was the whole character counts.

    Raises ``ValueError`` for NaN and infinities, ``TypeError`` for what JSON cannot hold.
    """
    written = _CANONICAL.encode(value)
    try:
        return written.encode("utf-8")
    except UnicodeEncodeError:
        read = json.loads(json.dumps(value, sort_keys=True))
        return _CANONICAL.encode(read).encode("utf-8", "backslashreplace")


def is_utf8(value: object) -> bool:
    """Whether no string in a value holds a surrogate, for which canonical JSON has an escape and UTF-8 nothing."""
    try:
        _CANONICAL.encode(value).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def json_form(model: BaseModel) -> dict[str, Json]:
    """What ``model_dump(mode="json")`` gives, but with every name as it is.

    Pydantic puts U+FFFD for a surrogate in the name of a mapping's value: two names become one, and not that one.
    """
    return {name: _plain(value) for name, value in model.model_dump().items()}


def _plain(value: object) -> Json:
    match value:
        case str():
            return str(value)  # of an enumeration its value
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {str(name): _plain(below) for name, below in value.items()}
        case list() | tuple():
            return [_plain(below) for below in value]
    plain: Json = to_jsonable_python(value)
    return plain


def json_digest(value: object) -> str:
    """BLAKE3 of the canonical JSON of ``value``, 64 hex digits."""
    return blake3(canonical_json(value)).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits. Raises ``OSError``."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listing_digest(files: Iterable[tuple[str, str]]) -> str:
    """``sha256:`` and the digest of what ``sha256sum`` prints for ``files``, sorted by path.

    ``files`` are pairs of (relative path, sha256 in hex). A program computes the same for a folder with
    ``find . -type f -printf '%P\\0' | sort -z | xargs -0 sha256sum | sha256sum`` in the C locale.
    """
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(files))
    return "sha256:" + hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
