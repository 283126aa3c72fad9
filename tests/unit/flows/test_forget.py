"""What `keep` has no use for is forgotten by a signed record, and goes with the next prunes; nothing else does."""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from refloat.contracts import Store
from refloat.errors import Missing, Refused, Retry, StoreError, UsageError, VaultError, WrongKey
from refloat.flows import points
from refloat.flows.forget import ForgetPlan, forget, plan_forget, spared
from refloat.flows.prepare import Wanted, prepare
from refloat.flows.recover import recover, runs_of
from refloat.limits import PRUNE_GRACE_S
from refloat.manifest.parse import parse
from refloat.plan.model import Plan
from refloat.run.claim import Claim
from refloat.run.journal import Journal
from refloat.run.state import Started
from refloat.testing.world import World, WorldClock
from refloat.vault import layout
from refloat.vault.check import check
from refloat.vault.forgotten import (
    forgotten,
    forgotten_points,
    kept_points,
    write_forgotten,
)
from refloat.vault.keys import Role
from refloat.vault.layout import FORGOTTEN_STREAM
from refloat.vault.prune import plan_prune, prune
from refloat.vault.repair import repair
from refloat.vault.replica import BEFORE_ALL
from refloat.vault.slotlog import SlotTaken
from refloat.vault.stores.faulty import Crash, FaultyStore, When
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.vault import Vault
from refloat.vault.witness import lost_points

REGIONS = ("eu", "us")
KEEP = b"keep: {last: 2, daily: 0, monthly: 0}\n"


def history(root: Path, count: int = 5) -> tuple[World, list[str]]:
    """A world with so many points, and their names, oldest first."""
    world = World.small(root, group="")
    names = []
    for version in range(1, count + 1):
        world.release(version)
        names.append(world.protect().name)
    return world, names


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, list[str]]:
    """A world with five points, to be copied."""
    return history(tmp_path_factory.mktemp("five"))


def copied(stores: Mapping[str, Store]) -> dict[str, Store]:
    """Stores in memory with the same objects."""
    copies: dict[str, Store] = {}
    for region, store in stores.items():
        copies[region] = MemoryStore()
        for info in store.list(""):
            copies[region].create(info.name, store.get(info.name))
    return copies


@pytest.fixture
def told(five: tuple[World, list[str]], tmp_path: Path) -> tuple[World, list[str]]:
    """A world with five points, and their names; a recovery would lead to where the first of its kind lies."""
    world, names = five
    shutil.copytree(world.root, tmp_path, dirs_exist_ok=True)
    clock = WorldClock(world.clock.now())
    return World(tmp_path, "", clock, world.key_file, copied(world.stores)), list(names)


def planned(world: World, vault: Vault, *overrides: str, keep: bytes = KEEP) -> ForgetPlan:
    return plan_forget(parse(world.text + keep), vault, world.clock, overrides=overrides)


def forgot(world: World, vault: Vault | None = None, *overrides: str, keep: bytes = KEEP) -> ForgetPlan:
    vault = vault or world.vault()
    plan = planned(world, vault, *overrides, keep=keep)
    forget(vault, plan)
    return plan


def pruned(world: World) -> int:
    """Prune until nothing more goes; the bytes that went."""
    gone = 0
    for _ in range(2):
        vault = world.vault()
        for plan in plan_prune(vault, world.clock.now(), spared=spared(vault, world.clock)):
            prune(vault.replicas[plan.region], plan)
            gone += sum(plan.remove.values())
        world.clock.sleep(PRUNE_GRACE_S)
    return gone


def listed(world: World, region: str = "eu") -> list[str]:
    return [point.name for point in kept_points(world.vault().replicas[region])]


def sound(world: World) -> None:
    for replica in world.vault().replicas.values():
        report = check(replica, read_data=True)
        assert report.ok, report.damaged


def bodies(world: World, region: str = "eu") -> set[str]:
    return {info.name.removeprefix(layout.POINTS) for info in world.stores[region].list(layout.POINTS)}


def test_what_is_forgotten_goes_with_a_prune_and_the_rest_comes_back(tmp_path: Path) -> None:
    world, names = history(tmp_path)
    before = len(world.vault().replicas["eu"].points())
    plan = forgot(world)
    assert plan.goes == set(names[:3]) and plan.objections == ()
    assert [listed(world, region) for region in REGIONS] == [names[3:]] * 2
    assert bodies(world) == set(names), "nothing is removed by forgetting"
    told = forgotten(world.vault().replicas["us"]).points
    assert set(told.values()) == {"beyond last 2"}
    sound(world)
    marked = sum(freed.bytes for freed in plan.frees.values())
    assert pruned(world) == marked > 0, "what was said before is what goes"
    assert [bodies(world, region) for region in REGIONS] == [set(names[3:])] * 2
    sound(world)
    assert len(world.vault().replicas["eu"].points()) == before, "the log of points stays as it is"
    assert world.protect().ok
    assert world.recover().ok


