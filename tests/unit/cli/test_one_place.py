"""Two regions in one place are one copy, however it is spelled; and the key of what was begun and is left stays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from refloat.cli.system import SystemClock
from refloat.contracts import Store
from refloat.digest import canonical_json
from refloat.errors import StoreError
from refloat.vault import layout
from refloat.vault import stores as stores_room
from refloat.vault.keyfile import KeyFile
from refloat.vault.replica import Replica
from refloat.vault.stores.faulty import FaultyStore, Operation

SPELLINGS: dict[str, Callable[[Path], str]] = {
    "the same": lambda root: "eu/vault",
    "absolute": lambda root: str(root / "eu" / "vault"),
    "through another folder": lambda root: "us/../eu/vault",
    "with a slash": lambda root: "eu/vault/",
    "a URL": lambda root: (root / "eu" / "vault").as_uri(),
    "a link": lambda root: "us/link",
}


def share(desk, spelling: str) -> None:
    """Let the manifest's second region have the place of the first."""
    (desk.root / "us").mkdir(exist_ok=True)
    (desk.root / "us" / "link").symlink_to(desk.vault("eu"))
    address = SPELLINGS[spelling](desk.root)
    desk.manifest.write_text(desk.manifest.read_text().replace('"us/vault"', f'"{address}"'))


@pytest.mark.parametrize("named", [True, False], ids=["made for a region", "made for none"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_two_regions_in_one_place_are_one_copy_and_said_to_be(desk, spelling: str, named: bool) -> None:
    share(desk, spelling)
    if not named:
        place = desk.vault("eu") / layout.VAULT
        document = json.loads(place.read_bytes()) | {"region": ""}
        place.chmod(0o600)
        for key in (desk.vault("eu") / "keys").iterdir():  # as in a vault of before, that nobody has signed
            if b'"type":"descriptor"' in key.read_bytes():
                key.unlink()
        made_for_none = layout.Descriptor.model_validate(document).summed()
        place.write_bytes(canonical_json(made_for_none.model_dump(mode="json")))
    error = desk.error("protect", exits=2)
    assert "the regions eu and us have one place" in error["message"]
    assert error["file"] == f"{desk.manifest}:17:15"
    problems = desk.ask("check", exits=1)["problems"]
    said = [p["message"] for p in problems if p["level"] == "error" and p["where"].startswith("regions.us")]
    assert any("the regions eu and us have one place" in message for message in said)
    assert desk.ask("vault", "check", exits=1)["unreachable"] == ["us"]
    assert desk.ask("status", exits=1)["regions"]["us"]["error"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_vault_is_made_where_two_regions_have_one_place(unprotected, spelling: str) -> None:
    desk = unprotected
    share(desk, spelling)
    shutil.rmtree(desk.vault("eu"))
    desk.vault("eu").mkdir()
    error = desk.error("vault", "init", "--key", "new.key", exits=2)
    assert "the regions eu and us have one place" in error["message"]
    assert not (desk.root / "new.key").exists()
    assert [path for path in desk.vault("eu").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("what", "line"),
    [("the vault of us", "17:15"), ("pages in eu", "8:11"), ("what this machine keeps", "16:15")],
)
def test_what_lies_in_a_vault_or_has_one_in_it_is_refused_with_its_line_and_both_places(
    desk, monkeypatch: pytest.MonkeyPatch, what: str, line: str
) -> None:
    inner = desk.vault("eu") / "x"
    was = {"the vault of us": '"us/vault"', "pages in eu": '"${region}/pages"'}.get(what, "")
    desk.manifest.write_text(
        desk.manifest.read_text().replace(was, f'"{inner}"') if was else desk.manifest.read_text()
    )
    if not was:
        monkeypatch.setenv("XDG_STATE_HOME", str(inner))
        inner /= "refloat"
    problems = desk.ask("check", exits=1)["problems"]
    said = f"{what} ({inner}) lies in the vault of eu ({desk.vault('eu')})"
    at = [f"{problem['line']}:{problem['column']}" for problem in problems if problem["message"] == said]
    assert at == [line]
    for verb in (("protect",), ("vault", "init", "--key", "new.key")):
        error = desk.error(*verb, exits=2)
        assert said in error["message"] and f"{desk.manifest}:{line}" == error["file"], verb
    assert not (desk.root / "new.key").exists() and not inner.exists()


def test_a_region_whose_replica_was_made_for_another_gives_way_to_that_one(desk) -> None:
    desk.manifest.write_text(desk.manifest.read_text().replace('"eu/vault"', '"us/vault"'))
    assert desk.ask("recover", "--to", "us")["state"] == "done"
    assert "holds the replica of region 'us'" in desk.said


# --------------------------------------------------------------------------------------- what was begun and is left


def refuse_descriptors(operation: Operation) -> None:
    if operation.op == "create" and operation.name == layout.VAULT:
        raise StoreError("the disk is full", next="make room")


def refuse_deletes(operation: Operation) -> None:
    if operation.op == "delete":
        raise StoreError("nobody may delete here", next="ask somebody who may")


@pytest.mark.parametrize("left", [False, True])
def test_a_key_goes_with_what_it_opens_and_not_before(
    unprotected, monkeypatch: pytest.MonkeyPatch, left: bool
) -> None:
    desk = unprotected
    for region in ("eu", "us"):
        shutil.rmtree(desk.vault(region))
    real = stores_room.open_store

    def opened(url: str) -> Store:
        store = real(url)
        if "us" in url:
            return FaultyStore(store, at_each=refuse_descriptors)
        return FaultyStore(store, at_each=refuse_deletes) if left else store

    with monkeypatch.context() as patch:
        patch.setattr(stores_room, "open_store", opened)
        error = desk.error("vault", "init", "--key", "new.key", exits=1)
    assert "the disk is full" in error["message"]
    key = desk.root / "new.key"
    assert key.exists() is left
    if left:
        assert "the same again goes on" in error["next"] and "new.key stays" in desk.said
        eu = real(str(desk.vault("eu")))
        assert Replica.open("eu", eu, KeyFile.load(key), SystemClock()).points() == []
        assert desk.ask("vault", "init", "--key", "new.key")["regions"].keys() == {"eu", "us"}
    else:
        assert [path for path in desk.vault("eu").rglob("*") if path.is_file()] == []
