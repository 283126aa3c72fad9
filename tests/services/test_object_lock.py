"""Object lock on a real S3 server: what a point needs stays, whoever holds which credential and key."""

from __future__ import annotations

import io
import itertools
import json
import random
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from refloat.cli.system import SystemClock
from refloat.contracts import Keeping, Store
from refloat.digest import object_name
from refloat.errors import Refused, Retry, StoreError, UsageError, WrongKey
from refloat.flows.mend_logs import mend_logs
from refloat.flows.opening import unwrapped_key
from refloat.flows.replicate import Located
from refloat.flows.status import status
from refloat.testing.toxic import ToxicProxy
from refloat.testing.world import World, WorldClock
from refloat.units import parse_time
from refloat.vault import holders, layout, wraps
from refloat.vault import replica as replica_room
from refloat.vault.aside import audited, first_break
from refloat.vault.check import check
from refloat.vault.keyfile import signer_id
from refloat.vault.keyobjects import lock_object, publics_of
from refloat.vault.keys import KeyFile, Role
from refloat.vault.lock import lock_keys, prove_locks, view
from refloat.vault.new_replica import make_replica
from refloat.vault.points import roots
from refloat.vault.prune import plan_prune, prune
from refloat.vault.renewed import renewed_hashes, write_renewed
from refloat.vault.repair import repair, uncover
from refloat.vault.replica import Replica, create_vault
from refloat.vault.replicate import copy_objects
from refloat.vault.slotlog import SlotLog
from refloat.vault.stores import open_store
from refloat.vault.stores.faulty import Crash
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.tree import chunk_names
from refloat.vault.vault import Vault
from refloat.vault.witness import begin_anew, rolled_back
from refloat.vault.writer import Writer

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "cli"))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "vault"))

from contract_pins import printed, require_pinned
from poison import packs, poison, thief_of

pytestmark = pytest.mark.slow

TERM = timedelta(days=2)
SLOTS = 12
LIES = 4  # packs that claim the chunks of each true one: to take any of them is to take a lie, but for 1 in 5
READER = ("reader", "the-readers-very-secret-key")


def locked_place(server: Any) -> str:
    """An empty place in a bucket with object lock."""
    bucket = f"locked-{uuid.uuid4().hex[:12]}"
    server.client().create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    return f"s3://{bucket}/v"


def locked_world(place: str, root: Path, *, points: int) -> World:
    """A pipeline with so many points in a locked vault, whose regions are two folders of one bucket."""
    stores = {"eu": open_store(place), "us": open_store(f"{place}-us")}
    world = World(root, group="", stores=stores, clock=WorldClock(datetime.now(UTC)))
    create_vault(world.stores, world.key_file, world.clock, "small", TERM)
    for version in range(1, points + 1):
        world.release(version)
        assert world.protect().ok
    return world


def bucket_of(world: World) -> str:
    return world.stores["eu"].url.removeprefix("s3://").partition("/")[0]


@pytest.mark.parametrize("before", ["write_descriptor", "lock_keys"])
def test_a_making_that_was_killed_is_gone_on_with_and_all_is_locked(
    seaweedfs: Any, use: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:  # fault 18
    use(seaweedfs.environment())
    place = locked_place(seaweedfs)
    stores = {"eu": open_store(place), "us": open_store(f"{place}-us")}
    world = World(tmp_path, group="", stores=stores, clock=WorldClock(datetime.now(UTC)))
    home: Any = layout if before == "write_descriptor" else replica_room
    real, calls = getattr(home, before), itertools.count(1)

    def killed(*given: Any) -> None:
        if next(calls) == 2:
            raise Crash
        real(*given)

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(home, before, killed)
        create_vault(world.stores, world.key_file, world.clock, "small", TERM)
    with pytest.raises(UsageError, match="begun with --lock 2d"):
        create_vault(world.stores, world.key_file, world.clock, "small")
    made = create_vault(world.stores, world.key_file, world.clock, "small", TERM)
    for replica in made.values():
        keys = [entry.name for entry in replica.store.list(layout.KEYS)]
        assert len(keys) == 7 and isinstance(replica.store, Keeping)
        assert all(replica.store.locked_until(name) for name in [layout.VAULT, *keys])
    world.release(1)
    assert world.protect().ok and not check(world.vault().replicas["us"], read_data=True).damaged


@pytest.fixture
def world(seaweedfs: Any, use: Any, tmp_path: Path) -> World:
    """One to be harmed."""
    use(seaweedfs.environment())
    return locked_world(locked_place(seaweedfs), tmp_path, points=2)


@pytest.fixture(scope="module")
def shared_world(seaweedfs: Any, tmp_path_factory: pytest.TempPathFactory) -> World:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in seaweedfs.environment().items():
            patch.setenv(name, value)
        return locked_world(locked_place(seaweedfs), tmp_path_factory.mktemp("shared"), points=2)


@pytest.fixture
def shared(seaweedfs: Any, use: Any, shared_world: World) -> World:
    """One that is left as it was found, or with more in it that is right."""
    use(seaweedfs.environment())
    return shared_world


def names_in(world: World, region: str, folder: str) -> list[str]:
    return sorted(entry.name for entry in world.vault().replicas[region].store.list(folder))


def chunks_of(replica: Replica, body: Any) -> set[bytes]:
    trees = map(bytes.fromhex, roots(body))
    return set(chain.from_iterable(chunk_names(tree, replica.read_chunk) for tree in trees))


def packs_of(replica: Replica, body: Any) -> set[str]:
    """The packs in which the chunks of a point lie, each chunk in one of them."""
    return {next(iter(replica.locate(name))).pack.name for name in chunks_of(replica, body)}


def lock_by_itself(server: Any, world: World, *, days: int) -> None:
    """From here on the bucket locks a new object for so long, or not at all."""
    rule = {"Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": days}}} if days else {}
    server.client().put_object_lock_configuration(
        Bucket=bucket_of(world), ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", **rule}
    )


