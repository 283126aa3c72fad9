"""Keys: what each role can do and what it cannot, and that nothing but the key file is trusted."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag

from refloat.contracts import ObjectInfo
from refloat.digest import canonical_json, object_name
from refloat.errors import Damaged, Missing, RefloatError, Refused, UsageError, VaultError, WrongKey
from refloat.limits import LOCK_SECONDS_MAX
from refloat.vault import keyobjects
from refloat.vault.keyfile import (
    KEY_OBJECT_BYTES_MAX,
    SEAL_BYTES,
    KeyObject,
    open_sealed,
    passphrase_key,
    seal_bytes,
)
from refloat.vault.keys import KEY_OBJECTS_MAX, KeyFile, Keyring, Role, Signature, key_objects
from refloat.vault.layout import KEYS, Descriptor, key_name, write_descriptor
from refloat.vault.stores.faulty import FaultyStore
from refloat.vault.stores.memory import MemoryStore

ALL = KeyFile.create("vault-1", "support")
MESSAGE = b"a message"
MOMENT = datetime(2026, 11, 2, tzinfo=UTC)
SIGNING = (Role.WRITER, Role.OPERATOR, Role.ADMIN)


def vault(*objects: bytes, vault_id: str = "vault-1") -> FaultyStore:
    store = FaultyStore(MemoryStore())
    for content in objects:
        store.create(key_name(object_name(content)), content)
    write_descriptor(store, Descriptor(vault=vault_id, replica="r", pipeline="support"))
    return store


OBJECTS = key_objects(ALL)


def put(store: FaultyStore, content: bytes) -> str:
    name = key_name(object_name(content))
    store.create(name, content)
    return name


def of_type(type: str, **fields: str) -> bytes:
    """The one of the vault's key objects that has these fields."""
    documents = {content: json.loads(content) for content in OBJECTS}
    wanted = {"type": type, **fields}.items()
    return next(content for content, document in documents.items() if wanted <= document.items())


# ----------------------------------------------------------------------------------------------- the key file


def test_a_key_file_comes_back_from_disk_as_it_was_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "support.key"
    ALL.save(path)
    assert KeyFile.load(path) == ALL
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "refloat key file" in path.read_text()


def test_the_umask_does_not_change_who_may_read_a_key_file(tmp_path: Path) -> None:
    before = os.umask(0o777)
    try:
        ALL.save(tmp_path / "key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_a_key_file_is_never_written_over_anything(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("the only copy of another key")
    with pytest.raises(Refused) as caught:
        ALL.save(path)
    assert caught.value.rule == "key_exists"
    assert path.read_text() == "the only copy of another key"
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused):
        ALL.save(dangling)


