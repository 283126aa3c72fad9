"""The process dies at every operation on a store and at every system call; what was acknowledged is never lost.

Exhaustive:

- protect with the vault of either region in a folder, and replicate into one: killed before each system call that
  changes what lies there, and in the middle of each write, after its first byte and before its last. A sync changes
  nothing that a kill could tell; what it does is ``test_power_loss``'s matter;
- protect, recover in the vault that it leaves, repair, replicate, and the making of a vault, on stores in memory:
  killed before and after each operation; adding a region and a rejoin before and after each write. A read changes
  nothing, so dying after it is dying before what comes next;
- accepting a suspect point: killed before and after each operation; putting back a run that died amid its switch:
  before and after each write.

Sampled, and with REFLOAT_CUTS_EACH=1 exhaustive as well:

- recover with its vault in a folder, at one system call in ``CALLS_EACH``: killed before a create of an object or slot,
  in the middle of its write and once its name is there, and before each other change of vault and target. So with all
  of them every append to the run's journal, to the claims and to the log of points is cut before, amid and after;
- the reads that recover makes in its own vault, and those of putting a run back, one in ``READS_EACH``: dying at a
  read leaves what dying at the change before it leaves.

Two threads of a recovery may make their calls in another order in each run; one run is killed at its first change,
another at its second, and so on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from refloat.contracts import Store
from refloat.errors import RefloatError, Waiting
from refloat.evidence.seal import records
from refloat.flows.accept import accept
from refloat.flows.recover import journal_of, prepare_again, recover, runs_of
from refloat.flows.rejoin import plan_rejoin, rejoin, standings
from refloat.flows.replicate import Located, Regions, add, make_points_count
from refloat.testing.disk import HALF, Call, CutDisk, changes, folder_in_memory, watched, writes
from refloat.testing.world import World
from refloat.vault.check import check
from refloat.vault.forgotten import forgotten
from refloat.vault.layout import VAULT
from refloat.vault.repair import repair
from refloat.vault.replica import Replica, create_vault
from refloat.vault.replicate import TRANSFERS, catch_up
from refloat.vault.stores.faulty import Crash, FaultyStore, Operation, When
from refloat.vault.stores.local import LocalStore
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.vault import Vault

pytestmark = [pytest.mark.usefixtures("remembered"), pytest.mark.slow]

REGIONS = ("eu", "us")
CUTS_EACH = int(os.environ.get("REFLOAT_CUTS_EACH", "0"))
READS_EACH = CUTS_EACH or 5
CALLS_EACH = CUTS_EACH or 8  # of a whole recovery's system calls; its store operations are all tried
ANYWHERE = (0.0, HALF, 1.0)  # of a write's bytes: its first, half, all but its last
FEWER = 4  # calls than another run: where the folder of a pack is there already; where two threads meet

Moment = tuple[int | None, float | None]
"""The number of a change before which to die; or that of a write, and how much of it has happened."""

NEVER: Moment = (None, None)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with folder_in_memory() as folder:
        yield folder


def cuts(trace: list[Operation]) -> Iterator[tuple[int, When]]:
    """Where to die, for each operation of an undisturbed run."""
    for operation in trace:
        yield operation.number, When.BEFORE
        if operation.writes:
            yield operation.number, When.AFTER


def moments(
    disk: CutDisk, shares: tuple[float, ...], counts: Callable[[Call], bool] = changes
) -> Iterator[Moment]:
    """Where to die at system calls, for each change that counts of those that an undisturbed run made."""
    for number in range(1, sum(map(counts, disk.calls)) + 1):
        yield number, None
    for number in range(1, sum(map(writes, disk.calls)) + 1):
        for share in shares:
            yield number, share


def killed_at(
    moment: Moment, root: Path, action: Callable[[], object], counts: Callable[[Call], bool] = changes
) -> CutDisk:
    """Do ``action`` with the disk under ``root``, killed at a moment; the disk says whether it was."""
    at, torn = moment
    disk = CutDisk(at, torn=torn, counts=counts if torn is None else writes)
    try:
        with watched(root, disk):
            action()
    except Crash:
        assert disk.dead
    return disk


def copied(store: Store) -> MemoryStore:
    """The same objects in memory."""
    inner = MemoryStore()
    for entry in list(store.list("")):
        inner.create(entry.name, store.get(entry.name))
    return inner


def kept(make: Callable[[Path], World], root: Path) -> Callable[[], World]:
    """Makes the world that ``make`` makes, again and again in the same place, by copying it."""
    world = make(root / "cut")
    shutil.copytree(world.root, root / "kept", symlinks=True)
    stores = dict(world.stores)

    def again() -> World:
        shutil.rmtree(world.root)
        shutil.copytree(root / "kept", world.root, symlinks=True)
        fresh: dict[str, Store] = {
            region: LocalStore(store.root) if isinstance(store, LocalStore) else copied(store)
            for region, store in stores.items()
        }
        return replace(world, stores=fresh)

    return again


def names(world: World, region: str) -> list[str]:
    """The points that a region has, as a new process finds them."""
    return [point.name for point in world.vault().replicas[region].points()]


def sound(world: World, region: str, where: object) -> None:
    report = check(world.vault().replicas[region], read_data=True)
    assert report.ok, f"{where}: {report.damaged}"


def in_folder(world: World, region: str) -> Path:
    """Move a region's replica from memory into a folder."""
    local = LocalStore(world.root / "disk" / region)
    for entry in list(world.stores[region].list("")):
        local.create(entry.name, world.stores[region].get(entry.name))
    world.stores[region] = local
    return local.root


