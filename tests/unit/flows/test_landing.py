"""A folder that is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from refloat.durable import partial_of
from refloat.errors import ConnectorError, RefloatError, Refused, StoreError, UsageError, VaultError
from refloat.flows.filled_with import MARKER
from refloat.flows.landing import landing, place

WHAT = {"point": "3f2a", "components": ["models"]}


def test_what_was_filled_is_there_when_it_is_whole_and_not_before(tmp_path: Path) -> None:  # fault 18
    into = tmp_path / "out"
    with landing(into, WHAT) as folder:
        (folder / "a").write_text("a")
        assert not into.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (into / "a").read_text() == "a"
    assert into.stat().st_mode & 0o777 == 0o700, "what was captured may be secret"


def test_an_empty_folder_is_filled_and_keeps_its_mode(tmp_path: Path) -> None:
    into = tmp_path / "out"
    into.mkdir()
    into.chmod(0o2750)
    with landing(into, WHAT) as folder:
        (folder / "a").touch()
    assert into.stat().st_mode & 0o7777 == 0o2750
    assert (into / "a").exists()


@pytest.mark.parametrize("what", ["file", "hidden", "folder"])
def test_a_place_that_holds_anything_is_refused_and_left_alone(tmp_path: Path, what: str) -> None:
    # fault 43
    into = tmp_path / "out"
    if what == "file":
        into.write_text("mine")
    else:
        (into / (".hidden" if what == "hidden" else "below")).mkdir(parents=True)
    for enter in (lambda: place(str(into)), lambda: landing(into, WHAT).__enter__()):
        with pytest.raises(Refused) as refused:
            enter()
        assert refused.value.rule == "into_occupied"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_nothing_is_left_where_it_fails_not_even_what_may_not_be_written(tmp_path: Path) -> None:  # fault 13
    into = tmp_path / "out"
    with pytest.raises(ZeroDivisionError), landing(into, WHAT) as folder:
        (folder / "closed").mkdir()
        (folder / "closed" / "a").touch()
        (folder / "closed").chmod(0o500)
        (folder / "link").symlink_to("/")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_taken_away_by_the_next(tmp_path: Path) -> None:  # fault 18
    into, kept = tmp_path / "out", tmp_path / "kept"
    kept.mkdir()
    (kept / "a").touch()
    left = partial_of(into)
    (left / "closed").mkdir(parents=True)
    (left / "closed" / "half").touch()
    (left / "closed").chmod(0o000)
    (left / "link").symlink_to(kept)
    with landing(into, WHAT) as folder:
        assert [path.name for path in folder.iterdir()] == [MARKER]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "out"]
    assert (kept / "a").exists(), "a link is removed and not followed"


@pytest.mark.parametrize("ended", [KeyboardInterrupt(), StoreError("away"), VaultError("damaged")])
def test_what_was_stopped_is_gone_on_with_by_the_same_and_by_nothing_else(  # fault 31
    tmp_path: Path, ended: BaseException
) -> None:
    into = tmp_path / "out"
    with pytest.raises(type(ended)), landing(into, WHAT) as folder:
        (folder / "closed").mkdir()
        (folder / "closed" / "a").touch()
        (folder / "closed").chmod(0o500)
        raise ended
    assert not into.exists()
    with pytest.raises(ZeroDivisionError), landing(into, WHAT) as folder:
        assert (folder / "closed" / "a").exists()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(type(ended)), landing(into, WHAT) as folder:
        (folder / "a").touch()
        raise ended
    with landing(into, {**WHAT, "point": "another"}) as folder:
        assert not (folder / "a").exists()
    assert list(into.iterdir()) == []


def test_a_folder_that_was_stopped_and_is_whole_in_the_end_says_nothing_of_it(tmp_path: Path) -> None:
    into = tmp_path / "out"
    with pytest.raises(RefloatError), landing(into, WHAT) as folder:
        (folder / "a").touch()
        raise StoreError("away")
    with landing(into, WHAT) as folder:
        (folder / "b").touch()
    assert sorted(path.name for path in into.iterdir()) == ["a", "b"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_at_once_do_not_fill_the_same_folder(tmp_path: Path) -> None:  # fault 18
    into = tmp_path / "out"
    with landing(into, WHAT) as folder:
        (folder / "a").touch()
        with pytest.raises(Refused, match="another process"), landing(into, WHAT):
            pass
        assert (folder / "a").exists()
    assert (into / "a").exists()


def test_what_somebody_else_put_there_meanwhile_stays(tmp_path: Path) -> None:
    into = tmp_path / "out"
    with pytest.raises(Refused, match="meanwhile"), landing(into, WHAT) as folder:
        (folder / "a").touch()
        into.mkdir()
        (into / "mine").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine"]


def test_a_link_in_place_of_the_partial_folder_is_not_followed(tmp_path: Path) -> None:  # fault 60
    into, theirs = tmp_path / "out", tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "a").touch()
    partial_of(into).symlink_to(theirs)
    with pytest.raises(Refused), landing(into, WHAT):
        pass
    assert (theirs / "a").exists()


def test_a_parent_that_cannot_be_written_is_told_with_the_place(tmp_path: Path) -> None:
    long = tmp_path / ("n" * 256)  # a name for which there is no room
    with pytest.raises(ConnectorError, match="cannot write") as failed, landing(long, WHAT):
        pass
    assert failed.value.file == str(long)
    assert failed.value.next
    assert list(tmp_path.iterdir()) == []


def test_a_long_name_is_none_too_long_for_the_folder_that_is_filled(tmp_path: Path) -> None:
    long = tmp_path / ("n" * 250)
    with landing(long, WHAT) as folder:
        (folder / "file").write_text("here")
    assert [path.name for path in tmp_path.iterdir()] == [long.name]
    assert (long / "file").read_text() == "here"


@pytest.mark.parametrize(("named", "hint"), [("", "variable"), (".", "recovered"), ("no/x", "mkdir")])
def test_a_place_that_no_folder_can_be_renamed_to_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as wrong:
        place(named)
    assert hint in str(wrong.value.next)


def test_a_link_that_a_person_names_leads_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    assert place(str(tmp_path / "link")) == tmp_path / "disk"
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(Refused, match="not a folder"):
        place(str(tmp_path / "loop"))