def test_a_key_file_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        ALL.save(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


class PowerLost(BaseException):
    """The process is gone at this moment."""


@pytest.mark.parametrize("call", ["open", "fchmod", "fsync", "link", "unlink"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_key_file_that_was_cut_while_it_was_written_is_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, *, after: bool
) -> None:
    # fault 1
    path, real = tmp_path / "support.key", getattr(os, call)

    def cut(*arguments: object, **more: object) -> object:
        if after:
            real(*arguments, **more)
        raise PowerLost

    with monkeypatch.context() as patch, pytest.raises(PowerLost):
        patch.setattr(os, call, cut)
        ALL.save(path)
    if path.exists():
        assert KeyFile.load(path) == ALL
    else:
        ALL.save(path)
        assert KeyFile.load(path) == ALL


def test_a_key_file_goes_where_there_are_no_hard_links_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*arguments: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    ALL.save(tmp_path / "key")
    assert KeyFile.load(tmp_path / "key") == ALL
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    with pytest.raises(Refused):
        ALL.save(tmp_path / "key")
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_key_file_of_a_newer_refloat_says_so_and_where_it_lies(tmp_path: Path) -> None:
    document = {**json.loads(ALL.to_bytes()), "format": 2, "post_quantum": "ab"}
    (tmp_path / "key").write_text(json.dumps(document))
    with pytest.raises(VaultError, match="format 2") as caught:
        KeyFile.load(tmp_path / "key")
    assert not isinstance(caught.value, WrongKey)
    assert caught.value.file == str(tmp_path / "key")
    assert ALL.catalogue_key not in str(caught.value)


def test_a_folder_or_an_endless_file_is_no_key_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="directory"):
        KeyFile.load(tmp_path)
    with pytest.raises(WrongKey):
        KeyFile.load("/dev/zero")


def test_the_largest_key_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(ALL.to_bytes().strip().rjust(KEY_OBJECT_BYTES_MAX))
    assert KeyFile.load(path) == ALL
    path.write_bytes(ALL.to_bytes().strip().rjust(KEY_OBJECT_BYTES_MAX + 2))
    with pytest.raises(WrongKey):
        KeyFile.load(path)


# ---------------------------------------------------------------------------------------------- the heads it keeps


def test_a_key_file_keeps_newer_heads_and_none_that_are_older(tmp_path: Path) -> None:
    # fault 54
    path = tmp_path / "key"
    ALL.save(path)
    path.chmod(0o640)
    KeyFile.pin(path, {"eu": (3, "a" * 64), "us": (5, "b" * 64)})
    KeyFile.pin(path, {"eu": (4, "c" * 64), "us": (2, "d" * 64)})
    kept = KeyFile.load(path)
    assert kept == ALL.with_heads({"eu": (4, "c" * 64), "us": (5, "b" * 64)})
    assert stat.S_IMODE(path.stat().st_mode) == 0o640, "whoever could read it still can"
    assert [file.name for file in tmp_path.iterdir()] == ["key"]


def test_a_key_file_behind_a_link_is_the_one_that_keeps_them(tmp_path: Path) -> None:
    ALL.save(tmp_path / "key")
    (tmp_path / "link").symlink_to(tmp_path / "key")
    KeyFile.pin(tmp_path / "link", {"eu": (1, "a" * 64)})
    assert (tmp_path / "link").is_symlink()
    assert KeyFile.load(tmp_path / "key").heads["eu"].slot == 1


@pytest.mark.parametrize("call", ["open", "fdopen", "fsync", "chown", "unlink"])
def test_a_key_file_is_whole_whenever_keeping_a_head_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    # fault 1
    ALL.save(tmp_path / "key")

    def cut(*arguments: object, **more: object) -> object:
        raise PowerLost

    with monkeypatch.context() as patch, pytest.raises(PowerLost):
        patch.setattr(os, call, cut)
        KeyFile.pin(tmp_path / "key", {"eu": (1, "a" * 64)})
    assert KeyFile.load(tmp_path / "key").for_roles(*Role) == KeyFile.load(tmp_path / "key")
    assert KeyFile.load(tmp_path / "key").with_heads({"eu": (1, "a" * 64)}) == ALL.with_heads(
        {"eu": (1, "a" * 64)}
    )


def test_a_place_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        ALL.save(tmp_path / "none" / "key")
    assert caught.value.next
    with pytest.raises(UsageError):
        KeyFile.load(tmp_path / "none")


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b"hello", ALL.to_bytes()[:-20]])
def test_a_file_that_is_no_key_file_does_not_open_and_is_not_quoted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(WrongKey) as caught:
        KeyFile.load(tmp_path / "key")
    assert caught.value.file == str(tmp_path / "key")
    assert caught.value.__cause__ is None
    assert ALL.catalogue_key not in str(caught.value)


def test_printing_a_key_file_or_a_content_key_shows_no_secret() -> None:
    keyring = Keyring.open(ALL, vault(*OBJECTS))
    shown = f"{ALL} {ALL!r} {ALL.writer!r} {keyring.content_key()!r} {keyring!r}"
    document = json.loads(ALL.to_bytes())
    for secret in (
        document["catalogue_key"],
        document["chunk_name_key"],
        document["writer"]["signing"],
        document["writer"]["content"]["bulk"],
        document["reader"]["opening"],
        keyring.content_key().secret.hex(),
        repr(keyring.content_key().secret),
    ):
        assert secret not in shown


def test_two_key_files_share_no_secret() -> None:
    other = KeyFile.create("vault-1", "support")
    assert ALL.catalogue_key != other.catalogue_key
    assert ALL.admin_public != other.admin_public


def test_heads_that_were_seen_are_pinned_and_newer_ones_replace_them() -> None:
    pinned = ALL.with_heads({"eu": (3, "a" * 64), "us": (1, "b" * 64)}).with_heads({"eu": (4, "c" * 64)})
    again = KeyFile.from_bytes(pinned.to_bytes())
    assert again.heads["eu"].slot == 4 and again.heads["eu"].hash == "c" * 64
    assert again.heads["us"].slot == 1
    assert ALL.heads == {}


# ----------------------------------------------------------------------------------------------- passphrases


