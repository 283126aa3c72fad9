"""Staging beside what is live: atomic, remembered, and safe to cut at every step and repeat."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refloat import durable
from refloat.connectors import beside as module
from refloat.connectors.beside import Beside, fingerprint, is_own_name, marker_of
from refloat.contracts import Observed, Op, Place, Settings
from refloat.durable import partial_of
from refloat.errors import ConnectorError, Retry

MARKER = {"schema": 1, "point": "p1", "component": "index", "run": "r1", "epoch": 3, "token": "t1"}
STEPS = ("_rename", "_exchange", "_write_document", "_sync_folder", "_remove")


class Cut(BaseException):
    """The process dies here."""


class Saw:
    """Cuts the process before or after the ``at``-th step that changes the disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at: int | None = None
        self.count = 0
        for name in STEPS:
            monkeypatch.setattr(module, name, self._guard(getattr(module, name)))
        monkeypatch.setattr(durable, "sync_folder", self._guard(durable.sync_folder))  # within replace_file
        monkeypatch.setattr(module.Path, "unlink", self._guard(Path.unlink))
        monkeypatch.setattr(os, "fsync", lambda handle: None)  # a cut process does not lose its page cache
        monkeypatch.setattr(module, "_sync_file_system", lambda path: None)

    def _guard(self, step: Callable[..., object]) -> Callable[..., object]:
        def guarded(*arguments: object, **named: object) -> object:
            self._tick()
            result = step(*arguments, **named)
            self._tick()
            return result

        return guarded

    def _tick(self) -> None:
        self.count += 1
        if self.at == self.count:
            raise Cut

    def cuts(self, act: Callable[[], None], at: int) -> bool:
        """Do it with a cut at step ``at``; whether the cut came."""
        self.at, self.count = at, 0
        try:
            act()
        except Cut:
            return True
        finally:
            self.at = None
        return False


@pytest.fixture
def saw(monkeypatch: pytest.MonkeyPatch) -> Saw:
    return Saw(monkeypatch)


