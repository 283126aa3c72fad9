"""A replica gives exactly what was written, or says what is wrong with it."""

from __future__ import annotations

import base64
import json
import os
import struct
from collections.abc import Callable
from typing import Any

import pytest
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from refloat.contracts import Facts, Put
from refloat.errors import Damaged, Missing, RefloatError, Refused, StoreError, WrongKey
from refloat.testing.world import WorldClock
from refloat.vault import layout
from refloat.vault.anywhere import Anywhere
from refloat.vault.keys import KeyFile, Role
from refloat.vault.replica import LOOKED_FOR_S, Begun, Replica, create_vault
from refloat.vault.stores.faulty import Crash, FaultyStore, Operation, When
from refloat.vault.stores.local import LocalStore
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.stores.traced import TracedStore

VaultWorld = Any  # the fixture ``world`` of conftest.py
FILES = {"a/model.bin": b"weights" * 100, "empty": b"", "note": b"hello"}


def pack_with(world: VaultWorld, tree: str) -> str:
    """The pack in which a tree lies."""
    place = world.open().index.lookup(bytes.fromhex(tree))
    return layout.pack_name(place.pack.name)


# ------------------------------------------------------------------------------------------ making a vault


def test_a_new_vault_is_empty_and_opens_with_its_key_alone(world: VaultWorld) -> None:
    eu, us = world.open("eu"), world.open("us")
    assert eu.points() == [] and eu.head() is None and len(eu.index) == 0
    assert eu.descriptor.vault == us.descriptor.vault == world.key_file.vault
    assert eu.descriptor.replica != us.descriptor.replica
    assert world.names("keys/", "eu") == world.names("keys/", "us")


def test_a_vault_is_never_made_over_anything(world: VaultWorld) -> None:
    other = KeyFile.create("vault-2", "demo")
    before = world.names("")
    with pytest.raises(Refused) as caught:
        Replica.create("eu", world.stores["eu"], other, world.clock, pipeline="demo")
    assert caught.value.rule == "vault_exists"
    assert world.names("") == before

    inhabited, empty = MemoryStore("inhabited"), MemoryStore("empty")
    inhabited.create("somebody/elses", b"precious")
    with pytest.raises(Refused, match="somebody/elses"):
        create_vault({"eu": empty, "us": inhabited}, other, world.clock, "demo")
    assert list(empty.list("")) == []


def test_a_vault_that_was_cut_while_it_was_made_is_no_vault(world: VaultWorld) -> None:
    learn = FaultyStore(MemoryStore())
    Replica.create("eu", learn, world.key_file, world.clock, pipeline="demo")
    creates = [operation.number for operation in learn.trace if operation.op == "create"]
    for cut in creates:
        inner = MemoryStore()
        with pytest.raises(Crash):
            Replica.create(
                "eu", FaultyStore(inner, crash_at=cut), world.key_file, world.clock, pipeline="demo"
            )
        with pytest.raises(Missing):
            Replica.open("eu", inner, world.key_file, world.clock)


class StoppedBehind(MemoryStore):
    """Takes the descriptor, and then there is Ctrl-C."""

    def create(self, name: str, content: bytes | memoryview) -> Put:
        put = super().create(name, content)
        if name == layout.VAULT:
            raise KeyboardInterrupt
        return put


@pytest.mark.parametrize("theirs", [False, True])
def test_a_vault_that_was_stopped_behind_its_last_write_leaves_nothing_and_takes_nothing_of_others(
    world: VaultWorld, theirs: bool
) -> None:  # fault 31
    quick, stopped = MemoryStore(), StoppedBehind()
    if theirs:  # somebody else's descriptor, written while ours was on its way
        stopped.create = lambda name, content: (  # type: ignore[method-assign]
            MemoryStore.create(stopped, name, b"{}" if name == layout.VAULT else content),
            StoppedBehind.create(stopped, name, content),
        )[0]
    with pytest.raises(KeyboardInterrupt):
        create_vault({"eu": quick, "us": stopped}, KeyFile.create("ab" * 16, "demo"), world.clock, "demo")
    assert [entry.name for entry in quick.list("")] == []
    assert [entry.name for entry in stopped.list("")] == ([layout.VAULT] if theirs else [])


