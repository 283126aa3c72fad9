"""What two points differ in besides bytes and times: whose a file is, what a link leads to, which files are one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from refloat import attributes
from refloat.attributes import Attributes, Principal
from refloat.contracts import Entry, EntryType
from refloat.flows.diff import Change, changes, diff
from refloat.flows.points import read
from refloat.testing.world import World

FILE = "content/a.txt"
PLAIN = Entry(FILE, EntryType.FILE, size=3, mtime_ns=7)


def between(one: Entry, other: Entry) -> Change:
    return changes({}, {one.path: one}, {other.path: other})


def owned(number: int, name: str = "") -> Attributes:
    return Attributes(owner=Principal(number, name))


@pytest.mark.parametrize(
    ("other", "line"),
    [
        (replace(PLAIN, attributes=owned(7, "ann")), "~ content/a.txt: owner 0 (root) -> 7 (ann)"),
        (
            replace(PLAIN, attributes=Attributes(group=Principal(9))),
            "~ content/a.txt: group 0 (root) -> 9",
        ),
        (replace(PLAIN, link="content/0.txt"), "~ content/a.txt: same file as none -> content/0.txt"),
        (replace(PLAIN, mode=0o600), "~ content/a.txt: mode 0644 -> 0600"),
    ],
)
def test_what_differs_of_a_file_of_the_same_bytes_and_time_is_named(other: Entry, line: str) -> None:
    change = between(PLAIN, other)
    assert (change.changed, change.added, change.removed) == ((FILE,), (), ())
    assert change.lines() == [line]
    assert change.summary() == "0 added, 0 removed, 1 changed files"
    assert between(other, other).summary() == "unchanged"


def test_owners_of_one_name_and_two_numbers_are_two() -> None:
    (one,) = between(
        replace(PLAIN, attributes=owned(7, "ann")), replace(PLAIN, attributes=owned(8, "ann"))
    ).how
    assert (one.what, one.before, one.after) == ("owner", "7 (ann)", "8 (ann)")


def test_an_attribute_that_is_given_changed_or_taken_is_named_by_its_name_and_not_shown() -> None:
    secret = replace(PLAIN, attributes=Attributes(xattrs=(("user.note", b"secret"),)))
    (given,) = between(PLAIN, secret).how
    (taken,) = between(secret, PLAIN).how
    assert given.what == "attribute user.note" and given.before is None and given.after == taken.before
    assert "secret" not in given.line()


def test_a_folder_counts_for_whose_it_is_and_not_for_its_time() -> None:
    folder = Entry("content", EntryType.DIRECTORY, mode=0o755, mtime_ns=1)
    assert between(folder, replace(folder, mtime_ns=2)).summary() == "unchanged"
    assert between(folder, replace(folder, attributes=owned(7))).changed == ("content",)
    assert changes({}, {}, {"content": folder}).added == ()


def test_a_link_is_added_removed_and_led_elsewhere_and_becomes_a_file() -> None:
    link = Entry("content/l", EntryType.SYMLINK, target="a.txt")
    assert changes({}, {}, {link.path: link}).added == (link.path,)
    assert changes({}, {link.path: link}, {}).removed == (link.path,)
    (led,) = between(link, replace(link, target="b.txt")).how
    assert (led.what, led.before, led.after) == ("target", "a.txt", "b.txt")
    assert "type" in {one.what for one in between(link, replace(PLAIN, path=link.path)).how}


def chowned(pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chown as a capture sees it, whoever runs the tests: a new time of change, and another owner."""
    os.utime(pages / "a.txt", ns=(7, 7))
    real = attributes.seen
    inode = (pages / "a.txt").stat().st_ino

    def seen(found: os.stat_result, path: str) -> tuple[Attributes, bool]:
        kept, whole = real(found, path)
        return (replace(kept, owner=Principal(4321, "ann")) if found.st_ino == inode else kept), whole

    monkeypatch.setattr("refloat.connectors.files.seen", seen)


def relinked(pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pages / "l").unlink()
    (pages / "l").symlink_to("b.txt")


def joined(pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pages / "b.txt").unlink()
    os.link(pages / "a.txt", pages / "b.txt")


@pytest.mark.parametrize(
    ("happens", "expected"),
    [
        (chowned, ("content/a.txt", "owner", "4321 (ann)")),
        (relinked, ("content/l", "target", "b.txt")),
        (joined, ("content/b.txt", "same file as", "content/a.txt")),
    ],
)
def test_two_points_whose_bytes_are_the_same_tell_what_was_done(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    happens: Callable[[Path, pytest.MonkeyPatch], None],
    expected: tuple[str, str, str],
) -> None:
    world = World.small(tmp_path, group="")
    pages = tmp_path / "eu" / "pages"
    for name in ("a.txt", "b.txt"):
        (pages / name).write_text("same")
        os.utime(pages / name, ns=(7, 7))
    (pages / "l").symlink_to("a.txt")
    first = world.protect().name
    happens(pages, monkeypatch)
    second = world.protect().name
    eu = world.vault().replicas["eu"]
    change = diff(read(eu, first), eu, read(eu, second), eu)["pages"]
    path, what, after = expected
    assert (path, what, after) in [(one.path, one.what, one.after) for one in change.how]
    assert change.changed == (path,) and not change.added and not change.removed