def test_a_passphrase_that_is_not_utf_8_opens_as_it_was_typed() -> None:
    typed = os.fsdecode(b"\xfcberraschung")
    assert KeyFile.unwrap(ALL.wrapped(typed), typed) == ALL


def test_a_wrapped_key_file_opens_with_its_passphrase_alone() -> None:
    wrapped = ALL.wrapped("correct horse")
    assert KeyFile.unwrap(wrapped, "correct horse") == ALL
    with pytest.raises(WrongKey, match="passphrase"):
        KeyFile.unwrap(wrapped, "correct horsf")


def test_a_wrapped_key_file_shows_no_secret_and_is_sealed_anew_each_time() -> None:
    first, second = ALL.wrapped("p"), ALL.wrapped("p")
    assert first != second
    assert ALL.catalogue_key.encode() not in first
    assert json.loads(first)["salt"] != json.loads(second)["salt"]


@pytest.mark.parametrize("field", ["vault", "salt", "sealed", "kdf", "type", "format"])
def test_a_wrapped_key_file_with_any_field_changed_does_not_open(field: str) -> None:
    document = json.loads(ALL.wrapped("p"))
    value = document[field]
    document[field] = 0 if isinstance(value, int) else changed(value)
    with pytest.raises((WrongKey, Damaged)):
        KeyFile.unwrap(canonical_json(document), "p")


def test_a_wrapped_key_file_may_stand_among_the_vaults_keys() -> None:
    store = vault(*OBJECTS, ALL.wrapped("p"))
    assert Keyring.open(ALL, store).rejected == {}


def changed(text: str) -> str:
    """The same text with its first character another hex digit."""
    return ("0" if text[0] != "0" else "1") + text[1:]


# ----------------------------------------------------------------------------------------------- roles


@pytest.mark.parametrize("role", list(Role))
def test_a_reduced_file_holds_one_role_and_survives_the_disk(role: Role, tmp_path: Path) -> None:
    reduced = ALL.for_roles(role)
    reduced.save(tmp_path / "key")
    assert KeyFile.load(tmp_path / "key").roles == {role}
    keyring = Keyring.open(KeyFile.load(tmp_path / "key"), vault(*OBJECTS))
    assert [other for other in Role if keyring.can(other)] == [role]


@pytest.mark.parametrize("role", list(Role))
def test_a_reduced_file_contains_no_byte_of_another_roles_secrets(role: Role) -> None:
    document = json.loads(ALL.to_bytes())
    secrets = {
        Role.WRITER: [document["writer"]["signing"], document["writer"]["content"]["bulk"]],
        Role.READER: [document["reader"]["opening"]],
        Role.OPERATOR: [document["operator"]["signing"]],
        Role.ADMIN: [document["admin"]["signing"]],
    }
    text = ALL.for_roles(role).to_bytes().decode()
    for other, theirs in secrets.items():
        for secret in theirs:
            assert (secret in text) is (other is role)
    assert (document["chunk_name_key"] in text) is (role is not Role.OPERATOR)


def test_a_reduced_file_cannot_be_grown_again() -> None:
    with pytest.raises(WrongKey):
        ALL.for_roles(Role.READER).for_roles(Role.WRITER)
    with pytest.raises(WrongKey):
        key_objects(ALL.for_roles(Role.WRITER, Role.READER, Role.OPERATOR))


@pytest.mark.parametrize("role", SIGNING)
@pytest.mark.parametrize("holder", list(Role))
def test_only_the_holder_of_a_role_signs_as_it(role: Role, holder: Role) -> None:
    keyring = Keyring.open(ALL.for_roles(holder), vault(*OBJECTS))
    if role is holder:
        keyring.verify(role, MESSAGE, keyring.sign(role, MESSAGE))
        return
    with pytest.raises(WrongKey) as caught:
        keyring.sign(role, MESSAGE)
    assert role.value in (caught.value.next or "")


def test_a_reader_signs_nothing_even_as_a_reader() -> None:
    with pytest.raises(WrongKey):
        Keyring.open(ALL, vault(*OBJECTS)).sign(Role.READER, MESSAGE)


@pytest.mark.parametrize("holder", [Role.WRITER, Role.OPERATOR, Role.ADMIN])
def test_only_the_reader_opens_content_keys(holder: Role) -> None:
    store = vault(*OBJECTS)
    key = Keyring.open(ALL, store).content_key()
    with pytest.raises(WrongKey, match="reader"):
        Keyring.open(ALL.for_roles(holder), store).open_content_key(key.id)
    assert Keyring.open(ALL.for_roles(Role.READER), store).open_content_key(key.id) == key.secret


