"""A recovery that would not fit is refused before a byte is brought, and ``plan`` shows it beforehand."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing more fits on any disk, to who asks how much is free."""
    monkeypatch.setattr(os, "statvfs", lambda folder: SimpleNamespace(f_bavail=3, f_frsize=1024))


def test_a_plan_shows_what_is_needed_and_what_is_free(desk) -> None:
    (room,) = desk.ask("plan", "--to", "us")["room"]
    assert room.keys() == {"path", "components", "needed_bytes", "free_bytes", "enough"}
    assert room["components"] == ["answers", "ledger", "pages"]
    assert room["enough"] and 0 < room["needed_bytes"] < room["free_bytes"]
    assert "needed for answers, ledger, pages in" in desk.read("plan", "--to", "us")


def test_a_plan_that_does_not_fit_says_so(desk, full) -> None:
    desk.read("plan", "--to", "us")
    assert "would be refused (target_full)" in desk.said and "too little" in desk.said


def test_a_recovery_that_does_not_fit_is_refused_before_anything_is_staged(desk, full) -> None:
    before = sorted((desk.root / "us").iterdir())
    done = desk.ask("recover", "--to", "us", exits=3)
    error = done["error"]
    assert (done["state"], error["rule"]) == ("blocked", "target_full")
    assert "3.0 KiB free" in error["message"] and "answers, ledger, pages" in error["message"]
    assert error["next"].startswith("free ") and "--override target_full" in error["next"]
    assert sorted((desk.root / "us").iterdir()) == before


def test_where_the_disk_compresses_a_person_may_say_that_it_fits(desk, full) -> None:
    assert desk.ask("recover", "--to", "us", "--override", "target_full")["state"] == "done"


def test_only_what_is_recovered_needs_room(desk, full) -> None:
    desk.write_manifest("")
    (room,) = desk.ask("plan", "--to", "us", "--only", "pages")["room"]
    assert room["components"] == ["pages"]


def test_bytes_alone_need_room_as_well(desk, full) -> None:
    error = desk.error("recover", "--into", str(desk.root / "out"), exits=3)
    assert error["rule"] == "target_full" and "3.0 KiB free" in error["message"]
    assert not (desk.root / "out").exists()
    desk.ask("recover", "--into", str(desk.root / "out"), "--override", "target_full")


def test_an_export_needs_room_for_what_is_asked_of_it(desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda folder: SimpleNamespace(f_bavail=9, f_frsize=1024))
    point = desk.ask("points", "list")["points"][0]["point"]
    out = desk.root / "out"
    error = desk.error("vault", "export", point, "--into", str(out), exits=3)
    assert error["rule"] == "target_full" and not out.exists()
    desk.ask("vault", "export", point, "pages", "--include", "*.json", "--into", str(out))


def test_an_archive_needs_room_for_what_is_asked_of_it(desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda folder: SimpleNamespace(f_bavail=9, f_frsize=1024))
    out = desk.root / "here" / "out.tar"
    out.parent.mkdir()
    error = desk.error("vault", "export", "latest", "--tar", str(out), exits=3)
    assert error["rule"] == "target_full" and "9.0 KiB free" in error["message"]
    assert [*out.parent.iterdir()] == [], "nothing was begun"
    desk.ask("vault", "export", "latest", "pages", "--include", "*.json", "--tar", str(out))
