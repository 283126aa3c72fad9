"""Only the bytes: which point, from which region, and exactly what was captured."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from refloat.contracts import Facts
from refloat.errors import Missing, RefloatError, Refused, StoreError, UsageError, VaultError
from refloat.flows.into import Brought, bring, choose, manifest_name
from refloat.testing.world import World
from refloat.vault.stores.faulty import FaultyStore, Operation
from refloat.vault.vault import Vault


def brought(world: World, into: Path, *regions: str, **wishes: object) -> Brought:
    replicas = [world.vault().replicas[region] for region in regions or ("eu", "us")]
    return bring(choose(replicas, **wishes), into, world.clock)  # type: ignore[arg-type]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def spoil(world: World, region: str, kind: str) -> None:
    """Flip a bit in every object of a kind."""
    store = world.stores[region]
    for info in list(store.list(kind)):
        content = bytearray(store.get(info.name))
        content[len(content) // 2] ^= 1
        store.delete(info.name)
        store.create(info.name, bytes(content))


def test_every_component_is_there_exactly_as_captured_and_the_manifest_beside(tmp_path: Path) -> None:
    world = World.small(tmp_path / "world")
    made = world.protect()
    live = world.live("eu")
    shutil.rmtree(tmp_path / "world" / "eu")
    done = brought(world, tmp_path / "out")
    found = files(tmp_path / "out")
    for path, content in live.items():
        if path.startswith("pages/"):
            assert found[path.replace("pages/", "pages/content/", 1)] == content
    assert found["manifest/refloat.yaml"] == world.text
    assert {path.split("/")[0] for path in found} == {"pages", "ledger", "answers", "manifest"}
    for name, snapshot in made.point.components.items():
        part = done.components[name]
        assert (part.files, part.bytes) == (snapshot.files, snapshot.bytes)
        source = world.vault().replicas["us"].source(snapshot.tree, Facts())
        assert sorted(e.path for e in source.entries() if e.type == "file") == sorted(
            path.removeprefix(f"{name}/") for path in found if path.startswith(f"{name}/")
        )
    assert done.document()["into"] == str(tmp_path / "out")


def test_each_piece_comes_from_a_region_where_it_is_whole(tmp_path: Path) -> None:  # fault 2
    world = World.small(tmp_path / "world")
    world.protect()
    spoil(world, "eu", "packs/")
    done = brought(world, tmp_path / "out", "eu", "us")
    assert set(done.components) == {"pages", "ledger", "answers"}
    assert files(tmp_path / "out")["manifest/refloat.yaml"] == world.text


def test_bytes_that_are_whole_nowhere_are_never_written_and_the_rest_waits_until_they_are(
    tmp_path: Path,
) -> None:  # fault 2
    world = World.small(tmp_path / "world")
    world.protect()
    for region in ("eu", "us"):
        spoil(world, region, "packs/")
    with pytest.raises(VaultError) as failed:
        brought(world, tmp_path / "out")
    assert failed.value.component == "pages" and failed.value.region == "eu"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.refloat-partial", "world"]
    left = [path for path in tmp_path.glob(".out.refloat-partial/pages/**/*") if path.is_file()]
    assert left == [], "no file of which a piece is not to be had"


def test_a_damaged_log_stops_no_other_region_and_alone_names_its_rule(tmp_path: Path) -> None:  # fault 28
    world = World.small(tmp_path / "world")
    name = world.protect().name
    spoil(world, "eu", "log/points/")
    replicas = list(world.vault().replicas.values())
    chosen = choose(replicas)
    assert chosen.name == name and set(chosen.passed_over) == {"eu"}
    with pytest.raises(VaultError) as failed:
        choose(replicas[:1])
    assert "--override log_damaged" in str(failed.value.next)
    assert choose(replicas[:1], overrides={"log_damaged"}).name == name


def test_a_point_that_one_region_alone_holds_is_found_there(tmp_path: Path) -> None:
    world = World.small(tmp_path / "world")
    older = world.protect().name
    world.release(2)
    newer = world.protect(Vault({"eu": world.vault().replicas["eu"]}, {})).name
    replicas = [world.vault().replicas[region] for region in ("us", "eu")]
    assert choose(replicas).name == newer
    assert choose(replicas).replicas[0].region == "eu", "what holds the point is asked first"
    assert choose(replicas, point=older[:8]).name == older
    assert choose(replicas[:1]).name == older


def test_a_body_that_is_damaged_in_one_region_is_read_in_another(tmp_path: Path) -> None:
    world = World.small(tmp_path / "world")
    name = world.protect().name
    spoil(world, "eu", "points/")
    assert choose(list(world.vault().replicas.values())).name == name


def test_a_broken_point_is_refused_as_for_a_recovery(tmp_path: Path) -> None:
    world = World.small(tmp_path / "world")
    world.release(2, pages=7)
    broken = world.protect().name
    replicas = list(world.vault().replicas.values())
    with pytest.raises(Refused) as refused:
        choose(replicas, point=broken)
    assert refused.value.rule == "group_broken"
    assert choose(replicas, point=broken, overrides={"group_broken"}).name == broken


def test_only_what_is_named_is_brought_and_what_is_not_there_is_told(tmp_path: Path) -> None:
    world = World.small(tmp_path / "world")
    world.protect()
    done = brought(world, tmp_path / "out", only=["ledger"])
    assert set(done.components) == {"ledger"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"ledger", "manifest"}
    with pytest.raises(UsageError) as wrong:
        brought(world, tmp_path / "other", only=["legder"])
    assert wrong.value.next == "did you mean 'ledger'?"


def test_a_component_that_is_called_manifest_keeps_its_name(tmp_path: Path) -> None:
    world = World.small(tmp_path / "world")
    point = world.protect().point
    assert manifest_name(point) == "manifest"
    taken = point.model_copy(update={"components": {"manifest": point.components["ledger"]}})
    chosen = choose(list(world.vault().replicas.values()))
    bring(replace(chosen, point=taken, components=("manifest",)), tmp_path / "out", world.clock)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"manifest", "point-manifest"}
    assert (tmp_path / "out" / "point-manifest" / "refloat.yaml").read_bytes() == world.text


def test_a_region_that_stops_answering_is_asked_last_from_then_on(tmp_path: Path) -> None:
    world = World.small(tmp_path / "world")
    world.protect()
    asked: list[str] = []

    def silent(operation: Operation) -> None:
        if operation.name.startswith("packs/"):
            asked.append(operation.name)
            raise StoreError("no answer")

    vault = world.vault({"eu": FaultyStore(world.stores["eu"], at_each=silent)})
    chosen = choose(list(vault.replicas.values()))
    bring(chosen, tmp_path / "out", world.clock)
    assert len(asked) == 1
    assert (tmp_path / "out" / "manifest" / "refloat.yaml").exists()


def test_an_empty_vault_says_what_to_do(tmp_path: Path) -> None:
    world = World.small(tmp_path / "world")
    with pytest.raises(RefloatError, match="holds no point yet"):
        choose(list(world.vault().replicas.values()))


def test_a_lost_pack_names_what_to_do(tmp_path: Path) -> None:  # fault 3
    world = World.small(tmp_path / "world")
    world.protect()
    for region in ("eu", "us"):
        for info in list(world.stores[region].list("packs/")):
            world.stores[region].delete(info.name)
    with pytest.raises(Missing) as failed:
        brought(world, tmp_path / "out")
    assert failed.value.next
    assert not (tmp_path / "out").exists()
