"""One point that a person names is let go of: also one that cannot be read, so that a prune goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refloat.errors import Damaged, Refused, StoreError, UsageError, VaultError
from refloat.flows.forget import NAMED, ForgetPlan, forget, plan_forget, spared
from refloat.manifest.parse import parse
from refloat.testing.world import World
from refloat.vault import layout
from refloat.vault import points as vault_points
from refloat.vault.forgotten import forgotten, kept_points
from refloat.vault.prune import PrunePlan, plan_prune
from refloat.vault.vault import Vault
from refloat.vault.writer import Writer


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.small(tmp_path, group="")


def planned(
    world: World, point: str, *overrides: str, more: bytes = b"", vault: Vault | None = None
) -> ForgetPlan:
    manifest = parse(world.text)
    return plan_forget(manifest, vault or world.vault(), world.clock, named=point, overrides=overrides)


def prunes(world: World) -> tuple[PrunePlan, ...]:
    vault = world.vault()
    return plan_prune(vault, world.clock.now(), spared=spared(vault, world.clock))


def listed(world: World) -> list[list[str]]:
    return [[point.name for point in kept_points(replica)] for replica in world.vault().replicas.values()]


def forged(world: World, good: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the writer's own key: a body of another format than what it says, committed in both regions."""
    replicas = list(world.vault().replicas.values())
    body: dict[str, Any] = {**replicas[0].read_point(good), "format": 2}
    with monkeypatch.context() as patch:
        patch.setattr(vault_points, "_parsed", lambda content, what: body)
        with Writer(replicas) as writer:
            return writer.commit({**body, "created_at": world.clock.now().isoformat()})[0]


def test_a_signed_body_that_is_no_point_stops_a_prune_until_it_is_forgotten_by_name(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = world.protect().name
    bad = forged(world, good, monkeypatch)
    with pytest.raises(Damaged, match="signed, and malformed") as stopped:
        prunes(world)
    assert stopped.value.file == layout.point_name(bad)
    assert f"refloat points forget {bad[:12]}" in str(stopped.value.next)
    plan = planned(world, bad)
    assert plan.goes == {bad} and plan.unknown is None, "and what is freed then can be told"
    forget(world.vault(), plan)
    assert listed(world) == [[good]] * 2
    assert [layout.point_name(bad) in one.mark for one in prunes(world)] == [True] * 2
    assert world.recover().ok


@pytest.mark.parametrize("gone", [True, False])
def test_a_point_whose_body_is_nowhere_whole_is_forgotten_by_name(world: World, gone: bool) -> None:
    bad = world.protect().name
    world.release(2)
    good = world.protect().name
    for store in world.stores.values():
        store.delete(layout.point_name(bad))
        if not gone:
            store.create(layout.point_name(bad), b"rotten")
    with pytest.raises(Damaged) as stopped:
        prunes(world)
    assert f"refloat points forget {bad[:12]}" in str(stopped.value.next)
    forget(world.vault(), planned(world, bad))
    assert listed(world) == [[good]] * 2
    assert len(prunes(world)) == 2


def test_one_named_point_goes_on_record_and_every_other_stays(world: World) -> None:
    first = world.protect().name
    world.release(2)
    second = world.protect().name
    world.release(3)
    third = world.protect().name
    forget(world.vault(), planned(world, second[:20]))
    assert listed(world) == [[first, third]] * 2
    assert all(forgotten(one).points == {second: NAMED} for one in world.vault().replicas.values())
    with pytest.raises(UsageError, match="no point that is not forgotten begins with"):
        planned(world, second)


def test_the_last_good_point_goes_only_with_the_rule_named(world: World) -> None:
    only = world.protect().name
    with pytest.raises(Refused, match="newest") as refused:
        forget(world.vault(), planned(world, "latest"))
    assert refused.value.rule == "last_good" and listed(world) == [[only]] * 2
    forget(world.vault(), planned(world, only, "last_good"))
    assert listed(world) == [[]] * 2
    assert set(forgotten(world.vault().replicas["eu"]).accepted) == {"last_good"}


def test_a_hold_keeps_a_point_that_is_named(world: World) -> None:
    first = world.protect().name
    world.release(2)
    world.protect()
    manifest = parse(world.text)
    component = next(iter(manifest.components))
    held = {
        **manifest.components,
        component: manifest.components[component].model_copy(update={"hold": 86400.0}),
    }
    manifest = manifest.model_copy(update={"components": held})
    with pytest.raises(Refused, match=f"hold of {component}") as refused:
        plan_forget(manifest, world.vault(), world.clock, named=first, overrides=["last_good"])
    assert refused.value.rule == "point_kept"


def test_what_a_region_that_does_not_answer_may_have_whole_is_not_forgotten(world: World) -> None:
    bad = world.protect().name
    world.release(2)
    world.protect()
    world.stores["eu"].delete(layout.point_name(bad))
    vault = world.vault()
    away = Vault({"eu": vault.replicas["eu"]}, {"us": StoreError("it does not answer", region="us")})
    with pytest.raises(Refused, match="may be whole in us"):
        planned(world, bad, vault=away)


def test_a_point_that_a_newer_version_can_read_is_not_taken_for_a_lost_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = world.protect().name

    def read(*_: object, **__: object) -> None:
        raise layout.newer_format(layout.point_name(newer), 9)

    monkeypatch.setattr(vault_points, "parse_object", read)
    with pytest.raises(VaultError, match="written in vault format 9"):
        planned(world, newer, "last_good")
    with pytest.raises(Damaged) as stopped:
        prunes(world)
    assert "install a refloat that reads format 9" in str(stopped.value.next)
