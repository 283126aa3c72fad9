"""The slot log: one dense chain whoever writes, and no stored byte that can be changed unnoticed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refloat.contracts import Keeping, ObjectInfo, Put, Store
from refloat.digest import Json, canonical_json, object_name
from refloat.errors import Damaged, Missing, Retry, StoreError, UsageError, VaultError, WrongKey
from refloat.limits import SLOT_APPEND_ATTEMPTS_MAX, SLOT_DIGITS
from refloat.vault.keys import KeyFile, Keyring, Removed, Role, key_objects
from refloat.vault.layout import Descriptor, key_name, slot_name, write_descriptor
from refloat.vault.slotlog import ENTRY_BYTES_MAX, FIRST, Entry, SlotLog, SlotTaken, previous_of
from refloat.vault.stores.faulty import Crash, FaultyStore, When
from refloat.vault.stores.local import LocalStore
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.stores.traced import TracedStore

KEY = KeyFile.create("vault-1", "support")


class Ticking:
    """A clock that moves a second each time it is asked."""

    def __init__(self) -> None:
        self._now = datetime(2026, 11, 1, 12, tzinfo=UTC)

    def now(self) -> datetime:
        self._now += timedelta(seconds=1)
        return self._now

    def monotonic(self) -> float:
        return self._now.timestamp()

    def sleep(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


def keyring_of(key_file: KeyFile) -> Keyring:
    store = MemoryStore()
    for content in key_objects(key_file):
        store.create(key_name(object_name(content)), content)
    write_descriptor(store, Descriptor(vault=key_file.vault, replica="r", pipeline=key_file.pipeline))
    return Keyring.open(key_file, store)


KEYRING = keyring_of(KEY)


def log_of(
    store: Store, stream: str = "points", keyring: Keyring = KEYRING, role: Role = Role.WRITER
) -> SlotLog:
    return SlotLog(store, stream, keyring, role=role, clock=Ticking())


def filled(store: Store, count: int, stream: str = "points") -> list[Entry]:
    log = log_of(store, stream)
    return [log.append({"number": number}) for number in range(count)]


def bodies(store: Store) -> list[Json]:
    return [entry.body["number"] for entry in log_of(store).entries()]


# ----------------------------------------------------------------------------------------------- what it is for


def test_what_was_appended_is_read_back_in_order() -> None:
    store = MemoryStore()
    written = filled(store, 5)
    assert list(log_of(store).entries()) == written
    assert [entry.slot for entry in written] == [0, 1, 2, 3, 4]
    assert log_of(store).head() == written[-1]
    assert log_of(store).read(2) == written[2]
    assert list(log_of(store).entries(3)) == written[3:]


def test_an_empty_log_has_no_head_and_no_entries() -> None:
    log = log_of(MemoryStore())
    assert log.stream == "points"
    assert log.last_slot() == -1
    assert log.head() is None
    assert list(log.entries()) == []
    with pytest.raises(Missing):
        log.read(0)


def test_the_entries_are_one_chain_of_hashes_of_stored_bytes() -> None:
    store = MemoryStore()
    written = filled(store, 4)
    assert [entry.previous for entry in written] == [FIRST, *(entry.hash for entry in written[:-1])]
    assert [entry.hash for entry in written] == [
        object_name(store.get(slot_name("points", number))) for number in range(4)
    ]


def test_an_entry_carries_time_signer_and_references() -> None:
    store = MemoryStore()
    written = log_of(store).append({"a": [1, {"b": None}]}, refs=["points/abc"])
    read = log_of(store).read(0)
    assert read == written
    assert read.time == datetime(2026, 11, 1, 12, 0, 1, tzinfo=UTC)
    assert read.refs == ("points/abc",)
    assert read.signer == KEYRING.signer(Role.WRITER)


def test_a_body_is_sealed_and_references_are_not() -> None:
    store = MemoryStore()
    log_of(store).append({"reason": "the secret plan"}, refs=["points/abc"])
    stored = store.get(slot_name("points", 0))
    assert b"points/abc" in stored
    assert b"secret" not in stored and base64.b64encode(b"secret")[:7] not in stored
    assert set(json.loads(stored)) == {
        "format", "stream", "slot", "previous", "time", "signer", "refs", "sealed", "signature",
    }  # fmt: skip


def test_what_its_own_reader_would_not_take_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_of(MemoryStore())
    log.append({"n": 1})
    monkeypatch.setattr("refloat.vault.slotlog.format_time", lambda now: "the day before yesterday")
    with pytest.raises(Damaged, match="its time is not one"):
        log.append({"n": 2})
    monkeypatch.undo()
    assert log.last_slot() == 0
    assert log.append({"n": 3}).slot == 1


def test_what_append_returns_is_what_a_reader_reads() -> None:
    store = MemoryStore()
    body: Mapping[str, Json] = {"pair": (1, 2)}
    assert log_of(store).append(body).body == {"pair": [1, 2]}
    assert log_of(store).read(0).body == {"pair": [1, 2]}


def test_two_equal_appends_are_two_entries() -> None:
    store = MemoryStore()
    first, second = filled(store, 1)[0], log_of(store).append({"number": 0})
    assert first.slot != second.slot and first.hash != second.hash


def test_a_longer_log_is_found_without_counting_from_the_start() -> None:
    store = TracedStore(MemoryStore())
    filled(store, 100)
    store.calls.clear()
    head = log_of(store).head()
    assert head is not None and head.slot == 99
    assert len(store.calls) <= 5


def test_appending_again_costs_one_request() -> None:
    store = TracedStore(MemoryStore())
    log = log_of(store)
    log.append({})
    store.calls.clear()
    log.append({})
    assert [call.op for call in store.calls] == ["create"]


def test_a_body_that_is_too_large_is_refused_before_anything_is_written() -> None:
    store = MemoryStore()
    with pytest.raises(UsageError, match="bytes"):
        log_of(store).append({"much": "x" * 4 * 1024 * 1024})
    assert list(store.list("")) == []


# ----------------------------------------------------------------------------------------------- many writers


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=25), st.sets(st.integers(0, 24)))
def test_any_interleaving_of_writers_is_one_dense_chain_with_every_body(
    turns: list[int], looks: set[int]
) -> None:
    """``looks`` are the turns at which the writer asks for the head first, and so knows of the others."""
    store = MemoryStore()
    logs = [log_of(store) for _ in range(3)]
    for number, writer in enumerate(turns):
        if number in looks:
            logs[writer].head()
        assert logs[writer].append({"number": number}).slot == number
    assert bodies(store) == list(range(len(turns)))
    for log in logs:
        assert len(list(log.entries())) == len(turns)


class Interleaved:
    """A store in which another writer gets in between whenever the plan says so."""

    def __init__(self, inner: Store, plan: Iterator[bool]) -> None:
        self.url = inner.url
        self._inner = inner
        self._plan = plan
        self._rival = log_of(inner)

    def create(self, name: str, content: bytes | memoryview) -> Put:
        if next(self._plan, False):
            self._rival.append({"number": "rival"})
        return self._inner.create(name, content)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        return self._inner.get(name, start, length)

    def size(self, name: str) -> int | None:
        return self._inner.size(name)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self._inner.list(prefix)

    def delete(self, name: str) -> None:
        self._inner.delete(name)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), max_size=12), st.integers(1, 4))
def test_a_writer_that_loses_races_takes_the_next_slot_and_nothing_is_lost(
    plan: list[bool], appends: int
) -> None:
    inner = MemoryStore()
    log = log_of(Interleaved(inner, iter(plan)))
    mine = [log.append({"number": number}) for number in range(appends)]
    written = bodies(inner)
    assert [number for number in written if number != "rival"] == list(range(appends))
    assert len(written) == appends + sum(plan[: written.count("rival") + appends])
    assert all(log_of(inner).read(entry.slot) == entry for entry in mine)


def test_losing_without_end_gives_up() -> None:
    log = log_of(Interleaved(MemoryStore(), iter([True] * (SLOT_APPEND_ATTEMPTS_MAX + 1))))
    with pytest.raises(StoreError, match="races") as caught:
        log.append({})
    assert caught.value.retry is Retry.LATER


def test_threads_that_share_one_log_or_have_their_own_write_one_chain(tmp_path: object) -> None:
    store = LocalStore(str(tmp_path))
    shared = log_of(store)
    logs = [shared, shared, log_of(store), log_of(store)]

    def write(writer: int) -> None:
        for number in range(8):
            logs[writer].append({"number": [writer, number]})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    written = bodies(store)
    assert sorted(map(str, written)) == sorted(str([w, n]) for w in range(4) for n in range(8))
    for writer in range(4):
        assert [pair for pair in written if pair[0] == writer] == [[writer, n] for n in range(8)]  # type: ignore[index]


# ----------------------------------------------------------------------------------------------- one exact slot


def test_a_slot_that_is_taken_says_so_and_keeps_what_it_holds() -> None:
    store = MemoryStore()
    first, late = log_of(store), log_of(store)
    first.append_at(0, {"number": "first"})
    with pytest.raises(SlotTaken) as caught:
        late.append_at(0, {"number": "late"})
    assert caught.value.retry is Retry.NOW and caught.value.file == slot_name("points", 0)
    assert bodies(store) == ["first"]


def test_an_old_holder_that_goes_on_loses_its_slot() -> None:
    store = MemoryStore()
    old, successor = log_of(store), log_of(store)
    held = old.append_at(0, {"number": "old"})
    successor.append_at(1, {"number": "successor"})
    with pytest.raises(SlotTaken):
        old.append_at(held.slot + 1, {"number": "old again"})
    assert bodies(store) == ["old", "successor"]


def test_a_slot_beyond_the_next_is_not_written() -> None:
    store = MemoryStore()
    log = log_of(store)
    log.append_at(0, {"number": 0})
    with pytest.raises(Missing):
        log.append_at(2, {"number": 2})
    assert bodies(store) == [0]


def test_a_lost_reply_to_our_own_slot_is_our_success() -> None:
    store = FaultyStore(MemoryStore(), fail_at=1, when=When.AFTER)
    entry = log_of(store).append_at(0, {"number": "ours"})
    assert log_of(store).read(0) == entry


def test_a_slot_that_a_store_calls_taken_and_that_holds_our_bytes_is_our_success() -> None:
    class AskedTwice(MemoryStore):
        """Tries again by itself after a lost reply, and then finds what it wrote."""

        def create(self, name: str, content: bytes | memoryview) -> Put:
            super().create(name, content)
            return super().create(name, content)

    store = AskedTwice()
    assert log_of(store).append_at(0, {"number": "ours"}) == log_of(store).read(0)


def test_a_failure_after_somebody_else_took_the_slot_is_not_our_success() -> None:
    inner = MemoryStore()
    log_of(inner).append_at(0, {"number": "theirs"})
    store = FaultyStore(inner, fail_at=1, when=When.BEFORE)
    with pytest.raises(StoreError):
        log_of(store).append_at(0, {"number": "ours"})
    assert bodies(inner) == ["theirs"]


# ----------------------------------------------------------------------------------------------- failing stores


def an_append(store: Store) -> Entry:
    return log_of(store).append({"number": "new"})


def operations_of_an_append() -> int:
    inner = MemoryStore()
    filled(inner, 3)
    learned = FaultyStore(inner)
    an_append(learned)
    return learned.operations


CUTS = range(1, operations_of_an_append() + 1)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER, When.TORN])
def test_an_append_killed_at_any_operation_is_there_whole_or_not_at_all(cut: int, when: When) -> None:
    inner = MemoryStore()
    filled(inner, 3)
    with pytest.raises(Crash):
        an_append(FaultyStore(inner, crash_at=cut, when=when))
    assert bodies(inner) in ([0, 1, 2], [0, 1, 2, "new"])
    an_append(inner)
    assert bodies(inner)[:3] == [0, 1, 2] and bodies(inner)[-1] == "new"


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER])
def test_an_append_that_meets_one_failure_says_the_truth(cut: int, when: When) -> None:
    inner = MemoryStore()
    filled(inner, 3)
    try:
        an_append(FaultyStore(inner, fail_at=cut, when=when))
    except StoreError:
        assert bodies(inner) == [0, 1, 2]
    else:
        assert bodies(inner) == [0, 1, 2, "new"]


def test_a_write_that_a_failing_disk_half_accepted_is_not_called_a_success() -> None:
    class Unsynced(MemoryStore):
        def create(self, name: str, content: bytes | memoryview) -> Put:
            super().create(name, content)
            raise StoreError("the folder could not be synced", retry=Retry.NEVER)

    with pytest.raises(StoreError, match="synced"):
        an_append(Unsynced())


class Lagging(MemoryStore):
    """Lists nothing of what it holds."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return iter(())


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 8, 9, 40])
def test_the_head_is_found_without_any_listing(count: int) -> None:
    store = Lagging()
    filled(store, count)
    head = log_of(store).head()
    assert (head.slot + 1 if head else 0) == count
    assert log_of(store).append({"number": count}).slot == count


