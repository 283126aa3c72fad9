"""``refloat vault``: making the replicas and checking them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from refloat.vault import witness
from refloat.vault.keyfile import KeyFile
from refloat.vault.keys import Role

KEYS = {"ok", "packs", "chunks", "bytes_read", "damaged", "covered", "unreachable", "read", "locks"}


def spoil(path: Path) -> None:
    """Flip one bit in the middle of a stored object."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


# ---------------------------------------------------------------------------------------------------- init


def test_it_says_where_the_key_went_and_nobody_else_reads_it(unprotected) -> None:
    desk = unprotected
    for region in ("eu", "us"):
        shutil.rmtree(desk.vault(region))
    document = desk.ask("vault", "init", "--key", "new.key")
    assert document.keys() == {"vault", "key", "regions", "lock_s"}
    assert document["lock_s"] == 0
    assert document["key"] == str(desk.root / "new.key")
    assert (desk.root / "new.key").stat().st_mode & 0o077 == 0
    assert document["regions"].keys() == {"eu", "us"}
    assert KeyFile.load(desk.root / "new.key").vault == document["vault"]


def test_the_key_is_called_after_the_pipeline_unless_told(unprotected, monkeypatch) -> None:
    desk = unprotected
    for region in ("eu", "us"):
        shutil.rmtree(desk.vault(region))
    desk.key.unlink()
    monkeypatch.delenv("REFLOAT_KEY_FILE")
    assert desk.ask("vault", "init")["key"] == str(desk.root / "small.key")


def test_the_key_goes_where_it_will_be_looked_for(unprotected, monkeypatch) -> None:
    desk = unprotected
    for region in ("eu", "us"):
        shutil.rmtree(desk.vault(region))
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(desk.root / "there.key"))
    assert desk.ask("vault", "init")["key"] == str(desk.root / "there.key")
    assert desk.ask("protect")["grade"] == "exact"
    assert "both set" in both_set(desk, monkeypatch)["message"]


def both_set(desk, monkeypatch) -> dict[str, str]:
    monkeypatch.setenv("REFLOAT_PASSPHRASE", "one")
    return desk.error("vault", "init", exits=2)


def test_a_key_is_never_written_over_another(unprotected) -> None:
    desk = unprotected
    for region in ("eu", "us"):
        shutil.rmtree(desk.vault(region))
    before = desk.key.read_bytes()
    error = desk.error("vault", "init", "--key", str(desk.key), exits=2)
    assert "--key" in error["next"]
    assert desk.key.read_bytes() == before
    assert not desk.vault("eu").exists()


def test_a_vault_is_never_made_over_another_and_no_key_is_left_lying(desk) -> None:
    before = desk.ask("points", "list")
    error = desk.error("vault", "init", "--key", "second.key", exits=3)
    assert (error["code"], error["rule"]) == ("refused", "vault_exists")
    assert error["next"]
    assert not (desk.root / "second.key").exists()
    assert desk.ask("points", "list") == before


def test_with_a_passphrase_the_passphrase_alone_recovers(unprotected, monkeypatch) -> None:
    desk = unprotected
    for region in ("eu", "us"):
        shutil.rmtree(desk.vault(region))
    monkeypatch.delenv("REFLOAT_KEY_FILE")
    monkeypatch.setenv("REFLOAT_PASSPHRASE", "correct horse battery staple")
    desk.ask("vault", "init", "--key", "wrapped.key")
    desk.ask("protect")
    desk.lose("eu")
    (desk.root / "wrapped.key").unlink()
    done = desk.ask("recover", "--vault", str(desk.vault("us")), "--to", "us")
    assert done["state"] == "done"
    stored = b"".join(path.read_bytes() for path in desk.vault("us").rglob("*") if path.is_file())
    assert b"correct horse" not in stored
    monkeypatch.setenv("REFLOAT_PASSPHRASE", "wrong horse")
    error = desk.error("points", "list", "--vault", str(desk.vault("us")), exits=4)
    assert error["code"] == "vault_wrong_key"


# --------------------------------------------------------------------------------------------------- check


def test_the_document_has_exactly_these_keys(desk) -> None:
    looked, read = desk.ask("vault", "check"), desk.ask("vault", "check", "--read-data")
    for document in (looked, read):
        assert document.keys() == KEYS
        assert (document["ok"], document["damaged"], document["unreachable"]) == (True, [], [])
        assert document["packs"] >= 2 and document["chunks"] > 2
    assert 0 < looked["bytes_read"] < read["bytes_read"]


def test_an_empty_vault_is_sound(unprotected) -> None:
    assert unprotected.ask("vault", "check", "--read-data")["ok"] is True


