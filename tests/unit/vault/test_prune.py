"""What no point needs goes, a day after it was marked; what a point needs never does."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from refloat.contracts import Put
from refloat.digest import object_name
from refloat.errors import Damaged, RefloatError, Refused, Retry, StoreError, WrongKey
from refloat.limits import PRUNE_GRACE_S
from refloat.testing.world import World
from refloat.vault import layout, marks
from refloat.vault.check import check
from refloat.vault.index import seal_index
from refloat.vault.pack import directory_of, seal_pack, sealed_chunk
from refloat.vault.prune import PrunePlan, plan_prune, prune
from refloat.vault.slotlog import SlotTaken
from refloat.vault.stores.faulty import Crash, FaultyStore, When
from refloat.vault.stores.local import LocalStore
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.vault import Vault

REGIONS = ("eu", "us")
PRUNED = (layout.PACKS, layout.INDEX, layout.POINTS)


def names(world: World, region: str = "eu") -> set[str]:
    return {info.name for info in world.stores[region].list("") if info.name.startswith(PRUNED)}


def needed(world: World, region: str = "eu") -> set[str]:
    """What the points of a region need, and the index objects that list it."""
    report = check(world.vault().replicas[region], read_data=True)
    assert report.ok, report.damaged
    return set(report.needed) | {name for name in names(world, region) if name.startswith(layout.INDEX)}


def pruned(world: World, vault: Vault | None = None) -> dict[str, PrunePlan]:
    vault = vault or world.vault()
    plans = plan_prune(vault, world.clock.now())
    for plan in plans:
        prune(vault.replicas[plan.region], plan)
    return {plan.region: plan for plan in plans}


def a_day_later(world: World) -> None:
    world.clock.sleep(PRUNE_GRACE_S)


def littered(root: Path) -> World:
    """A world with a point, and with all but the commit of another one, which a crash cut off in both regions."""
    world = World.small(root, group="")
    world.protect()
    world.release(2)
    stores = {region: CutAtCommit(world.stores[region]) for region in REGIONS}
    with pytest.raises(Crash):
        world.protect(world.vault(stores))
    return world


class CutAtCommit(FaultyStore):
    """The process dies when a log of points would be written to."""

    def create(self, name: str, content: bytes | memoryview) -> Put:
        if name.startswith(layout.stream_prefix("points")):
            raise Crash
        return super().create(name, content)


def test_what_the_points_need_stays_whatever_time_goes_by(tmp_path: Path) -> None:
    world = World.small(tmp_path, group="")
    for version in (1, 2, 3):
        world.release(version)
        world.protect()
    before = {region: names(world, region) for region in REGIONS}
    for _ in range(3):
        plans = pruned(world)
        assert all(not (plan.remove or plan.mark or plan.wait) for plan in plans.values())
        a_day_later(world)
    assert {region: names(world, region) for region in REGIONS} == before
    assert marks.prune_log(world.vault().replicas["eu"]).head() is None, "nothing is said where nothing is"


def test_what_a_crash_left_is_marked_first_and_gone_a_day_later(tmp_path: Path) -> None:  # faults 1, 18
    world = littered(tmp_path)
    litter = names(world) - needed(world)
    first = pruned(world)["eu"]
    assert set(first.mark) >= litter and first.remove == {}
    assert litter <= names(world)
    world.clock.sleep(PRUNE_GRACE_S - 60)
    waiting = pruned(world)["eu"]
    assert set(waiting.wait) == set(first.mark) and waiting.remove == waiting.mark == {}
    world.clock.sleep(60)
    last = pruned(world)["eu"]
    assert list(last.remove) == list(first.mark)
    assert names(world) == needed(world), "nothing leaks"
    assert {name.partition("/")[0] for name in last.remove} == {"points", "index", "packs"}
    assert marks.marks(world.vault().replicas["eu"])[1] == {}
    world.protect()
    needed(world)


def test_a_mark_is_a_day_old_to_the_second(tmp_path: Path) -> None:
    world = littered(tmp_path)
    vault = world.vault()
    (plan, *_) = plan_prune(vault, world.clock.now())
    swept = prune(vault.replicas["eu"], plan)
    assert swept == 0, "in memory no write is left half done"
    (since,) = set(marks.marks(world.vault().replicas["eu"])[1].values())
    a_day = timedelta(seconds=PRUNE_GRACE_S)
    (early, *_) = plan_prune(world.vault(), since + a_day - timedelta(seconds=1))
    assert early.remove == {} and set(early.wait.values()) == {since + a_day}
    (due, *_) = plan_prune(world.vault(), since + a_day)
    assert set(due.remove) == set(plan.mark) and due.wait == {}


def test_what_is_more_than_the_marks_of_one_entry_goes_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = littered(tmp_path)
    litter = names(world) - needed(world)
    monkeypatch.setattr("refloat.vault.prune.MARKS_MAX", 2)
    first = pruned(world)["eu"]
    assert len(first.mark) == 2 < len(litter)
    second = pruned(world)["eu"]
    assert set(second.wait) == set(first.mark) and second.mark == {}
    for _ in range(len(litter)):
        a_day_later(world)
        pruned(world)
    assert not litter & names(world)


def test_what_names_goes_before_what_it_names(tmp_path: Path) -> None:
    world = littered(tmp_path)
    plan = pruned(world)["eu"]
    kinds = [name.partition("/")[0] for name in plan.mark]
    assert kinds == sorted(kinds, key=["points", "index", "packs"].index)


def one_of(world: World, prefix: str) -> str:
    """An object that a point needs; what signs a region's descriptor is none."""
    store = world.stores["eu"]
    names = (info.name for info in store.list(prefix))
    return min(name for name in names if b'"type":"descriptor"' not in store.get(name))


