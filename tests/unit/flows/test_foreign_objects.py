"""What lies in a vault and is not the vault's keeps no check, repair or prune from its end: it is set aside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from refloat.contracts import Store
from refloat.digest import canonical_json, object_name
from refloat.errors import Damaged, StoreError
from refloat.flows.mend_foreign import FOREIGN_OBJECTS
from refloat.flows.repair import Repair, repair_vault
from refloat.testing.world import World
from refloat.vault import holders, layout
from refloat.vault.aside import sound_entries
from refloat.vault.check import check
from refloat.vault.chunk import chunk_name, seal_chunk
from refloat.vault.foreign import OBJECT_SET_ASIDE, OBJECTS_ASIDE
from refloat.vault.index import seal_index
from refloat.vault.keys import KeyFile, Role
from refloat.vault.new_replica import make_replica
from refloat.vault.pack import CATALOGUE_KEY, seal_pack
from refloat.vault.prune import plan_prune, prune
from refloat.vault.replica import create_vault
from refloat.vault.replicate import catch_up, copy_objects
from refloat.vault.seal import Kind
from refloat.vault.stores.faulty import Crash, FaultyStore, Operation
from refloat.vault.stores.local import LocalStore
from refloat.vault.vault import Vault

REGIONS = ("eu", "us")
JUNK = b"somebody's notes\n" * 9
HASH = object_name(JUNK)
OTHER_HASH = object_name(b"of other bytes")
Objects = dict[str, bytes]


def world_in(root: Path, key_file: KeyFile | None = None) -> World:
    """The pipeline with one point, in a vault of two directories."""
    stores: dict[str, Store] = {region: LocalStore(root / f"vault-{region}") for region in REGIONS}
    world = World(root, group="", stores=stores)
    world.key_file = key_file or world.key_file
    world.release(1)
    create_vault(world.stores, world.key_file, world.clock, "small")
    world.protect()
    return world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return world_in(tmp_path)


def contents(store: Store) -> Objects:
    return {info.name: store.get(info.name) for info in store.list("")}


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """What lies in another vault."""
    world = world_in(tmp_path_factory.mktemp("another"), KeyFile.create("an0ther" * 3, "small"))
    return contents(world.stores["eu"])


def theirs(another: Objects, prefix: str) -> Objects:
    """One object of another vault below a prefix; of its keys one that says whose it is, as all do."""
    name = min(name for name in another if name.startswith(prefix))
    return {name: another[name]}


def found(world: World) -> dict[str, list[str]]:
    replicas = list(world.vault().replicas.values())
    return {
        one.region: [
            damage.object
            for damage in check(
                one, read_data=True, others=[other for other in replicas if other is not one]
            ).damaged
        ]
        for one in replicas
    }


def repaired(world: World, *overrides: str, opened: Callable[[], Vault] | None = None) -> Repair:
    opened = opened or world.vault
    return repair_vault(lambda _: opened(), world.clock, overrides=frozenset(overrides))


def audited(world: World, region: str) -> list[tuple[object, object]]:
    """What the audit of a region says was set aside: names, and the BLAKE3 of the bytes."""
    log = world.vault().replicas[region].log(layout.AUDIT_STREAM, Role.OPERATOR)
    said = [entry.body["objects"] for entry in sound_entries(log) if entry.body["type"] == OBJECT_SET_ASIDE]
    return [(one["object"], one["blake3"]) for objects in said for one in objects]  # type: ignore


def require_all_well(world: World, foreign: Objects, regions: tuple[str, ...] = REGIONS) -> None:
    """The check is ok, a prune works, and what was foreign lies aside with a word on it, and nowhere else."""
    assert found(world) == {region: [] for region in REGIONS}
    for plan in plan_prune(vault := world.vault(), world.clock.now()):
        prune(vault.replicas[plan.region], plan)
    for region in regions:
        store = world.stores[region]
        for name, content in foreign.items():
            assert store.size(name) is None
            assert store.get(OBJECTS_ASIDE + object_name(content)) == content
        assert sorted(audited(world, region)) == sorted(
            (name, object_name(content)) for name, content in foreign.items()
        )


NAMES = {
    "a file beside packs": f"{layout.PACKS}no/notes",
    "a pack that is none": layout.pack_name(HASH),
    "something under the name of a pack": layout.pack_name(OTHER_HASH),
    "a file beside index objects": f"{layout.INDEX}notes.txt",
    "an index object that is none": layout.index_name(HASH),
    "something under the name of an index object": layout.index_name(OTHER_HASH),
    "a file beside keys": f"{layout.KEYS}notes.txt",
    "a key object that is none": layout.key_name(HASH),
}
KINDS = [*NAMES, *(f"another vault's {prefix}" for prefix in (layout.KEYS, layout.PACKS, layout.INDEX))]


@pytest.mark.parametrize("hurt", [("us",), REGIONS])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_the_vaults_is_set_aside_and_all_is_well_again(
    world: World, kind: str, hurt: tuple[str, ...], another: Objects
) -> None:
    # faults 2, 20
    prefix = kind.rpartition(" ")[2]
    foreign = {NAMES[kind]: JUNK} if kind in NAMES else theirs(another, prefix)
    before = {region: contents(world.stores[region]) for region in REGIONS}
    for region in hurt:
        for name, content in foreign.items():
            world.stores[region].create(name, content)
    assert {region for region, wrong in found(world).items() if wrong} == set(hurt)
    with pytest.raises(Damaged, match="nothing is pruned"):
        plan_prune(world.vault(), world.clock.now())
    done = repaired(world)
    assert {region: one.left for region, one in done.regions.items()} == {"eu": {}, "us": {}}
    require_all_well(world, foreign, hurt)
    for region in REGIONS:
        assert before[region].items() <= contents(world.stores[region]).items()
    assert all(not one.mended for one in repaired(world).regions.values())


def test_a_repair_that_was_cut_anywhere_is_ended_by_the_next_and_says_nothing_twice(tmp_path: Path) -> None:
    # fault 23
    foreign = {NAMES["a file beside packs"]: JUNK, NAMES["a file beside keys"]: JUNK}
    for cut in range(100):
        root = tmp_path / str(cut)
        root.mkdir()
        world = world_in(root)
        for name, content in foreign.items():
            world.stores["us"].create(name, content)
        left = cut

        def dying(operation: Operation) -> None:
            nonlocal left
            if operation.writes:
                if not left:
                    raise Crash
                left -= 1

        stores: dict[str, Store] = {"us": FaultyStore(world.stores["us"], at_each=dying)}
        try:
            repaired(world, opened=lambda world=world, stores=stores: world.vault(stores))  # type: ignore
        except Crash:
            repaired(world)
            require_all_well(world, foreign, ("us",))
        else:
            break
    assert cut >= 4, "the copy, the audit and both removals"


def test_a_key_object_that_nobody_can_read_any_more_is_set_aside_when_a_person_says_so(world: World) -> None:
    # fault 2
    name = layout.key_name(OTHER_HASH)
    for store in world.stores.values():
        store.create(name, JUNK)
    for one in repaired(world).regions.values():
        assert "`refloat vault repair --override foreign_objects`" in one.left[name]
    assert all(store.get(name) == JUNK for store in world.stores.values())
    done = repaired(world, FOREIGN_OBJECTS)
    assert {region: one.left for region, one in done.regions.items()} == {"eu": {}, "us": {}}
    require_all_well(world, {name: JUNK})


def test_what_may_have_held_what_a_point_needs_is_not_set_aside_unasked(world: World) -> None:
    # faults 2, 20
    name = layout.pack_name(OTHER_HASH)
    world.stores["us"].create(name, JUNK)
    for store in world.stores.values():
        for gone in layout.objects(store, layout.PACKS):
            if gone != name:
                store.delete(gone)
    assert "--override foreign_objects" in repaired(world).regions["us"].left[name]
    assert world.stores["us"].get(name) == JUNK
    assert name not in repaired(world, FOREIGN_OBJECTS).regions["us"].left


def test_more_than_half_of_a_region_is_not_set_aside_unasked(world: World) -> None:
    # fault 2
    store = world.stores["us"]
    there = sum(len(layout.objects(store, prefix)) for prefix in (layout.KEYS, layout.PACKS, layout.INDEX))
    foreign = {f"{layout.INDEX}notes-{number}": JUNK for number in range(there + 1)}
    for name, content in foreign.items():
        store.create(name, content)
    left = repaired(world).regions["us"].left
    assert left.keys() == foreign.keys() and all("more than half" in why for why in left.values())
    assert repaired(world, FOREIGN_OBJECTS).regions["us"].left == {}
    require_all_well(world, foreign, ("us",))


NEWER = {
    "a pack": (layout.pack_name, Kind.PACK.header[:8] + b"\0\x07" + bytes(600)),
    "an index object": (layout.index_name, Kind.INDEX.header[:8] + b"\0\x07" + bytes(600)),
    "an index object of the format after a reduced one": (
        layout.index_name,
        Kind.INDEX.header[:8] + b"\0\x03" + bytes(600),
    ),
    "something under a name that is not of ours": (
        lambda name: f"{layout.INDEX}more-{name}",
        b"RFLTMORE\0\x01" + bytes(60),
    ),
    "a key object": (
        lambda name: f"{layout.KEYS}more-{name}",
        canonical_json({"format": 2, "vault": "5ma11" * 4}),
    ),
}


@pytest.mark.parametrize("kind", NEWER)
def test_what_a_newer_refloat_wrote_is_never_set_aside(world: World, kind: str) -> None:
    # fault 57
    name_of, content = NEWER[kind]
    name = name_of(object_name(content))
    world.stores["us"].create(name, content)
    done = repaired(world, FOREIGN_OBJECTS)
    assert "pip install --upgrade refloat" in done.regions["us"].left[name]
    assert world.stores["us"].get(name) == content


def test_what_a_killed_command_left_stays_for_the_prune(world: World) -> None:
    # fault 23
    before = set(contents(world.stores["us"]))
    points = {store: layout.objects(store, layout.POINTS) for store in world.stores.values()}
    world.release(2)
    world.protect()
    for (
        store,
        kept,
    ) in points.items():  # all but the index object, the body and the commit of the second point
        for name in set(layout.objects(store, layout.POINTS)) - set(kept):
            store.delete(name)
            store.delete(layout.slot_name(layout.POINTS_STREAM, 1))
        for name in layout.objects(store, layout.INDEX):
            if name not in before:
                store.delete(name)
    unlisted = {name for name in layout.objects(world.stores["us"], layout.PACKS) if name not in before}
    world.stores["us"].create(layout.point_name(OTHER_HASH), JUNK)
    world.stores["us"].create(NAMES["a file beside packs"], JUNK)
    assert unlisted
    assert set(repaired(world).regions["us"].mended) == {NAMES["a file beside packs"]}
    assert unlisted <= set(layout.objects(world.stores["us"], layout.PACKS))
    (plan,) = (plan for plan in plan_prune(world.vault(), world.clock.now()) if plan.region == "us")
    assert unlisted | {layout.point_name(OTHER_HASH)} <= set(plan.mark)


@pytest.mark.parametrize("damage", [lambda content: content[:-3], lambda content: JUNK])
def test_an_index_object_that_is_damaged_in_every_region_goes_when_its_packs_are_listed_anew(
    world: World, damage: Callable[[bytes], bytes]
) -> None:
    # faults 2, 3
    (name,) = layout.objects(world.stores["eu"], layout.INDEX)
    bad = damage(world.stores["eu"].get(name))
    for store in world.stores.values():
        store.delete(name)
        store.create(name, bad)
    done = repaired(world)
    assert {region: one.left for region, one in done.regions.items()} == {"eu": {}, "us": {}}
    require_all_well(world, {name: bad})
    assert all(layout.objects(store, layout.INDEX) for store in world.stores.values())


def test_who_may_not_sign_as_an_operator_sets_nothing_aside_and_says_whose_key_it_takes(world: World) -> None:
    # fault 2
    name = NAMES["a file beside packs"]
    world.stores["us"].create(name, JUNK)
    whole = world.key_file
    world.key_file = whole.model_copy(update={"operator": None})
    assert "operator" in repaired(world).regions["us"].left[name]
    assert world.stores["us"].get(name) == JUNK


def test_nothing_is_removed_whose_copy_is_not_whole(world: World) -> None:
    # fault 2
    name = NAMES["a file beside packs"]
    world.stores["us"].create(name, JUNK)
    world.stores["us"].create(OBJECTS_ASIDE + HASH, bytes(len(JUNK)))
    assert "not whole" in repaired(world).regions["us"].left[name]
    assert world.stores["us"].get(name) == JUNK


def test_what_a_credential_may_not_remove_is_left_and_the_rest_is_told(world: World) -> None:
    name = NAMES["a file beside packs"]
    world.stores["us"].create(name, JUNK)

    def refused(operation: Operation) -> None:
        if (operation.op, operation.name) == ("delete", name):
            raise StoreError("AccessDenied")

    denied = FaultyStore(world.stores["us"], at_each=refused)
    done = repaired(world, opened=lambda: world.vault({"us": denied}))
    assert "cannot be removed: AccessDenied" in done.regions["us"].left[name] and not done.unreachable


def test_what_a_writer_of_today_listed_is_not_taken_for_nothing(world: World) -> None:
    """A repair that goes on for long knows nobody who was vouched for since it began."""
    begun = world.vault()
    later = world.key_file.for_another(Role.WRITER)
    holders.add(world.vault(), world.key_file, later, "later", world.clock.now())
    world.key_file, whole = later, world.key_file
    keyring = world.vault().replicas["us"].keyring
    raw = b"of a folder, and of no point yet"
    chunk = seal_chunk(raw, chunk_name(keyring.chunk_name_key, raw), keyring.catalogue_key)
    pack = seal_pack(keyring, CATALOGUE_KEY, [chunk])
    index = seal_index(keyring, [(pack.record, pack.directory)])
    for store in world.stores.values():
        store.create(layout.pack_name(pack.record.name), pack.stored)
        store.create(layout.index_name(object_name(index)), index)
    listed = {info.name for info in world.stores["us"].list(layout.INDEX)}
    world.key_file = whole
    repaired(world, opened=lambda: begun)
    assert {info.name for info in world.stores["us"].list(layout.INDEX)} == listed


# ------------------------------------------------------------------------------------- keys of another vault stay there


def test_no_key_object_of_another_vault_is_brought_to_a_region(
    world: World, tmp_path: Path, another: Objects
) -> None:
    # fault 2
    objects = {name: one for name, one in another.items() if name.startswith(layout.KEYS)}
    assert len(objects) > 5
    for name, content in objects.items():
        world.stores["eu"].create(name, content)
    ours = min(layout.objects(world.stores["us"], layout.KEYS))
    world.stores["us"].delete(ours)
    eu, us = world.vault().replicas.values()
    catch_up(eu, us)
    copy_objects(eu, us)
    third = Place("third", LocalStore(tmp_path / "third"))
    make_replica(eu, third, key_file=world.key_file)
    copy_objects(Place("eu", eu.store), third)
    copy_objects(Place("eu", eu.store), Place("us", us.store))
    for store in (us.store, third.store):
        there = layout.objects(store, layout.KEYS)
        assert ours in there and not there.keys() & objects.keys()
    us.store.delete(ours)
    assert found(world)["us"] == [ours] or layout.KEYS in found(world)["us"]
    repaired(world)
    for store in world.stores.values():
        assert not layout.objects(store, layout.KEYS).keys() & objects.keys()
    assert found(world) == {"eu": [], "us": []}


class Place:
    """A replica that no key has opened."""

    def __init__(self, region: str, store: Store) -> None:
        self.region = region
        self.store = store


def test_no_pack_of_another_vault_is_brought_to_a_region_by_who_has_the_key(
    world: World, another: Objects
) -> None:
    # fault 2
    ((name, content),) = theirs(another, layout.PACKS).items()
    world.stores["eu"].create(name, content)
    eu, us = world.vault().replicas.values()
    assert name in catch_up(eu, us).damaged
    assert us.store.size(name) is None