def retained(server: Any, world: World, name: str) -> datetime:
    """Until when an object is locked, as the server itself says."""
    client, where = server.client(), {"Bucket": bucket_of(world), "Key": f"v/{name}"}
    first = client.list_object_versions(Bucket=where["Bucket"], Prefix=where["Key"])["Versions"][-1]
    told = client.head_object(**where, VersionId=first["VersionId"])
    assert told["ObjectLockMode"] == "COMPLIANCE"
    until: datetime = told["ObjectLockRetainUntilDate"]
    return until


def raze(thief: Any, bucket: str) -> int:
    """Hide, overwrite and try to remove every object, garbage slots added; how many versions were kept."""
    found = thief.list_object_versions(Bucket=bucket)["Versions"]
    for one in found:
        thief.put_object(Bucket=bucket, Key=one["Key"], Body=b"ransom")
    hidden = [{"Key": key} for key in {one["Key"] for one in found}]
    thief.delete_objects(Bucket=bucket, Delete={"Objects": hidden})
    doomed = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]
    told = thief.delete_objects(Bucket=bucket, Delete={"Objects": doomed})
    kept = told.get("Errors", [])
    assert {one["Code"] for one in kept} == {"AccessDenied"}
    for folder in ("v", "v-us"):
        for slot in (3, 4):
            key = f"{folder}/{layout.slot_name('points', slot)}"
            thief.put_object(Bucket=bucket, Key=key, Body=b"garbage")
    return len(kept)


def planted(world: World, slot: int, previous: str) -> tuple[str, bytes]:
    """What a stolen key signs for a slot, after an entry that no log has: its name and its bytes."""
    thief = World(world.root, stores={"eu": MemoryStore()}, key_file=world.key_file)
    log = create_vault(thief.stores, world.key_file, world.clock, "small")["eu"].log("points", Role.WRITER)
    log._write(slot, previous, {"point": "66" * 32}, ())
    name = layout.slot_name("points", slot)
    return name, thief.stores["eu"].get(name)


def test_a_stolen_credential_and_key_lose_no_point_that_was_committed_before(
    seaweedfs: Any, world: World
) -> None:
    # faults 21, 22, 52
    points = [point.name for point in world.vault().replicas["eu"].points()]
    previous = "77" * 32
    for slot in (2, 3, 7):  # what the key signs, ahead of all others or in a chain of its own
        name, content = planted(world, slot, previous)
        previous = object_name(content)
        for folder in ("v", "v-us"):
            seaweedfs.client().put_object(Bucket=bucket_of(world), Key=f"{folder}/{name}", Body=content)
    for replica in world.vault().replicas.values():
        assert [point.name for point in replica.points()] == points
    world.release(3)
    assert world.protect().ok
    for replica in world.vault().replicas.values():
        made = replica.points()
        assert [point.name for point in made[:2]] == points
        assert len(made) == 3 and made[2].slot == 2, "written over what was planted there"

    points.append(made[2].name)
    live = world.live("eu")
    assert raze(seaweedfs.client(), bucket_of(world)) > 20
    for replica in world.vault().replicas.values():
        assert [point.name for point in replica.points()] == points
        for point in points:
            replica.read_point(point)
    assert world.recover().evidence.state == "done"
    assert world.live("us") == live
    for replica in world.vault().replicas.values():
        assert len(replica.points()) == 4, (
            "the recovery's own point is there: garbage in free slots hinders nobody"
        )


def test_a_locked_log_is_fetched_once_when_it_is_read(seaweedfs: Any, use: Any, proxy: ToxicProxy) -> None:
    use(seaweedfs.environment())
    place = locked_place(seaweedfs)
    clock, key = WorldClock(), KeyFile.create("10c" * 5, "small")
    log = create_vault({"eu": open_store(place)}, key, clock, "small", TERM)["eu"].log("points", Role.WRITER)
    for number in range(SLOTS):
        log.append({"point": object_name(bytes([number]))})
    use(seaweedfs.environment(endpoint=proxy.url))
    replica = Replica.open("eu", open_store(place), key, clock)
    opened = len(proxy.seen)
    assert len(replica.points()) == SLOTS
    asked = Counter(seen.path.partition("?")[0] for seen in proxy.seen[opened:])
    entries = {path: count for path, count in asked.items() if "/log/points/" in path}
    *before, last = (entries.pop(f"/{place[5:]}/{layout.slot_name('points', slot)}") for slot in range(SLOTS))
    assert not entries and set(before) == {1} and last <= 3, (
        "whether the last one is still there is looked at"
    )
    assert asked.total() - sum(before) - last <= 3, "and what is there was listed, not asked for name by name"