def test_the_writer_seals_and_the_others_have_no_content_key_of_their_own() -> None:
    store = vault(*OBJECTS)
    writer = Keyring.open(ALL.for_roles(Role.WRITER), store)
    assert len(writer.content_key().secret) == 32 and len(writer.content_key().id) == 16
    assert writer.content_key() == Keyring.open(ALL, store).content_key("bulk")
    with pytest.raises(WrongKey):
        writer.content_key("erasable")
    for holder in (Role.READER, Role.OPERATOR, Role.ADMIN):
        with pytest.raises(WrongKey):
            Keyring.open(ALL.for_roles(holder), store).content_key()


def test_every_holder_reads_the_catalogue_and_an_operator_cannot_recognise_contents() -> None:
    store = vault(*OBJECTS)
    rings = {role: Keyring.open(ALL.for_roles(role), store) for role in Role}
    assert len({ring.catalogue_key for ring in rings.values()}) == 1
    names = {rings[role].chunk_name_key for role in (Role.WRITER, Role.READER, Role.ADMIN)}
    assert len(names) == 1
    with pytest.raises(WrongKey):
        _ = rings[Role.OPERATOR].chunk_name_key


def test_a_holder_that_is_no_writer_has_no_writer_id() -> None:
    store = vault(*OBJECTS)
    assert Keyring.open(ALL.for_roles(Role.READER), store).writer == ""
    writer = Keyring.open(ALL.for_roles(Role.WRITER), store)
    assert writer.writer == writer.sign(Role.WRITER, MESSAGE).signer


# ----------------------------------------------------------------------------------------------- signatures


@pytest.mark.parametrize("role", SIGNING)
def test_a_signature_says_one_thing_in_one_role(role: Role) -> None:
    keyring = Keyring.open(ALL, vault(*OBJECTS))
    signature = keyring.sign(role, MESSAGE)
    wrong = [
        (role, MESSAGE + b".", signature),
        (role, MESSAGE, Signature(signature.signer, signature.value[:-1] + bytes([signature.value[-1] ^ 1]))),
        (role, MESSAGE, Signature(signature.signer, b"")),
        (role, MESSAGE, Signature("0" * 32, signature.value)),
        *((other, MESSAGE, signature) for other in Role if other is not role),
    ]
    for claimed, message, given in wrong:
        with pytest.raises(Damaged):
            keyring.verify(claimed, message, given)


def test_a_holder_whose_certificate_is_gone_does_not_sign() -> None:
    certificate = of_type("certificate", role="writer")
    keyring = Keyring.open(ALL, vault(*(o for o in OBJECTS if o != certificate)))
    with pytest.raises(WrongKey, match="vouch"):
        keyring.sign(Role.WRITER, MESSAGE)
    keyring.sign(Role.OPERATOR, MESSAGE)


# ----------------------------------------------------------------------------------------------- hostile


def test_a_key_does_not_open_another_vault() -> None:
    with pytest.raises(WrongKey, match="vault-2"):
        Keyring.open(ALL, vault(*OBJECTS, vault_id="vault-2"))


def test_a_key_does_not_open_the_vault_of_another_pipeline() -> None:
    renamed = ALL.model_copy(update={"pipeline": "another"})
    with pytest.raises(WrongKey, match="another"):
        Keyring.open(renamed, vault(*OBJECTS))


def test_a_reader_whose_certificate_is_gone_is_said_to_be_unvouched() -> None:
    # fault 3
    store = vault(*OBJECTS)
    assert Keyring.open(ALL, store).unvouched() == []
    store.delete(key_name(object_name(of_type("certificate", role="reader"))))
    assert Keyring.open(ALL, store).unvouched() == [Role.READER]


def test_a_store_that_vouches_with_an_admin_of_its_own_is_not_believed() -> None:
    impostor = KeyFile.create("vault-1", "support")
    with pytest.raises(WrongKey, match="admin"):
        Keyring.open(ALL, vault(*key_objects(impostor)))


