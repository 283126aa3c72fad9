"""Names of objects, and the descriptor of a replica."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat.digest import canonical_json
from refloat.errors import Damaged, Missing, Refused, UsageError, VaultError
from refloat.vault.layout import (
    VAULT,
    Chunking,
    Descriptor,
    index_name,
    key_name,
    pack_name,
    parse_object,
    plain_object,
    point_name,
    read_descriptor,
    slot_name,
    stream_prefix,
    write_descriptor,
)
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.stores.names import checked

DESCRIPTOR = Descriptor(vault="v1", replica="r1", region="eu", pipeline="support")


def test_every_kind_of_object_has_its_place() -> None:
    name = "0f" + "a" * 62
    assert pack_name(name) == f"packs/0f/{name}"
    assert key_name(name) == f"keys/{name}"
    assert index_name(name) == f"index/{name}"
    assert point_name(name) == f"points/{name}"
    assert slot_name("targets/eu", 7) == "log/targets/eu/0000000000000007"
    for made in (pack_name(name), key_name(name), slot_name("points", 0)):
        assert checked(made) == made


@given(st.integers(0, 10**16 - 1), st.integers(0, 10**16 - 1))
def test_slots_sort_as_their_names_do(one: int, other: int) -> None:
    assert (one < other) is (slot_name("points", one) < slot_name("points", other))
    assert slot_name("points", one).startswith(stream_prefix("points"))


@pytest.mark.parametrize("slot", [-1, 10**16])
def test_a_slot_that_has_no_name_is_refused(slot: int) -> None:
    with pytest.raises(UsageError):
        slot_name("points", slot)


def test_a_descriptor_comes_back_as_it_was_written() -> None:
    for descriptor in (DESCRIPTOR, DESCRIPTOR.summed()):
        store = MemoryStore()
        write_descriptor(store, descriptor)
        assert read_descriptor(store) == descriptor


def test_a_sum_is_that_of_what_the_descriptor_says_now() -> None:
    one = DESCRIPTOR.summed()
    assert (DESCRIPTOR.is_summed, one.is_summed, one.summed()) == (False, True, one)
    other = one.model_copy(update={"region": "us"})
    assert other.summed().replica != one.replica and other.summed().replica[:-64] == "r1"


def test_a_vault_is_never_made_over_another() -> None:
    store = MemoryStore()
    write_descriptor(store, DESCRIPTOR)
    for descriptor in (DESCRIPTOR, DESCRIPTOR.model_copy(update={"vault": "v2"})):
        with pytest.raises(Refused) as caught:
            write_descriptor(store, descriptor)
        assert caught.value.rule == "vault_exists"
    assert read_descriptor(store).vault == "v1"


def test_an_empty_place_says_how_a_vault_is_made() -> None:
    with pytest.raises(Missing) as caught:
        read_descriptor(MemoryStore())
    assert "refloat vault init" in (caught.value.next or "")


def test_a_vault_of_a_newer_format_says_which_refloat_is_needed() -> None:
    store = MemoryStore()
    store.create(VAULT, canonical_json({"format": 2, "anything": "else"}))
    with pytest.raises(VaultError, match="format 2") as caught:
        read_descriptor(store)
    assert not isinstance(caught.value, Damaged)
    assert "format 2" in (caught.value.next or "") and "upgrade" in (caught.value.next or "")


GOOD = DESCRIPTOR.model_dump(mode="json")


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b"1",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format":NaN}',
        b'{"format":1,"x":"\\ud800"}',
        canonical_json({**GOOD, "format": True}),
        canonical_json({**GOOD, "format": 0}),
        canonical_json({**GOOD, "format": "1"}),
        canonical_json({**GOOD, "extra": 1}),
        canonical_json({**GOOD, "vault": ""}),
        canonical_json({**GOOD, "vault": 5}),
        canonical_json({**GOOD, "replica": "\ud800"}),
        canonical_json({**GOOD, "chunking": {"min": 0, "avg": 1, "max": 1}}),
        canonical_json({name: GOOD[name] for name in GOOD if name != "pipeline"}),
        json.dumps(GOOD).encode(),
        canonical_json(GOOD) + b"\n",
        canonical_json(GOOD).replace(b'{"', b'{"format":1,"', 1),
        canonical_json({**GOOD, "pipeline": "x" * 100_000}),
    ],
)
def test_garbage_in_place_of_a_descriptor_is_damage(stored: bytes) -> None:
    store = MemoryStore()
    store.create(VAULT, stored)
    with pytest.raises(Damaged) as caught:
        read_descriptor(store)
    assert caught.value.file == VAULT


@given(st.integers(0, len(canonical_json(GOOD)) * 8 - 1))
def test_a_flipped_bit_in_a_descriptor_never_ends_in_another_kind_of_error(bit: int) -> None:
    stored = bytearray(canonical_json(GOOD))
    stored[bit // 8] ^= 1 << bit % 8
    store = MemoryStore()
    store.create(VAULT, bytes(stored))
    try:
        read_descriptor(store)
    except VaultError:
        return


@given(
    st.dictionaries(
        st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text(max_size=5), max_size=5
    )
)
def test_canonical_documents_come_back_whole(document: dict[str, object]) -> None:
    whole = {**document, "format": 1}
    assert parse_object(canonical_json(whole), "x") == whole


def test_what_is_not_sealed_holds_no_text_that_is_not_utf_8() -> None:
    stored = canonical_json({"format": 1, "x": {"y": ["\udcff"]}})
    assert parse_object(stored, "x")["x"] == {"y": ["\udcff"]}
    with pytest.raises(Damaged, match="not UTF-8"):
        plain_object(stored, "x")
    written = canonical_json({"format": 1, "x": r"a\udcff"})
    assert plain_object(written, "x")["x"] == r"a\udcff"


def test_an_object_that_is_larger_than_its_kind_is_not_parsed() -> None:
    stored = canonical_json({"format": 1, "x": "x" * 100})
    assert parse_object(stored, "x", bytes_max=len(stored))
    with pytest.raises(Damaged, match="larger"):
        parse_object(stored, "x", bytes_max=len(stored) - 1)


def test_the_chunking_of_a_new_vault_is_in_order() -> None:
    chunking = Chunking()
    assert chunking.min < chunking.avg < chunking.max
