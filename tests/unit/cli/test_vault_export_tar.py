"""``refloat vault export --tar``: any files of a point as one archive, read back by two other readers."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from refloat.cli.main import run

NOT_UTF_8 = os.fsdecode(b"caf\xe9")
ODD = ("two\nlines", "-dash", NOT_UTF_8, "\N{SNOWMAN}" * 80)


@pytest.fixture
def odd(desk):
    """A protected pipeline whose pages have odd names, times and modes."""
    pages = desk.root / "eu" / "pages"
    for number, name in enumerate(ODD):
        (pages / name).write_bytes(os.fsencode(name) * 1000)
        os.utime(pages / name, ns=(0, 1_700_000_000_123_456_789 + number))
    (pages / "deep").mkdir()
    (pages / "deep" / "tool").write_bytes(os.urandom(3_000_000) + bytes(5_000_000))
    (pages / "deep" / "tool").chmod(0o750)
    os.utime(pages / "deep" / "tool", ns=(0, -1_500_000_000))
    (pages / "away").symlink_to("/etc/passwd")
    (pages / "empty").touch()
    first = '    tier: critical\n    priority: ["*.json", "-*"]\n'
    desk.manifest.write_text(desk.manifest.read_text().replace("    tier: critical\n", first))
    desk.point = str(desk.ask("protect")["point"])
    return desk


def piped(odd, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> bytes:
    """What comes to standard output."""
    out = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(out))
        assert run(["-f", str(odd.manifest), "vault", "export", odd.point, *arguments, "--tar", "-"]) == 0
        sys.stdout.detach()
    return out.getvalue()


def look(folder: Path) -> dict[str, tuple[object, ...]]:
    """Everything below a folder: what it holds, its mode and its time."""
    found: dict[str, tuple[object, ...]] = {}
    for path in folder.rglob("*"):
        seen = path.lstat()
        if path.is_symlink():
            found[str(path.relative_to(folder))] = ("link", str(path.readlink()))
        elif path.is_file():
            found[str(path.relative_to(folder))] = (path.read_bytes(), seen.st_mode, seen.st_mtime_ns)
    return found


def test_an_archive_holds_what_a_folder_gets_and_two_readers_agree(odd, monkeypatch) -> None:
    odd.ask("vault", "export", odd.point, "--into", "out")
    archive = piped(odd, monkeypatch)
    (odd.root / "gnu").mkdir()
    subprocess.run(["tar", "x", "-C", "gnu"], input=archive, check=True, cwd=odd.root, timeout=60)
    assert look(odd.root / "gnu") == look(odd.root / "out")
    with tarfile.open(fileobj=io.BytesIO(archive), errors="surrogateescape") as read:
        names = read.getnames()
        read.extractall(odd.root / "python", filter="tar")
    assert {name: told[0] for name, told in look(odd.root / "python").items()} == {
        name: told[0] for name, told in look(odd.root / "out").items()
    }
    assert all(f"pages/content/{name}" in names for name in ODD)
    assert len(names) == len(set(names)) and not [
        n for n in names if n.startswith("/") or ".." in n.split("/")
    ]
    assert names[:2] == ["pages/content/current.json", "pages/content/-dash"], "what has priority comes first"
    assert names[-1].startswith("manifest/"), "and the manifest last"


def test_only_what_is_meant_is_in_it(odd, monkeypatch) -> None:
    chosen = ("pages", "content/deep", "content/-dash", "--exclude", "nothing*")
    for arguments, expected in (
        (chosen, {"pages/content/deep", "pages/content/deep/tool", "pages/content/-dash"}),
        (("pages", "--include", "caf?"), {f"pages/content/{NOT_UTF_8}"}),
        (("ledger", "--exclude", "*"), set()),
    ):
        with tarfile.open(fileobj=io.BytesIO(piped(odd, monkeypatch, *arguments))) as archive:
            assert {*archive.getnames()} == expected


def test_a_file_has_its_name_when_it_is_whole_and_is_never_written_over(odd) -> None:
    document = odd.ask("vault", "export", odd.point, "pages", "--tar", "pages.tar")
    path = odd.root / "pages.tar"
    assert (document["into"], document["components"]["pages"]["files"]) == (str(path), 8)
    assert path.stat().st_mode & 0o777 == 0o600, "what was captured may be secret"
    before = path.read_bytes()
    assert (
        "there already" in odd.error("vault", "export", odd.point, "--tar", "pages.tar", exits=2)["message"]
    )
    assert path.read_bytes() == before
    assert odd.ask("vault", "export", odd.point, "pages", "--tar", "pages.tar")["into"] == document["into"]
    assert "is this archive to its last byte" in odd.said and path.read_bytes() == before
    at = len(before) // 2
    for other in (before[:at] + bytes([before[at] ^ 1]) + before[at + 1 :], before[:-1], before + b"\0"):
        path.write_bytes(other)
        refused = odd.error("vault", "export", odd.point, "pages", "--tar", "pages.tar", exits=2)
        assert "not this archive" in refused["message"] and path.read_bytes() == other
    assert "mkdir" in odd.error("vault", "export", odd.point, "--tar", "no/pages.tar", exits=2)["next"]
    for region in ("eu", "us"):
        largest = max(odd.vault(region).glob("packs/*/*"), key=lambda pack: pack.stat().st_size)
        largest.write_bytes(bytes(largest.stat().st_size))
    odd.error("vault", "export", odd.point, "pages", "--tar", "other.tar", exits=4)
    assert [found.name for found in odd.root.iterdir() if "other" in found.name] == []


def test_what_does_not_go_together_is_said_before_anything_is_read(odd, monkeypatch) -> None:
    for arguments in (("--into", "out", "--tar", "x"), ("--tar", "x", "--events"), ("--tar", "-")):
        odd.error("vault", "export", odd.point, *arguments, exits=2)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert run(["-f", str(odd.manifest), "vault", "export", odd.point, "--tar", "-"]) == 2