@pytest.mark.parametrize("listed", [5, 10**15])
def test_a_listing_that_names_what_nobody_signed_does_not_hide_the_head(listed: int) -> None:
    store = MemoryStore()
    filled(store, 3)
    store.create(slot_name("points", listed), b"planted")
    head = log_of(store).head()
    assert head is not None and head.slot == 2


@pytest.mark.parametrize("name", ["z" * 16, "7", "7" * 15, "-00000000000007", "deeper/0000000000000007"])
def test_what_is_no_slot_by_its_name_is_not_taken_for_one(name: str) -> None:
    store = MemoryStore()
    written = filled(store, 3)
    store.create("log/points/" + name, b"planted")
    assert log_of(store).head() == written[-1]


# ----------------------------------------------------------------------------------------------- hostile stores


def test_any_flipped_bit_of_an_entry_is_noticed_and_the_slot_is_named() -> None:
    inner = MemoryStore()
    filled(inner, 3)
    name = slot_name("points", 1)
    stored = inner.get(name)
    store = FaultyStore(inner)
    for bit in range(0, len(stored) * 8, 3):
        store.flip_bit(name, bit)
        with pytest.raises(VaultError):
            log_of(store).read(1)
        with pytest.raises(VaultError):
            list(log_of(store).entries())
        store.replace(name, stored)
    assert bodies(store) == [0, 1, 2]


