"""A real S3 server behind a toxic proxy: every call ends in time, with the right result or an error that says."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest
from bad_lines import PATIENT, QUICK, become, require_an_end_in_time, require_one_winner, storm

from refloat.cli.main import run
from refloat.contracts import Put
from refloat.errors import Refused, Retry, StoreError, VaultError
from refloat.flows.protect import Protected
from refloat.testing.toxic import (
    Line,
    Toxic,
    ToxicProxy,
    answer,
    cut_body,
    cut_upload,
    drip,
    hang,
    late,
    lie,
    lose_reply,
    reset,
    sip,
    without,
    wrong_length,
)
from refloat.testing.world import World
from refloat.vault.check import check
from refloat.vault.layout import TRIAL, read_descriptor
from refloat.vault.replica import create_vault
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.stores.object import ObjectStore, open_bucket
from refloat.vault.stores.patience import Patience

pytestmark = pytest.mark.slow
RACE_S = 30.0  # only so that a trial that does not race ends


@pytest.fixture
def shop(seaweedfs: Any, proxy: ToxicProxy, use: Any) -> ObjectStore:
    """A place on the server behind the proxy, with one object, ``there``, of 100 bytes."""
    use(seaweedfs.environment(endpoint=proxy.url))
    store = open_bucket(seaweedfs.place(), PATIENT)
    store.create("there", bytes(range(100)))
    proxy.seen.clear()
    return store


# ------------------------------------------------------------------------------------------ lost replies


def test_a_lost_reply_to_our_own_write_is_a_creation(shop: ObjectStore, proxy: ToxicProxy) -> None:
    # fault 9
    proxy.poison(lose_reply, method="PUT", times=1)
    assert shop.create("a", b"ours") is Put.CREATED
    assert proxy.count("PUT") == 2


def test_losing_every_reply_is_settled_by_reading_back(shop: ObjectStore, proxy: ToxicProxy) -> None:
    # fault 9
    proxy.poison(lose_reply, method="PUT", times=1)
    proxy.poison(reset, method="PUT")
    assert shop.create("a", b"ours") is Put.CREATED


def test_a_lost_reply_does_not_turn_somebody_elses_object_into_ours(
    shop: ObjectStore, proxy: ToxicProxy
) -> None:
    # fault 9
    shop.create("a", b"theirs")
    proxy.poison(lose_reply, method="PUT", times=1)
    assert shop.create("a", b"ours") is Put.EXISTS
    assert shop.get("a") == b"theirs"


def test_whose_the_object_is_stays_unknown_while_nobody_can_read_it(
    shop: ObjectStore, proxy: ToxicProxy
) -> None:
    # fault 9
    proxy.poison(lose_reply, method="PUT", times=1)
    proxy.poison(answer(503, "SlowDown"), method="GET")
    with pytest.raises(StoreError) as caught:
        shop.create("a", b"ours")
    assert caught.value.retry is Retry.LATER
    proxy.heal()
    assert shop.get("a") == b"ours"


def test_equal_bytes_that_were_there_before_any_failure_exist(shop: ObjectStore, proxy: ToxicProxy) -> None:
    shop.create("a", b"same")
    assert shop.create("a", b"same") is Put.EXISTS
    assert proxy.count("GET") == 0


def test_conflicts_between_racers_leave_one_winner(shop: ObjectStore, proxy: ToxicProxy) -> None:
    # fault 10
    proxy.poison(answer(409, "ConditionalRequestConflict"), method="PUT", times=6)
    require_one_winner(shop)


# ---------------------------------------------------------------------------------------------- storms


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (429, "TooManyRequests")])
def test_three_refusals_in_ten_are_only_slower(
    shop: ObjectStore, proxy: ToxicProxy, status: int, code: str
) -> None:
    # fault 7
    proxy.poison(storm(answer(status, code)))
    names = [f"packs/{number}" for number in range(30)]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda name: shop.create(name, name.encode()), names)) == {Put.CREATED}
        assert list(pool.map(shop.get, names)) == [name.encode() for name in names]


def test_a_storm_is_not_fed_with_retries(shop: ObjectStore, proxy: ToxicProxy) -> None:
    # fault 7
    proxy.poison(answer(503, "SlowDown"))

    def ask(number: int) -> StoreError:
        with pytest.raises(StoreError, match="SlowDown") as caught:
            shop.get(f"packs/{number}")
        return caught.value

    calls = 100
    with ThreadPoolExecutor(8) as pool:
        errors = list(pool.map(ask, range(calls)))
    assert {error.retry for error in errors} == {Retry.LATER}
    assert len(proxy.seen) <= calls + PATIENT.retries_saved_max
    proxy.heal()
    assert shop.get("there") == bytes(range(100))


# ---------------------------------------------------------------------------- hangs, slow and broken lines


ASKS: dict[str, Callable[[ObjectStore], object]] = {
    "create": lambda store: store.create("new", b"1"),
    "create a pack": lambda store: store.create("packs/new", bytes(2_000_000)),
    "get": lambda store: store.get("there"),
    "get a part": lambda store: store.get("there", 10, 50),
    "size": lambda store: store.size("there"),
    "list": lambda store: list(store.list("")),
    "delete": lambda store: store.delete("there"),
}
LINES = {"hang": hang, "reset": reset, "drip": drip(20), "cut": cut_body}
BODILESS = ("create", "create a pack", "size")  # the answer has no body that could be cut or slow
BAD = [(line, ask) for line in LINES for ask in ASKS if line in ("hang", "reset") or ask not in BODILESS]


@pytest.mark.parametrize(("line", "ask"), BAD)
def test_a_bad_line_ends_in_time_with_an_error_worth_another_try(
    shop: ObjectStore, proxy: ToxicProxy, line: str, ask: str
) -> None:
    # fault 8
    proxy.poison(LINES[line])
    require_an_end_in_time(shop, proxy, ASKS[ask], creates=ask.startswith("create"))


def test_silence_is_not_waited_for_as_long_as_a_slow_line(
    seaweedfs: Any, proxy: ToxicProxy, use: Any
) -> None:
    # fault 8
    use(seaweedfs.environment(endpoint=proxy.url))
    store = open_bucket(seaweedfs.place(), Patience(silence_s=0.3, request_s=3600.0, call_s=0.1))
    proxy.poison(hang)
    with pytest.raises(StoreError, match="did not answer in time"):
        store.get("there")


@pytest.mark.parametrize("toxic", [cut_body, reset, wrong_length(10), late(0.05)])
def test_a_line_that_breaks_once_changes_no_result(
    shop: ObjectStore, proxy: ToxicProxy, toxic: Toxic
) -> None:
    for method in ("GET", "POST", "PUT"):
        proxy.poison(toxic, method=method, times=1)
    assert shop.get("there") == bytes(range(100))
    assert shop.create("new", b"1") is Put.CREATED
    assert shop.size("new") == 1
    shop.delete("there")
    assert [found.name for found in shop.list("")] == ["new"]


def test_fifty_milliseconds_more_change_no_result(shop: ObjectStore, proxy: ToxicProxy) -> None:
    proxy.poison(late(0.05))
    assert shop.create("new", b"1") is Put.CREATED
    assert shop.create("new", b"2") is Put.EXISTS
    assert shop.get("new") == b"1"
    assert {found.name for found in shop.list("")} == {"new", "there"}


# -------------------------------------------------------------------------------------- uploads that are cut


UPLOAD = random.Random(1).randbytes(
    1_500_000
)  # sent as a pack is, and too much for a server to get in one piece
CUTS = [1, *sorted(random.Random(2).sample(range(2, len(UPLOAD) - 1), 3)), -1]
SMALL = random.Random(3).randbytes(700)  # as an entry of a log
SMALL_CUTS = [1, random.Random(4).randrange(2, 699), -1]


@pytest.fixture(params=["seaweedfs", "moto"])
def far(request: pytest.FixtureRequest, use: Any) -> Iterator[tuple[ObjectStore, ToxicProxy]]:
    """An empty place on either server, and the proxy before it."""
    server = request.getfixturevalue(request.param)
    with ToxicProxy(server.endpoint) as proxy:
        use(server.environment(endpoint=proxy.url))
        yield open_bucket(server.place(), PATIENT), proxy


@pytest.mark.parametrize(
    ("content", "count"), [(UPLOAD, cut) for cut in CUTS] + [(SMALL, cut) for cut in SMALL_CUTS]
)
def test_an_upload_that_is_cut_leaves_all_or_nothing_and_the_next_one_succeeds(
    far: tuple[ObjectStore, ToxicProxy], content: bytes, count: int
) -> None:
    # fault 1
    store, proxy = far
    proxy.poison(cut_upload(count), method="PUT")
    with pytest.raises(StoreError) as caught:
        store.create("packs/new", content)
    assert caught.value.retry is Retry.LATER and caught.value.next
    proxy.heal()
    assert store.size("packs/new") is None
    assert list(store.list("")) == []
    assert store.create("packs/new", content) is Put.CREATED
    assert store.get("packs/new") == content


@pytest.mark.parametrize("count", CUTS)
def test_an_upload_that_is_cut_once_is_sent_again(far: tuple[ObjectStore, ToxicProxy], count: int) -> None:
    # fault 1
    store, proxy = far
    proxy.poison(cut_upload(count), method="PUT", times=1)
    assert store.create("packs/new", UPLOAD) is Put.CREATED
    assert proxy.count("PUT") == 2
    assert store.get("packs/new") == UPLOAD


def test_a_slow_upload_ends_in_time_and_leaves_all_or_nothing(far: tuple[ObjectStore, ToxicProxy]) -> None:
    # fault 8
    store, proxy = far
    large = UPLOAD * 6  # more than the buffers between the two take
    proxy.poison(sip(len(UPLOAD)), method="PUT")
    become(store, QUICK)
    with pytest.raises(StoreError) as caught:
        store.create("packs/new", large)
    assert caught.value.retry is Retry.LATER and caught.value.next
    proxy.heal()
    become(store, PATIENT)
    assert store.size("packs/new") is None
    assert store.create("packs/new", large) is Put.CREATED


# --------------------------------------------------------------------------------------------- the vault


@pytest.fixture
def world(seaweedfs: Any, proxy: ToxicProxy, use: Any, tmp_path: Path) -> World:
    """A pipeline with one region behind the proxy, and the other in memory."""
    use(seaweedfs.environment(endpoint=proxy.url))
    stores = {"eu": MemoryStore("eu"), "us": open_bucket(seaweedfs.place(), PATIENT)}
    world = World(tmp_path, group="", stores=stores)
    world.release(1)
    create_vault(world.stores, world.key_file, world.clock, "small")
    return world


def complete(done: Protected) -> dict[str, bool]:
    return {region: result.complete for region, result in done.regions.items()}


def test_a_body_that_is_shorter_than_it_was_is_damage_and_never_wrong_bytes(
    world: World, proxy: ToxicProxy
) -> None:
    # fault 6
    proxy.poison(wrong_length(-10), method="GET", path="vault.json")
    with pytest.raises(VaultError):
        read_descriptor(world.stores["us"])


@pytest.mark.parametrize(
    "toxic", [hang, answer(503, "SlowDown"), answer(507, "InsufficientStorage")], ids=["hang", "busy", "full"]
)
def test_a_region_that_fails_stays_behind_and_the_other_goes_on(
    world: World, proxy: ToxicProxy, toxic: Toxic
) -> None:
    # faults 7, 8
    vault, bucket = world.vault(), world.stores["us"]
    assert isinstance(bucket, ObjectStore)
    become(bucket, QUICK)
    proxy.poison(toxic)
    done = world.protect(vault)
    assert complete(done) == {"eu": True, "us": False}
    assert done.regions["us"].error and not done.ok
    proxy.heal()
    become(bucket, PATIENT)
    world.release(2)
    assert complete(world.protect()) == {"eu": True, "us": True}


@pytest.mark.parametrize("what", ["packs", "index", "points", "log"])
def test_what_a_server_says_it_took_and_did_not_is_no_copy(
    world: World, proxy: ToxicProxy, what: str
) -> None:
    # fault 4
    proxy.poison(lie, method="PUT", path=f"/{what}/")
    assert complete(world.protect()) == {"eu": True, "us": False}
    proxy.heal()
    assert complete(world.protect()) == {"eu": True, "us": True}


def test_a_point_is_made_through_a_storm(world: World, proxy: ToxicProxy) -> None:
    # fault 7
    proxy.poison(storm(answer(503, "SlowDown")))
    assert complete(world.protect()) == {"eu": True, "us": True}


def test_a_store_that_ignores_the_condition_of_a_create_is_refused_and_left_empty(
    moto: Any, use: Any, tmp_path: Path
) -> None:
    # faults 10, 15
    with ToxicProxy(moto.endpoint) as proxy:
        use(moto.environment(endpoint=proxy.url))
        proxy.poison(without("If-None-Match"))
        refused_and_left_empty(moto, proxy, tmp_path)


def test_a_store_that_looks_first_and_writes_a_moment_later_is_refused_and_left_empty(
    moto: Any, use: Any, tmp_path: Path
) -> None:
    # faults 10, 15
    together = Barrier(2)

    def looks_first(line: Line) -> None:
        """Both writes of the trial come at once, and both find the name free."""
        try:
            together.wait(RACE_S)
        except BrokenBarrierError:  # they came one after the other
            line.reply(line.forward())
        else:
            line.reply(line.forward(without="If-None-Match"))

    with ToxicProxy(moto.endpoint) as proxy:
        use(moto.environment(endpoint=proxy.url))
        proxy.poison(looks_first, method="PUT", path=TRIAL)
        refused_and_left_empty(moto, proxy, tmp_path)


def refused_and_left_empty(moto: Any, proxy: ToxicProxy, tmp_path: Path) -> None:
    address = moto.place()
    world = World(tmp_path, stores={"eu": MemoryStore("eu"), "us": open_bucket(address)})
    with pytest.raises(Refused, match="second write replace the first") as caught:
        create_vault(world.stores, world.key_file, world.clock, "small")
    assert (caught.value.rule, caught.value.region) == ("create_ignored", "us")
    assert "conditional" in (caught.value.next or "")
    assert list(world.stores["eu"].list("")) == []
    assert moto.keys(address) == []
    proxy.heal()
    create_vault(world.stores, world.key_file, world.clock, "small")


def test_init_refuses_a_store_that_ignores_conditions_with_exit_code_3_and_keeps_no_key(
    moto: Any,
    use: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # fault 10
    monkeypatch.chdir(tmp_path)
    with ToxicProxy(moto.endpoint) as proxy:
        use(moto.environment(endpoint=proxy.url))
        proxy.poison(without("If-None-Match"))
        address = moto.place()
        Path("refloat.yaml").write_text(
            f"version: 1\npipeline: small\nprimary: eu\nregions:\n  eu: {{vault: '{tmp_path}/eu'}}\n"
            f"  us: {{vault: '{address}'}}\n"
            f"components:\n  pages: {{kind: files, with: {{path: '{tmp_path}/pages'}}}}\n"
        )
        assert run(["--json", "vault", "init", "--key", "small.key"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["rule"], error["region"]) == ("refused", "create_ignored", "us")
    assert not Path("small.key").exists()
    assert not [path for path in (tmp_path / "eu").rglob("*") if path.is_file()]
    assert moto.keys(address) == []


def test_where_nothing_may_be_deleted_a_vault_is_made_and_what_stays_of_the_trial_is_no_damage(
    seaweedfs: Any, proxy: ToxicProxy, use: Any, tmp_path: Path
) -> None:
    use(seaweedfs.environment(endpoint=proxy.url))
    proxy.poison(answer(403, "AccessDenied"), method="POST")  # obstore deletes so
    place = seaweedfs.place()
    world = World(tmp_path, group="", stores={"eu": MemoryStore("eu"), "us": open_bucket(place)})
    world.release(1)
    create_vault(world.stores, world.key_file, world.clock, "small")
    assert [key for key in seaweedfs.keys(place) if f"/{TRIAL}" in key]
    assert world.protect().ok
    assert check(world.vault().replicas["us"], read_data=True).ok
