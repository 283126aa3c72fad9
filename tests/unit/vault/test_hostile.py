"""What somebody made to do harm: without keys, and with a writer's key, well signed and full of lies.

Each ends in a typed error, or is passed over, within two seconds and without filling the memory.
"""

from __future__ import annotations

import base64
import json
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import zstandard
from blake3 import blake3

from refloat.contracts import ObjectInfo
from refloat.digest import canonical_json, object_name
from refloat.errors import Damaged, UsageError, VaultError
from refloat.flows import points as flow_points
from refloat.limits import CHUNK_BYTES_MAX, MIB, PACK_BYTES_MAX
from refloat.vault import layout
from refloat.vault.check import check
from refloat.vault.chunk import NO_BASE, SealedChunk, chunk_name, open_chunk
from refloat.vault.index import index_content, open_index
from refloat.vault.keyfile import KEY_OBJECT_BYTES_MAX, seal_bytes
from refloat.vault.keys import Keyring, Role
from refloat.vault.pack import CATALOGUE_KEY, ENTRY, Directory, PackRecord, open_directory
from refloat.vault.points import POINT_BYTES_MAX, open_point, seal_point
from refloat.vault.seal import Kind, seal, seal_signed
from refloat.vault.slotlog import SlotLog
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.tree import chunk_names, decode_page

VaultWorld = Any  # the fixture ``world`` of conftest.py

SECONDS_MAX = 2.0
BYTES_MAX = 256 * MIB
TREE = "aa" * 32
BODY = {"format": 1, "manifest": TREE, "components": {"registry": {"tree": TREE}}}


@contextmanager
def bounded(bytes_max: int = BYTES_MAX) -> Iterator[None]:
    """I7: what happens inside takes little time and memory."""
    tracemalloc.start()
    began = time.process_time()
    try:
        yield
    finally:
        took, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert took < SECONDS_MAX * 4, f"{took:.1f} s"  # four times as slow while memory is traced
    assert peak < bytes_max, f"{peak / MIB:.0f} MiB"


def refused(call: Callable[[], object], match: str | None = None) -> VaultError:
    with bounded(), pytest.raises(VaultError, match=match) as caught:
        call()
    return caught.value


@pytest.fixture
def keyring(world: VaultWorld) -> Keyring:
    found: Keyring = world.open().keyring
    return found


# ------------------------------------------------------------------------------------- index objects and packs


def packs_of(*listed: tuple[int, list[tuple[int, int, int]]], count: int | None = None) -> bytes:
    """An index object's content: packs of a size, with entries of (offset, stored, raw)."""
    parts = [struct.pack(">I", len(listed) if count is None else count)]
    for size, rows in listed:
        entries = np.zeros(len(rows), ENTRY)
        for at, (offset, stored, raw) in enumerate(rows):
            entries[at] = (bytes(32), offset, stored, raw, 0, bytes(3), bytes(32))
        parts += [struct.pack(">32sQ16sI", bytes(32), size, bytes(16), len(rows)), entries.tobytes()]
    return b"".join(parts)


INDEX_LIES = {
    "packs without end": packs_of((100, []), count=2**32 - 1),
    "entries without end": struct.pack(">I32sQ16sI", 1, bytes(32), 100, bytes(16), 2**32 - 1),
    "an offset beyond the pack": packs_of((100, [(101, 1, 1)])),
    "an offset that comes round": packs_of((100, [(2**64 - 10, 20, 20)])),
    "one of two offsets that comes round": packs_of((100, [(32, 10, 10), (2**64 - 1, 1, 1)])),
    "a pack larger than any": packs_of((2**64 - 1, [(2**63, 1, 1)])),
    "a record larger than any": packs_of((PACK_BYTES_MAX, [(32, 2**32 - 1, 10)])),
    "a chunk larger than any": packs_of((PACK_BYTES_MAX, [(32, 10, 2**32 - 1)])),
    "something after the end": packs_of((100, [])) + b"x",
    "nothing": b"",
}


@pytest.mark.parametrize("lie", INDEX_LIES)
def test_an_index_object_that_its_writer_signed_and_lies_is_damage(keyring: Keyring, lie: str) -> None:
    # fault 53
    stored = seal_signed(keyring, Kind.INDEX, INDEX_LIES[lie])
    refused(lambda: open_index(keyring, object_name(stored), stored, what="index"))


