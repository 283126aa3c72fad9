"""``refloat vault prune``: what interrupted commands left is marked, and goes a day later."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from refloat.flows import protect as protecting
from refloat.limits import PRUNE_GRACE_S
from refloat.testing.world import WorldClock
from refloat.vault.forgotten import write_forgotten
from refloat.vault.keys import KeyFile
from refloat.vault.marks import marks, write_marks
from refloat.vault.replica import Replica
from refloat.vault.stores.local import LocalStore
from refloat.vault.writer import Writer

REGION_KEYS = {"beside", "removed", "marked", "waiting", "locked", "unfinished_bytes"}
BODY = "points/" + "c" * 64
"""A body of a point that no log leads to; a prune asks for its name alone."""


def litter(desk) -> None:
    for region in ("eu", "us"):
        (desk.vault(region) / BODY).write_bytes(b"left by a crash")


def marked_long_ago(desk) -> None:
    """As if the marks had been made before the grace period began."""
    for region in ("eu", "us"):
        replica = Replica.open(region, LocalStore(desk.vault(region)), KeyFile.load(desk.key), WorldClock())
        slot, marked = marks(replica)
        then = datetime.now(UTC) - timedelta(seconds=PRUNE_GRACE_S + 60)
        write_marks(replica, slot, dict.fromkeys(marked, then))


def objects(vault: Path) -> set[str]:
    return {str(path.relative_to(vault)) for path in vault.rglob("*") if path.is_file()}


def test_where_nothing_is_left_over_nothing_is_done(desk) -> None:
    before = objects(desk.vault("eu"))
    document = desk.ask("vault", "prune")
    nothing: dict[str, object] = {"removed": [], "marked": [], "waiting": [], "locked": [], "beside": {}}
    nothing["unfinished_bytes"] = 0
    assert document == {"dry_run": False, "regions": {"eu": nothing, "us": nothing}}
    assert objects(desk.vault("eu")) == before


def test_what_is_left_over_is_marked_then_waits_then_goes(desk) -> None:
    litter(desk)
    first = desk.ask("vault", "prune")["regions"]["eu"]
    assert first.keys() == REGION_KEYS
    assert first["marked"] == [{"object": BODY, "bytes": 15}] and first["removed"] == []
    second = desk.ask("vault", "prune")["regions"]["eu"]
    assert [waiting["object"] for waiting in second["waiting"]] == [BODY]
    assert second["waiting"][0]["until"].endswith("Z")
    marked_long_ago(desk)
    third = desk.ask("vault", "prune")["regions"]["eu"]
    assert third["removed"] == [{"object": BODY, "bytes": 15}]
    assert not any((desk.vault(region) / BODY).exists() for region in ("eu", "us"))
    assert desk.ask("vault", "check", "--read-data")["ok"]
    assert desk.ask("protect")["regions"]["us"]["complete"]


def test_a_dry_run_lists_what_goes_and_touches_nothing(desk) -> None:
    litter(desk)
    before = objects(desk.vault("eu"))
    document = desk.ask("vault", "prune", "--dry-run")
    assert document["dry_run"] and document["regions"]["us"]["marked"] == [{"object": BODY, "bytes": 15}]
    out = desk.read("vault", "prune", "--dry-run")
    assert f"mark {BODY}" in out and "1 objects (15 B) would be marked" in out
    assert objects(desk.vault("eu")) == before


def test_an_index_object_that_lists_what_stays_is_written_anew_and_said(desk, monkeypatch) -> None:
    monkeypatch.setattr(protecting, "Writer", partial(Writer, pack_bytes_max=4096))
    passing, lasting = (desk.root / "eu" / "pages" / name for name in ("passing.bin", "lasting.bin"))
    passing.write_bytes(os.urandom(8192))
    lasting.write_bytes(os.urandom(3072))
    point = desk.ask("protect")["point"]
    passing.unlink()
    desk.release(2)
    desk.ask("protect")
    for region in ("eu", "us"):
        replica = Replica.open(region, LocalStore(desk.vault(region)), KeyFile.load(desk.key), WorldClock())
        write_forgotten(replica, 0, {point: "beyond last 1"}, seen=2)
    before = objects(desk.vault("eu"))
    would = desk.read("vault", "prune", "--dry-run")
    assert "  1 index objects would be written anew without what goes" in would
    assert objects(desk.vault("eu")) == before
    said = desk.read("vault", "prune")
    assert (
        said
        == "\n".join(one for one in would.splitlines() if not one.startswith("  mark")).replace(
            "would be ", ""
        )
        + "\n"
    )
    new = objects(desk.vault("eu")) - before
    assert sorted(name.partition("/")[0] for name in new) == ["index", "log"]
    marked_long_ago(desk)
    gone = {one["object"] for one in desk.ask("vault", "prune")["regions"]["eu"]["removed"]}
    assert {name.partition("/")[0] for name in gone} == {"index", "packs", "points"}
    assert desk.ask("vault", "check", "--read-data")["ok"]


def test_a_vault_that_is_not_whole_is_not_pruned(desk) -> None:  # fault 20
    litter(desk)
    desk.ask("vault", "prune")
    marked_long_ago(desk)
    next((desk.vault("us") / "index").iterdir()).unlink()
    before = objects(desk.vault("eu")), objects(desk.vault("us"))
    error = desk.ask("vault", "prune", exits=4)["error"]
    assert (error["code"], error["region"]) == ("vault_damaged", "us")
    assert "nothing is pruned" in error["message"] and "vault repair" in error["next"]
    assert (objects(desk.vault("eu")), objects(desk.vault("us"))) == before
    desk.ask("vault", "repair")
    assert desk.ask("vault", "prune")["regions"]["us"]["removed"]


def test_a_region_that_is_away_keeps_everything_where_it_is(desk) -> None:
    litter(desk)
    desk.vault("us").rename(desk.root / "away")
    error = desk.ask("vault", "prune", exits=4)["error"]
    assert error["region"] == "us" and "nothing is pruned" in error["message"]
    assert (desk.vault("eu") / BODY).exists()