def left_in(store: MemoryStore) -> list[str]:
    return [info.name for info in store.list("") if not info.name.startswith(layout.TRIAL)]


@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER])
@pytest.mark.parametrize("deletes", [True, False], ids=["can take back", "cannot take back"])
def test_wherever_making_a_vault_fails_nothing_is_left_or_it_is_known_where(
    when: When, *, deletes: bool
) -> None:
    class Undeletable(MemoryStore):
        def delete(self, name: str) -> None:
            if not deletes:
                raise StoreError("nobody may delete here", next="ask somebody who may")
            super().delete(name)

    def attempt(fail_at: int | None) -> tuple[FaultyStore, list[MemoryStore], Begun, BaseException | None]:
        first, second = Undeletable("one"), Undeletable("other")
        faulty, begun = FaultyStore(second, fail_at=fail_at, when=when), Begun()
        key = KeyFile.create("ab" * 16, "demo")
        try:
            create_vault({"eu": first, "us": faulty}, key, WorldClock(), "demo", begun=begun)
        except RefloatError as error:
            return faulty, [first, second], begun, error
        return faulty, [first, second], begun, None

    learned, _, _, none = attempt(None)
    assert none is None
    failed = 0
    for at in range(1, len(learned.trace) + 1):
        _, stores, begun, error = attempt(at)
        if error is None:
            continue  # what failed could be tried again, or was not needed
        failed += 1
        for store in stores:
            assert not left_in(store) or store.url in begun.left, learned.trace[at - 1]
        assert bool(begun.left) is any(map(left_in, stores)), learned.trace[at - 1]
    assert failed


def test_where_making_a_vault_is_interrupted_while_it_is_taken_back_it_is_known_that_something_is_left() -> (
    None
):
    class Interrupting(MemoryStore):
        def delete(self, name: str) -> None:
            if not name.startswith(layout.TRIAL):
                raise KeyboardInterrupt
            super().delete(name)

    first, begun = Interrupting("one"), Begun()
    second = FaultyStore(MemoryStore("other"), at_each=_refuse_descriptors)
    with pytest.raises(KeyboardInterrupt):
        create_vault(
            {"eu": first, "us": second}, KeyFile.create("ab" * 16, "demo"), WorldClock(), "demo", begun=begun
        )
    assert left_in(first) and first.url in begun.left


def _refuse_descriptors(operation: Operation) -> None:
    if operation.op == "create" and operation.name == layout.VAULT:
        raise StoreError("the disk is full", next="make room")


def test_another_vaults_key_does_not_open_it(world: VaultWorld) -> None:
    with pytest.raises(WrongKey):
        world.open(key_file=KeyFile.create("vault-2", "demo"))
    with pytest.raises(WrongKey):
        world.open(key_file=KeyFile.create(world.key_file.vault, "demo"))


def test_a_place_without_a_vault_says_so(world: VaultWorld) -> None:
    with pytest.raises(Missing):
        world.open(store=MemoryStore())


# ------------------------------------------------------------------------------------------ points


def test_points_are_listed_oldest_first_with_what_was_seen_of_the_other_regions(world: VaultWorld) -> None:
    first, second = world.capture(FILES), world.capture({**FILES, "note": b"changed"})
    eu, us = world.open("eu"), world.open("us")
    assert [point.name for point in eu.points()] == [first.point, second.point]
    assert [point.slot for point in eu.points()] == [0, 1]
    assert eu.points()[0].heads == {}
    slot_0, slot_1 = us.log("points", Role.WRITER).read(0), eu.log("points", Role.WRITER).read(1)
    assert eu.points()[1].heads == {"us": {"slot": 0, "hash": slot_0.hash, "point": first.point}}
    assert eu.head() == {"slot": 1, "hash": slot_1.hash, "point": second.point}
    assert eu.points()[1].time > eu.points()[1].created_at
    assert [point.grade for point in us.points()] == ["exact", "exact"]


