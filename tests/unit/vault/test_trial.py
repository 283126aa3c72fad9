"""A store is tried out before a vault is made there: one of two creates wins, its bytes stay, and nothing is left."""

from __future__ import annotations

import pytest

from refloat.contracts import Put
from refloat.errors import Refused, StoreError
from refloat.testing.world import WorldClock
from refloat.vault.keys import KeyFile
from refloat.vault.layout import TRIAL
from refloat.vault.replica import create_vault
from refloat.vault.stores.faulty import Crash, FaultyStore
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.trial import CONTENTS, honoured, try_out

ONE, OTHER = CONTENTS


@pytest.mark.parametrize(
    ("puts", "kept", "expected"),
    [
        ([Put.CREATED, Put.EXISTS], ONE, True),
        ([Put.EXISTS, Put.CREATED], OTHER, True),
        ([Put.CREATED, Put.EXISTS], OTHER, False),
        ([Put.CREATED, Put.CREATED], OTHER, False),
        ([Put.EXISTS, Put.EXISTS], ONE, False),
        ([Put.CREATED, Put.EXISTS], None, False),
    ],
)
def test_one_create_wins_and_its_bytes_are_read_back(
    puts: list[Put], kept: bytes | None, expected: bool
) -> None:
    # fault 10
    assert honoured(puts, kept) is expected


def test_a_trial_takes_four_requests_and_leaves_nothing() -> None:
    store = FaultyStore(MemoryStore())
    try_out({"eu": store})
    assert sorted(operation.op for operation in store.trace) == ["create", "create", "delete", "get"]
    assert list(store.list("")) == []


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_trial_that_fails_is_removed_and_says_in_which_region(number: int) -> None:
    store = FaultyStore(MemoryStore(), fail_at=number)
    with pytest.raises(StoreError) as caught:
        try_out({"us": store})
    assert caught.value.region == "us"
    assert list(store.list("")) == []


class KeepsAll(MemoryStore):
    """Lets nothing be removed."""

    def delete(self, name: str) -> None:
        raise StoreError(f"cannot delete {name}: these credentials may not")


class Replaces(KeepsAll):
    """Takes every write, as a store does that ignores the condition of a create."""

    def create(self, name: str, content: bytes | memoryview) -> Put:
        MemoryStore.delete(self, name)
        return super().create(name, content)


def test_what_stays_of_a_trial_does_not_stand_in_the_way_of_a_vault() -> None:
    store, keys = KeepsAll("kept"), KeyFile.create("ab" * 16, "demo")
    try_out({"eu": store})
    create_vault({"eu": store}, keys, WorldClock(), "demo")
    assert len([info for info in store.list("") if info.name.startswith(TRIAL)]) == 2


def test_a_refusal_names_what_could_not_be_removed() -> None:
    # fault 10
    store = Replaces("replaced")
    with pytest.raises(Refused) as caught:
        try_out({"eu": store})
    (left,) = store.list("")
    assert caught.value.rule == "create_ignored" and left.name in (caught.value.next or "")


def test_what_a_trial_that_was_killed_has_left_goes_when_the_vault_is_made() -> None:  # fault 18
    keys = KeyFile.create("vault-1", "demo")
    inner = MemoryStore()
    with pytest.raises(Crash):
        try_out({"eu": FaultyStore(inner, crash_at=4)})
    assert [info.name[: len(TRIAL)] for info in inner.list("")] == [TRIAL]
    create_vault({"eu": inner}, keys, WorldClock(), "demo")
    assert list(inner.list(TRIAL)) == []
