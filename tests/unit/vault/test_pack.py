"""A pack opens as it was sealed, or says that it is damaged; never anything else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refloat.digest import object_name
from refloat.errors import Damaged, Missing, VaultError, WrongKey
from refloat.limits import CHUNK_BYTES_MAX, PACK_BYTES_MAX
from refloat.vault.chunk import RECORD_BYTES_MAX, Base, SealedChunk, chunk_name, open_chunk, seal_chunk
from refloat.vault.codecs import DIFFERENCE
from refloat.vault.keys import KeyFile, Keyring, Role, key_objects
from refloat.vault.layout import key_name
from refloat.vault.pack import (
    CATALOGUE_KEY,
    ENTRY,
    PACK_HEADER_BYTES,
    Entries,
    PackRoom,
    SealedPack,
    can_open,
    open_directory,
    open_records,
    overhead_bytes,
    parse_entries,
    record_secret,
    seal_pack,
    sealed_chunk,
)
from refloat.vault.stores.memory import MemoryStore

RAWS = [b"first", b"second " * 50, b"", b"fourth"]


def no_base(name: bytes) -> bytes:
    raise AssertionError("nothing here rests on a base")


@pytest.fixture(scope="module")
def keyring() -> Keyring:
    return Keyring(KeyFile.create("vault-1", "demo"))


def chunks(keyring: Keyring, raws: list[bytes]) -> list[SealedChunk]:
    return [seal_chunk(raw, chunk_name(keyring.chunk_name_key, raw), keyring.catalogue_key) for raw in raws]


def pack_of(keyring: Keyring, raws: list[bytes]) -> SealedPack:
    return seal_pack(keyring, CATALOGUE_KEY, chunks(keyring, raws))


def stored_of(keyring: Keyring, raws: list[bytes]) -> bytes:
    return bytes(pack_of(keyring, raws).stored)


def ranged(stored: bytes) -> Callable[[int, int], bytes]:
    return lambda start, length: stored[start : start + length]


def contents(keyring: Keyring, stored: bytes) -> list[bytes]:
    """Every chunk of a pack, found through its directory alone."""
    directory = open_directory(keyring, ranged(stored), len(stored), what="pack")
    secret = record_secret(keyring, directory.key_id)
    found = []
    for row in directory.entries:
        start = int(row["offset"])
        chunk = sealed_chunk(row, stored[start : start + int(row["stored"])])
        found.append(
            open_chunk(chunk, name_key=keyring.chunk_name_key, secret=secret, what="pack", read=no_base)
        )
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(raws=st.lists(st.binary(max_size=300), max_size=8))
def test_any_chunks_come_back_from_a_pack(keyring: Keyring, raws: list[bytes]) -> None:
    pack = pack_of(keyring, raws)
    assert contents(keyring, bytes(pack.stored)) == raws
    assert len(pack.stored) == overhead_bytes(len(raws)) + sum(
        int(n) for n in pack.directory.entries["stored"]
    )


def test_every_flipped_byte_of_a_pack_is_an_error_and_never_other_bytes(keyring: Keyring) -> None:
    stored = stored_of(keyring, RAWS)
    for at in range(len(stored)):
        broken = bytearray(stored)
        broken[at] ^= 0x01
        with pytest.raises(VaultError):
            contents(keyring, bytes(broken))


def test_every_truncation_of_a_pack_is_damage(keyring: Keyring) -> None:
    stored = stored_of(keyring, RAWS)
    for length in range(len(stored)):
        with pytest.raises(Damaged):
            open_directory(keyring, ranged(stored[:length]), length, what="pack")
        with pytest.raises(Damaged):  # the store still tells the old size
            open_directory(keyring, ranged(stored[:length]), len(stored), what="pack")


def test_a_pack_with_something_appended_is_damage(keyring: Keyring) -> None:
    stored = stored_of(keyring, RAWS)
    for tail in (b"\0", stored[-8:], stored):
        with pytest.raises(Damaged):
            open_directory(keyring, ranged(stored + tail), len(stored + tail), what="pack")


def test_a_pack_of_another_vault_with_the_same_keys_does_not_open(keyring: Keyring) -> None:
    stored = stored_of(keyring, RAWS)
    other = Keyring(keyring._file.model_copy(update={"vault": "vault-2"}))
    with pytest.raises(Damaged, match="seal"):
        open_directory(other, ranged(stored), len(stored), what="pack")


def test_a_directory_of_another_pack_is_not_taken_for_its_own(keyring: Keyring) -> None:
    first, second = stored_of(keyring, [b"one"]), stored_of(keyring, [b"second"])
    records = PACK_HEADER_BYTES + 28 + len(b"one")
    crossed = first[:records] + second[records + 3 :]
    with pytest.raises(Damaged, match="does not fit its records"):
        open_directory(keyring, ranged(crossed), len(crossed), what="pack")


def test_a_pack_says_for_which_key_its_records_are_and_only_that_key_opens_them(keyring: Keyring) -> None:
    key = keyring.content_key()
    raw = b"contents"
    chunk = seal_chunk(raw, chunk_name(keyring.chunk_name_key, raw), key.secret)
    pack = seal_pack(keyring, key.id, [chunk])
    assert pack.record.key_id == pack.directory.key_id == key.id
    writer_only = Keyring(keyring._file.for_roles(Role.WRITER))
    with pytest.raises(WrongKey):
        open_records(writer_only, pack.stored, pack.directory, what="pack", read=no_base)


def test_opening_all_records_counts_their_bytes(keyring: Keyring) -> None:
    pack = pack_of(keyring, RAWS)
    opened = open_records(keyring, pack.stored, pack.directory, what="pack", read=no_base)
    assert (opened.length, opened.lost) == (sum(map(len, RAWS)), frozenset())


def test_a_newer_format_is_told_apart_from_damage(keyring: Keyring) -> None:
    stored = bytearray(stored_of(keyring, RAWS))
    stored[9] = 2
    with pytest.raises(VaultError, match="format 2") as caught:
        open_directory(keyring, ranged(bytes(stored)), len(stored), what="pack")
    assert not isinstance(caught.value, Damaged)


# ------------------------------------------------------------------------------------------------- its directory


def entries(**fields: int) -> Entries:
    """One entry of a chunk that has nothing remarkable but these fields."""
    found = np.zeros(1, ENTRY)
    for name, value in fields.items():
        found[name] = value
    return found


def test_an_entry_takes_84_bytes_and_a_directory_is_a_whole_number_of_them() -> None:
    plain = entries(stored=40, raw=12).tobytes()
    assert len(plain) == 84 and len(parse_entries(plain * 2, what="pack")) == 2
    assert len(parse_entries(b"", what="pack")) == 0
    for cut in (plain[:-1], plain + b"\0"):
        with pytest.raises(Damaged, match="impossible length"):
            parse_entries(cut, what="pack")


@pytest.mark.parametrize(("field", "most"), [("stored", RECORD_BYTES_MAX), ("raw", CHUNK_BYTES_MAX)])
def test_a_directory_lists_no_chunk_larger_than_any_that_is_written(field: str, most: int) -> None:
    largest = entries(**{field: most}).tobytes()
    assert parse_entries(largest, what="pack")[field] == most
    with pytest.raises(Damaged, match="larger than any") as caught:
        parse_entries(largest + entries(**{field: most + 1}).tobytes(), what="packs/aa/aa")
    assert caught.value.file == "packs/aa/aa"


def test_a_pack_of_nothing_is_the_smallest_and_one_of_the_most_bytes_is_looked_at(keyring: Keyring) -> None:
    empty = stored_of(keyring, [])
    assert len(empty) == overhead_bytes(0)
    assert contents(keyring, empty) == []
    asked: list[int] = []

    def zeros(start: int, length: int) -> bytes:
        asked.append(start)
        return bytes(length)

    for size in (overhead_bytes(0) - 1, PACK_BYTES_MAX + 1):
        with pytest.raises(Damaged, match=f"impossible size for a pack: {size} bytes"):
            open_directory(keyring, zeros, size, what="pack")
    assert asked == []
    with pytest.raises(Damaged, match="not a pack"):
        open_directory(keyring, zeros, PACK_BYTES_MAX, what="pack")
    assert asked == [0]


def test_a_footer_that_points_into_the_header_is_damage(keyring: Keyring) -> None:
    stored = bytearray(stored_of(keyring, RAWS))
    stored[-8:-4] = (len(stored) - 8 - PACK_HEADER_BYTES + 1).to_bytes(4, "big")
    with pytest.raises(Damaged, match="no footer"):
        open_directory(keyring, ranged(bytes(stored)), len(stored), what="pack")


# --------------------------------------------------------------------------------------------------- in its room


def test_records_that_lie_in_the_room_of_a_pack_are_sealed_there_and_the_room_serves_again(
    keyring: Keyring,
) -> None:
    room = PackRoom(10_000)
    assert len(room) == 10_000
    for raws in ([b"first", b"second"], [b"third"], []):
        room.clear()
        assert room.taken == 0
        sealed = [
            seal_chunk(raw, chunk_name(keyring.chunk_name_key, raw), keyring.catalogue_key, room=room.take)
            for raw in raws
        ]
        assert room.taken == sum(len(chunk.record) for chunk in sealed)
        pack = seal_pack(keyring, CATALOGUE_KEY, sealed, room)
        assert contents(keyring, bytes(pack.stored)) == raws
        assert (
            len(pack.stored)
            == pack.record.size
            == overhead_bytes(len(raws)) + sum(len(chunk.record) for chunk in sealed)
        )
        assert pack.record.writer == keyring.writer


def test_a_pack_whose_room_holds_other_records_is_not_returned(keyring: Keyring) -> None:
    room = PackRoom(10_000)
    room.take(1)  # of which no chunk knows
    with pytest.raises(Damaged, match="does not fit its records"):
        seal_pack(keyring, CATALOGUE_KEY, chunks(keyring, [b"one"]), room)


# ----------------------------------------------------------------------------------------------------- who opens it


def test_who_can_open_records_is_told_without_opening_one(keyring: Keyring) -> None:
    file, store = keyring._file, MemoryStore()
    for content in key_objects(file):
        store.create(key_name(object_name(content)), content)
    key = keyring.content_key()
    assert can_open(Keyring.vouched(file, store), key.id)
    writer_only = Keyring.vouched(file.for_roles(Role.WRITER), store)
    assert can_open(writer_only, CATALOGUE_KEY), "everybody reads the catalogue"
    assert not can_open(writer_only, key.id)


def differing(keyring: Keyring, base: bytes) -> SealedChunk:
    """A chunk of numbers that differ only a little from those of ``base``, which it rests on."""
    raw = (np.frombuffer(base, "<f4") * np.float32(1.0001)).tobytes()
    name = chunk_name(keyring.chunk_name_key, raw)
    on = Base(chunk_name(keyring.chunk_name_key, base), base)
    chunk = seal_chunk(raw, name, keyring.catalogue_key, width=4, base=on)
    assert (chunk.codec, chunk.base) == (DIFFERENCE.id, on.name)
    return chunk


def test_what_rests_on_a_lost_base_is_not_opened_and_no_fault_of_the_pack(keyring: Keyring) -> None:
    base = np.random.default_rng(7).standard_normal(5_000).astype("<f4").tobytes()
    rests = differing(keyring, base)
    pack = seal_pack(keyring, CATALOGUE_KEY, [rests, *chunks(keyring, [b"alone"])])

    def lost(name: bytes) -> bytes:
        raise Missing("no pack holds it")

    def found(name: bytes) -> bytes:
        assert name == rests.base
        return base

    opened = open_records(keyring, pack.stored, pack.directory, what="pack", read=lost)
    assert (opened.length, opened.lost) == (len(b"alone"), frozenset([rests.base]))
    whole = open_records(keyring, pack.stored, pack.directory, what="pack", read=found)
    assert (whole.length, whole.lost) == (len(base) + len(b"alone"), frozenset())


def test_a_damaged_record_is_damage_whatever_bases_were_lost(keyring: Keyring) -> None:
    base = np.random.default_rng(7).standard_normal(5_000).astype("<f4").tobytes()
    pack = seal_pack(keyring, CATALOGUE_KEY, [differing(keyring, base), *chunks(keyring, [b"alone"])])
    rotten = bytearray(pack.stored)
    rotten[int(pack.directory.entries["offset"][1])] ^= 1

    def lost(name: bytes) -> bytes:
        raise Missing("no pack holds it")

    with pytest.raises(Damaged, match="seal"):
        open_records(keyring, bytes(rotten), pack.directory, what="pack", read=lost)