def lose(world: World, prefix: str) -> str:
    name = one_of(world, prefix)
    world.stores["eu"].delete(name)
    return name


def rot(world: World, prefix: str) -> str:
    name = one_of(world, prefix)
    FaultyStore(world.stores["eu"]).flip_bit(name)
    return name


@pytest.mark.parametrize(
    ("harm", "prefix"),
    [
        *((lose, prefix) for prefix in ("index/", "packs/", "points/", "log/points/", "keys/")),
        *((rot, prefix) for prefix in ("index/", "points/", "log/points/", "keys/")),
    ],  # what rots in a pack is found by reading every byte; what is needed is known all the same
)
def test_nothing_goes_while_what_the_points_need_is_not_known_whole(
    tmp_path: Path, harm: Callable[[World, str], str], prefix: str
) -> None:  # fault 20
    world = World.small(tmp_path, group="")
    world.protect()
    harm(world, prefix)
    before = {region: names(world, region) for region in REGIONS}
    for _ in range(2):
        with pytest.raises(RefloatError) as raised:
            pruned(world)
        assert raised.value.exit_code in (3, 4) and raised.value.next
        assert {region: names(world, region) for region in REGIONS} == before
        a_day_later(world)


def test_a_needed_pack_that_no_index_object_lists_stops_every_prune_until_it_is_repaired(
    tmp_path: Path,
) -> None:  # fault 20
    world = littered(tmp_path)
    pruned(world)
    lost = next(iter(set(check(world.vault().replicas["us"], read_data=False).needed)))
    assert lost
    for info in list(world.stores["us"].list(layout.INDEX)):
        world.stores["us"].delete(info.name)
    a_day_later(world)
    before = {region: names(world, region) for region in REGIONS}
    with pytest.raises(Damaged, match="no index object lists it") as raised:
        pruned(world)
    assert raised.value.region == "us" and "repair" in (raised.value.next or "")
    assert {region: names(world, region) for region in REGIONS} == before


def test_nothing_goes_while_a_region_does_not_answer(tmp_path: Path) -> None:
    world = littered(tmp_path)
    pruned(world)
    a_day_later(world)
    before = names(world)
    gone = StoreError("the connection was refused", retry=Retry.LATER, next="see whether it is up")
    half = Vault({"eu": world.vault().replicas["eu"]}, {"us": gone})
    with pytest.raises(StoreError, match="nothing is pruned, since what us needs cannot be told") as raised:
        pruned(world, half)
    assert raised.value.region == "us"
    assert names(world) == before


