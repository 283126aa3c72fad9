"""Owners, groups, attributes and access lists come back where the restorer may set them, and are told where not."""

from __future__ import annotations

import errno
import io
import os
import pwd
import stat
import struct
import tarfile
from pathlib import Path

import pytest

from refloat import attributes
from refloat.attributes import Attributes, Principal, Withheld
from refloat.contracts import EntryType
from refloat.errors import ConnectorError, Damaged
from refloat.flows.archive import write_archive
from refloat.flows.export import Export, export, parts_of
from refloat.flows.into import Brought, bring, choose
from refloat.testing.world import World
from refloat.vault.anywhere import Anywhere
from refloat.vault.tree import Node, Page, decode_page, encode_page

NOTE = "user.note"
FILE, DEEP = "current.json", "deep"
CHUNK = bytes(32)
USER = pwd.getpwall()[-1]
"""Somebody else than root, whose name and number this system knows."""


def access_list(*, group: int, mask: int) -> bytes:
    """For the owner, user 7, the group, the mask and others."""
    nobody = 0xFFFFFFFF
    entries = (
        (0x01, 6, nobody),
        (0x02, mask, 7),
        (0x04, group, nobody),
        (0x10, mask, nobody),
        (0x20, 0, nobody),
    )
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    return tmp_path / "eu" / "pages"


@pytest.fixture
def world(tmp_path: Path, pages: Path) -> World:
    """A world whose pages have attributes; those without a file system for them are said to be skipped."""
    world = World.small(tmp_path, group="")
    try:
        os.setxattr(pages / FILE, NOTE, b"\xff\x00")
        os.setxattr(pages / DEEP, NOTE, b"folder")
        os.setxattr(pages / FILE, attributes.ACCESS_LIST, access_list(group=4, mask=6))
    except OSError as error:
        pytest.skip(f"EXTENDED ATTRIBUTES NOT TRIED: the file system of {tmp_path} takes none: {error}")
    return world


@pytest.fixture
def owned(world: World, pages: Path) -> World:
    """The same, and its pages belong to somebody."""
    try:
        for path in (pages, pages / FILE, pages / DEEP):
            os.chown(path, USER.pw_uid, 4321)
        (pages / "link").symlink_to(FILE)
        os.chown(pages / "link", USER.pw_uid, 4321, follow_symlinks=False)
    except PermissionError as error:
        pytest.skip(f"OWNERS NOT TRIED: only root may give files away: {error}")
    return world


def brought(world: World, name: str = "out") -> Brought:
    return bring(choose(list(world.vault().replicas.values())), world.root / name, world.clock)


def refuse(*arguments: object, **options: object) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def test_owners_attributes_and_access_lists_come_back(owned: World, pages: Path) -> None:
    owned.protect()
    assert owned.protect().point.components["pages"].carried
    done, into = owned.recover(), brought(owned)
    assert done.ok and not done.remarks and not into.remarks
    for there in (owned.root / "us" / "pages", into.into / "pages" / "content"):
        for path in (there, there / FILE, there / DEEP, there / "link"):
            assert (path.lstat().st_uid, path.lstat().st_gid) == (USER.pw_uid, 4321), path
        assert os.getxattr(there / FILE, NOTE) == b"\xff\x00" and os.getxattr(there / DEEP, NOTE) == b"folder"
        assert os.getxattr(there / FILE, attributes.ACCESS_LIST) == access_list(group=4, mask=6)
        assert stat.S_IMODE((there / FILE).stat().st_mode) == stat.S_IMODE((pages / FILE).stat().st_mode)
        assert (there / FILE).stat().st_mtime_ns == (pages / FILE).stat().st_mtime_ns
        assert (there / "deep" / "page-1.txt").stat().st_uid == os.getuid()


