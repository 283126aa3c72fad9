"""A chunk comes back as it was, or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat.errors import Damaged, VaultError
from refloat.limits import CHUNK_BYTES_MAX
from refloat.vault.chunk import NO_BASE, SealedChunk, chunk_name, open_chunk, seal_chunk
from refloat.vault.codecs import DIFFERENCE

NAME_KEY = b"n" * 32
SECRET = b"s" * 32


def no_base(name: bytes) -> bytes:
    raise AssertionError("nothing here rests on a base")


def sealed(raw: bytes) -> SealedChunk:
    return seal_chunk(raw, chunk_name(NAME_KEY, raw), SECRET)


def opened(chunk: SealedChunk, name_key: bytes = NAME_KEY, secret: bytes = SECRET) -> bytes:
    return open_chunk(chunk, name_key=name_key, secret=secret, what="packs/aa/aa", read=no_base)


@given(st.binary(max_size=2000) | st.binary(min_size=1, max_size=20).map(lambda piece: piece * 5000))
def test_any_bytes_come_back(raw: bytes) -> None:
    assert opened(sealed(raw)) == raw


def test_the_same_bytes_have_the_same_name_and_never_the_same_record() -> None:
    first, second = sealed(b"weights"), sealed(b"weights")
    assert first.name == second.name
    assert first.record != second.record


def test_a_store_without_the_key_cannot_recognise_contents_by_name() -> None:
    assert chunk_name(NAME_KEY, b"weights") != chunk_name(b"m" * 32, b"weights")


def test_every_flipped_bit_of_a_record_is_noticed() -> None:
    chunk = sealed(b"a small chunk")
    for bit in range(len(chunk.record) * 8):
        record = bytearray(chunk.record)
        record[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(Damaged):
            opened(replace(chunk, record=bytes(record)))


def test_every_truncation_of_a_record_is_noticed() -> None:
    chunk = sealed(b"a small chunk")
    for length in range(len(chunk.record)):
        with pytest.raises(Damaged):
            opened(replace(chunk, record=chunk.record[:length]))


def test_a_record_does_not_open_under_another_name_codec_base_or_key() -> None:
    chunk, other = sealed(b"one" * 100), sealed(b"two" * 100)
    for wrong in (
        replace(chunk, name=other.name),
        replace(chunk, codec=0),
        replace(chunk, base=b"\1" * 32),
        replace(chunk, record=other.record),
        replace(chunk, raw_length=chunk.raw_length - 1),
        replace(chunk, raw_length=CHUNK_BYTES_MAX + 1),
    ):
        with pytest.raises(Damaged) as caught:
            opened(wrong)
        assert caught.value.file == "packs/aa/aa"
        assert caught.value.next == "refloat vault repair"
    with pytest.raises(Damaged):
        opened(chunk, secret=b"t" * 32)


def test_a_chunk_whose_writer_lied_about_its_name_is_refused() -> None:
    """The seal holds, because the writer made it; the bytes are still not those that the name stands for."""
    lie = seal_chunk(b"poison", chunk_name(NAME_KEY, b"weights"), SECRET)
    with pytest.raises(Damaged, match="does not match its name"):
        opened(lie)


def test_a_codec_of_a_later_refloat_is_named_and_not_called_damage() -> None:
    with pytest.raises(VaultError, match="codec 9, which this refloat cannot read") as caught:
        opened(replace(sealed(b"x"), codec=9))
    assert not isinstance(caught.value, Damaged)
    assert bytes(32) == NO_BASE


def test_the_largest_chunk_comes_back_and_one_that_says_it_is_larger_is_not_unpacked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    largest = sealed(bytes(CHUNK_BYTES_MAX))
    assert opened(largest) == bytes(CHUNK_BYTES_MAX)
    monkeypatch.setattr("refloat.vault.chunk.open_sealed", no_base)
    with pytest.raises(Damaged, match="impossible length"):
        opened(replace(largest, raw_length=CHUNK_BYTES_MAX + 1))


def test_a_base_where_there_is_none_and_none_where_there_must_be_one_are_told_apart() -> None:
    chunk = sealed(b"a small chunk")
    with pytest.raises(Damaged, match="with a base, which codec raw has not"):
        opened(replace(chunk, base=b"\1" * 32))
    with pytest.raises(Damaged, match=r"without a base, which codec blosc2\+delta must have"):
        opened(replace(chunk, codec=DIFFERENCE.id))
