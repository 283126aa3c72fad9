"""Reading golden sets: what is right comes through, what is wrong names its line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat.contracts import Question
from refloat.errors import ManifestError
from refloat.verification.golden import read_golden

LINE = b'{"id": "q1", "request": {"question": "what is a list?"}, "expected": {"topic": "types"}}\n'

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECT = st.dictionaries(st.text(), JSON, max_size=3)


def test_questions_come_in_order_and_further_keys_are_the_authors_own() -> None:
    content = LINE + b'\n{"id": "q2", "request": {}, "held_out": true}'
    assert read_golden(content) == [
        Question("q1", {"question": "what is a list?"}, {"topic": "types"}),
        Question("q2", {}, {}),
    ]


@pytest.mark.parametrize(
    ("second", "why"),
    [
        (b"{", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"request": {}}', "`id` must be a string"),
        (b'{"id": 7, "request": {}}', "`id` must be a string"),
        (b'{"id": "", "request": {}}', "`id` must be a string"),
        (b'{"id": "q2"}', "`request` must be an object"),
        (b'{"id": "q2", "request": {}, "expected": "types"}', "`expected` must be an object"),
        (b'{"id": "q1", "request": {}}', "'q1' stands on an earlier line"),
        (b'{"id": "q2", "request": {"x": NaN}}', "NaN is not JSON"),
        (b'{"id": "q2", "request": {"x": ' + b"9" * 5000 + b"}}", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_a_wrong_line_is_named(second: bytes, why: str) -> None:
    with pytest.raises(ManifestError, match="line 2: ") as caught:
        read_golden(LINE + second)
    assert why in caught.value.message
    assert caught.value.line == 2


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"])
def test_a_set_without_questions_is_wrong(content: bytes) -> None:
    with pytest.raises(ManifestError, match="holds no question"):
        read_golden(content)


def test_a_set_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refloat.verification.golden.MANIFEST_FILES_BYTES_MAX", len(LINE) - 1)
    with pytest.raises(ManifestError, match="larger than"):
        read_golden(LINE)


@given(st.dictionaries(st.text(min_size=1), st.tuples(OBJECT, OBJECT), min_size=1, max_size=5))
def test_what_is_written_is_read(questions: dict[str, tuple[dict[str, object], dict[str, object]]]) -> None:
    lines = [
        json.dumps({"id": name, "request": request, "expected": expected})
        for name, (request, expected) in questions.items()
    ]
    read = read_golden("\n".join(lines).encode())
    assert {question.id: (question.request, question.expected) for question in read} == questions


@given(st.binary(max_size=200))
def test_anything_else_is_a_manifest_error(content: bytes) -> None:
    try:
        assert read_golden(content)
    except ManifestError as error:
        assert error.next