def test_nothing_goes_after_a_log_was_rolled_back(tmp_path: Path) -> None:  # fault 54
    world = World.small(tmp_path, group="")
    for version in (2, 3, 4):
        world.protect()
        world.release(version)
    for slot in (1, 2):
        world.stores["eu"].delete(layout.slot_name("points", slot))
    before = names(world)
    with pytest.raises(Refused) as raised:
        pruned(world)
    assert raised.value.rule == "log_rolled_back"
    assert names(world) == before


def test_only_an_admin_prunes(tmp_path: Path) -> None:
    world = littered(tmp_path)
    world.key_file = world.key_file.model_copy(update={"admin": None})
    with pytest.raises(WrongKey):  # before anything goes, and not when that is to be said
        plan_prune(world.vault(), world.clock.now())


def test_a_writer_does_not_rely_on_what_is_marked(tmp_path: Path) -> None:  # fault 16
    world = littered(tmp_path)
    marked = pruned(world)["eu"].mark
    made = world.protect()  # of the same contents as the one that was cut off
    assert made.ok
    a_day_later(world)
    pruned(world)
    assert not names(world) & set(marked)
    needed(world)
    assert world.protect().ok


def test_of_two_packs_that_hold_the_same_the_one_stays_that_can_be_read(tmp_path: Path) -> None:  # fault 57
    world = World.small(tmp_path, group="")
    world.protect()
    keyring = world.vault().replicas["eu"].keyring
    true = needed(world)
    for name in sorted(name for name in true if name.startswith(layout.PACKS)):
        stored = world.stores["eu"].get(name)
        directory = directory_of(keyring, stored, what=name)
        chunks = [
            sealed_chunk(row, stored[int(row["offset"]) :][: int(row["stored"])]) for row in directory.entries
        ]
        turned = [
            replace(chunk, name=other.name)
            for chunk, other in zip(chunks, chunks[1:] + chunks[:1], strict=True)
        ]
        while (liar := seal_pack(keyring, directory.key_id, turned)).record.name > name.rpartition("/")[2]:
            continue  # until it would be the first choice by name
        index = seal_index(keyring, [(liar.record, liar.directory)])
        for region in REGIONS:
            world.stores[region].create(layout.pack_name(liar.record.name), liar.stored)
            world.stores[region].create(layout.index_name(object_name(index)), index)
    for _ in range(2):
        pruned(world)
        a_day_later(world)
    assert true <= names(world)
    assert check(world.vault().replicas["eu"], read_data=False).ok


def test_what_a_writer_that_began_before_the_mark_relied_on_is_spared(tmp_path: Path) -> None:  # fault 16
    world = littered(tmp_path)
    vault = world.vault()
    plans = plan_prune(vault, world.clock.now())
    made = world.protect(world.vault())  # relies on what lies there
    for plan in plans:
        prune(vault.replicas[plan.region], plan)
    relied = set(check(world.vault().replicas["eu"], read_data=True).needed) & set(plans[0].mark)
    assert relied, "the writer found what the one before it had left"
    a_day_later(world)
    spared = pruned(world)["eu"]
    assert not relied & set(spared.remove)
    assert not relied & set(marks.marks(world.vault().replicas["eu"])[1]), "and is no longer marked"
    assert made.ok
    needed(world)


def test_of_two_prunes_at_once_one_marks(tmp_path: Path) -> None:  # fault 17
    world = littered(tmp_path)
    one, other = world.vault(), world.vault()
    (first, *_), (second, *_) = (plan_prune(vault, world.clock.now()) for vault in (one, other))
    prune(one.replicas["eu"], first)
    with pytest.raises(SlotTaken):
        prune(other.replicas["eu"], second)


