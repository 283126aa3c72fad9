"""Key files that a vault keeps sealed: each opens it from a bare machine, for just one holder, until it is let go."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from refloat.errors import Missing, RefloatError, UsageError, WrongKey
from refloat.testing.world import World
from refloat.vault import holders, layout, wraps
from refloat.vault.keyfile import KeyFile, Role
from refloat.vault.recipients import RecipientKey, seal_key_file, told_of
from refloat.vault.replica import Replica
from refloat.vault.stores.faulty import FaultyStore
from refloat.vault.wraps import Kept

NOW = datetime(2026, 11, 2, tzinfo=UTC)
LATER = NOW.replace(day=9)
REGIONS = ("eu", "us")
OWN = RecipientKey.create()
PHRASE = "correct horse"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.small(tmp_path, group="")


def replicas(world: World) -> list[Replica]:
    return list(world.vault().replicas.values())


def keep(world: World, *ways: wraps.Way, name: str = "safe", now: datetime = NOW) -> dict[str, int]:
    """How many objects each region took."""
    done = holders.keep(world.vault(), world.key_file, name, now, ways)
    assert done.lagging == {}
    return dict(done.written)


def kept(world: World) -> dict[str, Kept]:
    """The ways by kind, of which there is one each."""
    found = wraps.kept(replicas(world))
    assert len({way.told.kind for way in found}) == len(found)
    return {way.told.kind: way for way in found}


def opening(world: World, secret: wraps.Secret) -> set[bytes]:
    """The key files that a secret opens, in any region."""
    found = {one for region in REGIONS for one in wraps.key_objects_in(world.stores[region]).values()}
    opened = set()
    for content in found:
        try:
            opened.add(wraps.opened(content, secret).to_bytes() if wraps.may_open(content, secret) else b"")
        except WrongKey:
            continue
    return opened - {b""}


def test_to_keep_again_changes_nothing_and_another_name_is_one_more_note(world: World) -> None:
    assert keep(world, OWN.public, PHRASE) == {"eu": 4, "us": 4}
    assert keep(world, OWN.public, PHRASE, now=LATER) == {"eu": 0, "us": 0}
    assert keep(world, OWN.public, PHRASE, name="vault room", now=LATER) == {"eu": 2, "us": 2}
    for way in kept(world).values():
        assert way.regions == REGIONS and way.noted is not None
        assert (way.noted.name, way.noted.since, way.noted.removed_at) == ("vault room", LATER, None)
    assert opening(world, OWN) == opening(world, PHRASE) == {world.key_file.to_bytes()}


def test_only_the_admin_keeps_and_lets_go(world: World) -> None:
    keep(world, PHRASE)
    lesser = world.key_file.for_roles(Role.WRITER, Role.READER, Role.OPERATOR)
    with pytest.raises(WrongKey, match="admin"):
        holders.keep(world.vault(), lesser, "safe", NOW, [OWN.public])
    with pytest.raises(WrongKey, match="admin"):
        holders.let_go(world.vault(), lesser, kept(world)["passphrase"], NOW)
    assert kept(world).keys() == {"passphrase"}


def test_a_recipient_opens_one_key_file_and_a_passphrase_may_open_two(world: World) -> None:
    keep(world, OWN.public, PHRASE)
    auditor = world.key_file.for_another(Role.READER)
    with pytest.raises(UsageError, match="opens another key file") as caught:
        holders.add(world.vault(), world.key_file, auditor, "auditor", NOW, ways=[OWN.public])
    assert kept(world)["recipient"].told.id in (caught.value.next or "")
    holders.add(world.vault(), world.key_file, auditor, "auditor", NOW, ways=[PHRASE])
    assert opening(world, PHRASE) == {world.key_file.to_bytes(), auditor.to_bytes()}
    assert opening(world, OWN) == {world.key_file.to_bytes()}


def test_what_every_region_lost_is_kept_anew(world: World) -> None:
    keep(world, OWN.public)
    for region in REGIONS:
        for name, content in wraps.key_objects_in(world.stores[region]).items():
            if wraps.may_open(content, OWN):
                world.stores[region].delete(name)
    assert kept(world)["recipient"].regions == () and opening(world, OWN) == set()
    assert keep(world, OWN.public, now=LATER) == {"eu": 1, "us": 1}
    assert opening(world, OWN) == {world.key_file.to_bytes()}


def test_whether_a_secret_opens_a_way_is_told_by_trying(world: World) -> None:
    keep(world, OWN.public, PHRASE)
    ways, there = kept(world), replicas(world)
    stranger = RecipientKey.create()
    for kind, secret, opens in (
        ("recipient", OWN, True),
        ("recipient", stranger, False),
        ("recipient", PHRASE, False),
        ("passphrase", PHRASE, True),
        ("passphrase", "correct horsf", False),
        ("passphrase", OWN, False),
    ):
        assert wraps.is_opened_by(there, ways[kind], secret) is opens


def test_what_is_not_named_after_its_bytes_is_no_key_object(world: World) -> None:
    content = world.key_file.wrapped(PHRASE)
    world.stores["eu"].create(layout.KEYS + "0" * 64, content)
    before = wraps.key_objects_in(world.stores["us"])
    assert before and wraps.key_objects_in(world.stores["eu"]) == before


# ------------------------------------------------------------------------------------- sealed anew, and let go


@pytest.mark.parametrize("secret", [OWN, PHRASE], ids=["recipient", "passphrase"])
def test_after_a_rotation_a_secret_opens_the_new_key_file_and_no_other_holders(
    world: World, secret: wraps.Secret
) -> None:
    keep(world, OWN.public, PHRASE, "battery staple")
    auditor = world.key_file.for_another(Role.READER)
    holders.add(world.vault(), world.key_file, auditor, "auditor", NOW, ways=[PHRASE])
    before = {way.told for way in wraps.kept(replicas(world))}
    fresh = holders.rotate(replicas(world), world.key_file)
    wraps.replace(replicas(world), fresh, secret, NOW)
    also = {auditor.to_bytes()} if secret is PHRASE else set()
    assert opening(world, secret) == {fresh.to_bytes(), *also}
    assert {way.told for way in wraps.kept(replicas(world))} == before, "known by the same ids"
    other = OWN if secret is PHRASE else PHRASE
    assert world.key_file.to_bytes() in opening(world, other)
    assert opening(world, "battery staple") == {world.key_file.to_bytes()}


def test_a_region_that_lacks_what_is_kept_gets_what_counts_and_not_what_is_locked_beside_it(
    world: World,
) -> None:  # fault 58
    keep(world, OWN.public)
    for _ in range(2):
        locked = wraps.key_objects_in(world.stores["eu"])
        world.key_file = holders.rotate(replicas(world), world.key_file)
        wraps.replace(replicas(world), world.key_file, OWN, NOW)
        there = wraps.key_objects_in(world.stores["eu"])
        for name in there:
            world.stores["eu"].delete(name)
        for name, content in {**locked, **there}.items():  # the oldest is listed first
            world.stores["eu"].create(name, content)
    for name in [name for name, one in wraps.key_objects_in(world.stores["us"]).items() if told_of(one)]:
        world.stores["us"].delete(name)
    assert keep(world, OWN.public, now=LATER) == {"eu": 0, "us": 1}
    (given,) = [one for one in wraps.key_objects_in(world.stores["us"]).values() if told_of(one)]
    assert wraps.opened(given, OWN) == world.key_file


def test_a_key_file_that_was_let_go_meanwhile_is_not_sealed_anew(world: World) -> None:
    keep(world, OWN.public)
    with pytest.raises(Missing, match="no longer keeps"):
        wraps.replace(replicas(world), world.key_file, PHRASE, NOW)
    with pytest.raises(Missing, match="no longer keeps"):
        wraps.replace(replicas(world), KeyFile.create("another", "small"), OWN, NOW)
    assert opening(world, OWN) == {world.key_file.to_bytes()}


def counts(done: Mapping[str, wraps.LetGo]) -> dict[str, tuple[int, int]]:
    """How many objects each region took, and how many were removed from it."""
    return {region: (one.written, one.deleted) for region, one in done.items()}


def test_a_way_that_was_let_go_opens_nothing_and_to_let_it_go_again_changes_nothing(world: World) -> None:
    keep(world, OWN.public, PHRASE)
    way = kept(world)["recipient"]
    done = holders.let_go(world.vault(), world.key_file, way, LATER)
    assert counts(done) == {"eu": (1, 1), "us": (1, 1)}
    assert opening(world, OWN) == set() and opening(world, PHRASE) == {world.key_file.to_bytes()}
    gone = kept(world)["recipient"]
    assert gone.regions == () and gone.noted is not None
    assert (gone.noted.name, gone.noted.since, gone.noted.removed_at) == ("safe", NOW, LATER)
    assert counts(holders.let_go(world.vault(), world.key_file, gone, LATER)) == {"eu": (0, 0), "us": (0, 0)}
    assert keep(world, OWN.public, now=LATER.replace(day=10)) == {"eu": 2, "us": 2}
    assert opening(world, OWN) == {world.key_file.to_bytes()}


def test_a_way_of_which_nobody_made_a_note_is_let_go_as_well(world: World) -> None:
    (name,) = (wrapped := wraps.by_name([seal_key_file(world.key_file, OWN.public)]))
    world.stores["us"].create(name, wrapped[name])
    way = kept(world)["recipient"]
    assert way.noted is None and way.regions == ("us",)
    done = holders.let_go(world.vault(), world.key_file, way, NOW)
    assert counts(done) == {"eu": (1, 0), "us": (1, 1)}
    assert opening(world, OWN) == set()


def test_where_a_region_does_not_let_go_it_is_named(world: World) -> None:
    keep(world, OWN.public)
    way = kept(world)["recipient"]
    stuck = FaultyStore(
        world.stores["us"],
        at_each=lambda operation: stuck.fail(operation.number) if operation.op == "delete" else None,
    )
    with pytest.raises(RefloatError) as caught:
        holders.let_go(world.vault({"us": stuck}), world.key_file, way, LATER)
    assert caught.value.region == "us"
    assert kept(world)["recipient"].regions == ("us",)
