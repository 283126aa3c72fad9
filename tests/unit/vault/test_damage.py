"""Bits that flipped, objects that were cut, exchanged, lost or taken from another time: found, and mended or refused.

Whoever reads gets exact bytes or a typed error. Where one object decides, it is opened alone: checking the whole
vault for each of thousands of bits would find the same and take minutes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from refloat.digest import canonical_json, object_name
from refloat.errors import Damaged, Missing, RefloatError, UsageError, VaultError, WrongKey
from refloat.vault import layout
from refloat.vault.check import check
from refloat.vault.chunk import open_chunk
from refloat.vault.described import mend_descriptor
from refloat.vault.index import open_index
from refloat.vault.keys import Role
from refloat.vault.pack import open_directory, open_records, record_secret, sealed_chunk
from refloat.vault.points import open_point
from refloat.vault.repair import repair
from refloat.vault.replica import create_vault
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.witness import rolled_back

VaultWorld = Any  # the fixture ``world`` of conftest.py

FILES = {"a.bin": bytes(range(256)) * 8, "b.txt": b"what b says\n" * 40}
NEWER = {"a.bin": bytes(range(255, -1, -1)) * 8, "c.txt": b"what c says\n" * 40}
KINDS = (layout.KEYS, layout.INDEX, layout.POINTS, layout.PACKS)


def no_base(name: bytes) -> bytes:
    raise AssertionError("nothing here rests on a base")


def flips(stored: bytes, bits: Iterator[int] | range) -> Iterator[bytes]:
    for bit in bits:
        broken = bytearray(stored)
        broken[bit // 8] ^= 1 << bit % 8
        yield bytes(broken)


def ranged(stored: bytes) -> Callable[[int, int], bytes]:
    return lambda start, length: stored[start : start + length]


@pytest.fixture
def full(world: VaultWorld) -> VaultWorld:
    """Two points, in two regions."""
    world.capture(FILES)
    world.capture(NEWER)
    return world


def contents(world: VaultWorld, region: str = "eu") -> list[dict[str, bytes]]:
    return [world.restored(point, region) for point in world.committed(region)]


def exact_or_typed(world: VaultWorld, region: str = "eu") -> None:
    """I2: reading everything gives what was written, or says what is wrong and what to do."""
    try:
        assert contents(world, region) == [FILES, NEWER]
    except RefloatError as error:
        assert error.next, error


# ------------------------------------------------------------------------------------------------ flipped bits


@pytest.mark.parametrize("prefix", [layout.INDEX, layout.POINTS])
def test_every_flipped_bit_of_a_sealed_object_is_damage_even_under_a_name_that_fits(
    full: VaultWorld, prefix: str
) -> None:
    # fault 2
    keyring = full.open().keyring
    open_any: Callable[..., object] = {
        layout.INDEX: lambda name, stored: open_index(keyring, name, stored, what="index"),
        layout.POINTS: lambda name, stored: open_point(keyring, name, stored),
    }[prefix]
    name = full.names(prefix)[0]
    stored = full.stores["eu"].get(name)
    for broken in flips(stored, range(len(stored) * 8)):
        for called in (name.removeprefix(prefix), object_name(broken)):
            with pytest.raises(VaultError):
                open_any(called, broken)


def test_no_flipped_bit_of_a_descriptor_is_accepted_and_each_is_mended(full: VaultWorld) -> None:  # fault 2
    store = full.stores["eu"]
    stored = store.get(layout.VAULT)
    for broken in flips(stored, range(len(stored) * 8)):
        full.replace(layout.VAULT, broken)
        with pytest.raises(Damaged) as caught:
            layout.read_descriptor(store)
        assert caught.value.next
        assert mend_descriptor("eu", store, full.key_file, ["us"])
    assert contents(full) == [FILES, NEWER]
    assert check(full.open(), read_data=True).ok


def test_a_descriptor_without_a_sum_is_read_and_gets_one_with_a_repair(full: VaultWorld) -> None:
    full.unsign()
    store, whole = full.stores["eu"], full.open().descriptor
    old = whole.model_copy(
        update={"replica": "0ld" * 10, "chunking": layout.Chunking(min=64, avg=256, max=1024)}
    )
    full.replace(layout.VAULT, canonical_json(old.model_dump(mode="json")))
    assert full.open().descriptor == old
    assert mend_descriptor("eu", store, full.key_file, ["us"])
    assert full.open().descriptor == old.summed() != old
    assert not mend_descriptor("eu", store, full.key_file, ["us"])


@pytest.mark.parametrize("stream", ["targets/us", "runs/3f2a", "evidence"])
def test_every_flipped_bit_of_a_slot_is_damage_that_names_it(full: VaultWorld, stream: str) -> None:
    # faults 2, 28
    store, name = full.stores["eu"], layout.slot_name(stream, 0)
    full.open().log(stream, Role.OPERATOR).append({"type": "x"})
    stored, replica = store.get(name), full.open()
    for broken in flips(stored, range(len(stored) * 8)):
        full.replace(name, broken)
        replica._logs.clear()
        with pytest.raises(VaultError) as caught:
            replica.log(stream, Role.OPERATOR).read(0)
        assert caught.value.file == name
        assert caught.value.next


def test_flipped_bits_of_packs_never_give_other_bytes(full: VaultWorld) -> None:
    # fault 2
    keyring, dice = full.open().keyring, random.Random(7)
    packs = [full.stores["eu"].get(name) for name in full.names(layout.PACKS)]
    noticed = 0
    for _ in range(2000):
        stored = dice.choice(packs)
        (broken,) = flips(stored, range(bit := dice.randrange(len(stored) * 8), bit + 1))
        assert object_name(broken) != object_name(stored)
        try:
            directory = open_directory(keyring, ranged(broken), len(broken), what="pack")
            open_records(keyring, broken, directory, what="pack", read=no_base)
        except VaultError:
            noticed += 1
    assert noticed == 2000


@pytest.mark.parametrize("seed", range(12))
def test_any_flipped_bit_is_found_with_what_it_affects_and_mended_from_the_other_region(
    full: VaultWorld, seed: int
) -> None:
    # fault 2
    dice = random.Random(seed)
    name = full.names(KINDS[seed % len(KINDS)])[0]
    whole = full.stores["eu"].get(name)
    (broken,) = flips(whole, range(bit := dice.randrange(len(whole) * 8), bit + 1))
    full.replace(name, broken)
    exact_or_typed(full)
    report = check(full.open(), read_data=True)
    assert name in [damage.object for damage in report.damaged]
    assert all(damage.region == "eu" for damage in report.damaged)
    done = repair(full.open(), [damage.object for damage in report.damaged], [full.open("us")])
    assert name in done.mended
    assert full.stores["eu"].get(name) == whole
    assert check(full.open(), read_data=True).ok
    assert contents(full) == [FILES, NEWER]


@pytest.mark.parametrize("stream", ["points", "targets/us", "runs/3f2a", "evidence", "baselines"])
def test_a_damaged_slot_of_any_log_is_found_without_reading_contents(full: VaultWorld, stream: str) -> None:
    # faults 2, 28
    role = Role.WRITER if stream == "points" else Role.OPERATOR
    if role is Role.OPERATOR:
        full.open().log(stream, role).append({"type": "x"})
    full.flip(layout.slot_name(stream, 0), 20)
    report = check(full.open(), read_data=False)
    assert [damage.object for damage in report.damaged] == [layout.slot_name(stream, 0)]


# ----------------------------------------------------------------------------------------------- cut and longer


def test_every_length_of_a_pack_but_its_own_is_damage(world: VaultWorld) -> None:
    # fault 6
    dice = random.Random(3)
    world.capture({f"{n}.bin": dice.randbytes(900) for n in range(4)})
    keyring = world.open().keyring
    packs = [world.stores["eu"].get(name) for name in world.names(layout.PACKS)]
    stored = max(packs, key=len)
    assert 3_500 < len(stored) < 5_000
    whole = stored + dice.randbytes(200)
    for length in (n for n in range(len(whole) + 1) if n != len(stored)):
        cut = whole[:length]
        with pytest.raises(VaultError):
            open_directory(keyring, ranged(cut), len(cut), what="pack")


@pytest.mark.parametrize("prefix", [*KINDS, layout.LOG])
def test_a_cut_or_longer_object_of_any_kind_is_found_and_never_read_as_whole(
    full: VaultWorld, prefix: str
) -> None:
    # fault 6
    dice = random.Random(5)
    name = full.names(prefix)[0]
    stored = full.stores["eu"].get(name)
    for turn in range(60):
        length = dice.randrange(len(stored))
        broken = stored[:length] if turn % 4 else stored + dice.randbytes(1 + length)
        full.replace(name, broken)
        if turn % 10 == 0:
            exact_or_typed(full)
            assert name in [damage.object for damage in check(full.open(), read_data=True).damaged]
        if prefix == layout.LOG:
            with pytest.raises(VaultError):
                full.open().log("points", Role.WRITER).read(0)
        else:
            assert object_name(broken) != name.rpartition("/")[2]


def test_an_object_that_never_ends_is_read_only_so_far(
    full: VaultWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    # fault 6
    class Endless(MemoryStore):
        asked = 0

        def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
            assert length is not None, f"{name} would be read to its end, and it has none"
            Endless.asked = max(Endless.asked, length)
            return super().get(name, start, length)

    store = Endless("endless")
    for entry in full.stores["eu"].list(""):
        store.create(entry.name, full.stores["eu"].get(entry.name))
    assert check(full.open(store=store), read_data=True).ok
    assert Endless.asked <= 64 * 1024 * 1024 + 1


# --------------------------------------------------------------------------------------- exchanged and lost


@pytest.mark.parametrize("prefix", [*KINDS, layout.LOG])
def test_bytes_of_one_object_under_the_name_of_another_are_found(full: VaultWorld, prefix: str) -> None:
    # fault 5
    one, other = full.names(prefix)[:2]
    full.replace(one, full.stores["eu"].get(other))
    exact_or_typed(full)
    assert one in [damage.object for damage in check(full.open(), read_data=True).damaged]


def test_a_record_is_bound_to_its_chunk_and_not_only_to_its_bytes(full: VaultWorld) -> None:
    # fault 5
    keyring = full.open().keyring
    stored = max((full.stores["eu"].get(name) for name in full.names(layout.PACKS)), key=len)
    directory = open_directory(keyring, ranged(stored), len(stored), what="pack")
    secret = record_secret(keyring, directory.key_id)
    one, other = (
        sealed_chunk(row, stored[int(row["offset"]) : int(row["offset"]) + int(row["stored"])])
        for row in directory.entries[:2]
    )
    assert open_chunk(other, name_key=keyring.chunk_name_key, secret=secret, what="pack", read=no_base)
    with pytest.raises(Damaged, match="does not match its seal"):
        open_chunk(
            replace(other, name=one.name),
            name_key=keyring.chunk_name_key,
            secret=secret,
            what="pack",
            read=no_base,
        )


@pytest.mark.parametrize("prefix", KINDS)
def test_a_lost_object_of_any_kind_is_named_or_made_up_for_and_brought_back(
    full: VaultWorld, prefix: str
) -> None:
    # fault 3
    names = full.names(prefix)
    for name in names:
        full.stores["eu"].delete(name)
        exact_or_typed(full)
        report = check(full.open(), read_data=True, others=[full.open("us")])
        assert not report.ok, name
        if prefix in (layout.PACKS, layout.POINTS):
            (damage,) = [damage for damage in report.damaged if damage.object == name]
            assert damage.affects
        repair(full.open(), [damage.object for damage in report.damaged], [full.open("us")])
        assert full.names(prefix) == names
        assert check(full.open(), read_data=True).ok


def test_a_lost_slot_in_the_middle_is_named(full: VaultWorld) -> None:
    # fault 3
    full.stores["eu"].delete(layout.slot_name("points", 0))
    assert [damage.object for damage in check(full.open(), read_data=True).damaged] == [
        layout.slot_name("points", 0)
    ]


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\0" * 300], ids=["lost", "empty", "other", "zeros"])
def test_a_descriptor_that_is_gone_or_damaged_is_written_anew_from_the_key(
    full: VaultWorld, content: bytes | None
) -> None:
    # faults 2, 3
    store = full.stores["eu"]
    store.delete(layout.VAULT)
    if content is not None:
        store.create(layout.VAULT, content)
    with pytest.raises(Missing if content is None else Damaged):
        full.open()
    assert mend_descriptor("eu", store, full.key_file, ["us"])
    assert not mend_descriptor("eu", store, full.key_file, ["us"])
    assert contents(full) == [FILES, NEWER]
    assert check(full.open(), read_data=True).ok


def test_a_descriptor_is_not_written_where_nothing_is_this_vaults(world: VaultWorld) -> None:
    other = world.key_file.create("vault-2", "demo")
    empty, foreign = MemoryStore("empty"), MemoryStore("foreign")
    create_vault({"eu": foreign}, other, world.clock, "demo")
    for store in (empty, foreign):
        assert not mend_descriptor("eu", store, world.key_file, ["us"])
    assert list(empty.list("")) == []
    assert layout.read_descriptor(foreign).vault == "vault-2"


def test_a_sound_descriptor_of_another_region_is_left_since_the_address_is_wrong(world: VaultWorld) -> None:
    assert not mend_descriptor("eu", world.stores["us"], world.key_file, ["eu", "us"])
    with pytest.raises(UsageError, match="replica of region 'us', not of 'eu'"):
        world.open("eu", store=world.stores["us"])


def test_what_is_whole_is_not_replaced_by_its_copy(full: VaultWorld) -> None:
    pack = full.names(layout.PACKS)[0]
    done = repair(full.open(), [pack], [full.open("us")])
    assert done.mended == {}
    assert "it is whole" in done.left[pack]


# --------------------------------------------------------------------------------------- another time, another place


def state(world: VaultWorld, region: str = "eu") -> dict[str, bytes]:
    store = world.stores[region]
    return {entry.name: store.get(entry.name) for entry in store.list("")}


def put_back(world: VaultWorld, kept: dict[str, bytes], region: str = "eu", prefix: str = "") -> None:
    """Let the store hold what it held before, below ``prefix``."""
    store = world.stores[region]
    for entry in list(store.list(prefix)):
        store.delete(entry.name)
    for name, content in kept.items():
        if name.startswith(prefix):
            store.create(name, content)


@pytest.mark.parametrize("prefix", [layout.INDEX, layout.POINTS, layout.PACKS, layout.KEYS])
def test_an_older_state_of_one_kind_with_a_newer_one_of_another_is_noticed_or_makes_no_difference(
    world: VaultWorld, prefix: str
) -> None:
    # fault 55
    world.capture(FILES)
    before = state(world)
    world.capture(NEWER)
    put_back(world, before, prefix=prefix)
    exact_or_typed(world)
    report = check(world.open(), read_data=True)
    assert report.ok is (prefix == layout.KEYS)


def test_an_older_log_with_newer_objects_offers_no_point_that_is_not_whole(world: VaultWorld) -> None:
    # faults 54, 55
    world.capture(FILES)
    before = state(world)
    world.capture(NEWER)
    world.capture(FILES)
    put_back(world, before, prefix=layout.LOG)
    assert contents(world) == [FILES]
    assert rolled_back(world.replicas()) == {"eu": (2, 1)}


def test_the_log_of_another_region_is_another_one(world: VaultWorld) -> None:
    # fault 55
    for files in (FILES, NEWER, FILES):
        world.capture(files)
    put_back(world, state(world, "us"), prefix=layout.LOG)
    assert "eu" in rolled_back(world.replicas())


def test_two_valid_states_of_one_log_do_not_mix(world: VaultWorld) -> None:
    # faults 28, 55
    world.capture(FILES)
    base = state(world)
    world.capture(NEWER)
    one = state(world)
    put_back(world, base)
    world.capture({"d.bin": b"another second point"})
    world.capture(FILES)
    second = layout.slot_name("points", 1)
    world.replace(second, one[second])
    with pytest.raises(Damaged, match="does not follow"):
        world.open().points()


@pytest.mark.parametrize("taken", ["another stream", "another number", "another vault"])
def test_a_slot_from_elsewhere_is_damage_that_says_from_where(full: VaultWorld, taken: str) -> None:
    # fault 55
    first, second = (layout.slot_name("points", slot) for slot in (0, 1))
    if taken == "another stream":
        full.open().log("evidence", Role.OPERATOR).append({"n": 1})
        full.replace(first, full.stores["eu"].get(layout.slot_name("evidence", 0)))
    elif taken == "another number":
        full.replace(second, full.stores["eu"].get(first))
    else:
        twin = full.key_file.model_copy(update={"vault": "vault-2"})
        other = create_vault({"eu": MemoryStore("twin")}, twin, full.clock, "demo")["eu"]
        other.log("points", Role.WRITER).append({"point": "aa" * 32})
        full.replace(first, other.store.get(first))
    said = {
        "another stream": "slot 0 of 'evidence'",
        "another number": "slot 0 of 'points'",
        "another vault": "signature",
    }[taken]
    with pytest.raises(Damaged, match=said):
        full.open().points()


def test_objects_of_two_valid_vaults_in_one_place_are_those_of_the_one_whose_key_it_is(
    full: VaultWorld,
) -> None:
    # fault 55
    other = full.key_file.create("vault-2", "demo")
    stores = {"eu": MemoryStore("other")}
    create_vault(stores, other, full.clock, "demo")
    for entry in stores["eu"].list(""):
        if entry.name != layout.VAULT:
            full.stores["eu"].create(entry.name, stores["eu"].get(entry.name))
    assert contents(full) == [FILES, NEWER]
    with pytest.raises(WrongKey):
        full.open(key_file=other)