def few_leftovers(vault: Path, *, writes_at_once: int = 1) -> None:
    """A process that died has left one temporary file at most for each write that it was in."""
    assert len(list(vault.rglob("*~"))) <= writes_at_once


# ---------------------------------------------------------------------------------------------- protect


def protected_once(root: Path) -> World:
    """A world with one point, and a release that is not in it."""
    world = World.small(root, group="")
    world.protect()
    world.release(2)
    return world


def old_or_new(world: World, first: str, where: object) -> None:
    """Each region has the first point and at most one more, whole; the next protect succeeds everywhere."""
    for region in REGIONS:
        known = names(world, region)
        assert known[0] == first and len(known) <= 2, f"{where}: {region} has {known}"
        sound(world, region, where)
    again = world.protect()
    assert again.ok and again.copies == len(REGIONS), f"{where}: {again.regions}"
    assert [names(world, region)[-1] for region in REGIONS] == [again.name] * 2
    sound(world, "us", where)


@pytest.mark.parametrize("region", REGIONS)
def test_protect_killed_at_any_store_operation_leaves_the_old_point_or_the_new_one(
    tmp_path: Path, region: str
) -> None:  # faults 1, 18
    again = kept(protected_once, tmp_path)
    world = again()
    (first,) = names(world, region)
    learned = FaultyStore(world.stores[region])
    world.protect(world.vault({region: learned}))
    assert learned.operations > 10
    for number, when in cuts(learned.trace):
        world = again()
        store = FaultyStore(world.stores[region], crash_at=number, when=when)
        with pytest.raises(Crash):
            world.protect(world.vault({region: store}))
        old_or_new(world, first, f"{when} {store.trace[number - 1]}")


def test_a_pack_that_a_crash_left_without_an_index_object_is_not_relied_on(
    tmp_path: Path,
) -> None:  # fault 18
    again = kept(protected_once, tmp_path)
    world = again()
    learned = FaultyStore(world.stores["eu"])
    world.protect(world.vault({"eu": learned}))
    index = next(o.number for o in learned.trace if o.op == "create" and o.name.startswith("index/"))
    world = again()
    with pytest.raises(Crash):
        world.protect(world.vault({"eu": FaultyStore(world.stores["eu"], crash_at=index)}))
    vault = world.vault()
    vault.replicas["eu"].recover_index()  # as reading what it does not know makes it do
    assert world.protect(vault).copies == len(REGIONS)
    for region in REGIONS:
        sound(world, region, "after the next protect")


@pytest.mark.parametrize("region", REGIONS)
def test_protect_killed_at_any_system_call_leaves_the_old_point_or_the_new_one(
    tmp_path: Path, region: str
) -> None:  # faults 1, 18
    again = kept(protected_once, tmp_path)
    world = again()
    (first,) = names(world, region)
    vault = in_folder(world, region)
    learned = killed_at(NEVER, vault, world.protect)
    assert {call.name for call in learned.calls} == {"open", "write", "link", "unlink", "mkdir"}
    assert {call.path.relative_to(vault).parts[0] for call in learned.calls if writes(call)} == {
        *("packs", "index", "points", "log"),
    }
    for moment in moments(learned, ANYWHERE):
        world = again()
        vault = in_folder(world, region)
        disk = killed_at(moment, vault, world.protect)
        assert disk.dead or len(disk.calls) > len(learned.calls) - FEWER
        few_leftovers(vault)
        old_or_new(world, first, f"{moment}: {disk.calls[-1]}")