def test_forgetting_twice_does_nothing_more(told: tuple[World, list[str]]) -> None:
    world, _ = told
    forgot(world)
    kept = listed(world)
    assert forgot(world).goes == frozenset()
    assert listed(world) == kept
    assert forgotten(world.vault().replicas["eu"]).next_slot == 1, "nothing is said where nothing is"


def test_a_forgotten_point_is_taken_by_name_alone_while_its_data_is_there(
    told: tuple[World, list[str]],
) -> None:
    world, names = told
    forgot(world)
    us = world.vault().replicas["us"]
    wanted = Wanted("us", at=points.read(us, names[1]).created_at)
    with pytest.raises(UsageError, match="no point was made before that time; the oldest that is kept"):
        prepare(us, wanted, world.resolver)
    assert prepare(us, Wanted("us", names[1]), world.resolver).point == points.read(us, names[1])
    pruned(world)
    with pytest.raises(Missing, match="was forgotten in us, and its data has been removed since") as raised:
        prepare(world.vault().replicas["us"], Wanted("us", names[1]), world.resolver)
    assert raised.value.region == "us" and raised.value.next


def test_a_writers_key_cannot_forget(told: tuple[World, list[str]]) -> None:  # faults 55, 56
    world, names = told
    whole = world.key_file
    world.key_file = whole.model_copy(update={"admin": None})
    vault = world.vault()
    with pytest.raises(WrongKey):
        planned(world, vault)
    with pytest.raises(WrongKey):
        write_forgotten(vault.replicas["eu"], 0, {names[0]: "I say so"}, seen=4)
    forged = vault.replicas["eu"].log(FORGOTTEN_STREAM, Role.WRITER)
    forged.append({"points": {names[4]: "I say so"}, "seen": 4})
    assert listed(world) == names, "what no admin signed forgets nothing"
    report = check(world.vault().replicas["eu"], read_data=False)
    assert [damage.object for damage in report.damaged] == [layout.slot_name(FORGOTTEN_STREAM, 0)]
    world.key_file = whole
    with pytest.raises(VaultError):
        planned(world, world.vault())
    with pytest.raises(VaultError, match="nothing is pruned"):
        plan_prune(world.vault(), world.clock.now())


