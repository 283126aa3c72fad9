"""Other holders' keys, and keys on paper, read by a second reader that knows docs/FORMAT.md alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from refloat.clock import Clock
from refloat.errors import Damaged, WrongKey
from refloat.flows.opening import unwrapped_key
from refloat.testing.world import World, WorldClock
from refloat.vault import holders, keyobjects, kit, wraps
from refloat.vault.keyfile import KeyFile, Role
from refloat.vault.recipients import RecipientKey
from refloat.vault.replica import Replica as OwnReplica
from refloat.vault.replica import create_vault
from refloat.vault.slotlog import SlotLog
from refloat.vault.stores.local import LocalStore
from refloat.vault.vault import Vault

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden" / "vault-1"
REGIONS = ("eu", "us")
NOW = datetime(2026, 11, 2, tzinfo=UTC)

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(HERE)
    from objects import Key, Refused, hpke_key
    from paper import joined, key_on, share_of, shares_on
    from reader import Replica


def opened(root: Path, key_file: KeyFile, clock: Clock) -> Vault:
    stores = {region: LocalStore(root / region) for region in REGIONS}
    return Vault({r: OwnReplica.open(r, store, key_file, clock) for r, store in stores.items()}, {})


def added(vault: Vault, own: KeyFile, *roles: Role) -> KeyFile:
    made = own.for_another(*roles)
    assert holders.add(vault, own, made, "somebody", NOW).lagging == {}
    return made


def remove(world: World, fingerprint: str) -> None:
    vault = world.vault()
    holder = holders.named(list(vault.replicas.values()), fingerprint)
    assert isinstance(holder, holders.Holder)
    holders.remove(vault, world.key_file, holder, NOW)


def read_by(key_file: KeyFile, replica: Path, folder: Path, number: int) -> None:
    """Restore a point with a key file, as the second reader does."""
    key_file.save(folder / f"{number}.key")
    second = Replica(replica, Key.load(folder / f"{number}.key"))
    second.restore(list(second.points)[-1], folder / f"out-{number}")
    assert not second.set_aside


def test_a_reader_that_was_added_reads_what_other_writers_and_new_keys_sealed(tmp_path: Path) -> None:
    stores = {region: LocalStore(tmp_path / "vaults" / region) for region in REGIONS}
    world = World(tmp_path, "", stores=dict(stores))
    world.release(1)
    create_vault(world.stores, world.key_file, world.clock, "small")
    world.protect()
    auditor = added(world.vault(), world.key_file, Role.READER)
    trainer = added(world.vault(), world.key_file, Role.WRITER)
    world.release(2)
    World(tmp_path, "", world.clock, trainer, world.stores).protect()
    read_by(auditor, tmp_path / "vaults" / "us", tmp_path, 1)
    rotated = holders.rotate(list(world.vault().replicas.values()), world.key_file)
    world.release(3)
    World(tmp_path, "", world.clock, rotated, world.stores).protect()
    read_by(auditor, tmp_path / "vaults" / "us", tmp_path, 2)
    for number, version in ((1, 2), (2, 3)):
        current = tmp_path / f"out-{number}" / "components" / "pages" / "content" / "current.json"
        assert json.loads(current.read_text()) == {"version": version}


def test_a_vault_of_the_first_format_takes_another_reader_and_nobody_of_the_first_has_a_name(
    tmp_path: Path,
) -> None:
    for region in REGIONS:
        shutil.copytree(GOLDEN / region, tmp_path / region, symlinks=True)
    own = KeyFile.load(next(GOLDEN.glob("*.key")))
    vault = opened(tmp_path, own, WorldClock())
    found = holders.holders(list(vault.replicas.values()))
    assert {one.known.role for one in found} == {Role.WRITER, Role.READER, Role.OPERATOR}
    assert {(one.known.name, one.known.since) for one in found} == {("", None)}
    read_by(added(vault, own, Role.READER), tmp_path / "us", tmp_path, 1)
    read_by(own, tmp_path / "eu", tmp_path, 2)


def test_both_readers_agree_on_what_a_removed_writer_signed(tmp_path: Path) -> None:  # fault 58
    stores = {region: LocalStore(tmp_path / "vaults" / region) for region in REGIONS}
    world = World(tmp_path, "", stores=dict(stores))
    world.release(1)
    create_vault(world.stores, world.key_file, world.clock, "small")
    world.protect()
    thief = World(tmp_path, "", world.clock, added(world.vault(), world.key_file, Role.WRITER), world.stores)
    good, stale = thief.protect().name, thief.vault()
    remove(world, stale.replicas["us"].keyring.writer)
    thief.protect(stale)
    last = world.protect().name
    world.key_file.save(tmp_path / "small.key")
    second = Replica(tmp_path / "vaults" / "us", Key.load(tmp_path / "small.key"))
    own = world.vault().replicas["us"].points()
    assert list(second.points) == [point.name for point in own] and list(second.points)[1:] == [good, last]
    assert second.check()["points"] == 3 and not second.set_aside
    slots = [tmp_path / "vaults" / "us" / "log" / "points" / f"{slot:016d}" for slot in (0, 1)]
    slots[1].unlink()
    log = SlotLog(stores["us"], "points", stale.replicas["us"].keyring, role=Role.WRITER, clock=world.clock)
    log.append_at(1, {**log.read(0).body, "point": last}, refs=[f"points/{last}"])
    with pytest.raises(Damaged):
        world.vault().replicas["us"].points()
    with pytest.raises(Refused):
        assert Replica(tmp_path / "vaults" / "us", Key.load(tmp_path / "small.key")).points


def test_both_readers_agree_on_what_a_removed_operator_signed(tmp_path: Path) -> None:  # fault 58
    roots = {region: tmp_path / "vaults" / region for region in REGIONS}
    world = World(tmp_path, "", stores={region: LocalStore(root) for region, root in roots.items()})
    create_vault(world.stores, world.key_file, world.clock, "small")
    on_call = World(
        tmp_path, "", world.clock, added(world.vault(), world.key_file, Role.OPERATOR), world.stores
    )
    stale = on_call.vault().replicas["us"]
    logs = ["evidence", *(f"runs/{number:02d}" for number in range(keyobjects.HEADS_IN_ONE_MAX))]
    for stream in logs:
        stale.log(stream, Role.OPERATOR).append({"said": "before"})
    remove(world, stale.keyring.signer(Role.OPERATOR))
    for stream in (*logs, "baselines"):
        stale.log(stream, Role.OPERATOR).append({"said": "later"})
    world.vault().replicas["us"].log("evidence", Role.OPERATOR).append({"said": "by another"})
    world.key_file.save(tmp_path / "small.key")
    second = Replica(roots["us"], Key.load(tmp_path / "small.key"))
    own = world.vault().replicas["us"]
    assert not second.set_aside and {*logs, "baselines"} == {*own.streams()} == {*second.streams()}
    for stream in (*logs, "baselines"):
        entries = own.log(stream, Role.OPERATOR).entries()
        found = [(one.hash, one.void, dict(one.body)) for one in entries]
        assert found == [(one.hash, one.void, one.body) for one in second.log(stream)]
    said = [one.body.get("said") for one in second.log("evidence")]
    assert said == ["before", None, "by another"]

    parts = [path for path in (roots["us"] / "keys").iterdir() if b'"operator_removal"' in path.read_bytes()]
    assert len(parts) == 2
    for region in REGIONS:  # what is left of a removal is none
        (roots[region] / "keys" / parts[0].name).unlink()
    bodies = [one.body for one in Replica(roots["us"], Key.load(tmp_path / "small.key")).log("evidence")]
    entries = world.vault().replicas["us"].log("evidence", Role.OPERATOR).entries()
    assert bodies == [dict(one.body) for one in entries] and {} not in bodies


def test_both_readers_refuse_what_a_removed_operator_put_before_its_removal(
    tmp_path: Path,
) -> None:  # fault 54
    roots = {region: tmp_path / "vaults" / region for region in REGIONS}
    world = World(tmp_path, "", stores={region: LocalStore(root) for region, root in roots.items()})
    create_vault(world.stores, world.key_file, world.clock, "small")
    on_call = World(
        tmp_path, "", world.clock, added(world.vault(), world.key_file, Role.OPERATOR), world.stores
    )
    keyring = on_call.vault().replicas["us"].keyring
    on_call.vault().replicas["us"].log("evidence", Role.OPERATOR).append({"said": 1})
    remove(world, keyring.signer(Role.OPERATOR))
    (roots["us"] / "log" / "evidence" / f"{0:016d}").unlink()
    log = SlotLog(world.stores["us"], "evidence", keyring, role=Role.OPERATOR, clock=world.clock)
    log.append_at(0, {"said": 2})
    world.key_file.save(tmp_path / "small.key")
    with pytest.raises(Damaged):
        list(world.vault().replicas["us"].log("evidence", Role.OPERATOR).entries())
    with pytest.raises(Refused, match="the admin saw"):
        Replica(roots["us"], Key.load(tmp_path / "small.key")).log("evidence")


def test_a_recipients_private_key_alone_opens_a_vault_for_the_second_reader(tmp_path: Path) -> None:
    for region in REGIONS:
        shutil.copytree(GOLDEN / region, tmp_path / region, symlinks=True)
    own = KeyFile.load(next(GOLDEN.glob("*.key")))
    key, stranger = RecipientKey.create(), RecipientKey.create()
    key.save(tmp_path / "own.private")
    stranger.save(tmp_path / "stranger.private")
    vault = opened(tmp_path, own, WorldClock())
    assert holders.keep(vault, own, "safe", NOW, [key.public]).lagging == {}
    second = Replica(tmp_path / "us", Key.of_recipient(tmp_path / "us", tmp_path / "own.private"))
    second.restore(list(second.points)[-1], tmp_path / "out")
    assert not second.set_aside
    with pytest.raises(Refused, match="no key is kept"):
        Key.of_recipient(tmp_path / "us", tmp_path / "stranger.private")


@pytest.mark.parametrize("kind", ["passphrase", "recipient"])
def test_what_was_let_go_and_lies_there_still_opens_nothing_for_either_reader(
    tmp_path: Path, kind: str
) -> None:  # fault 58
    for region in REGIONS:
        shutil.copytree(GOLDEN / region, tmp_path / region, symlinks=True)
    own = KeyFile.load(next(GOLDEN.glob("*.key")))
    key = RecipientKey.create()
    key.save(tmp_path / "own.private")
    way, secret = (key.public, key) if kind == "recipient" else ("old words", "old words")
    urls = [str(tmp_path / region) for region in REGIONS]
    vault = opened(tmp_path, own, WorldClock())
    holders.keep(vault, own, "safe", NOW, [way])
    assert unwrapped_key(urls, secret) == own.model_copy(update={"heads": unwrapped_key(urls, secret).heads})
    stored = wraps.key_objects_in(LocalStore(tmp_path / "us"))
    vault = opened(tmp_path, own, WorldClock())
    (kept,) = [one for one in wraps.kept(list(vault.replicas.values())) if one.noted is not None]
    assert [one.deleted for one in holders.let_go(vault, own, kept, NOW).values()] == [1, 1]
    for name, content in stored.items():  # as where it is locked, or somebody kept a copy
        LocalStore(tmp_path / "us").create(name, content)
    for some in (urls, urls[1:]):
        with pytest.raises(WrongKey, match=f"let this {kind} go"):
            unwrapped_key(some, secret)
    with pytest.raises(Refused, match="let go" if kind == "recipient" else None):  # else of the last it tried
        open_second(tmp_path, kind)
    holders.keep(opened(tmp_path, own, WorldClock()), own, "safe", NOW.replace(day=3), [way])
    assert unwrapped_key(urls, secret).roles == own.roles, "it may be kept again"
    if kind == "recipient":
        assert open_second(tmp_path, kind).vault == own.vault


@pytest.mark.parametrize(("kind", "times"), [("passphrase", 1), ("recipient", 4)])
def test_of_key_files_that_were_sealed_anew_and_lie_there_still_the_last_counts_for_either_reader(
    tmp_path: Path, kind: str, times: int
) -> None:  # fault 58
    for region in REGIONS:
        shutil.copytree(GOLDEN / region, tmp_path / region, symlinks=True)
    key, (own, vault) = RecipientKey.create(), golden(tmp_path)
    key.save(tmp_path / "own.private")
    way, secret = (key.public, key) if kind == "recipient" else ("old words", "old words")
    urls = [str(tmp_path / region) for region in REGIONS]
    holders.keep(vault, own, "safe", NOW, [way])
    for slot in range(times):
        stored = {region: wraps.key_objects_in(LocalStore(tmp_path / region)) for region in REGIONS}
        _, vault = golden(tmp_path)
        fresh = holders.rotate(list(vault.replicas.values()), unwrapped_key(urls, secret))
        fresh = fresh.with_heads({"asia": (slot, "a" * 64)})
        wraps.replace(list(vault.replicas.values()), fresh, secret, NOW)
        for region, objects in stored.items():  # as where they are locked
            for name, content in objects.items():
                LocalStore(tmp_path / region).create(name, content)
        assert unwrapped_key(urls, secret) == unwrapped_key(urls[1:], secret) == fresh
        assert open_second(tmp_path, kind).heads["asia"]["slot"] == slot


def golden(folder: Path) -> tuple[KeyFile, Vault]:
    own = KeyFile.load(next(GOLDEN.glob("*.key")))
    return own, opened(folder, own, WorldClock())


def open_second(folder: Path, kind: str) -> Key:
    if kind == "recipient":
        return Key.of_recipient(folder / "us", folder / "own.private")
    return Key.unwrapped(folder / "us", "old words")


def test_the_second_readers_hpke_is_that_of_the_known_vector() -> None:
    """The RFC has none for AES-256-GCM with X25519: this is BoringSSL's, as Tink's ``hpke_test_util.cc`` gives it.

    `cryptography` takes no associated data, which each vector has; both open what it seals, as other tests here show.
    """
    public = bytes.fromhex("ac66bae9ffa270cf4a89ed9f274e30c0456babae2572aaaf002ff0d8884ab018")
    ephemeral = "28e212563a8b6f068af7ff17400ff1baf23612b7a738bbaf5dfb321b2b5b431a"
    sender = X25519PrivateKey.from_private_bytes(bytes.fromhex(ephemeral))
    shared = sender.exchange(X25519PublicKey.from_public_bytes(public))
    enc = sender.public_key().public_bytes_raw()
    key, nonce = hpke_key(shared, enc, public, b"Ode on a Grecian Urn")
    sealed = "23ded2d5d90ea89d975dac4792b297240f194952d7421aacbff0474100052b6bb8aa58d18ef6c42b6960e2e28f"
    plain = AESGCM(key).decrypt(nonce, bytes.fromhex(sealed), b"Count-0")
    assert plain == b"Beauty is truth, truth beauty"


# --------------------------------------------------------------------------------------------------- on paper


@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_the_key_on_paper_is_what_the_format_says(passphrase: str | None) -> None:
    key_file = KeyFile.create("vault-1", "support").with_heads({"eu": (7, "a" * 64)})
    page = kit.page(key_file, [], NOW, passphrase)
    assert key_on(page, passphrase or "") == json.loads(key_file.to_bytes())


HUMIDITY = (
    "humidity disease academic always aluminum jewelry energy woman receiver strategy amuse duckling lying evidence "
    "network walnut tactics forget hairy rebound impulse brother survive clothes stadium mailman rival ocean reward "
    "venture always armed unwrap",
    "humidity disease academic agency actress jacket gross physics cylinder solution fake mortgage benefit public busy "
    "prepare sharp friar change work slow purchase ruler again tricycle involve viral wireless mixture anatomy desert "
    "cargo upgrade",
)
"""The standard's own vector of 256 bits, for two shares."""


def test_the_second_reader_joins_the_shares_of_the_standard_s_own_vector() -> None:
    secret = joined([share_of(words) for words in HUMIDITY], b"TREZOR")
    assert secret.hex() == "c938b319067687e990e05e0da0ecce1278f75ff58d9853f19dcaeed5de104aae"


def test_the_key_in_shares_is_what_the_format_says() -> None:
    key_file = KeyFile.create("vault-1", "support").with_heads({"eu": (7, "a" * 64)})
    pages = list(kit.share_pages(key_file, [], NOW, 5, 3).pages.values())
    for some in (pages[:3], [pages[4], pages[0], pages[2]], pages):
        assert key_on("".join(some)) == json.loads(key_file.to_bytes())


def test_two_shares_of_three_joined_as_if_they_were_enough_are_no_secret() -> None:  # fault 58
    key_file = KeyFile.create("vault-1", "support")
    pages = kit.share_pages(key_file, [], NOW, 5, 3).pages.values()
    first, second, third, *_ = [share_of(words) for words in shares_on("".join(pages))]
    assert len(joined([first, second, third])) == 32
    with pytest.raises(AssertionError):  # the digest that the standard keeps beside the secret
        joined([replace(share, threshold=2) for share in (first, second)])