def test_a_prune_killed_at_any_store_operation_is_finished_by_the_next(tmp_path: Path) -> None:  # fault 18
    world = littered(tmp_path / "learn")
    pruned(world)
    a_day_later(world)
    kept = dict(world.stores)
    content = {
        region: {i.name: kept[region].get(i.name) for i in kept[region].list("")} for region in REGIONS
    }
    learned = FaultyStore(kept["eu"])
    pruned(world, world.vault({"eu": learned}))
    whole = names(world)
    tried = 0
    for operation in learned.trace:
        for when in (When.BEFORE, When.AFTER) if operation.writes else (When.BEFORE,):
            for region in REGIONS:
                world.stores[region] = MemoryStore()
                for name, stored in content[region].items():
                    world.stores[region].create(name, stored)
            store = FaultyStore(world.stores["eu"], crash_at=operation.number, when=when)
            with pytest.raises(Crash):
                pruned(world, world.vault({"eu": store}))
            assert check(world.vault().replicas["eu"], read_data=True).ok, f"{when} {operation}"
            pruned(world)
            assert names(world) == whole, f"{when} {operation}"
            tried += 1
    assert tried > 10


def test_a_mark_of_the_future_waits(tmp_path: Path) -> None:
    world = littered(tmp_path)
    world.clock.jump(10 * 365 * 86400.0)
    pruned(world)
    world.clock.jump(-10 * 365 * 86400.0)
    a_day_later(world)
    assert pruned(world)["eu"].remove == {}


def test_what_is_no_object_of_this_format_is_left_alone(tmp_path: Path) -> None:
    world = littered(tmp_path)
    strange = {"packs/readme", "packs/aa/" + "b" * 64, "points/notes.txt"}
    for name in strange:
        world.stores["eu"].create(name, b"not ours")
    pruned(world)
    a_day_later(world)
    pruned(world)
    assert strange <= names(world)


def test_a_full_disk_is_pruned_of_what_was_marked_before(tmp_path: Path) -> None:  # fault 13
    class Full(MemoryStore):
        """A store that takes nothing any more."""

        def create(self, name: str, content: bytes | memoryview) -> object:
            raise StoreError("no space left on device", file=name, retry=Retry.LATER, next="free space there")

    world = littered(tmp_path)
    marked = pruned(world)["eu"].mark
    a_day_later(world)
    full = Full()
    full.__dict__.update(world.stores["eu"].__dict__)
    with pytest.raises(StoreError, match="no space left"):  # to say that it is done
        pruned(world, world.vault({"eu": full}))
    assert not names(world) & set(marked)
    needed(world)
    pruned(world)  # there is room again
    assert marks.marks(world.vault().replicas["eu"])[1] == {}


def test_a_prune_sweeps_unfinished_writes_that_are_older_than_the_grace(tmp_path: Path) -> None:  # fault 18
    world = World.small(tmp_path, group="")
    world.protect()
    folder = LocalStore(tmp_path / "vault")
    for info in list(world.stores["eu"].list("")):
        folder.create(info.name, world.stores["eu"].get(info.name))
    vault = world.vault({"eu": folder})
    left = tmp_path / "vault" / "packs" / "left~"
    left.write_bytes(b"half")
    now = world.clock.now().timestamp()
    for age_s, swept in ((PRUNE_GRACE_S - 60, 0), (PRUNE_GRACE_S + 60, 4)):
        os.utime(left, (now - age_s, now - age_s))
        (plan, *_) = plan_prune(vault, world.clock.now())
        assert prune(vault.replicas["eu"], plan) == swept


def test_an_unfinished_write_is_swept_from_a_folder_once_it_is_old(tmp_path: Path) -> None:  # fault 18
    store = LocalStore(tmp_path / "vault")
    store.create("packs/aa/" + "a" * 64, b"whole")
    now = datetime.now(UTC)
    for name, age_s in (("old", 2 * PRUNE_GRACE_S), ("new", 0.0)):
        left = tmp_path / "vault" / "packs" / "aa" / f"{name}~"
        left.write_bytes(b"half")
        then = now.timestamp() - age_s
        os.utime(left, (then, then))
    assert store.sweep(now - timedelta(seconds=PRUNE_GRACE_S)) == 4
    assert [path.name for path in (tmp_path / "vault" / "packs" / "aa").glob("*~")] == ["new~"]
    assert store.get("packs/aa/" + "a" * 64) == b"whole"