@pytest.mark.parametrize("length", [0, 1, 40, 200, -1])
def test_a_truncated_entry_is_noticed(length: int) -> None:
    store = FaultyStore(MemoryStore())
    filled(store, 1)
    store.replace(slot_name("points", 0), store.get(slot_name("points", 0))[:length])
    with pytest.raises(Damaged):
        log_of(store).head()


TAMPERED: dict[str, object] = {
    "format": 0,
    "stream": "runs/1",
    "slot": 0,
    "previous": "0" * 64,
    "time": "2020-01-01T00:00:00Z",
    "signer": "0" * 32,
    "refs": ["points/other"],
    "sealed": base64.b64encode(bytes(40)).decode(),
    "signature": bytes(64).hex(),
    "extra": 1,
}


@pytest.mark.parametrize("field", TAMPERED)
def test_an_entry_with_any_field_changed_is_noticed(field: str) -> None:
    store = FaultyStore(MemoryStore())
    filled(store, 3)
    name = slot_name("points", 1)
    document = {**json.loads(store.get(name)), field: TAMPERED[field]}
    store.replace(name, canonical_json(document))
    with pytest.raises(Damaged) as caught:
        log_of(store).read(1)
    assert caught.value.file == name


def test_two_entries_that_were_swapped_are_noticed() -> None:
    store = FaultyStore(MemoryStore())
    filled(store, 3)
    one, two = (store.get(slot_name("points", slot)) for slot in (1, 2))
    store.replace(slot_name("points", 1), two)
    store.replace(slot_name("points", 2), one)
    for slot in (1, 2):
        with pytest.raises(Damaged, match="it holds slot"):
            log_of(store).read(slot)


