"""A pack goes although its index object lists others that are needed: another one is written without it, and counts."""

from __future__ import annotations

import io
import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from refloat.contracts import Store
from refloat.digest import object_name
from refloat.errors import Retry, StoreError
from refloat.limits import OBJECT_BYTES_MAX, PRUNE_GRACE_S
from refloat.vault import holders, layout
from refloat.vault.check import check
from refloat.vault.forgotten import write_forgotten
from refloat.vault.index import LEFT_OUT_BYTES, REDUCED_BYTES_MORE, index_content, open_index
from refloat.vault.keys import KeyFile, Keyring, Role
from refloat.vault.listed import Listed, Word
from refloat.vault.marks import marks
from refloat.vault.pack import Directory
from refloat.vault.prune import PrunePlan, plan_prune, prune
from refloat.vault.repair import repair
from refloat.vault.replicate import catch_up, copy_objects
from refloat.vault.seal import Kind, seal_signed
from refloat.vault.stores.faulty import Crash, FaultyStore, When
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.vault import Vault
from refloat.vault.writer import Writer

VaultWorld = Any  # the fixture ``world`` of conftest.py
Captured = Any
REGIONS = ("eu", "us")
DAY = timedelta(seconds=PRUNE_GRACE_S)
START = datetime(2026, 11, 2, tzinfo=UTC)
PACK = 64 * 1024
FIRST = {
    "a-note": b"the same in each point\n",
    **{f"part-{n}": random.Random(n).randbytes(40_000) for n in "abcd"},
}
SECOND = {"a-note": FIRST["a-note"], "part-e": random.Random("e").randbytes(40_000)}
PRUNED = (layout.PACKS, layout.INDEX, layout.POINTS)


def objects(world: VaultWorld, region: str = "eu") -> dict[str, int]:
    return {info.name: info.size for info in world.stores[region].list("") if info.name.startswith(PRUNED)}


def below(prefix: str, names: Mapping[str, int]) -> set[str]:
    return {name for name in names if name.startswith(prefix)}


def opened(world: VaultWorld, stores: Mapping[str, Store] | None = None) -> Vault:
    stores = {**world.stores, **(stores or {})}
    return Vault({region: world.open(region, store=store) for region, store in stores.items()}, {})


def pruned(world: VaultWorld, now: datetime, vault: Vault | None = None) -> dict[str, PrunePlan]:
    vault = vault or opened(world)
    plans = plan_prune(vault, now)
    for plan in plans:
        prune(vault.replicas[plan.region], plan)
    return {plan.region: plan for plan in plans}


def forget(world: VaultWorld, point: str) -> None:
    for replica in world.replicas():
        write_forgotten(replica, 0, {point: "beyond last 1"}, seen=1)


def body_of(trees: Mapping[str, str], manifest: str) -> dict[str, Any]:
    return {
        "manifest": manifest,
        "components": {name: {"tree": tree} for name, tree in trees.items()},
        "groups": {"serving": {"grade": "exact"}},
        "pipeline": "demo",
        "created_at": "2026-11-02T12:00:00Z",
    }


def sound(world: VaultWorld, second: str) -> None:
    for region in REGIONS:
        report = check(world.open(region), read_data=True)
        assert report.ok, report.damaged
        assert world.restored(second, region) == SECOND


@pytest.fixture
def shared(world: VaultWorld) -> tuple[VaultWorld, Captured]:
    """A first point that is forgotten, and a second one that shares a small file with it, and its pack."""
    first = world.capture(FIRST, pack_bytes_max=PACK)
    second = world.capture(SECOND, pack_bytes_max=PACK)
    assert len(world.names(layout.INDEX)) == 2, "each capture writes one index object"
    forget(world, first.point)
    return world, second


def test_a_small_file_that_a_later_point_shares_does_not_keep_all_of_the_first(
    shared: tuple[VaultWorld, Captured],
) -> None:
    world, second = shared
    before = objects(world)
    plan = pruned(world, START)["eu"]
    (old,) = plan.replace
    assert old in plan.mark and plan.replace[old] < plan.mark.keys() and not plan.remove
    sound(world, second.point)
    during = objects(world)
    (new,) = during.keys() - before.keys()
    assert during.keys() == {*before, new} and new in objects(world, "us"), "and has one name in every region"

    gone = pruned(world, START + DAY)["eu"].remove
    after = objects(world)
    assert before.keys() - after.keys() == set(gone) == set(plan.mark) and old in gone
    needed = check(world.open(), read_data=False).needed
    assert below(layout.PACKS, after) == below(layout.PACKS, dict.fromkeys(needed, 0)), "nothing leaks"
    assert sum(before.values()) - sum(after.values()) > 3 * 40_000
    sound(world, second.point)
    for later in (1, 2):
        plans = pruned(world, START + later * 2 * DAY)
        assert not any(plan.remove or plan.mark or plan.wait or plan.replace for plan in plans.values())
    assert marks(world.open())[1] == {}


