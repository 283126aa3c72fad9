"""Keys: what each role can do and what it cannot, and that nothing but the key file is trusted."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from refloat.digest import canonical_json, object_name
from refloat.errors import Damaged, Missing, RefloatError, Refused, UsageError, WrongKey
from refloat.vault import keys
from refloat.vault.keys import KeyFile, Keyring, Role, Signature, key_objects
from refloat.vault.layout import KEYS, Descriptor, key_name, write_descriptor
from refloat.vault.stores.faulty import FaultyStore
from refloat.vault.stores.memory import MemoryStore

ALL = KeyFile.create("vault-1", "support")
MESSAGE = b"a message"
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
        patched.setattr(keys, "content_key_id", lambda secret: true_id)
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


def test_a_key_object_served_under_anothers_name_is_noticed() -> None:
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
