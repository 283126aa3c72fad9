"""NumPy arrays are cut after their headers, and archives of them at each array; a header that lies is refused."""

from __future__ import annotations

import io
import struct
import time
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refloat.limits import KIB, MIB
from refloat.testing.memory_file import Held
from refloat.vault.segmenters.npy import ID, recognised, spans
from refloat.vault.segmenters.spans import Span, cut
from refloat.vault.segmenters.zipped import read_archive


def saved(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version)
    return stream.getvalue()


def archived(compressed: bool = False, **arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)
    return stream.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize(
    ("dtype", "width"),
    [
        *[
            ("<f4", 4),
            (">i8", 8),
            ("f2", 2),
            ("c16", 8),
            ("c8", 4),
            ("u1", 1),
            ("?", 1),
            ("U5", 4),
            ("S5", 1),
        ],
        *[("M8[ns]", 8), ("V3", 1), ("i4,f8", 1), ([("a", "i4", (2, 3)), ("b", [("é", "u1")])], 1)],
    ],
)
def test_the_elements_are_a_span_with_the_width_of_their_type(
    version: tuple[int, int], dtype: object, width: int
) -> None:
    array = np.zeros((3, 4), dtype)  # type: ignore[call-overload]
    if "é" in str(dtype) and version != (3, 0):
        return  # these versions have no such names
    content = saved(array, version)
    assert ID == 4
    assert recognised(content[:64], len(content))
    assert spans(Held(content)) == [Span(len(content) - array.nbytes, array.nbytes, width, "array")]


def test_an_array_without_dimensions_and_an_empty_one() -> None:
    assert spans(Held(saved(np.float64(3.0))))[0].length == 8  # type: ignore[arg-type]
    assert cut(spans(Held(saved(np.zeros((0, 3))))), 128) == cut([], 128)


def test_each_array_of_an_archive_is_a_span_that_starts_with_its_elements() -> None:
    arrays = {"w": np.arange(200_000.0), "h": np.ones(300_000, np.float16)}
    content = archived(**arrays)
    assert recognised(content[:64], len(content))
    found = spans(Held(content))
    assert [(span.name, span.width, span.length) for span in found] == [
        ("w", 8, 1_600_000),
        ("h", 2, 600_000),
    ]
    for span in found:
        assert content[span.start :][: span.length] == arrays[span.name].tobytes()


def test_small_arrays_of_an_archive_share_segments() -> None:
    content = archived(**{f"bias{number}": np.full(10, number, np.float32) for number in range(500)})
    assert len(cut(spans(Held(content)), len(content))) <= 3


def test_compressed_arrays_are_spans_without_a_width_and_are_not_unpacked() -> None:
    content = archived(compressed=True, bomb=np.zeros(4 * MIB), other=np.arange(3.0))
    assert len(content) < 64 * KIB
    found = spans(Held(content))
    assert [(span.name, span.width) for span in found] == [("bomb", 1), ("other", 1)]
    assert sum(span.length for span in found) < len(content)


def test_other_files_of_an_archive_are_spans_too() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", saved(np.arange(3.0)))
        archive.writestr("readme", "text")
    assert [span.name for span in spans(Held(stream.getvalue()))] == ["a", "readme"]


def literal(text: str, length: int = 0) -> bytes:
    raw = text.encode("latin-1")
    return b"\x93NUMPY\2\0" + struct.pack("<I", len(raw)) + raw + bytes(length)


def header(descr: str = "'<f4'", order: str = "False", shape: str = "(2,)", more: str = "") -> bytes:
    return literal(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}{more}}}", 8)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\4\0" + bytes(100),
        literal(""),
        literal("open('x')"),
        literal("__import__('os')"),
        literal("(" * 5000),
        literal("-" * 9000 + "1"),
        literal("\0"),
        literal("[]"),
        literal("{[]: 1}"),
        literal("x" * 10_001),
        b"\x93NUMPY\2\0" + struct.pack("<I", 2**32 - 1) + bytes(100),
        b"\x93NUMPY\1\0" + struct.pack("<H", 9000) + bytes(100),
        header(descr="'|O'"),
        header(descr="'|O8'"),
        header(descr="[('a', '<f4'), ('b', '|O')]"),
        header(descr="'<f4, <f4'"),
        header(descr="3"),
        header(descr="[3]"),
        header(descr="('<f4', (2,))"),
        header(descr="[('a', '<f4', 7)]"),
        header(descr="[('a'," * 20 + "'<f4'" + ")]" * 20),
        header(order="0"),
        header(shape="[2]"),
        header(shape="(2.0,)"),
        header(shape="(-1, -2)"),
        header(shape="(True,)"),
        header(shape="(3,)"),
        header(shape=f"({2**63},)"),
        header(shape=f"({2**62}, {2**62})"),
        header(shape="(1," * 1 + "1," * 64 + ")"),
        header(shape="(" + "9" * 5000 + ",)"),
        header(more=", 'more': 1"),
    ],
)
def test_a_header_that_lies_is_refused(content: bytes) -> None:
    assert len(spans(Held(header()))) == 1
    with pytest.raises(ValueError, match=r"\w"):
        spans(Held(content))


