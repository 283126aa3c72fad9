"""Whatever an object of a vault suffers, in one region or in all: found, healed or named, and no wrong byte is read.

The kinds of objects are those that lie in a vault in which everything has happened once, so that a new one cannot be
forgotten: a kind that the layout knows and the vault lacks fails the test, and so does one the other way round.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from refloat.contracts import EntryType, Facts, Store
from refloat.digest import object_name
from refloat.errors import RefloatError
from refloat.flows.repair import Repair, repair_vault
from refloat.run.claim import standing
from refloat.testing.world import World, WorldClock
from refloat.vault import layout
from refloat.vault.aside import ASIDE, role_of
from refloat.vault.check import check
from refloat.vault.described import mend_descriptor
from refloat.vault.forgotten import forgotten, write_accepted
from refloat.vault.keys import KeyFile, Role
from refloat.vault.marks import write_marks
from refloat.vault.missed_records import make_up_records
from refloat.vault.points import roots
from refloat.vault.quarantine import QUARANTINE
from refloat.vault.renewed import write_renewed
from refloat.vault.replica import Replica, create_vault
from refloat.vault.stores.faulty import Crash, FaultyStore, Operation
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.vault import Vault
from refloat.vault.witness import rolled_back

EVERY_DAMAGE = "REFLOAT_EVERY_DAMAGE" in os.environ
Objects = dict[str, bytes]
REGIONS = ("eu", "us")
GARBAGE = b'{"format":1,"said":"by nobody who has a key"}'
KINDS = (
    "vault.json",
    *layout.OBJECTS,
    *(f"log/{stream}" for stream in sorted({"points", *layout.OPERATOR_STREAMS, *layout.ADMIN_STREAMS})),
)


def kind_of(name: str) -> str:
    first, _, rest = name.partition("/")
    return f"log/{rest.partition('/')[0]}" if first == "log" else f"{first}/" if rest else first


# --------------------------------------------------------------------------------- a vault in which all has happened


@dataclass(frozen=True)
class Lived:
    """A vault in which everything happened once: its key, what lies in each region, and what its points hold."""

    key_file: KeyFile
    stored: Mapping[str, Objects]
    bytes_of: Mapping[str, Mapping[str, bytes]]
    clock: WorldClock
    good: str = ""


@cache
def lived(root: Path, vault: str = "5ma11" * 4) -> Lived:
    world = World(root, key_file=KeyFile.create(vault, "small"), stores={r: MemoryStore(r) for r in REGIONS})
    world.release(1)
    create_vault(world.stores, world.key_file, world.clock, "small")
    world.protect()
    world.release(2)
    world.protect()
    assert world.recover().ok
    for replica in world.vault().replicas.values():
        for stream in ("audit", "drills/1", "baselines", "evidence"):
            for number in range(2):
                replica.log(stream, Role.OPERATOR).append({"said": f"{number} of {stream}"})
        points = replica.points()
        write_accepted(replica, 0, points[0].name, "it is good", seen=0)
        write_accepted(replica, 1, points[1].name, "so is this", seen=1)
        write_marks(replica, 0, {})
        write_marks(replica, 1, {})
        for _ in range(2):
            write_renewed(replica, [])
    make_up_records(list(world.vault().replicas.values()))
    stored = {region: contents(store) for region, store in world.stores.items()}
    return Lived(
        world.key_file,
        stored,
        everything(eu := world.vault().replicas["eu"]),
        world.clock,
        list(forgotten(eu).good)[1],
    )


def contents(store: Store) -> Objects:
    return {info.name: store.get(info.name) for info in store.list("")}


def everything(replica: Replica) -> dict[str, dict[str, bytes]]:
    """Every byte of every point that a region commits."""
    found = {}
    for point in replica.points():
        files: dict[str, bytes] = {}
        for tree in roots(replica.read_point(point.name)):
            source = replica.source(tree, Facts())
            for entry in source.entries():
                if entry.type is EntryType.FILE:
                    files[f"{tree}/{entry.path}"] = source.open(entry.path).read()
        found[point.name] = files
    return found


@dataclass
class Hit:
    """A copy of the vault that something happens to."""

    whole: Lived
    stores: dict[str, Store]

    def open(self) -> Vault:
        """As ``refloat vault repair`` opens it: a descriptor that is gone or wrong is written first."""
        replicas: dict[str, Replica] = {}
        unreachable: dict[str, RefloatError] = {}
        for region, store in self.stores.items():
            mend_descriptor(region, store, self.whole.key_file, REGIONS)
            try:
                replicas[region] = Replica.open(region, store, self.whole.key_file, self.whole.clock)
            except RefloatError as error:
                unreachable[region] = error
        return Vault(replicas, unreachable)

    def found(self, region: str) -> list[str]:
        """What a check of a region says, with what it is opened with first."""
        try:
            replica = Replica.open(region, self.stores[region], self.whole.key_file, self.whole.clock)
        except RefloatError as error:
            return [str(error.file)]
        others = [other for name, other in self.open().replicas.items() if name != region]
        shorter = rolled_back([replica, *others])
        report = check(replica, read_data=True, others=others, shorter=shorter)
        return [damage.object for damage in report.damaged]

    def repair(self, *overrides: str) -> Repair:
        return repair_vault(
            lambda _: self.open(), self.whole.clock, read_data=True, overrides=frozenset(overrides)
        )

    def require_no_wrong_byte(self, *regions: str) -> None:
        for region, replica in self.open().replicas.items():
            try:
                found = everything(replica) if region in (regions or REGIONS) else {}
            except RefloatError:
                continue
            for point, files in found.items():
                if point in self.whole.bytes_of:
                    assert files == self.whole.bytes_of[point]

    def require_whole(self, *regions: str) -> None:
        vault = self.open()
        for region in regions or REGIONS:
            assert self.found(region) == []
            assert everything(vault.replicas[region]) == self.whole.bytes_of


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    return lived(tmp_path_factory.mktemp("lived"))


@pytest.fixture
def hit(whole: Lived, request: pytest.FixtureRequest) -> Hit:
    callspec = getattr(request.node, "callspec", None)
    return copied(whole, "" if callspec is None else callspec.params["kind"])


def copied(whole: Lived, kind: str) -> Hit:
    """The vault once more; the journal, which is as long as all the rest, only where it has to do with ``kind``."""
    stores: dict[str, Store] = {region: MemoryStore(region) for region in REGIONS}
    for region, objects in whole.stored.items():
        for name, content in objects.items():
            if kind_of(name) != "log/runs" or kind in ("log/runs", "log/targets"):
                stores[region].create(name, content)
    return Hit(whole, stores)


def replace(store: Store, name: str, content: bytes | None) -> None:
    store.delete(name)
    if content is not None:
        store.create(name, content)


# --------------------------------------------------------------------------------------------------- what happens to it


def flipped(content: bytes) -> bytes:
    broken = bytearray(content)
    broken[len(content) // 2] ^= 1
    return bytes(broken)


DAMAGES: Mapping[str, Callable[[bytes], bytes | None]] = {
    "flipped": flipped,
    "truncated": lambda content: content[:-3],
    "appended": lambda content: content + b"\n",
    "deleted": lambda content: None,
    "garbage": lambda content: GARBAGE,
}


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """What lies in a vault of another key, in which the same happened."""
    return dict(lived(tmp_path_factory.mktemp("another"), "an0ther" * 3).stored["us"])


NOTES = "notes of vault.json"
"""Of the objects below ``keys/`` those that sign a descriptor, which are a kind of their own: names are random."""


def first_of(kind: str, objects: Objects) -> str:
    below = layout.KEYS if kind == NOTES else kind
    named = (name for name, content in objects.items() if kind_of(name) == below)
    return min(name for name in named if is_note(objects[name]) is (kind == NOTES))


def is_note(content: bytes) -> bool:
    return b'"type":"descriptor"' in content


def test_everything_that_the_layout_knows_lies_in_the_vault_and_nothing_else(whole: Lived) -> None:
    for region, objects in whole.stored.items():
        kinds = {kind_of(name) for name in objects}
        of_runs = (
            {"log/runs", "log/targets"} if region == "eu" else set()
        )  # what was recovered was so into us
        assert kinds == set(KINDS) - of_runs
        assert all(role_of(kind.removeprefix("log/")) for kind in kinds if kind.startswith("log/"))


def test_what_nothing_happened_to_is_whole(hit: Hit) -> None:
    hit.require_whole()
    done = hit.repair()
    assert {region: (one.mended, one.left) for region, one in done.regions.items()} == {
        region: ({}, {}) for region in REGIONS
    }


@pytest.mark.parametrize("damage", [*DAMAGES, "of another vault"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_happens_in_one_region_is_found_and_healed(
    hit: Hit, kind: str, damage: str, another: Objects
) -> None:
    # faults 2, 3, 52, 57
    name = first_of(kind, hit.whole.stored["us"])
    before = hit.whole.stored["us"][name]
    if damage in DAMAGES:
        after = DAMAGES[damage](before)
    else:
        after = another[name if kind.startswith("log/") and name in another else first_of(kind, another)]
    replace(hit.stores["us"], name, after)
    assert hit.found("us")
    hit.require_no_wrong_byte("us")
    done = hit.repair("log_damaged")
    assert {region: one.left for region, one in done.regions.items()} == {"eu": {}, "us": {}}
    hit.require_whole("us")


@pytest.mark.parametrize("damage", DAMAGES if EVERY_DAMAGE else ["flipped", "deleted"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_happens_in_both_regions_is_healed_or_named_and_takes_nothing_else_with_it(
    hit: Hit, kind: str, damage: str
) -> None:
    # faults 2, 3, 52
    both = {
        name: content for name, content in hit.whole.stored["eu"].items() if name in hit.whole.stored["us"]
    }
    named = any(kind_of(name) == kind for name in both)
    name = first_of(kind, both if named else hit.whole.stored["us"])
    hurt = [region for region in REGIONS if name in hit.whole.stored[region]]
    for region in hurt:
        replace(hit.stores[region], name, DAMAGES[damage](hit.whole.stored[region][name]))
    assert all(hit.found(region) for region in hurt)
    before = {region: contents(store) for region, store in hit.stores.items()}
    done = hit.repair("log_damaged")
    for region in REGIONS:
        assert sorted(hit.found(region)) == sorted(done.regions[region].left)
        require_kept(before[region], contents(hit.stores[region]), hurt=name)
    hit.require_no_wrong_byte()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", [NOTES])
def test_what_signs_a_descriptor_is_signed_again_where_no_region_has_it(
    hit: Hit, kind: str, damage: str
) -> None:
    """Whoever opens a vault to repair it signs first what nobody has signed, so no check comes before."""
    # faults 2, 3
    name = first_of(kind, hit.whole.stored["us"])
    signed = hit.whole.stored["us"][name]
    for region in REGIONS:
        replace(hit.stores[region], name, DAMAGES[damage](signed))
    hit.repair()
    assert {region: hit.stores[region].get(name) for region in REGIONS} == dict.fromkeys(REGIONS, signed)
    hit.require_whole()


def require_kept(before: Objects, after: Objects, hurt: str) -> None:
    """What was whole is there still, where it was or set aside; an index object may say the same in another one."""
    there = {object_name(content) for content in after.values()}
    for name, content in before.items():
        if name == hurt or name.startswith((layout.VAULT, layout.INDEX, QUARANTINE)):
            continue
        moved = name.startswith(layout.LOG) and object_name(content) in there
        assert after.get(name) == content or moved, name


LOGS = [kind for kind in KINDS if kind.startswith("log/")]


@pytest.mark.parametrize("where", ["next", "far"])
@pytest.mark.parametrize("kind", LOGS)
def test_what_somebody_put_into_a_free_slot_is_found_and_set_aside(hit: Hit, kind: str, where: str) -> None:
    # fault 52
    stream, after = last_slot(kind, hit.whole.stored["us"])
    slot = layout.slot_name(stream, after + (1 if where == "next" else 1_000_000))
    hit.stores["us"].create(slot, GARBAGE)
    assert hit.found("us")
    done = hit.repair("log_damaged")
    assert done.regions["us"].left == {}
    hit.require_whole("us")
    aside = [name for name in contents(hit.stores["us"]) if name.startswith(f"{ASIDE}{stream}/")]
    assert any(name.endswith(object_name(GARBAGE)) for name in aside)


def last_slot(kind: str, objects: Objects) -> tuple[str, int]:
    last = max(name for name in objects if kind_of(name) == kind)
    stream, _, slot = last.removeprefix(layout.LOG).rpartition("/")
    return stream, int(slot)


NOT_KNOWN_ELSEWHERE = {"log/targets", "log/runs", "log/drills"}


@pytest.mark.parametrize("kind", LOGS)
def test_without_a_person_nothing_is_set_aside_that_only_this_region_may_have_known(
    hit: Hit, kind: str
) -> None:
    # fault 52
    name = first_of(kind, hit.whole.stored["us"])
    replace(hit.stores["us"], name, GARBAGE)
    done = hit.repair()
    if kind in NOT_KNOWN_ELSEWHERE:
        assert "--override log_damaged" in done.regions["us"].left[name]
        assert hit.stores["us"].get(name) == GARBAGE
        assert not any(name.startswith(ASIDE) for name in contents(hit.stores["us"]))
    else:
        assert done.regions["us"].left == {}
        hit.require_whole("us")


def test_the_newest_slot_that_is_gone_while_another_region_knows_it_is_told_and_rejoined(hit: Hit) -> None:
    # fault 55
    stream, last = last_slot("log/points", hit.whole.stored["us"])
    replace(hit.stores["us"], layout.slot_name(stream, last - 1), None)
    replace(hit.stores["us"], layout.slot_name(stream, last), None)
    assert hit.found("us") == ["log/points/"]
    done = hit.repair()
    assert "refloat vault rejoin us" in done.regions["us"].left["log/points/"]


def test_a_key_that_is_gone_lets_no_log_be_taken_for_damaged(hit: Hit) -> None:
    # fault 2
    for region in REGIONS:
        for name in certificates(hit, region, Role.OPERATOR):
            replace(hit.stores[region], name, None)
    logs = {region: by_prefix(hit, region, "log/") for region in REGIONS}
    done = hit.repair("log_damaged")
    assert all(layout.KEYS in one.left for one in done.regions.values())
    assert {region: by_prefix(hit, region, "log/") for region in REGIONS} == logs


def certificates(hit: Hit, region: str, role: Role) -> list[str]:
    told = f'"role":"{role}"'.encode()
    return [
        name
        for name, content in hit.whole.stored[region].items()
        if name.startswith(layout.KEYS) and told in content
    ]


def by_prefix(hit: Hit, region: str, prefix: str) -> Objects:
    return {
        name: content for name, content in contents(hit.stores[region]).items() if name.startswith(prefix)
    }


@pytest.mark.parametrize(
    ("kind", "each"),
    [("log/points", 1), ("log/runs", 25), ("log/targets", 1), ("log/forgotten", 1), ("packs/", 1)],
)
def test_a_repair_that_was_cut_anywhere_is_ended_by_the_next(whole: Lived, kind: str, each: int) -> None:
    # fault 23
    name = first_of(kind, whole.stored["us"])
    cut: int | None = 0
    while cut is not None:
        hit = copied(whole, kind)
        replace(hit.stores["us"], name, flipped(whole.stored["us"][name]))
        cut = killed_at_change(hit, cut, each)
        done = hit.repair("log_damaged")
        assert {region: one.left for region, one in done.regions.items()} == {"eu": {}, "us": {}}
        hit.require_whole("us")
        us = hit.open().replicas["us"]
        claims = standing(us.log("targets/us", Role.OPERATOR))
        assert claims.epoch >= 1 and (claims.last is None or claims.last.released)
        assert whole.good in forgotten(us).good


def test_an_epoch_that_was_given_is_not_given_again_after_a_mend(whole: Lived) -> None:
    # fault 24
    hit = copied(whole, "log/targets")
    log = hit.open().replicas["us"].log("targets/us", Role.OPERATOR)
    given = standing(log).epoch
    for run in ("a", "b"):
        given += 1
        log.append({"type": "claimed", "run": run, "epoch": given, "holder": HOLDER})
        log.append({"type": "released", "run": run, "epoch": given})
    replace(hit.stores["us"], "log/targets/us/0000000000000000", GARBAGE)
    assert hit.repair("log_damaged").regions["us"].left == {}
    mended = standing(hit.open().replicas["us"].log("targets/us", Role.OPERATOR))
    assert mended.epoch >= given and mended.last is not None and mended.last.released


def test_a_target_that_a_run_holds_is_not_taken_from_it(whole: Lived) -> None:
    # fault 24
    hit = copied(whole, "log/targets")
    us = hit.open().replicas["us"]
    us.log("targets/us", Role.OPERATOR).append({"type": "claimed", "run": "a", "epoch": 9, "holder": HOLDER})
    journal = by_prefix(hit, "us", "log/runs/")
    started = us.log(min(journal)[len("log/") : -17], Role.OPERATOR).read(0).body
    us.log("runs/a", Role.OPERATOR).append(started)
    replace(hit.stores["us"], "log/targets/us/0000000000000000", GARBAGE)
    (why,) = hit.repair("log_damaged").regions["us"].left.values()
    assert "run a holds the target" in why
    assert "`refloat recover --to us --override claim_damaged` begins another" in why


HOLDER = {"host": "h", "boot": "b", "process": 1, "born": "1"}


def killed_at_change(hit: Hit, number: int, each: int) -> int | None:
    """Repair, and die before this change of what is stored; at which to die next, None where it came to its end."""
    left = number

    def dying(operation: Operation) -> None:
        nonlocal left
        if operation.writes:
            if not left:
                raise Crash
            left -= 1

    inner = hit.stores
    hit.stores = {region: FaultyStore(store, at_each=dying) for region, store in inner.items()}
    try:
        hit.repair("log_damaged")
    except Crash:
        return number + each
    finally:
        hit.stores = inner
    return None


# ------------------------------------------------------------------------------------------- damage in every region


def test_what_is_damaged_everywhere_is_captured_again_from_what_is_live(tmp_path: Path) -> None:
    # fault 3
    world = World.small(tmp_path)
    world.protect()
    pack = pack_of_files(world)
    for store in world.stores.values():
        replace(store, pack, flipped(store.get(pack)))
    for replica in world.vault().replicas.values():
        assert not check(replica, read_data=True).ok
        assert [damage.object for damage in check(replica, read_data=False).damaged] == [pack]
    made = world.protect()
    assert all(result.complete for result in made.regions.values())
    whole = Hit(Lived(world.key_file, {}, {}, world.clock), dict(world.stores))
    done = whole.repair()
    for region in REGIONS:
        assert done.regions[region].left == {}
        assert whole.found(region) == []
        assert everything(whole.open().replicas[region]).keys() == {
            point.name for point in world.vault().replicas[region].points()
        }


def test_a_pack_that_is_gone_everywhere_stops_no_capture(tmp_path: Path) -> None:
    # fault 3
    world = World.small(tmp_path)
    world.protect()
    pack = pack_of_files(world)
    for store in world.stores.values():
        store.delete(pack)
    made = world.protect()
    assert all(result.complete for result in made.regions.values())
    assert everything(world.vault().replicas["us"])[made.name]


def pack_of_files(world: World) -> str:
    """The largest pack."""
    sizes = layout.objects(world.stores["eu"], layout.PACKS)
    return max(sizes, key=lambda name: sizes[name])