def test_neither_a_repair_nor_a_copy_brings_back_what_is_gone(shared: tuple[VaultWorld, Captured]) -> None:
    world, second = shared
    pruned(world, START)
    pruned(world, START + DAY)
    after = {region: objects(world, region) for region in REGIONS}
    for one, other in (("eu", "us"), ("us", "eu")):
        assert repair(world.open(one), [], [world.open(other)]).mended == {}
        assert catch_up(world.open(other), world.open(one)).objects == 0
        assert copy_objects(world.open(other), world.open(one)).objects == 0
    for name in after["us"]:  # a region that has lost all of it is made up for, as at a new place
        world.stores["us"].delete(name)
    assert not copy_objects(world.open("eu"), world.open("us")).waiting
    assert {region: objects(world, region) for region in REGIONS} == after
    sound(world, second.point)


def test_what_comes_back_from_a_region_that_was_not_pruned_goes_again(
    shared: tuple[VaultWorld, Captured],
) -> None:  # faults 16, 36
    world, second = shared
    before = {name: world.stores["us"].get(name) for name in objects(world, "us")}
    pruned(world, START)
    pruned(world, START + DAY)
    after = objects(world)
    for name, content in before.items():
        world.stores["eu"].create(name, content)
    sound(world, second.point)
    assert not pruned(world, START + 2 * DAY)["eu"].remove, "not before it was marked anew"
    pruned(world, START + 3 * DAY)
    assert objects(world) == after
    sound(world, second.point)


def copied(stores: Mapping[str, Store]) -> dict[str, Store]:
    copies: dict[str, Store] = {}
    for region, store in stores.items():
        copies[region] = MemoryStore(region)
        for info in store.list(""):
            copies[region].create(info.name, store.get(info.name))
    return copies


@pytest.mark.parametrize("days", [0, 1])
def test_a_prune_killed_at_any_write_is_finished_by_the_next(
    shared: tuple[VaultWorld, Captured], days: int
) -> None:  # fault 18
    world, second = shared
    now = START
    for _ in range(days):
        pruned(world, now)
        now += DAY
    kept = copied(world.stores)
    learned = FaultyStore(world.stores["eu"])
    pruned(world, now, opened(world, {"eu": learned}))
    pruned(world, now + DAY)
    whole = objects(world)
    writes = [operation for operation in learned.trace if operation.writes]
    assert {one.op for one in writes} == ({"create"} if days == 0 else {"create", "delete"})
    for operation in writes:
        for when in (When.BEFORE, When.AFTER):
            world.stores = copied(kept)
            store = FaultyStore(world.stores["eu"], crash_at=operation.number, when=when)
            with pytest.raises(Crash):
                pruned(world, now, opened(world, {"eu": store}))
            sound(world, second.point)
            pruned(world, now)
            sound(world, second.point)
            pruned(world, now + DAY)
            assert objects(world) == whole, f"{when} {operation}"


def test_a_writer_that_begins_after_the_mark_relies_on_nothing_that_goes(
    shared: tuple[VaultWorld, Captured],
) -> None:  # fault 16
    world, second = shared
    pruned(world, START)
    again = world.capture(FIRST, pack_bytes_max=PACK)
    assert again.stored.stored_bytes > 3 * 40_000, "all but what lies in the pack that stays is stored anew"
    pruned(world, START + DAY)
    sound(world, second.point)
    assert world.restored(again.point) == FIRST == world.restored(again.point, "us")