def test_an_array_of_objects_is_refused_and_not_unpickled() -> None:
    for content in [saved(np.array([{}, []], object)), archived(o=np.array([{}], object))]:
        with pytest.raises(ValueError, match="type"):
            spans(Held(content))


# --------------------------------------------------------------------------------------------------- zip archives

ARCHIVE = archived(w=np.arange(50.0), h=np.ones(30, np.float16), b=np.ones(3, np.int8))


def with_field(mark: bytes, at: int, value: bytes) -> bytes:
    place = ARCHIVE.rindex(mark) + at
    return ARCHIVE[:place] + value + ARCHIVE[place + len(value) :]


@pytest.mark.parametrize(
    "content",
    [
        ARCHIVE[:-1],
        ARCHIVE + b"x",
        b"x" + ARCHIVE,
        with_field(b"PK\5\6", 8, b"\xff\xff\xff\xff"),
        with_field(b"PK\5\6", 10, b"\2"),
        with_field(b"PK\5\6", 12, b"\xff\xff\xff\xff"),
        with_field(b"PK\5\6", 16, b"\xff\xff\xff\x7f"),
        with_field(b"PK\1\2", 0, b"XX"),
        with_field(b"PK\1\2", 8, b"\1"),
        with_field(b"PK\1\2", 20, b"\xff\xff\xff\xff\xff\xff\xff\xff"),
        with_field(b"PK\1\2", 20, b"\1\0\0\0"),
        with_field(b"PK\1\2", 28, b"\xff\xff"),
        with_field(b"PK\1\2", 42, b"\xff\xff\xff\xff"),
        with_field(b"PK\1\2", 42, b"\0\0\0\0"),
        with_field(b"PK\1\2", 46, b"h"),
        with_field(b"PK\3\4", 0, b"XX"),
        with_field(b"PK\3\4", 28, b"\xff\xff"),
    ],
)
def test_an_archive_that_lies_is_refused(content: bytes) -> None:
    assert len(spans(Held(ARCHIVE))) == 3
    with pytest.raises(ValueError, match=r"\w"):
        spans(Held(content))


def test_an_archive_of_more_than_four_gigabytes_is_read_by_its_zip64_fields() -> None:
    size, name = 5 * 2**30, b"a.bin"
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 45, 0, 0, 0, 0, 0, 2**32 - 1, 2**32 - 1, 5, 20) + name
    local += struct.pack("<2H2Q", 1, 16, size, size)
    second = len(local) + size
    small = struct.pack("<4s5H3I2H", b"PK\3\4", 45, 0, 0, 0, 0, 0, 3, 3, 5, 0) + b"b.bin" + b"abc"
    entry = struct.Struct("<4s6H3I5H2I")
    directory = (
        entry.pack(b"PK\1\2", 45, 45, 0, 0, 0, 0, 0, 2**32 - 1, 2**32 - 1, 5, 20, 0, 0, 0, 0, 0) + name
    )
    directory += struct.pack("<2H2Q", 1, 16, size, size)
    directory += entry.pack(b"PK\1\2", 45, 45, 0, 0, 0, 0, 0, 3, 3, 5, 12, 0, 0, 0, 0, 2**32 - 1) + b"b.bin"
    directory += struct.pack("<2HQ", 1, 8, second)
    at = second + len(small)
    end = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2, 2, len(directory), at)
    end += struct.pack("<4sIQI", b"PK\6\7", 0, at + len(directory), 1)
    end += struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 2, 2, len(directory), 2**32 - 1, 0)

    class Sparse:
        size = at + len(directory) + len(end)

        def read_at(self, start: int, length: int) -> bytes:
            if start < len(local):
                return local[start : start + length]
            return (small + directory + end)[start - second :][:length]

    found = read_archive(Sparse(), Sparse.size).members
    assert [(member.name, member.start, member.length) for member in found] == [
        ("a.bin", len(local), size),
        ("b.bin", second + 35, 3),
    ]


def test_an_archive_that_claims_a_million_members_is_refused_at_once() -> None:
    end = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 10**6, 10**6, 50 * 10**6, 0)
    end += struct.pack("<4sIQI", b"PK\6\7", 0, 50 * 10**6, 1) + struct.pack(
        "<4s4H2IH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 0
    )

    class Sparse:
        size = 50 * 10**6 + len(end)

        def read_at(self, start: int, length: int) -> bytes:
            assert length < KIB
            return end[start - 50 * 10**6 :][:length]

    began = time.thread_time()
    with pytest.raises(ValueError, match="directory"):
        read_archive(Sparse(), Sparse.size)
    assert time.thread_time() - began < 1


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    whole = draw(st.sampled_from([ARCHIVE, header(), saved(np.arange(10.0))]))
    if draw(st.booleans()):
        return draw(st.sampled_from([b"", whole[:10]])) + draw(st.binary(max_size=200))
    content = bytearray(whole[: draw(st.just(len(whole)) | st.integers(0, len(whole)))])
    for at in draw(st.lists(st.integers(0, max(0, len(content) - 1)), max_size=4)):
        content[at : at + 1] = draw(st.binary(max_size=2))
    return bytes(content)


@settings(max_examples=200, deadline=None)
@given(broken())
def test_fuzz_npy(content: bytes) -> None:
    try:
        found = spans(Held(content))
        cut(found, len(content))
    except ValueError as error:
        assert str(error)