# ---------------------------------------------------------------------------------------------- recover


def lost_after_protect(root: Path) -> World:
    """A world whose primary region is gone but for its vault."""
    world = World.small(root, group="")
    world.protect()
    (root / "kept").mkdir()
    shutil.move(root / "eu", root / "kept" / "eu")
    return world


def lost_in_folder(root: Path) -> World:
    """The same, and the vault of the other region is a folder."""
    world = lost_after_protect(root)
    in_folder(world, "us")
    return world


def live_before(world: World) -> dict[str, bytes]:
    """What was live in the region that is gone."""
    return world.live("kept/eu")


def begun(world: World) -> str | None:
    """The run that the crash left, if it had come far enough to have written its plan."""
    replica = world.vault().replicas["us"]
    runs = runs_of(replica, "us")
    return runs[-1] if runs and journal_of(replica, runs[-1], world.clock).view.plan is not None else None


def resumed(world: World, where: object) -> None:
    """The run goes on in a new process, and ends as it would have; the vault is whole."""
    done = world.recover(run=begun(world))
    assert done.evidence.state == "done", f"{where}: {done.failure}"
    assert world.live("us") == live_before(world), where
    sound(world, "us", where)


def recover_cut(world: World, store: FaultyStore, region: str) -> bool:
    """Recover and die; False where the run needed less operations than the one that was counted."""
    try:
        world.recover(world.vault({region: store}))
    except Crash:
        return True
    return False


@pytest.mark.parametrize("region", REGIONS)
def test_recover_killed_at_a_store_operation_and_resumed_ends_in_the_same_place(
    tmp_path: Path, region: str
) -> None:  # faults 18, 23
    again = kept(lost_after_protect, tmp_path)
    world = again()
    learned = FaultyStore(world.stores[region])
    world.recover(world.vault({region: learned}))
    chosen = list(cuts(learned.trace))
    if region == "us":  # whose writes are cut at their system calls
        chosen = list(cuts([operation for operation in learned.trace if not operation.writes]))[::READS_EACH]
    assert len(chosen) > 15
    for number, when in chosen:
        world = again()
        store = FaultyStore(world.stores[region], crash_at=number, when=when)
        if recover_cut(world, store, region):
            resumed(world, f"{when} {store.trace[number - 1]}")
            sound(world, region, number)
        else:
            assert number > learned.operations - 2 * FEWER


def edges(call: Call) -> bool:
    """The changes of which one leaves more than one byte more or less in a file that nobody sees."""
    return changes(call) and call.name not in ("write", "link")


def test_recover_killed_at_any_system_call_of_its_vault_or_target_ends_in_the_same_place(
    tmp_path: Path,
) -> None:  # faults 1, 18, 23
    again = kept(lost_in_folder, tmp_path)
    world = again()
    learned = killed_at(NEVER, world.root, world.recover)
    appends = [call for call in learned.calls if writes(call) and "runs" in call.path.parts]
    assert len(appends) > 35, "the run's journal is there"
    assert {"rename", "link"} <= {call.name.replace("replace", "rename") for call in learned.calls}
    alive = 0
    for moment in islice(moments(learned, (HALF,), edges), 0, None, CALLS_EACH):
        world = again()
        disk = killed_at(moment, world.root, world.recover, edges)
        if disk.dead:
            resumed(world, f"{moment}: {disk.calls[-1]}")
        alive += not disk.dead
    assert alive <= FEWER


