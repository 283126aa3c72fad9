"""The index finds every chunk, and an index object is whole or damaged."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refloat.digest import object_name
from refloat.errors import Damaged, VaultError
from refloat.vault import index as index_module
from refloat.vault.chunk import chunk_name, seal_chunk
from refloat.vault.index import Index, Location, open_index, seal_index
from refloat.vault.keys import KeyFile, Keyring
from refloat.vault.pack import CATALOGUE_KEY, ENTRY, Directory, PackRecord, SealedPack, seal_pack


@pytest.fixture(scope="module")
def keyring() -> Keyring:
    class Vouched(Keyring):
        """A keyring that vouches for its own writer, as a vault's certificate would."""

        def _public(self, role, signer):  # type: ignore[no-untyped-def]
            from refloat.vault.keys import _public_of

            return _public_of(self._seed(role))

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


@settings(max_examples=30)
@given(st.lists(st.lists(st.binary(min_size=32, max_size=32), max_size=12), max_size=12), st.integers(1, 20))
def test_it_agrees_with_a_dictionary_however_rows_move_between_its_arrays(
    packs: list[list[bytes]], recent_max: int
) -> None:
    index, truth = Index(), {}
    before, index_module.RECENT_ROWS_MAX = index_module.RECENT_ROWS_MAX, recent_max
    try:
        for number, names in enumerate(packs):
            index.add([(record(str(number)), directory_of(names))])
            for name in names:
                truth.setdefault(name, str(number))
    finally:
        index_module.RECENT_ROWS_MAX = before
    for name, pack in truth.items():
        found = index.lookup(name)
        assert found is not None
        assert found.pack.name == pack
    assert index.lookup(os.urandom(32)) is None


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


def test_every_flipped_byte_of_an_index_object_is_an_error(keyring: Keyring) -> None:
    pack = pack_of(keyring, [b"one"])
    stored = seal_index(keyring, [(pack.record, pack.directory)])
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
    stored = seal_index(keyring, [(short, pack.directory)])
    with pytest.raises(Damaged, match="beyond the end"):
        open_index(keyring, object_name(stored), stored, what="index")


def test_an_index_object_that_its_reader_does_not_vouch_for_is_damage(keyring: Keyring) -> None:
    pack = pack_of(keyring, [b"one"])
    stored = seal_index(keyring, [(pack.record, pack.directory)])
    stranger = Keyring(keyring._file)
    with pytest.raises(Damaged, match="does not vouch"):
        open_index(stranger, object_name(stored), stored, what="index")
