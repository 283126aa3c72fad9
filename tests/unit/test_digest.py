"""One JSON form for every value that JSON can hold, whatever its strings are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from refloat.digest import Json, canonical_json, json_digest, json_form
from refloat.vault.layout import canonical_object

OTHER = "\udfff"
STRINGS = st.text(st.characters() | st.characters(categories=["Cs"]), max_size=6)
VALUES: st.SearchStrategy[Json] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | STRINGS
    | st.text("\ud83d\ude00a\udcff", max_size=4),  # pairs, and halves of them
    lambda below: st.lists(below, max_size=3) | st.dictionaries(STRINGS, below, max_size=3),
    max_leaves=8,
)


def read(value: Json) -> object:
    """The value as a reader of JSON has it: with the characters that two halves make."""
    return json.loads(json.dumps(value, sort_keys=True))


@given(VALUES)
def test_every_value_is_read_back_and_written_the_same(value: Json) -> None:
    written = canonical_json(value)

    assert json.loads(written.decode("utf-8")) == read(value)
    assert canonical_json(json.loads(written)) == canonical_json(read(value)) == written


@given(VALUES, VALUES)
def test_values_have_equal_bytes_just_where_they_are_equal(one: Json, other: Json) -> None:
    same = json.dumps(read(one), sort_keys=True) == json.dumps(read(other), sort_keys=True)

    assert (canonical_json(one) == canonical_json(other)) is same
    assert (json_digest(one) == json_digest(other)) is same


@given(st.dictionaries(STRINGS, VALUES, max_size=4))
def test_a_vault_takes_what_was_written_for_canonical(document: Mapping[str, Json]) -> None:
    assert canonical_object(canonical_json(document)) == read(document)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("\ud800", rb'"\ud800"'),
        ("\udcff", rb'"\udcff"'),
        ("\ude00\ud83d", rb'"\ude00\ud83d"'),
        ("\ud83d\ude00", '"😀"'.encode()),
        ("\\\udcff", rb'"\\\udcff"'),
        ({"\ud800": 1, "\ue000": 2, "a": 3}, b'{"a":3,"\\ud800":1,"\xee\x80\x80":2}'),
        ({"\ud83d\ude00": 1, "\ue000": 2}, '{"\ue000":2,"😀":1}'.encode()),
        ({"\ud83d\ude00": 1, "😀": 2}, '{"😀":2}'.encode()),
    ],
)
def test_a_surrogate_is_an_escape_and_a_pair_its_character(value: Json, written: bytes) -> None:
    assert canonical_json(value) == written


@pytest.mark.parametrize("content", [rb'{"a":"\ud83d\ude00"}', rb'{"a":"\uD800"}', b'{"a":"\xed\xa0\x80"}'])
def test_another_spelling_of_a_surrogate_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="canonical form"):
        canonical_object(content)


class Colour(StrEnum):
    RED = "red"


class Inner(BaseModel):
    facts: Mapping[str, Json]


class Outer(BaseModel):
    colour: Colour
    seen_at: datetime
    parts: tuple[Inner, ...]
    by_colour: Mapping[Colour, float]


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), st.datetimes(timezones=st.just(UTC)))
def test_a_model_has_the_form_that_pydantic_gives_it(facts: dict[str, Json], moment: datetime) -> None:
    model = Outer(colour=Colour.RED, seen_at=moment, parts=(Inner(facts={}),), by_colour={Colour.RED: 1.5})
    empty = model.model_dump(mode="json")

    assert json_form(model) == empty
    assert json_form(Inner(facts=facts)) == {"facts": facts}
    assert type(json_form(model)["colour"]) is str


def test_names_with_surrogates_stay_two() -> None:
    assert json_form(Inner(facts={"\ud800": 1, OTHER: {"\udcff": 2}})) == {
        "facts": {"\ud800": 1, OTHER: {"\udcff": 2}}
    }