def test_a_point_that_is_gone_or_broken_is_named(world: VaultWorld) -> None:
    point = world.capture(FILES).point
    name = layout.point_name(point)
    for byte in range(0, len(world.stores["eu"].get(name)), 7):
        world.flip(name, byte)
        with pytest.raises(Damaged) as caught:
            world.open().read_point(point)
        assert caught.value.file == name
        world.flip(name, byte)
    world.stores["eu"].delete(name)
    with pytest.raises(Missing) as gone:
        world.open().read_point(point)
    assert (gone.value.region, gone.value.next) == ("eu", "refloat vault repair")
    assert world.open("us").read_point(point)["pipeline"] == "demo"


def test_logs_are_the_same_object_for_the_same_stream_and_role(world: VaultWorld) -> None:
    eu = world.open()
    assert eu.log("points", Role.WRITER) is eu.log("points", Role.WRITER)
    assert eu.log("points", Role.WRITER) is not eu.log("points", Role.OPERATOR)


# ------------------------------------------------------------------------------------------ chunks


@pytest.mark.slow
def test_every_flipped_byte_of_every_pack_is_an_error_or_the_right_bytes(world: VaultWorld) -> None:
    point = world.capture(FILES).point
    caught = 0
    for name in world.names("packs/"):
        for byte in range(len(world.stores["eu"].get(name))):
            world.flip(name, byte)
            try:
                assert world.restored(point) == FILES
            except Damaged as error:
                caught += 1
                assert error.next == "refloat vault repair"
                assert error.file == name
            world.flip(name, byte)
    assert caught > 500


def test_every_truncation_of_a_pack_is_an_error_or_the_right_bytes(world: VaultWorld) -> None:
    point = world.capture(FILES).point
    for name in world.names("packs/"):
        whole = world.stores["eu"].get(name)
        for length in range(0, len(whole), 3):
            world.replace(name, whole[:length])
            try:
                assert world.restored(point) == FILES
            except Damaged:
                assert length < len(whole) - 100
        world.replace(name, whole)


def test_a_pack_served_under_anothers_name_is_noticed(world: VaultWorld) -> None:
    point = world.capture(FILES).point
    first, second = world.names("packs/")
    for name, other in ((first, second), (second, first)):
        faulty = FaultyStore(world.stores["eu"])
        faulty.misdirect(name, other)
        with pytest.raises(Damaged):
            world.restored(point, replica=world.open(store=faulty))


def test_a_chunk_that_is_in_no_pack_is_missing_with_what_to_do(world: VaultWorld) -> None:
    with pytest.raises(Missing) as caught:
        world.open().read_chunk(b"?" * 32)
    assert (caught.value.region, caught.value.next) == ("eu", "refloat vault repair")


def test_a_lost_pack_is_missing_with_its_name(world: VaultWorld) -> None:
    captured = world.capture(FILES)
    name = pack_with(world, captured.stored.tree)
    eu = world.open()
    assert len(eu.index)
    world.stores["eu"].delete(name)
    with pytest.raises(Missing) as caught:
        world.restored(captured.point, replica=eu)
    assert caught.value.file == name
    assert world.restored(captured.point, "us") == FILES


def test_a_second_copy_of_a_chunk_is_used_where_the_first_is_broken(world: VaultWorld) -> None:
    """Another writer's session stored it again, because it could not know of the first."""
    first = world.capture(FILES, replicas=[world.open()])
    index = world.names("index/")[0]
    hidden = world.stores["eu"].get(index)
    world.stores["eu"].delete(index)
    world.capture(FILES, replicas=[world.open()])
    world.stores["eu"].create(index, hidden)
    place = world.open().index.lookup(bytes.fromhex(first.stored.tree))
    world.flip(layout.pack_name(place.pack.name), place.offset + 20)
    assert world.restored(first.point) == FILES


