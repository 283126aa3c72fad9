"""The power goes at any moment, and what was not synced is lost; what was acknowledged is not.

``# fault 19`` of the fault matrix. The writes of real code on a real folder are recorded, and every folder
that a loss of power may leave is made: each prefix of the changes, with up to two unsynced ones dropped.
REFLOAT_POWER_STATES says how many of them are tried for each story; those are drawn from a seed. Where that
is more than a story has, temporary files that no reader ever sees make states of their own, and the story of
protect is longer.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from refloat.connectors import beside
from refloat.errors import RefloatError
from refloat.flows.points import MANIFEST
from refloat.flows.protect import protect
from refloat.flows.recover import journal_of, runs_of
from refloat.testing.disk import CrashState, Recorder, crash_states, folder_in_memory
from refloat.testing.world import World
from refloat.vault.check import check
from refloat.vault.keys import KeyFile
from refloat.vault.replica import Replica, create_vault
from refloat.vault.stores.local import LocalStore

pytestmark = [pytest.mark.usefixtures("remembered"), pytest.mark.slow]

STATES = int(os.environ.get("REFLOAT_POWER_STATES", "0"))
STATES_PROTECT, STATES_RECOVER = STATES or 40, STATES or 15  # some seconds
ROUNDS = 7 if STATES < 1000 else 40  # of release and protect
SEED = 19
MADE, ACTIVE = "the vault is made", "the recovery is done"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with folder_in_memory() as folder:
        yield folder


def temporary(name: str) -> bool:
    return name.endswith("~") and STATES < 1000


def drawn(recorder: Recorder, wanted: int) -> Iterator[CrashState]:
    """The states to try: all, or as many as there is time for; first those that lose all that can be lost by then."""
    states = list(crash_states(recorder, ignored=temporary))
    print(f"{len(recorder.events)} changes and syncs, {len(states)} states, seed {SEED}")
    assert len(states) > 100, "something is no longer recorded"
    most: dict[int, CrashState] = {}
    for state in states:
        if len(state.lost) > len(most[state.prefix].lost if state.prefix in most else ()):
            most[state.prefix] = state
    worst = list(most.values())
    others = [state for state in states if most.get(state.prefix) is not state]
    random.Random(SEED).shuffle(others)
    yield from [*worst, *others][:wanted]


def local_world(root: Path, regions: dict[str, Path]) -> World:
    world = World(root, "", stores={region: LocalStore(place) for region, place in regions.items()})
    world.release(1)
    return world


def make_vault(world: World) -> None:
    create_vault(world.stores, world.key_file, world.clock, "small")


# ------------------------------------------------------------------------------------------------ protect


def points_in(world: World, region: str) -> list[str]:
    replica = Replica.open(region, LocalStore(world.root / "vaults" / region), world.key_file, world.clock)
    report = check(replica, read_data=True)
    assert report.ok, report.damaged
    return [point.name for point in replica.points()]


def test_a_loss_of_power_takes_no_acknowledged_point_and_leaves_no_half_one(
    tmp_path: Path,
) -> None:  # fault 19
    vaults = tmp_path / "vaults"
    vaults.mkdir()
    world = local_world(tmp_path, {"eu": vaults / "eu", "us": vaults / "us"})
    recorder = Recorder(vaults)
    with recorder.recording():
        world.key_file.save(vaults / "key")
        make_vault(world)
        recorder.tell(MADE)
        for version in range(2, 2 + ROUNDS):
            recorder.tell(world.protect().name)
            world.release(version)
        us = world.stores.pop("us")
        only_eu = world.protect().name
        recorder.tell(f"eu {only_eu}")
        world.stores["us"] = us
        recorder.tell(world.protect().name)  # brings us what it missed
    for number, state in enumerate(drawn(recorder, STATES_PROTECT)):
        state.write(vaults)
        try:
            world.key_file = KeyFile.load(vaults / "key")
            known = {region: points_in(world, region) for region in ("eu", "us")}
        except RefloatError as error:
            assert not state.told, f"{state}: {error}"
            continue
        for region, points in known.items():
            told = {name for name in state.told if name != MADE and " " not in name}
            assert told <= set(points), f"{state}: {region} has {points}"
        assert f"eu {only_eu}" not in state.told or only_eu in known["eu"], str(state)
        if number % 6 == 0:
            world.stores = {region: LocalStore(vaults / region) for region in known}
            again = world.protect()
            assert again.ok and again.copies == 2, f"{state}: {again.regions}"
            missed = [point for point in known["eu"] if point not in known["us"]]
            found = points_in(world, "us")
            made_up = [point for point in missed if point in found]  # where all that it needs is there
            assert found == [*known["us"], *made_up, again.name], str(state)


def test_a_folder_that_who_made_it_did_not_sync_is_durable_before_an_object_in_it_counts(
    tmp_path: Path,
) -> None:  # fault 19
    vault = tmp_path / "vault"
    vault.mkdir()
    recorder = Recorder(vault)
    with recorder.recording():
        (vault / "packs" / "aa").mkdir(parents=True)  # and then that process is killed
        LocalStore(vault).create("packs/aa/one", b"1")
        recorder.tell("created")
    told = [state for state in crash_states(recorder) if state.told]
    for state in told:
        state.write(vault)
        assert LocalStore(vault).get("packs/aa/one") == b"1", str(state)
    assert told


# ------------------------------------------------------------------------------------------------ recover


def begun(world: World) -> str | None:
    """The run that was begun last and had written its plan."""
    replica = world.vault().replicas["us"]
    runs = [run for run in runs_of(replica, "us") if journal_of(replica, run, world.clock).view.plan]
    return runs[-1] if runs else None


@pytest.fixture
def as_recorded(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """By inode: the fingerprint of the file that it stands for, which a real disk would have kept."""
    known: dict[int, str] = {}
    real = beside.fingerprint

    def fingerprint(path: Path) -> str | None:
        found = real(path)
        return None if found is None else known.get(path.lstat().st_ino, f"new {found}")

    monkeypatch.setattr(beside, "fingerprint", fingerprint)
    return known


def recorded_recovery(root: Path) -> tuple[World, dict[str, bytes], Recorder, str]:
    """A second recovery into a region where a first one is live, recorded."""
    us = root / "us"
    world = local_world(root, {"eu": root / "eu" / "vault", "us": us / "vault"})
    make_vault(world)
    world.protect()
    shutil.move(root / "eu", root / "away")
    stores, world.stores = world.stores, {"us": world.stores["us"]}
    world.recover()
    shutil.move(root / "away", root / "eu")
    world.stores = stores
    world.release(2)
    protect(world.components(), {MANIFEST: world.text}, world.vault(), world.clock, region="eu")
    live = {name: content for name, content in world.live("eu").items() if not name.startswith("vault/")}
    shutil.rmtree(root / "eu")
    del world.stores["eu"]
    recorder = Recorder(us)
    with recorder.recording():
        before = begun(world)
        assert world.recover().ok
        recorder.tell(ACTIVE)
    run = begun(world)
    assert run is not None and run != before
    return world, live, recorder, run


def test_what_a_connector_wrote_and_did_not_sync_is_there_once_it_is_called_staged(
    tmp_path: Path,
) -> None:  # fault 19
    us = tmp_path / "us"
    us.mkdir()
    staging = beside.Beside(us / "pages", "t")

    def write(staged: Path) -> None:
        (staged / "deep").mkdir(parents=True)
        (staged / "deep" / "page.txt").write_bytes(b"what page 1 says")

    recorder = Recorder(us)
    with recorder.recording():
        staging.stage(write)
    called_staged = 0
    for state in crash_states(recorder):
        state.write(us)
        if staging.done.exists():
            called_staged += 1
            assert (staging.staged / "deep" / "page.txt").read_bytes() == b"what page 1 says", str(state)
    assert called_staged


def live_in(world: World) -> dict[str, bytes]:
    return {name: content for name, content in world.live("us").items() if not name.startswith("vault/")}


def test_a_recovery_ends_in_the_same_place_whatever_a_loss_of_power_took(
    tmp_path: Path, as_recorded: dict[int, str]
) -> None:  # fault 19
    world, live, recorder, recorded = recorded_recovery(tmp_path)
    for state in drawn(recorder, STATES_RECOVER):
        as_recorded.clear()
        stands_for = state.write(tmp_path / "us")
        as_recorded.update({new: recorder.fingerprints[old] for new, old in stands_for.items()})
        world.stores = {"us": LocalStore(tmp_path / "us" / "vault")}
        if ACTIVE in state.told:
            assert live_in(world) == live, str(state)
            continue
        run = begun(world)
        done = world.recover(run=run if run == recorded else None)
        assert done.evidence.state == "done", f"{state}: {done.failure}"
        assert live_in(world) == live, str(state)
        assert check(world.vault().replicas["us"], read_data=True).ok, str(state)