def test_a_commit_locks_all_that_its_point_needs_in_each_region(shared: World) -> None:
    # fault 22
    assert shared.protect().ok  # whatever was added to the vault since the last
    for replica in shared.vault().replicas.values():
        store = replica.store
        assert isinstance(store, Keeping)
        made = store.written_at(layout.point_name(replica.points()[-1].name))
        for folder in (layout.VAULT, layout.KEYS, layout.PACKS, layout.INDEX, "log/points/"):
            for entry in store.list(folder):
                until = store.locked_until(entry.name)
                assert until is not None and until >= made + TERM, entry.name


def test_a_point_that_a_region_missed_is_locked_there_as_any_other(seaweedfs: Any, shared: World) -> None:
    # fault 22
    lock_by_itself(seaweedfs, shared, days=0)
    shared.release(3)
    assert shared.protect(Vault({"eu": shared.vault().replicas["eu"]}, {})).ok
    shared.release(4)
    assert shared.protect().ok
    replica = shared.vault().replicas["us"]
    assert [point.name for point in replica.points()] == [
        point.name for point in shared.vault().replicas["eu"].points()
    ], "the missed one counts"
    store = replica.store
    assert isinstance(store, Keeping)
    missed = replica.points()[-2]
    made = store.written_at(layout.point_name(missed.name))
    body = replica.read_point(missed.name)
    packs = map(layout.pack_name, packs_of(replica, body))
    entries = (layout.slot_name("points", slot) for slot in range(missed.slot + 1))
    for name in (layout.point_name(missed.name), *packs, *entries):
        until = store.locked_until(name)
        assert until is not None and until >= made + TERM, name


def test_a_commit_extends_the_lock_of_every_pack_that_it_reuses(seaweedfs: Any, world: World) -> None:
    # fault 22: the bucket's clock counts, so not time passes here, but the admin asks for longer
    lock_by_itself(seaweedfs, world, days=0)
    before = {name: retained(seaweedfs, world, name) for name in names_in(world, "eu", layout.PACKS)}
    longer = TERM * 5
    told = lock_object(world.key_file, int(longer.total_seconds()))
    for replica in world.vault().replicas.values():
        replica.store.create(layout.key_name(object_name(told)), told)
    world.release(5)
    assert world.protect().ok
    replica = world.vault().replicas["eu"]
    point = replica.points()[-1]
    assert isinstance(replica.store, Keeping)
    made = replica.store.written_at(layout.point_name(point.name))
    ends = {name: retained(seaweedfs, world, name) for name in names_in(world, "eu", layout.PACKS)}
    extended = {name for name, end in ends.items() if end >= made + longer}
    assert extended & before.keys() and extended - before.keys(), "some are of before, and one is new"
    assert all(end < made + longer for end in before.values())
    for chunk in chunks_of(replica, replica.read_point(point.name)):
        there = {
            layout.pack_name(place.pack.name): place.pack.key_id.hex() for place in replica.locate(chunk)
        }
        assert there.keys() & extended, (chunk.hex(), there, ends)


