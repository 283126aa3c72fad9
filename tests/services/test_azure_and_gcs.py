"""The same promises over Azure and Google Cloud Storage, each with its own credentials, conditions and answers.

Azure is Azurite; what stands for Google, and what that shows, is told in ``gcs.py``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import azurite as azurite_server
import gcs as gcs_server
import pytest
from bad_lines import PATIENT, require_an_end_in_time, require_one_winner, storm

from refloat.contracts import Put
from refloat.errors import Retry, StoreError, UsageError
from refloat.testing.toxic import (
    Toxic,
    ToxicProxy,
    answer,
    cut_body,
    cut_upload,
    drip,
    hang,
    lose_reply,
    reset,
    without,
)
from refloat.testing.world import World
from refloat.vault.check import check
from refloat.vault.replica import create_vault
from refloat.vault.stores import open_store
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.stores.object import ObjectStore, open_bucket

pytestmark = pytest.mark.slow
SECRETS = [azurite_server.KEY, azurite_server.WRONG_KEY]


@dataclass
class Cloud:
    """A server and the proxy before it, to which the environment points."""

    kind: str
    server: Any
    proxy: ToxicProxy
    use: Callable[[dict[str, str]], None]

    def shop(self) -> ObjectStore:
        """A place with one object, ``there``, of 100 bytes."""
        store = open_bucket(self.server.place(), PATIENT)
        ObjectStore(store._backend, store.url).create("there", bytes(range(100)))
        self.proxy.seen.clear()
        return store

    def let_in(self, **who: str) -> None:
        """Use the credentials that ``environment`` gives for ``who``."""
        self.use(self.server.environment(self.proxy.url, **who))


@pytest.fixture(params=["azurite", "gcs"])
def cloud(request: pytest.FixtureRequest, use: Any) -> Iterator[Cloud]:
    """Either, with its usual credentials."""
    server = request.getfixturevalue(request.param)
    with ToxicProxy(server.endpoint) as proxy:
        cloud = Cloud(request.param, server, proxy, use)
        cloud.let_in()
        yield cloud


# --------------------------------------------------------------------------------------- a whole story


def test_a_pipeline_lost_with_its_bucket_comes_back_from_the_other_bucket_by_command(
    cloud: Cloud, desk: Any
) -> None:
    places = {region: cloud.server.place(f"refloat-{region}") for region in ("eu", "us")}
    desk.write_manifest(**places)
    desk.ask("vault", "init", "--key", "small.key")
    for version in (1, 2):
        desk.release(version)
        assert desk.ask("protect")["regions"]["us"] == {"complete": True, "error": None}
    assert desk.ask("vault", "check", "--read-data")["ok"]
    live = desk.live("eu")

    cloud.server.wipe(places["eu"])
    desk.lose_pipeline()

    assert cloud.server.keys(places["eu"]) == []
    assert desk.ask("recover", "--vault", places["us"], "--to", "us")["state"] == "done"
    assert desk.live("us") == live
    assert not any(secret in desk.said for secret in SECRETS)


# ------------------------------------------------------------------------------------------ credentials


@dataclass(frozen=True)
class Case:
    """What is wrong with a region's store, and what must be said of it."""

    kind: str
    says: str
    advises: str
    who: dict[str, str] = field(default_factory=dict)
    container: str = "refloat"


READ_ONLY = azurite_server.signature("refloat", "rl")
EXPIRED = azurite_server.signature("refloat", until="2020-01-01T00:00:00Z")
CASES = {
    "azure wrong key": Case(
        "azurite", "are wrong", "AZURE_STORAGE_ACCOUNT_KEY", {"key": azurite_server.WRONG_KEY}
    ),
    "azure old token": Case("azurite", "are wrong", "AZURE_STORAGE_SAS_TOKEN", {"sas": EXPIRED}),
    "azure read-only": Case("azurite", "may not", "policy", {"sas": READ_ONLY}),
    "azure no container": Case("azurite", "bucket does not exist", "make the bucket", container="none-such"),
    "google wrong key": Case("gcs", "are wrong", "GOOGLE_SERVICE_ACCOUNT", {"who": gcs_server.STRANGER}),
    "google read-only": Case("gcs", "may not", "policy", {"who": gcs_server.READER}),
    "google no bucket": Case("gcs", "bucket does not exist", "make the bucket", container="none-such"),
}


