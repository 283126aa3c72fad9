"""What is pure and dear, done once for each input: for whoever plays the same small world thousands of times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from refloat.flows import prepare
from refloat.manifest.parse import parse
from refloat.vault import chunk, keyfile, keyobjects, keys, layout, replica, slotlog, tree

StandIn = tuple[Any, str, Any]
"""Where something stands, its name there, and what stands in for it."""


def remembered() -> list[StandIn]:
    """Stand-ins that answer as the real ones do, and remember each answer. An error is raised anew each time."""
    return [
        (keys, "is_signed", cache(keyobjects.is_signed)),
        (keyobjects, "parsed_key_object", cache(keyobjects.parsed_key_object)),
        (layout, "_is_canonical", _by_content(layout._is_canonical)),
        (prepare, "parse", cache(parse)),
        (replica, "open_chunk", _by_record(chunk.open_chunk)),
        (slotlog, "_envelope", cache(slotlog._envelope)),
        (slotlog, "open_sealed", cache(keyfile.open_sealed)),
        (tree, "decode_page", cache(tree.decode_page)),
    ]


def _by_content(is_canonical: Callable[[object, bytes], bool]) -> Callable[[object, bytes], bool]:
    """The same, asked once for each content: the document is what the content says."""
    known: dict[bytes, bool] = {}

    def asked(document: object, content: bytes) -> bool:
        if content not in known:
            known[content] = is_canonical(document, content)
        return known[content]

    return asked


def _by_record(open_chunk: Callable[..., bytes]) -> Callable[..., bytes]:
    """The same, asked once for each record and key; one that rests on another is opened each time."""
    known: dict[object, bytes] = {}

    def opened(sealed: chunk.SealedChunk, *, name_key: bytes, secret: bytes, **more: Any) -> bytes:
        asked = replace(sealed, record=bytes(sealed.record)), name_key, secret
        if asked not in known:
            raw = open_chunk(sealed, name_key=name_key, secret=secret, **more)
            if sealed.base != chunk.NO_BASE:
                return raw
            known[asked] = raw
        return known[asked]

    return opened
