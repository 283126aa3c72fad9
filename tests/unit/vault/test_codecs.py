"""Codecs give back what they were given, and take no more memory than they were told."""

from __future__ import annotations

import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from refloat.errors import VaultError
from refloat.vault import codecs
from refloat.vault.codecs import CODECS, RAW, RESERVED, SAMPLE_BYTES, ZSTD


@given(st.sampled_from(sorted(CODECS)), st.binary(max_size=5000))
def test_every_codec_gives_back_what_it_was_given(id: int, content: bytes) -> None:
    codec = codecs.codec(id)
    assert codec.decode(codec.encode(content), len(content)) == content


@given(st.sampled_from(sorted(CODECS)), st.binary(max_size=300), st.integers(0, 400))
def test_garbage_is_a_value_error_or_of_the_length_that_was_asked_for(
    id: int, junk: bytes, length: int
) -> None:
    try:
        decoded = codecs.codec(id).decode(junk, length)
    except ValueError:
        return
    assert len(decoded) == length


def test_a_frame_that_unpacks_to_far_more_than_it_should_is_refused_before_it_is_unpacked() -> None:
    bomb = zstandard.ZstdCompressor(level=3).compress(bytes(64 << 20))
    with pytest.raises(ValueError, match="1024 bytes"):
        ZSTD.decode(bomb, 1024)


def test_a_frame_that_does_not_say_how_large_it_is_is_refused() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 100)
    with pytest.raises(ValueError, match="100 bytes"):
        ZSTD.decode(frame, 100)


def test_text_is_compressed_and_noise_is_not() -> None:
    noise = random.Random(7).randbytes(200_000)
    assert codecs.encode(b"the same words again " * 5000)[0] is ZSTD
    assert codecs.encode(noise) == (RAW, noise)
    assert codecs.encode(b"") == (RAW, b"")


def test_a_noisy_head_does_not_hide_that_the_rest_compresses() -> None:
    content = random.Random(7).randbytes(SAMPLE_BYTES) + bytes(8 * SAMPLE_BYTES)
    codec, encoded = codecs.encode(content)
    assert codec is ZSTD
    assert len(encoded) < 2 * SAMPLE_BYTES


def test_a_sample_that_promised_too_much_does_not_make_a_chunk_larger() -> None:
    """The sampled places are zeros, everything between them is noise."""
    noise = random.Random(7)
    content = bytearray(noise.randbytes(64 * SAMPLE_BYTES))
    part = SAMPLE_BYTES // codecs.SAMPLE_PARTS
    stride = (len(content) - part) // (codecs.SAMPLE_PARTS - 1)
    for at in range(0, len(content), stride):
        content[at : at + part] = bytes(part)
    codec, encoded = codecs.encode(bytes(content))
    assert (codec, len(encoded)) == (RAW, len(content))


def test_the_tables_have_one_meaning_for_each_id() -> None:
    assert not set(CODECS) & set(RESERVED)
    assert {id: codec.name for id, codec in CODECS.items()} == {0: "raw", 1: "zstd"}
    with pytest.raises(VaultError, match=r"codec 99 \(unknown\)"):
        codecs.codec(99)
