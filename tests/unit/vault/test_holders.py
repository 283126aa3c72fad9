"""Who holds keys: what another holder can do from the moment it is vouched for, and what a rotation changes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from refloat.digest import object_name
from refloat.errors import Damaged, Missing, RefloatError, StoreError, UsageError, WrongKey
from refloat.flows.into import bring, choose
from refloat.flows.prepare import candidates
from refloat.flows.replicate import Located
from refloat.testing.world import World
from refloat.vault import holders, layout, wraps
from refloat.vault.check import check
from refloat.vault.keyfile import KeyFile, Role, signer_id
from refloat.vault.keyobjects import publics_of
from refloat.vault.recipients import RecipientKey
from refloat.vault.replica import BEFORE_ALL, create_vault
from refloat.vault.replicate import Copied, catch_up, copy_objects
from refloat.vault.resealed import outdated, resealed_in
from refloat.vault.slotlog import SlotLog
from refloat.vault.stores.faulty import Crash, FaultyStore, When
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.vault import Vault
from refloat.vault.witness import lost_points, rolled_back

NOW = datetime(2026, 11, 2, tzinfo=UTC)
REGIONS = ("eu", "us")


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World.small(tmp_path, group="")
    world.protect()
    return world


def as_holder(world: World, key_file: KeyFile) -> World:
    """The same world, seen by somebody with another key file."""
    return World(world.root, world.group, world.clock, key_file, world.stores)


def added(world: World, *roles: Role, name: str = "trainer", vault: Vault | None = None) -> World:
    made = world.key_file.for_another(*roles)
    done = holders.add(vault or world.vault(), world.key_file, made, name, NOW)
    assert done.lagging == {}
    return as_holder(world, made)


def rotated(world: World) -> World:
    return as_holder(world, holders.rotate(list(world.vault().replicas.values()), world.key_file))


def keys(world: World, region: str = "eu") -> set[str]:
    return {info.name for info in world.stores[region].list(layout.KEYS)}


def read(world: World, folder: Path) -> dict[str, bytes]:
    """Everything of the newest point, as this holder reads it."""
    chosen = choose(list(world.vault().replicas.values()), point=None, at=None, only=[], overrides=[])
    bring(chosen, folder, world.clock, overrides=[])
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "manifest" not in path.parts
    }


# --------------------------------------------------------------------------------------------------- looking


def test_those_of_the_beginning_are_known_by_role_and_nothing_else(world: World) -> None:
    replicas = list(world.vault().replicas.values())
    found = holders.holders(replicas)
    assert [(one.known.role, one.known.name, one.known.since) for one in found] == [
        (role, "", None) for role in (Role.WRITER, Role.READER, Role.OPERATOR)
    ]
    (shared,) = holders.content_keys(replicas)
    assert shared.id == holders.own_content_key(world.key_file)
    assert shared.readers == {found[1].known.id} and shared.regions == REGIONS


def test_somebody_who_was_added_is_called_by_name_in_every_region(world: World) -> None:
    other = added(world, Role.WRITER, Role.OPERATOR)
    told = {
        (one.known.role, one.known.id): one for one in holders.holders(list(world.vault().replicas.values()))
    }
    keyring = other.vault().replicas["eu"].keyring
    for role in (Role.WRITER, Role.OPERATOR):
        one = told[role, keyring.signer(role)]
        assert (one.known.name, one.known.since, one.regions) == ("trainer", NOW, REGIONS)
    assert len(told) == 5


# ---------------------------------------------------------------------------------------------------- adding


def test_a_writer_that_was_added_protects_and_everybody_reads_it(world: World, tmp_path: Path) -> None:
    trainer = added(world, Role.WRITER)
    assert trainer.key_file.roles == {Role.WRITER}
    world.release(2)
    point = trainer.protect().name
    assert world.vault().replicas["us"].last_point().name == point
    assert read(world, tmp_path / "brought")["pages/content/current.json"] == b'{"version": 2}'
    assert all(check(replica, read_data=True).ok for replica in world.vault().replicas.values())


def test_a_writer_that_was_added_reads_nothing(world: World, tmp_path: Path) -> None:
    trainer = added(world, Role.WRITER)
    with pytest.raises(WrongKey, match="reader"):
        read(trainer, tmp_path / "brought")


def test_a_reader_that_was_added_reads_what_was_there_before_and_what_comes_later(
    world: World, tmp_path: Path
) -> None:  # fault 58
    auditor = added(world, Role.READER, name="auditor")
    assert read(auditor, tmp_path / "before") == read(world, tmp_path / "same")
    trainer = added(world, Role.WRITER)
    world.release(2)
    trainer.protect()
    rotated(world).protect()
    assert read(auditor, tmp_path / "after") == read(world, tmp_path / "after, too")
    with pytest.raises(WrongKey, match="writer"):
        auditor.protect()


def test_an_operator_that_was_added_has_no_key_that_names_chunks(world: World) -> None:
    on_call = added(world, Role.OPERATOR)
    assert on_call.key_file.chunk_name_key is None and on_call.key_file.admin is None
    on_call.vault().replicas["eu"].log("evidence", Role.OPERATOR).append({"said": "so"})
    assert len(list(world.vault().replicas["eu"].log("evidence", Role.OPERATOR).entries())) == 1


def test_only_the_admin_vouches_and_only_a_reader_who_writes_lets_others_read(world: World) -> None:
    whole = world.key_file
    before = keys(world)
    for own, role, lacking in (
        (whole.for_roles(Role.WRITER, Role.READER, Role.OPERATOR), Role.WRITER, "admin"),
        (whole.for_roles(Role.ADMIN), Role.READER, "writer"),
        (whole.for_roles(Role.ADMIN, Role.READER), Role.READER, "writer"),
        (whole.for_roles(Role.ADMIN, Role.WRITER), Role.READER, "reader"),
    ):
        made = own.for_another(role)
        with pytest.raises(WrongKey, match=lacking):
            holders.add(as_holder(world, own).vault(), own, made, "x", NOW)
        assert keys(world) == before
    admin = whole.for_roles(Role.ADMIN)
    added(as_holder(world, admin), Role.WRITER).protect()


def test_an_admin_of_another_vault_vouches_for_nobody_here(world: World) -> None:  # fault 58
    stranger = KeyFile.create(world.key_file.vault, "small")
    thief = world.key_file.model_copy(update={"admin": stranger.admin})
    made = world.key_file.for_another(Role.WRITER)
    holders.add(world.vault(), thief, made, "mallory", NOW)
    with pytest.raises(WrongKey, match="does not vouch"):
        as_holder(world, made).protect()
    replicas = list(world.vault().replicas.values())
    assert "mallory" not in [one.known.name for one in holders.holders(replicas)]


def test_a_name_that_the_admin_did_not_sign_counts_for_nothing(world: World) -> None:  # fault 58
    trainer = added(world, Role.WRITER)
    store = world.stores["eu"]
    name = next(n for n in keys(world) if b'"type":"holder"' in store.get(n))
    forged = store.get(name).replace(b"trainer", b"mallory")
    store.create(layout.key_name(object_name(forged)), forged)
    keyring = world.vault().replicas["eu"].keyring
    assert "mallory" not in [one.name for one in keyring.known()]
    assert "not signed by the admin" in next(iter(keyring.rejected.values()))
    trainer.protect()


def test_of_two_names_the_newer_counts(world: World) -> None:
    trainer = added(world, Role.WRITER, name="trainer")
    later = NOW.replace(day=3)
    holders.add(world.vault(), world.key_file, trainer.key_file, "cluster 7", later)
    (one,) = [one for one in holders.holders(list(world.vault().replicas.values())) if one.known.name]
    assert (one.known.name, one.known.since) == ("cluster 7", later)


def test_to_add_again_changes_nothing(world: World) -> None:
    trainer = added(world, Role.WRITER, Role.READER)
    before = keys(world), keys(world, "us")
    again = holders.add(world.vault(), world.key_file, trainer.key_file, "trainer", NOW.replace(day=9))
    assert (again.written, again.lagging) == ({"eu": 0, "us": 0}, {})
    assert (keys(world), keys(world, "us")) == before


def test_a_region_that_does_not_answer_lags_and_catches_up_when_it_is_done_again(world: World) -> None:
    away = Vault({"eu": world.vault().replicas["eu"]}, {"us": StoreError("us is away")})
    made = world.key_file.for_another(Role.WRITER, Role.READER)
    first = holders.add(away, world.key_file, made, "trainer", NOW)
    assert set(first.lagging) == {"us"} and first.written["eu"] > 0
    again = holders.add(world.vault(), world.key_file, made, "trainer", NOW.replace(day=9))
    assert again.written == {"eu": 0, "us": first.written["eu"]}
    assert keys(world) == keys(world, "us")


def test_a_region_that_takes_no_write_lags_and_the_others_do_not(world: World) -> None:
    full = FaultyStore(
        world.stores["eu"],
        at_each=lambda operation: full.fail(operation.number) if operation.writes else None,
    )
    made = world.key_file.for_another(Role.WRITER)
    done = holders.add(world.vault({"eu": full}), world.key_file, made, "trainer", NOW)
    assert set(done.lagging) == {"eu"} and done.lagging["eu"].region == "eu"
    assert done.written["us"] > 0


def test_a_key_is_kept_for_a_passphrase_once(world: World) -> None:
    made = world.key_file.for_another(Role.READER)
    for _ in range(2):
        holders.add(world.vault(), world.key_file, made, "auditor", NOW, ways=["correct horse"])
    kept = [name for name in keys(world) if b'"type":"key_file"' in world.stores["eu"].get(name)]
    assert len(kept) == 1
    assert KeyFile.unwrap(world.stores["us"].get(kept[0]), "correct horse") == made


def test_a_region_that_was_away_brings_no_way_back_that_was_let_go(world: World) -> None:
    # fault 58
    holders.keep(world.vault(), world.key_file, "safe", NOW, ["correct horse"])
    content = contents(world)["us"]
    (way,) = wraps.kept(list(world.vault().replicas.values()))
    holders.let_go(world.vault(), world.key_file, way, NOW.replace(day=3))
    for name, stored in content.items():
        world.stores["us"].create(name, stored)
    (again,) = wraps.kept(list(world.vault().replicas.values()))
    assert again.regions == ("us",) and again.noted is not None and again.noted.removed_at is not None
    catch_up(world.vault().replicas["us"], world.vault().replicas["eu"])
    us, eu = (Located(region, world.stores[region]) for region in ("us", "eu"))
    assert copy_objects(us, eu) == Copied()  # nor without a key, and nothing waits for it
    (still,) = wraps.kept(list(world.vault().replicas.values()))
    assert still.regions == ("us",)


def test_what_was_let_go_is_copied_nowhere_as_long_as_one_region_knows(tmp_path: Path) -> None:
    # fault 58
    world = World(tmp_path, "", stores={region: MemoryStore() for region in (*REGIONS, "asia")})
    create_vault(world.stores, world.key_file, world.clock, "small")
    before = contents(world)["asia"]
    holders.keep(world.vault(), world.key_file, "safe", NOW, ["correct horse"])
    content = contents(world)["us"]
    (way,) = wraps.kept(list(world.vault().replicas.values()))
    holders.let_go(world.vault(), world.key_file, way, NOW.replace(day=3))
    put_back(world, {"us": content, "asia": before})
    replicas = world.vault().replicas
    catch_up(replicas["us"], replicas["asia"])
    (still,) = wraps.kept(list(world.vault().replicas.values()))
    assert still.regions == ("us",)


@pytest.mark.parametrize("region", REGIONS)
def test_killed_at_every_write_of_a_rotation_something_opens_the_vault(world: World, region: str) -> None:
    # fault 58
    key = RecipientKey.create()
    holders.keep(world.vault(), world.key_file, "safe", NOW, [key.public])
    content = contents(world)
    for number in range(1, 200):
        put_back(world, content)
        store = FaultyStore(world.stores[region], crash_at=number, when=When.AFTER)
        try:
            replicas = list(world.vault({region: store}).replicas.values())
            wraps.replace(replicas, holders.rotate(replicas, world.key_file), key, NOW)
        except Crash:
            ended = False
        else:
            ended = True
        found = [c for s in world.stores.values() for c in wraps.key_objects_in(s).values()]
        opening = [wraps.opened(c, key) for c in found if wraps.may_open(c, key)]
        assert opening and all(as_holder(world, one).vault().replicas for one in opening), number
        assert len(counting(found, key)) == 1, number
        if ended:
            assert len({one.to_bytes() for one in opening}) == 1 and opening[0] != world.key_file
            return
    raise AssertionError("it never ended")


def counting(found: list[bytes], key: RecipientKey) -> set[bytes]:
    """The key files that count, of the objects that are found in all regions."""
    sealed = [content for content in found if wraps.may_open(content, key)]
    words = [word for content in found if (word := resealed_in(content)) is not None]
    gone = outdated(words, sealed, lambda content: wraps.opened(content, key))
    return {wraps.opened(content, key).to_bytes() for content in sealed if content not in gone}


# -------------------------------------------------------------------------------------------------- rotation


def test_a_rotation_seals_what_comes_later_and_leaves_what_was_there(
    world: World, tmp_path: Path
) -> None:  # fault 58
    before = {pack.key_id for pack in world.vault().replicas["eu"].index.packs}
    later = rotated(world)
    world.release(2)
    later.protect()
    index = world.vault().replicas["eu"].index
    after = {pack.key_id for pack in index.packs} - before
    assert after == {holders.own_content_key(later.key_file)}
    assert read(world, tmp_path / "brought")["pages/content/current.json"] == b'{"version": 2}'
    first = world.vault().replicas["us"].points()[0].name
    chosen = choose(list(world.vault().replicas.values()), point=first, at=None, only=[], overrides=[])
    bring(chosen, tmp_path / "first", world.clock, overrides=[])
    assert all(check(replica, read_data=True).ok for replica in world.vault().replicas.values())


def test_a_rotation_does_not_stop_who_has_the_key_file_as_it_was(world: World) -> None:
    later = rotated(world)
    world.protect()
    world.release(2)
    later.protect()
    world.protect()
    assert all(check(replica, read_data=True).ok for replica in world.vault().replicas.values())


def test_a_writer_whom_nobody_vouches_for_rotates_nothing(world: World) -> None:
    stranger = world.key_file.for_another(Role.WRITER)
    before = keys(world)
    with pytest.raises(WrongKey, match="vouch"):
        rotated(as_holder(world, stranger))
    with pytest.raises(WrongKey, match="writer"):
        rotated(as_holder(world, world.key_file.for_roles(Role.READER)))
    assert keys(world) == before


# ------------------------------------------------------------------------------------------------- removal


def removed(world: World, key_file: KeyFile, role: Role = Role.WRITER, vault: Vault | None = None) -> None:
    vault = vault or world.vault()
    holder = holders.named(list(vault.replicas.values()), signer_id(publics_of(key_file)[role]))
    assert isinstance(holder, holders.Holder)
    holders.remove(vault, world.key_file, holder, NOW)


def names(world: World, region: str = "us") -> list[str]:
    return [point.name for point in world.vault().replicas[region].points()]


def test_what_a_writer_committed_before_it_was_removed_stays_and_it_writes_no_more(
    world: World, tmp_path: Path
) -> None:
    trainer = added(world, Role.WRITER)
    world.release(2)
    good = trainer.protect().name
    removed(world, trainer.key_file)
    with pytest.raises(WrongKey, match="removed"):
        trainer.protect()
    with pytest.raises(WrongKey, match="removed"):
        rotated(trainer)
    for region in REGIONS:
        assert names(world, region)[-1] == good
    assert read(world, tmp_path / "brought")["pages/content/current.json"] == b'{"version": 2}'
    assert all(check(replica, read_data=True).ok for replica in world.vault().replicas.values())
    later = world.protect().name
    assert names(world)[-2:] == [good, later]


def test_what_a_thief_signs_after_the_removal_counts_for_nothing(
    world: World, tmp_path: Path
) -> None:  # fault 58
    trainer = added(world, Role.WRITER)
    stale = trainer.vault()  # a program of the thief's does not ask whether its key still counts
    before = names(world)
    removed(world, trainer.key_file)
    world.release(2)
    stolen = trainer.protect(stale)
    assert all(result.complete for result in stolen.regions.values())
    for region in REGIONS:
        replica = world.vault().replicas[region]
        assert [entry.void for entry in replica.entries()] == [False, True]
        assert names(world, region) == before == [replica.last_point().name]
        assert replica.head()["point"] == before[-1]
    assert read(world, tmp_path / "brought")["pages/content/current.json"] == b'{"version": 1}'
    assert rolled_back(list(world.vault().replicas.values())) == {}
    assert lost_points(list(world.vault().replicas.values()), BEFORE_ALL) == []
    assert all(check(replica, read_data=True).ok for replica in world.vault().replicas.values())
    later = world.protect().name
    assert names(world) == [*before, later] == names(world, "eu")
    assert [entry.void for entry in world.vault().replicas["us"].entries()] == [False, True, False]
    assert rolled_back(list(world.vault().replicas.values())) == {}


def test_a_thief_puts_nothing_before_the_removal(world: World) -> None:  # fault 54
    trainer = added(world, Role.WRITER)
    world.release(2)
    trainer.protect()
    stale = trainer.vault()
    slot = layout.slot_name("points", 1)
    true = {region: world.stores[region].get(slot) for region in REGIONS}
    removed(world, trainer.key_file)
    for region in REGIONS:
        world.stores[region].delete(slot)
    log = SlotLog(
        world.stores["us"], "points", stale.replicas["us"].keyring, role=Role.WRITER, clock=world.clock
    )
    log.append_at(1, {"point": "a" * 64})
    for look in (lambda r: r.points(), lambda r: r.last_point(), lambda r: r.head()):
        with pytest.raises(Damaged, match="the admin saw"):
            look(world.vault().replicas["us"])
    world.stores["us"].delete(slot)
    world.stores["us"].create(slot, true["us"])
    assert len(names(world)) == 2


def test_where_a_log_is_damaged_what_a_removed_writer_stored_is_left_out(world: World) -> None:  # fault 58
    trainer = added(world, Role.WRITER)
    stale = trainer.vault()
    removed(world, trainer.key_file)
    world.release(2)
    stolen = trainer.protect(stale).name
    FaultyStore(world.stores["us"]).flip_bit(layout.slot_name("points", 0))
    replica = world.vault().replicas["us"]
    found = [one.name for one in candidates(replica, {"log_damaged"})]
    assert found == names(world, "eu") and stolen not in found
    assert replica.read_point(stolen), "it is there, and opens"


def test_a_region_that_hides_the_removal_is_told_by_the_others(world: World) -> None:
    trainer = added(world, Role.WRITER)
    stale = trainer.vault()
    removed(world, trainer.key_file)
    hidden = removal_objects(world, "us")
    trainer.protect(stale)
    for name in hidden:
        world.stores["us"].delete(name)
    assert len(hidden) == 1 and len(names(world)) == 1
    assert removal_objects(world, "us") == set()
    catch_up(world.vault().replicas["eu"], world.vault().replicas["us"])
    assert removal_objects(world, "us") == hidden


def removal_objects(world: World, region: str = "eu") -> set[str]:
    return {name for name in keys(world, region) if b'"type":"removal"' in world.stores[region].get(name)}


def test_a_reader_that_was_removed_is_given_no_new_key(world: World, tmp_path: Path) -> None:
    auditor = added(world, Role.READER)
    removed(world, auditor.key_file, Role.READER)
    read(auditor, tmp_path / "before")
    later = rotated(world)
    world.release(2)
    later.protect()
    with pytest.raises(RefloatError):
        read(auditor, tmp_path / "after")
    added(world, Role.WRITER).protect()
    (key,) = publics_of(auditor.key_file).values()
    with_it = [
        one
        for one in holders.content_keys(list(world.vault().replicas.values()))
        if signer_id(key) in one.readers
    ]
    assert [one.id for one in with_it] == [holders.own_content_key(world.key_file)]


def test_only_the_admin_removes_and_what_another_signed_removes_nobody(world: World) -> None:  # fault 58
    trainer = added(world, Role.WRITER)
    vault = world.vault()
    holder = holders.named(
        list(vault.replicas.values()), signer_id(publics_of(trainer.key_file)[Role.WRITER])
    )
    lesser = world.key_file.for_roles(Role.WRITER, Role.READER, Role.OPERATOR)
    with pytest.raises(WrongKey, match="admin"):
        holders.remove(vault, lesser, holder, NOW)
    assert removal_objects(world) == set()
    thief = world.key_file.model_copy(update={"admin": KeyFile.create("x", "small").admin})
    holders.remove(vault, thief, holder, NOW)
    assert len(removal_objects(world)) == 1
    trainer.protect()


def test_a_key_that_was_removed_never_counts_again(world: World) -> None:
    trainer = added(world, Role.WRITER)
    removed(world, trainer.key_file)
    with pytest.raises(WrongKey, match="never counts again"):
        holders.add(world.vault(), world.key_file, trainer.key_file, "trainer", NOW)


def test_to_remove_again_changes_nothing_and_takes_no_later_slot(world: World) -> None:
    trainer = added(world, Role.WRITER)
    stale = trainer.vault()
    removed(world, trainer.key_file)
    trainer.protect(stale)
    before = keys(world), names(world)
    removed(world, trainer.key_file)
    assert (keys(world), names(world)) == before


def test_where_a_region_is_away_or_its_log_is_damaged_nobody_is_removed(world: World) -> None:
    trainer = added(world, Role.WRITER)
    away = Vault({"eu": world.vault().replicas["eu"]}, {"us": StoreError("us is away")})
    with pytest.raises(StoreError, match="away"):
        removed(world, trainer.key_file, vault=away)
    FaultyStore(world.stores["us"]).flip_bit(layout.slot_name("points", 0))
    with pytest.raises(Damaged):
        removed(world, trainer.key_file)
    assert removal_objects(world) == set()


def test_what_names_no_key_removes_nobody(world: World) -> None:
    replicas = list(world.vault().replicas.values())
    for fingerprint, words in (("", "keys begin"), ("f" * 32, "0 keys")):
        with pytest.raises(UsageError, match=words):
            holders.named(replicas, fingerprint)


def test_what_an_operator_signed_before_it_was_removed_stays_and_nothing_later_counts(
    world: World,
) -> None:  # fault 58
    on_call = added(world, Role.OPERATOR)
    stale = on_call.vault()
    stale.replicas["us"].log("evidence", Role.OPERATOR).append({"said": 1})
    removed(world, on_call.key_file, Role.OPERATOR)
    stale.replicas["us"].log("evidence", Role.OPERATOR).append({"said": 2})
    stale.replicas["us"].log("baselines", Role.OPERATOR).append({"said": 3})
    replica = world.vault().replicas["us"]
    found = [(one.void, dict(one.body)) for one in replica.log("evidence", Role.OPERATOR).entries()]
    assert found == [(False, {"said": 1}), (True, {})]
    assert [one.void for one in replica.log("baselines", Role.OPERATOR).entries()] == [True]
    assert check(replica, read_data=False).ok
    with pytest.raises(WrongKey, match="removed"):
        on_call.vault().replicas["us"].log("evidence", Role.OPERATOR).append({"said": 4})


def test_of_several_operators_only_the_one_that_was_removed_signs_no_more(world: World) -> None:  # fault 58
    gone, stays = added(world, Role.OPERATOR), added(world, Role.OPERATOR, name="night shift")
    for one in (gone, stays, gone, stays):
        one.vault().replicas["us"].log("evidence", Role.OPERATOR).append({"said": 1})
    removed(world, gone.key_file, Role.OPERATOR)
    stays.vault().replicas["us"].log("evidence", Role.OPERATOR).append({"said": 2})
    log = world.vault().replicas["us"].log("evidence", Role.OPERATOR)
    assert [one.void for one in log.entries()] == [False] * 5


def test_a_key_file_that_a_command_left_is_told_from_any_other(world: World) -> None:
    own = world.key_file
    roles = frozenset({Role.WRITER, Role.READER})
    made = own.for_another(*roles)
    assert holders.is_begun(own, made, roles)
    assert not holders.is_begun(own, made, frozenset({Role.WRITER}))
    for field, value in (
        ("vault", "another"),
        ("pipeline", "another"),
        ("admin_public", "0" * 64),
        ("catalogue_key", "0" * 64),
    ):
        assert not holders.is_begun(own, made.model_copy(update={field: value}), roles)


def test_who_cannot_read_gives_no_reader_what_was_there_before(world: World) -> None:
    made = world.key_file.for_another(Role.READER)
    without = world.key_file.for_roles(Role.ADMIN, Role.WRITER)
    before = keys(world)
    with pytest.raises(WrongKey, match="reader"):
        holders.add(as_holder(world, without).vault(), without, made, "auditor", NOW)
    assert keys(world) == before


def test_a_content_key_that_no_region_has_for_this_reader_is_given_to_no_other(world: World) -> None:
    trainer = world.key_file.for_another(Role.WRITER)
    own_reader = signer_id(publics_of(world.key_file)[Role.READER])
    holders.add(world.vault(), world.key_file, trainer, "trainer", NOW)
    key = holders.own_content_key(trainer)
    assert key is not None
    second = added(world, Role.READER)
    for region in REGIONS:  # what is left of the trainer's key is for the second reader alone
        for name in keys(world, region):
            content = world.stores[region].get(name)
            if key.hex().encode() in content and f'"reader":"{own_reader}"'.encode() in content:
                world.stores[region].delete(name)
    third = world.key_file.for_another(Role.READER)
    with pytest.raises(Missing, match="in no region for this reader"):
        holders.add(world.vault(), world.key_file, third, "third", NOW)
    assert second.key_file.roles == {Role.READER}


def test_an_operators_entry_that_was_put_before_the_removal_is_found(world: World) -> None:  # fault 54
    on_call = added(world, Role.OPERATOR)
    stale = on_call.vault()
    stale.replicas["us"].log("evidence", Role.OPERATOR).append({"said": 1})
    removed(world, on_call.key_file, Role.OPERATOR)
    world.stores["us"].delete(layout.slot_name("evidence", 0))
    forger = SlotLog(
        world.stores["us"], "evidence", stale.replicas["us"].keyring, role=Role.OPERATOR, clock=world.clock
    )
    forger.append_at(0, {"said": "forged"})
    with pytest.raises(Damaged, match="the admin saw"):
        list(world.vault().replicas["us"].log("evidence", Role.OPERATOR).entries())


# -------------------------------------------------------------------------------------------------- killed


def rotate_in(world: World, vault: Vault, made: KeyFile) -> KeyFile:
    return holders.rotate(list(vault.replicas.values()), world.key_file)


def add_in(world: World, vault: Vault, made: KeyFile) -> KeyFile:
    assert not holders.add(vault, world.key_file, made, "trainer", NOW).lagging
    return made


def remove_in(world: World, vault: Vault, made: KeyFile) -> KeyFile:
    """Of a writer that was there before: the first one, by an admin who keeps it."""
    removed(world, made, vault=vault)
    return world.key_file


def contents(world: World) -> dict[str, dict[str, bytes]]:
    return {region: {i.name: s.get(i.name) for i in s.list("")} for region, s in world.stores.items()}


def put_back(world: World, content: dict[str, dict[str, bytes]]) -> None:
    for region, objects in content.items():
        world.stores[region] = MemoryStore()
        for name, stored in objects.items():
            world.stores[region].create(name, stored)


def require_sound(world: World, told: str) -> None:
    """Nothing is damaged, and every reader who counts can open everything."""
    for replica in world.vault().replicas.values():
        assert check(replica, read_data=False).ok and replica.keyring.unvouched() == [], told
        readers = {one.id for one in replica.keyring.known() if one.role is Role.READER}
        assert all(readers <= able for _, able in replica.keyring.content_keys().values()), told


@pytest.mark.parametrize("change", [add_in, rotate_in, remove_in])
def test_killed_at_every_operation_it_leaves_what_was_there_and_is_done_again(
    world: World, change: Callable[[World, Vault, KeyFile], KeyFile]
) -> None:  # fault 18
    content = contents(world)
    made = world.key_file.for_another(Role.WRITER, Role.READER)
    if change is remove_in:
        made = added(world, Role.WRITER).key_file
        content = contents(world)
    learned = {region: FaultyStore(world.stores[region]) for region in REGIONS}
    opened = world.vault(learned)
    begun = {region: store.operations for region, store in learned.items()}
    change(world, opened, made)
    whole = len(keys(world))
    moments = [  # what is read changes nothing: dying there is dying behind the write before it
        (region, operation)
        for region in REGIONS
        for operation in learned[region].trace[begun[region] :]
        if operation.writes or operation.number == begun[region] + 1
    ]
    assert len(moments) >= 2
    for region, operation in moments:
        put_back(world, content)
        store = FaultyStore(world.stores[region], crash_at=operation.number, when=When.AFTER)
        with pytest.raises(Crash):
            change(world, world.vault({region: store}), made)
        told = f"after {operation} in {region}"
        require_sound(world, told)
        again = change(world, world.vault(), made)
        require_sound(as_holder(world, again), told)
        if change is not rotate_in:
            assert keys(world) == keys(world, "us") and len(keys(world)) == whole, told


def test_an_error_of_a_store_says_where(world: World) -> None:
    broken = FaultyStore(world.stores["us"])
    vault = world.vault({"us": broken})
    broken.down = True
    with pytest.raises(RefloatError) as caught:
        holders.rotate(list(vault.replicas.values()), world.key_file)
    assert caught.value.region == "us"
