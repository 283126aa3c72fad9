"""``refloat vault init`` that was killed at any change: the same command again makes the vault, with the same key."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from refloat.cli.main import run
from refloat.cli.system import SystemClock
from refloat.digest import object_name
from refloat.errors import UsageError
from refloat.testing.disk import HALF, Call, CutDisk, Do, changes, folder_in_memory, watched, writes
from refloat.vault.begun import Found, objects_of
from refloat.vault.keyfile import KeyFile, Role
from refloat.vault.layout import VAULT, key_name
from refloat.vault.replica import Replica
from refloat.vault.stores import open_store
from refloat.vault.stores.faulty import Crash
from small_desk import Desk, seated

REGIONS = ("eu", "us")
MARK = ".small.key.making"


@pytest.fixture
def bare(
    prepared: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    """A pipeline with a manifest and nothing else, where a sync costs nothing."""
    with folder_in_memory() as root:
        shutil.copytree(prepared / "unprotected", root, dirs_exist_ok=True)
        desk = seated(root, monkeypatch, capsys)
        clear(desk)
        yield desk


def clear(desk: Desk) -> None:
    for region in REGIONS:
        shutil.rmtree(desk.vault(region), ignore_errors=True)
    for path in (desk.key, desk.root / MARK):
        path.unlink(missing_ok=True)


def init_killed(desk: Desk, disk: CutDisk) -> None:
    try:
        with watched(desk.root, disk):
            run(["-f", str(desk.manifest), "-q", "vault", "init"])
    except Crash:
        assert disk.dead
    assert desk.capture is not None
    desk.capture.readouterr()


def edges(call: Call) -> bool:
    """The changes that another process sees: bytes of a file without a name count where they are cut amid."""
    return changes(call) and not writes(call)


def left(desk: Desk) -> frozenset[str]:
    """What lies there of key and vaults, by kind and how many: that is all that one kill differs from another in."""
    named = [path for path in (desk.key, desk.root / MARK) if path.exists()]
    vaults = [
        path.relative_to(desk.root) for r in REGIONS for path in desk.vault(r).rglob("*") if path.is_file()
    ]
    shapes = [f"{path.parent} {'~' if path.name.endswith('~') else path.name[:5]}" for path in vaults]
    return frozenset([*(path.name for path in named), *shapes])


def goes_on(desk: Desk, where: object) -> None:
    key = desk.key.read_bytes() if desk.key.exists() else None
    code, document = desk.answer("vault", "init")
    if code:
        assert document["error"]["message"] == "the vault is made already, and this is its key", where
        assert document["error"]["next"] == desk.pasted("protect"), where
    if key is not None:
        assert desk.key.read_bytes() == key, where
    assert not (desk.root / MARK).exists(), where
    for region in REGIONS:
        replica = Replica.open(
            region, open_store(str(desk.vault(region))), KeyFile.load(desk.key), SystemClock()
        )
        assert replica.points() == [] and len(list(replica.store.list("keys/"))) == len(keys_of(desk)), where


def keys_of(desk: Desk) -> set[str]:
    return {
        path.name for region in REGIONS for path in (desk.vault(region) / "keys").glob("[0-9a-f]*[0-9a-f]")
    }


def works(desk: Desk, where: object) -> None:
    assert desk.ask("protect")["grade"] == "exact", where
    assert desk.ask("vault", "check", "--read-data")["ok"], where


def names_one(call: Call) -> bool:
    """Each moment before an object or the key gets its name."""
    return call.name == "link"


@pytest.mark.slow
@pytest.mark.parametrize("passphrase", [False, True], ids=["", "kept for a passphrase"])
def test_killed_at_any_change_it_is_run_again_and_the_vault_works(
    bare: Desk, monkeypatch: pytest.MonkeyPatch, passphrase: bool
) -> None:  # fault 18
    desk, counts = bare, names_one if passphrase else edges
    if passphrase:
        monkeypatch.delenv("REFLOAT_KEY_FILE")
        monkeypatch.setenv("REFLOAT_PASSPHRASE", "correct horse battery staple")
    learned = CutDisk(counts=counts)
    init_killed(desk, learned)
    seen: set[frozenset[str]] = set()
    for number in range(1, len(learned.calls) + 1):
        clear(desk)
        disk = CutDisk(number, counts=counts)
        init_killed(desk, disk)
        after = left(desk)
        if after not in seen:
            seen.add(after)
            goes_on(desk, f"{number}: {disk.calls[-1]}")
            if not passphrase or after & {"us/vault vault"}:
                works(desk, f"{number}: {disk.calls[-1]}")
    assert len(seen) > 12


def test_the_mark_of_which_vault_it_is_may_be_torn(bare: Desk) -> None:
    init_killed(bare, CutDisk(1, torn=HALF, counts=writes))
    assert (bare.root / MARK).stat().st_size == 16 and not bare.key.exists()
    goes_on(bare, "a torn mark")


def test_it_says_that_it_goes_on(bare: Desk) -> None:
    init_killed(bare, CutDisk(12, counts=names_one))
    assert bare.key.exists() and not (bare.vault("us") / VAULT).exists()
    bare.ask("vault", "init")
    assert f"going on with the vault that {bare.key} is the key of" in bare.said


# ------------------------------------------------------------------------------------ whose key it is not


def refused(desk: Desk, *more: str) -> dict[str, str]:
    """It is not made, and neither the key nor what lies in the regions is another."""
    before = {
        path: path.read_bytes() for path in [desk.key, *desk.root.glob("*/vault/**/*")] if path.is_file()
    }
    error = desk.error("vault", "init", *more, exits=2)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not (desk.root / MARK).exists()
    return error


def test_a_vault_that_is_whole_is_not_made_again(unprotected: Desk) -> None:
    error = refused(unprotected)
    assert error["message"] == "the vault is made already, and this is its key"
    assert error["next"] == unprotected.pasted("protect")


def test_a_half_made_vault_of_which_no_mark_is_left_is_gone_on_with(unprotected: Desk) -> None:
    (unprotected.vault("us") / VAULT).unlink()
    goes_on(unprotected, "no descriptor")
    shutil.rmtree(unprotected.vault("us"))
    goes_on(unprotected, "no region")


@pytest.mark.parametrize("lost", [("us",), REGIONS], ids=["one region", "all"])
def test_the_key_of_a_vault_with_points_makes_no_empty_one(desk: Desk, lost: tuple[str, ...]) -> None:
    for region in lost:
        shutil.rmtree(desk.vault(region))
    assert refused(desk)["next"] == desk.pasted(f"vault add-region {lost[0]}")


@pytest.mark.parametrize("other", ["pipeline", "roles", "nothing of it"])
def test_the_key_of_another_vault_is_not_taken(bare: Desk, other: str) -> None:
    key = KeyFile.create("another", "large" if other == "pipeline" else "small")
    (key.for_roles(Role.WRITER) if other == "roles" else key).save(bare.key)
    error = refused(bare)
    assert (error["message"], error["next"]) == (
        "a file is there already",
        "name another place with --key FILE",
    )
    assert not bare.vault("eu").exists()


def test_while_one_is_at_work_another_waits(bare: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    second: list[dict[str, str]] = []

    def meanwhile(call: Call, do: Do) -> object:
        if names_one(call) and not second:
            second.append({})
            second[0] = bare.error("vault", "init", exits=2)
        return do()

    with watched(bare.root, meanwhile):
        assert run(["-f", str(bare.manifest), "-q", "vault", "init"]) == 0
    assert "is at work" in second[0]["message"] and second[0]["retry"] == "later"
    assert bare.capture is not None
    bare.capture.readouterr()
    works(bare, "after both")


def test_what_was_begun_with_a_lock_goes_on_with_that_alone() -> None:
    key, lock = KeyFile.create("v", "small"), timedelta(days=30)
    kept = {key_name(object_name(stored)): stored for stored in objects_of(key, lock, "secret", [])}
    found = [Found("eu", "memory://eu", kept)]
    assert sorted(objects_of(key, lock, "secret", found)) == sorted(kept.values())
    for other in (None, timedelta(days=31)):
        with pytest.raises(UsageError, match="begun with --lock 30d"):
            objects_of(key, other, "secret", found)
    sealed = objects_of(key, lock, "another", found)
    assert len(set(sealed) - set(kept.values())) == 1