def test_a_writer_cannot_read_contents_and_a_reader_can(world: VaultWorld) -> None:
    point = world.capture(FILES).point
    reader = world.open(key_file=world.key_file.for_roles(Role.READER))
    assert world.restored(point, replica=reader) == FILES
    writer = world.open(key_file=world.key_file.for_roles(Role.WRITER))
    with pytest.raises(WrongKey):
        world.restored(point, replica=writer)


def test_objects_of_another_vault_are_not_mixed_in(world: VaultWorld) -> None:
    """Every object of a second vault, copied over the first one's, changes nothing that the first one says."""
    point = world.capture(FILES).point
    stranger = type(world)(key_file=KeyFile.create("vault-2", "demo")).create()
    stranger.capture({"note": b"poison"})
    for entry in list(stranger.stores["eu"].list("")):
        world.stores["eu"].create(entry.name, stranger.stores["eu"].get(entry.name))
    assert world.restored(point) == FILES
    assert world.committed() == [point]


# ------------------------------------------------------------------------------------------ the index


def test_a_lost_or_broken_index_is_made_up_for_from_the_packs(world: VaultWorld) -> None:
    point = world.capture(FILES).point
    (index,) = world.names("index/")
    for byte in (0, 20, 60, len(world.stores["eu"].get(index)) - 1):
        world.flip(index, byte)
        broken = world.open()
        assert world.restored(point, replica=broken) == FILES
        assert list(broken.index_damage) == [index]
        world.flip(index, byte)
    world.stores["eu"].delete(index)
    assert world.restored(point) == FILES


def test_what_others_add_while_a_replica_is_open_is_found(world: VaultWorld) -> None:
    eu = world.open()
    assert len(eu.index) == 0
    point = world.capture(FILES).point
    assert world.restored(point, replica=eu) == FILES


def test_many_lacking_chunks_cost_one_look_at_what_is_listed(world: VaultWorld) -> None:
    point = world.capture(FILES).point
    world.clock = WorldClock()
    traced = TracedStore(world.stores["eu"])
    eu = world.open(store=traced)

    def listed(look: Callable[[bytes], object]) -> list[str]:
        """What is listed while a hundred chunks are asked for that lack."""
        traced.calls.clear()
        for number in range(100):
            assert not look(number.to_bytes(32, "big"))
        return [call.name for call in traced.calls if call.op == "list"]

    assert len(eu.index)
    both = [layout.INDEX, layout.PACKS]
    assert listed(eu.locate) == both and listed(eu.locate) == []
    world.clock.sleep(LOOKED_FOR_S)
    assert listed(eu.locate) == both, "what was written since may be listed by now"
    for says_so in (eu.look_again, eu.refresh_index, lambda: eu.read_point(point)):
        says_so()
        assert listed(eu.locate) == both
    reader = Anywhere([eu])
    assert listed(lambda name: reader.any(lambda replica: bool(replica.locate(name)))) == both
    reader = Anywhere([world.open("us")])
    reader.reading_also([eu])
    assert listed(eu.locate) == both and listed(eu.locate) == []


def test_a_pack_that_nothing_lists_and_that_is_damaged_is_looked_at_once(world: VaultWorld) -> None:
    world.capture(FILES)
    (index,), packs = world.names("index/"), world.names("packs/")
    world.stores["eu"].delete(index)
    for pack in packs:
        world.flip(pack, world.stores["eu"].size(pack) - 1)
    traced = TracedStore(world.stores["eu"])
    eu = world.open(store=traced)
    for number in range(3):
        assert eu.locate(number.to_bytes(32, "big")) == []
        eu.look_again()
    read = [call.name for call in traced.calls if call.op == "get" and call.name in packs]
    traced.calls.clear()
    assert set(read) == set(packs) == set(eu.index_damage)
    eu.recover_index()  # asked for itself, it looks at each anew
    assert sorted(read) == sorted(call.name for call in traced.calls if call.name in packs)


def test_many_small_files_cost_few_requests(world: VaultWorld) -> None:
    files = {f"file-{n}": os.urandom(200) for n in range(300)}
    point = world.capture(files).point
    traced = TracedStore(world.stores["eu"])
    assert world.restored(point, replica=world.open(store=traced)) == files
    pack_reads = [call for call in traced.calls if call.name.startswith("packs/")]
    assert len(pack_reads) <= 4