def test_a_credential_that_may_write_and_not_lock_commits_no_point(seaweedfs: Any, shared: World) -> None:
    # fault 22
    lock_by_itself(seaweedfs, shared, days=0)
    before = {region: replica.points() for region, replica in shared.vault().replicas.items()}
    denied = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObjectRetention"}
    statement = {**denied, "Resource": f"arn:aws:s3:::{bucket_of(shared)}/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    seaweedfs.client().put_bucket_policy(Bucket=bucket_of(shared), Policy=policy)
    try:
        shared.release(6)
        with pytest.raises(
            StoreError, match=r"us: cannot lock points/.*: these credentials may not"
        ) as caught:
            shared.protect()
    finally:
        seaweedfs.client().delete_bucket_policy(Bucket=bucket_of(shared))
    assert caught.value.retry is Retry.NEVER and "bucket's policy" in str(caught.value.next)
    after = {region: replica.points() for region, replica in shared.vault().replicas.items()}
    assert after == before, "no half of it counts"
    assert shared.protect().ok


def test_a_prune_leaves_what_is_locked_and_says_until_when(seaweedfs: Any, shared: World) -> None:
    # fault 22
    lock_by_itself(seaweedfs, shared, days=3)
    left = b"what a capture that was cut has left"
    name = layout.point_name(object_name(left))
    shared.vault().replicas["eu"].store.create(name, left)
    lock_by_itself(seaweedfs, shared, days=0)
    under = b"left, too, and a thief has put something over it that is locked"
    other = layout.point_name(object_name(under))
    shared.vault().replicas["eu"].store.create(other, under)
    day = datetime.now(UTC) + timedelta(days=2)
    seaweedfs.client().put_object(
        Bucket=bucket_of(shared),
        Key=f"v/{other}",
        Body=b"ransom",
        ObjectLockMode="COMPLIANCE",
        ObjectLockRetainUntilDate=day,
    )
    for plan in plan_prune(shared.vault(), shared.clock.now()):
        prune(shared.vault().replicas[plan.region], plan)
    later = shared.clock.now() + timedelta(days=1, hours=1)
    plan = next(one for one in plan_prune(shared.vault(), later) if one.region == "eu")
    assert not {name, other} & plan.remove.keys() and plan.wait[name] > later + timedelta(days=1)
    assert (plan.locked[name].bytes, plan.locked[other].bytes) == (len(left), len(under))
    assert plan.locked[name].until == plan.wait[name]
    prune(shared.vault().replicas["eu"], plan)
    assert shared.vault().replicas["eu"].store.get(name) == left
    assert shared.vault().replicas["eu"].store.get(other) == under
    uncover(shared.vault().replicas["eu"], [other])


def captured_in_small_packs(world: World, *numbers: int) -> str:
    """A point of some files, each in a pack of its own."""
    with Writer(list(world.vault().replicas.values()), pack_bytes_max=4096) as writer:
        sink = writer.sink()
        for number in numbers:
            sink.file(f"file-{number}", io.BytesIO(random.Random(number).randbytes(3000)))
        tree = sink.finish().tree
        return writer.commit({"manifest": tree, "components": {"files": {"tree": tree}}})[0]


def test_an_index_object_that_was_replaced_is_locked_no_longer(seaweedfs: Any, world: World) -> None:
    # fault 22
    lock_by_itself(seaweedfs, world, days=0)
    first = captured_in_small_packs(world, 1, 2, 3)
    captured_in_small_packs(world, 1)
    before = set(names_in(world, "eu", layout.INDEX))
    plans = plan_prune(world.vault(), world.clock.now(), forgetting=[first])
    for plan in plans:
        prune(world.vault().replicas[plan.region], plan)
    (old,) = next(plan for plan in plans if plan.region == "eu").replace
    (new,) = set(names_in(world, "eu", layout.INDEX)) - before
    until = retained(seaweedfs, world, old)
    time.sleep(1.1)  # the bucket tells times in whole seconds
    captured_in_small_packs(world, 1, 4)
    assert retained(seaweedfs, world, old) == until
    assert retained(seaweedfs, world, new) > datetime.now(UTC) + TERM - timedelta(minutes=1)
    report = check(world.vault().replicas["eu"], read_data=False)
    assert report.held is not None and report.held.until is not None and not report.held.lapsed
    later = until + timedelta(minutes=1)
    plan = next(one for one in plan_prune(world.vault(), later, forgetting=[first]) if one.region == "eu")
    assert old in plan.remove, "it goes when what locked it before is over"


# ------------------------------------------------------------------------------------------------- what is hidden


def put_a_marker(client: Any, bucket: str, key: str) -> None:
    assert client.delete_object(Bucket=bucket, Key=key)["DeleteMarker"]


def put_another_version(client: Any, bucket: str, key: str) -> None:
    client.put_object(Bucket=bucket, Key=key, Body=b"ransom")


def put_both(client: Any, bucket: str, key: str) -> None:
    put_another_version(client, bucket, key)
    put_a_marker(client, bucket, key)


COVERS = (
    (put_a_marker, "a delete marker lies over it", "the delete marker was removed"),
    (put_another_version, "something else was written over it", "its own version was written over"),
    (put_both, "a delete marker lies over it", "its own version was written over"),
)


def test_what_lies_over_an_object_is_named_and_taken_away(seaweedfs: Any, shared: World) -> None:
    # fault 21
    for version in (6, 7):
        shared.release(version)
        assert shared.protect().ok
    replica = shared.vault().replicas["eu"]
    *_, oldest, middle, newest = replica.points()
    recent = [oldest, middle, newest]
    kinds = {
        "body": [layout.point_name(point.name) for point in recent],
        "slot": [layout.slot_name("points", point.slot) for point in recent],
        **{
            folder: names_in(shared, "eu", folder)[:3] for folder in (layout.PACKS, layout.INDEX, layout.KEYS)
        },
    }
    covers = {name: cover for names in kinds.values() for name, cover in zip(names, COVERS, strict=True)} | {
        layout.VAULT: COVERS[1]
    }
    stored = {name: replica.store.get(name) for name in covers}
    free = layout.slot_name("points", newest.slot + 1)
    for name, (cover, _, _) in {**covers, free: COVERS[2]}.items():
        cover(seaweedfs.client(), bucket_of(shared), f"v/{name}")

    replica = shared.vault().replicas["eu"]
    report = check(replica, read_data=True)
    assert not report.damaged, "all of it can be read all the same"
    assert not report.ok and {found.region for found in report.covered} == {"eu"}
    assert {found.object: found.reason for found in report.covered} == {
        name: reason for name, (_, reason, _) in covers.items()
    }
    affects = {found.object: found.affects for found in report.covered}
    for at, point in enumerate(recent):
        assert affects[kinds["body"][at]] == affects[kinds["slot"][at]] == (point.name,)
    everyone = {point.name for point in replica.points()}
    assert set(affects[kinds[layout.KEYS][0]]) == set(affects[kinds[layout.INDEX][0]]) == everyone
    used = packs_of(replica, replica.read_point(newest.name))
    for name in kinds[layout.PACKS]:
        assert name.rpartition("/")[2] not in used or newest.name in affects[name]

    told = uncover(replica, covers)
    assert told.keys() == covers.keys()
    assert all(told[name].startswith(done) for name, (_, _, done) in covers.items())
    assert check(shared.vault().replicas["eu"], read_data=False).ok
    plain = open_store(shared.stores["eu"].url)
    assert {name: plain.get(name) for name in covers} == stored, "who knows no versions reads them again"


def test_the_same_bytes_over_an_object_are_no_cover_however_they_came(seaweedfs: Any, shared: World) -> None:
    # fault 21
    name = names_in(shared, "eu", layout.PACKS)[0]
    where = {"Bucket": bucket_of(shared), "Key": f"v/{name}"}
    content = shared.vault().replicas["eu"].store.get(name)
    client = seaweedfs.client()
    upload = {**where, "UploadId": client.create_multipart_upload(**where)["UploadId"]}
    part = client.upload_part(**upload, PartNumber=1, Body=content)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    client.complete_multipart_upload(**upload, MultipartUpload=parts)
    newest, *below = client.list_object_versions(Bucket=where["Bucket"], Prefix=where["Key"])["Versions"]
    assert newest["ETag"] not in {one["ETag"] for one in below}, "the server tells them apart"
    assert check(shared.vault().replicas["eu"], read_data=False).ok


def test_a_good_copy_counts_beside_what_a_thief_put_there_first(seaweedfs: Any, shared: World) -> None:
    # faults 21, 52
    content = b"what one region has, and the other one lacks"
    name = layout.point_name(object_name(content))
    replicas = shared.vault().replicas
    replicas["eu"].store.create(name, content)
    seaweedfs.client().put_object(
        Bucket=bucket_of(shared),
        Key=f"v-us/{name}",
        Body=b"ransom",
        ObjectLockMode="COMPLIANCE",
        ObjectLockRetainUntilDate=datetime.now(UTC) + timedelta(days=1),
    )
    done = repair(replicas["us"], [name], [replicas["eu"]])
    assert done.mended == {name: "eu"} and not done.left
    assert shared.vault().replicas["us"].store.get(name) == content


# ------------------------------------------------------------------------------------------------- what has lapsed


def test_a_lock_that_lapsed_is_told(shared: World) -> None:
    # fault 22
    replica = shared.vault().replicas["eu"]
    report = check(replica, read_data=False)
    point = replica.points()[-1]
    assert isinstance(replica.store, Keeping)
    made = replica.store.written_at(layout.point_name(point.name))
    assert report.held is not None and not report.lapsed
    assert report.held.until is not None and report.held.until >= made + TERM
    told = status(shared.manifest, shared.vault(), shared.clock).regions["eu"]
    assert not told["lock_lapsed"] and parse_time(str(told["locked_until"])) >= made + TERM

    later = WorldClock(datetime.now(UTC) + TERM * 6)
    vault = Vault({r: Replica.open(r, s, shared.key_file, later) for r, s in shared.stores.items()}, {})
    report = check(vault.replicas["eu"], read_data=False)
    pack = layout.pack_name(sorted(packs_of(replica, replica.read_point(point.name)))[0])
    assert {layout.point_name(point.name), layout.slot_name("points", point.slot), pack} <= set(report.lapsed)
    assert status(shared.manifest, vault, later).regions["eu"]["lock_lapsed"]


@pytest.fixture
def made_anew(seaweedfs: Any, shared: World) -> World:
    """The shared vault, of which one region was lost with its bucket and has the objects of the other again."""
    stores = {"eu": shared.stores["eu"], "us": open_store(locked_place(seaweedfs))}
    source, target = (Located(region, view(store)) for region, store in stores.items())
    make_replica(source, Located("us", stores["us"]))
    copy_objects(source, target)
    return World(shared.root, group="", stores=stores, clock=shared.clock, key_file=shared.key_file)


def test_a_log_that_begins_anew_stands_in_a_locked_vault(made_anew: World) -> None:
    # fault 52
    replicas = list(made_anew.vault().replicas.values())
    assert rolled_back(replicas).keys() == {"us"}
    assert begin_anew(replicas).keys() == {"us"}
    again = made_anew.vault().replicas
    assert renewed_hashes(again["us"])
    assert rolled_back(list(again.values())) == {}


def test_a_region_that_lost_the_word_of_the_lock_commits_nothing_until_it_is_mended(
    seaweedfs: Any, made_anew: World
) -> None:
    # faults 21, 22, 52
    client, bucket = seaweedfs.client(), made_anew.stores["us"].url.removeprefix("s3://").partition("/")[0]
    for one in client.list_object_versions(Bucket=bucket, Prefix=f"v/{layout.KEYS}")["Versions"]:
        where = {"Bucket": bucket, "Key": one["Key"], "VersionId": one["VersionId"]}
        if b'"type":"lock"' in client.get_object(**where)["Body"].read():
            client.delete_object(**where)

    replicas = made_anew.vault().replicas
    with pytest.raises(StoreError, match="locks its points"):
        lock_keys(replicas["us"].store, replicas["us"].keyring)
    report = check(replicas["us"], read_data=False)
    assert layout.KEYS in {found.object for found in report.damaged}
    assert repair(replicas["us"], [layout.KEYS], [replicas["eu"]]).mended
    replica = made_anew.vault().replicas["us"]
    assert isinstance(replica.store, Keeping)
    lock_keys(replica.store, replica.keyring)


# ------------------------------------------------------------------------------------------------- set aside


def claims(replica: Replica, target: str = "us") -> Any:
    """The claims of a target: each test that leaves something behind in them has a target of its own."""
    return replica.log(f"targets/{target}", Role.OPERATOR)


def test_what_operators_sign_is_set_aside_in_a_locked_vault_and_the_log_goes_on(
    seaweedfs: Any, shared: World
) -> None:
    # faults 52, 55: a stolen operator's key wrote an entry that follows none, and it is locked for good
    replica = shared.vault().replicas["us"]
    kept = [claims(replica).append({"type": "note", "n": n}).hash for n in (1, 2)]
    stray = SlotLog(MemoryStore(), "targets/us", replica.keyring, role=Role.OPERATOR, clock=shared.clock)
    first = claims(replica).listed()[0]
    stray._write(len(claims(replica).listed()), "77" * 32, {"type": "note", "n": 3}, ())
    name = layout.slot_name("targets/us", len(claims(replica).listed()))
    content = stray._store.get(name)
    client, bucket = seaweedfs.client(), bucket_of(shared)
    until = datetime.now(UTC) + timedelta(days=1)
    locked = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
    client.put_object(Bucket=bucket, Key=f"v-us/{name}", Body=content, **locked)
    replica = shared.vault().replicas["us"]
    broken = first_break(claims(replica))
    assert broken is not None and broken.behind == (int(name[-16:]),) and first == 0
    others = [shared.vault().replicas["eu"]]
    done = mend_logs(replica, [name], others, shared.clock, frozenset({"log_damaged"}))
    assert not done.left and "set aside" in done.mended[name]
    fresh = shared.vault().replicas["us"]
    assert first_break(claims(fresh)) is None
    assert audited(fresh)[-1]["entries"] == [object_name(content)]
    assert [entry.hash for entry in claims(fresh).entries()][:2] == kept
    went_on = claims(fresh).append({"type": "note", "n": 4})
    assert [entry.hash for entry in claims(shared.vault().replicas["us"]).entries()][-1] == went_on.hash


def test_no_word_of_an_operator_sets_a_point_or_the_admins_word_aside_in_a_locked_vault(
    shared: World,
) -> None:
    # fault 52
    replica = shared.vault().replicas["us"]
    before = [point.name for point in replica.points()]
    write_renewed(replica, ["66" * 32])
    renewed = [entry.hash for entry in replica.log("renewed", Role.ADMIN).entries()]
    entries: list[Any] = [*(entry.hash for entry in replica.entries()), *renewed]
    for stream in ("points", "renewed", "audit"):
        said = {"type": "set_aside", "stream": stream, "slots": [0], "entries": entries}
        replica.log("audit", Role.OPERATOR).append(said)
    fresh = shared.vault().replicas["us"]
    assert [point.name for point in fresh.points()] == before
    assert "66" * 32 in renewed_hashes(fresh)
    assert len(list(fresh.log("audit", Role.OPERATOR).entries())) >= 3


def test_what_a_stranger_says_was_set_aside_counts_for_nothing_in_a_locked_vault(
    seaweedfs: Any, shared: World
) -> None:
    # fault 52
    replica = shared.vault().replicas["eu"]
    entry = claims(replica, "stranger").append({"type": "note", "n": 1})
    stranger = KeyFile.create(shared.key_file.vault, "small")
    theirs = create_vault({"eu": MemoryStore()}, stranger, shared.clock, "small")["eu"]
    slot = replica.log("audit", Role.OPERATOR).last_slot() + 1
    said = {"type": "set_aside", "stream": "targets/stranger", "slots": [entry.slot], "entries": [entry.hash]}
    theirs.log("audit", Role.OPERATOR)._write(slot, "0" * 64, said, ())
    name = layout.slot_name("audit", slot)
    seaweedfs.client().put_object(Bucket=bucket_of(shared), Key=f"v/{name}", Body=theirs.store.get(name))
    fresh = shared.vault().replicas["eu"]
    assert [one.hash for one in claims(fresh, "stranger").entries()][-1] == entry.hash and audited(
        fresh
    ) == []
    fresh.log("audit", Role.OPERATOR).append({"type": "note"})


def test_what_a_removed_operator_says_was_set_aside_counts_where_it_was_said_before(shared: World) -> None:
    # faults 52, 58
    made = shared.key_file.for_another(Role.WRITER, Role.READER, Role.OPERATOR)
    assert not holders.add(shared.vault(), shared.key_file, made, "on call", shared.clock.now()).lagging
    on_call = World(shared.root, shared.group, shared.clock, made, shared.stores)
    stale = on_call.vault().replicas["us"]
    own = claims(shared.vault().replicas["us"], "removed")
    entries = [own.append({"type": "note", "n": n}) for n in (7, 8)]

    def set_aside(entry: Any) -> None:
        said = {
            "type": "set_aside",
            "stream": "targets/removed",
            "slots": [entry.slot],
            "entries": [entry.hash],
        }
        stale.log("audit", Role.OPERATOR).append(said)

    set_aside(entries[0])
    vault = shared.vault()
    signer = signer_id(publics_of(made)[Role.OPERATOR])
    holder = holders.named(list(vault.replicas.values()), signer)
    assert isinstance(holder, holders.Holder)
    holders.remove(vault, shared.key_file, holder, shared.clock.now())
    set_aside(entries[1])
    fresh = shared.vault().replicas["us"]
    told = [said["entries"] for said in audited(fresh)]
    assert [entries[0].hash] in told and [entries[1].hash] not in told
    there = [entry.hash for entry in claims(fresh, "removed").entries() if not entry.void]
    assert entries[1].hash in there and fresh.keyring.removals()


# ------------------------------------------------------------------------------------------------- making a vault


def test_a_passphrase_that_is_let_go_stays_locked_and_opens_nothing(shared: World) -> None:
    # fault 58
    places = [store.url for store in shared.stores.values()]
    holders.keep(shared.vault(), shared.key_file, "old", shared.clock.now(), ["old words"])
    holders.keep(shared.vault(), shared.key_file, "new", shared.clock.now(), ["new words"])
    shared.release(6)
    assert shared.protect().ok
    assert unwrapped_key(places, "old words").vault == shared.key_file.vault
    (old,) = [one for one in wraps.kept(list(shared.vault().replicas.values())) if one.noted.name == "old"]
    now = datetime.now(UTC)
    done = holders.let_go(shared.vault(), shared.key_file, old, now)
    assert [(one.written, one.deleted) for one in done.values()] == [(1, 0), (1, 0)]
    assert all(one.locked_until and one.locked_until > now + timedelta(days=1) for one in done.values())
    with pytest.raises(WrongKey, match="let this passphrase go"):
        unwrapped_key(places, "old words")
    assert unwrapped_key(places[:1], "new words").vault == shared.key_file.vault
    (again,) = [one for one in wraps.kept(list(shared.vault().replicas.values())) if one.noted.name == "old"]
    assert again.noted.removed_at is not None and again.regions == ("eu", "us")


def test_a_commit_locks_the_writers_own_pack_where_another_claims_the_same_chunks(
    seaweedfs: Any, world: World
) -> None:
    # faults 22, 57
    lock_by_itself(seaweedfs, world, days=0)
    own, thief = packs(world, "eu"), thief_of(world)
    for _ in range(LIES):
        poison(thief, own, "eu")
    longer = TERM * 10
    told = lock_object(world.key_file, int(longer.total_seconds()))
    for replica in world.vault().replicas.values():
        replica.store.create(layout.key_name(object_name(told)), told)
    world.release(8)
    assert world.protect().regions["eu"].complete
    replica = world.vault().replicas["eu"]
    point = replica.points()[-1]
    assert isinstance(replica.store, Keeping)
    made = replica.store.written_at(layout.point_name(point.name))
    needed, claimed = set(), 0
    for chunk in chunks_of(replica, replica.read_point(point.name)):
        there = {place.pack.writer: place.pack.name for place in replica.index.locations(chunk)}
        needed.add(there[replica.keyring.writer])
        claimed += len(there) > 1
    assert claimed, "the thief claims to hold what the point reuses as well"
    for pack in needed:
        assert retained(seaweedfs, world, layout.pack_name(pack)) >= made + longer, pack


def test_a_bucket_that_locks_nothing_is_refused_before_anything_is_written(seaweedfs: Any, use: Any) -> None:
    use(seaweedfs.environment())
    place = seaweedfs.place()
    with pytest.raises(Refused, match="no object lock") as caught:
        prove_locks({"eu": open_store(place)}, TERM)
    assert caught.value.rule == "lock_not_kept" and caught.value.next
    assert seaweedfs.keys(place) == []


def test_each_opening_of_a_bucket_takes_the_credentials_of_that_moment(seaweedfs: Any, use: Any) -> None:
    # fault 66
    place = locked_place(seaweedfs)
    use(seaweedfs.environment(READER))
    with pytest.raises(StoreError, match="may not"):
        prove_locks({"eu": open_store(place)}, TERM)
    use(seaweedfs.environment())
    assert isinstance(prove_locks({"eu": open_store(place)}, TERM)["eu"], Keeping)


def test_a_store_that_lets_a_lock_be_undone_is_refused(moto: Any, use: Any) -> None:
    use(moto.environment())
    place = locked_place(moto)
    with pytest.raises(Refused, match="does not lock what it holds") as caught:
        prove_locks({"eu": open_store(place)}, TERM)
    assert caught.value.rule == "lock_not_kept"


# ------------------------------------------------------------------------------------------------- the command line


MANIFEST = """\
version: 1
pipeline: notes
regions: {{here: {{vault: "{vault}"}}}}
primary: here
components: {{pages: {{kind: files, with: {{path: pages}}}}}}
"""


@dataclass
class Desk:
    """A folder with pages and a manifest, whose vault is to be in a bucket that locks."""

    root: Path
    capture: pytest.CaptureFixture[str]
    store: Store
    said: str = ""

    @property
    def manifest(self) -> Path:
        return self.root / "refloat.yaml"


@pytest.fixture
def desk(seaweedfs: Any, use: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Desk:
    use(seaweedfs.environment())
    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("REFLOAT_KEY_FILE", "notes.key"),
        ("XDG_STATE_HOME", "state"),
        ("XDG_CACHE_HOME", "cache"),
    ):
        monkeypatch.setenv(name, str(tmp_path / value))
    place = locked_place(seaweedfs)
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "one.txt").write_text("what the page says")
    (tmp_path / "refloat.yaml").write_text(MANIFEST.format(vault=place))
    return Desk(tmp_path, capsys, open_store(place))


