"""The flows over a real S3 server: one region in a bucket, the other in a directory or a bucket of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from refloat.errors import Missing
from refloat.testing.toxic import ToxicProxy, hang, late
from refloat.testing.world import World
from refloat.vault.check import check
from refloat.vault.repair import repair
from refloat.vault.replica import Replica, create_vault
from refloat.vault.stores import open_store

pytestmark = pytest.mark.slow
COMMAND_S_MAX = 120.0  # only so that a command that hangs ends


@pytest.fixture
def places(seaweedfs: Any, use: Any, tmp_path: Path) -> dict[str, str]:
    """An address for each region: a bucket, and a directory."""
    use(seaweedfs.environment())
    return {"eu": seaweedfs.place(), "us": str(tmp_path / "us-vault")}


@pytest.fixture
def world(places: dict[str, str], tmp_path: Path) -> World:
    """A pipeline whose vault is there, with two points."""
    world = World(tmp_path, group="", stores={region: open_store(place) for region, place in places.items()})
    world.release(1)
    create_vault(world.stores, world.key_file, world.clock, "small")
    assert world.protect().ok
    world.release(2)
    assert world.protect().ok
    return world


@pytest.mark.parametrize("server", ["seaweedfs", "moto"])
def test_a_pipeline_lost_with_its_bucket_comes_back_from_the_other_bucket(
    request: pytest.FixtureRequest, use: Any, tmp_path: Path, server: str
) -> None:
    s3 = request.getfixturevalue(server)
    use(s3.environment())
    world = World(tmp_path, stores={r: open_store(s3.place(f"refloat-{r}")) for r in ("eu", "us")})
    world.release(1)
    create_vault(world.stores, world.key_file, world.clock, "small")
    assert world.protect().ok
    live = world.live("eu")
    shutil.rmtree(tmp_path / "eu")
    del world.stores["eu"]

    done = world.recover()

    assert done.evidence.state == "done"
    assert world.live("us") == live
    assert check(world.vault().replicas["us"], read_data=True).ok


# ------------------------------------------------------------------------------------- a stolen credential


def test_a_thief_who_empties_one_regions_bucket_costs_no_point(
    seaweedfs: Any, places: dict[str, str], world: World, tmp_path: Path
) -> None:
    # fault 52
    live = world.live("eu")
    assert seaweedfs.wipe(places["eu"]) > 10
    shutil.rmtree(tmp_path / "eu")

    with pytest.raises(Missing, match="there is no vault"):
        Replica.open("eu", world.stores.pop("eu"), world.key_file, world.clock)
    assert world.recover().evidence.state == "done"
    assert world.live("us") == live
    assert check(world.vault().replicas["us"], read_data=True).ok


def test_what_a_thief_deleted_and_overwrote_is_named_and_brought_back_from_the_other_region(
    seaweedfs: Any, places: dict[str, str], world: World
) -> None:
    # fault 52
    thief = seaweedfs.client()
    bucket = places["eu"].removeprefix("s3://").partition("/")[0]
    named_by_digest = ("packs", "index", "points")
    hit = [key for key in sorted(seaweedfs.keys(places["eu"])) if key.split("/")[1] in named_by_digest]
    for number, key in enumerate(hit):
        if number % 2:
            thief.delete_object(Bucket=bucket, Key=key)
        else:
            thief.put_object(Bucket=bucket, Key=key, Body=b"ransom")
    assert len(hit) > 5

    replicas = world.vault().replicas
    found = check(replicas["eu"], read_data=True)
    points = {key.partition("/")[2] for key in hit if key.split("/")[1] == "points"}
    assert points < {damage.object for damage in found.damaged}
    assert check(replicas["us"], read_data=True).ok

    replicas = world.vault().replicas
    mended = repair(replicas["eu"], [damage.object for damage in found.damaged], [replicas["us"]]).mended
    assert points <= set(mended)
    assert world.protect().ok  # what not even a name is left of is copied when the next point needs it
    for _ in range(2):  # what damage hides is seen once the damage is mended
        replicas = world.vault().replicas
        damaged = [damage.object for damage in check(replicas["eu"], read_data=True).damaged]
        repair(replicas["eu"], damaged, [replicas["us"]])
    assert check(world.vault().replicas["eu"], read_data=True).damaged == ()


# ------------------------------------------------------------------------------------------ real processes


class Shell:
    """Runs ``refloat`` as an operator does."""

    def __init__(self, folder: Path, places: dict[str, str]) -> None:
        self.folder = folder
        (folder / "pages").mkdir()
        (folder / "pages" / "page.txt").write_text("what the page says\n" * 1000)
        (folder / "refloat.yaml").write_text(
            f"version: 1\npipeline: small\nprimary: eu\n"
            f"regions:\n  eu: {{vault: '{places['eu']}'}}\n  us: {{vault: '{places['us']}'}}\n"
            f"components:\n  pages:\n    kind: files\n    with: {{path: '{folder}/pages'}}\n"
            f"    at: {{us: {{path: '{folder}/pages-us'}}}}\n"
        )

    def begin(self, *arguments: str, endpoint: str | None = None) -> subprocess.Popen[str]:
        env = {**os.environ, "REFLOAT_KEY_FILE": str(self.folder / "small.key")}
        env |= {"XDG_STATE_HOME": str(self.folder / "state")}
        env |= {"AWS_ENDPOINT_URL": endpoint} if endpoint else {}
        return subprocess.Popen(
            [sys.executable, "-m", "refloat", "--json", *arguments],
            cwd=self.folder,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def ask(self, *arguments: str, exits: int = 0) -> Any:
        process = self.begin(*arguments)
        out, err = process.communicate(timeout=COMMAND_S_MAX)
        assert process.returncode == exits, (out, err)
        return json.loads(out)


def test_killed_in_an_upload_protected_again_robbed_and_recovered_by_command(
    seaweedfs: Any, proxy: ToxicProxy, places: dict[str, str], tmp_path: Path
) -> None:
    # faults 1, 18, 52
    shell = Shell(tmp_path, places)
    shell.ask("vault", "init", "--key", "small.key")
    proxy.poison(late(0), method="PUT", times=1)
    proxy.poison(hang, method="PUT")
    killed = shell.begin("protect", endpoint=proxy.url)
    until = time.monotonic() + COMMAND_S_MAX
    while proxy.count("PUT") < 2 and killed.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    assert killed.poll() is None
    killed.kill()
    killed.communicate()

    done = shell.ask("protect")
    assert {region: told["complete"] for region, told in done["regions"].items()} == {"eu": True, "us": True}
    assert shell.ask("vault", "check", "--read-data")["ok"]

    seaweedfs.wipe(places["eu"])
    shutil.rmtree(tmp_path / "pages")
    checked = shell.ask("vault", "check", exits=1)
    assert checked["unreachable"] == ["eu"] and checked["damaged"] == []
    (tmp_path / "refloat.yaml").unlink()
    run = shell.ask("recover", "--vault", places["us"], "--to", "us")
    assert run["state"] == "done"
    assert (tmp_path / "pages-us" / "page.txt").read_text() == "what the page says\n" * 1000