def reduced(content: bytes, keyring: Keyring) -> bytes:
    return seal_signed(keyring, Kind.REDUCED_INDEX, content)


WRITTEN = b"here stands what a writer signed"
REDUCED_LIES = {
    "nothing": b"",
    "half a number": b"\0\0",
    "no pack": struct.pack(">I", 0) + WRITTEN,
    "packs without end": struct.pack(">I", 2**32 - 1) + bytes(range(32)) + WRITTEN,
    "a pack twice": struct.pack(">I", 2) + 2 * (b"a" * 32) + WRITTEN,
    "packs out of order": struct.pack(">I", 2) + b"b" * 32 + b"a" * 32 + WRITTEN,
    "half a name": struct.pack(">I", 1) + b"a" * 31,
    "nothing a writer signed": struct.pack(">I", 1) + b"a" * 32,
    "something that no writer signed": struct.pack(">I", 1) + b"a" * 32 + Kind.INDEX.header + bytes(200),
}


@pytest.mark.parametrize("lie", REDUCED_LIES)
def test_an_index_object_that_the_admin_signed_and_lies_is_damage(keyring: Keyring, lie: str) -> None:
    # fault 53
    stored = reduced(REDUCED_LIES[lie], keyring)
    refused(lambda: open_index(keyring, object_name(stored), stored, what="index"))


def test_an_index_object_that_was_reduced_is_not_reduced_again_as_a_whole(keyring: Keyring) -> None:
    # fault 53
    left_out = struct.pack(">I", 1) + b"a" * 32
    once = reduced(left_out + seal_signed(keyring, Kind.INDEX, packs_of((100, []))), keyring)
    assert open_index(keyring, object_name(once), once, what="index")
    stored = reduced(left_out + once, keyring)
    refused(lambda: open_index(keyring, object_name(stored), stored, what="index"))


