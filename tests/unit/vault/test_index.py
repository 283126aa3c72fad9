"""The index finds every chunk, and an index object is whole or damaged."""

from __future__ import annotations

import numpy as np
import pytest

from refloat.digest import object_name
from refloat.errors import Damaged, VaultError
from refloat.vault.chunk import chunk_name, seal_chunk
from refloat.vault.index import (
    LEFT_OUT_BYTES,
    REDUCED_BYTES_MORE,
    Index,
    index_content,
    open_index,
    reduced_index,
    seal_index,
)
from refloat.vault.indexrun import Location
from refloat.vault.keys import KeyFile, Keyring
from refloat.vault.pack import CATALOGUE_KEY, ENTRY, Directory, PackRecord, SealedPack, seal_pack
from refloat.vault.seal import Kind, seal_signed


@pytest.fixture(scope="module")
def keyring() -> Keyring:
    class Vouched(Keyring):
        """A keyring that vouches for its own writer, as a vault's certificate would."""

        def _public(self, role, signer):  # type: ignore[no-untyped-def]
            from refloat.vault.keyobjects import public_of

            return public_of(self._seed(role))

    return Vouched(KeyFile.create("vault-1", "demo"))


def pack_of(keyring: Keyring, raws: list[bytes]) -> SealedPack:
    sealed = [seal_chunk(raw, chunk_name(keyring.chunk_name_key, raw), keyring.catalogue_key) for raw in raws]
    return seal_pack(keyring, CATALOGUE_KEY, sealed)


def directory_of(names: list[bytes], stored: int = 10) -> Directory:
    rows = np.zeros(len(names), ENTRY)
    for at, name in enumerate(names):
        rows[at] = (name, 32 + at * stored, stored, stored, 1, bytes(3), bytes(32))
    return Directory(CATALOGUE_KEY, rows)


def record(name: str, size: int = 10_000) -> PackRecord:
    return PackRecord(name, size, CATALOGUE_KEY, "w")


def test_what_was_added_is_found_where_it_lies_and_nothing_else_is(keyring: Keyring) -> None:
    pack = pack_of(keyring, [b"one", b"two"])
    index = Index()
    index.add([(pack.record, pack.directory)])
    found = index.lookup(chunk_name(keyring.chunk_name_key, b"two"))
    assert found == Location(pack.record, 32 + 28 + 3, 28 + 3, 3, 0, bytes(32))
    assert index.lookup(chunk_name(keyring.chunk_name_key, b"three")) is None
    assert index.packs == (pack.record,)


def test_names_that_begin_alike_are_told_apart() -> None:
    alike = [b"samehead" + bytes([n]) * 24 for n in range(1, 6)] + [b"samehead" + bytes(24)]
    index = Index()
    index.add([(record("p"), directory_of(alike[:4]))])
    index.add([(record("q"), directory_of(alike[4:5]))])
    for at, name in enumerate(alike[:4]):
        found = index.lookup(name)
        assert found is not None
        assert found.offset == 32 + 10 * at
    assert index.lookup(alike[5]) is None


def test_a_chunk_in_two_packs_is_found_in_both_the_older_first() -> None:
    index = Index()
    index.add([(record("old"), directory_of([b"n" * 32])), (record("new"), directory_of([b"n" * 32]))])
    assert [place.pack.name for place in index.locations(b"n" * 32)] == ["old", "new"]


def test_a_pack_that_is_added_twice_is_there_once() -> None:
    index = Index()
    for _ in range(2):
        index.add([(record("p"), directory_of([b"n" * 32]))])
    assert len(index) == len(index.packs) == 1


def test_an_index_object_says_what_the_packs_say(keyring: Keyring) -> None:
    packs = [pack_of(keyring, [b"one", b"two"]), pack_of(keyring, []), pack_of(keyring, [b"three"])]
    stored = seal_index(keyring, [(pack.record, pack.directory) for pack in packs])
    opened = open_index(keyring, object_name(stored), stored, what="index")
    assert [found for found, _ in opened] == [pack.record for pack in packs]
    assert all(
        found.entries.tobytes() == pack.directory.entries.tobytes()
        for (_, found), pack in zip(opened, packs, strict=True)
    )
    assert opened[0][0].writer == keyring.writer


def test_an_index_object_without_packs_says_what_is_left_and_has_the_same_bytes_each_time(
    keyring: Keyring,
) -> None:
    packs = [pack_of(keyring, [raw]) for raw in (b"one", b"two", b"three")]
    first, second, third = (pack.record for pack in packs)
    stored = seal_index(keyring, [(pack.record, pack.directory) for pack in packs])

    def without(stored: bytes, *records: PackRecord) -> bytes:
        names = [record.name for record in records]
        return reduced_index(keyring, object_name(stored), stored, names, what="index")

    def said(stored: bytes) -> list[PackRecord]:
        return [found for found, _ in open_index(keyring, object_name(stored), stored, what="index")]

    once = without(stored, first)
    assert said(once) == [second, third]
    assert len(once) <= len(stored) + LEFT_OUT_BYTES + REDUCED_BYTES_MORE
    assert without(once, third) == without(stored, third, first) != once
    assert said(without(once, third)) == [second]


def test_index_objects_that_say_the_same_are_all_known() -> None:
    name = bytes(range(32))
    index = Index()
    for source in ("one", "two"):
        index.add([(record("aa"), directory_of([name]))], source)
    index.add([(record("aa"), directory_of([name], stored=11))], "other")
    assert index.listing({"aa"}) == {frozenset({"one", "two"}), frozenset({"other"})}
    assert index.listing({"bb"}) == set()


@pytest.mark.parametrize("reduced", [False, True])
def test_every_flipped_byte_of_an_index_object_is_an_error(keyring: Keyring, reduced: bool) -> None:
    pack = pack_of(keyring, [b"one"])
    stored = seal_index(keyring, [(pack.record, pack.directory)])
    if reduced:
        stored = reduced_index(keyring, object_name(stored), stored, ["ab" * 32], what="index")
    for at in range(len(stored)):
        broken = bytearray(stored)
        broken[at] ^= 0x10
        with pytest.raises(Damaged):
            open_index(keyring, object_name(stored), bytes(broken), what="index")
        with pytest.raises(VaultError):  # even where whoever broke it gave it a name that fits
            open_index(keyring, object_name(broken), bytes(broken), what="index")


def test_an_index_object_that_reaches_beyond_its_pack_is_damage(keyring: Keyring) -> None:
    pack = pack_of(keyring, [b"one"])
    short = PackRecord(pack.record.name, 40, CATALOGUE_KEY, keyring.writer)
    with pytest.raises(Damaged, match="the new index object is damaged: it lists chunks beyond the end"):
        seal_index(keyring, [(short, pack.directory)])
    stored = seal_signed(keyring, Kind.INDEX, index_content([(short, pack.directory)]))
    with pytest.raises(Damaged, match="beyond the end"):
        open_index(keyring, object_name(stored), stored, what="index")


def test_an_index_object_that_its_reader_does_not_vouch_for_is_damage(keyring: Keyring) -> None:
    pack = pack_of(keyring, [b"one"])
    stored = seal_index(keyring, [(pack.record, pack.directory)])
    stranger = Keyring(keyring._file)
    with pytest.raises(Damaged, match="does not vouch"):
        open_index(stranger, object_name(stored), stored, what="index")
