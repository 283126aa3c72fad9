"""The recovery kit: what is typed from the page is the key, or the line that is wrong is named."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from refloat.errors import Damaged, UsageError, VaultError, WrongKey
from refloat.vault import kit
from refloat.vault.keyfile import KeyFile, Role
from refloat.vault.kit import Site, key_lines, read_pages

KEY = KeyFile.create("vault-1", "support").with_heads({"eu": (3, "a" * 64), "us": (5, "b" * 64)})
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
SITES = [Site("eu", "s3://eu/support", (3, "a" * 64)), Site("us", "file:///u s/vault", answers=False)]


def nobody() -> str:
    raise AssertionError("no passphrase is needed")


def read_key_lines(text: str, passphrase: Callable[[], str]) -> KeyFile:
    return read_pages({"page.txt": text}, passphrase).key_file


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return key_lines(KEY)


def test_the_key_comes_back_from_its_lines_with_the_heads_that_it_has_seen(lines: list[str]) -> None:
    assert read_key_lines("\n".join(lines), nobody) == KEY
    assert len(lines) < 40, "it is to be typed"


def test_what_a_person_types_otherwise_is_the_same(lines: list[str]) -> None:
    typed = "\n".join(reversed(lines)).lower().replace("0", "o").replace("1", "l")
    renumbered = re.sub(
        r"key (\S+)", lambda found: "key " + found[1].replace("o", "0").replace("l", "1"), typed
    )
    assert read_key_lines(renumbered.replace(" =", "="), nobody) == KEY
    assert read_key_lines("> " + "\n> ".join(lines + lines) + "\nand a remark", nobody) == KEY


def test_every_character_that_is_mistyped_is_found_and_its_line_named() -> None:  # fault 58
    text = key_lines(KEY)
    for at in range(len("key 07 "), len(text[6])):
        before = text[6][at]
        if before in " =":
            continue
        wrong = text[6][:at] + ("Z" if before != "Z" else "7") + text[6][at + 1 :]
        with pytest.raises(Damaged, match="key line 7 is not"):
            read_key_lines("\n".join([*text[:6], wrong, *text[7:]]), nobody)


def test_two_characters_that_were_exchanged_are_found(lines: list[str]) -> None:
    line = lines[2]
    at = next(
        n
        for n in range(7, len(line) - 8)
        if line[n].isalnum() and line[n + 1].isalnum() and line[n] != line[n + 1]
    )
    lines = [*lines[:2], line[:at] + line[at + 1] + line[at] + line[at + 2 :], *lines[3:]]
    with pytest.raises(Damaged, match="key line 3 "):
        read_key_lines("\n".join(lines), nobody)


def test_a_line_that_is_missing_is_named(lines: list[str]) -> None:
    with pytest.raises(Damaged, match="key line 4 is missing"):
        read_key_lines("\n".join([*lines[:3], *lines[4:]]), nobody)
    with pytest.raises(Damaged, match="the last ones are missing"):
        read_key_lines("\n".join(lines[:-1]), nobody)


def test_lines_that_changed_places_or_came_from_another_page_are_found(lines: list[str]) -> None:
    moved = lines[1].replace("key 02", "key 03"), lines[2].replace("key 03", "key 02")
    with pytest.raises(Damaged, match="key line 3 is not"):
        read_key_lines("\n".join([lines[0], *moved, *lines[3:]]), nobody)
    other = key_lines(KeyFile.create("vault-1", "support"))
    with pytest.raises(Damaged, match="of two pages"):
        read_key_lines("\n".join([*lines[:4], other[4], *lines[5:]]), nobody)


def test_a_text_without_a_key_says_so() -> None:
    with pytest.raises(UsageError, match="no key line"):
        read_key_lines("dear operator,\nthe key is in the safe", nobody)


def test_a_key_of_a_passphrase_needs_it() -> None:
    text = "\n".join(key_lines(KEY, "correct horse"))
    assert read_key_lines(text, lambda: "correct horse") == KEY
    with pytest.raises(WrongKey, match="passphrase"):
        read_key_lines(text, lambda: "wrong horse")


def test_a_page_of_a_newer_refloat_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit, "_PLAIN", b"\x09")
    text = "\n".join(key_lines(KEY))
    monkeypatch.undo()
    with pytest.raises(VaultError, match="newer refloat"):
        read_key_lines(text, nobody)


def test_what_unpacks_to_more_than_any_key_is_none(monkeypatch: pytest.MonkeyPatch) -> None:  # fault 61
    monkeypatch.setattr(kit, "canonical_json", lambda document: bytes(4 * 1024 * 1024))
    text = "\n".join(key_lines(KEY))
    with pytest.raises(VaultError):
        read_key_lines(text, nobody)


# ------------------------------------------------------------------------------------------------- the page


def test_the_page_says_what_it_is_where_the_vault_is_and_what_to_type() -> None:
    page = kit.page(KEY, SITES, NOW)
    assert "THIS PAGE IS A SECRET" in page
    for told in ("vault-1", "support", "s3://eu/support", "slot 3, hash " + "a" * 64, "did not answer"):
        assert told in page
    assert "refloat recover --vault 'file:///u s/vault' --to us" in page
    assert read_key_lines(page, nobody) == KEY
    assert max(map(len, page.splitlines())) <= 100, "it is to be printed"


def test_the_page_of_a_passphrase_says_that_it_needs_it_and_does_not_hold_it() -> None:
    page = kit.page(KEY, SITES, NOW, "correct horse")
    assert "It needs the passphrase" in page and "correct horse" not in page
    assert read_key_lines(page, lambda: "correct horse") == KEY


def test_the_page_of_a_reader_promises_no_more_than_a_reader_can() -> None:
    page = kit.page(KEY.for_roles(Role.READER), SITES, NOW)
    assert "--to" not in page.replace("--to us", "") and "--into" in page
    assert "remove from it" not in page


def test_no_secret_stands_in_the_page_but_in_its_key_lines() -> None:
    page = kit.page(KEY, SITES, NOW)
    plain = "\n".join(line for line in page.splitlines() if not line.startswith("key "))
    secrets = re.findall(r'"([0-9a-f]{64})"', KEY.to_bytes().decode())
    public = {KEY.admin_public, *(head.hash for head in KEY.heads.values())}
    assert len(secrets) > 6
    assert [secret for secret in secrets if secret in plain and secret not in public] == []
