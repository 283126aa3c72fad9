"""``refloat vault replicate`` and ``repair``: a region gets what it lacks, without a key."""

from __future__ import annotations

import shutil

import pytest

from contract_pins import printed, require_pinned


def objects(desk, region: str) -> set[str]:
    root = desk.vault(region)
    found = (str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    return {name for name in found if not name.startswith(("log/", "vault.json"))}


def behind(desk) -> list[str]:
    """The second region missed a point; the names of both points."""
    first = desk.ask("points", "list")["points"][0]["point"]
    shutil.move(desk.vault("us"), desk.root / "away")
    desk.release(2)
    second = desk.ask("protect", exits=1)["point"]
    shutil.move(desk.root / "away", desk.vault("us"))
    return [first, second]


def names(desk, region: str) -> list[str]:
    return [p["point"] for p in desk.ask("points", "list", "--vault", str(desk.vault(region)))["points"]]


def test_a_region_that_lags_gets_what_it_lacks_and_the_second_time_nothing(desk) -> None:
    points = behind(desk)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("REFLOAT_KEY_FILE")
        done = printed(desk, "vault", "replicate")
        require_pinned("vault replicate", "without a key", done)
        assert objects(desk, "eu") == objects(desk, "us")
        again = desk.ask("vault", "replicate")
    assert {pair["objects"] for pair in again["copied"]} == {0}
    assert names(desk, "us") == points[:1]
    third = desk.ask("protect")["point"]
    assert sorted(names(desk, "us")) == sorted([*points, third])


def test_with_a_key_the_points_count_at_once(desk) -> None:
    points = behind(desk)
    done = printed(desk, "vault", "replicate", "--from", "eu", "--to", "us", "--limit", "64MiB")
    require_pinned("vault replicate", "with a key", done)
    assert done["points"]["us"]["committed"] == points[1:]
    assert sorted(names(desk, "us")) == sorted(points)
    assert desk.ask("vault", "check", "--read-data")["ok"]


def test_damage_is_left_behind_and_exits_4(desk) -> None:  # fault 2
    behind(desk)
    lacking = sorted(objects(desk, "eu") - objects(desk, "us"))
    pack = next(name for name in lacking if name.startswith("packs/"))
    path = desk.vault("eu") / pack
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("REFLOAT_KEY_FILE")
        done = printed(desk, "vault", "replicate", "--to", "us", exits=4)
    require_pinned("vault replicate", "damaged", done)
    assert done["copied"][0]["damaged"] == [pack] and done["copied"][0]["waiting"]
    assert pack not in objects(desk, "us")


def test_what_is_asked_wrongly_is_said(desk) -> None:
    assert "regions" in desk.error("vault", "replicate", "--to", "asia", exits=2)["next"]
    assert "--limit" in desk.error("vault", "replicate", "--limit", "20", exits=2)["message"]
    assert desk.error("vault", "replicate", "--from", "eu", "--to", "eu", exits=2)["next"]
    shutil.rmtree(desk.vault("us"))
    assert desk.error("vault", "replicate", "--to", "us", exits=2)["next"] == desk.pasted(
        "vault add-region us"
    )


@pytest.mark.parametrize("kind", ["packs/*/*", "index/*", "points/*", "keys/*"])
def test_repair_without_a_key_mends_what_its_name_shows(desk, kind: str, monkeypatch) -> None:  # fault 2
    monkeypatch.delenv("REFLOAT_KEY_FILE")
    path = sorted(desk.vault("us").glob(kind))[0]
    good = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    done = printed(desk, "vault", "repair", "--read-data")
    require_pinned("vault repair", "without a key", done)
    assert list(done["regions"]["us"]["mended"].values()) == ["eu"]
    assert path.read_bytes() == good


def test_repair_without_a_key_fetches_what_is_lost_and_leaves_what_is_bad_everywhere(
    desk, monkeypatch
) -> None:  # fault 3
    monkeypatch.delenv("REFLOAT_KEY_FILE")
    lost, bad = sorted(desk.vault("us").glob("packs/*/*"))[:2]
    good = lost.read_bytes()
    lost.unlink()
    for region in ("eu", "us"):
        path = desk.vault(region) / bad.relative_to(desk.vault("us"))
        path.chmod(0o600)
        path.write_bytes(b"short")
    assert desk.ask("vault", "repair")["regions"]["us"]["left"] == {}, "sizes alone do not tell"
    assert lost.read_bytes() == good
    done = desk.ask("vault", "repair", "--read-data", exits=4)
    assert list(done["regions"]["us"]["left"]) == [str(bad.relative_to(desk.vault("us")))]
    assert bad.read_bytes() == b"short"


# ------------------------------------------------------------------------------- ways to open that were let go


def sealed(desk, region: str) -> set[str]:
    """The key objects of a region in which a key file is sealed, whole or not."""
    keys = (desk.vault(region) / "keys").iterdir()
    return {path.name for path in keys if b'key_file"' in path.read_bytes()}


def let_go(desk, monkeypatch, damaged: str | None = None) -> set[str]:
    """Ways to open the vault are let go, and ``us`` is put back to before; the objects that it still has.

    In the ``damaged`` region they were so before, and by that no way that could be told.
    """
    before = sealed(desk, "us")
    monkeypatch.setenv("REFLOAT_NEW_PASSPHRASE", "old words")
    recipient = desk.ask("vault", "keys", "recipient", "--key", "old.private")["recipient"]
    desk.ask("vault", "keys", "add", "--name", "old", "--passphrase", "--recipient", recipient)
    monkeypatch.delenv("REFLOAT_NEW_PASSPHRASE")
    there = sealed(desk, "us")
    shutil.copytree(desk.vault("us"), desk.root / "before")
    for name in there if damaged else ():
        path = desk.vault(damaged) / "keys" / name
        path.chmod(0o600)
        path.write_bytes(path.read_bytes().replace(b'"sealed":"', b'"sealed":"0'))
    for way in desk.ask("vault", "keys", "list")["kept"]:
        desk.ask("vault", "keys", "remove", way["fingerprint"])
    shutil.rmtree(desk.vault("us"))
    shutil.move(desk.root / "before", desk.vault("us"))
    assert not before and len(there) == 2 and sealed(desk, "eu") == (there if damaged else before)
    return there


@pytest.mark.parametrize("verb", ["replicate", "repair"])
def test_without_a_key_a_region_of_before_brings_no_way_back_that_was_let_go(desk, verb, monkeypatch) -> None:
    # fault 58
    old = let_go(desk, monkeypatch)
    monkeypatch.delenv("REFLOAT_KEY_FILE")
    for _ in range(2):
        desk.ask("vault", verb)
        assert sealed(desk, "eu") == set() and sealed(desk, "us") == old
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(desk.root / "old.private"))
    assert "let this recipient go" in desk.error("vault", "keys", "list", exits=4)["message"]