def test_an_entry_of_another_stream_is_noticed() -> None:
    store = FaultyStore(MemoryStore())
    filled(store, 1)
    filled(store, 1, stream="runs/r1")
    store.misdirect(slot_name("points", 0), slot_name("runs/r1", 0))
    with pytest.raises(Damaged, match="runs/r1"):
        log_of(store).read(0)


def test_an_entry_of_another_vault_of_the_same_holders_is_noticed() -> None:
    sibling = keyring_of(KEY.model_copy(update={"vault": "vault-2"}))
    store = MemoryStore()
    log_of(store, keyring=sibling).append({"number": 0})
    with pytest.raises(Damaged, match="signature"):
        log_of(store).read(0)


def test_an_entry_signed_in_another_role_is_noticed() -> None:
    store = MemoryStore()
    log_of(store, role=Role.OPERATOR).append({"number": 0})
    with pytest.raises(Damaged, match="vouch"):
        log_of(store, role=Role.WRITER).read(0)


def test_a_holder_without_the_role_reads_but_does_not_append() -> None:
    store = MemoryStore()
    filled(store, 1)
    operator = Keyring.open(KEY.for_roles(Role.OPERATOR), _vault_with_keys())
    log = log_of(store, keyring=operator)
    assert log.read(0).body == {"number": 0}
    with pytest.raises(WrongKey):
        log.append({"number": 1})
    assert bodies(store) == [0]


