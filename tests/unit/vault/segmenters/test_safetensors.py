"""Safetensors are cut at their tensors; a header that lies is refused, in little time and memory."""

from __future__ import annotations

import json
import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refloat.testing.memory_file import Held
from refloat.vault.segmenters.safetensors import HEADER_BYTES_MAX, ID, recognised, spans
from refloat.vault.segmenters.spans import SPANS_MAX, Span, cut


def written(header: object, length: int) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw + bytes(length)


def tensor(dtype: str, shape: list[int], start: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


HEADER: dict[str, object] = {
    "__metadata__": {"format": "pt"},
    "h.0.weight": tensor("F32", [10, 10], 0, 400),
    "h.0.bias": tensor("BF16", [10], 400, 420),
    "mask": tensor("BOOL", [4], 420, 424),
    "empty": tensor("F64", [0], 424, 424),
    "later": tensor("F6_E9M9", [3], 424, 430),
}
WHOLE = written(HEADER, 430)


def test_each_tensor_is_a_span_with_the_width_of_its_type() -> None:
    base = len(WHOLE) - 430
    assert ID == 2
    assert recognised(WHOLE[:64], len(WHOLE))
    assert spans(Held(WHOLE)) == [
        Span(0, base),
        Span(base, 400, 4, "h.0.weight"),
        Span(base + 400, 20, 2, "h.0.bias"),
        Span(base + 420, 4, 1, "mask"),
        Span(base + 424, 6, 1, "later"),
    ]


@pytest.mark.parametrize(
    ("dtype", "bytes_each", "width"),
    [("F64", 8, 8), ("I64", 8, 8), ("C64", 8, 4), ("U32", 4, 4), ("F16", 2, 2), ("F8_E4M3", 1, 1)],
)
def test_widths(dtype: str, bytes_each: int, width: int) -> None:
    whole = written({"w": tensor(dtype, [3], 0, 3 * bytes_each)}, 3 * bytes_each)
    assert spans(Held(whole))[1].width == width


def test_a_longer_header_keeps_keys_and_lengths() -> None:
    def keyed(metadata: str) -> list[tuple[str, int]]:
        header = {"__metadata__": {"note": metadata}, "w": tensor("F32", [2**21], 0, 2**23)}
        file = Held(written(header, 0), len(written(header, 0)) + 2**23)
        return [(each.key, each.length) for each in cut(spans(file), file.size) if each.key]

    assert keyed("") == keyed("longer" * 1000) == [("w#0", 2**22), ("w#1", 2**22)]


def changed(**fields: object) -> bytes:
    return written({"w": {**tensor("F32", [2], 0, 8), **fields}}, 8)


@pytest.mark.parametrize(
    "whole",
    [
        b"",
        b"\x10\0\0",
        struct.pack("<Q", 2**63) + b"{}" * 50,
        struct.pack("<Q", 3000) + b"{}" * 50,
        written(b'{"w": 1', 0),
        written(b"[]", 0),
        written(b'{"w\xff": 1}', 0),
        written(b'{"w":1,"w":2}', 0),
        written(b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"dtype":"F32"}}', 8),
        written(b'{"w":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', 8),
        written(b'{"w":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,8]}}', 8),
        written({"__metadata__": {"a": 1}}, 0),
        written({"__metadata__": []}, 0),
        written({"w": []}, 0),
        changed(dtype=3),
        changed(dtype="F64"),
        changed(shape=[3]),
        changed(shape=[2.0]),
        changed(shape=[True, 2]),
        changed(shape=[-1, -2]),
        changed(shape=None),
        changed(shape=[1] * 65),
        changed(data_offsets=[0.0, 8.0]),
        changed(data_offsets=[8, 0]),
        changed(data_offsets=[0, 8, 8]),
        changed(data_offsets=[1, 9]),
        changed(data_offsets=[0, 2**63], dtype="odd"),
        changed(data_offsets=[2**64, 2**64 + 8]),
        written({"w": tensor("I8", [8], 0, 8), "v": tensor("I8", [8], 4, 12)}, 12),
    ],
)
def test_a_header_that_lies_is_refused(whole: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        spans(Held(whole))


def test_what_unfolds_to_much_is_refused_before_it_is_parsed() -> None:
    began = time.thread_time()
    for raw in [
        b"[" * 300_000,
        b'{"a":' * 150_000,
        b'{"a":[' + b"0," * 3_000_000 + b"0]}",
        b'{"a":1},' * (SPANS_MAX + 1),
    ]:
        with pytest.raises(ValueError, match=r"\w"):
            spans(Held(written(raw, 0)))
    with pytest.raises(ValueError, match="too long"):
        spans(Held(struct.pack("<Q", HEADER_BYTES_MAX + 1), 2**40))
    assert time.thread_time() - began < 5


def test_what_is_not_safetensors_is_not_recognised() -> None:
    for head in [
        b"",
        b"{" * 64,
        b"PAR1" + bytes(60),
        struct.pack("<Q", 10) + b"{x",
        struct.pack("<Q", 2**40) + b'{"',
    ]:
        assert not recognised(head, 1000)


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    if draw(st.booleans()):
        return written(draw(st.binary(max_size=200)), 50)[: draw(st.integers(0, 250))]
    content = bytearray(WHOLE[: draw(st.integers(0, len(WHOLE)))])
    for at in draw(st.lists(st.integers(0, max(0, len(content) - 1)), max_size=4)):
        content[at : at + 1] = draw(st.binary(max_size=2))
    return bytes(content)


@settings(max_examples=200, deadline=None)
@given(broken())
def test_fuzz_safetensors(content: bytes) -> None:
    try:
        found = spans(Held(content))
        cut(found, len(content))
    except ValueError as error:
        assert str(error)