def test_a_new_replica_is_given_no_way_that_any_region_knows_to_be_let_go(desk, monkeypatch) -> None:
    # fault 58
    let_go(desk, monkeypatch)
    asia = 'regions:\n  us: {{vault: "us/vault"}}\n  eu: {{vault: "eu/vault"}}\n  asia: {{vault: "asia/vault"}}\n'
    desk.write_manifest(regions=asia)
    monkeypatch.delenv("REFLOAT_KEY_FILE")
    copied = desk.ask("vault", "add-region", "asia")["copied"]
    assert copied[0]["from"] == "us", "from the one that does not know first"
    assert sealed(desk, "asia") == set()
    assert desk.ask("vault", "repair")["regions"]["asia"]["left"] == {}
    assert sealed(desk, "asia") == sealed(desk, "eu") == set()


@pytest.mark.parametrize("keyed", [False, True])
def test_a_repair_mends_no_key_whose_way_was_let_go(desk, keyed: bool, monkeypatch) -> None:
    # fault 58
    old = let_go(desk, monkeypatch, damaged="eu")
    if not keyed:
        monkeypatch.delenv("REFLOAT_KEY_FILE")
    done = desk.ask("vault", "repair")["regions"]["eu"]
    assert done["left"] == {} and {f"keys/{name}" for name in old} <= done["mended"].keys()
    assert sealed(desk, "eu") == set()
    assert desk.ask("vault", "repair")["regions"]["eu"]["mended"] == {}


def test_a_repair_that_fetches_keys_leaves_those_that_were_let_go(desk, monkeypatch) -> None:
    # fault 58
    let_go(desk, monkeypatch)
    lost = [path for path in (desk.vault("eu") / "keys").iterdir() if b'"certificate"' in path.read_bytes()]
    for path in lost[1:]:
        path.unlink()
    assert desk.answer("vault", "repair")[0] in (0, 1), "1 where the rest is to be looked at again"
    assert all(path.exists() for path in lost) and sealed(desk, "eu") == set()
