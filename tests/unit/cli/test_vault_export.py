"""``refloat vault export``: any files of a point in a folder, without a recovery."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

NOT_UTF_8 = os.fsdecode(b"caf\xe9")
ODD = ("two\nlines", "-dash", NOT_UTF_8, "UPPER.txt")


@pytest.fixture
def odd(desk):
    """A protected pipeline whose pages have odd names."""
    pages = desk.root / "eu" / "pages"
    for name in ODD:
        (pages / name).write_text(name.encode("utf-8", "backslashreplace").decode())
    (pages / "deep").mkdir()
    (pages / "deep" / "page.bin").write_bytes(b"deep")
    (pages / "away").symlink_to("/etc/passwd")
    desk.ask("protect")
    desk.point = str(desk.ask("points", "list")["points"][0]["point"])
    return desk


def found(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_a_point_is_exported_with_its_manifest(odd) -> None:
    document = odd.ask("vault", "export", odd.point[:9], "--into", "out")
    assert (document["point"], document["grade"]) == (odd.point, "exact")
    assert document["into"] == str(odd.root / "out")
    assert list(document["components"]) == ["pages", "ledger", "answers", "manifest"]
    assert set(document["components"]["pages"]) == {"files", "bytes", "kept", "seconds"}
    assert {path.name for path in (odd.root / "out/pages/content").iterdir()} == {
        path.name for path in (odd.root / "eu/pages").iterdir()
    }
    assert (odd.root / "out/pages/content/away").readlink() == Path("/etc/passwd")
    assert (odd.root / "out/manifest/refloat.yaml").read_bytes() == odd.manifest.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--include", "*.txt"), {"1.txt", "UPPER.txt"}),
        (("--include", "*.TXT"), set()),
        (("--include", "upper*"), set()),
        (("--include", "-*"), {"-dash"}),
        (("--include=two*", "--include", "caf?"), {"two\nlines", NOT_UTF_8}),
        (("--include", NOT_UTF_8), {NOT_UTF_8}),
        (("--include", "deep"), {"deep/page.bin"}),
        (("--include", "content/*", "--exclude", "content/*.*", "--exclude", "away"), {*ODD[:3]}),
        (("content/deep/", "content/-dash"), {"deep/page.bin", "-dash"}),
    ],
)
def test_only_what_is_named_and_included_and_not_excluded_comes(odd, arguments, names) -> None:
    odd.ask("vault", "export", odd.point, "pages", *arguments, "--into", "out")
    assert found(odd.root / "out") == {f"pages/content/{name}" for name in names}


def test_events_say_what_is_ready_as_it_comes(odd) -> None:
    text = odd.manifest.read_text()
    odd.manifest.write_text(
        text.replace("    tier: critical\n", '    tier: critical\n    priority: ["caf?"]\n')
    )
    point = odd.ask("protect")["point"]
    lines = [
        json.loads(line)
        for line in odd.read("vault", "export", point, "--into", "out", "--events").splitlines()
    ]
    assert all(line["schema"] == 1 for line in lines)
    assert [line["event"] for line in lines] == ["ready"] * 5 + ["done"]
    first = lines[0]
    assert (first["component"], first["path"]) == ("pages", "content/caf\ufffd")
    assert base64.b64decode(first["path_bytes"]) == b"content/caf\xe9"
    assert [(line["component"], line["path"]) for line in lines[1:5]] == [
        (name, None) for name in ("pages", "ledger", "answers", "manifest")
    ]
    assert lines[1].keys() == {"schema", "event", "component", "path", "path_bytes", "files", "bytes"}
    assert lines[5].keys() == {"schema", "event", "point", "grade", "into", "components", "remarks"}
    assert "ready pages content/caf\\xe9" in odd.said


def test_what_an_export_wrote_is_never_written_over(odd) -> None:  # fault 43
    odd.ask("vault", "export", odd.point, "--into", "out")
    (odd.root / "out/pages/content/-dash").write_text("changed since")
    assert odd.error("vault", "export", odd.point, "--into", "out", exits=3)["rule"] == "into_occupied"
    assert (odd.root / "out/pages/content/-dash").read_text() == "changed since"


SENSELESS = [
    ((), "names no folder"),
    (("--into", "no/such/out"), "there is no folder"),
    (("pagse", "--into", "out"), "no component 'pagse'"),
    (("pages", "content/pagf.bin", "--into", "out"), "there is no file"),
    (("pages", "../ledger.db", "--into", "out"), "there is no file"),
    (("--include", "deep/", "--into", "out"), "matches nothing"),
    (("--exclude", "", "--into", "out"), "matches nothing"),
    (("--events", "--into", "out"), "--events"),
]


def test_what_makes_no_sense_is_a_usage_error_and_leaves_nothing(odd) -> None:
    for arguments, words in SENSELESS:
        error = odd.error("vault", "export", odd.point, *arguments, exits=2)
        assert words in error["message"] and error["next"], arguments
    assert not (odd.root / "out").exists()


def test_what_is_no_pattern_says_how_to_see_the_paths_of_the_point_that_was_named(desk) -> None:
    error = desk.error("vault", "export", "latest", "--include", "", "--into", "out", exits=2)
    assert desk.pasted("vault ls latest") in error["next"]
