"""A pack opens as it was sealed, or says that it is damaged; never anything else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refloat.errors import Damaged, VaultError, WrongKey
from refloat.vault.chunk import SealedChunk, chunk_name, open_chunk, seal_chunk
from refloat.vault.keys import KeyFile, Keyring, Role
from refloat.vault.pack import (
    CATALOGUE_KEY,
    PACK_HEADER_BYTES,
    SealedPack,
    open_directory,
    open_records,
    overhead_bytes,
    record_secret,
    seal_pack,
    sealed_chunk,
)

RAWS = [b"first", b"second " * 50, b"", b"fourth"]


@pytest.fixture(scope="module")
def keyring() -> Keyring:
    return Keyring(KeyFile.create("vault-1", "demo"))


def chunks(keyring: Keyring, raws: list[bytes]) -> list[SealedChunk]:
    return [seal_chunk(raw, chunk_name(keyring.chunk_name_key, raw), keyring.catalogue_key) for raw in raws]


def pack_of(keyring: Keyring, raws: list[bytes]) -> SealedPack:
    return seal_pack(keyring, CATALOGUE_KEY, chunks(keyring, raws))


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
        found.append(open_chunk(chunk, name_key=keyring.chunk_name_key, secret=secret, what="pack"))
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(raws=st.lists(st.binary(max_size=300), max_size=8))
def test_any_chunks_come_back_from_a_pack(keyring: Keyring, raws: list[bytes]) -> None:
    pack = pack_of(keyring, raws)
    assert contents(keyring, pack.stored) == raws
    assert len(pack.stored) == overhead_bytes(len(raws)) + sum(
        int(n) for n in pack.directory.entries["stored"]
    )


def test_every_flipped_byte_of_a_pack_is_an_error_and_never_other_bytes(keyring: Keyring) -> None:
    stored = pack_of(keyring, RAWS).stored
    for at in range(len(stored)):
        broken = bytearray(stored)
        broken[at] ^= 0x01
        with pytest.raises(VaultError):
            contents(keyring, bytes(broken))


def test_every_truncation_of_a_pack_is_damage(keyring: Keyring) -> None:
    stored = pack_of(keyring, RAWS).stored
    for length in range(len(stored)):
        with pytest.raises(Damaged):
            open_directory(keyring, ranged(stored[:length]), length, what="pack")
        with pytest.raises(Damaged):  # the store still tells the old size
            open_directory(keyring, ranged(stored[:length]), len(stored), what="pack")


def test_a_pack_with_something_appended_is_damage(keyring: Keyring) -> None:
    stored = pack_of(keyring, RAWS).stored
    for tail in (b"\0", stored[-8:], stored):
        with pytest.raises(Damaged):
            open_directory(keyring, ranged(stored + tail), len(stored + tail), what="pack")


def test_a_pack_of_another_vault_with_the_same_keys_does_not_open(keyring: Keyring) -> None:
    stored = pack_of(keyring, RAWS).stored
    other = Keyring(keyring._file.model_copy(update={"vault": "vault-2"}))
    with pytest.raises(Damaged, match="seal"):
        open_directory(other, ranged(stored), len(stored), what="pack")


def test_a_directory_of_another_pack_is_not_taken_for_its_own(keyring: Keyring) -> None:
    first, second = pack_of(keyring, [b"one"]).stored, pack_of(keyring, [b"second"]).stored
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
        open_records(writer_only, pack.stored, pack.directory, what="pack")


def test_opening_all_records_counts_their_bytes(keyring: Keyring) -> None:
    pack = pack_of(keyring, RAWS)
    assert open_records(keyring, pack.stored, pack.directory, what="pack") == sum(map(len, RAWS))


def test_a_newer_format_is_told_apart_from_damage(keyring: Keyring) -> None:
    stored = bytearray(pack_of(keyring, RAWS).stored)
    stored[9] = 2
    with pytest.raises(VaultError, match="format 2") as caught:
        open_directory(keyring, ranged(bytes(stored)), len(stored), what="pack")
    assert not isinstance(caught.value, Damaged)