def test_a_store_that_does_not_answer_is_not_called_damaged(world: VaultWorld) -> None:
    point = world.capture(FILES).point
    faulty = FaultyStore(world.stores["eu"])
    eu = world.open(store=faulty)
    faulty.down = True
    with pytest.raises(StoreError):
        world.restored(point, replica=eu)
    faulty.down = False
    assert world.restored(point, replica=eu) == FILES
    assert eu.index_damage == {}


def test_a_vault_in_a_folder_holds_what_one_in_memory_holds(world: VaultWorld, tmp_path: Any) -> None:
    on_disk = type(world)(
        stores={"eu": LocalStore(str(tmp_path / "eu")), "us": LocalStore(str(tmp_path / "us"))}
    )
    point = on_disk.create().capture(FILES).point
    assert on_disk.restored(point, "us") == FILES
    replica = on_disk.open("us")
    tree = replica.read_point(point)["components"]["files"]["tree"]  # type: ignore[index,call-overload]
    replica.source(tree, Facts()).fetch_all(tmp_path / "out")
    assert {path: (tmp_path / "out" / path).read_bytes() for path in FILES} == FILES


# ------------------------------------------------------------------------------------------ a second reader


def test_a_second_reader_written_from_the_documentation_reads_a_file(world: VaultWorld) -> None:
    """docs/format/objects.md, "How to read one file", steps 4 to 7, with nothing of refloat's own."""
    content = os.urandom(300) + b"text " * 5000
    captured = world.capture({"folder/file": content})
    keyring, get = world.open().keyring, world.stores["eu"].get
    secrets = {bytes(16): keyring.catalogue_key, keyring.content_key().id: keyring.content_key().secret}
    vault = world.key_file.vault.encode()

    def signed(name: str, kind: bytes) -> bytes:
        stored = get(name)
        assert blake3(stored).hexdigest() == name.rpartition("/")[2]
        assert stored[:16] == b"RFLT" + kind + b"\0\1" + bytes(6)
        key = blake3(b"refloat-1 seal:" + kind, key=keyring.catalogue_key).digest()
        inner = AESGCM(key).decrypt(stored[16:28], stored[28:], stored[:16] + vault)
        assert inner[:32].decode() == keyring.writer
        return inner[96:]

    (index,) = (signed(name, b"INDX") for name in world.names("index/"))
    places, at = {}, 4
    for _ in range(int.from_bytes(index[:4], "big")):
        pack, _size, key_id, count = struct.unpack_from(">32sQ16sI", index, at)
        for entry in struct.iter_unpack(">32sQIIB3x32s", index[at + 60 : at + 60 + 84 * count]):
            places[entry[0]] = (pack.hex(), secrets[key_id], entry)
        at += 60 + 84 * count

    def chunk(name: bytes) -> bytes:
        pack, secret, (_, offset, length, raw_length, codec, base) = places[name]
        record = get(f"packs/{pack[:2]}/{pack}", offset, length)
        bound = name + bytes([codec]) + base
        plain = AESGCM(blake3(bound, key=secret).digest()).decrypt(record[:12], record[12:], bound)
        raw = zstandard.decompress(plain) if codec == 1 else plain
        assert len(raw) == raw_length and blake3(raw, key=keyring.chunk_name_key).digest() == name
        return raw

    def entries(tree: str) -> dict[bytes, Any]:
        page = json.loads(chunk(bytes.fromhex(tree)))
        return {base64.b64decode(entry["name"]): entry for entry in page["entries"]}

    body = json.loads(signed(f"points/{captured.point}", b"PONT"))
    file = entries(entries(body["components"]["files"]["tree"])[b"folder"]["tree"])[b"file"]
    names = base64.b64decode(file["chunks"])
    assert b"".join(chunk(names[n : n + 32]) for n in range(0, len(names), 32)) == content
