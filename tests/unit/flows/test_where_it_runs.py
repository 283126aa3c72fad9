"""After a recovery the pipeline runs elsewhere: what is protected, carried and told from then on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from refloat.errors import ConnectorError, Refused
from refloat.flows.components import Components
from refloat.flows.points import MANIFEST
from refloat.flows.prepare import Wanted, prepare, target
from refloat.flows.protect import Protected, protect
from refloat.flows.status import status
from refloat.manifest.parse import parse
from refloat.point.model import Grade
from refloat.testing.world import World

GROUP_OF_TWO = """\
groups:
  serving:
    members: [pages, ledger]
    must: [{must}]
"""


def moved(root: Path) -> World:
    """A world that was protected in eu and recovered in us, where it was protected again."""
    world = World.small(root)
    world.protect()
    assert world.recover().ok
    return world


def protect_in(world: World, region: str | None) -> Protected:
    return protect(world.components(), {MANIFEST: world.text}, world.vault(), world.clock, region=region)


def points_in(world: World, region: str = "us") -> list[str]:
    return [point.name for point in world.vault().replicas[region].points()]


def test_the_stale_primary_is_not_protected_over_the_recovered_pipeline(tmp_path: Path) -> None:
    world = moved(tmp_path)
    before = points_in(world)
    with pytest.raises(Refused) as refused:
        protect_in(world, None)
    assert refused.value.rule == "primary_moved"
    assert "--region us" in (refused.value.next or "")
    assert points_in(world) == before


@pytest.mark.parametrize("region", ["us", "eu"])
def test_a_region_that_is_named_is_protected(tmp_path: Path, region: str) -> None:
    world = moved(tmp_path)
    assert protect_in(world, region).point.primary == region


def test_losing_the_region_where_it_was_recovered_is_no_longer_free(tmp_path: Path) -> None:
    world = moved(tmp_path)
    world.clock.sleep(20)
    told = status(world.manifest, world.vault(), world.clock)
    assert told.runs_in == "us"
    assert (told.exposure("us")[0] or 0) >= 20
    assert told.exposure("eu")[0] == 0


@pytest.mark.parametrize(("to", "asked"), [("us", ["us", "eu"]), ("eu", ["us"])])
def test_whether_something_still_serves_is_asked_where_the_point_was_made_and_in_the_primary(
    tmp_path: Path, to: str, asked: list[str]
) -> None:
    world = moved(tmp_path)
    protect_in(world, "us")
    prepared = prepare(world.vault().replicas[to], Wanted(to), world.resolver)
    assert list(target(prepared, tmp_path).source_health()) == asked


def test_nothing_is_carried_from_a_point_of_another_region(tmp_path: Path) -> None:
    world = moved(tmp_path)
    shutil.rmtree(tmp_path / "eu" / "pages")
    before = points_in(world)
    with pytest.raises(ConnectorError) as error:
        protect_in(world, "eu")  # the point before was made in us, and holds the addresses of us
    assert error.value.component == "pages"
    assert points_in(world) == before


def test_a_point_in_which_nothing_was_captured_is_not_made(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    world.protect()
    shutil.rmtree(tmp_path / "eu")
    before = points_in(world)
    with pytest.raises(ConnectorError):
        world.protect()
    assert points_in(world) == before


def test_a_snapshot_of_another_kind_is_not_carried(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    world.protect()
    was = (
        b'kind: sqlite\n    with: {path: "${region.root}/ledger.db", '
        b'select: {version: "SELECT max(version) FROM release"}}'
    )
    text = world.text.replace(was, b'kind: files\n    with: {path: "${region.root}/gone"}')
    assert text != world.text
    components = Components(parse(text), world.resolver())
    with pytest.raises(ConnectorError) as error:
        protect(components, {MANIFEST: text}, world.vault(), world.clock)
    assert error.value.component == "ledger"


@pytest.mark.parametrize(
    ("must", "grade"),
    [
        ("pages.current.version == ledger.version", Grade.EXACT),
        ("pages.current.version == 7", Grade.BROKEN),
    ],
)
def test_a_group_that_is_carried_is_held_to_the_invariants_of_today(
    tmp_path: Path, must: str, grade: Grade
) -> None:
    world = World.small(tmp_path)
    world.protect()
    world.group = GROUP_OF_TWO.format(must=must)
    shutil.rmtree(tmp_path / "eu" / "pages")
    made = world.protect()
    assert made.point.groups["serving"].grade is grade
    assert [verdict.must for verdict in made.point.groups["serving"].invariants] == [must]