def test_whose_name_is_known_here_gets_it_whatever_its_number_was(
    owned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned.protect()
    moved = pwd.struct_passwd((USER.pw_name, "x", 5555, 5555, "", "/", "/bin/sh"))
    monkeypatch.setattr(attributes.pwd, "getpwnam", lambda name: {USER.pw_name: moved}[name])
    there = brought(owned).into / "pages" / "content"
    assert {(there / path).lstat().st_uid for path in (FILE, DEEP, "link")} == {5555}


def test_what_may_not_be_set_is_told_once_and_the_files_come_all_the_same(
    owned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned.protect()
    for call in ("chown", "fchown", "setxattr"):
        monkeypatch.setattr(attributes.os, call, refuse)
    into = brought(owned)
    withheld = Withheld()
    point = choose(list(owned.vault().replicas.values()))
    wanted = Export(point.name, parts_of(point.point, None, "pages"))
    export(wanted, Anywhere(point.replicas), owned.root / "exported", owned.clock, withheld=withheld)
    done = owned.recover()  # last: what it brings is a new point
    assert done.ok
    for remarks, paths in ((into.remarks, 4), (done.remarks, 4), (tuple(withheld.remarks()), 4)):
        assert len(remarks) == 1 and remarks[0].startswith(
            f"{paths} files and folders came back without access lists,"
        )
        assert "extended attributes, group, owner" in remarks[0] and os.strerror(errno.EPERM) in remarks[0]
    there = into.into / "pages" / "content"
    assert (there / FILE).read_bytes() == (owned.root / "eu" / "pages" / FILE).read_bytes()
    assert (there / FILE).stat().st_uid == os.getuid()
    assert (
        stat.S_IMODE((there / FILE).stat().st_mode) == 0o640
    )  # what the list said of the group, not its mask


def test_an_older_point_without_owners_is_not_taken_for_the_same_and_nothing_is_read_again(
    owned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from refloat.connectors import files

    monkeypatch.setattr(files, "seen", lambda found, path: (Attributes(), True))
    owned.protect()
    monkeypatch.undo()
    monkeypatch.setattr(files, "HashedFile", refuse)
    made = owned.protect().point.components["pages"]
    assert not made.carried and made.new_bytes < 20_000  # pages of folders alone
    there = brought(owned).into / "pages" / "content"
    assert (there / FILE).stat().st_uid == USER.pw_uid and os.getxattr(there / FILE, NOTE) == b"\xff\x00"


def test_what_could_not_be_set_before_an_export_was_stopped_is_set_when_it_goes_on(
    owned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned.protect()
    chosen, into = choose(list(owned.vault().replicas.values())), owned.root / "exported"
    wanted = Export(chosen.name, parts_of(chosen.point, None, "pages"))
    monkeypatch.setattr(attributes.os, "fchown", refuse)
    with pytest.raises(ConnectorError):
        export(
            wanted, Anywhere(chosen.replicas), into, owned.clock, ready=refuse
        )  # stopped when all is there
    monkeypatch.undo()
    withheld = Withheld()
    done = export(wanted, Anywhere(chosen.replicas), into, owned.clock, withheld=withheld)
    assert done["pages"].kept == done["pages"].files and not withheld.remarks()
    assert (into / "pages" / "content" / FILE).stat().st_uid == USER.pw_uid


@pytest.mark.parametrize("path", ["", FILE, DEEP])
def test_a_change_of_attributes_alone_is_captured(world: World, pages: Path, path: str) -> None:
    first = world.protect().point.components["pages"]
    os.setxattr(pages / path, "user.more", b"1")
    second = world.protect().point.components["pages"]
    assert not second.carried and second.identity == first.identity
    assert os.getxattr(brought(world).into / "pages" / "content" / path, "user.more") == b"1"


def test_more_than_is_kept_is_left_out_and_named_in_the_point(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attributes, "ATTRIBUTES_MAX", 1)
    made = world.protect().point.components["pages"]
    assert made.position == {"left_out": {"attributes": 1, "attributes_of": [FILE]}}


def test_nothing_is_kept_that_makes_whoever_runs_a_file_more_than_they_are() -> None:
    assert attributes.may_be_kept(NOTE) and attributes.may_be_kept(attributes.ACCESS_LIST)
    assert not attributes.may_be_kept("security.capability") and not attributes.may_be_kept("trusted.x")


def test_an_archive_holds_owners_and_attributes(owned: World) -> None:
    owned.protect()
    chosen, out = choose(list(owned.vault().replicas.values())), io.BytesIO()
    wanted = Export(chosen.name, parts_of(chosen.point, None, "pages"))
    write_archive(wanted, Anywhere(chosen.replicas), out, owned.clock)
    out.seek(0)
    with tarfile.open(fileobj=out, errors="surrogateescape") as archive:
        told = archive.getmember(f"pages/content/{FILE}")
        assert (told.uid, told.uname, told.gid, told.gname) == (USER.pw_uid, USER.pw_name, 4321, "")
        assert os.fsencode(told.pax_headers[f"SCHILY.xattr.{NOTE}"]) == b"\xff\x00"
        plain = archive.getmember("pages/content/deep/page-1.txt")
        assert (plain.uid, plain.uname) == (os.getuid(), "") and plain.isreg()


# ------------------------------------------------------------------------------------------ the stored page


def test_a_folder_of_root_without_attributes_is_stored_as_it_always_was() -> None:
    file = Node(b"f", EntryType.FILE, 0o644, 5, 3, (b"c" * 32,), 1, "t")
    assert encode_page(Page((file,))) == (
        b'{"entries":[{"chunks":"Y2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2M=","mode":420,"mtime_ns":5,"name":"Zg==",'
        b'"segmenter":1,"size":3,"token":"t","type":"file"}],"format":1,"next":null}'
    )
    kept = Attributes(Principal(7, "ml"), Principal(8, ""), (("user.a", b""), ("user.b", b"1")))
    others = [
        Node(b"d", EntryType.DIRECTORY, 0o755, 1, tree=CHUNK, attributes=kept),
        Node(b"e", EntryType.FIFO, 0o600, 1, attributes=Attributes(group=Principal(1, "daemon"))),
        Node(b"f", EntryType.FILE, 0o644, 5, attributes=kept, link=b"a"),
        Node(b"s", EntryType.SYMLINK, target=b"f", attributes=Attributes(Principal(7, "ml"))),
    ]
    stored = encode_page(Page(tuple(others)))
    assert b'"format":3' in stored and decode_page(stored, what="page") == Page(tuple(others))


@pytest.mark.parametrize(
    "kept",
    [
        Attributes(Principal(2**32 - 1, "nobody")),
        Attributes(Principal(-1)),
        Attributes(Principal(1, "a\0b")),
        Attributes(Principal(1, "\ud800")),
        Attributes(Principal(1, "a" * 257)),
        Attributes(xattrs=(("trusted.overlay.opaque", b"y"),)),
        Attributes(xattrs=(("user.a\0b", b"y"),)),
        Attributes(xattrs=((f"user.{'a' * 251}", b"y"),)),
        Attributes(xattrs=(("user.large", bytes(2**16)),)),
        Attributes(xattrs=tuple((f"user.{number:02}", b"") for number in range(65))),
    ],
    ids=str,
)
def test_attributes_that_none_would_capture_are_damage(kept: Attributes) -> None:
    node = Node(b"f", EntryType.FILE, 0o644, attributes=kept)
    with pytest.raises(Damaged):
        decode_page(encode_page(Page((node,))), what="page")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"format":3', b'"format":2'),
        (b'"owner":[7,"ml"]', b'"owner":[7]'),
        (b'"owner":[7,"ml"]', b'"owner":[true,"ml"]'),
        (b'"owner":[7,"ml"]', b'"owner":null'),
        (b'"xattrs":{"user.a":"AA=="}', b'"xattrs":{}'),
        (b'"xattrs":{"user.a":"AA=="}', b'"xattrs":{"user.a":"AB=="}'),
        (b'"xattrs":{"user.a":"AA=="}', b'"xattrs":[]'),
    ],
)
def test_a_page_that_states_them_otherwise_is_damage(before: bytes, after: bytes) -> None:
    kept = Attributes(Principal(7, "ml"), xattrs=(("user.a", b"\0"),))
    stored = encode_page(Page((Node(b"f", EntryType.FILE, 0o644, attributes=kept),)))
    assert before in stored
    with pytest.raises(Damaged):
        decode_page(stored.replace(before, after), what="page")