@pytest.mark.parametrize(
    ("cloud", "case"), [(case.kind, case) for case in CASES.values()], ids=list(CASES), indirect=["cloud"]
)
def test_init_on_a_store_that_does_not_serve_leaves_nothing_half_made(
    cloud: Cloud, desk: Any, case: Case
) -> None:
    # fault 66
    place = cloud.server.place()
    desk.write_manifest(us=place.replace("refloat", case.container))
    cloud.let_in(**case.who)

    error = desk.ask("vault", "init", "--key", "small.key", exits=1)["error"]

    assert (error["code"], error["retry"], error["region"]) == ("store", "never", "us")
    assert case.says in error["message"] and case.advises in error["next"]
    secrets = SECRETS + [token.rpartition("sig=")[2] for token in (READ_ONLY, EXPIRED)]
    if case.kind == "gcs":
        secrets += cloud.server.accounts.secrets(case.who.get("who", gcs_server.WRITER))
    assert not any(secret in desk.said for secret in secrets)
    assert not (desk.folder / "small.key").exists()
    assert not [path for path in (desk.folder / "eu-vault").rglob("*") if path.is_file()]
    assert cloud.server.keys(place) == []


@pytest.mark.parametrize(
    ("address", "name", "value"),
    [
        ("az://refloat", "AZURE_STORAGE_ACCOUNT_KEY", "no base64 but very secret"),
        ("az://refloat", "AZURE_STORAGE_SAS_TOKEN", "no token but very secret"),
        ("gs://refloat", "GOOGLE_SERVICE_ACCOUNT_KEY", '{"private_key": "very secret"}'),
        ("gs://refloat", "GOOGLE_SERVICE_ACCOUNT", "/no/such/file.json"),
    ],
)
def test_credentials_that_are_none_are_told_before_anything_is_asked(
    use: Any, address: str, name: str, value: str
) -> None:
    # fault 66
    use({"AZURE_STORAGE_ACCOUNT_NAME": "writer", name: value})
    with pytest.raises(UsageError, match="cannot use") as caught:
        open_store(address)
    assert "environment" in (caught.value.next or "") and "very secret" not in repr(caught.value)


def test_who_may_create_and_neither_write_over_nor_delete_keeps_a_vault_in_azure(
    azurite: Any, use: Any, tmp_path: Path
) -> None:
    # fault 52
    use(azurite.environment(sas=azurite_server.signature("refloat", "rcl")))
    place = azurite.place()
    world = World(tmp_path, group="", stores={"eu": MemoryStore("eu"), "us": open_bucket(place, PATIENT)})
    world.release(1)
    create_vault(world.stores, world.key_file, world.clock, "small")
    assert world.protect().ok
    assert check(world.vault().replicas["us"], read_data=True).ok
    store = world.stores["us"]
    assert store.create("new", b"1") is Put.CREATED
    assert store.create("new", b"2") is Put.EXISTS
    assert store.get("new") == b"1"
    with pytest.raises(StoreError, match="may not"):
        store.delete("new")
    use(azurite.environment(sas=azurite_server.signature("refloat", "l")))
    with pytest.raises(StoreError, match="may not"):
        open_bucket(place).create("new", b"2")  # what may not be looked at is not known to be there


# ------------------------------------------------------------------------------- lost replies and conflicts


def test_a_lost_reply_to_our_own_write_is_a_creation(cloud: Cloud) -> None:
    # fault 9
    shop = cloud.shop()
    cloud.proxy.poison(lose_reply, method="PUT", times=1)
    assert shop.create("a", b"ours") is Put.CREATED
    assert cloud.proxy.count("PUT") == 2
    assert shop.get("a") == b"ours"


def test_a_lost_reply_does_not_turn_somebody_elses_object_into_ours(cloud: Cloud) -> None:
    # fault 9
    shop = cloud.shop()
    cloud.proxy.poison(lose_reply, method="PUT", times=1)
    assert shop.create("there", b"ours") is Put.EXISTS
    assert shop.get("there") == bytes(range(100))