def _vault_with_keys() -> MemoryStore:
    store = MemoryStore()
    for content in key_objects(KEY):
        store.create(key_name(object_name(content)), content)
    write_descriptor(store, Descriptor(vault=KEY.vault, replica="r", pipeline=KEY.pipeline))
    return store


@pytest.mark.parametrize("gone", [0, 1, 2, 3])
def test_a_lost_entry_in_the_middle_stops_the_reading_there(gone: int) -> None:
    store = FaultyStore(MemoryStore())
    filled(store, 5)
    store.drop(slot_name("points", gone))
    read: list[int] = []
    with pytest.raises(Damaged, match=rf"slot {gone} .*missing"):
        read.extend(entry.slot for entry in log_of(store).entries())


def test_a_chain_that_forks_is_noticed() -> None:
    """Entries 0 to 2 of one history, and 3 of another that the same writer wrote."""
    one, other = MemoryStore(), MemoryStore()
    filled(one, 3)
    filled(other, 4)
    one.create(slot_name("points", 3), other.get(slot_name("points", 3)))
    with pytest.raises(Damaged, match=r"slot 2 .*entry after it"):
        list(log_of(one).entries())
    log = log_of(one)
    log.read(2)
    with pytest.raises(Damaged, match=r"slot 3 .*does not follow"):
        log.read(3)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_log_that_was_rolled_back_under_us_is_noticed(kept: int) -> None:
    store = MemoryStore()
    log = log_of(store)
    for number in range(3):
        log.append({"number": number})
    for slot in range(kept, 3):
        store.delete(slot_name("points", slot))
    with pytest.raises(Damaged, match="rolled back"):
        log.head()


@pytest.mark.parametrize("written_since", [1, 2, 3, 4])
def test_a_log_that_was_rolled_back_and_written_on_is_noticed(written_since: int) -> None:
    store = MemoryStore()
    log = log_of(store)
    for number in range(3):
        log.append({"number": number})
    for slot in (1, 2):
        store.delete(slot_name("points", slot))
    other = log_of(store)
    for number in range(written_since):
        other.append({"number": number})
    with pytest.raises(Damaged):
        log.head()


def test_a_last_entry_that_was_replaced_by_another_of_the_same_writer_is_noticed() -> None:
    store = MemoryStore()
    log = log_of(store)
    for number in range(3):
        log.append({"number": number})
    store.delete(slot_name("points", 2))
    log_of(store).append({"number": "another"})
    with pytest.raises(Damaged, match="another entry before"):
        log.head()


