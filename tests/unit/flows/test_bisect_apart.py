"""A trial touches nothing that lives: what a sandbox shares with anything is found before a byte is staged."""

from __future__ import annotations

from pathlib import Path

import pytest
from trial_bench import PLACES, Bench, Endpoint, made

from refloat.errors import Refused, UsageError
from refloat.evidence import seal
from refloat.flows import bisect as flow
from refloat.flows import places
from refloat.flows.components import Components
from refloat.manifest.parse import parse
from refloat.vault.layout import LOG


def refused(bench: Bench) -> Refused:
    """What keeps a search from beginning; nothing was written for it."""
    stores = bench.world.stores.values()
    before = {info.name for store in stores for info in store.list(LOG)}
    with pytest.raises(Refused) as error:
        bench.search()
    assert error.value.rule == "sandbox_shared"
    assert {info.name for store in stores for info in store.list(LOG)} == before
    return error.value


@pytest.mark.parametrize(
    ("root", "named"),
    [
        ("{root}/eu", "pages in bench would use {root}/eu/pages, which is used by pages in eu"),
        ("{root}/us", "pages in bench would use {root}/us/pages, which is used by pages in us"),
        ("{root}/eu/pages", "pages in bench would use {root}/eu/pages, which is used by pages in eu"),
        ("{root}/x/../eu", "pages in bench would use {root}/eu/pages, which is used by pages in eu"),
        ("{root}/link", "pages in bench would use {root}/eu/pages, which is used by pages in eu"),
    ],
)
def test_a_folder_that_a_region_uses_is_refused_however_it_is_spelled(
    tmp_path: Path, endpoint: Endpoint, root: str, named: str
) -> None:
    there = root.format(root="{root}")
    bench = made(tmp_path, endpoint, places=PLACES.replace("{root}/bench", there))
    (tmp_path / "link").symlink_to(tmp_path / "eu")
    bench.protect(1)
    live = bench.world.live("eu")
    assert named.format(root=tmp_path) in str(refused(bench))
    assert bench.world.live("eu") == live


def test_so_is_the_address_at_which_a_region_is_asked(tmp_path: Path, endpoint: Endpoint) -> None:
    bench = made(tmp_path, endpoint, places=PLACES.replace("{port}", "2"))
    bench.protect(1)
    told = "the probe of pages in bench would use port 2, which is used by the probe of pages in us"
    assert told in str(refused(bench))


def test_two_sandboxes_in_one_place_are_refused(tmp_path: Path, endpoint: Endpoint) -> None:
    at = '{{ledger: {{path: "{root}/bench/ledger.db"}}}}'
    twice = f'{PLACES}  shelf: {{{{at: {at}, vars: {{{{root: "{{root}}/s", port: "3"}}}}}}}}\n'
    bench = made(tmp_path, endpoint, places=twice)
    bench.protect(1)
    told = f"ledger in bench would use {tmp_path}/bench/ledger.db, which is used by ledger in shelf"
    assert told in str(refused(bench))


def test_a_vault_is_no_place_for_a_sandbox(bench: Bench) -> None:
    bench.protect(1)
    text = bench.world.text.replace(b"memory://us", f"file://{bench.world.root}/bench".encode())
    today = Components(parse(text), bench.world.resolver())
    with pytest.raises(Refused, match="which is used by the vault of us"):
        flow.opened(today, bench.world.root, bench.world.vault(), bench.world.clock, "bench")


def test_an_address_that_leads_to_where_a_region_keeps_something_is_refused(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    bench = made(tmp_path, endpoint)
    bench.world.more["eu"] = ', addresses: {models: "s3://models-eu/"}'
    bench.protect(1)
    with pytest.raises(
        UsageError, match="the sandbox bench has no counterpart to the addresses models of eu"
    ):
        bench.search()
    bench.world.group = bench.world.group.replace(
        "bench: {", 'bench: {addresses: {models: "s3://models-eu/deep"}, '
    )
    assert "an address of bench would use s3://models-eu/, which is used by an address of eu" in str(
        refused(bench)
    )


def test_what_a_region_cannot_be_asked_about_may_be_anything(tmp_path: Path, endpoint: Endpoint) -> None:
    bench = made(tmp_path, endpoint)
    bench.protect(1)
    bench.world.more["us"] = ', addresses: {more: "${env:NOWHERE}"}'
    bench.world.group = bench.world.group.replace("bench: {", 'bench: {addresses: {more: "s3://own/"}, ')
    assert "which addresses us has cannot be told here" in str(refused(bench))


def test_a_kind_that_does_not_say_what_it_uses_is_not_tried(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.protect(1)
    monkeypatch.setattr(places, "isinstance", lambda thing, kind: False, raising=False)
    assert "a component of kind files does not say what it uses" in str(refused(bench))


# ------------------------------------------------------------------------- by the manifest that a point carries


def test_what_lived_by_the_manifest_of_the_point_is_not_touched_either(bench: Bench) -> None:
    """Where a region was then, it may be yet: today's manifest is not all that there is."""
    bench.world.us_in = "bench"
    (old,) = bench.protect(1)
    bench.world.us_in = "us"
    found = bench.search()
    (trial,) = found.trials
    assert trial.point == old and trial.verdict is None
    assert trial.reason.startswith(f"pages in bench would use {bench.world.root}/bench/pages")
    assert found.untested == {old: trial.reason}
    (record,) = seal.records(bench.world.vault().replicas["eu"])
    assert (record.kind, record.state) == ("drill", "blocked")
    done = {step.id for step in record.steps if step.result == "done"}
    assert done <= {"preflight.check:point"}, "what is there was not so much as looked at"
    assert bench.left() == []


def test_a_point_whose_places_cannot_be_told_is_stepped_over(bench: Bench) -> None:
    bench.world.more["eu"] = ', addresses: {models: "s3://models-eu/"}'
    bench.world.release(1)
    old = bench.world.protect().name
    bench.world.more.clear()
    bench.world.release(2)
    new = bench.world.protect().name
    first, second = bench.opened(), bench.opened()
    trial = first.run(old, bench.world.clock.now())
    assert (trial.verdict, trial.run) == (None, "") and "no counterpart to models of eu" in trial.reason
    assert second.run(new, bench.world.clock.now()).verdict is True


def test_what_lies_in_the_sandbox_already_is_left_alone(bench: Bench) -> None:
    bench.protect(5)
    mine = bench.world.root / "bench" / "pages" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("not refloat's")
    found = bench.search()
    assert [trial.verdict for trial in found.trials] == [None, None, None]
    assert found.given_up and not found.ok and found.newest is None
    assert "the place of pages in the sandbox bench holds something" in found.trials[0].reason
    assert "3 trials in a row told nothing" in found.spoken()[1]
    assert len(found.untested) == 5 and "it was not tried" in found.untested.values()
    assert found.next == "refloat points bisect --sandbox bench"
    assert mine.read_text() == "not refloat's" and len(bench.left()) == 2


def test_what_a_recovery_once_put_there_is_left_alone_as_well(bench: Bench) -> None:
    bench.world.us_in = "bench"
    bench.protect(1)
    bench.world.recover()
    bench.world.us_in = "us"
    live = bench.world.live("bench")
    found = bench.search()
    assert "holds what point" in found.trials[0].reason or "would use" in found.trials[0].reason
    assert bench.world.live("bench") == live