@pytest.mark.parametrize("dies", REGIONS)
def test_a_forget_killed_at_any_store_operation_leaves_old_or_new_and_is_finished_by_the_next(
    tmp_path: Path, dies: str
) -> None:  # fault 18
    world, names = history(tmp_path, 2)
    keep = b"keep: {last: 1, daily: 0, monthly: 0}\n"
    before = dict(world.stores)
    world.stores = copied(before)
    learned = FaultyStore(world.stores[dies])
    vault = world.vault({dies: learned})
    plan = planned(world, vault, keep=keep)
    reads = len(learned.trace)
    forget(vault, plan)
    # Until the first region is told nothing is written, so some of those cuts are enough.
    for operation in [*learned.trace[: reads : reads // 3], *learned.trace[reads:]]:
        for when in (When.BEFORE, When.AFTER) if operation.writes else (When.BEFORE,):
            world.stores = copied(before)
            dying = FaultyStore(world.stores[dies], crash_at=operation.number, when=when)
            with pytest.raises(Crash):
                forgot(world, world.vault({dies: dying}), keep=keep)
            assert all(listed(world, region) in (names, names[1:]) for region in REGIONS), (
                f"{when} {operation}"
            )
            forgot(world, keep=keep)
            assert [listed(world, region) for region in REGIONS] == [names[1:]] * 2, f"{when} {operation}"
    assert any(operation.writes for operation in learned.trace[reads:])
    sound(world)


def test_of_two_at_once_one_forgets(told: tuple[World, list[str]]) -> None:  # fault 17
    world, _ = told
    one, other = world.vault(), world.vault()
    first, second = planned(world, one), planned(world, other)
    forget(one, first)
    with pytest.raises(SlotTaken) as raised:
        forget(other, second)
    assert raised.value.region == "eu"


# ------------------------------------------------------------------------------------- a region that was away


def test_a_region_that_was_away_loses_nothing_and_is_told_later(
    told: tuple[World, list[str]],
) -> None:  # fault 36
    world, names = told
    whole = world.vault()
    away = StoreError("the connection was refused", retry=Retry.LATER, next="see whether it is up")
    half = Vault({"us": whole.replicas["us"]}, {"eu": away})
    plan = forgot(world, half)
    assert plan.goes and plan.unknown is not None and plan.unknown.startswith("nothing is pruned")
    assert (listed(world, "us"), listed(world, "eu")) == (names[3:], names)
    pruned(world)
    assert bodies(world, "eu") == bodies(world, "us") == set(names), "what another region needs stays"
    sound(world)
    assert forgot(world).goes == set(names[:3])
    assert forgotten(world.vault().replicas["us"]).next_slot == 1, "us had nothing more to be told"
    pruned(world)
    assert bodies(world, "eu") == bodies(world, "us") == set(names[3:])
    sound(world)


def test_a_region_that_missed_the_newer_points_keeps_its_own_last_ones(tmp_path: Path) -> None:
    world, names = history(tmp_path, 3)
    vault = world.vault()
    away = StoreError("the connection was refused", retry=Retry.LATER, next="see whether it is up")
    for version in (4, 5, 6):
        world.release(version)
        names.append(world.protect(Vault({"eu": vault.replicas["eu"]}, {"us": away})).name)
    plan = forgot(world, None)
    assert plan.goes == {names[0], names[3]}
    assert listed(world, "us") == names[1:3] and listed(world, "eu") == [*names[1:3], *names[4:]]
    pruned(world)
    sound(world)
    assert lost_points(list(world.vault().replicas.values()), BEFORE_ALL) == []


def test_a_repair_and_a_capture_bring_nothing_forgotten_back(told: tuple[World, list[str]]) -> None:
    world, names = told
    forgot(world)
    pruned(world)
    before = {i.name for i in world.stores["us"].list(layout.PACKS)}
    vault = world.vault()
    us, eu = vault.replicas["us"], vault.replicas["eu"]
    repair(us, [damage.object for damage in check(us, read_data=True).damaged], [eu])
    assert {i.name for i in world.stores["us"].list(layout.PACKS)} == before
    world.stores["us"].delete(layout.point_name(names[4]))
    damaged = [damage.object for damage in check(us, read_data=True).damaged]
    assert repair(us, damaged, [eu]).mended.keys() == {layout.point_name(names[4])}
    assert world.protect().ok
    assert not bodies(world, "us") & set(names[:3])
    sound(world)


def test_a_record_that_was_rolled_back_is_written_again(
    told: tuple[World, list[str]],
) -> None:  # fault 54
    world, names = told
    forgot(world)
    pruned(world)
    world.stores["us"].delete(layout.slot_name(FORGOTTEN_STREAM, 0))
    with pytest.raises(VaultError, match="nothing is pruned"):
        pruned(world)
    keep_all = b"keep: {last: 99}\n"
    assert forgot(world, None, keep=keep_all).goes == set(names[:3])
    said = forgotten(world.vault().replicas["us"]).points
    assert set(said.values()) == {"its data is gone"}
    sound(world)
    pruned(world)


# ------------------------------------------------------------------------------------------------ what holds it


def begin(world: World, name: str, patch: pytest.MonkeyPatch) -> None:
    """Begin a recovery of a point, and die when its journal says so."""

    def execute(plan: Plan, journal: Journal, claim: Claim, *_: object, **more: object) -> None:
        journal.append(Started(run=claim.run, plan=plan))
        raise Crash

    vault = world.vault()
    begun = prepare(vault.replicas["us"], Wanted("us", name), world.resolver)
    with patch.context() as dying, pytest.raises(Crash):
        dying.setattr("refloat.run.engine.execute", execute)
        recover(begun, vault, world.clock)


def test_a_point_stays_while_a_run_that_is_not_over_names_it(
    told: tuple[World, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, names = told
    begin(world, names[0], monkeypatch)
    plan = forgot(world)
    kept = {one.point.name: one.reasons for one in plan.decided if one.kept}
    assert kept[names[0]] == ("named by a run that is not over",)
    assert plan.goes == set(names[1:3])


def test_a_prune_spares_a_forgotten_point_while_a_run_that_is_not_over_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, names = history(tmp_path)
    forgot(world)
    begin(world, names[0], monkeypatch)
    pruned(world)
    assert bodies(world) == {names[0], *names[3:]}
    (run,) = runs_of(world.vault().replicas["us"], "us")
    assert world.recover(run=run).ok
    pruned(world)
    assert names[0] not in bodies(world)
    sound(world)


def test_a_run_whose_journal_is_damaged_may_need_any_point(
    told: tuple[World, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, names = told
    begin(world, names[0], monkeypatch)
    (journal,) = [info.name for info in world.stores["us"].list("log/runs/")]
    world.stores["us"].delete(journal)
    world.stores["us"].create(journal, b"rotten")
    with pytest.raises(Refused) as raised:
        forgot(world)
    assert raised.value.rule == "run_unreadable"
    assert forgot(world, None, "run_unreadable").goes == set(names[:3])
    pruned(world)
    assert bodies(world) == set(names), "whichever it was, it is still there"


def test_a_source_that_lost_half_holds_everything_until_a_person_has_looked(
    told: tuple[World, list[str]],
    tmp_path: Path,
) -> None:  # fault 50
    world, names = told
    shutil.rmtree(tmp_path / "eu" / "pages" / "deep")
    names.append(world.protect().name)
    names.append(world.protect().name)
    with pytest.raises(Refused, match="nothing is forgotten: the newest point holds 1 of the") as raised:
        forgot(world)
    assert raised.value.rule == "source_shrank" and "--override source_shrank" in str(raised.value.next)
    assert listed(world) == names
    assert forgot(world, None, "source_shrank").goes == set(names[:5])
    names.append(world.protect().name)
    assert forgot(world).goes == {names[5]}, "what was accepted is not asked again"


def test_a_source_that_was_encrypted_holds_everything_until_a_person_has_looked(tmp_path: Path) -> None:
    # fault 49
    world = World.small(tmp_path, group="")
    (tmp_path / "eu" / "pages" / "long.txt").write_text("what a long page says\n" * 60_000)
    names = [world.protect().name, world.protect().name]
    for path in (tmp_path / "eu" / "pages").rglob("*.*"):
        path.write_bytes(hashlib.shake_256(path.read_bytes()).digest(path.stat().st_size))
    (tmp_path / "eu" / "pages" / "current.json").write_text("{}")
    for _ in range(3):
        names.append(world.protect().name)
    with pytest.raises(Refused, match="most of pages is new, and looks encrypted") as raised:
        forgot(world)
    assert raised.value.rule == "source_rewritten"
    assert listed(world) == names


def test_a_clock_that_was_set_back_forgets_nothing(told: tuple[World, list[str]]) -> None:  # fault 12
    world, names = told
    made = points.read(world.vault().replicas["eu"], names[3]).created_at
    world.clock.jump((made - world.clock.now()).total_seconds())
    with pytest.raises(Refused) as raised:
        forgot(world)
    assert raised.value.rule == "clock_behind"
    assert listed(world) == names


def test_nothing_is_forgotten_after_a_log_was_rolled_back(told: tuple[World, list[str]]) -> None:  # fault 54
    world, _ = told
    for slot in (3, 4):
        world.stores["eu"].delete(layout.slot_name("points", slot))
    with pytest.raises(Refused) as raised:
        forgot(world)
    assert raised.value.rule == "log_rolled_back"
    assert forgotten_points(world.vault().replicas["us"]) == frozenset()


def test_an_override_of_another_rule_is_a_usage_error(tmp_path: Path) -> None:
    world, _ = history(tmp_path, 1)
    with pytest.raises(UsageError) as raised:
        forgot(world, None, "forget_most")
    assert "forgets_most" in str(raised.value.next)


# -------------------------------------------------------------------------------------- whatever happens in between


@pytest.mark.parametrize("seed", [3])
def test_what_is_kept_is_whole_whoever_was_away_or_died(tmp_path: Path, seed: int) -> None:  # faults 18, 36
    dice = random.Random(seed)
    world = World.small(tmp_path, group="")
    world.protect()
    for _ in range(12):
        reached = dice.choice([REGIONS, REGIONS, ("eu",), ("us",)])
        dying = FaultyStore(
            world.stores[reached[0]], crash_at=dice.randrange(200), when=dice.choice(list(When))
        )
        vault = among(world, reached, {reached[0]: dying} if dice.random() < 0.4 else {})
        with contextlib.suppress(Crash, StoreError):
            dice.choice([protect_in, protect_in, forget_in, prune_in])(world, vault)
        world.clock.sleep(dice.choice([60.0, PRUNE_GRACE_S]))
        sound(world)
    forget_in(world, world.vault())
    pruned(world)
    assert bodies(world, "eu") | bodies(world, "us") == {*listed(world, "eu"), *listed(world, "us")}
    sound(world)


def among(world: World, reached: Sequence[str], dying: Mapping[str, Store]) -> Vault:
    """The vault with the regions that answer."""
    away = StoreError("the connection was refused", retry=Retry.LATER, next="see whether it is up")
    replicas = world.vault(dying if dying else None).replicas
    there = {region: replica for region, replica in replicas.items() if region in reached}
    return Vault(there, dict.fromkeys(replicas.keys() - there.keys(), away))


def protect_in(world: World, vault: Vault) -> None:
    world.release(int(world.clock.monotonic() * 1000))
    world.protect(vault)


def forget_in(world: World, vault: Vault) -> None:
    forgot(world, vault, "source_shrank", "source_rewritten", "forgets_most")


def prune_in(world: World, vault: Vault) -> None:
    for plan in plan_prune(vault, world.clock.now(), spared=spared(vault, world.clock)):
        prune(vault.replicas[plan.region], plan)