def test_an_entry_of_a_newer_format_says_so() -> None:
    store = FaultyStore(MemoryStore())
    filled(store, 1)
    document = json.loads(store.get(slot_name("points", 0)))
    store.replace(slot_name("points", 0), canonical_json({**document, "format": 2}))
    with pytest.raises(VaultError, match="format 2"):
        log_of(store).read(0)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300) | st.builds(lambda n: b"[" * n, st.integers(0, 5000)))
def test_junk_in_a_slot_is_damage_and_nothing_else(junk: bytes) -> None:
    store = MemoryStore()
    store.create(slot_name("points", 0), junk)
    with pytest.raises(Damaged):
        log_of(store).read(0)


def test_an_endless_object_in_a_slot_is_not_read_to_its_end() -> None:
    asked: list[int | None] = []

    class Endless(MemoryStore):
        def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
            asked.append(length)
            return bytes(length or 0)

    with pytest.raises(Damaged, match="larger"):
        log_of(Endless()).read(0)
    assert asked[0] is not None and asked[0] < 16 * 1024 * 1024


# ------------------------------------------------------------------------------------------ what a signer can do


def signed(keyring: Keyring = KEYRING, role: Role = Role.WRITER, **fields: object) -> bytes:
    """An entry for slot 0 that its signer wrote as no refloat does: with other fields, and a signature that fits."""
    written = MemoryStore()
    log_of(written, keyring=keyring, role=role).append({"number": 0})
    document = {**json.loads(written.get(slot_name("points", 0))), **fields}
    del document["signature"]
    message = b"slot:" + canonical_json({**document, "vault": keyring.vault})
    return canonical_json({**document, "signature": keyring.sign(role, message).value.hex()})


def with_slot_0(stored: bytes) -> MemoryStore:
    store = MemoryStore()
    store.create(slot_name("points", 0), stored)
    return store


def sealed_in_slot(slot: int) -> str:
    """What is sealed in an entry for this slot."""
    written = MemoryStore()
    filled(written, slot + 1)
    sealed: str = json.loads(written.get(slot_name("points", slot)))["sealed"]
    return sealed


def test_what_is_sealed_in_a_slot_opens_in_just_that_slot() -> None:
    assert log_of(with_slot_0(signed(sealed=sealed_in_slot(0)))).read(0).body == {"number": 0}


def test_what_a_signer_writes_is_read_if_it_is_as_refloat_writes_it() -> None:
    assert log_of(with_slot_0(signed())).read(0).body == {"number": 0}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sealed": "not base64"}, "its body does not open"),
        ({"sealed": base64.b64encode(bytes(40)).decode()}, "its body does not open"),
        ({"time": "yesterday"}, "its time is not one"),
        ({"sealed": sealed_in_slot(1)}, "its body does not open"),
        ({"sealed": sealed_in_slot(0) + "!"}, "its body does not open"),
        ({"sealed": "\n" + sealed_in_slot(0)}, "its body does not open"),
        ({"slot": -1}, "1 of its fields are wrong"),
        ({"slot": "0"}, "1 of its fields are wrong"),
        ({"signer": "me"}, "1 of its fields are wrong"),
        ({"previous": "0"}, "1 of its fields are wrong"),
        ({"previous": "1" * 64}, "does not follow the entry before it"),
    ],
)
def test_what_even_a_signer_may_not_write_is_damage(fields: Mapping[str, object], words: str) -> None:
    with pytest.raises(Damaged, match=words) as caught:
        log_of(with_slot_0(signed(**fields))).read(0)
    assert caught.value.file == slot_name("points", 0) and caught.value.next


