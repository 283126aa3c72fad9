"""Whatever stands in place of an object: a value or a typed error, and of a newer format it says just that."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refloat.digest import canonical_json, object_name
from refloat.errors import Damaged, RefloatError, VaultError, WrongKey
from refloat.vault import layout
from refloat.vault.chunk import chunk_name, seal_chunk
from refloat.vault.index import open_index
from refloat.vault.keyfile import KeyFile
from refloat.vault.keys import Keyring, Role, key_objects
from refloat.vault.pack import CATALOGUE_KEY, ENTRY, open_directory, seal_pack
from refloat.vault.points import open_point
from refloat.vault.seal import Kind, seal, seal_signed
from refloat.vault.slotlog import SlotLog
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.tree import decode_page

VaultWorld = Any  # the fixture ``world`` of conftest.py

TREE = "aa" * 32
BODY = {"format": 1, "manifest": TREE, "components": {"registry": {"tree": TREE}}}

FUZZ = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def document_of(whole: bytes) -> dict[str, Any]:
    """The document that these bytes are; an empty one for others, of which one in 256 begins like one."""
    try:
        document = json.loads(whole)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


@st.composite
def twisted(draw: st.DrawFn, whole: bytes) -> bytes:
    """Something near ``whole``: cut, spliced, with bytes changed, or a document with fields changed."""
    kind = draw(st.sampled_from(["cut", "bytes", "splice", "field", "anything"]))
    if kind == "cut":
        return whole[: draw(st.integers(0, len(whole)))]
    if kind == "splice":
        at = draw(st.integers(0, len(whole)))
        return whole[:at] + draw(st.binary(max_size=40)) + whole[at:]
    if kind == "anything":
        return draw(st.binary(max_size=400))
    if kind == "field" and (document := document_of(whole)):
        name = draw(st.sampled_from([*document, "more"]))
        return json.dumps({**document, name: draw(VALUES)}, sort_keys=True, separators=(",", ":")).encode()
    broken = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        broken[draw(st.integers(0, len(whole) - 1))] = draw(st.integers(0, 255))
    return bytes(broken)


def only_typed(call: Callable[[], object]) -> None:
    """Whatever it is made of, the answer is a value or one of our errors."""
    try:
        call()
    except RefloatError as error:
        assert error.message


def test_bytes_that_only_begin_like_a_document_are_none() -> None:
    assert document_of(b"{\xed@\xfb") == document_of(b"{") == document_of(b"[1]") == document_of(b"7") == {}
    assert document_of(b'{"a":1}') == {"a": 1}


KEY = KeyFile.create("vault-1", "demo")


def _vouching() -> Keyring:
    store = MemoryStore()
    for stored in key_objects(KEY):
        store.create(layout.key_name(object_name(stored)), stored)
    layout.write_descriptor(store, layout.Descriptor(vault="vault-1", replica="r", pipeline="demo"))
    return Keyring.open(KEY, store)


KEYRING = _vouching()
RAWS = (b"one", b"two" * 100)
PACK = seal_pack(
    KEYRING,
    CATALOGUE_KEY,
    [seal_chunk(raw, chunk_name(KEYRING.chunk_name_key, raw), KEYRING.catalogue_key) for raw in RAWS],
)
ROWS = np.zeros(2, ENTRY)
ROWS["offset"], ROWS["stored"], ROWS["raw"] = (32, 42), (10, 20), (10, 20)
INDEX_CONTENT = struct.pack(">I32sQ16sI", 1, bytes(32), 100, bytes(16), 2) + ROWS.tobytes()
POINT_CONTENT = canonical_json(BODY)
LINK = {"name": base64.b64encode(b"l").decode(), "type": "symlink", "target": base64.b64encode(b"t").decode()}
FILE = {"mode": 420, "mtime_ns": 0, "size": 0, "chunks": "", "segmenter": 0, "token": "", "type": "file"}
FILES = [{**FILE, "name": base64.b64encode(name).decode()} for name in (b"a", b"b")]
PAGE = canonical_json({"format": 1, "entries": [*FILES, LINK], "next": None})


@FUZZ
@given(twisted(bytes(PACK.stored)))
def test_fuzz_packs(stored: bytes) -> None:
    # fault 53
    only_typed(
        lambda: open_directory(KEYRING, lambda at, size: stored[at : at + size], len(stored), what="pack")
    )


@FUZZ
@given(twisted(PACK.directory.entries.tobytes()))
def test_fuzz_directories_that_are_well_sealed(plain: bytes) -> None:
    # fault 53
    header = Kind.PACK.header + CATALOGUE_KEY
    sealed = seal(KEYRING, Kind.PACK, plain, header=header)
    stored = header + bytes(300) + sealed + struct.pack(">I4s", len(sealed), b"RFLT")
    only_typed(
        lambda: open_directory(KEYRING, lambda at, size: stored[at : at + size], len(stored), what="pack")
    )


@FUZZ
@given(twisted(INDEX_CONTENT))
def test_fuzz_index_objects_that_are_well_signed(content: bytes) -> None:
    # fault 53
    stored = seal_signed(KEYRING, Kind.INDEX, content)
    only_typed(lambda: open_index(KEYRING, object_name(stored), stored, what="index"))


@FUZZ
@given(twisted(seal_signed(KEYRING, Kind.INDEX, INDEX_CONTENT)))
def test_fuzz_index_objects(stored: bytes) -> None:
    # fault 53
    only_typed(lambda: open_index(KEYRING, object_name(stored), stored, what="index"))


@FUZZ
@given(twisted(POINT_CONTENT))
def test_fuzz_points_that_are_well_signed(content: bytes) -> None:
    # fault 53
    stored = seal_signed(KEYRING, Kind.POINT, content)
    only_typed(lambda: open_point(KEYRING, object_name(stored), stored))


@FUZZ
@given(twisted(PAGE))
def test_fuzz_pages_of_folders(raw: bytes) -> None:
    # fault 53
    only_typed(lambda: decode_page(raw, what="folder"))


class Fixed:
    """A clock that stands still."""

    def now(self) -> datetime:
        return datetime(2026, 11, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody waits here")


def slot_of(stored: bytes | None = None) -> tuple[MemoryStore, SlotLog]:
    store = MemoryStore()
    log = SlotLog(store, "points", KEYRING, role=Role.WRITER, clock=Fixed())
    if stored is None:
        log.append({"point": TREE, "heads": {}})
    else:
        store.create(layout.slot_name("points", 0), stored)
    return store, log


@FUZZ
@given(twisted(slot_of()[0].get(layout.slot_name("points", 0))))
def test_fuzz_slots(stored: bytes) -> None:
    # fault 53
    only_typed(lambda: slot_of(stored)[1].read(0))


@FUZZ
@given(twisted(KEY.to_bytes()))
def test_fuzz_key_files(content: bytes) -> None:
    # fault 53
    only_typed(lambda: KeyFile.from_bytes(content))


@FUZZ
@given(
    twisted(canonical_json(layout.Descriptor(vault="v", replica="r", pipeline="p").model_dump(mode="json")))
)
def test_fuzz_descriptors(content: bytes) -> None:
    # fault 53
    store = MemoryStore()
    store.create(layout.VAULT, content)
    only_typed(lambda: layout.read_descriptor(store))


# ------------------------------------------------------------------------------------------------- newer formats


def test_every_object_of_a_newer_format_asks_for_a_newer_refloat_and_is_not_called_damaged() -> None:
    def binary(kind: Kind) -> bytes:
        stored = bytearray(seal_signed(KEYRING, kind, POINT_CONTENT))
        stored[8:10] = struct.pack(">H", 3)
        return bytes(stored)

    pack = bytearray(PACK.stored)
    pack[8:10] = struct.pack(">H", 3)
    index, point = binary(Kind.INDEX), binary(Kind.POINT)
    body = seal_signed(KEYRING, Kind.POINT, canonical_json({**BODY, "format": 3}))
    _, log = slot_of(canonical_json({"format": 2, "what": "ever"}))
    key = json.dumps({**json.loads(KEY.to_bytes()), "format": 2, "more": 1}).encode()
    newer: dict[str, Callable[[], object]] = {
        "index": lambda: open_index(KEYRING, object_name(index), index, what="it"),
        "point": lambda: open_point(KEYRING, object_name(point), point),
        "body": lambda: open_point(KEYRING, object_name(body), body),
        "pack": lambda: open_directory(KEYRING, lambda at, n: bytes(pack[at : at + n]), len(pack), what="it"),
        "slot": lambda: log.read(0),
        "key file": lambda: KeyFile.from_bytes(key),
        "page": lambda: decode_page(canonical_json({"format": 4, "rows": []}), what="it"),
        "descriptor": lambda: layout.parse_object(b'{"format":2}', layout.VAULT),
    }
    for what, read in newer.items():
        with pytest.raises(VaultError, match=r"format [234]") as caught:
            read()
        assert not isinstance(caught.value, Damaged | WrongKey), what
        assert "upgrade" in str(caught.value.next), what


def test_keys_of_a_newer_format_ask_for_a_newer_refloat(world: VaultWorld) -> None:
    for name in world.names(layout.KEYS):
        world.stores["eu"].delete(name)
    newer = canonical_json({"format": 2, "type": "certificate"})
    world.stores["eu"].create(layout.key_name(object_name(newer)), newer)
    with pytest.raises(VaultError, match="format 2") as caught:
        world.open()
    assert not isinstance(caught.value, Damaged)