def test_a_writer_that_a_foreign_admin_vouches_for_is_set_aside_beside_the_true_one() -> None:
    impostor = KeyFile.create("vault-1", "support")
    foreign = key_objects(impostor)
    keyring = Keyring.open(ALL, vault(*OBJECTS, *foreign))
    assert set(keyring.rejected) == {key_name(object_name(content)) for content in foreign}
    signature = Keyring.open(impostor, vault(*foreign)).sign(Role.WRITER, MESSAGE)
    with pytest.raises(Damaged, match="vouch"):
        keyring.verify(Role.WRITER, MESSAGE, signature)


def test_certificates_of_another_vault_of_the_same_admin_do_not_count() -> None:
    sibling = ALL.model_copy(update={"vault": "vault-2"})
    store = vault(*key_objects(sibling))
    with pytest.raises(WrongKey):
        Keyring.open(ALL, store)


@pytest.mark.parametrize("field", ["vault", "role", "public", "signature", "format", "type"])
def test_a_certificate_with_any_field_changed_vouches_for_nobody(field: str) -> None:
    original = of_type("certificate", role="writer")
    document = json.loads(original)
    changes = {"role": "operator", "format": 0, "type": "content_key", "vault": "vault-2"}
    document[field] = changes.get(field) or changed(str(document[field]))
    store = vault(*(content for content in OBJECTS if content != original))
    name = put(store, canonical_json(document))
    keyring = Keyring.open(ALL, store)
    assert name in keyring.rejected
    signature = Keyring.open(ALL, vault(*OBJECTS)).sign(Role.WRITER, MESSAGE)
    for role in (Role.WRITER, Role.OPERATOR):
        with pytest.raises(Damaged):
            keyring.verify(role, MESSAGE, signature)


FIELDS = ["vault", "id", "affinity", "reader", "ephemeral", "sealed", "signer", "signature", "format", "type"]


@pytest.mark.parametrize("field", FIELDS)
def test_a_wrapped_content_key_with_any_field_changed_does_not_open(field: str) -> None:
    original = of_type("content_key")
    document = json.loads(original)
    value = document[field]
    document[field] = 0 if isinstance(value, int) else changed(value)
    store = vault(*(content for content in OBJECTS if content != original))
    put(store, canonical_json(document))
    keyring = Keyring.open(ALL, store)
    with pytest.raises(Missing) as caught:
        keyring.open_content_key(keyring.content_key().id)
    assert caught.value.next == "refloat vault repair"


def test_a_content_key_that_a_reader_planted_for_itself_is_not_taken() -> None:
    """Anybody can seal to the reader's public key; only a vouched writer's word makes it a content key."""
    planted = json.loads(of_type("content_key"))
    stranger = KeyFile.create("vault-1", "support")
    forged = json.loads(next(o for o in key_objects(stranger) if json.loads(o)["type"] == "content_key"))
    planted = {**forged, "signer": planted["signer"]}
    store = vault(*OBJECTS)
    name = put(store, canonical_json(planted))
    keyring = Keyring.open(ALL, store)
    assert "signature" in keyring.rejected[name]
    with pytest.raises(Missing):
        keyring.open_content_key(bytes.fromhex(forged["id"]))


