"""``refloat vault keys export``: the key is split, and each part does what its role needs, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract_pins import printed, require_pinned
from refloat.vault.keyfile import KeyFile, Role
from small_desk import Desk

EXPORT = ("vault", "keys", "export", "--key", "part.key")
FORGET = "keep: {last: 1, daily: 0, monthly: 0}\n"


def exported(desk: Desk, monkeypatch: pytest.MonkeyPatch, *roles: str) -> KeyFile:
    """A part of the key, which is the key in use from then on."""
    whole = desk.key.read_bytes()
    options = [word for role in roles for word in ("--role", role)]
    done = printed(desk, *EXPORT, *options)
    if roles == ("admin",):
        require_pinned("vault keys export", "part of the admin", done)
    else:
        require_pinned("vault keys export", "part of another", done)
    path = desk.root / "part.key"
    assert (done["key"], done["name"], done["lagging"]) == (str(path), "part", [])
    assert [one["role"] for one in done["given"]] == sorted(roles, key=list(Role).index)
    assert path.stat().st_mode & 0o777 == 0o600 and desk.key.read_bytes() == whole
    made = KeyFile.load(path)
    assert made.roles == {Role(role) for role in roles}
    assert made.admin_public == KeyFile.load(desk.key).admin_public
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(path))
    return made


def may_not(desk: Desk, *verb: str) -> bool:
    return bool(desk.error(*verb, exits=4)["code"] == "vault_wrong_key")


def reads_nothing(desk: Desk, point: str) -> bool:
    """Whether no content of a point can be had in either way."""
    taken = ("vault", "export", point, "pages", "--into", "taken")
    shut = may_not(desk, *taken) and may_not(desk, "recover", "--into", "brought")
    return shut and not any(Path("brought").rglob("*.json")) and not any(Path("taken").rglob("*.json"))


@pytest.fixture
def point(desk: Desk) -> str:
    """The newest point of those that the whole key made."""
    desk.release(2)
    return str(desk.ask("protect")["point"])


def test_a_writer_protects_and_reads_nothing_of_before(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:  # fault 58
    made = exported(desk, monkeypatch, "writer")
    whole = KeyFile.load(desk.key)
    assert made.writer is not None and whole.writer is not None
    assert not set(made.writer.content.values()) & set(whole.writer.content.values())
    assert reads_nothing(desk, point)
    assert may_not(desk, "vault", "prune")
    desk.release(3)
    assert desk.ask("protect")["point"] != point


def test_a_reader_reads_everything_and_makes_and_removes_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:  # fault 58
    live = desk.pages("eu")
    exported(desk, monkeypatch, "reader")
    assert desk.ask("recover", "--into", "brought")["point"] == point
    content = desk.root / "brought" / "pages" / "content"
    assert {path.name: path.read_text() for path in content.iterdir()} == live
    assert may_not(desk, "protect") and may_not(desk, "vault", "prune")


def test_a_reader_and_operator_recovers_the_pipeline_and_makes_no_point(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:  # fault 58
    live = desk.pages("eu")
    exported(desk, monkeypatch, "reader", "operator")
    assert desk.answer("recover", "--to", "us")[1]["point"] == point
    assert desk.pages("us") == live
    assert may_not(desk, "protect", "--region", "us")


def test_an_operator_reads_and_makes_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:  # fault 58
    assert exported(desk, monkeypatch, "operator").chunk_name_key is None
    assert desk.ask("run", "list", "--to", "us")["runs"] == []
    assert reads_nothing(desk, point)
    assert may_not(desk, "protect") and may_not(desk, "vault", "prune")


def test_an_admin_forgets_and_prunes_and_reads_and_makes_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:  # fault 58
    exported(desk, monkeypatch, "admin")
    desk.manifest.write_text(desk.manifest.read_text() + FORGET)
    assert reads_nothing(desk, point) and may_not(desk, "protect")
    desk.ask("points", "forget")
    desk.ask("vault", "prune")
    assert [one["point"] for one in desk.ask("points", "list")["points"]] == [point]


@pytest.mark.parametrize("role", ["writer", "admin"])
def test_no_other_file_is_written_over(desk: Desk, role: str) -> None:
    there = desk.root / "part.key"
    there.write_text("somebody's")
    error = desk.answer(*EXPORT, "--role", role)[1]["error"]
    assert "part.key" in f"{error['message']} {error['file']}" and there.read_text() == "somebody's"


def test_what_is_no_role_or_does_not_go_together_is_refused_and_leaves_no_file(desk: Desk) -> None:
    for options in (("--role", "king"), ("--role", "admin", "--role", "reader")):
        assert desk.error(*EXPORT, *options, exits=2)["next"]
    assert not (desk.root / "part.key").exists()


def test_only_the_admin_splits_the_key(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    KeyFile.load(desk.key).for_roles(Role.WRITER, Role.READER).save(desk.root / "two.key")
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(desk.root / "two.key"))
    for role in Role:
        assert may_not(desk, *EXPORT, "--role", role.value)
    assert not (desk.root / "part.key").exists()