def test_what_a_writer_relied_on_that_began_before_the_mark_stays_and_is_listed(
    shared: tuple[VaultWorld, Captured],
) -> None:  # fault 16
    world, second = shared
    with Writer(world.replicas(), pack_bytes_max=PACK) as early:
        plan = pruned(world, START)["eu"]
        sink, manifest = early.sink(), early.sink()
        manifest.file("refloat.yaml", io.BytesIO(b"version: 1\n"))
        sink.file("part-c", io.BytesIO(FIRST["part-c"]))
        files, about = sink.finish(), manifest.finish()
        point, _ = early.commit(body_of({"files": files.tree}, about.tree))
    assert files.stored_bytes < 40_000, "it found what was to go"
    for days in (1, 2):
        last = pruned(world, START + days * DAY)["eu"]
        sound(world, second.point)
        assert world.restored(point) == {"part-c": FIRST["part-c"]}
    relied = set(plan.mark) & check(world.open(), read_data=False).needed
    assert relied and not relied & last.wait.keys(), "and is no longer marked"


def test_nothing_is_replaced_while_a_region_is_away(shared: tuple[VaultWorld, Captured]) -> None:  # fault 36
    world, _ = shared
    before = objects(world)
    away = StoreError("the connection was refused", retry=Retry.LATER, next="see whether it is up")
    with pytest.raises(StoreError, match="nothing is pruned"):
        pruned(world, START, Vault({"eu": world.open()}, {"us": away}))
    assert objects(world) == before


@pytest.mark.parametrize("marks_max", [2, 3, 5])
def test_what_is_more_than_the_marks_of_one_entry_goes_in_turns(
    shared: tuple[VaultWorld, Captured], monkeypatch: pytest.MonkeyPatch, marks_max: int
) -> None:
    world, second = shared
    kept = copied(world.stores)
    for _ in range(2):
        pruned(world, START)
        pruned(world, START + DAY)
    whole = objects(world)
    world.stores = kept
    monkeypatch.setattr("refloat.vault.prune.MARKS_MAX", marks_max)
    for days in range(12):
        pruned(world, START + days * DAY)
        assert len(marks(world.open())[1]) <= marks_max
        sound(world, second.point)
    assert objects(world) == whole


def test_what_counts_in_the_place_of_an_index_object_says_the_same_of_all_other_packs(
    shared: tuple[VaultWorld, Captured],
) -> None:
    world, _ = shared
    before = objects(world)
    ((old, left_out),) = pruned(world, START)["eu"].replace.items()
    (new,) = objects(world).keys() - before.keys()
    keyring, store = world.open().keyring, world.stores["eu"]
    stored = store.get(new)
    assert stored.startswith(Kind.REDUCED_INDEX.header)
    said, says = (open_index(keyring, object_name(store.get(n)), store.get(n), what=n) for n in (old, new))
    assert [record for record, _ in says] == [
        record for record, _ in said if layout.pack_name(record.name) not in left_out
    ]
    assert {record.writer for record, _ in says} == {keyring.writer}, "it is still the writer's word"


def test_an_index_object_whose_replacement_was_lost_stays_until_there_is_another(
    shared: tuple[VaultWorld, Captured],
) -> None:  # fault 20
    world, second = shared
    before = objects(world)
    pruned(world, START)
    (new,) = objects(world).keys() - before.keys()
    world.stores["eu"].delete(new)
    plan = pruned(world, START + DAY)["eu"]
    (old,) = plan.replace
    assert old in plan.wait and plan.replace[old] <= plan.wait.keys() and new in objects(world)
    sound(world, second.point)
    assert set(pruned(world, START + DAY)["eu"].remove) == {old, *plan.replace[old]}
    sound(world, second.point)


def another_writer(world: VaultWorld) -> KeyFile:
    made: KeyFile = world.key_file.for_another(Role.WRITER)
    vault = Vault({replica.region: replica for replica in world.replicas()}, {})
    assert not holders.add(vault, world.key_file, made, "trainer", START).lagging
    return made


def test_what_the_admin_replaces_stays_the_word_of_its_writer(world: VaultWorld) -> None:  # fault 57
    trainer = another_writer(world)

    def captured(files: Mapping[str, bytes]) -> Any:
        replicas = [world.open(region, key_file=trainer) for region in REGIONS]
        return world.capture(files, replicas=replicas, pack_bytes_max=PACK)

    first = captured(FIRST)
    second = captured(SECOND)
    forget(world, first.point)
    pruned(world, START)
    gone = pruned(world, START + DAY)["eu"].remove
    assert below(layout.PACKS, gone) and below(layout.INDEX, gone)
    assert {pack.writer for pack in world.open().index.packs} == {Keyring(trainer).writer}
    sound(world, second.point)
    again = world.capture(SECOND)  # a writer relies on nobody's word but its own
    assert again.stored.new_bytes > again.stored.bytes, "with its folders"
    assert captured(SECOND).stored.new_bytes == 0