def test_the_largest_entry_is_read_and_none_that_is_larger() -> None:
    store = MemoryStore()
    room = ENTRY_BYTES_MAX - len(signed(refs=[""]))
    largest = signed(refs=["x" * room])
    assert len(largest) == ENTRY_BYTES_MAX
    assert log_of(with_slot_0(largest)).read(0).refs == ("x" * room,)
    with pytest.raises(Damaged, match="larger"):
        log_of(with_slot_0(signed(refs=["x" * (room + 1)]))).read(0)
    with pytest.raises(UsageError, match=f"would have {ENTRY_BYTES_MAX + 1} bytes"):
        log_of(store).append({"number": 0}, refs=["x" * (room + 1)])
    assert log_of(store).append({"number": 0}, refs=["x" * room]).slot == 0


def test_what_an_entry_names_before_it_is_told_for_just_its_slot_and_role() -> None:
    store = MemoryStore()
    first, second = filled(store, 2)
    stored = store.get(slot_name("points", 1))
    assert previous_of(KEYRING, Role.WRITER, "points", 1, stored) == second.previous == first.hash
    for role, stream, slot, content in (
        (Role.OPERATOR, "points", 1, stored),
        (Role.WRITER, "runs/r1", 1, stored),
        (Role.WRITER, "points", 2, stored),
        (Role.WRITER, "points", 1, stored[:-1]),
        (Role.WRITER, "points", 1, stored.replace(first.hash.encode(), b"0" * 64)),
    ):
        assert previous_of(KEYRING, role, stream, slot, content) is None


# ------------------------------------------------------------------------------------------ somebody was removed


def removing(heads: Mapping[str, tuple[int, str]]) -> Keyring:
    """A keyring by which the writer was removed when the logs had these heads; another reads on."""
    keyring = keyring_of(KEY)
    keyring.adopt([removed(heads)])
    return keyring


def removed(heads: Mapping[str, tuple[int, str]]) -> Removed:
    seen = {(region, "points"): head for region, head in heads.items()}
    at = datetime(2026, 11, 2, tzinfo=UTC)
    return Removed(Role.WRITER, KEYRING.signer(Role.WRITER), at, seen, ("keys/removal",))


def log_in(region: str, store: Store, keyring: Keyring) -> SlotLog:
    return SlotLog(store, "points", keyring, role=Role.WRITER, clock=Ticking(), region=region)


def voids(log: SlotLog) -> list[bool]:
    return [entry.void for entry in log.entries()]


def test_what_a_writer_signed_counts_up_to_the_slot_that_the_admin_saw() -> None:  # fault 58
    store = MemoryStore()
    written = filled(store, 4)
    log = log_in("eu", store, removing({"eu": (1, written[1].hash)}))
    assert voids(log) == [False, False, True, True]
    assert [entry.body for entry in log.entries()] == [{"number": 0}, {"number": 1}, {}, {}]
    head = log.head()
    assert head is not None and head.void and head.slot == 3


def test_in_a_region_that_the_admin_saw_nothing_of_nothing_of_it_counts() -> None:  # fault 58
    store = MemoryStore()
    written = filled(store, 2)
    assert voids(log_in("us", store, removing({"eu": (1, written[1].hash)}))) == [True, True]


def test_a_void_entry_needs_no_body_that_opens() -> None:
    store = with_slot_0(signed(sealed=base64.b64encode(bytes(40)).decode()))
    assert log_in("us", store, removing({})).read(0).void


def test_a_log_that_was_written_anew_since_the_removal_is_noticed_wherever_it_differs() -> None:  # fault 58
    true, other = MemoryStore(), MemoryStore()
    written = filled(true, 3)
    log = log_of(other)
    for number in range(3):
        log.append({"number": f"another {number}"})
    keyring = removing({"eu": (2, written[2].hash)})
    assert voids(log_in("eu", true, keyring)) == [False] * 3
    for slots, words in (
        ((0, 1, 2), "slot 2 .*not the entry that the admin saw"),
        ((2,), "slot 2 .*does not follow"),
        ((0,), "slot 1 .*does not follow"),
    ):
        store = FaultyStore(MemoryStore())
        for slot in range(3):
            store.create(
                slot_name("points", slot), (other if slot in slots else true).get(slot_name("points", slot))
            )
        with pytest.raises(Damaged, match=words):
            log_in("eu", store, keyring).read(1)
    lost = FaultyStore(MemoryStore())
    filled(lost, 3)
    lost.drop(slot_name("points", 0))
    with pytest.raises(Damaged, match=r"slot 0 .*missing, though the admin saw it"):
        log_in("eu", lost, keyring).read(1)