def test_a_second_key_under_the_id_of_a_first_does_not_shadow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that was broken into can sign what it likes; the id still names one secret alone."""
    true_id = Keyring.open(ALL, vault(*OBJECTS)).content_key().id
    assert ALL.writer is not None
    other = ALL.writer.model_copy(update={"content": {"bulk": "ab" * 32}})
    with monkeypatch.context() as patched:
        patched.setattr(keyobjects, "content_key_id", lambda secret: true_id)
        shadows = key_objects(ALL.model_copy(update={"writer": other}))
    store = vault(*(content for content in OBJECTS if json.loads(content)["type"] == "certificate"), *shadows)
    keyring = Keyring.open(ALL, store)
    assert keyring.rejected == {}
    with pytest.raises(Missing):
        keyring.open_content_key(true_id)
    put(store, of_type("content_key"))
    assert Keyring.open(ALL, store).open_content_key(true_id) == keyring.content_key().secret


def test_a_signature_of_one_who_holds_two_roles_with_one_key_counts_for_one_role() -> None:
    assert ALL.writer is not None and ALL.operator is not None
    both = ALL.operator.model_copy(update={"signing": ALL.writer.signing})
    key_file = ALL.model_copy(update={"operator": both})
    keyring = Keyring.open(key_file, vault(*key_objects(key_file)))
    signature = keyring.sign(Role.WRITER, MESSAGE)
    assert signature.signer == keyring.sign(Role.OPERATOR, MESSAGE).signer
    with pytest.raises(Damaged, match="wrong"):
        keyring.verify(Role.OPERATOR, MESSAGE, signature)


def test_a_flipped_bit_in_any_key_object_is_noticed_and_the_others_still_count() -> None:
    for content in OBJECTS:
        store = vault(*OBJECTS)
        name = key_name(object_name(content))
        store.flip_bit(name)
        keyring = Keyring.open(ALL, store)
        assert "named after" in keyring.rejected[name]
        assert (
            len(keyring.rejected) <= 2
        )  # the writer's own word for its content key falls with its certificate


def test_a_key_object_served_under_anothers_name_is_noticed() -> None:  # fault 5
    store = vault(*OBJECTS)
    names = [key_name(object_name(content)) for content in OBJECTS]
    store.misdirect(names[0], names[1])
    assert names[0] in Keyring.open(ALL, store).rejected


def test_junk_among_the_keys_does_not_keep_a_reader_from_a_recovery() -> None:
    store = vault(*OBJECTS)
    for junk in (b"", b"{", bytes(100_000), canonical_json({"format": 7}), canonical_json({"format": 1})):
        put(store, junk)
    store.create(KEYS + "not-a-digest", b"x")
    keyring = Keyring.open(ALL, store)
    key = keyring.content_key()
    assert keyring.open_content_key(key.id) == key.secret
    assert KEYS + "not-a-digest" in keyring.rejected


def test_an_error_names_the_key_objects_that_were_set_aside() -> None:
    store = vault(*OBJECTS)
    name = key_name(object_name(of_type("content_key")))
    store.flip_bit(name)
    keyring = Keyring.open(ALL, store)
    with pytest.raises(Missing, match=name):
        keyring.open_content_key(keyring.content_key().id)


def test_a_vault_without_keys_or_with_damaged_ones_alone_says_so() -> None:
    with pytest.raises(Missing):
        Keyring.open(ALL, vault())
    store = vault(*OBJECTS)
    for content in OBJECTS:
        store.flip_bit(key_name(object_name(content)))
    with pytest.raises(Damaged):
        Keyring.open(ALL, store)


def test_a_place_without_a_vault_says_so() -> None:
    with pytest.raises(RefloatError) as caught:
        Keyring.open(ALL, MemoryStore())
    assert "refloat vault init" in (caught.value.next or "")


# ------------------------------------------------------------------------------------------- the admin's other words


def admins(model: KeyObject) -> bytes:
    """A key object as the admin signs it, whatever it says."""
    assert ALL.admin is not None
    signature = keyobjects.signed_by(ALL.admin.signing, Role.ADMIN, model.message())  # type: ignore[attr-defined]
    return canonical_json({**model.model_dump(mode="json"), "signature": signature.hex()})


def test_of_several_terms_of_a_lock_the_longest_counts_and_only_the_admins() -> None:
    day = 86_400
    assert Keyring.open(ALL, vault(*OBJECTS)).lock is None
    terms = [keyobjects.lock_object(ALL, seconds) for seconds in (7 * day, 30 * day, day)]
    assert Keyring.open(ALL, vault(*OBJECTS, *terms)).lock == timedelta(days=30)
    thief = KeyFile.create("vault-1", "support")
    forged = vault(*OBJECTS, terms[2], keyobjects.lock_object(thief, 90 * day))
    keyring = Keyring.open(ALL, forged)
    assert keyring.lock == timedelta(days=1) and len(keyring.rejected) == 1
    with pytest.raises(WrongKey, match="admin"):
        keyobjects.lock_object(ALL.for_roles(Role.OPERATOR), day)


def test_a_lock_that_another_region_keeps_counts_where_it_is_longer_and_is_said_to_lack_here() -> None:
    day = 86_400
    for own, other, lock, lacks in ((None, 3, 3, True), (2, 3, 3, True), (3, 3, 3, False), (4, 3, 4, False)):
        terms = [] if own is None else [keyobjects.lock_object(ALL, own * day)]
        keyring = Keyring.open(ALL, vault(*OBJECTS, *terms))
        keyring.adopt_lock(timedelta(days=other))
        assert (keyring.lock, keyring.lock_lacks) == (timedelta(days=lock), lacks)


def test_a_word_of_the_admin_for_another_vault_does_not_count_here() -> None:
    sibling = ALL.model_copy(update={"vault": "vault-2"})
    store = vault(*OBJECTS)
    name = put(store, keyobjects.lock_object(sibling, 60))
    keyring = Keyring.open(ALL, store)
    assert keyring.lock is None
    assert "belongs to another vault" in keyring.rejected[name]


def test_a_name_for_nobody_whom_the_admin_vouches_for_says_nothing() -> None:
    stranger = keyobjects.publics_of(KeyFile.create("x", "y"))[Role.WRITER]
    store = vault(*OBJECTS, keyobjects.holder_object(ALL, Role.WRITER, stranger, "trainer", MOMENT))
    keyring = Keyring.open(ALL, store)
    assert keyring.rejected == {}
    assert [(one.role, one.name) for one in keyring.known()] == [(role, "") for role in keyobjects.CERTIFIED]


def test_a_time_that_is_none_is_damage_and_keeps_nobody_from_a_recovery() -> None:
    public = keyobjects.publics_of(ALL)[Role.WRITER]
    told = json.loads(keyobjects.holder_object(ALL, Role.WRITER, public, "trainer", MOMENT))
    name = put(
        store := vault(*OBJECTS),
        admins(keyobjects.HolderName.model_validate({**told, "since": "yesterday", "signature": ""})),
    )
    keyring = Keyring.open(ALL, store)
    assert "its time is not one" in keyring.rejected[name]
    assert all(one.name == "" for one in keyring.known())


def test_of_two_names_of_one_key_the_newer_counts_in_whatever_order_they_are_read() -> None:
    public = keyobjects.publics_of(ALL)[Role.WRITER]
    for days in ((1, 2, 3), (3, 2, 1), (2, 3, 1)):
        names = [
            keyobjects.holder_object(ALL, Role.WRITER, public, f"name {day}", MOMENT.replace(day=day))
            for day in days
        ]
        keyring = Keyring.open(ALL, vault(*OBJECTS, *names))
        assert keyring.known()[0].name == "name 3"


def test_an_operator_is_removed_when_every_part_of_the_word_is_there() -> None:
    operator = Keyring.open(ALL, vault(*OBJECTS)).signer(Role.OPERATOR)
    signed = {("eu", f"runs/{number}"): (number, f"{number:064x}") for number in range(400)}
    parts = keyobjects.operator_removal_objects(ALL, operator, MOMENT, signed)
    assert len(parts) > 2
    removal = Keyring.open(ALL, vault(*OBJECTS, *parts)).removal(Role.OPERATOR, operator)
    assert removal is not None and dict(removal.heads) == signed
    for lost in range(len(parts)):
        rest = parts[:lost] + parts[lost + 1 :]
        assert Keyring.open(ALL, vault(*OBJECTS, *rest)).removal(Role.OPERATOR, operator) is None


# ----------------------------------------------------------------------------------------------- at the edges


def test_what_is_too_short_for_a_seal_does_not_open() -> None:
    sealed = seal_bytes(b"k" * 32, b"", b"")
    assert open_sealed(b"k" * 32, sealed, b"") == b"" and len(sealed) == SEAL_BYTES
    for length in range(SEAL_BYTES):
        with pytest.raises(InvalidTag):
            open_sealed(b"k" * 32, sealed[:length], b"")


def test_a_key_file_that_keeps_no_newer_head_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "key"
    ALL.with_heads({"eu": (3, "a" * 64)}).save(path)
    before = path.stat()
    for older in ({}, {"eu": (3, "b" * 64)}, {"eu": (2, "c" * 64)}):
        KeyFile.pin(path, older)
    assert path.stat().st_ino == before.st_ino
    KeyFile.pin(path, {"eu": (4, "d" * 64)})
    assert path.stat().st_ino != before.st_ino


def test_a_wrapped_key_file_of_another_vault_than_it_says_is_damage() -> None:
    document = {**json.loads(ALL.wrapped("p")), "vault": "vault-2"}
    header = {name: value for name, value in document.items() if name != "sealed"}
    key = passphrase_key("p", bytes.fromhex(document["salt"]))
    sealed = seal_bytes(key, ALL.to_bytes(), canonical_json(header))
    with pytest.raises(Damaged, match="another vault"):
        KeyFile.unwrap(canonical_json({**header, "sealed": sealed.hex()}), "p")


@pytest.mark.parametrize("format", [1, 0, "2", True, None])
def test_junk_that_names_no_newer_format_is_no_key_file(format: object) -> None:
    with pytest.raises(WrongKey):
        KeyFile.from_bytes(json.dumps({"kind": "refloat key file", "format": format}).encode())


@pytest.mark.parametrize("role", [Role.WRITER, Role.READER, Role.OPERATOR])
def test_a_vault_is_made_by_who_holds_all_four_roles(role: Role) -> None:
    with pytest.raises(WrongKey, match=role.value):
        key_objects(ALL.for_roles(*(set(Role) - {role})))


def test_who_is_no_writer_wraps_no_content_key_and_makes_no_new_one() -> None:
    reader = ALL.for_roles(Role.READER)
    public = keyobjects.publics_of(ALL)[Role.READER]
    with pytest.raises(WrongKey, match="writer"):
        keyobjects.wrap_content_key(reader, "bulk", b"s" * 32, public)
    with pytest.raises(WrongKey, match="writer"):
        reader.with_new_content_key()


@pytest.mark.parametrize("ephemeral", [bytes(32).hex(), "ab" * 32])
def test_a_content_key_that_was_wrapped_with_another_ephemeral_key_does_not_open(ephemeral: str) -> None:
    assert ALL.reader is not None
    wrapped = keyobjects.WrappedContentKey.model_validate(json.loads(of_type("content_key")))
    assert keyobjects.unwrap_content_key(wrapped, ALL.reader.opening) is not None
    other = wrapped.model_copy(update={"ephemeral": ephemeral})
    assert keyobjects.unwrap_content_key(other, ALL.reader.opening) is None


@pytest.mark.parametrize(
    ("field", "fit", "others"), [("vault", (1, 128), (0, 129)), ("pipeline", (0, 128), (129,))]
)
def test_a_key_file_names_its_vault_and_pipeline_in_at_most_128_letters(
    field: str, fit: tuple[int, ...], others: tuple[int, ...]
) -> None:
    def named(length: int) -> KeyFile:
        return KeyFile.from_bytes(json.dumps({**json.loads(ALL.to_bytes()), field: "x" * length}).encode())

    assert [len(getattr(named(length), field)) for length in fit] == list(fit)
    for length in others:
        with pytest.raises(WrongKey):
            named(length)


@pytest.mark.parametrize(
    ("make", "field", "whole", "beyond"),
    [
        (
            lambda: keyobjects.lock_object(ALL, 60),
            "seconds",
            (1, LOCK_SECONDS_MAX),
            (0, LOCK_SECONDS_MAX + 1),
        ),
        (
            lambda: keyobjects.holder_object(ALL, Role.READER, b"p" * 32, "n", MOMENT),
            "name",
            ("", "n" * 128),
            ("n" * 129,),
        ),
        (lambda: of_type("certificate"), "signature", ("", "ab" * 64), ("ab", "ab" * 65, "AB" * 64)),
        (lambda: of_type("content_key"), "sealed", ("", "ab"), ("a", "AB")),
        (lambda: of_type("content_key"), "ephemeral", ("ab" * 32,), ("", "ab" * 31, "ab" * 33)),
    ],
    ids=["lock", "holder", "certificate", "content_key", "ephemeral"],
)
def test_a_field_of_a_key_object_is_within_its_limits(
    make: Callable[[], bytes], field: str, whole: tuple[object, ...], beyond: tuple[object, ...]
) -> None:
    document = json.loads(make())
    for value in whole:
        content = canonical_json({**document, field: value})
        found = keyobjects.parsed_key_object(key_name(object_name(content)), content)
        assert found is not None and getattr(found, field) == value
    for value in beyond:
        content = canonical_json({**document, field: value})
        with pytest.raises(Damaged, match="1 of its fields are wrong"):
            keyobjects.parsed_key_object(key_name(object_name(content)), content)


def test_a_store_that_lists_keys_without_end_is_not_listened_to_for_ever() -> None:
    class Endless(MemoryStore):
        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            listed.extend(super().list(prefix))
            yield from listed
            while True:
                listed.append(ObjectInfo(key_name(f"{len(listed):064x}"), 1))
                yield listed[-1]

    listed: list[ObjectInfo] = []
    store = Endless()
    for content in OBJECTS:
        store.create(key_name(object_name(content)), content)
    write_descriptor(store, Descriptor(vault="vault-1", replica="r", pipeline="support"))
    keyring = Keyring.open(ALL, store)
    assert len(listed) == KEY_OBJECTS_MAX
    assert len(keyring.rejected) == KEY_OBJECTS_MAX - len(OBJECTS)
    assert keyring.unvouched() == []
