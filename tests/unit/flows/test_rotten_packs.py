"""A pack that rotted: whoever comes upon it marks it, it is read elsewhere, and no capture relies on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from refloat.contracts import Facts, Store
from refloat.errors import Damaged, Retry, StoreError
from refloat.flows import export as exports
from refloat.flows import points
from refloat.flows.prepare import Wanted, prepare
from refloat.flows.recover import Recovered, prepare_again, recover, runs_of
from refloat.flows.repair import Repair, repair_vault
from refloat.limits import OBJECT_BYTES_MAX
from refloat.testing.world import World
from refloat.vault import layout
from refloat.vault.anywhere import Anywhere
from refloat.vault.check import check
from refloat.vault.indexrun import Location
from refloat.vault.pack import CATALOGUE_KEY
from refloat.vault.quarantine import quarantine, quarantined
from refloat.vault.repair_names import repair_by_names
from refloat.vault.replica import WHOLE_READS_MAX, create_vault
from refloat.vault.stores import open_store
from refloat.vault.stores.faulty import Crash, FaultyStore, Operation
from refloat.vault.tree import chunk_names

REGIONS = ("eu", "us")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A pipeline whose vault lies in two folders and has one point."""
    stores: dict[str, Store] = {region: open_store(str(tmp_path / "vaults" / region)) for region in REGIONS}
    world = World(tmp_path / "pipeline", group="", stores=stores)
    world.release(1)
    create_vault(world.stores, world.key_file, world.clock, "small")
    world.protect()
    return world


def places(world: World, region: str, part: str, *, folders: bool = False) -> list[Location]:
    """Where the contents, or the folders, of a component or of the manifest lie in a region."""
    replica = world.vault().replicas[region]
    point = points.read(replica, replica.points()[-1].name)
    tree = point.manifest if part == "manifest" else point.components[part].tree
    names = list(chunk_names(bytes.fromhex(tree), replica.read_chunk))
    found = [place for name in names for place in replica.index.locations(name)]
    return [place for place in found if (place.pack.key_id == CATALOGUE_KEY) is folders]