def test_a_switch_that_was_cut_and_whose_record_is_unreadable_waits_for_a_person(
    tmp_path: Path,
) -> None:  # fault 23
    world = lost_after_protect(tmp_path)

    def after_the_switch(operation: Operation) -> None:
        if any('"switched"' in path.read_text() for path in (tmp_path / "us").glob(".pages.*.done")):
            store.crash(operation.number)

    store = FaultyStore(world.stores["us"], at_each=after_the_switch)
    assert recover_cut(world, store, "us")
    (record,) = (tmp_path / "us").glob(".pages.*.done")
    kept = record.read_bytes()
    record.write_bytes(kept[: len(kept) // 2])
    before = world.live("us")
    with pytest.raises(Waiting) as waiting:
        world.recover(run=begun(world))
    assert (waiting.value.exit_code, waiting.value.component) == (5, "pages")
    assert f"--resume {begun(world)}" in (waiting.value.next or "")
    assert world.live("us") == before, "nothing is touched while nobody knows"
    record.write_bytes(kept)
    resumed(world, "after a person has looked")


# ------------------------------------------------------------------------------------ replicate and repair


def behind(root: Path) -> World:
    """A world whose second region missed a release."""
    world = World.small(root, group="")
    world.protect()
    world.release(2)
    us = world.stores.pop("us")
    world.protect()
    world.stores["us"] = us
    return world


def opened(world: World, region: str, store: Store) -> Replica:
    return Replica.open(region, store, world.key_file, world.clock)


def catching_up(world: World, stores: dict[str, Store]) -> Callable[[], object]:
    eu, us = (opened(world, region, stores[region]) for region in REGIONS)
    return lambda: catch_up(eu, us)


def finished(world: World, stores: dict[str, Store], where: object) -> None:
    """What a copy that was cut has left is whole, and the next one brings the rest."""
    there = opened(world, "us", stores["us"])
    assert check(there, read_data=True).ok, where
    catch_up(opened(world, "eu", stores["eu"]), there)
    assert there.read_point(names(world, "eu")[-1]), where
    for prefix in ("packs/", "index/", "points/"):
        assert {e.name for e in stores["us"].list(prefix)} == {e.name for e in stores["eu"].list(prefix)}


@pytest.mark.parametrize("cut_region", REGIONS)
def test_a_copy_killed_at_any_store_operation_is_finished_by_the_next(
    tmp_path: Path, cut_region: str
) -> None:  # fault 18
    world = behind(tmp_path)

    def fresh() -> dict[str, Store]:
        return {region: copied(world.stores[region]) for region in REGIONS}

    stores = fresh()
    learned = FaultyStore(stores[cut_region])
    catching = catching_up(world, {**stores, cut_region: learned})
    before = learned.operations
    catching()
    for number, when in cuts(learned.trace[before:]):
        stores = fresh()
        store = FaultyStore(stores[cut_region], crash_at=number, when=when)
        with pytest.raises(Crash):
            catching_up(world, {**stores, cut_region: store})()
        finished(world, stores, f"{when} {store.trace[-1]}")


def test_a_copy_killed_at_any_system_call_is_finished_by_the_next(tmp_path: Path) -> None:  # faults 1, 18
    def into_a_folder(root: Path) -> World:
        world = behind(root)
        in_folder(world, "us")
        return world

    again = kept(into_a_folder, tmp_path)
    world = again()
    vault = world.root / "disk" / "us"
    learned = killed_at(NEVER, vault, catching_up(world, world.stores))
    assert {call.path.relative_to(vault).parts[0] for call in learned.calls if writes(call)} == {
        *("packs", "index", "points"),
    }
    for moment in moments(learned, ANYWHERE):
        world = again()
        disk = killed_at(moment, vault, catching_up(world, world.stores))
        assert disk.dead
        few_leftovers(vault, writes_at_once=TRANSFERS)
        finished(world, world.stores, f"{moment}: {disk.calls[-1]}")


def test_a_repair_killed_at_any_store_operation_is_finished_by_the_next(tmp_path: Path) -> None:  # fault 18
    world = World.small(tmp_path, group="")
    point = world.protect().name
    spoilt = FaultyStore(copied(world.stores["us"]), seed=3)
    for prefix in ("packs/", "index/", "points/"):
        spoilt.flip_bit(next(spoilt.list(prefix)).name)
    world.stores["us"] = spoilt

    def mend(us: Store) -> None:
        replica = opened(world, "us", us)
        damaged = [found.object for found in check(replica, read_data=True).damaged]
        repair(replica, damaged, [opened(world, "eu", world.stores["eu"])])

    learned = FaultyStore(copied(spoilt))
    mend(learned)
    removed = [operation.name for operation in learned.trace if operation.op == "delete"]
    assert [name.partition("/")[0] for name in removed] == ["index", "packs", "quarantine", "points"]
    for number, when in cuts(learned.trace):
        inner = copied(spoilt)
        with pytest.raises(Crash):
            mend(FaultyStore(inner, crash_at=number, when=when))
        mend(inner)
        replica = opened(world, "us", inner)
        assert check(replica, read_data=True).ok, f"{when} {learned.trace[number - 1]}"
        assert [known.name for known in replica.points()] == [point]


# ----------------------------------------------------------------------------------- a region comes, or comes back


def written(trace: list[Operation]) -> Iterator[tuple[int, When]]:
    """Where to die so that something else is left each time: before and after each write."""
    return cuts([operation for operation in trace if operation.writes])


def test_adding_a_region_killed_at_any_write_is_finished_by_the_same_command(tmp_path: Path) -> None:
    # fault 18
    world = World.small(tmp_path, group="")
    points = [world.protect().name]
    world.release(2)
    points.append(world.protect().name)

    def added(us: Store) -> None:
        eu, new = Located("eu", world.stores["eu"]), Located("us", us)
        made = us.size(VAULT) is not None
        there = Regions({"eu": eu, **({"us": new} if made else {})}, {} if made else {"us": new}, {})
        add(there, ["eu"], "us", world.clock)
        replicas = {"eu": opened(world, "eu", world.stores["eu"]), "us": opened(world, "us", us)}
        make_points_count(Vault(replicas, {}), ["eu"], ["us"])

    learned = FaultyStore(MemoryStore())
    added(learned)
    assert {operation.name.partition("/")[0] for operation in learned.trace if operation.op == "create"} >= {
        *("keys", "vault.json", "packs", "index", "points", "log"),
    }
    for number, when in written(learned.trace):
        us = MemoryStore()
        with pytest.raises(Crash):
            added(FaultyStore(us, crash_at=number, when=when))
        added(us)
        replica = opened(world, "us", us)
        where = f"{when} {learned.trace[number - 1]}"
        assert [point.name for point in replica.points()] == points, where
        assert check(replica, read_data=True).ok, where


def test_a_rejoin_killed_at_any_write_is_finished_by_the_same_command(tmp_path: Path) -> None:  # fault 18
    world = World.small(tmp_path, group="")
    world.protect()
    old = copied(world.stores["us"])
    for version in (2, 3):
        world.release(version)
        world.protect()

    def rejoined(us: Store) -> bool:
        vault = world.vault({"us": us})
        return rejoin(vault, plan_rejoin(vault, "us")).counts

    learned = FaultyStore(copied(old))
    assert rejoined(learned)
    for number, when in written(learned.trace):
        us = copied(old)
        with pytest.raises(Crash):
            rejoined(FaultyStore(us, crash_at=number, when=when))
        where = f"{when} {learned.trace[number - 1]}"
        assert rejoined(us), where
        replica = opened(world, "us", us)
        assert check(replica, read_data=True).ok, where
        assert [point.name for point in replica.points()] == names(world, "eu"), where
        assert not standings([replica, opened(world, "eu", world.stores["eu"])])["us"].is_old, where


# ---------------------------------------------------------------------------------------------- two writers


def test_a_second_writer_at_any_moment_of_the_first_and_both_points_land(tmp_path: Path) -> None:  # fault 15
    again = kept(protected_once, tmp_path)
    world = again()
    (first,) = names(world, "us")
    learned = FaultyStore(world.stores["us"])
    world.protect(world.vault({"us": learned}))
    for at in range(1, learned.operations + 1):
        world = again()
        second: list[str] = []

        def meanwhile(
            operation: Operation, at: int = at, world: World = world, made: list[str] = second
        ) -> None:
            if operation.number == at:
                made.append(world.protect().name)

        done = world.protect(world.vault({"us": FaultyStore(world.stores["us"], at_each=meanwhile)}))
        assert done.ok and done.copies == len(REGIONS), f"before {learned.trace[at - 1]}: {done.regions}"
        for region in REGIONS:
            known = names(world, region)
            assert known[0] == first and sorted(known[1:]) == sorted([done.name, *second])
            sound(world, region, at)


# ---------------------------------------------------------------------------------------------- half a vault


def test_a_vault_whose_making_was_killed_is_no_vault_or_a_whole_one(tmp_path: Path) -> None:  # fault 18
    world = World(tmp_path, "")
    learned = FaultyStore(MemoryStore())
    create_vault({"eu": learned}, world.key_file, world.clock, "small")
    for number, when in cuts(learned.trace):
        inner = MemoryStore()
        with pytest.raises(Crash):
            store = FaultyStore(inner, crash_at=number, when=when)
            create_vault({"eu": store}, world.key_file, world.clock, "small")
        try:
            assert check(opened(world, "eu", inner), read_data=True).ok
        except RefloatError as error:
            assert error.code == "vault_missing", f"{when} {learned.trace[number - 1]}: {error}"


# ----------------------------------------------------------------------------------- accept, and run abort

GOOD = "a person looked at it"


def suspect_newest(root: Path) -> World:
    """A world whose newest point is suspect: most of its pages are gone."""
    world = World.small(root, group="")
    pages = root / "eu" / "pages"
    for number in range(30):
        (pages / f"{number}.txt").write_text(f"page {number}\n" * 4000)
    for version in (2, 3):
        world.release(version)
        world.protect()
    for path in list(pages.glob("*.txt"))[:28]:
        path.unlink()
    assert world.protect().suspect
    return world


@pytest.mark.parametrize("region", REGIONS)
def test_an_accept_killed_at_any_store_operation_is_finished_by_the_same_command(
    tmp_path: Path, region: str
) -> None:  # fault 18
    again = kept(suspect_newest, tmp_path)
    world = again()
    hit = names(world, region)[-1]
    assert world.prepared(world.vault()).choice.point != hit
    learned = FaultyStore(world.stores[region])
    accept(world.vault({region: learned}), hit, GOOD)
    assert any(operation.writes for operation in learned.trace)
    for number, when in cuts(learned.trace):
        world = again()
        store = FaultyStore(world.stores[region], crash_at=number, when=when)
        where = f"{when} {learned.trace[number - 1]}"
        with pytest.raises(Crash):
            accept(world.vault({region: store}), hit, GOOD)
        done = accept(world.vault(), hit, GOOD)
        assert done.ok and done.regions == REGIONS, where
        for replica in world.vault().replicas.values():
            said = forgotten(replica)
            assert hit in said.good and said.next_slot == 1, f"{where}: {replica.region} was told twice"
        assert world.prepared(world.vault()).choice.point == hit, where


def half_recovered(root: Path) -> World:
    """A world with a run that died once something of it was live in ``us``."""
    world = lost_after_protect(root)

    def dies(operation: Operation) -> None:
        if operation.op == "create" and "/runs/" in operation.name and world.live("us"):
            store.crash(operation.number)

    store = FaultyStore(world.stores["us"], at_each=dies)
    with pytest.raises(Crash):
        world.recover(world.vault({"us": store}))
    assert begun(world) and world.live("us")
    return world


def put_back(world: World, run: str, stores: dict[str, Store] | None = None) -> str:
    """What ``run abort`` does, in a new process; the state that the run is in then."""
    vault = world.vault(stores)
    prepared = prepare_again(vault.replicas["us"], run, world.resolver, world.clock)
    done = recover(prepared, vault, world.clock, run=run, turn_back="a person put it back")
    return str(done.evidence.state)


def aborted(world: World, run: str, where: object) -> None:
    """The same command again ends as if nothing had happened to the first."""
    assert put_back(world, run) == "rolled_back", where
    assert world.live("us") == {}, where
    view = journal_of(world.vault().replicas["us"], run, world.clock).view
    assert view.ended and not view.committed, where
    for region in REGIONS:
        assert [one.run for one in records(world.vault().replicas[region])] == [run], where
        sound(world, region, where)


@pytest.mark.parametrize("region", REGIONS)
def test_an_abort_killed_at_any_store_operation_is_finished_by_the_same_command(
    tmp_path: Path, region: str
) -> None:  # faults 18, 23
    again = kept(half_recovered, tmp_path)
    world = again()
    run = begun(world)
    assert run is not None
    learned = FaultyStore(world.stores[region])
    assert put_back(world, run, {region: learned}) == "rolled_back"
    aborted(world, run, "undisturbed, and asked again")
    writing = [operation for operation in learned.trace if operation.writes]
    reading = [operation for operation in learned.trace if not operation.writes][::READS_EACH]
    assert len(writing) > (5 if region == "us" else 0)
    for number, when in cuts([*writing, *reading]):
        world = again()
        store = FaultyStore(world.stores[region], crash_at=number, when=when)
        try:
            put_back(world, run, {region: store})
        except Crash:
            aborted(world, run, f"{when} {store.trace[number - 1]}")
        else:
            assert number > learned.operations - 2 * FEWER