@pytest.fixture(params=["exchange", "two renames"])
def renames(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "two renames":
        monkeypatch.setattr(module, "_exchange", lambda one, other: False)
    return str(request.param)


def write_folder(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        (path / "deep").mkdir(parents=True)
        (path / "deep" / "file").write_text(text)

    return write


def write_file(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(text) and None


WRITERS = {"folder": write_folder, "file": write_file}


def text_of(path: Path) -> str | None:
    file = path / "deep" / "file" if path.is_dir() else path
    return file.read_text() if file.exists() else None


def staged(tmp_path: Path, kind: str = "folder", before: str | None = "file", token: str = "t1") -> Beside:
    """A whole staged ``new`` beside a live ``old``, or beside nothing."""
    shutil.rmtree(tmp_path, ignore_errors=True)
    live = tmp_path / "region" / "index"
    live.parent.mkdir(parents=True)
    if before:
        WRITERS[before]("old")(live)
        live.with_name("index-wal").write_text("old log")
    place = Beside(live, token, companions=("-wal",))
    place.stage(WRITERS[kind]("new"))
    return place


def companion(place: Beside) -> str | None:
    path = place.live.with_name("index-wal")
    return path.read_text() if path.exists() else None


def left_over(place: Beside) -> list[str]:
    return sorted(
        path.name for path in place.live.parent.iterdir() if path.name.startswith(".index.refloat-")
    )


KINDS = [("folder", "folder"), ("file", "file"), ("file", "folder"), ("folder", None), ("file", None)]


@pytest.mark.parametrize(("kind", "before"), KINDS)
def test_switch_revert_and_discard_do_what_they_say(
    tmp_path: Path, renames: str, kind: str, before: str | None
) -> None:
    place = staged(tmp_path / "w", kind, before)
    old = "old" if before else None
    assert (text_of(place.live), text_of(place.staged)) == (old, "new")
    place.switch(MARKER)
    assert (text_of(place.live), text_of(place.previous)) == ("new", old)
    assert companion(place) is None
    assert place.holder() == "p1"
    place.revert()
    assert (text_of(place.live), text_of(place.staged)) == (old, "new")
    assert companion(place) == ("old log" if before else None)
    assert place.holder() == ("" if before else None)
    place.discard()
    assert left_over(place) == []
    assert text_of(place.live) == old


@pytest.mark.parametrize(("kind", "before"), KINDS)
def test_a_switch_cut_anywhere_loses_nothing_and_is_finished_by_repeating_it(
    tmp_path: Path, renames: str, saw: Saw, kind: str, before: str | None
) -> None:
    for at in itertools.count(1):
        place = staged(tmp_path / "w", kind, before)
        cut = saw.cuts(lambda place=place: place.switch(MARKER), at)
        contents = {text_of(path) for path in (place.live, place.staged, place.previous)}
        assert contents >= {"new", "old" if before else None} - {None}
        if renames == "exchange":
            assert text_of(place.live) in ("new", "old" if before else None)
        if cut:
            assert place.observe() in (Observed.STAGED, Observed.PARTIAL, Observed.ACTIVE)
        place = Beside(place.live, "t1", companions=("-wal",))
        place.switch(MARKER)
        assert place.observe() is Observed.ACTIVE
        assert (text_of(place.live), companion(place)) == ("new", None)
        assert place.holder() == "p1"
        place.discard()
        assert left_over(place) == []
        if not cut:
            break
    assert at > 10


@pytest.mark.parametrize(("kind", "before"), KINDS)
def test_what_observe_calls_active_needs_no_repeating(
    tmp_path: Path, renames: str, saw: Saw, kind: str, before: str | None
) -> None:
    for at in itertools.count(1):
        place = staged(tmp_path / "w", kind, before)
        cut = saw.cuts(lambda place=place: place.switch(MARKER), at)
        if place.observe() is Observed.ACTIVE:
            assert (text_of(place.live), companion(place), place.holder()) == ("new", None, "p1")
            place.revert()
            assert text_of(place.live) == ("old" if before else None)
        if not cut:
            break


@pytest.mark.parametrize("undo", ["revert", "discard"])
@pytest.mark.parametrize(("kind", "before"), KINDS)
def test_a_switch_cut_anywhere_can_be_undone(
    tmp_path: Path, renames: str, saw: Saw, kind: str, before: str | None, undo: str
) -> None:
    for at in itertools.count(1):
        place = staged(tmp_path / "w", kind, before)
        cut = saw.cuts(lambda place=place: place.switch(MARKER), at)
        switched = place.observe() is Observed.ACTIVE
        for _ in range(2):
            getattr(place, undo)()
        kept = "new" if switched and undo == "discard" else "old" if before else None
        assert text_of(place.live) == kept
        if kept == "old":
            assert companion(place) == "old log"
            assert place.holder() == ""
        if undo == "discard":
            assert left_over(place) == []
        if not cut:
            break


@pytest.mark.parametrize("then", ["revert", "switch", "discard"])
@pytest.mark.parametrize(("kind", "before"), KINDS)
def test_a_revert_cut_anywhere_is_finished_whatever_comes_next(
    tmp_path: Path, renames: str, saw: Saw, kind: str, before: str | None, then: str
) -> None:
    old = "old" if before else None
    for at in itertools.count(1):
        place = staged(tmp_path / "w", kind, before)
        place.switch(MARKER)
        place.live.with_name("index-wal").write_text("new log")
        cut = saw.cuts(place.revert, at)
        if then == "switch":
            place.switch(MARKER)
            assert (text_of(place.live), companion(place), place.holder()) == ("new", "new log", "p1")
            place.revert()
        elif then == "revert" or place.observe() is Observed.ACTIVE:
            place.revert()
        else:
            place.discard()
            assert left_over(place) == []
        assert text_of(place.live) == old
        assert companion(place) == ("old log" if before else None)
        assert place.holder() == ("" if before else None)
        if not cut:
            break


@pytest.mark.parametrize("switched", [False, True], ids=["staged", "switched"])
def test_a_discard_cut_anywhere_is_finished_by_repeating_it(tmp_path: Path, saw: Saw, switched: bool) -> None:
    for at in itertools.count(1):
        place = staged(tmp_path / "w", "folder", "folder")
        if switched:
            place.switch(MARKER)
        cut = saw.cuts(place.discard, at)
        assert text_of(place.live) == ("new" if switched else "old")
        assert place.observe() is not Observed.STAGED or not cut or at == 1 or place.done.exists()
        place.discard()
        assert place.observe() is (Observed.ACTIVE if switched else Observed.ABSENT)
        assert text_of(place.live) == ("new" if switched else "old")
        assert left_over(place) == []
        if not cut:
            break


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.sampled_from(KINDS),
    exchange=st.booleans(),
    steps=st.lists(st.tuples(st.sampled_from(["switch", "revert"]), st.integers(1, 60)), max_size=6),
)
def test_any_history_of_cut_switches_and_reverts_ends_where_the_last_whole_one_leads(
    tmp_path: Path, kinds: tuple[str, str | None], exchange: bool, steps: list[tuple[str, int]]
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        saw = Saw(monkeypatch)
        if not exchange:
            monkeypatch.setattr(module, "_exchange", lambda one, other: False)
        place = staged(tmp_path / "w", *kinds)
        acts = {"switch": lambda: place.switch(MARKER), "revert": place.revert}
        for name, at in steps:
            saw.cuts(acts[name], at)
        place.switch(MARKER)
        assert (text_of(place.live), place.holder(), companion(place)) == ("new", "p1", None)
        place.revert()
        place.discard()
        assert (text_of(place.live), left_over(place)) == ("old" if kinds[1] else None, [])
        assert companion(place) == ("old log" if kinds[1] else None)


def test_what_was_not_declared_complete_is_partial_and_written_again(tmp_path: Path) -> None:
    place = Beside(tmp_path / "region" / "index", "t1")
    assert place.prepare()
    write_folder("half")(place.staged)
    assert place.observe() is Observed.PARTIAL
    with pytest.raises(ConnectorError):
        place.switch(MARKER)
    place.stage(write_folder("whole"))
    assert place.observe() is Observed.STAGED
    assert text_of(place.staged) == "whole"


def test_staging_again_writes_nothing_when_it_is_whole(tmp_path: Path) -> None:
    place = staged(tmp_path / "w")
    place.stage(lambda path: pytest.fail("it was whole"))
    place.switch(MARKER)
    place.stage(lambda path: pytest.fail("it is live"))
    assert text_of(place.live) == "new"


def test_what_was_staged_and_removed_by_hand_is_staged_again(tmp_path: Path) -> None:
    place = staged(tmp_path / "w")
    shutil.rmtree(place.staged)
    assert place.observe() is Observed.PARTIAL
    place.stage(write_folder("again"))
    place.switch(MARKER)
    assert text_of(place.live) == "again"


def test_staging_again_after_a_revert_starts_from_the_snapshot(tmp_path: Path) -> None:
    place = staged(tmp_path / "w")
    place.switch(MARKER)
    (place.live / "deep" / "file").write_text("changed while live")
    place.revert()
    place.stage(write_folder("new"))
    assert text_of(place.staged) == "new"
    assert place.observe() is Observed.STAGED


def test_what_lies_aside_survives_a_program_that_replaces_its_own_file(tmp_path: Path) -> None:
    place = staged(tmp_path / "w", "file", "file")
    place.switch(MARKER)
    replacement = place.live.with_name("replacement")
    replacement.write_text("written by the program")
    replacement.replace(place.live)
    assert place.observe() is Observed.ACTIVE
    assert place.holder() == ""
    place.revert()
    assert text_of(place.live) == "old"
    assert text_of(place.staged) == "written by the program"


def test_a_stranger_at_the_live_path_is_not_moved_by_a_resumed_switch(tmp_path: Path, saw: Saw) -> None:
    place = staged(tmp_path / "w", "folder", None)
    saw.cuts(lambda: place.switch(MARKER), 4)  # after the record, before the rename
    assert text_of(place.live) is None
    write_folder("stranger")(place.live)
    for act in (lambda: place.switch(MARKER), place.revert):
        with pytest.raises(ConnectorError, match="something else"):
            act()
    assert text_of(place.live) == "stranger"


def test_a_marker_does_not_count_for_what_took_the_place(tmp_path: Path) -> None:
    place = staged(tmp_path / "w", "folder", None)
    place.switch(MARKER)
    shutil.rmtree(place.live)
    assert place.holder() is None
    write_folder("theirs")(place.live)  # the file system may give it the same inode
    assert place.holder() == ""


def test_a_marker_does_not_count_for_another_file_with_the_same_inode(tmp_path: Path) -> None:
    place = staged(tmp_path / "w", "file", None)
    place.switch(MARKER)
    inode = place.live.stat().st_ino
    place.live.unlink()
    for _ in range(100):
        place.live.write_text("theirs")
        if place.live.stat().st_ino == inode:
            assert place.holder() == ""
            return
        place.live.rename(tmp_path / f"other-{place.live.stat().st_ino}")
    assert place.holder() is None  # this file system does not give an inode away again so soon


def test_reverting_gives_the_place_back_to_the_point_that_held_it(tmp_path: Path, saw: Saw) -> None:
    for at in itertools.count(1):
        first = staged(tmp_path / "w")
        first.switch(MARKER)
        second = Beside(first.live, "t2", companions=("-wal",))
        second.stage(write_folder("newer"))
        second.switch({**MARKER, "token": "t2", "point": "p2", "epoch": 4})
        assert (first.holder(), text_of(first.live)) == ("p2", "newer")
        cut = saw.cuts(second.revert, at)
        second.revert()
        assert (first.holder(), text_of(first.live), first.observe()) == ("p1", "new", Observed.ACTIVE)
        if not cut:
            break


def test_a_marker_that_cannot_be_read_marks_nothing(tmp_path: Path) -> None:
    place = staged(tmp_path / "w")
    place.switch(MARKER)
    place.marker.write_text('{"point": "p')
    assert place.holder() == ""


def test_a_record_that_cannot_be_read_is_unknown_and_nothing_is_moved(tmp_path: Path) -> None:
    place = staged(tmp_path / "w")
    for torn in ("{", '{"state": "nowhere"}', '{"state": "switched"}'):
        place.done.write_text(torn)
        assert place.observe() is Observed.UNKNOWN
        for act in (lambda: place.switch(MARKER), place.revert, place.discard, place.prepare):
            with pytest.raises(ConnectorError):
                act()
    assert text_of(place.live) == "old"


@pytest.mark.parametrize(("epoch", "run", "refused"), [(2, "r2", True), (2, "r1", True), (3, "r2", False)])
def test_an_epoch_that_is_over_is_refused(tmp_path: Path, epoch: int, run: str, refused: bool) -> None:
    first = staged(tmp_path / "w")
    first.switch(MARKER)
    second = Beside(first.live, "t2")
    second.stage(write_folder("newer"))
    marker = {**MARKER, "epoch": epoch, "run": run, "token": "t2", "point": "p2"}
    if refused:
        with pytest.raises(ConnectorError, match="epoch"):
            second.switch(marker)
        assert (text_of(first.live), second.observe()) == ("new", Observed.STAGED)
    else:
        second.switch(marker)
        assert (text_of(first.live), first.holder()) == ("newer", "p2")


def test_an_older_operation_does_not_claim_what_a_newer_one_made_live(tmp_path: Path) -> None:
    first = staged(tmp_path / "w")
    first.switch(MARKER)
    second = Beside(first.live, "t2")
    second.stage(write_folder("newer"))
    second.switch({**MARKER, "token": "t2", "epoch": 4})
    assert first.observe() is Observed.UNKNOWN
    assert second.observe() is Observed.ACTIVE


def test_what_was_live_before_cannot_come_back_once_discarded(tmp_path: Path) -> None:
    place = staged(tmp_path / "w")
    place.switch(MARKER)
    place.discard()
    place.switch(MARKER)
    with pytest.raises(ConnectorError, match="discarded"):
        place.revert()
    assert text_of(place.live) == "new"


def test_reverting_what_was_never_switched_changes_nothing(tmp_path: Path) -> None:
    place = staged(tmp_path / "w")
    place.revert()
    assert (text_of(place.live), place.observe()) == ("old", Observed.STAGED)
    Beside(place.live, "other").revert()
    assert text_of(place.live) == "old"


def test_nothing_staged_is_an_error_and_not_an_empty_folder(tmp_path: Path) -> None:
    place = Beside(tmp_path / "index", "t1")
    with pytest.raises(ConnectorError):
        place.stage(lambda path: None)
    with pytest.raises(ConnectorError):
        place.switch(MARKER)


def test_read_only_folders_are_removed_with_the_rest(tmp_path: Path) -> None:
    place = staged(tmp_path / "w")
    (place.staged / "deep").chmod(0o555)
    place.discard()
    assert left_over(place) == []


@pytest.mark.parametrize("token", ["../../etc", "a/b", "", "x" * 300, "step:7"])
def test_a_token_never_leads_out_of_the_folder(tmp_path: Path, token: str) -> None:
    place = Beside(tmp_path / "index", token)
    assert place.staged.parent == tmp_path
    assert len(place.staged.name) < 120
    assert place.staged != Beside(tmp_path / "index", token + "2").staged


def test_refloats_own_names_are_known(tmp_path: Path) -> None:
    place = staged(tmp_path / "w")
    for path in (place.staged, place.done, place.previous, place.marker):
        assert is_own_name(path.name)
    assert not any(
        is_own_name(name) for name in ("index", "refloat.yaml", ".refloat.json", ".env", "a.refloat-b")
    )


def test_the_marker_names_point_run_and_epoch(tmp_path: Path) -> None:
    op = Op(Place("index", "us", Settings()), run="r9", token="t9", epoch=5, scratch=tmp_path)
    assert marker_of(op)["point"] == "r9"
    op.memory["point"] = "p9"
    place = staged(tmp_path / "w")
    place.switch(marker_of(op))
    written = json.loads(place.marker.read_text())
    assert written["live"] == fingerprint(place.live)
    assert {key: written[key] for key in ("point", "component", "run", "epoch", "token")} == {
        "point": "p9",
        "component": "index",
        "run": "r9",
        "epoch": 5,
        "token": "t9",
    }


def test_a_mount_point_is_an_error_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = staged(tmp_path / "w")

    def busy(one: Path, other: Path) -> bool:
        raise OSError(16, os.strerror(16), str(other))

    monkeypatch.setattr(module, "_exchange", busy)
    with pytest.raises(ConnectorError) as caught:
        place.switch(MARKER)
    assert "mount point" in str(caught.value.next)
    assert text_of(place.live) == "old"


def test_a_mount_point_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "index")
    with pytest.raises(ConnectorError, match="staging") as caught:
        Beside(tmp_path / "index", "t1").stage(lambda path: pytest.fail("it was written"))
    assert "mount point" in str(caught.value.next)


LIES_THERE: dict[str, Callable[[Path, Path], object]] = {
    "link": lambda path, outside: path.symlink_to(outside),
    "dangling link": lambda path, outside: path.symlink_to("nowhere"),
    "link to itself": lambda path, outside: path.symlink_to(path.name),
    "file": lambda path, outside: path.write_text("theirs"),
    "folder": lambda path, outside: shutil.copytree(outside, path),
    "pipe": lambda path, outside: os.mkfifo(path),
}


@pytest.mark.parametrize("there", LIES_THERE)
def test_whatever_lies_at_the_live_path_is_foreign_and_comes_back_after_a_revert(  # fault 43
    tmp_path: Path, there: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    live = tmp_path / "region" / "index"
    live.parent.mkdir()
    LIES_THERE[there](live, outside)
    before = live.lstat()
    place = Beside(live, "t1")
    assert place.holder() == ""
    place.stage(write_folder("new"))
    place.switch(MARKER)
    assert text_of(live) == "new"
    place.revert()
    place.discard()
    assert os.path.samestat(live.lstat(), before)
    assert [path.name for path in live.parent.iterdir()] == ["index"]
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"kept": "kept"}


@pytest.mark.parametrize("there", ["link", "dangling link", "folder", "pipe"])
def test_nothing_is_read_or_written_through_what_lies_where_our_own_files_go(  # fault 60
    tmp_path: Path, there: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    place = Beside(tmp_path / "region" / "index", "t1")
    place.live.parent.mkdir()
    for path in (place.staged, place.previous, partial_of(place.done), partial_of(place.marker)):
        if there != "folder" or path in (place.staged, place.previous):
            LIES_THERE[there](path, outside)
    if there != "folder":
        LIES_THERE[there](place.marker, outside / "kept")
    assert place.holder() is None
    place.stage(write_folder("new"))
    place.switch(MARKER)
    assert (text_of(place.live), place.holder()) == ("new", "p1")
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"kept": "kept"}


def test_what_did_not_reach_the_disk_is_not_staged_and_is_written_anew(  # fault 14
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Beside(tmp_path / "index", "t1")
    real, inodes = module._sync_file_system, []

    def write(path: Path) -> None:
        path.write_text("new")
        inodes.append(path.stat().st_ino)

    def broken(path: Path) -> None:
        monkeypatch.setattr(module, "_sync_file_system", real)
        (tmp_path / "another").write_text("keeps the inode from being given out again")
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(module, "_sync_file_system", broken)
    with pytest.raises(ConnectorError) as caught:
        place.stage(write)
    assert caught.value.retry is Retry.LATER
    assert place.observe() is Observed.PARTIAL
    place.stage(write)
    assert (len(inodes), place.observe()) == (2, Observed.STAGED)


@pytest.fixture(autouse=True)
def no_handle_is_left_open() -> Iterator[None]:
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


def test_what_is_set_aside_stays_with_its_companions_however_often_it_is_asked(tmp_path) -> None:
    live = tmp_path / "ledger.db"
    live.write_text("theirs")
    (tmp_path / "ledger.db-wal").write_text("their log")
    beside = Beside(live, "t1", companions=("-wal",))
    beside.stage(lambda staged: staged.write_text("ours") and None)
    beside.switch({"run": "r", "epoch": 1, "point": "p", "token": "t1"})
    kept = beside.set_aside()
    assert [path.read_text() for path in kept] == ["theirs", "their log"]
    assert beside.set_aside() == kept
    beside.discard()
    assert beside.set_aside() == kept
    assert [path.read_text() for path in kept] == ["theirs", "their log"]
    Beside(live, "t2", companions=("-wal",)).discard()
    assert live.read_text() == "ours" and all(path.exists() for path in kept)


def test_nothing_is_set_aside_where_nothing_was(tmp_path) -> None:
    beside = Beside(tmp_path / "ledger.db", "t1")
    beside.stage(lambda staged: staged.write_text("ours") and None)
    beside.switch({"run": "r", "epoch": 1, "point": "p", "token": "t1"})
    assert beside.set_aside() == []


LONG_NAMES = ["n" * 240, "n" * 255, "\u2603" * 84, "n" * 151, os.fsdecode(b"\xff" * 240)]


@pytest.mark.parametrize("name", LONG_NAMES, ids=["240", "255", "of snowmen", "151", "not UTF-8"])
@pytest.mark.parametrize("token", ["t1", "t" * 64])
def test_a_long_name_is_staged_switched_reverted_and_discarded_like_any_other(
    tmp_path: Path, name: str, token: str
) -> None:
    live = tmp_path / name
    live.write_text("old")
    beside = Beside(live, token)
    beside.try_names()
    beside.stage(lambda staged: staged.write_text("new") and None)
    beside.switch({**MARKER, "token": token})
    assert (live.read_text(), beside.observe(), beside.holder()) == ("new", Observed.ACTIVE, "p1")
    assert all(path == live or is_own_name(path.name) for path in tmp_path.iterdir())
    beside.revert()
    beside.discard()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_names_that_begin_alike_stay_apart_and_short_ones_are_as_they_were(tmp_path: Path) -> None:
    one, other = (Beside(tmp_path / ("n" * 200 + end), "t1").staged for end in "ab")
    assert one != other
    assert Beside(tmp_path / ("n" * 150), "t1").staged.name == f".{'n' * 150}.refloat-t1"


def test_a_file_system_that_takes_no_such_names_is_told_before_anything_is_staged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lstat = Path.lstat

    def short(path: Path) -> os.stat_result:
        if len(path.name) > 143:  # as eCryptfs does
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", short)
    Beside(tmp_path / "index", "t1").try_names()
    with pytest.raises(ConnectorError, match="does not take the name") as caught:
        Beside(tmp_path / ("n" * 100), "t1").try_names()
    assert caught.value.file == str(tmp_path / ("n" * 100)) and not list(tmp_path.iterdir())
