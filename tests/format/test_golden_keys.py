"""The golden vault of many holders is read by this refloat and by the second reader, by whichever key opens it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from refloat.cli.main import run
from refloat.cli.system import SystemClock
from refloat.flows.opening import unwrapped_key
from refloat.vault import wraps
from refloat.vault.check import check
from refloat.vault.keys import KeyFile, Role
from refloat.vault.recipients import RecipientKey, load_key
from refloat.vault.replica import Replica as OwnReplica
from refloat.vault.stores.local import LocalStore

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden" / "vault-1-keys"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text())
POINTS: dict[str, str] = EXPECTED["points"]
REGIONS = ("eu", "us")
SIGNED_BY = {"points": Role.WRITER}

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(HERE)
    from objects import Key, Refused
    from reader import Replica


def own(region: str) -> OwnReplica:
    key_file = KeyFile.load(GOLDEN / "owner.key")
    return OwnReplica.open(region, LocalStore(GOLDEN / region), key_file, SystemClock())


def second(region: str) -> Replica:
    return Replica(GOLDEN / region, Key.load(GOLDEN / "owner.key"))


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "settings" / "content").read_bytes()).hexdigest()


@pytest.mark.parametrize("region", REGIONS)
def test_both_readers_know_the_same_points_and_the_same_void_entries(region: str) -> None:  # fault 58
    ours, theirs = own(region), second(region)
    assert [one.name for one in ours.points()] == list(POINTS) == list(theirs.points)
    assert ours.streams() == theirs.streams() == sorted(EXPECTED["void"][region])
    for stream, void in EXPECTED["void"][region].items():
        log = ours.log(stream, SIGNED_BY.get(stream, Role.OPERATOR))
        assert [entry.void for entry in log.entries()] == void == [one.void for one in theirs.log(stream)]
    assert check(ours, read_data=True).ok and theirs.check()["points"] == len(POINTS)
    assert ours.keyring.rejected == {} == theirs.set_aside


@pytest.mark.parametrize("region", REGIONS)
def test_every_kind_of_key_object_is_there(region: str) -> None:
    documents = [json.loads(path.read_bytes()) for path in (GOLDEN / region / "keys").iterdir()]
    assert {one["type"] for one in documents} == {
        *("certificate", "content_key", "holder", "key_file", "lock"),
        *("operator_removal", "recipient_key_file", "removal", "wrap"),
    }
    lock = own(region).keyring.lock
    assert lock is not None and lock.total_seconds() == second(region).lock_s == 30 * 24 * 3600


@pytest.mark.parametrize("point", POINTS)
def test_the_second_reader_restores_each_point_by_the_recipients_key(point: str, tmp_path: Path) -> None:
    key = Key.of_recipient(GOLDEN / "us", GOLDEN / "recipient.private")
    Replica(GOLDEN / "us", key).restore(point, tmp_path / "out")
    assert digest(tmp_path / "out" / "components") == POINTS[point]


@pytest.mark.parametrize("held", ["owner.key", "gone.key", "recipient.private"])
def test_refloat_brings_back_the_same_by_every_key(
    held: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = shutil.copytree(GOLDEN / "us", tmp_path / "vault")
    shutil.copy(GOLDEN / held, tmp_path / "key")
    (tmp_path / "key").chmod(0o600)
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.delenv("REFLOAT_PASSPHRASE", raising=False)
    for number, point in enumerate(POINTS):
        into = tmp_path / f"out-{number}"
        assert run(["-q", "recover", "--vault", str(vault), "--point", point, "--into", str(into)]) == 0
        assert digest(into) == POINTS[point]


def require_owners(found: KeyFile) -> None:
    """It is the owner's key file, but for what each has seen of the logs."""
    assert found == KeyFile.load(GOLDEN / "owner.key").model_copy(update={"heads": found.heads})


def test_a_passphrase_opens_it_and_the_one_that_was_let_go_does_not() -> None:
    found = unwrapped_key([str(GOLDEN / "eu")], EXPECTED["passphrase"])
    require_owners(found)
    assert Key.unwrapped(GOLDEN / "us", EXPECTED["passphrase"]) == Key.read(found.to_bytes(), "key")
    with pytest.raises(Refused):
        Key.unwrapped(GOLDEN / "us", EXPECTED["passphrase_let_go"])
    (gone,) = [one for one in wraps.kept([own("eu"), own("us")]) if not one.regions]
    assert gone.noted is not None and gone.noted.removed_at is not None and gone.noted.name == "old desk"


def test_what_is_sealed_for_the_recipient_is_the_owners_key() -> None:
    key = load_key(GOLDEN / "recipient.private")
    assert isinstance(key, RecipientKey)
    require_owners(unwrapped_key([str(GOLDEN / region) for region in REGIONS], key))
