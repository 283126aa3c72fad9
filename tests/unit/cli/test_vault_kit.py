"""``refloat vault kit``: from the printed page alone everything comes back on a bare machine."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from contract_pins import printed, require_pinned
from refloat.cli.main import run
from refloat.digest import object_name
from refloat.vault.keyfile import KeyFile
from refloat.vault.layout import key_name


def typed(page: str, region: str) -> list[list[str]]:
    """What the page says to type, as far as it speaks of the key or of a region."""
    sections = page.split("\nWhere ")
    told = [sections[0], next(part for part in sections[1:] if part.startswith(f"{region} is left"))]
    lines = [line.strip() for part in told for line in part.splitlines()]
    return [shlex.split(line[2:]) for line in lines if line.startswith("$ ")]


def bare(desk, tmp_path_factory, monkeypatch) -> Path:
    """A machine that has nothing: another home, another folder, no key."""
    home: Path = tmp_path_factory.mktemp("bare")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("REFLOAT_KEY_FILE", raising=False)
    monkeypatch.chdir(home)
    return home


def follow(page: str, region: str, home: Path, monkeypatch, but: str = "nothing") -> list[list[str]]:
    """Type it all, but what has this word; what is to be typed after the installation."""
    (home / "page.txt").write_text(page)
    install, *commands = typed(page, region)
    assert install == ["pip", "install", "refloat"]
    for command in commands:
        if command[0] == "export":
            name, _, value = command[1].partition("=")
            monkeypatch.setenv(name, value.replace("$PWD", str(home)))
        elif command[0] == "unset":
            monkeypatch.delenv(command[1])
        else:
            assert command[0] == "refloat"
            assert but in command or run(["-q", *command[1:]]) == 0, command
    return commands


def test_everything_comes_back_from_the_printed_page_alone(
    desk, tmp_path_factory, monkeypatch
) -> None:  # fault 58
    live, page = desk.pages("eu"), desk.read("vault", "kit")
    desk.lose("eu")
    desk.key.unlink()
    home = bare(desk, tmp_path_factory, monkeypatch)
    commands = follow(page, "us", home, monkeypatch)
    assert [word for words in commands for word in words if word.startswith("--")] == [
        *("--key", "--vault", "--vault", "--to", "--vault", "--into")
    ]
    brought = home / "only-the-files-us" / "pages" / "content"
    assert {path.name: path.read_text() for path in brought.iterdir()} == live
    assert {path.name: path.read_text() for path in (home / "us" / "pages").iterdir()} == live
    assert (home / "us" / "ledger.db").exists()
    assert (home / "small.key").stat().st_mode & 0o077 == 0


def test_where_a_passphrase_keeps_the_key_the_page_needs_it(desk, tmp_path_factory, monkeypatch) -> None:
    keep_for_passphrase(desk, monkeypatch)
    page = desk.read("vault", "kit")
    assert "needs the passphrase" in page and "correct horse" not in page
    live = desk.pages("eu")
    for path in [*desk.vault("us").glob("keys/*")]:
        if b'"type":"key_file"' in path.read_bytes():
            path.unlink()
    desk.lose("eu")
    home = bare(desk, tmp_path_factory, monkeypatch)
    follow(page, "us", home, monkeypatch, but="--to")
    brought = home / "only-the-files-us" / "pages" / "content"
    assert {path.name: path.read_text() for path in brought.iterdir()} == live


def keep_for_passphrase(desk, monkeypatch) -> None:
    """As ``vault init`` does where ``REFLOAT_PASSPHRASE`` is set; then the key file is gone."""
    wrapped = KeyFile.load(desk.key).wrapped("correct horse")
    for region in ("eu", "us"):
        (desk.vault(region) / key_name(object_name(wrapped))).write_bytes(wrapped)
    desk.key.unlink()
    monkeypatch.delenv("REFLOAT_KEY_FILE")
    monkeypatch.setenv("REFLOAT_PASSPHRASE", "correct horse")


def test_without_the_passphrase_nothing_is_made_of_its_page(desk, monkeypatch) -> None:
    keep_for_passphrase(desk, monkeypatch)
    (desk.root / "page.txt").write_text(desk.read("vault", "kit"))
    monkeypatch.setenv("REFLOAT_PASSPHRASE", "wrong horse")
    error = desk.error("vault", "keys", "restore", "page.txt", "--key", "again.key", exits=4)
    assert error["code"] == "vault_wrong_key"
    monkeypatch.delenv("REFLOAT_PASSPHRASE")
    error = desk.error("vault", "keys", "restore", "page.txt", "--key", "again.key", exits=2)
    assert "REFLOAT_PASSPHRASE" in error["next"]
    assert not (desk.root / "again.key").exists()


def test_a_page_for_a_passphrase_asked_for_again_stays_as_it_is_though_each_is_sealed_anew(
    desk, monkeypatch
) -> None:
    keep_for_passphrase(desk, monkeypatch)
    asked = ("vault", "kit", "--to", "page.txt")
    first = printed(desk, *asked)
    before = (desk.root / "page.txt").read_bytes()
    assert before != desk.read("vault", "kit").encode(), "another salt, another nonce"
    assert first["needs_passphrase"] is True and printed(desk, *asked) == first
    assert (desk.root / "page.txt").read_bytes() == before
    (desk.root / "page.txt").write_bytes(before.replace(b"slot 0", b"slot 1"))
    assert desk.error(*asked, exits=3)["rule"] == "key_exists"


def test_the_page_goes_to_a_private_file_and_the_document_holds_no_secret(desk) -> None:  # fault 66
    document = printed(desk, "vault", "kit", "--to", "page.txt")
    require_pinned("vault kit", "written", document)
    path = desk.root / "page.txt"
    assert document["page"] == str(path) and path.stat().st_mode & 0o077 == 0
    key = KeyFile.load(desk.key)
    assert document["regions"]["us"]["slot"] == 0 and document["needs_passphrase"] is False
    lines = [line for line in path.read_text().splitlines() if line.startswith("key ")]
    said = str(document) + desk.said
    assert key.catalogue_key not in said and not any(line[7:20] in said for line in lines)
    before = path.read_bytes()
    assert printed(desk, "vault", "kit", "--to", "page.txt") == document, "the same again goes on"
    assert path.read_bytes() == before and "was there already" in desk.read(
        "vault", "kit", "--to", "page.txt"
    )
    at = before.index(b"key 05 ") + 9
    mistyped = before[:at] + (b"Z" if before[at : at + 1] != b"Z" else b"Y") + before[at + 1 :]
    for other in (before + b"more\n", before.replace(b"slot 0", b"slot 1"), mistyped):
        path.write_bytes(other)
        assert desk.error("vault", "kit", "--to", "page.txt", exits=3)["rule"] == "key_exists"
        assert path.read_bytes() == other
    assert "key 01" not in desk.read("vault", "kit", "--to", "other.txt")


def test_a_document_alone_has_no_place_for_the_page(desk) -> None:
    assert "--to" in desk.error("vault", "kit", exits=2)["next"]


def test_where_nobody_reads_the_page_goes_nowhere_and_what_hides_elsewhere_is_shown(
    desk, monkeypatch
) -> None:
    manifest = desk.manifest.read_text()
    desk.manifest.write_text(manifest.replace('"us/vault"', '"${env:PLACE}/vault"'))
    monkeypatch.setenv("PLACE", str(desk.root / "us"))
    assert f"--vault file://{desk.root}/us/vault --to us" in desk.read("vault", "kit")
    monkeypatch.setattr("sys.stdout", None)
    assert run(["-f", str(desk.manifest), "vault", "kit"]) == 2


def test_the_page_names_a_region_that_does_not_answer_by_what_was_seen_there_last(desk) -> None:
    desk.vault("eu").rename(desk.root / "gone")
    page = desk.read("vault", "kit")
    seen = KeyFile.load(desk.key).heads["eu"]
    assert "(did not answer)" in page and f"slot {seen.slot}, hash {seen.hash}" in page


def test_a_key_that_reads_nothing_makes_no_kit(desk) -> None:
    from refloat.vault.keyfile import Role

    KeyFile.load(desk.key).for_roles(Role.WRITER).save(desk.root / "writer.key")
    desk.key.unlink()
    (desk.root / "writer.key").rename(desk.key)
    assert "reader" in desk.error("vault", "kit", "--to", "page.txt", exits=4)["message"]


def test_where_a_key_went_is_said_so_that_a_shell_takes_it(desk) -> None:
    (desk.root / "page.txt").write_text(desk.read("vault", "kit"))
    place = desk.root / "the key"
    assert f"export REFLOAT_KEY_FILE='{place}'" in desk.read(*RESTORE, "page.txt", "--key", str(place))


def test_the_key_file_is_made_anew_and_a_wrong_line_is_named(desk) -> None:
    page = desk.read("vault", "kit")
    (desk.root / "page.txt").write_text(page)
    made = printed(desk, "vault", "keys", "restore", "page.txt", "--key", "again.key")
    require_pinned("vault keys restore", "made", made)
    again, key = KeyFile.load(desk.root / "again.key"), KeyFile.load(desk.key)
    assert again == key and key.catalogue_key not in str(made) + desk.said
    older = again.model_copy(update={"heads": {"eu": again.heads["eu"]}})
    (desk.root / "again.key").write_bytes(older.to_bytes())
    assert printed(desk, "vault", "keys", "restore", "page.txt", "--key", "again.key") == made
    assert KeyFile.load(desk.root / "again.key") == key, "it took in the heads of the page"
    another = KeyFile.create(key.vault, key.pipeline).to_bytes()
    for there in (another, b"mine"):
        (desk.root / "again.key").write_bytes(there)
        error = desk.error("vault", "keys", "restore", "page.txt", "--key", "again.key", exits=3)
        assert error["rule"] == "key_exists" and (desk.root / "again.key").read_bytes() == there
    at = page.index("key 05 ") + 9
    (desk.root / "wrong.txt").write_text(page[:at] + ("Z" if page[at] != "Z" else "Y") + page[at + 1 :])
    error = desk.error("vault", "keys", "restore", "wrong.txt", "--key", "wrong.key", exits=4)
    assert "key line 5 " in error["message"] and not (desk.root / "wrong.key").exists()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"x" * 300_000, b"key 01 ABC = "])
def test_what_is_no_page_makes_no_key(desk, content: bytes) -> None:
    (desk.root / "page.txt").write_bytes(content)
    error = desk.answer("vault", "keys", "restore", "page.txt", "--key", "again.key")[1]["error"]
    assert error["next"] and not (desk.root / "again.key").exists()
    assert "page" in desk.error("vault", "keys", "restore", "nowhere.txt", "--key", "k", exits=2)["message"]


# ----------------------------------------------------------------------------------------- a page for each share

SHARES = ("vault", "kit", "--shares", "5", "--threshold", "3", "--to", "kit")
RESTORE = ("vault", "keys", "restore")


def share(desk, number: int) -> str:
    return str(desk.root / "kit" / f"share-{number}-of-5.txt")


def test_each_share_goes_to_a_private_file_and_the_document_holds_no_secret(desk) -> None:  # fault 66
    document = printed(desk, *SHARES)
    require_pinned("vault kit", "shares", document)
    assert document["shares"]["pages"] == [share(desk, number) for number in range(1, 6)]
    assert sorted(path.name for path in (desk.root / "kit").iterdir()) == [
        f"share-{number}-of-5.txt" for number in range(1, 6)
    ]
    pages = [Path(path).read_text() for path in document["shares"]["pages"]]
    assert all(f"kit        {document['shares']['kit']}" in page for page in pages)
    assert all(Path(path).stat().st_mode & 0o077 == 0 for path in document["shares"]["pages"])
    assert (desk.root / "kit").stat().st_mode & 0o077 == 0
    told = str(document) + desk.said + desk.read(*SHARES[:-1], "other")
    assert "any 3 of these 5" in told
    secrets = [line[7:25] for line in pages[0].splitlines() if re.match(r"(key|share \d) \d\d ", line)]
    assert len(secrets) > 30 and not any(secret in told for secret in secrets)


def test_the_same_shares_asked_for_again_stay_as_they_are_and_no_others_go_there(desk) -> None:
    document = printed(desk, *SHARES)
    before = {path.name: path.read_bytes() for path in (desk.root / "kit").iterdir()}
    assert printed(desk, *SHARES) == document
    fewer = [*SHARES[:5], "2", *SHARES[6:]]
    assert desk.error(*fewer, exits=3)["rule"] == "key_exists"
    assert {path.name: path.read_bytes() for path in (desk.root / "kit").iterdir()} == before
    desk.ask(*SHARES[:-1], "other")
    Path(share(desk, 2)).write_bytes((desk.root / "other" / "share-2-of-5.txt").read_bytes())
    assert desk.error(*SHARES, exits=3)["rule"] == "key_exists", "pages of two kits give no key"


def test_no_page_goes_over_another_and_where_one_cannot_be_written_none_is_left(desk) -> None:
    (desk.root / "kit").mkdir()
    Path(share(desk, 4)).write_text("mine")
    assert desk.error(*SHARES, exits=3)["rule"] == "key_exists"
    assert [path.name for path in (desk.root / "kit").iterdir()] == ["share-4-of-5.txt"]
    assert Path(share(desk, 4)).read_text() == "mine"
    (desk.root / "file").write_text("no folder")
    assert "folder" in desk.error(*SHARES[:-1], "file", exits=2)["message"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("--shares", "5", "--threshold", "3"), "the key itself"),
        (("--shares", "5", "--to", "kit"), "go together"),
        (("--threshold", "3", "--to", "kit"), "go together"),
        (("--shares", "1", "--threshold", "1", "--to", "kit"), "cannot be made"),
        (("--shares", "5", "--threshold", "1", "--to", "kit"), "cannot be made"),
        (("--shares", "17", "--threshold", "3", "--to", "kit"), "cannot be made"),
        (("--shares", "3", "--threshold", "5", "--to", "kit"), "cannot be made"),
    ],
)
def test_shares_that_would_protect_nothing_are_not_made(
    desk, asked: tuple[str, ...], words: str
) -> None:  # fault 66
    error = desk.error("vault", "kit", *asked, exits=2)
    assert words in error["message"] and error["next"]
    assert not (desk.root / "kit").exists()


def test_three_of_five_pages_make_the_key_file_and_two_make_nothing(desk) -> None:  # fault 58
    desk.ask(*SHARES)
    error = desk.error(*RESTORE, share(desk, 2), share(desk, 5), "--key", "again.key", exits=2)
    assert "share 2" in error["message"] and "share 5" in error["message"] and "1, 3, 4" in error["next"]
    assert not (desk.root / "again.key").exists()
    made = printed(desk, *RESTORE, *(share(desk, number) for number in (5, 2, 3)), "--key", "again.key")
    require_pinned("vault keys restore", "shares", made)
    assert made["shares"] == [2, 3, 5]
    assert KeyFile.load(desk.root / "again.key") == KeyFile.load(desk.key)


def test_a_mistyped_share_is_named_with_its_page_and_not_repeated(desk) -> None:
    desk.ask(*SHARES)
    page = Path(share(desk, 2)).read_text()
    line = next(line for line in page.splitlines() if line.startswith("share 2 07 "))
    Path(share(desk, 2)).write_text(page.replace(line, line.replace(line.split()[3], "florian")))
    error = desk.error(*RESTORE, *(share(desk, n) for n in (1, 2, 3)), "--key", "again.key", exits=4)
    assert error["file"] == share(desk, 2) and "share 2, line 7" in error["message"]
    assert "florian" not in str(error) + desk.said and not (desk.root / "again.key").exists()


def test_shares_are_in_the_place_of_the_passphrase(desk, monkeypatch) -> None:
    keep_for_passphrase(desk, monkeypatch)
    document = desk.ask(*SHARES)
    assert document["needs_passphrase"] is False
    monkeypatch.delenv("REFLOAT_PASSPHRASE")
    desk.ask(*RESTORE, *(share(desk, n) for n in (1, 2, 3)), "--key", "again.key")
    assert "correct horse" not in "".join(Path(page).read_text() for page in document["shares"]["pages"])