def rot(world: World, region: str, part: str = "pages", *, folders: bool = False) -> list[str]:
    """Flip a bit of each piece of a component, or of its folders; the packs that are hurt."""
    hurt = []
    for place in places(world, region, part, folders=folders):
        hurt.append(layout.pack_name(place.pack.name))
        bit = 8 * (place.offset + place.stored_length // 2)
        FaultyStore(world.stores[region]).flip_bit(hurt[-1], bit)
    return sorted(set(hurt))


def marked(world: World, region: str) -> list[str]:
    return sorted(quarantined(world.stores[region]))


def repaired(world: World) -> Repair:
    """As ``refloat vault repair`` does, which reads no pack that nobody marked."""
    return repair_vault(lambda silent: world.vault(), world.clock)


def is_whole(world: World, region: str) -> bool:
    return not check(world.vault().replicas[region], read_data=True).damaged


def told(done: Recovered) -> str:
    remarks = done.document()["remarks"]
    assert isinstance(remarks, list)
    return "\n".join(map(str, remarks))


class Short(FaultyStore):
    """Gives all of a pack but its last byte, as a connection does that breaks off in silence."""

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        content = super().get(name, start, length)
        return content[:-1] if name.startswith(layout.PACKS) else content


class Sick(FaultyStore):
    """Gives no more than a part of a pack at a time, until it is ``well``."""

    well = False
    refused = 0

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        if not self.well and name.startswith(layout.PACKS) and (length is None or length > OBJECT_BYTES_MAX):
            self.refused += 1
            raise StoreError("the region is sick")
        return super().get(name, start, length)


class ReadOnly(FaultyStore):
    """Takes no write below the quarantine."""

    def create(self, name: str, content: bytes | memoryview) -> object:  # type: ignore[override]
        if name.startswith("quarantine/"):
            raise StoreError("this key may not write there")
        return super().create(name, content)


# ------------------------------------------------------------------------------------------------ read elsewhere


@pytest.mark.parametrize("folders", [False, True], ids=["contents", "folders"])
def test_a_recovery_reads_what_rotted_in_its_region_in_another_and_says_so(
    world: World, folders: bool
) -> None:  # fault 2
    before, hurt = world.live("eu"), rot(world, "us", folders=folders)
    done = world.recover()
    assert done.ok and world.live("us") == before
    assert "us has not whole what was read in eu instead" in told(done) and hurt[0] in told(done)
    assert marked(world, "us") == sorted(hurt) and not marked(world, "eu")


def test_a_recovery_reads_the_manifest_elsewhere_too(world: World) -> None:
    before, hurt = world.live("eu"), rot(world, "us", "manifest")
    done = world.recover()
    assert done.ok and world.live("us") == before and hurt[0] in told(done)


def test_a_recovery_reads_in_a_region_too_that_was_opened_after_it_was_planned(world: World) -> None:
    before, hurt = world.live("eu"), rot(world, "us")
    vault = world.vault()
    planned = prepare(vault.replicas["us"], Wanted("us"), world.resolver)
    done = recover(planned, vault, world.clock)
    assert done.ok and world.live("us") == before and hurt[0] in told(done)


def test_a_recovery_reads_a_pack_that_is_gone_in_another_region(world: World) -> None:
    before = world.live("eu")
    (lost,) = {layout.pack_name(place.pack.name) for place in places(world, "us", "pages")}
    world.stores["us"].delete(lost)
    done = world.recover()
    assert done.ok and world.live("us") == before and lost in told(done)


def test_a_recovery_of_a_region_that_is_whole_says_nothing_and_marks_nothing(world: World) -> None:
    rot(world, "eu")
    done = world.recover()
    assert done.ok and "instead" not in told(done)
    assert not marked(world, "us")


def test_an_export_reads_elsewhere_marks_and_remarks(world: World, tmp_path: Path) -> None:
    hurt = rot(world, "us")
    replicas = world.vault().replicas
    reader = Anywhere([replicas["us"], replicas["eu"]])
    name, body, _ = points.find([replicas["us"]], "latest")
    exports.export(
        exports.Export(name, exports.parts_of(body, None, "pages")), reader, tmp_path / "out", world.clock
    )
    (remark,) = reader.remarks()
    assert hurt[0] in remark and marked(world, "us") == hurt
    assert (tmp_path / "out" / "pages" / "content" / "current.json").is_file()


# --------------------------------------------------------------------------------------------------- what is no rot


def test_an_answer_that_is_cut_short_is_no_rot(world: World) -> None:  # fault 2
    before = world.live("eu")
    short = Short(world.stores["us"])
    assert check(world.vault({"us": short}).replicas["us"], read_data=True).damaged
    done = world.recover(world.vault({"us": short}))
    assert done.ok and world.live("us") == before
    assert not marked(world, "us")


def test_a_pack_that_cannot_be_read_whole_is_not_judged_before_it_can(world: World) -> None:
    before, hurt = world.live("eu"), rot(world, "us")
    us = Sick(world.stores["us"])
    replica = world.vault({"us": us}).replicas["us"]
    point = points.read(replica, replica.points()[-1].name)
    pages = replica.source(point.components["pages"].tree, Facts())
    for marks in ([], hurt):
        with pytest.raises(Damaged):
            pages.open("content/current.json").read()
        assert marked(world, "us") == marks
        us.well = True
    assert world.recover().ok and world.live("us") == before


def test_a_pack_that_cannot_be_read_whole_is_not_tried_again_for_each_of_its_pieces(
    world: World,
) -> None:  # fault 2
    (hurt,) = rot(world, "us")
    us = Sick(world.stores["us"])
    replica = world.vault({"us": us}).replicas["us"]
    tree = points.read(replica, replica.points()[-1].name).components["pages"].tree
    names = dict.fromkeys(chunk_names(bytes.fromhex(tree), replica.read_chunk))
    bad = [name for name in names if next(replica.index.locations(name)).pack.key_id != CATALOGUE_KEY]
    for name in [*bad, *bad]:
        with pytest.raises(Damaged, match=hurt):
            replica.read_chunk(name)
    assert len(bad) > 1 and us.refused == WHOLE_READS_MAX


def test_who_may_not_write_a_mark_goes_on_all_the_same(world: World) -> None:
    before = world.live("eu")
    rot(world, "us")
    done = world.recover(world.vault({"us": ReadOnly(world.stores["us"])}))  # type: ignore[dict-item]
    assert done.ok and world.live("us") == before
    assert not marked(world, "us")


# ----------------------------------------------------------------------------------------------------------- mended


def test_a_plain_repair_mends_what_a_recovery_came_upon(world: World) -> None:  # fault 2
    hurt = rot(world, "us")
    assert not check(world.vault().replicas["us"], read_data=False).damaged, "nobody has read it yet"
    world.recover()
    assert [damage.object for damage in check(world.vault().replicas["us"], read_data=False).damaged] == hurt
    assert repaired(world).regions["us"].mended == dict.fromkeys(hurt, "eu")
    assert is_whole(world, "us") and not marked(world, "us")


def test_a_plain_repair_without_a_key_mends_it_too(world: World) -> None:  # fault 2
    hurt = rot(world, "us")
    replicas = world.vault().replicas
    world.recover()
    done = repair_by_names(replicas["us"], [replicas["eu"]], read_data=False)
    assert {name: done.mended.get(name) for name in hurt} == dict.fromkeys(hurt, "eu")
    assert is_whole(world, "us") and not marked(world, "us")


@pytest.mark.parametrize("mended", [False, True], ids=["at once", "after a repair"])
def test_what_rotted_everywhere_fails_a_recovery_and_is_captured_anew(
    world: World, mended: bool
) -> None:  # fault 2
    before = world.live("eu")
    hurt = [rot(world, region) for region in REGIONS]
    failed = world.recover()
    assert failed.evidence.state == "rolled_back" and failed.failure is not None
    assert failed.failure["component"] == "pages"
    assert "refloat protect" in str(failed.failure["next"])
    assert hurt[1][0] in str(failed.failure["message"])
    assert [marked(world, region) for region in REGIONS] == hurt
    if mended:
        repaired(world)
    made = world.protect()
    assert {region: result.complete for region, result in made.regions.items()} == {"eu": True, "us": True}
    done = world.recover()
    assert done.ok and done.evidence.point == made.name and world.live("us") == before
    assert not told(done)


def test_a_capture_relies_no_more_on_what_it_found_rotten_itself(world: World) -> None:  # fault 2
    hurt = rot(world, "eu", folders=True)
    made = world.protect()
    assert {region: result.complete for region, result in made.regions.items()} == {"eu": False, "us": True}
    assert "refloat vault repair" in str(made.regions["eu"].error)
    assert repaired(world).regions["eu"].mended == dict.fromkeys(hurt, "us")
    assert all(result.complete for result in world.protect().regions.values())


# ---------------------------------------------------------------------------------------------------------- going on


@pytest.mark.parametrize("turn_back", ["", "a person put it back"])
def test_a_recovery_that_read_elsewhere_and_was_killed_is_gone_on_with_or_put_back(
    world: World, turn_back: str
) -> None:  # fault 2
    before, empty = world.live("eu"), world.live("us")
    rot(world, "us")

    def once_eu_was_read(operation: Operation) -> None:
        read = any(each.name.startswith(layout.PACKS) for each in there.trace)
        if read and operation.writes and operation.name.startswith("log/runs/"):
            here.crash(operation.number)

    there = FaultyStore(world.stores["eu"])
    here = FaultyStore(world.stores["us"], at_each=once_eu_was_read)
    with pytest.raises(Crash):
        world.recover(world.vault({"us": here, "eu": there}))
    vault = world.vault()
    (run,) = runs_of(vault.replicas["us"], "us")
    others = list(vault.replicas.values())
    begun = prepare_again(vault.replicas["us"], run, world.resolver, world.clock, others)
    done = recover(begun, vault, world.clock, run=run, turn_back=turn_back)
    assert done.evidence.state == ("rolled_back" if turn_back else "done")
    assert world.live("us") == (empty if turn_back else before)


class CutShort(FaultyStore):
    """Gives two thirds of a pack that is read whole, in silence."""

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        content = super().get(name, start, length)
        whole = name.startswith(layout.PACKS) and (length is None or length > OBJECT_BYTES_MAX)
        return content[: 2 * len(content) // 3] if whole else content


def test_a_repair_whose_reads_are_cut_short_everywhere_removes_nothing(world: World) -> None:  # fault 2
    before = {region: {info.name for info in world.stores[region].list(layout.PACKS)} for region in REGIONS}
    cut = {region: CutShort(store) for region, store in world.stores.items()}
    done = repair_vault(lambda silent: world.vault(cut), world.clock, read_data=True)
    assert any(one.left for one in done.regions.values()) and not any(
        one.mended for one in done.regions.values()
    )
    assert {
        region: {info.name for info in world.stores[region].list(layout.PACKS)} for region in REGIONS
    } == before
    assert all(is_whole(world, region) for region in REGIONS)


def test_a_repair_without_a_key_lets_out_what_was_only_read_badly(world: World) -> None:
    (pack, *_) = places(world, "us", "pages")
    name = layout.pack_name(pack.pack.name)
    quarantine(world.stores["us"], name)
    replicas = world.vault().replicas
    repair_by_names(replicas["us"], [replicas["eu"]], read_data=False)
    assert marked(world, "us") == [] and is_whole(world, "us")


def test_while_a_region_is_silent_nothing_is_said_to_be_gone(world: World) -> None:
    (pack, *_) = {place.pack.name for place in places(world, "us", "pages")}
    world.stores["eu"].delete(layout.pack_name(pack))
    us = world.vault().replicas["us"]
    names = chunk_names(bytes.fromhex(pages_tree(world)), us.read_chunk)
    chunk = next(name for name in names if any(at.pack.name == pack for at in us.index.locations(name)))
    replicas = world.vault({"us": FaultyStore(world.stores["us"], at_each=silent_of_packs)}).replicas
    reader = Anywhere(replicas[region] for region in ("us", "eu"))
    for _ in range(2):
        with pytest.raises(StoreError, match="us is silent"):
            reader.read_chunk(chunk)


def silent_of_packs(operation: Operation) -> None:
    if operation.name.startswith(layout.PACKS):
        raise StoreError("us is silent", retry=Retry.LATER)


def pages_tree(world: World) -> str:
    replica = world.vault().replicas["us"]
    return points.read(replica, replica.points()[-1].name).components["pages"].tree
