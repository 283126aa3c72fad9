"""Codecs give back what they were given, and take no more memory than they were told."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from refloat.errors import VaultError
from refloat.vault import codecs
from refloat.vault.codecs import (
    CODECS,
    DIFFERENCE,
    RAW,
    SAMPLE_BYTES,
    SHUFFLED,
    ZSTD,
    difference,
    shuffled,
    zstd,
)

WIDTHS = st.sampled_from(shuffled.WIDTHS)


@given(st.binary(max_size=5000), WIDTHS)
def test_every_codec_gives_back_what_it_was_given(content: bytes, width: int) -> None:
    assert RAW.decode(content, len(content)) == content
    assert ZSTD.decode(zstd.encode(content), len(content)) == content
    assert SHUFFLED.decode(shuffled.encode(content, width), len(content)) == content
    base = content[1:] + content[:1]
    assert DIFFERENCE.decode(difference.encode(content, width, base), len(content), base) == content


@given(st.binary(max_size=300_000), WIDTHS, st.integers(0, 255))
@settings(max_examples=30)
def test_a_difference_wraps_round_and_is_undone_at_any_length(base: bytes, width: int, step: int) -> None:
    content = bytes((byte + step) % 256 for byte in base)
    zigzag = difference.difference(content, base, width).tobytes()
    assert difference.undone(zigzag, base, width).tobytes() == content


def test_a_difference_is_the_one_of_the_format() -> None:
    old, new = (np.array(each, "<i2").tobytes() for each in ([5, 5, -32768, 0], [6, 4, 32767, 0]))
    assert difference.difference(new, old, 2).view("<u2").tolist() == [2, 1, 1, 0]


def test_a_difference_from_another_length_is_refused() -> None:
    stored = difference.encode(bytes(100), 4, bytes(100))
    with pytest.raises(ValueError, match="a base of 96 bytes"):
        DIFFERENCE.decode(stored, 100, bytes(96))


@given(st.sampled_from(sorted(CODECS)), st.binary(max_size=300), st.integers(0, 400))
def test_garbage_is_a_value_error_or_of_the_length_that_was_asked_for(
    id: int, junk: bytes, length: int
) -> None:
    codec = codecs.codec(id)
    try:
        decoded = codec.decode(junk, length, *([bytes(length)] if codec.based else []))
    except ValueError:
        return
    assert len(decoded) == length


@given(st.integers(0, 400), st.binary(min_size=1, max_size=8), WIDTHS)
def test_a_spoilt_blosc2_chunk_is_a_value_error_or_of_the_right_length(
    at: int, junk: bytes, width: int
) -> None:
    stored = shuffled.encode(bytes(range(256)) * 8, width)
    at %= len(stored)
    spoilt = (stored[:at] + junk + stored[at + len(junk) :])[: len(stored)]
    with suppress(ValueError):
        assert len(shuffled.decode(spoilt, 2048)) == 2048


def weights(noise: float) -> bytes:
    dice = np.random.default_rng(5)
    kept = dice.standard_normal(100_000) * 0.02
    return (kept + noise * np.random.default_rng(6).standard_normal(100_000)).astype("<f4").tobytes()


@pytest.mark.parametrize(
    ("width", "base", "codec"),
    [
        (4, None, SHUFFLED),
        (1, None, SHUFFLED),
        (4, weights(1e-6), DIFFERENCE),
        (4, random.Random(3).randbytes(400_000), SHUFFLED),
        (4, weights(0)[4:], SHUFFLED),
    ],
    ids=["weights", "of a width that nobody told", "a step further", "nothing alike", "another length"],
)
def test_weights_are_shuffled_and_small_steps_are_differences(
    width: int, base: bytes | None, codec: codecs.Codec
) -> None:
    content = weights(0)
    chosen, stored = codecs.encode(content, width, base)
    assert chosen is codec
    assert len(stored) < len(content) * 0.9


def test_what_has_no_elements_is_not_shuffled() -> None:
    assert codecs.encode(weights(0), 0)[0] in (RAW, ZSTD)


def test_a_frame_that_unpacks_to_far_more_than_it_should_is_refused_before_it_is_unpacked() -> None:
    bomb = zstandard.ZstdCompressor(level=3).compress(bytes(64 << 20))
    with pytest.raises(ValueError, match="1024 bytes"):
        ZSTD.decode(bomb, 1024)


def test_a_frame_that_does_not_say_how_large_it_is_is_refused() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 100)
    with pytest.raises(ValueError, match="100 bytes"):
        ZSTD.decode(frame, 100)


def test_bytes_after_the_frame_are_refused() -> None:  # fault 53
    with pytest.raises(ValueError, match="not a Zstandard frame"):
        ZSTD.decode(zstd.encode(b"x" * 100) + b"more", 100)


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
    assert {id: codec.name for id, codec in CODECS.items()} == {
        0: "raw",
        1: "zstd",
        2: "blosc2",
        3: "blosc2+delta",
    }
    with pytest.raises(VaultError, match="codec 99"):
        codecs.codec(99)


@pytest.mark.parametrize("mistake", [lambda raw: raw[:-1] + b"\0", lambda raw: raw[:-1]])
@pytest.mark.parametrize(("name", "width"), [("zstd", 1), ("shuffled", 4)])
def test_what_an_encoder_would_not_give_back_is_stored_as_it_is(
    monkeypatch: pytest.MonkeyPatch, name: str, width: int, mistake: Callable[[bytes], bytes]
) -> None:
    module = getattr(codecs, name)
    encode = module.encode
    monkeypatch.setattr(module, "encode", lambda raw, *more: encode(mistake(bytes(raw)), *more))
    content = b"weights!" * 5000 + b"end"
    assert codecs.encode(content, width) == (codecs.RAW, content)


@pytest.mark.parametrize("width", shuffled.WIDTHS)
@pytest.mark.parametrize("around", [0, 1000, shuffled.BLOCK_BYTES, 2 * shuffled.BLOCK_BYTES, 1 << 20])
def test_arrays_of_every_length_around_a_block_come_back(width: int, around: int) -> None:
    for length in range(max(0, around - 9), around + 10):
        for raw in (bytes(length), os.urandom(length), (b"abcdefg" * (length // 7 + 1))[:length]):
            assert shuffled.decode(shuffled.encode(raw, width), length) == raw