def test_a_bit_that_rotted_is_found_by_reading_and_the_points_it_hits_are_named(desk) -> None:  # fault 2
    point = desk.ask("points", "list")["points"][0]["point"]
    pack = max(desk.vault("us").glob("packs/*/*"), key=lambda path: path.stat().st_size)
    spoil(pack)
    document = desk.ask("vault", "check", "--read-data", exits=4)
    assert document["ok"] is False
    assert all(
        found.keys() == {"object", "region", "affects", "reason", "next"} for found in document["damaged"]
    )
    assert {found["region"] for found in document["damaged"]} == {"us"}
    assert any(pack.name in found["object"] for found in document["damaged"])
    assert any(point in found["affects"] for found in document["damaged"])


def test_an_object_that_is_gone_is_found_without_reading(desk) -> None:  # fault 3
    pack = max(desk.vault("eu").glob("packs/*/*"), key=lambda path: path.stat().st_size)
    pack.unlink()
    document = desk.ask("vault", "check", exits=4)
    assert [found["region"] for found in document["damaged"]] == ["eu"] * len(document["damaged"])
    assert any(pack.name in found["object"] for found in document["damaged"])


@pytest.mark.parametrize("kind", ["packs/*/*", "index/*", "points/*", "log/points/*", "keys/*"])
def test_no_kind_of_object_can_be_spoiled_unnoticed(desk, kind: str) -> None:  # fault 2
    found = sorted(path for path in desk.vault("us").glob(kind) if path.is_file())
    assert found, f"the vault holds no {kind}"
    for path in found:
        before = path.read_bytes()
        spoil(path)
        code, document = desk.answer("vault", "check", "--read-data")
        assert code == 4, (path, document)
        path.write_bytes(before)


def test_a_region_that_does_not_answer_exits_1_and_is_named(desk) -> None:
    shutil.rmtree(desk.vault("us"))
    document = desk.ask("vault", "check", exits=1)
    assert (document["ok"], document["unreachable"], document["damaged"]) == (False, ["us"], [])


def test_one_address_can_be_checked_without_a_manifest(desk) -> None:
    desk.lose("eu")
    assert desk.ask("vault", "check", "--read-data", "--vault", str(desk.vault("us")))["ok"] is True


def test_the_wrong_key_exits_4(desk, monkeypatch) -> None:
    KeyFile.create("0" * 32, "small").save(desk.root / "other.key")
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(desk.root / "other.key"))
    assert desk.error("vault", "check", exits=4)["code"] == "vault_wrong_key"


def test_people_read_one_line_a_region(desk) -> None:
    out = desk.read("vault", "check")
    assert "region eu: sound" in out and "region us: sound" in out


def test_a_share_at_a_time_is_remembered_until_every_byte_was_read(desk) -> None:
    for _ in range(2):
        assert "--share" in desk.error("vault", "check", "--share", "1/2", exits=2)["message"]
    first = desk.ask("vault", "check", "--read-data", "--share", "1/9")["read"]
    assert all(far["unread_bytes"] > 0 for far in first.values())
    for _ in range(8):
        last = desk.ask("vault", "check", "--read-data", "--share", "1/9")
    assert all(far["unread_bytes"] == 0 and far["since"] for far in last["read"].values())
    assert "every byte was read since" in desk.read("vault", "check", "--read-data", "--share", "1/9")


def test_a_check_that_was_stopped_goes_on_and_says_so(desk) -> None:
    everything = desk.ask("vault", "check", "--read-data")
    (read, _) = sorted((desk.root / "home").glob("**/read/*"))
    lines = read.read_text().splitlines()
    began = lines[0].split()[0]
    for _ in range(2):
        read.write_text(f"{began} began\n{lines[0]}\n")  # as a check leaves it that is stopped then
        told = desk.read("vault", "check", "--read-data")
        assert f"were read since {began}, before it was stopped" in told
    read.write_text(f"{began} began\n{lines[0]}\n")
    document = desk.ask("vault", "check", "--read-data")
    (gone_on,) = [far for far in document["read"].values() if far["began_at"]]
    assert gone_on["began_at"] == began
    assert gone_on["before_bytes"] == everything["bytes_read"] - document["bytes_read"] > 0
    assert desk.ask("vault", "check", "--read-data")["bytes_read"] == everything["bytes_read"]


def test_a_check_with_a_writers_key_says_what_it_could_not_open(desk, monkeypatch) -> None:
    own = desk.root / "writer.key"
    KeyFile.load(desk.key).for_roles(Role.WRITER).save(own)
    desk.ask("vault", "check", "--read-data")
    assert "were only held against their names" not in desk.said
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(own))
    desk.ask("vault", "check", "--read-data")
    for region in ("eu", "us"):
        assert f"packs of {region} were only held against their names" in desk.said


def test_the_logs_are_held_against_each_other_once_a_command_and_not_once_a_region(desk, monkeypatch) -> None:
    rolled_back, asked = witness.rolled_back, []
    monkeypatch.setattr(
        witness, "rolled_back", lambda replicas: asked.append(len(replicas)) or rolled_back(replicas)
    )
    assert desk.ask("vault", "check")["ok"]
    assert asked == [2]
