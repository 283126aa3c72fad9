"""Recovering some components only: said to be partial, and beside the rest of a group where its invariants hold."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from refloat.connectors.files import Files
from refloat.connectors.sqlite import SQLite
from refloat.contracts import Facts, Place
from refloat.errors import ConnectorError, Interrupted, Retry
from refloat.evidence.render import headline
from refloat.flows.points import MANIFEST
from refloat.flows.prepare import Wanted, prepare
from refloat.flows.protect import protect
from refloat.flows.recover import Recovered, prepare_again, recover, runs_of
from refloat.run.engine import OnEvent
from refloat.run.state import AnyRecord
from refloat.testing.world import GROUP, World


def recover_only(
    world: World,
    *only: str,
    to: str = "us",
    overrides: frozenset[str] = frozenset(),
    on_event: OnEvent | None = None,
) -> Recovered:
    vault = world.vault()
    wanted = Wanted(to, only=only, overrides=overrides)
    prepared = prepare(vault.replicas[to], wanted, world.resolver)
    return recover(prepared, vault, world.clock, overrides=overrides, on_event=on_event)


def recovered_and_released_since(root: Path) -> World:
    """A world whose ``us`` holds the first release, while the newest point holds the second."""
    world = World.small(root)
    world.protect()
    assert world.recover().ok
    world.release(2)
    files = {MANIFEST: world.text}
    assert protect(world.components(), files, world.vault(), world.clock, region="eu").ok
    return world


def test_a_part_of_a_group_is_not_put_beside_the_rest_from_another_moment(tmp_path: Path) -> None:
    world = recovered_and_released_since(tmp_path)
    before = world.live("us")
    done = recover_only(world, "pages")
    assert done.evidence.state == "blocked"
    assert done.failure is not None and done.failure["rule"] == "group_split"
    assert "--only ledger" in str(done.failure["next"])
    assert "`pages.current.version == ledger.version` does not hold" in str(done.failure["message"])
    assert world.live("us") == before


def test_the_whole_group_may_be_recovered_alone(tmp_path: Path) -> None:
    world = recovered_and_released_since(tmp_path)
    done = recover_only(world, "pages", "ledger")
    assert done.evidence.state == "done" and "partial" in done.evidence.flags
    assert headline(done.evidence).startswith("ledger, pages of small is back in us")


def test_what_is_in_no_group_may_be_recovered_alone(tmp_path: Path) -> None:
    assert recover_only(recovered_and_released_since(tmp_path), "answers").evidence.state == "done"


def test_where_nothing_of_the_rest_is_there_nothing_is_mixed(tmp_path: Path) -> None:
    world = World.small(tmp_path)
    world.protect()
    assert recover_only(world, "pages").evidence.state == "done"


def test_a_person_may_mix_them_by_name(tmp_path: Path) -> None:
    world = recovered_and_released_since(tmp_path)
    done = recover_only(world, "pages", overrides=frozenset({"group_split"}))
    assert done.evidence.state == "done" and done.evidence.overrides == ("group_split",)


# ------------------------------------------------------------------------------- what is lost of a live pipeline


def without_its_ledger(root: Path, *, group: str = GROUP) -> tuple[World, dict[str, bytes]]:
    """A protected pipeline of which one database is gone, and what was live before."""
    world = World.small(root, group=group)
    world.protect()
    before = world.live("eu")
    (root / "eu" / "ledger.db").unlink()
    return world, before


def test_one_component_that_was_lost_comes_back_beside_what_still_belongs_to_it(tmp_path: Path) -> None:
    world, before = without_its_ledger(tmp_path)
    done = recover_only(world, "ledger", to="eu")
    assert done.evidence.state == "done", done.failure
    assert world.live("eu") == before


def test_what_has_moved_on_since_is_named_before_anything_is_staged(tmp_path: Path) -> None:
    world, _ = without_its_ledger(tmp_path)
    (tmp_path / "eu" / "pages" / "current.json").write_text('{"version": 2}')
    before = world.live("eu")
    done = recover_only(world, "ledger", to="eu")
    assert (done.evidence.state, world.live("eu")) == ("blocked", before)
    assert done.failure is not None and done.failure["rule"] == "group_split"
    assert "pages would stay as it is, and `pages.current.version == ledger.version`" in str(
        done.failure["message"]
    )


def test_what_moves_on_while_it_is_staged_is_found_before_anything_is_switched(tmp_path: Path) -> None:
    world, _ = without_its_ledger(tmp_path)

    def moved_on(record: AnyRecord) -> None:
        if getattr(record, "step", None) == "stage.stage:ledger":
            (tmp_path / "eu" / "pages" / "current.json").write_text('{"version": 2}')

    done = recover_only(world, "ledger", to="eu", on_event=moved_on)
    assert done.evidence.state == "rolled_back" and "ledger.db" not in world.live("eu")
    assert done.failure is not None and done.failure["rule"] == "group_split"
    assert "`pages.current.version == ledger.version` does not hold" in str(done.failure["message"])


def test_what_moves_on_while_a_run_is_down_is_found_when_it_goes_on(tmp_path: Path) -> None:
    world, _ = without_its_ledger(tmp_path)

    def killed(record: AnyRecord) -> None:
        if getattr(record, "step", None) == "activate.activate:ledger":
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        recover_only(world, "ledger", to="eu", on_event=killed)
    (tmp_path / "eu" / "pages" / "current.json").write_text('{"version": 2}')
    vault = world.vault()
    (run,) = runs_of(vault.replicas["eu"], "eu")
    again = prepare_again(vault.replicas["eu"], run, world.resolver, world.clock)
    done = recover(again, vault, world.clock, run=run)
    assert done.evidence.state == "rolled_back" and "ledger.db" not in world.live("eu")
    assert done.failure is not None and done.failure["rule"] == "group_split"


def test_what_may_pass_when_what_stays_is_looked_at_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, before = without_its_ledger(tmp_path)
    real, calls = Files.inspect, itertools.count(1)

    def busy(files: Files, place: Place) -> Facts:
        if place.region == "eu" and next(calls) == 1:
            raise ConnectorError("somebody writes", retry=Retry.NOW, next="again")
        return real(files, place)

    monkeypatch.setattr(Files, "inspect", busy)
    done = recover_only(world, "ledger", to="eu")
    assert done.evidence.state == "done" and world.live("eu") == before


def test_what_stays_and_says_of_no_holder_is_looked_at_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kind of another package may not tell who put what there."""
    world, _ = without_its_ledger(tmp_path)
    (tmp_path / "eu" / "pages" / "current.json").write_text('{"version": 2}')
    monkeypatch.setattr("refloat.flows.prepare.Occupied", SQLite)  # that is what a holder is told of now
    done = recover_only(world, "ledger", to="eu")
    assert done.evidence.state == "blocked" and done.failure is not None
    assert "does not hold" in str(done.failure["message"])


@pytest.mark.parametrize(
    ("group", "why"),
    [
        ("groups: {serving: {members: [pages, ledger]}}\n", "no invariant says that they do"),
        (
            "groups: {serving: {members: [pages, ledger, answers], must: [pages.current.version == ledger.version]}}\n",
            "answers of it is not there",
        ),
    ],
    ids=["nothing to hold against", "some of the rest is lost as well"],
)
def test_what_cannot_be_told_is_not_put_together(tmp_path: Path, group: str, why: str) -> None:
    world, _ = without_its_ledger(tmp_path, group=group)
    (tmp_path / "eu" / "answers.jsonl").unlink()
    done = recover_only(world, "ledger", to="eu")
    assert done.evidence.state == "blocked" and done.failure is not None
    assert why in str(done.failure["message"])


def test_what_stays_and_cannot_be_looked_at_is_named(tmp_path: Path) -> None:
    world, _ = without_its_ledger(tmp_path)
    (tmp_path / "eu" / "pages" / "current.json").write_text("{")
    done = recover_only(world, "ledger", to="eu")
    assert done.evidence.state == "blocked" and done.failure is not None
    assert "pages cannot be looked at: " in str(done.failure["message"])
