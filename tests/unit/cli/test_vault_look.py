"""``refloat vault ls`` and ``vault cat``: what a point holds, and any file of it, without a recovery."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import shutil
import sys
from pathlib import Path

import pytest

from refloat.cli.main import run

ENTRY_KEYS = {"path", "path_bytes", "type", "mode", "size", "mtime", "target", "target_bytes"}
NOT_UTF_8 = b"caf\xe9"


def point_of(desk) -> str:
    return str(desk.ask("points", "list")["points"][0]["point"])


@pytest.fixture
def odd(desk):
    """A protected pipeline whose pages have names that a terminal must not be shown as they are."""
    pages = desk.root / "eu" / "pages"
    (pages / "two\nlines\x1b[31m").write_text("odd")
    Path(os.fsdecode(os.fsencode(pages) + b"/" + NOT_UTF_8)).write_text("latin")
    (pages / "deep").mkdir()
    (pages / "deep" / "page.bin").write_bytes(bytes(range(256)) * 5000)
    (pages / "away").symlink_to("/etc/passwd")
    (pages / "-dash").write_text("dash")
    desk.ask("protect")
    desk.point = point_of(desk)
    return desk


def got(desk, *arguments: str) -> tuple[int, bytes]:
    """A command's exit code, and the bytes that it sent to standard output."""
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())) as out:
        code = run(["-f", str(desk.manifest), *arguments])
    return code, out.buffer.getvalue()


# ------------------------------------------------------------------------------------------------------ ls


def test_the_components_of_a_point_are_listed(desk) -> None:
    point = point_of(desk)
    document = desk.ask("vault", "ls", point[:6])
    assert document.keys() == {"point", "components"}
    assert document["point"] == point
    assert document["components"].keys() == {"pages", "ledger", "answers"}
    for component in document["components"].values():
        assert component.keys() == {"kind", "files", "bytes", "as_of"}
    assert document["components"]["pages"]["files"] == 2
    out = desk.read("vault", "ls", point[:6])
    assert "predictions" in out and point in out


def test_every_path_of_a_component_is_listed_with_what_it_is(odd) -> None:
    document = odd.ask("vault", "ls", odd.point, "pages")
    assert document.keys() == {"point", "component", "entries"}
    entries = {entry["path"]: entry for entry in document["entries"]}
    assert all(entry.keys() == ENTRY_KEYS for entry in entries.values())
    page = entries["content/deep/page.bin"]
    assert (page["type"], page["size"], page["target"]) == ("file", 1_280_000, None)
    assert page["mtime"].endswith("Z") and isinstance(page["mode"], int)
    assert (entries["content/deep"]["type"], entries["content/deep"]["size"]) == ("directory", None)
    away = entries["content/away"]
    assert (away["type"], away["target"], away["mode"], away["mtime"]) == (
        "symlink",
        "/etc/passwd",
        None,
        None,
    )


def test_a_name_that_is_not_utf_8_is_given_in_bytes_as_well(odd) -> None:
    entries = odd.ask("vault", "ls", odd.point, "pages")["entries"]
    (name,) = [entry for entry in entries if entry["path_bytes"]]
    assert name["path"] == "content/caf\ufffd"
    assert base64.b64decode(name["path_bytes"]) == b"content/" + NOT_UTF_8


def test_people_read_a_line_a_path_with_nothing_in_it_that_speaks_to_the_terminal(odd) -> None:
    out = odd.read("vault", "ls", odd.point, "pages")
    assert out.isprintable() is False and set(filter(lambda c: not c.isprintable(), out)) == {"\n"}
    lines = out.splitlines()
    assert any(line.endswith("content/caf\\xe9") for line in lines)
    assert any(line.endswith("content/two\\nlines\\x1b[31m") for line in lines)
    assert any(line.startswith("lrwxrwxrwx") and line.endswith("away -> /etc/passwd") for line in lines)
    assert any(line.startswith("drwx") and line.endswith("content/deep") for line in lines)


def test_the_tree_of_the_manifest_is_called_manifest(desk) -> None:
    document = desk.ask("vault", "ls", point_of(desk), "manifest")
    assert [entry["path"] for entry in document["entries"]] == ["refloat.yaml"]


def test_one_address_is_enough(desk) -> None:
    point = point_of(desk)
    desk.lose("eu")
    assert desk.ask("vault", "ls", point, "pages", "--vault", str(desk.vault("us")))["entries"]


