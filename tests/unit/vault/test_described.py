"""A region's descriptor is what somebody who may sign has signed for it, or that region's fault alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from refloat.digest import canonical_json, object_name
from refloat.errors import Damaged, RefloatError
from refloat.vault import layout
from refloat.vault.described import keep_note, keep_notes, known_notes, mend_descriptor
from refloat.vault.keyobjects import certificate, operator_removal_objects, publics_of, removal_object
from refloat.vault.keys import KeyFile, Keyring, Role
from refloat.vault.new_replica import make_replica
from refloat.vault.replica import Replica
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.vault import Vault

VaultWorld = Any  # the fixture ``world`` of conftest.py
MOMENT = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.fixture
def full(world: VaultWorld) -> VaultWorld:
    return world


def other_descriptor(full: VaultWorld, **fields: object) -> layout.Descriptor:
    """Put one with a sum of its own there, as anybody with a credential can."""
    found = layout.read_descriptor(full.stores["eu"]).model_copy(update=fields or {"replica": "f" * 32})
    full.replace(layout.VAULT, canonical_json(found.summed().model_dump(mode="json")))
    return found.summed()


def vault_of(full: VaultWorld) -> Vault:
    return Vault(*_opened(full))


def _opened(full: VaultWorld) -> tuple[dict[str, Replica], dict[str, RefloatError]]:
    found: dict[str, Replica] = {}
    wrong: dict[str, RefloatError] = {}
    for region in full.stores:
        try:
            found[region] = full.open(region)
        except RefloatError as error:
            wrong[region] = error
    return found, wrong


@pytest.mark.parametrize("fields", [{"replica": "f" * 32}, {"chunking": layout.Chunking(min=64)}], ids=str)
def test_a_descriptor_that_nobody_signed_is_its_region_s_fault_alone_and_is_mended(
    full: VaultWorld, fields: dict[str, object]
) -> None:  # fault 2
    whole = layout.read_descriptor(full.stores["eu"])
    other_descriptor(full, **fields)
    vault = vault_of(full)
    assert list(vault.replicas) == ["us"] and vault.unreachable["eu"].file == layout.VAULT
    assert "not what was signed for region eu" in vault.unreachable["eu"].message
    assert mend_descriptor("eu", full.stores["eu"], full.key_file, ["eu", "us"])
    assert full.open().descriptor == whole
    assert list(vault_of(full).replicas) == ["eu", "us"]


def test_a_signature_that_was_taken_away_is_missed_where_another_region_keeps_it(full: VaultWorld) -> None:
    # fault 2
    whole = layout.read_descriptor(full.stores["eu"])
    full.unsign("eu")
    other = other_descriptor(full)
    assert full.open().descriptor == other, "alone it is as one of a vault of before"
    vault = vault_of(full)
    assert list(vault.replicas) == ["us"] and vault.unreachable["eu"].file == layout.VAULT
    notes = known_notes(full.stores.values(), full.key_file)
    assert mend_descriptor("eu", full.stores["eu"], full.key_file, ["eu", "us"], notes)
    keep_notes(full.stores["eu"], full.key_file, notes)
    assert full.open().descriptor == whole and full.open().keyring.descriptor_notes().keys() == notes.keys()


def test_a_note_of_nobody_and_one_of_a_removed_holder_count_for_nothing(full: VaultWorld) -> None:
    # fault 2
    stranger = KeyFile.create("vault-1", "demo")
    other = other_descriptor(full)
    note = Keyring(stranger).sign_descriptor(other)
    assert note is not None
    keep_note(full.stores["eu"], note)
    with pytest.raises(Damaged, match="not what was signed"):
        full.open()
    full.unsign()
    made = full.key_file.for_another(Role.WRITER, Role.READER, Role.OPERATOR)
    mend_descriptor("eu", full.stores["eu"], full.key_file, ["eu", "us"])
    for role, public in publics_of(made).items():
        stored = certificate(full.key_file, role, public)
        full.stores["eu"].create(layout.key_name(object_name(stored)), stored)
    theirs = layout.read_descriptor(full.stores["eu"]).model_copy(update={"replica": "e" * 32}).summed()
    note = full.open(key_file=made).keyring.sign_descriptor(theirs)
    assert note is not None and note.role == "operator"
    keep_note(full.stores["eu"], note)
    full.replace(layout.VAULT, canonical_json(theirs.model_dump(mode="json")))
    assert full.open().descriptor == theirs
    gone = removal_object(full.key_file, Role.WRITER, note.signer, MOMENT, {})  # of a writer: nothing to this
    full.stores["eu"].create(layout.key_name(object_name(gone)), gone)
    assert full.open().descriptor == theirs
    for gone in operator_removal_objects(full.key_file, note.signer, MOMENT, {}):
        full.stores["eu"].create(layout.key_name(object_name(gone)), gone)
    with pytest.raises(Damaged, match="not what was signed"):
        full.open()


def test_a_reader_alone_brings_back_what_was_signed_and_signs_nothing(full: VaultWorld) -> None:
    store, whole = full.stores["eu"], layout.read_descriptor(full.stores["eu"])
    reader = full.key_file.for_another(Role.READER)
    store.delete(layout.VAULT)
    assert mend_descriptor("eu", store, reader, ["eu", "us"])
    assert layout.read_descriptor(store) == whole
    full.unsign()
    assert not mend_descriptor("eu", store, reader, ["eu", "us"])
    assert mend_descriptor("eu", store, full.key_file, ["eu", "us"])
    assert full.open().keyring.described("eu") == [whole]


def test_a_descriptor_of_another_region_that_nobody_signed_is_mended(full: VaultWorld) -> None:
    whole = layout.read_descriptor(full.stores["eu"])
    other_descriptor(full, region="us")
    assert mend_descriptor("eu", full.stores["eu"], full.key_file, ["eu", "us"])
    assert full.open().descriptor == whole


class At:
    def __init__(self, region: str, store: MemoryStore) -> None:
        self.region, self.store = region, store


def test_a_region_that_is_added_with_a_key_is_signed_for_and_one_made_anew_counts(full: VaultWorld) -> None:
    eu, us, third = At("eu", full.stores["eu"]), At("us", MemoryStore("us")), At("asia", MemoryStore("asia"))
    made = make_replica(eu, us, key_file=full.key_file)
    assert made != full.open("us").descriptor, "it is another copy"
    assert full.open("us", store=us.store).descriptor == made
    full.stores["us"] = us.store
    assert list(vault_of(full).replicas) == ["eu", "us"]
    new = make_replica(eu, third)
    assert full.open("asia", store=third.store).keyring.described("asia") == []
    assert make_replica(eu, At("asia", MemoryStore("asia")), key_file=full.key_file) != new


def test_a_region_that_is_made_anew_without_a_key_gets_what_was_signed_for_it(full: VaultWorld) -> None:
    whole, us = full.open("us").descriptor, At("us", MemoryStore("us"))
    assert make_replica(At("eu", full.stores["eu"]), us) == whole
    assert full.open("us", store=us.store).descriptor == whole
    forged = Keyring(KeyFile.create("vault-1", "demo"))
    bad = forged.sign_descriptor(
        whole.model_copy(update={"region": "asia", "chunking": layout.Chunking(min=64)})
    )
    assert bad is not None
    keep_note(full.stores["eu"], bad)
    assert make_replica(At("eu", full.stores["eu"]), At("asia", MemoryStore())).chunking == whole.chunking