def test_conflicts_between_racers_leave_one_winner(cloud: Cloud) -> None:
    # fault 10
    shop = cloud.shop()
    cloud.proxy.poison(answer(409, "OperationAborted"), method="PUT", times=6)
    require_one_winner(shop)


HEADERS = {"azurite": "If-None-Match", "gcs": gcs_server.CONDITION}


def test_init_refuses_a_store_that_ignores_the_condition_of_a_create(cloud: Cloud, desk: Any) -> None:
    # faults 10, 15
    place = cloud.server.place()
    desk.write_manifest(us=place)
    if cloud.kind == "azurite":  # the account's key signs the condition, a token does not
        cloud.let_in(sas=azurite_server.signature("refloat"))
    cloud.proxy.poison(without(HEADERS[cloud.kind]), method="PUT")

    error = desk.ask("vault", "init", "--key", "small.key", exits=3)["error"]

    assert (error["code"], error["rule"], error["region"]) == ("refused", "create_ignored", "us")
    assert not (desk.folder / "small.key").exists()
    assert cloud.server.keys(place) == []
    cloud.proxy.heal()
    desk.ask("vault", "init", "--key", "small.key")


# ---------------------------------------------------------------------------- storms, hangs and broken lines


BUSY = {"azurite": answer(503, "ServerBusy"), "gcs": answer(429, "SlowDown")}


def test_a_point_is_made_through_a_storm(cloud: Cloud, tmp_path: Path) -> None:
    # fault 7
    stores = {"eu": MemoryStore("eu"), "us": open_bucket(cloud.server.place(), PATIENT)}
    world = World(tmp_path, group="", stores=stores)
    world.release(1)
    create_vault(world.stores, world.key_file, world.clock, "small")
    cloud.proxy.poison(storm(BUSY[cloud.kind]))
    assert {region: told.complete for region, told in world.protect().regions.items()} == {
        "eu": True,
        "us": True,
    }


ASKS: dict[str, Callable[[ObjectStore], object]] = {
    "create": lambda store: store.create("new", b"1"),
    "get": lambda store: store.get("there"),
    "list": lambda store: list(store.list("")),
    "delete": lambda store: store.delete("there"),
}
BAD: list[tuple[str, Toxic, str]] = [
    ("busy", answer(503, "ServerBusy"), "delete"),
    *(("hang", hang, ask) for ask in ASKS),
    *(("drip", drip(20), ask) for ask in ("get", "list")),
    *(("cut", cut_body, ask) for ask in ("get", "list")),
    ("reset", reset, "create"),
]


@pytest.mark.parametrize(
    ("toxic", "ask"), [bad[1:] for bad in BAD], ids=[f"{line}-{ask}" for line, _, ask in BAD]
)
def test_a_bad_line_ends_in_time_with_an_error_worth_another_try(
    cloud: Cloud, toxic: Toxic, ask: str
) -> None:
    # faults 7, 8
    shop = cloud.shop()
    cloud.proxy.poison(toxic)
    require_an_end_in_time(shop, cloud.proxy, ASKS[ask], creates=ask == "create")


UPLOAD = random.Random(1).randbytes(1_500_000)  # as a pack is sent, and too much to be got in one piece


@pytest.mark.parametrize("count", [1, 700_000])
def test_an_upload_that_is_cut_leaves_all_or_nothing_and_the_next_one_succeeds(
    cloud: Cloud, count: int
) -> None:
    # fault 1
    shop = cloud.shop()
    cloud.proxy.poison(cut_upload(count), method="PUT")
    with pytest.raises(StoreError) as caught:
        shop.create("packs/new", UPLOAD)
    assert caught.value.retry is Retry.LATER
    cloud.proxy.heal()
    patient = open_bucket(shop.url)
    assert patient.size("packs/new") is None
    assert [found.name for found in patient.list("")] == ["there"]
    assert patient.create("packs/new", UPLOAD) is Put.CREATED
    assert patient.get("packs/new") == UPLOAD
