"""YAML as plain values with places; everything that YAML can do beyond that is refused."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat.errors import ManifestError
from refloat.limits import MANIFEST_BYTES_MAX, MANIFEST_DEPTH_MAX
from refloat.manifest.document import EVENTS_MAX, Spot, nearest, read_document


def read(text: str | bytes):
    content = text.encode() if isinstance(text, str) else text
    return read_document(content, file="m.yaml")


def test_values_are_those_of_yaml_1_2():
    text = (
        "a: yes\nb: true\nc: 12\nd: 1.5\ne: ~\nf: 2026-01-01\ng: 0x10\nh: 1_000\ni: '12'\nj:\nk: 1e3\nl: on\n"
    )
    assert read(text).value == {
        "a": "yes",
        "b": True,
        "c": 12,
        "d": 1.5,
        "e": None,
        "f": "2026-01-01",
        "g": "0x10",
        "h": "1_000",
        "i": "12",
        "j": None,
        "k": 1000.0,
        "l": "on",
    }


def test_every_key_and_value_knows_its_line_and_column():
    document = read("a:\n  - b: 1\n    c: [x, yy]\n")
    assert document.spot(("a",), key=True) == Spot(1, 1)
    assert document.spot(("a", 0, "c", 1)) == Spot(3, 12)
    assert document.spot(("a", 0, "c"), key=True) == Spot(3, 5)


def test_the_place_of_something_absent_is_that_of_what_is_around_it():
    document = read("a:\n  b: {c: 1}\n")
    assert document.spot(("a", "b", "zz", "yy")) == Spot(2, 6)
    assert document.spot(("zz",)) == Spot(1, 1)


def test_a_byte_order_mark_is_no_part_of_the_first_key():
    assert read(b"\xef\xbb\xbfa: 1").value == {"a": 1}


REFUSED = {
    "empty": ("", 1, 1, "is empty"),
    "only_a_comment": ("# nothing\n\n  # here\n", 1, 1, "is empty"),
    "only_a_document_marker_and_comment": ("# a\n", 1, 1, "is empty"),
    "not_utf8": (b"a: 1\nbc: \xff\n", 2, 5, "not UTF-8 text: byte 0xff at offset 9"),
    "utf16": ("a: 1".encode("utf-16"), 1, 1, "not UTF-8"),
    "binary": (b"a: 1\nb: \x00\x01", 2, 4, "does not allow: U+0000"),
    "tab": ("a:\n\tb: 1\n", 2, 1, "not YAML"),
    "two_documents": ("a: 1\n---\nb: 2\n", 2, 1, "more than one document"),
    "python_tag": ("a: !!python/object/apply:os.system [ls]\n", 1, 4, "tag"),
    "standard_tag": ("a: !!str 3\n", 1, 4, "tag"),
    "own_tag": ("a: !thing 3\n", 1, 4, "tag"),
    "anchor": ("a: &x [1]\n", 1, 4, "anchors"),
    "alias_of_nothing": ("a: *x\n", 1, 4, "anchors"),
    "anchored_key": ("&x a: 1\n", 1, 1, "anchors"),
    "directive": ("%YAML 1.1\n---\na: yes\n", 2, 1, "directive"),
    "duplicate_key": ("a: 1\nb: 2\na: 3\n", 3, 1, "'a' stands twice; first in line 1"),
    "duplicate_key_deep_down": ("a:\n  b:\n    - {c: 1, c: 2}\n", 3, 14, "'c' stands twice"),
    "number_as_key": ("8101: x\n", 1, 1, "a key must be text"),
    "null_as_key": ("~: x\n", 1, 1, "a key must be text"),
    "list_as_key": ("? [a]\n: x\n", 1, 3, "a key must be text"),
    "mapping_as_key": ("? {a: 1}\n: x\n", 1, 3, "a key must be text"),
    "infinity": ("a: .inf\n", 1, 4, "not a number"),
    "not_a_number": ("a: .NaN\n", 1, 4, "not a number"),
    "number_beyond_floats": ("a: 1e999\n", 1, 4, "not a number"),
    "number_beyond_reason": ("a: 1" + "0" * 5000, 1, 4, "not a number"),
    "unquoted_reference": ("a: {b: ${region.root}}\n", 1, 9, "not YAML"),
    "unfinished": ("a: [1, 2\n", 2, 1, "not YAML"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_line_and_column(name: str):
    content, line, column, words = REFUSED[name]
    with pytest.raises(ManifestError) as caught:
        read(content)
    assert words in caught.value.message
    assert (caught.value.line, caught.value.column) == (line, column)
    assert caught.value.file == "m.yaml"


@pytest.mark.parametrize(
    ("content", "hint"),
    [("a:\n\tb: 1\n", "spaces"), ("a: {b: ${region.root}}\n", "in quotes"), ("8101: x\n", '"8101"')],
)
def test_the_hint_says_what_to_write_instead(content: str, hint: str):
    with pytest.raises(ManifestError) as caught:
        read(content)
    assert hint in str(caught.value.next)


def test_nesting_is_bounded_and_costs_no_stack():  # fault 61
    deepest = "[" * MANIFEST_DEPTH_MAX + "]" * MANIFEST_DEPTH_MAX
    assert read(deepest).value is not None
    for levels in (MANIFEST_DEPTH_MAX + 1, 100_000):
        with pytest.raises(ManifestError, match="nested deeper"):
            read("[" * levels + "]" * levels)


BOMBS = {
    "aliases": "a: &a [x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{'*a,' * 9}]\n" for i in range(9)),
    "entries": "a: [" + "1," * (MANIFEST_BYTES_MAX // 2 - 8) + "]",
    "keys": "".join(f"k{i}: 1\n" for i in range(EVENTS_MAX)),
    "a_byte_too_large": b"a: 1\n#" + b" " * (MANIFEST_BYTES_MAX - 5),
    "too_large": b"a" * (100 * 1024 * 1024),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_within_seconds(name: str):  # fault 61
    begun_s = time.thread_time()
    with pytest.raises(ManifestError):
        read(BOMBS[name])
    assert time.thread_time() - begun_s < 30


@given(st.binary(max_size=200))
def test_any_bytes_give_a_document_or_an_error(content: bytes):
    try:
        read(content)
    except ManifestError as error:
        assert error.line is None or error.line >= 1


@given(
    st.text(alphabet=st.sampled_from("ab:-?[]{}&*!|>'\"%@`#,~ \t\n\\.01${}<=\ufeff\u2028\x85é"), max_size=60)
)
def test_any_punctuation_gives_a_document_or_an_error(text: str):
    try:
        document = read(text)
    except ManifestError as error:
        assert error.message
    else:
        assert () in document.values


def test_nearest_finds_a_misspelt_word_and_nothing_else():
    assert nearest("teir", ["tier", "kind"]) == "did you mean 'tier'?"
    assert nearest("colour", ["tier", "kind"]) is None
    assert nearest("x" * 1_000_000, ["tier"]) is None