def test_a_liar_takes_the_place_of_no_index_object(shared: tuple[VaultWorld, Captured]) -> None:  # fault 57
    world, second = shared
    pruned(world, START)
    pruned(world, START + DAY)
    keyring = world.open(key_file=another_writer(world)).keyring
    true = below(layout.INDEX, objects(world))
    for name in true:
        stored = world.stores["eu"].get(name)
        said = open_index(keyring, name.removeprefix(layout.INDEX), stored, what=name)
        lies = []
        for record, directory in said:
            rows = directory.entries.copy()
            rows["offset"] = 32
            lies.append((replace(record, writer=keyring.writer), Directory(record.key_id, rows)))
        for _ in range(4):  # whichever comes first
            lie = seal_signed(keyring, Kind.INDEX, index_content(lies))
            for region in REGIONS:
                world.stores[region].create(layout.index_name(object_name(lie)), lie)
    for days in (2, 3, 4):
        pruned(world, START + days * DAY)
    assert true <= below(layout.INDEX, objects(world))
    sound(world, second.point)


# ------------------------------------------------------------------------------------------------- what is decided

A, B, C = ("packs/aa/a", b"by one"), ("packs/bb/b", b"by one"), ("packs/cc/c", b"by one")
ALSO_A = (A[0], b"by another")


def listed(**said: set[Word]) -> Listed:
    return Listed({name: frozenset(words) for name, words in said.items()}, dict.fromkeys(said, 1000))


def packs(*words: Word) -> set[str]:
    return {pack for pack, _ in words}


def test_an_index_object_stays_while_what_it_says_is_said_by_no_other() -> None:
    index = listed(old={A, B, C}, new={A, B})
    aged = {"old", *packs(C)}
    assert index.going(aged, aged) == aged
    assert listed(old={A, B, C}).going(aged, aged) == set(), "nor does the pack go that it lists"
    assert listed(old={A, B, C}, new={ALSO_A, B}).going(aged, aged) == set(), (
        "one writer's word is no other's"
    )


def test_an_index_object_stays_while_a_pack_that_it_alone_lists_was_marked_just_now() -> None:  # fault 16
    index = listed(old={A, B, C}, new={A})
    assert index.going({"old", *packs(B)}, {"old", *packs(B)}) == set()
    assert index.going({"old", *packs(B, C)}, {"old", *packs(B, C)}) == {"old", *packs(B, C)}


def test_what_an_index_object_lists_that_is_locked_waits_for_it() -> None:  # fault 22
    index = listed(old={A, C}, new={A})
    assert index.going(packs(C), {"old", *packs(C)}) == set()


def test_an_index_object_does_not_wait_for_a_pack_that_is_locked() -> None:
    index = listed(old={A, C}, new={A})
    assert index.going({"old"}, {"old", *packs(C)}) == {"old"}


def test_of_two_index_objects_that_say_the_same_one_stays() -> None:
    index = listed(one={A, B}, two={A, B})
    assert index.dispensable(packs(A, B), last={"one"}) == {"one"}
    assert index.dispensable(packs(A, B), last={}) == {"two"}
    assert index.going({"one", "two"}, {"one", "two"}) == {"two"}
    assert listed(one={A}, none=set()).dispensable(packs(A), last={}) == {"none"}


def test_an_index_object_is_replaced_unless_another_that_stays_says_what_it_says() -> None:
    assert listed(old={A, C}, new={A}).replaced({"old", *packs(C)}) == {}
    assert listed(old={A, C}, older={A, B, C}).replaced({"old", "older", *packs(B, C)}) == {"old": packs(C)}
    assert listed(old={A, C}).replaced({"old"}) == {}, "there is nothing to leave out yet"


def test_an_index_object_that_is_too_large_to_be_replaced_keeps_what_it_lists() -> None:
    most = OBJECT_BYTES_MAX - REDUCED_BYTES_MORE - 2 * LEFT_OUT_BYTES
    assert Listed({"large": frozenset({A, C})}, {"large": most}).pinned(packs(A)) == set()
    index = Listed({"large": frozenset({A, C})}, {"large": most + 1})
    assert index.pinned(packs(A)) == packs(A, C)
    assert index.pinned(packs(B)) == set()
    assert listed(small={A, C}).pinned(packs(A)) == set()
