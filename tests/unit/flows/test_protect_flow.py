from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from refloat import registry
from refloat.connectors.files import Files
from refloat.errors import ConnectorError, StoreError
from refloat.flows import points
from refloat.point.model import Grade
from refloat.testing.world import World
from refloat.vault.stores.faulty import FaultyStore


def test_a_point_holds_everything_and_is_complete_in_every_region(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    made = world.protect()
    assert made.ok
    assert made.point.grade is Grade.EXACT
    assert {region: result.complete for region, result in made.regions.items()} == {"eu": True, "us": True}
    assert set(made.point.components) == {"pages", "ledger", "answers"}
    for replica in world.vault().replicas.values():
        assert points.read(replica, made.name) == made.point


def test_a_point_carries_the_manifest(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    made = world.protect()
    assert points.manifest_files(world.vault().replicas["us"], made.point) == {"refloat.yaml": world.text}


def test_what_did_not_change_is_carried_and_nothing_new_is_stored(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    first = world.protect()
    world.answer("a2")
    second = world.protect()
    assert {n for n, s in second.point.components.items() if s.carried} == {"pages", "ledger"}
    assert second.point.components["answers"].new_bytes > 0
    assert second.point.components["pages"].tree == first.point.components["pages"].tree
    assert second.point.components["pages"].as_of > first.point.components["pages"].as_of


def test_a_broken_invariant_is_committed_as_broken_and_not_ok(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    world.release(2, pages=7)
    made = world.protect()
    assert made.point.grade is Grade.BROKEN
    assert not made.ok
    (verdict,) = made.point.groups["serving"].invariants
    assert verdict.values == {"pages.current.version": 7, "ledger.version": 2}


def test_a_region_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    down = FaultyStore(world.stores["us"])
    vault = world.vault({"us": down})
    down.down = True
    made = world.protect(vault)
    assert made.regions["eu"].complete
    assert not made.regions["us"].complete and made.regions["us"].error
    assert not made.ok and made.copies == 1


def test_a_region_that_was_away_catches_up_with_the_next_point(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    down = FaultyStore(world.stores["us"])
    vault = world.vault({"us": down})
    down.down = True
    world.protect(vault)
    made = world.protect()
    assert made.ok
    assert world.recover().ok


def test_no_region_at_all_is_an_error(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    stores = {region: FaultyStore(store) for region, store in world.stores.items()}
    vault = world.vault(stores)
    for store in stores.values():
        store.down = True
    with pytest.raises(StoreError):
        world.protect(vault)


def test_without_an_earlier_point_a_component_that_is_gone_is_an_error(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    shutil.rmtree(tmp_path / "eu" / "pages")
    with pytest.raises(ConnectorError) as error:
        world.protect()
    assert error.value.component == "pages"
    assert world.vault().replicas["eu"].points() == []


def test_a_unit_that_cannot_be_captured_is_carried_over_whole(tmp_path: Path) -> None:  # fault 39
    world = World.small(tmp_path)
    first = world.protect()
    world.release(2)
    shutil.rmtree(tmp_path / "eu" / "pages")
    second = world.protect()
    assert set(second.errors) == {"pages"} and not second.ok
    for name in ("pages", "ledger"):  # one group: the ledger must not run ahead of the pages
        assert second.point.components[name].tree == first.point.components[name].tree
        assert second.point.components[name].as_of == first.point.components[name].as_of
    assert second.point.components["answers"].tree != first.point.components["answers"].tree
    assert second.point.groups["serving"].grade is Grade.EXACT


@pytest.mark.parametrize("call", ["inspect", "capture"])
@pytest.mark.parametrize(
    "defect",
    [
        ZeroDivisionError("division by zero"),
        UnicodeEncodeError("utf-8", "x\udcff", 1, 2, "surrogates not allowed"),
        OSError(28, "No space left on device"),
        sqlite3.DatabaseError("malformed"),
        MemoryError(),
    ],
    ids=lambda defect: type(defect).__name__,
)
def test_a_unit_whose_connector_has_a_defect_is_carried_over_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, defect: Exception
) -> None:  # fault 39
    world = World.small(tmp_path)
    first = world.protect()
    world.release(2)

    def raising(*_: object) -> None:
        raise defect

    monkeypatch.setattr(Files, call, raising)
    second = world.protect()
    assert not second.ok
    assert set(second.errors) == {"pages"}, "and no other component, nor the whole command"
    error = second.errors["pages"]
    assert isinstance(error, ConnectorError) and error.region == "eu"
    assert type(defect).__name__ in error.message and "defect" in error.next_step
    for name in ("pages", "ledger"):
        assert second.point.components[name].tree == first.point.components[name].tree
    assert not second.point.components["answers"].carried


def test_a_manifest_whose_settings_a_connector_cannot_even_read_costs_its_unit_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World.small(tmp_path)
    world.protect()
    settings = registry.connector("files").spec.settings

    def raising(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(settings, "model_validate", raising)
    made = world.protect()
    assert set(made.errors) == {"pages"} and "ZeroDivisionError" in made.errors["pages"].message


def test_an_interrupt_ends_the_protect_and_is_nobodys_defect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World.small(tmp_path)
    made = world.protect()
    world.release(2)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Files, "inspect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        world.protect()
    assert [point.name for point in world.vault().replicas["eu"].points()] == [made.name]
