"""The flows over a real S3 server on loopback: moto, which honours conditional creates."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from moto.server import ThreadedMotoServer

from refloat.testing.world import World
from refloat.vault.check import check
from refloat.vault.replica import create_vault
from refloat.vault.stores import open_store


@pytest.fixture
def buckets(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A bucket for each region, on a server of this test's own."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    for region in ("eu", "us"):
        assert httpx.put(f"{endpoint}/refloat-{region}").status_code == 200
    yield {region: f"s3://refloat-{region}/small" for region in ("eu", "us")}
    server.stop()


def test_a_pipeline_lost_with_its_bucket_comes_back_from_the_other_bucket(
    tmp_path: Path, buckets: dict[str, str]
) -> None:
    world = World(tmp_path, stores={region: open_store(url) for region, url in buckets.items()})
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
