"""Both readers have one JSON form for every value that a reader of JSON can have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat.digest import canonical_json

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(Path(__file__).resolve().parent)
    from objects import Refused, canonical, clear, parsed

STRINGS = st.text(st.characters() | st.characters(categories=["Cs"]), max_size=5)


@given(st.dictionaries(STRINGS, STRINGS | st.lists(STRINGS, max_size=2), max_size=4))
def test_the_second_reader_writes_the_same_bytes(document: dict[str, object]) -> None:
    stored = canonical_json(document)

    assert canonical(json.loads(stored)) == stored
    assert parsed(stored, "x") == json.loads(stored)


@pytest.mark.parametrize("stored", [rb'{"a":"\ud83d\ude00"}', rb'{"a":"\uDCFF"}', b'{"a":"\xed\xa0\x80"}'])
def test_the_second_reader_refuses_another_spelling(stored: bytes) -> None:
    with pytest.raises(Refused, match="not canonical"):
        parsed(stored, "x")


def test_the_second_reader_refuses_a_surrogate_in_what_is_stored_plain() -> None:
    with pytest.raises(Refused, match="not UTF-8"):
        clear(rb'{"a":"\udcff"}', "x")