def test_an_index_object_that_a_writer_takes_packs_out_of_is_damage(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    # fault 56
    written = seal_signed(keyring, Kind.INDEX, packs_of((100, [])))
    content = struct.pack(">I", 1) + bytes(32) + written
    with monkeypatch.context() as patch:
        patch.setattr(Kind, "signed_as", Role.WRITER)
        stored = reduced(content, keyring)
    refused(lambda: open_index(keyring, object_name(stored), stored, what="index"), "does not vouch for it")
    assert open_index(keyring, object_name(made := reduced(content, keyring)), made, what="index") == []


def test_a_million_entries_are_read_in_time(keyring: Keyring) -> None:
    # fault 53
    entries = np.zeros(750_000, ENTRY)  # what fits into an object
    entries["offset"], entries["stored"] = 32, 10
    content = struct.pack(">I32sQ16sI", 1, bytes(32), 100, bytes(16), len(entries)) + entries.tobytes()
    stored = seal_signed(keyring, Kind.INDEX, content)
    with bounded():
        assert len(open_index(keyring, object_name(stored), stored, what="index")[0][1].entries) == 750_000


def test_an_index_object_that_lies_about_a_pack_hides_nothing_of_it(world: VaultWorld) -> None:
    # fault 53
    made = world.capture({"a.bin": b"what a says" * 90})
    replica = world.open()
    lies = []
    for pack in replica.index.packs:
        rows = replica.read_directory(pack.name, pack.size).entries.copy()
        rows["offset"] = 32
        lies.append((PackRecord(pack.name, pack.size, pack.key_id), Directory(pack.key_id, rows)))
    for _ in range(8):  # whichever is read first
        stored = seal_signed(replica.keyring, Kind.INDEX, index_content(lies))
        world.stores["eu"].create(layout.index_name(object_name(stored)), stored)
    assert world.restored(made.point) == {"a.bin": b"what a says" * 90}


def pack_with(keyring: Keyring, entries: list[tuple[int, int]], records: bytes) -> bytes:
    """A pack whose directory says of its records (offset, length) what it wants."""
    rows = np.zeros(len(entries), ENTRY)
    for at, (offset, length) in enumerate(entries):
        rows[at] = (bytes([at]) * 32, offset, length, length, 0, bytes(3), bytes(32))
    header = Kind.PACK.header + CATALOGUE_KEY
    directory = seal(keyring, Kind.PACK, rows.tobytes(), header=header)
    return header + records + directory + struct.pack(">I4s", len(directory), b"RFLT")


@pytest.mark.parametrize(
    "entries",
    [
        [(32, 60), (50, 60)],
        [(32, 50), (32, 50)],
        [(32, 101)],
        [(33, 99)],
        [(2**64 - 1, 100)],
        [(32, 2**32 - 1)],
        [],
    ],
    ids=["overlap", "twice the same", "beyond", "a gap", "comes round", "too long", "nothing listed"],
)
def test_a_packs_directory_that_does_not_fit_its_records_is_damage(
    keyring: Keyring, entries: list[tuple[int, int]]
) -> None:
    # faults 6, 53
    stored = pack_with(keyring, entries, bytes(100))
    refused(
        lambda: open_directory(keyring, lambda at, size: stored[at : at + size], len(stored), what="pack")
    )


@pytest.mark.parametrize("length", [0, 1, 2**31, 2**32 - 1])
def test_a_footer_that_gives_an_impossible_length_is_damage(keyring: Keyring, length: int) -> None:
    # fault 53
    stored = pack_with(keyring, [(32, 100)], bytes(100))[:-8] + struct.pack(">I4s", length, b"RFLT")
    refused(
        lambda: open_directory(keyring, lambda at, size: stored[at : at + size], len(stored), what="pack")
    )


def test_a_pack_and_an_index_object_of_nobody_do_not_keep_anybody_from_the_others(world: VaultWorld) -> None:
    # fault 53
    made = world.capture({"a.bin": b"a" * 900})
    for kind, name in (("INDX", layout.index_name), ("PACK", layout.pack_name)):
        for version in (0, 1, 2, 65535):
            junk = b"RFLT" + kind.encode() + struct.pack(">H", version) + bytes(300)
            world.stores["eu"].create(name(object_name(junk)), junk)
    assert world.restored(made.point) == {"a.bin": b"a" * 900}
    reasons = {damage.reason for damage in check(world.open(), read_data=True).damaged}
    assert any("reads format 1" in reason for reason in reasons)
    assert any("damaged" in reason for reason in reasons)


# ---------------------------------------------------------------------------------------------------- chunks


def sealed_as(
    keyring: Keyring, content: bytes, *, raw: int, codec: int, base: bytes = NO_BASE
) -> SealedChunk:
    """A chunk of ``content`` as it is stored, of which the rest is claimed."""
    name = chunk_name(keyring.chunk_name_key, b"x")
    described = name + bytes([codec]) + base
    record = seal_bytes(blake3(described, key=keyring.catalogue_key).digest(), content, described)
    return SealedChunk(name, codec, base, raw, record)


def opened(keyring: Keyring, chunk: SealedChunk) -> bytes:
    return open_chunk(
        chunk,
        name_key=keyring.chunk_name_key,
        secret=keyring.catalogue_key,
        what="pack",
        read=lambda base: b"x",
    )


def bomb(size: int, *, told: bool = True) -> bytes:
    """A few bytes that unpack to ``size`` zeros."""
    machine = zstandard.ZstdCompressor(level=19, write_content_size=told).compressobj(
        size=size if told else -1
    )
    block = bytes(16 * MIB)
    parts = [machine.compress(block[: min(len(block), size - at)]) for at in range(0, size, len(block))]
    return b"".join([*parts, machine.flush()])


@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
@pytest.mark.parametrize("raw", [1, 1024, CHUNK_BYTES_MAX, 2**32 - 1])
def test_a_frame_that_unpacks_to_far_more_is_refused_before_it_is_unpacked(
    keyring: Keyring, raw: int, told: bool
) -> None:
    # faults 53, 61
    content = bomb(128 * MIB, told=told)
    assert len(content) < 64 * 1024
    chunk = sealed_as(keyring, content, raw=raw, codec=1)
    with bounded(64 * MIB), pytest.raises(Damaged):
        opened(keyring, chunk)


def test_a_frame_that_says_less_than_it_holds_is_refused(keyring: Keyring) -> None:
    # faults 53, 61
    content = bytearray(bomb(16 * MIB))
    told = struct.pack("<I", 16 * MIB)
    assert content.count(told) == 1
    at = content.index(told)
    content[at : at + 4] = struct.pack("<I", 1024)
    with bounded(64 * MIB), pytest.raises(Damaged):
        opened(keyring, sealed_as(keyring, bytes(content), raw=1024, codec=1))


@pytest.mark.parametrize(
    ("raw", "codec", "base"),
    [
        (2, 0, NO_BASE),
        (0, 0, NO_BASE),
        (2**32 - 1, 0, NO_BASE),
        (1, 0, b"b" * 32),
        (1, 3, NO_BASE),
        (1, 3, b"b" * 32),
        (1, 255, NO_BASE),
    ],
    ids=[
        "longer",
        "shorter",
        "huge",
        "a base",
        "a difference from nothing",
        "no difference at all",
        "a codec that is none",
    ],
)
def test_a_chunk_that_is_not_what_its_directory_says_is_refused(
    keyring: Keyring, raw: int, codec: int, base: bytes
) -> None:
    # fault 53
    refused(lambda: opened(keyring, sealed_as(keyring, b"x", raw=raw, codec=codec, base=base)))


# ----------------------------------------------------------------------------------------------------- folders


def entry(name: bytes = b"a", **more: object) -> dict[str, object]:
    document = {
        "name": base64.b64encode(name).decode(),
        "type": "file",
        "mode": 0o644,
        "mtime_ns": 0,
        "size": 0,
        "chunks": "",
        "segmenter": 0,
        "token": "",
    }
    return {**document, **more}


def page(*entries: object, next: object = None, **more: object) -> bytes:
    return canonical_json({"format": 1, "entries": list(entries), "next": next, **more})


PAGE_LIES = {
    "up": page(entry(b"..")),
    "here": page(entry(b".")),
    "a path": page(entry(b"a/b")),
    "an absolute path": page(entry(b"/etc/passwd")),
    "NUL": page(entry(b"a\0b")),
    "no name": page(entry(b"")),
    "a long name": page(entry(b"n" * 4097)),
    "a name twice": page(entry(b"a"), entry(b"a")),
    "no order": page(entry(b"b"), entry(b"a")),
    "a negative size": page(entry(size=-1)),
    "a huge size": page(entry(size=2**64, chunks=base64.b64encode(bytes(32)).decode())),
    "a size without chunks": page(entry(size=10)),
    "chunks without a size": page(entry(chunks=base64.b64encode(bytes(32)).decode())),
    "half a chunk name": page(entry(size=1, chunks=base64.b64encode(bytes(31)).decode())),
    "set-user-id": page(entry(mode=0o4755)),
    "a time out of this world": page(entry(mtime_ns=10**30)),
    "a field more": page(entry(more=1)),
    "a device": page(entry(type="device")),
    "a number for a name": page({"name": 1, "type": "file"}),
    "a list for an entry": page([]),
    "entries that are none": canonical_json({"format": 1, "entries": 7, "next": None}),
    "an empty page that goes on": page(next="ab" * 32),
    "a next that is none": page(entry(), next="zz"),
    "a next that is a number": page(entry(), next=7),
    "NaN": b'{"entries":[],"format":1,"next":NaN}',
    "infinity": b'{"entries":[],"format":1,"next":1e999}',
    "a huge number": b'{"entries":[' + b"9" * 5000 + b'],"format":1,"next":null}',
    "another order of fields": b'{"format":1,"entries":[],"next":null}',
    "a field twice": b'{"entries":[],"entries":[],"format":1,"next":null}',
    "half a surrogate": b'{"entries":[],"format":1,"next":"\\ud800"}',
    "UTF-16": page().decode().encode("utf-16"),
    "nesting without end": b"[" * 200_000,
    "nesting inside": b'{"entries":' + b"[" * 100_000 + b"]" * 100_000 + b',"format":1,"next":null}',
    "nothing": b"",
}


@pytest.mark.parametrize("lie", PAGE_LIES)
def test_a_page_that_lies_is_damage(lie: str) -> None:
    # fault 53
    error = refused(lambda: decode_page(PAGE_LIES[lie], what="folder"))
    assert isinstance(error, Damaged)


def test_a_page_of_a_newer_format_needs_a_newer_refloat() -> None:
    newer = refused(lambda: decode_page(page(entry(), format=4, extra=1), what="folder"), "format 4")
    assert not isinstance(newer, Damaged)
    assert "upgrade" in str(newer.next)


def test_very_many_entries_are_read_in_time() -> None:
    # fault 53
    raw = page(*(entry(b"%07d" % n) for n in range(50_000)))
    began = time.thread_time()
    assert len(decode_page(raw, what="folder").nodes) == 50_000
    assert time.thread_time() - began < SECONDS_MAX * 4  # a machine may be four times as slow


def test_a_page_larger_than_any_chunk_is_not_even_parsed() -> None:
    # fault 53
    raw = b"[]," * (CHUNK_BYTES_MAX // 3 + 1)
    refused(lambda: decode_page(raw, what="folder"), "larger")


@pytest.mark.parametrize("entries", [[], [entry()]], ids=["empty", "full"])
def test_a_page_that_names_itself_as_its_next_ends(entries: list[object]) -> None:
    # fault 53: no page can hold its own hash; were that ever broken, reading would still end
    itself = b"p" * 32
    raw = page(*entries, next=itself.hex())
    refused(lambda: list(chunk_names(itself, lambda name: raw)))


def test_a_folder_that_holds_itself_ends() -> None:
    # fault 53
    itself = b"f" * 32
    folder = {"name": base64.b64encode(b"d").decode(), "type": "directory", "mode": 0o755, "mtime_ns": 0}
    raw = page({**folder, "tree": itself.hex()})
    refused(lambda: list(chunk_names(itself, lambda name: raw)), "deeper")


def test_folders_a_hundred_thousand_deep_are_damage() -> None:
    # fault 53
    def read(name: bytes) -> bytes:
        below = (int.from_bytes(name, "big") + 1).to_bytes(32, "big")
        folder = {"name": base64.b64encode(b"d").decode(), "type": "directory", "mode": 0o755, "mtime_ns": 0}
        return page({**folder, "tree": below.hex()})

    refused(lambda: list(chunk_names(bytes(32), read)), "deeper")


def test_pages_without_end_are_damage_as_soon_as_they_stop_ascending() -> None:
    # fault 53
    def read(name: bytes) -> bytes:
        return page(entry(b"a"), next=(int.from_bytes(name, "big") + 1).to_bytes(32, "big").hex())

    refused(lambda: list(chunk_names(bytes(32), read)), "go on")


# ------------------------------------------------------------------------------------------------- points


def signed_point(keyring: Keyring, content: bytes) -> tuple[str, bytes]:
    stored = seal_signed(keyring, Kind.POINT, content)
    return object_name(stored), stored


POINT_LIES = {
    "nothing": b"",
    "a list": b"[]",
    "no trees": canonical_json({"format": 1}),
    "a tree that is a path": canonical_json({**BODY, "manifest": "../" * 20}),
    "a tree that is a number": canonical_json({**BODY, "manifest": 7}),
    "components that are a list": canonical_json({**BODY, "components": [1]}),
    "a component that is none": canonical_json({**BODY, "components": {"a": None}}),
    "NaN": canonical_json(BODY)[:-1] + b',"z":NaN}',
    "infinity": canonical_json(BODY)[:-1] + b',"z":1e999}',
    "nesting": b'{"format":1,"a":' + b"[" * 500_000,
    "a format that is text": canonical_json({**BODY, "format": "1"}),
    "a format before the first": canonical_json({**BODY, "format": 0}),
}


@pytest.mark.parametrize("lie", POINT_LIES)
def test_a_point_that_its_writer_signed_and_lies_is_damage(keyring: Keyring, lie: str) -> None:
    # fault 53
    name, stored = signed_point(keyring, POINT_LIES[lie])
    assert isinstance(refused(lambda: open_point(keyring, name, stored)), Damaged)


def test_a_body_that_is_no_recovery_point_is_damage_for_the_flows(world: VaultWorld) -> None:
    # fault 53
    body = {**BODY, "created_at": "yesterday", "groups": 7}
    stored = seal_point(world.open().keyring, body)
    world.stores["eu"].create(layout.point_name(object_name(stored)), stored)
    with pytest.raises(Damaged, match="fields are wrong"):
        flow_points.read(world.open(), object_name(stored))


def test_facts_that_are_too_large_are_refused_by_who_writes_and_by_who_reads(keyring: Keyring) -> None:
    # fault 53
    facts = "x" * (POINT_BYTES_MAX + 1)
    with pytest.raises(UsageError, match="can be read"):
        seal_point(keyring, {**BODY, "facts": facts})
    name, stored = signed_point(keyring, canonical_json({**BODY, "facts": facts}))
    refused(lambda: open_point(keyring, name, stored), "larger")


def test_the_largest_point_takes_little_memory_whatever_it_holds(keyring: Keyring) -> None:
    # fault 53
    part = 16  # of the largest; it grows in step, and tracing memory takes its time
    start, end = b'{"a":[', b"]," + canonical_json(BODY)[1:]
    content = start + b",".join([b"[]"] * (POINT_BYTES_MAX // part // 3)) + end
    name, stored = signed_point(keyring, content)
    with bounded(BYTES_MAX // part):
        open_point(keyring, name, stored)


def test_an_entry_of_the_log_that_does_not_name_a_point_is_damage(world: VaultWorld) -> None:
    # fault 53
    head = {"slot": 0, "hash": "ab" * 32, "point": "cd" * 32}
    lies: list[dict[str, object]] = [
        {},
        {"point": "../../etc"},
        {"point": 7},
        {"point": TREE, "heads": 7},
        {"point": TREE, "heads": {"us": 7}},
        {"point": TREE, "heads": {"us": {**head, "slot": -1}}},
        {"point": TREE, "heads": {"us": {**head, "slot": 10**16}}},
        {"point": TREE, "heads": {"us": {**head, "hash": None}}},
        {"point": TREE, "heads": {"us": {**head, "point": "x"}}},
        {"point": TREE, "grade": "shiny"},
        {"point": TREE, "created_at": "yesterday"},
    ]
    for lie in lies:
        store = MemoryStore()
        for kept in world.stores["eu"].list(""):
            store.create(kept.name, world.stores["eu"].get(kept.name))
        world.open(store=store).log("points", Role.WRITER).append(lie)
        with pytest.raises(Damaged) as caught:
            world.open(store=store).points()
        assert caught.value.file == layout.slot_name("points", 0)
        assert not check(world.open(store=store), read_data=True).ok


# --------------------------------------------------------------------------------------------------- plain objects


@pytest.mark.parametrize("turn", [64 * 1024, 300_000])
def test_plain_objects_that_nest_or_never_end_are_damage(turn: int) -> None:
    # fault 53
    for stored in (b"[" * turn, b'{"format":1,"a":' * (turn // 16), b" " * turn, b'"' + b"x" * turn):
        refused(lambda: layout.parse_object(stored, layout.VAULT))  # noqa: B023


@pytest.mark.parametrize(
    "chunking",
    [
        {"min": 1, "avg": 1, "max": 1},
        {"min": 64, "avg": 256, "max": 2**40},
        {"min": 1024, "avg": 256, "max": 512},
        {"min": 64, "avg": 10**30, "max": 10**31},
    ],
)
def test_a_descriptor_that_would_fill_the_memory_or_the_vault_is_damage(
    world: VaultWorld, chunking: dict[str, int]
) -> None:
    # fault 53
    document = json.loads(world.stores["eu"].get(layout.VAULT))
    world.replace(layout.VAULT, canonical_json({**document, "chunking": chunking}))
    refused(world.open, "fields are wrong")


def test_key_objects_without_end_fill_neither_time_nor_memory(world: VaultWorld) -> None:
    # fault 53
    for n in range(100):
        junk = canonical_json({"format": 1, "type": "certificate", "z": [[]] * (5_000 + n)})
        assert len(junk) > KEY_OBJECT_BYTES_MAX - 2_000
        world.stores["eu"].create(layout.key_name(object_name(junk)), junk)
    with bounded(8 * MIB):
        assert len(world.open().keyring.rejected) == 100


def test_a_store_that_says_that_every_slot_is_there_is_not_asked_for_ever(world: VaultWorld) -> None:
    # fault 53
    class Everything(MemoryStore):
        asked = 0

        def size(self, name: str) -> int | None:
            Everything.asked += 1
            return 10

        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            return iter(())

    log = SlotLog(Everything(), "points", world.open().keyring, role=Role.WRITER, clock=world.clock)
    refused(lambda: list(log.entries()))
    assert Everything.asked < 200
