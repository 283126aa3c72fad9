"""What the logs of several regions say of each other."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from refloat.digest import object_name
from refloat.testing.world import World
from refloat.units import format_time
from refloat.vault.keys import Role
from refloat.vault.layout import POINTS_STREAM
from refloat.vault.points import committing_entry
from refloat.vault.replica import BEFORE_ALL
from refloat.vault.witness import lost_points, rolled_back


def protected(root: Path, points: int) -> World:
    world = World.small(root)
    for number in range(points):
        world.answer(f"more-{number}")
        world.protect()
    return world


def cut(world: World, region: str, slot: int) -> None:
    world.stores[region].delete(f"log/points/{slot:016d}")


def witnessed(world: World) -> dict[str, tuple[int, int]]:
    return rolled_back(list(world.vault().replicas.values()))


def test_logs_that_agree_contradict_nobody(tmp_path: Path) -> None:
    assert witnessed(protected(tmp_path, 3)) == {}


def test_a_log_that_lost_its_end_is_shorter_than_another_region_saw_it(tmp_path: Path) -> None:
    world = protected(tmp_path, 4)
    cut(world, "us", 3)
    cut(world, "us", 2)
    assert witnessed(world) == {"us": (3, 2)}


def test_a_log_that_was_cut_and_written_on_since_is_still_contradicted(tmp_path: Path) -> None:
    world = protected(tmp_path, 4)
    for slot in (3, 2, 1):
        cut(world, "us", slot)
    for _ in range(4):
        world.protect()
    seen, left = witnessed(world)["us"]
    assert seen > left == 1


def test_a_log_that_cannot_be_read_contradicts_nobody_and_is_contradicted_by_nobody(tmp_path: Path) -> None:
    world = protected(tmp_path, 3)
    cut(world, "us", 0)
    assert witnessed(world) == {}
    assert lost_points(list(world.vault().replicas.values()), BEFORE_ALL) == []


def pinned(world: World) -> World:
    """The key file has seen what there is now."""
    heads = {replica.region: replica.points()[-1] for replica in world.vault().replicas.values()}
    world.key_file = world.key_file.with_heads({r: (point.slot, point.hash) for r, point in heads.items()})
    return world


def test_regions_that_were_all_put_back_at_once_are_contradicted_by_the_key_file(tmp_path: Path) -> None:
    # fault 54
    world = pinned(protected(tmp_path, 3))
    assert witnessed(world) == {}
    for region in ("eu", "us"):
        for slot in (2, 1):
            cut(world, region, slot)
    assert witnessed(world) == {"eu": (3, 1), "us": (3, 1)}


def test_a_key_file_of_long_ago_still_contradicts_what_is_older(tmp_path: Path) -> None:
    # fault 54
    world = pinned(protected(tmp_path, 2))
    for _ in range(3):
        world.protect()
    assert witnessed(world) == {}
    for region in ("eu", "us"):
        for slot in (4, 3, 2, 1):
            cut(world, region, slot)
    assert witnessed(world) == {"eu": (2, 1), "us": (2, 1)}


def test_a_log_that_was_put_back_and_written_on_is_contradicted_by_the_key_file_alone(tmp_path: Path) -> None:
    # fault 54
    world = protected(tmp_path, 2)
    alone = {"eu": world.stores["eu"]}
    world.stores = alone
    world = pinned(world)
    cut(world, "eu", 1)
    for _ in range(3):
        world.protect()
    assert witnessed(world) == {"eu": (2, 1)}


# ---------------------------------------------------------------------------------------------- newer and lost


def commit(world: World, name: str, minute: int, **seen: tuple[int, str]) -> datetime:
    """Let the log of ``us`` commit a point that was captured in that minute, and saw these heads; when that was."""
    made = datetime(2026, 11, 1, 12, minute, tzinfo=UTC)
    heads = {
        region: {"slot": slot, "hash": digest(point), "point": digest(point)}
        for region, (slot, point) in seen.items()
    }
    body = {"created_at": format_time(made), "groups": {}}
    log = world.vault().replicas["us"].log(POINTS_STREAM, Role.WRITER)
    log.append(committing_entry(digest(name), body, heads))
    return made


def digest(name: str) -> str:
    return object_name(name.encode())


def lost(world: World, than: datetime) -> list[str]:
    return lost_points([world.vault().replicas["us"]], than)


def test_a_point_that_only_a_lost_region_had_is_newer_than_what_was_made_before_it(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    chosen = commit(world, "chosen", 1, eu=(0, "both"))
    commit(world, "both", 0)
    commit(world, "after", 3, eu=(1, "gone"))
    assert lost(world, chosen) == [digest("gone")]


def test_it_is_not_newer_than_what_was_made_after_it_and_said_to_be_so_of_nothing(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    commit(world, "both", 0)
    commit(world, "before", 1, eu=(0, "both"))
    after = commit(world, "after", 3, eu=(1, "gone"))
    assert lost(world, after) == []


def test_where_nobody_saw_how_far_the_lost_region_was_nothing_is_called_newer(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    alone = commit(world, "eu did not answer", 1)
    commit(world, "after", 3, eu=(1, "gone"))
    assert lost(world, alone) == []