def test_a_locked_vault_on_the_command_line(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    # faults 21, 22
    made = printed(desk, "vault", "init", "--lock", "2d")
    assert made["lock_s"] == TERM.total_seconds()
    assert printed(desk, "protect")["regions"]["here"]["complete"]
    sound = printed(desk, "vault", "check")
    assert sound["ok"] and parse_time(sound["locks"]["here"]["until"]) > datetime.now(UTC) + TERM
    require_pinned("vault check", "locked", sound)
    seen = printed(desk, "status")
    assert seen["regions"]["here"]["lock_s"] == made["lock_s"] and not seen["regions"]["here"]["lock_lapsed"]
    require_pinned("status", "locked", seen)

    body = next(desk.store.list(layout.POINTS)).name
    for name in (body, layout.VAULT):
        desk.store.delete(name)  # a delete marker, and no more
    covered = printed(desk, "vault", "check", exits=4)
    assert {one["object"] for one in covered["covered"]} == {body, layout.VAULT} and not covered["damaged"]
    require_pinned("vault check", "covered", covered)
    printed(desk, "recover", "--into", "back")
    assert [file.read_text() for file in (desk.root / "back").rglob("one.txt")] == ["what the page says"]
    mended = printed(desk, "vault", "repair")
    assert mended["regions"]["here"]["uncovered"] == dict.fromkeys(
        (body, layout.VAULT), "the delete marker was removed"
    )
    require_pinned("vault repair", "uncovered", mended)
    assert printed(desk, "vault", "check")["ok"]

    left = b"what a capture that was cut has left"
    name = layout.point_name(object_name(left))
    desk.store.create(name, left)
    pruned = printed(desk, "vault", "prune")
    locked = pruned["regions"]["here"]["locked"]
    assert [(one["object"], one["bytes"]) for one in locked] == [(name, len(left))]
    require_pinned("vault prune", "locked", pruned)

    monkeypatch.setattr(SystemClock, "now", lambda clock: datetime.now(UTC) + 3 * TERM)
    lapsed = printed(desk, "vault", "check", exits=1)
    assert body in lapsed["locks"]["here"]["lapsed"] and not lapsed["ok"]
    assert printed(desk, "status", exits=1)["regions"]["here"]["lock_lapsed"]
    assert "not locked" in desk.said


def test_a_key_that_a_locked_vault_keeps_is_rotated_and_the_old_one_counts_no_more(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    # fault 58
    printed(desk, "vault", "init", "--lock", "2d")
    public = printed(desk, "vault", "keys", "recipient", "--key", "own.private")["recipient"]
    roles = ("--role", "writer", "--role", "reader")
    printed(desk, "vault", "keys", "add", *roles, "--name", "trainer", "--recipient", public)
    printed(desk, "protect")
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(desk.root / "own.private"))
    rotated = printed(desk, "vault", "keys", "rotate")
    assert "in here the old sealed key is locked and stays until" in rotated["remark"]
    assert "refloat takes the new one" in rotated["remark"] and "future only" in rotated["remark"]
    require_pinned("vault keys rotate", "kept", rotated)
    listed = printed(desk, "vault", "keys", "list")
    assert [one["id"] for one in listed["content_keys"] if one["current"]] == [rotated["after"]]
    assert [(one["kept_for"], one["regions"]) for one in listed["kept"]] == [("recipient", ["here"])]
    (desk.root / "pages" / "one.txt").write_text("what the page says by now")
    assert printed(desk, "protect")["regions"]["here"]["complete"]
    printed(desk, "recover", "--into", "back")
    assert [file.read_text() for file in (desk.root / "back").rglob("one.txt")] == [
        "what the page says by now"
    ]