# ----------------------------------------------------------------------------------------------------- cat


def test_the_bytes_of_a_file_go_to_standard_output(odd) -> None:
    content = bytes(range(256)) * 5000
    assert got(odd, "vault", "cat", odd.point, "pages", "content/deep/page.bin") == (0, content)
    assert got(odd, "vault", "cat", odd.point[:7], "manifest", "refloat.yaml") == (
        0,
        odd.manifest.read_bytes(),
    )
    latin = os.fsdecode(b"content/" + NOT_UTF_8)
    assert got(odd, "vault", "cat", odd.point, "pages", latin) == (0, b"latin")
    assert got(odd, "vault", "cat", odd.point, "pages", "--", "content/-dash") == (0, b"dash")


def test_it_is_the_point_that_is_read_and_not_what_is_live(odd) -> None:
    (odd.root / "eu" / "pages" / "-dash").write_text("changed since")
    assert got(odd, "vault", "cat", odd.point, "pages", "content/-dash") == (0, b"dash")


def test_a_piece_that_is_damaged_in_one_region_is_read_in_another(odd) -> None:  # fault 2
    for pack in odd.vault("us").glob("packs/*/*"):
        pack.unlink()
    assert got(odd, "vault", "cat", odd.point, "pages", "content/-dash") == (0, b"dash")
    shutil.rmtree(odd.vault("eu"))
    code, out = got(odd, "vault", "cat", odd.point, "pages", "content/-dash")
    assert (code, out) == (4, b"")


def test_a_bit_that_rotted_is_never_handed_on(odd) -> None:  # fault 2
    odd.lose("eu")
    for pack in odd.vault("us").glob("packs/*/*"):
        content = bytearray(pack.read_bytes())
        content[len(content) // 2] ^= 1
        pack.chmod(0o600)
        pack.write_bytes(content)
    where = ("--vault", str(odd.vault("us")))
    code, out = got(odd, "vault", "cat", odd.point, "pages", "content/deep/page.bin", *where)
    assert code == 4
    assert (bytes(range(256)) * 5000).startswith(out)


def test_who_has_read_enough_is_told_nothing(odd) -> None:
    for arguments in (("cat", odd.point, "pages", "content/deep/page.bin"), ("ls", odd.point, "pages")):
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w") as pipe, contextlib.redirect_stdout(pipe):
            code = run(["-f", str(odd.manifest), "vault", *arguments])
        assert code == 1, "it was not the whole"
        odd._heard()
        assert odd.said == ""


NO_FILES = [
    ("pages", "content/deep", "is a folder", "ls"),
    ("pages", "content/deep/", "is a folder", "ls"),
    ("pages", "content/away", "is a symbolic link", "/etc/passwd"),
    ("pages", "page.bin", "no file", "content/deep/page.bin"),
    ("pages", "content/deep/pages.bin", "no file", "content/deep/page.bin"),
    ("pages", "content/away/x", "no file", "ls"),
    ("pages", "../ledger.db", "no file", "ls"),
    ("pages", "/etc/passwd", "no file", "ls"),
    ("pages", "", "no file", "ls"),
    ("pagse", "x", "no component 'pagse'", "'pages'"),
]


def test_what_is_no_file_is_a_usage_error_with_what_is_near(odd) -> None:
    for component, path, words, hint in NO_FILES:
        assert run(["-f", str(odd.manifest), "vault", "cat", odd.point, component, path]) == 2
        odd._heard()
        assert words in odd.said and hint in odd.said.partition("next:")[2], path


def test_bytes_are_no_json_document(desk) -> None:
    error = desk.error("vault", "cat", point_of(desk), "pages", "content/1.txt", exits=2)
    assert "JSON" in error["message"] and "--json" in error["next"]


def test_a_point_that_is_not_there_is_a_usage_error(desk) -> None:
    assert desk.error("vault", "ls", "zz", exits=2)["next"] == f"refloat -f {desk.manifest} points list"


def test_standard_output_that_is_closed_is_told(desk, monkeypatch) -> None:
    point = point_of(desk)
    monkeypatch.setattr(sys, "stdout", None)
    assert run(["-f", str(desk.manifest), "vault", "cat", point, "pages", "content/1.txt"]) == 2