def test_a_log_that_changes_between_two_looks_at_what_the_admin_saw_is_noticed() -> None:
    first, second = MemoryStore(), MemoryStore()
    log_of(first).append({"number": "one"})
    written = log_of(second).append({"number": "other"})
    store = FaultyStore(MemoryStore())
    store.create(slot_name("points", 0), first.get(slot_name("points", 0)))
    keyring = keyring_of(KEY)
    log = log_in("eu", store, keyring)
    log.read(0)
    keyring.adopt([removed({"eu": (0, written.hash)})])
    store.replace(slot_name("points", 0), second.get(slot_name("points", 0)))
    with pytest.raises(Damaged, match="another entry before: the log was rewritten"):
        log.read(0)


# ------------------------------------------------------------------------------------------------ beyond damage


def test_who_must_goes_on_past_a_damaged_entry_whose_bytes_the_chain_then_names() -> None:
    store = FaultyStore(MemoryStore())
    filled(store, 2)
    store.flip_bit(slot_name("points", 1))
    log = log_of(store)
    assert log.last_slot() == 1
    with pytest.raises(VaultError):
        log.append_at(2, {"number": 2})
    entry = log.append_past(2, {"number": 2})
    assert entry.previous == object_name(store.get(slot_name("points", 1)))
    assert log_of(store).head() == entry and log_of(store).last_slot() == 2
    with pytest.raises(VaultError):
        list(log_of(store).entries())
    with pytest.raises(SlotTaken):
        log_of(store).append_past(2, {"number": "late"})
    with pytest.raises(Missing):
        log.append_past(4, {"number": 4})


def test_of_the_largest_entry_that_was_damaged_the_chain_names_all_bytes() -> None:
    junk = bytes(ENTRY_BYTES_MAX)
    entry = log_of(with_slot_0(junk)).append_past(1, {"number": 1})
    assert entry.previous == object_name(junk)


def test_a_failure_of_which_nothing_can_be_read_back_is_told() -> None:
    class Away(MemoryStore):
        """Fails while it writes, and is away from then on."""

        def create(self, name: str, content: bytes | memoryview) -> Put:
            raise StoreError("no answer", retry=Retry.LATER)

        def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
            raise StoreError("still no answer", retry=Retry.LATER)

    with pytest.raises(StoreError, match=r"^no answer"):
        log_of(Away()).append_at(0, {"number": 0})


def test_a_store_that_says_that_everything_is_there_is_not_asked_for_ever() -> None:
    asked: list[str] = []

    class Endless(MemoryStore):
        def size(self, name: str) -> int | None:
            asked.append(name)
            return 1

    assert log_of(Endless()).last_slot() == 10**SLOT_DIGITS - 1
    with pytest.raises(Damaged, match="was there before"):
        log_of(Endless()).head()
    assert len(asked) < 300


# --------------------------------------------------------------------------------- a store that keeps every version


class Kept(MemoryStore, Keeping):
    """Keeps an object under a name as long as it is a signed entry for it; whatever else is there is none."""

    def holds(self, name: str) -> bool:
        stored = self._objects.get(name)
        slot = int(name.rpartition("/")[2])
        return stored is not None and previous_of(KEYRING, Role.WRITER, "points", slot, stored) is not None


def test_garbage_that_cannot_be_removed_hides_no_head_and_takes_no_slot() -> None:
    store = Kept()
    assert isinstance(store, Keeping)
    filled(store, 3)
    for slot in (3, 4, 9):
        store._objects[slot_name("points", slot)] = b"planted"
    head = log_of(store).head()
    assert head is not None and head.slot == 2
    assert log_of(store).last_slot() == 2
    only_garbage = Kept()
    only_garbage._objects[slot_name("points", 5)] = b"planted"
    assert log_of(only_garbage).head() is None
