"""``refloat vault keys``: who holds keys, another holder, another content key."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Any

import pytest

from contract_pins import printed, require_pinned
from refloat.errors import UsageError
from refloat.vault.keyfile import KeyFile, Role

ADD = ("vault", "keys", "add", "--name", "trainer", "--key", "trainer.key")


def secrets_in(*key_files: Path) -> set[str]:
    """Every secret of some key files."""
    public = re.compile(r'"(?:admin_public|hash|vault)": "[0-9a-f]+"')
    return {
        secret
        for path in key_files
        for secret in re.findall(r"[0-9a-f]{64}", public.sub("", path.read_text()))
    }


def holders(desk) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = desk.ask("vault", "keys", "list")["holders"]
    return found


def use(desk, monkeypatch, name: str) -> None:
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(desk.root / name))


# ------------------------------------------------------------------------------------------------------ list


def test_the_list_says_who_holds_which_role_and_which_key_is_this_one(desk) -> None:
    desk.ask(*ADD, "--role", "writer", "--role", "reader")
    document = printed(desk, "vault", "keys", "list")
    require_pinned("vault keys list", "two", document)
    own = [one for one in document["holders"] if one["own"]]
    other = [one for one in document["holders"] if not one["own"]]
    assert [one["role"] for one in own] == ["writer", "reader", "operator"]
    assert {(one["role"], one["name"]) for one in other} == {("writer", "trainer"), ("reader", "trainer")}
    assert all(one["regions"] == ["eu", "us"] for one in document["holders"])
    assert all(one["since"] for one in other) and not any(one["since"] for one in own)
    assert [one["current"] for one in document["content_keys"]].count(True) == 1
    readers = {one["fingerprint"] for one in document["holders"] if one["role"] == "reader"}
    assert all(set(one["readers"]) == readers for one in document["content_keys"])
    said = desk.read("vault", "keys", "list")
    assert "trainer" in said and "(no name)" in said and "this key" in said
    for secret in secrets_in(desk.key, desk.root / "trainer.key"):
        assert secret not in said + str(document) + desk.said


def test_a_list_without_a_region_says_which_and_exits_1(desk) -> None:
    desk.vault("us").rename(desk.root / "gone")
    document = desk.ask("vault", "keys", "list", exits=1)
    assert document["unreachable"] == ["us"] and document["holders"][0]["regions"] == ["eu"]


def test_the_key_of_another_vault_lists_nothing(desk, monkeypatch) -> None:  # fault 58
    KeyFile.create("0" * 32, "small").save(desk.root / "other.key")
    use(desk, monkeypatch, "other.key")
    for verb in (("list",), ("rotate",), (*ADD[2:], "--role", "writer")):
        assert desk.error("vault", "keys", *verb, exits=4)["code"] == "vault_wrong_key"
    assert not (desk.root / "trainer.key").exists()


# ------------------------------------------------------------------------------------------------------- add


def test_somebody_who_was_added_protects_with_a_key_of_their_own(desk, monkeypatch) -> None:
    document = printed(desk, *ADD, "--role", "writer")
    require_pinned("vault keys add", "writer", document)
    path = desk.root / "trainer.key"
    assert document["key"] == str(path) and path.stat().st_mode & 0o077 == 0
    for secret in secrets_in(path, desk.key):
        assert secret not in str(document) + desk.said
    made = KeyFile.load(path)
    assert made.roles == {Role.WRITER} and made.vault == KeyFile.load(desk.key).vault
    use(desk, monkeypatch, "trainer.key")
    desk.release(2)
    point = desk.ask("protect")["point"]
    use(desk, monkeypatch, "small.key")
    assert desk.ask("vault", "check", "--read-data")["ok"]
    brought = desk.ask("recover", "--into", "brought")
    assert brought["point"] == point
    assert '"version": 2' in (desk.root / "brought" / "pages" / "content" / "current.json").read_text()


def test_a_reader_and_operator_that_was_added_recovers(desk, monkeypatch) -> None:
    desk.ask(*ADD, "--role", "reader", "--role", "operator")
    live = desk.pages("eu")
    desk.lose("eu")
    use(desk, monkeypatch, "trainer.key")
    desk.ask("recover", "--vault", str(desk.vault("us")), "--to", "us")
    assert desk.pages("us") == live


@pytest.mark.parametrize("role", ["writer", "operator"])
def test_a_machine_that_only_writes_or_operates_reads_no_content_and_removes_nothing(
    desk, monkeypatch, role: str
) -> None:  # fault 58
    desk.ask(*ADD, "--role", role)
    point = desk.ask("points", "list")["points"][0]["point"]
    use(desk, monkeypatch, "trainer.key")
    for verb in (("vault", "export", point, "pages", "--into", "some"), ("recover", "--into", "brought")):
        assert desk.error(*verb, exits=4)["code"] == "vault_wrong_key", verb
    assert not any(path for name in ("some", "brought") for path in (desk.root / name).rglob("*.json"))
    for verb in (("vault", "prune"), ("points", "forget"), ("vault", "keys", "remove", "0123456789")):
        assert desk.error(*verb, exits=2 if "remove" in verb else 4), verb
    if role == "operator":
        assert desk.error("protect", exits=4)["code"] == "vault_wrong_key"


# ----------------------------------------------------------------------------------- who can read the file


def test_a_key_that_others_can_read_is_warned_of_once_by_every_verb(desk) -> None:
    verbs = (("protect",), ("check",), ("vault", "keys", "list"), ("plan", "--to", "us"))
    modes = ((0o600, 0), (0o700, 0), (0o640, 1), (0o604, 1))
    for (mode, warned), verb in [
        *((one, verbs[-1]) for one in modes),
        *((modes[-1], verb) for verb in verbs),
    ]:
        desk.key.chmod(mode)
        assert desk.answer(*verb)[0] in (0, 1)
        heard = desk.said.count(f"others can read the key file {desk.key}; next: chmod 600 {desk.key}")
        assert heard == warned, (oct(mode), verb, desk.said)


def test_a_credential_of_systemd_is_not_warned_of(desk, monkeypatch) -> None:
    desk.key.chmod(0o440)  # the mask of its access list, which names the service's user
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(desk.key.parent))
    assert desk.answer("plan", "--to", "us")[0] in (0, 1)
    assert "others can read" not in desk.said


def test_a_key_file_of_somebody_else_is_to_be_read_by_them(desk, monkeypatch) -> None:
    def closed(path: Path, *how: Any) -> Any:  # whoever runs this may be root, who may read everything
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "open", closed)
    with pytest.raises(UsageError) as failed:
        KeyFile.load(desk.key)
    assert (failed.value.file, "user who may read" in failed.value.next) == (str(desk.key), True)


def test_with_a_new_passphrase_it_alone_opens_what_the_holder_may(desk, monkeypatch) -> None:
    monkeypatch.setenv("REFLOAT_NEW_PASSPHRASE", "staple battery")
    desk.ask(*ADD, "--role", "reader")
    assert "staple battery" not in desk.said
    monkeypatch.delenv("REFLOAT_KEY_FILE")
    monkeypatch.setenv("REFLOAT_PASSPHRASE", "staple battery")
    assert desk.ask("recover", "--into", "brought")["point"]
    assert "writer" in desk.error("protect", exits=4)["message"]


def test_what_was_begun_is_gone_on_with_and_a_file_of_something_else_is_not_touched(desk) -> None:
    desk.ask(*ADD, "--role", "writer")
    before = (desk.root / "trainer.key").read_bytes()
    again = desk.ask(*ADD, "--role", "writer")
    assert again["regions"] == {"eu": {"written": 0}, "us": {"written": 0}}
    assert (desk.root / "trainer.key").read_bytes() == before
    assert "--key" in desk.error(*ADD, "--role", "reader", exits=2)["next"]
    (desk.root / "trainer.key").write_text("the only copy of a novel")
    assert "--key" in desk.error(*ADD, "--role", "writer", exits=2)["next"]
    assert (desk.root / "trainer.key").read_text() == "the only copy of a novel"
    own = desk.error("vault", "keys", "add", "--name", "x", "--role", "writer", "--key", "small.key", exits=2)
    assert own["code"] == "usage"


def test_a_region_that_lags_is_named_and_catches_up(desk) -> None:
    desk.vault("us").rename(desk.root / "gone")
    document = printed(desk, *ADD, "--role", "writer", exits=1)
    require_pinned("vault keys add", "lagging", document)
    assert document["lagging"] == ["us"] and document["regions"].keys() == {"eu"}
    (desk.root / "gone").rename(desk.vault("us"))
    document = desk.ask(*ADD, "--role", "writer")
    assert document["lagging"] == [] and document["regions"]["us"]["written"] > 0
    assert all(one["regions"] == ["eu", "us"] for one in holders(desk))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--role", "admin", "--name", "x"), "admin"),
        (("--role", "writer", "--name", " "), "name"),
        (("--role", "writer", "--name", "a\nb"), "name"),
        (("--role", "writer", "--name", "x" * 129), "name"),
    ],
)
def test_what_nobody_can_be_is_refused(desk, options: tuple[str, ...], words: str) -> None:
    error = desk.error("vault", "keys", "add", *options, "--key", "new.key", exits=2)
    assert words in error["message"] and error["next"]
    assert not (desk.root / "new.key").exists()


def test_only_the_admin_adds_and_no_key_is_left_lying(desk, monkeypatch) -> None:
    KeyFile.load(desk.key).for_roles(Role.WRITER, Role.READER).save(desk.root / "two.key")
    use(desk, monkeypatch, "two.key")
    assert "admin" in desk.error(*ADD, "--role", "reader", exits=4)["message"]
    assert not (desk.root / "trainer.key").exists()
    KeyFile.load(desk.key).for_roles(Role.ADMIN).save(desk.root / "admin.key")
    use(desk, monkeypatch, "admin.key")
    assert "writer" in desk.error(*ADD, "--role", "reader", exits=4)["message"]
    assert not (desk.root / "trainer.key").exists()
    assert desk.ask(*ADD, "--role", "writer")["lagging"] == []


# ---------------------------------------------------------------------------------------------------- remove


def test_a_writer_that_was_removed_protects_no_more_and_its_points_stay(desk, monkeypatch) -> None:
    (given,) = desk.ask(*ADD, "--role", "writer")["given"]
    use(desk, monkeypatch, "trainer.key")
    desk.release(2)
    point = desk.ask("protect")["point"]
    use(desk, monkeypatch, "small.key")
    document = printed(desk, "vault", "keys", "remove", given["fingerprint"][:8])
    require_pinned("vault keys remove", "writer", document)
    assert document["fingerprint"] == given["fingerprint"] and document["name"] == "trainer"
    for secret in secrets_in(desk.key, desk.root / "trainer.key"):
        assert secret not in str(document) + desk.said
    again = desk.ask("vault", "keys", "remove", given["fingerprint"])
    assert again["removed_at"] == document["removed_at"]
    assert again["regions"] == {"eu": {"written": 0}, "us": {"written": 0}}
    assert desk.ask("recover", "--into", "brought")["point"] == point
    listed = printed(desk, "vault", "keys", "list")
    require_pinned("vault keys list", "removed", listed)
    assert [one["removed_at"] for one in listed["holders"] if one["name"]] == [document["removed_at"]]
    assert "removed" in desk.read("vault", "keys", "list")
    use(desk, monkeypatch, "trainer.key")
    assert "removed" in desk.error("protect", exits=4)["message"]


def test_a_reader_that_was_removed_is_told_of_what_it_still_opens(desk) -> None:
    (given,) = desk.ask(*ADD, "--role", "reader")["given"]
    assert "rotate" in desk.ask("vault", "keys", "remove", given["fingerprint"])["remark"]


def test_nobody_removes_the_key_in_use_or_one_that_is_not_there(desk) -> None:
    own = next(one["fingerprint"] for one in holders(desk) if one["role"] == "writer")
    for fingerprint, words in ((own, "you use"), ("0" * 32, "0 keys"), ("", "keys begin")):
        error = desk.error("vault", "keys", "remove", fingerprint, exits=2)
        assert words in error["message"] and error["next"]
    assert not any(one["removed_at"] for one in holders(desk))


# ---------------------------------------------------------------------------------------------------- rotate


def test_a_rotation_changes_the_content_key_and_says_that_it_protects_the_future_only(desk) -> None:
    before = KeyFile.load(desk.key)
    document = printed(desk, "vault", "keys", "rotate")
    require_pinned("vault keys rotate", "done", document)
    after = KeyFile.load(desk.key)
    assert before.writer is not None and after.writer is not None
    assert before.writer.signing == after.writer.signing and before.heads == after.heads
    assert before.writer.content != after.writer.content
    for secret in secrets_in(desk.key) | set(before.writer.content.values()):
        assert secret not in str(document) + desk.said
    assert "future only" in document["remark"]
    assert "future only" in desk.read("vault", "keys", "rotate")
    desk.release(2)
    assert desk.ask("protect")["grade"] == "exact"
    assert desk.ask("vault", "check", "--read-data")["ok"]
    assert len(desk.ask("vault", "keys", "list")["content_keys"]) == 3


def test_where_a_region_is_away_nothing_is_rotated(desk) -> None:
    before = desk.key.read_bytes()
    desk.vault("us").rename(desk.root / "gone")
    error = desk.error("vault", "keys", "rotate", exits=4)
    assert error["region"] == "us" and desk.key.read_bytes() == before


def test_a_key_file_that_cannot_be_replaced_keeps_the_old_key(desk, monkeypatch) -> None:
    def read_only(key_file: KeyFile, path: str) -> None:
        raise OSError(30, "Read-only file system")

    before = desk.key.read_bytes()
    monkeypatch.setattr(KeyFile, "put_back", read_only)
    assert "old content key" in desk.error("vault", "keys", "rotate", exits=2)["message"]
    monkeypatch.undo()
    assert desk.key.read_bytes() == before


def by_private_key(desk, monkeypatch) -> dict[str, Any]:
    """Keep the key in the vault for a new recipient, whose private key is then the only one that is given."""
    document = desk.ask("vault", "keys", "recipient", "--key", "own.private")
    desk.ask("vault", "keys", "add", "--name", "safe", "--recipient", document["recipient"])
    use(desk, monkeypatch, "own.private")
    return document


def by_passphrase(desk, monkeypatch, words: str, name: str) -> None:
    monkeypatch.setenv("REFLOAT_NEW_PASSPHRASE", words)
    desk.ask("vault", "keys", "add", "--name", name, "--passphrase")
    monkeypatch.delenv("REFLOAT_NEW_PASSPHRASE")


def open_with(monkeypatch, words: str) -> None:
    monkeypatch.delenv("REFLOAT_KEY_FILE", raising=False)
    monkeypatch.setenv("REFLOAT_PASSPHRASE", words)


def test_a_private_key_alone_opens_recovers_and_rotates(desk, monkeypatch) -> None:  # fault 58
    made = printed(desk, "vault", "keys", "recipient", "--key", "x.private")
    require_pinned("vault keys recipient", "made", made)
    assert (desk.root / "x.private").stat().st_mode & 0o077 == 0
    by_private_key(desk, monkeypatch)
    desk.key.unlink()
    assert desk.ask("recover", "--into", "brought")["point"]
    document = printed(desk, "vault", "keys", "rotate")
    require_pinned("vault keys rotate", "kept", document)
    assert document["key"] is None
    desk.release(2)
    assert desk.ask("protect")["grade"] == "exact"
    assert desk.ask("vault", "check", "--read-data")["ok"]
    (current,) = [one for one in desk.ask("vault", "keys", "list")["content_keys"] if one["current"]]
    assert current["id"] == document["after"]


def test_a_passphrase_is_changed_and_the_old_one_opens_nothing(desk, monkeypatch) -> None:  # fault 58
    by_passphrase(desk, monkeypatch, "old words", "old")
    by_passphrase(desk, monkeypatch, "new words", "new")
    listed = printed(desk, "vault", "keys", "list")
    require_pinned("vault keys list", "kept", listed)
    (old,) = [one["fingerprint"] for one in listed["kept"] if one["name"] == "old"]
    open_with(monkeypatch, "old words")
    assert "opened" in desk.error("vault", "keys", "remove", old, exits=2)["message"]
    open_with(monkeypatch, "new words")
    document = printed(desk, "vault", "keys", "remove", old)
    require_pinned("vault keys remove", "passphrase", document)
    assert document["regions"] == {region: {"written": 1, "deleted": 1} for region in ("eu", "us")}
    assert "copy" in document["remark"]
    listed = printed(desk, "vault", "keys", "list")
    require_pinned("vault keys list", "let go", listed)
    (gone,) = [one for one in listed["kept"] if one["removed_at"]]
    assert (gone["fingerprint"], gone["regions"]) == (old, [])
    open_with(monkeypatch, "old words")
    assert desk.error("vault", "keys", "list", exits=4)["code"] == "vault_wrong_key"


def test_a_passphrase_alone_rotates(desk, monkeypatch) -> None:
    by_passphrase(desk, monkeypatch, "words", "safe")
    open_with(monkeypatch, "words")
    after = desk.ask("vault", "keys", "rotate")["after"]
    (current,) = [one for one in desk.ask("vault", "keys", "list")["content_keys"] if one["current"]]
    assert current["id"] == after
    assert len(desk.ask("vault", "keys", "list")["kept"]) == 1


def test_a_reader_is_added_for_a_recipient_without_a_key_file(desk, monkeypatch) -> None:
    public = desk.ask("vault", "keys", "recipient", "--key", "auditor.private")["recipient"]
    add = ("vault", "keys", "add", "--role", "reader", "--name", "auditor", "--recipient")
    document = printed(desk, *add, public)
    require_pinned("vault keys add", "recipient", document)
    assert document["key"] is None and document["kept_for"] == ["recipient"]
    assert "another key file" in desk.error(*add, public, exits=2)["message"]
    mistyped = public[:-1] + ("q" if public[-1] != "q" else "p")
    assert "mistyped" in desk.error(*add, mistyped, exits=2)["message"]
    listed = printed(desk, "vault", "keys", "list")
    require_pinned("vault keys list", "recipient", listed)
    assert [one["recipient"] for one in listed["kept"]] == [public]
    use(desk, monkeypatch, "auditor.private")
    assert desk.ask("recover", "--into", "brought")["point"]
    assert "writer" in desk.error("protect", exits=4)["message"]


def test_a_key_pair_that_is_there_is_said_again_and_never_another(desk) -> None:
    again = ("vault", "keys", "recipient", "--key", "own.private")
    told, before = desk.ask(*again), (desk.root / "own.private").read_bytes()
    assert desk.ask(*again) == told and (desk.root / "own.private").read_bytes() == before
    assert desk.error(*again[:-1], "small.key", exits=3)["rule"] == "key_exists"


def test_a_stranger_s_private_key_opens_nothing(desk, monkeypatch) -> None:
    desk.ask("vault", "keys", "recipient", "--key", "stranger.private")
    use(desk, monkeypatch, "stranger.private")
    error = desk.error("vault", "keys", "list", exits=4)
    assert error["code"] == "vault_wrong_key" and "--recipient" in error["next"]


def test_an_operator_is_removed(desk) -> None:
    (given,) = desk.ask(*ADD, "--role", "operator")["given"]
    document = desk.ask("vault", "keys", "remove", given["fingerprint"])
    assert "journals" in document["remark"]
    (gone,) = [one for one in holders(desk) if one["removed_at"]]
    assert gone["fingerprint"] == given["fingerprint"]
