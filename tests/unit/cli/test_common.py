"""What every verb begins with: the manifest, late values, and the key from exactly one place."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from refloat.cli.common import Session, has_key, key_file, load_manifest, open_vault, resolver, vault_urls
from refloat.cli.console import Console
from refloat.cli.system import SystemClock, cache_dir, local_state_dir
from refloat.digest import object_name
from refloat.errors import ManifestError, StoreError, UsageError, WrongKey
from refloat.limits import MANIFEST_BYTES_MAX
from refloat.vault.keyfile import KeyFile
from refloat.vault.layout import key_name
from refloat.vault.replica import create_vault
from refloat.vault.stores import open_store

MANIFEST = """\
version: 1
pipeline: notes
regions:
  eu: {vault: "${env:VAULTS}/eu"}
  us: {vault: "${env:VAULTS}/us"}
primary: eu
components:
  docs: {kind: files, with: {path: "${file:secret.txt}"}}
"""


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REFLOAT_KEY_FILE", "REFLOAT_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    (tmp_path / "refloat.yaml").write_text(MANIFEST)
    return Session(file=tmp_path / "refloat.yaml")


@pytest.fixture
def key(tmp_path: Path) -> KeyFile:
    made = KeyFile.create("v1", "notes")
    made.save(tmp_path / "key")
    return made


# ------------------------------------------------------------------------------------------------- manifest


def test_the_manifest_comes_with_its_bytes(session: Session):
    manifest, content = load_manifest(session.file)
    assert manifest.pipeline == "notes"
    assert content == MANIFEST.encode()


def test_no_manifest_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(ManifestError, match="there is no manifest here") as caught:
        load_manifest(tmp_path / "none.yaml")
    assert "refloat init" in str(caught.value.next)


def test_a_manifest_that_is_a_directory_is_refused(tmp_path: Path):
    with pytest.raises(ManifestError, match="is a directory"):
        load_manifest(tmp_path)


def test_a_manifest_behind_a_file_is_refused(session: Session):
    with pytest.raises(ManifestError, match="cannot be read: Not a directory"):
        load_manifest(session.file / "refloat.yaml")


def test_no_more_than_a_manifest_is_ever_read(tmp_path: Path):
    path = tmp_path / "refloat.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # more than any memory; the disk keeps none of it
    with pytest.raises(ManifestError, match=f"larger than {MANIFEST_BYTES_MAX}"):
        load_manifest(path)


def test_an_error_in_the_manifest_names_the_file(tmp_path: Path):
    path = tmp_path / "refloat.yaml"
    path.write_text("version: 2\n")
    with pytest.raises(ManifestError) as caught:
        load_manifest(path)
    assert str(caught.value.document()["file"]).startswith(f"{path}:1:")


# ---------------------------------------------------------------------------------------------- late values


def test_files_are_found_beside_the_manifest_and_hidden(
    session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (session.file.parent / "secret.txt").write_text("hunter22\n")
    late = resolver(session)
    manifest, _ = load_manifest(session.file)
    assert late.value("${file:secret.txt}", manifest, "eu") == "hunter22"
    session.console.print("it is hunter22")
    assert capsys.readouterr().out == "it is ***\n"


# ------------------------------------------------------------------------------------------------------ key


def test_the_key_file_is_named_by_the_environment(
    session: Session, key: KeyFile, monkeypatch: pytest.MonkeyPatch
):
    assert not has_key()
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(session.file.parent / "key"))
    assert has_key()
    assert key_file(session, []).vault == "v1"


def test_two_keys_are_a_usage_error(session: Session, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REFLOAT_KEY_FILE", "a")
    monkeypatch.setenv("REFLOAT_PASSPHRASE", "b")
    with pytest.raises(UsageError, match="both set"):
        key_file(session, [])


def test_no_key_and_nobody_to_ask_is_a_usage_error(session: Session):
    with pytest.raises(UsageError, match="no key is given"):
        key_file(session, [])


@pytest.fixture
def wrapped_in(tmp_path: Path, key: KeyFile) -> str:
    """A store that keeps the key for the passphrase ``open sesame``, beside other objects."""
    url = str(tmp_path / "vault")
    store = open_store(url)
    for stored in (key.wrapped("open sesame"), b"not a key", b'{"type":"certificate"}'):
        store.create(key_name(object_name(stored)), stored)
    return url


def test_a_passphrase_opens_the_key_that_a_vault_keeps(
    session: Session, wrapped_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REFLOAT_PASSPHRASE", "open sesame")
    assert key_file(session, ["ftp://nothing", str(tmp_path / "empty"), wrapped_in]).vault == "v1"


def test_a_wrong_passphrase_is_told(session: Session, wrapped_in: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REFLOAT_PASSPHRASE", "wrong")
    with pytest.raises(WrongKey, match="does not open"):
        key_file(session, [wrapped_in])


def test_a_passphrase_without_a_wrapped_key_is_told(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REFLOAT_PASSPHRASE", "open sesame")
    with pytest.raises(WrongKey, match="no vault here keeps a key"):
        key_file(session, [str(tmp_path / "empty")])


def test_where_no_vault_answers_that_is_what_is_told(session: Session, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REFLOAT_PASSPHRASE", "open sesame")
    with pytest.raises((UsageError, StoreError), match="ftp"):
        key_file(session, ["ftp://nothing"])


def test_on_a_terminal_the_passphrase_is_asked_for_and_hidden(
    session: Session, wrapped_in: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Keyboard())
    monkeypatch.setattr("typer.prompt", lambda text, **how: "open sesame" if how["hide_input"] else "")
    assert key_file(session, [wrapped_in]).vault == "v1"
    session.console.print("open sesame")
    assert capsys.readouterr().out == "***\n"


# ---------------------------------------------------------------------------------------------------- vault


def test_the_vault_is_opened_where_it_can_be_reached(
    session: Session, key: KeyFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VAULTS", str(tmp_path))
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(tmp_path / "key"))
    create_vault({"us": open_store(str(tmp_path / "us"))}, key, SystemClock(), "notes")
    manifest, _ = load_manifest(session.file)
    late = resolver(session)
    assert vault_urls(manifest, late) == {"eu": f"{tmp_path}/eu", "us": f"{tmp_path}/us"}
    vault = open_vault(session, manifest, late)
    assert list(vault.replicas) == ["us"]
    assert list(vault.unreachable) == ["eu"]


# --------------------------------------------------------------------------------------------------- system


def test_folders_follow_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_state_dir() == tmp_path / "state" / "refloat"
    assert cache_dir() == tmp_path / ".cache" / "refloat"


def test_the_clock_tells_aware_time_and_goes_on():
    clock = SystemClock()
    before = clock.monotonic()
    clock.sleep(0.001)
    assert clock.monotonic() > before
    assert clock.now().tzinfo is not None


def test_a_session_speaks_to_people_until_told_otherwise():
    assert not Session().console.json_mode
    assert isinstance(Session().console, Console)
