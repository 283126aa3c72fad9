"""Rewriting addresses: what is a prefix and what only looks like one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat.connectors.mlflow_addresses import Prefixes, local_path, rewrite_database
from refloat.errors import ConnectorError

EU, US = "/srv/eu/models", "/srv/us/models"
MOVED = Prefixes.of({EU: US, "s3://models-eu/": "s3://models-us/"})
names = st.text("abcdefgh0123456789-_", min_size=1, max_size=8)
tails = st.lists(names, max_size=3).map(lambda parts: "".join(f"/{part}" for part in parts))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/srv/eu/models", "/srv/us/models"),
        ("/srv/eu/models/1/a", "/srv/us/models/1/a"),
        ("file:///srv/eu/models/1", "file:///srv/us/models/1"),
        ("s3://models-eu", "s3://models-us"),
        ("s3://models-eu/1", "s3://models-us/1"),
        ("/srv/eu/models2/1", "/srv/eu/models2/1"),
        ("/srv/eu/models.old", "/srv/eu/models.old"),
        ("s3://models-eu2/1", "s3://models-eu2/1"),
        ("/backup/srv/eu/models", "/backup/srv/eu/models"),
        ("models:/m-1", "models:/m-1"),
        ("", ""),
    ],
)
def test_a_prefix_is_replaced_where_a_part_of_the_path_ends(before: str, after: str) -> None:
    assert MOVED.rewrite(before) == after


@given(tails)
def test_whatever_lies_below_the_old_root_lies_below_the_new_one(tail: str) -> None:
    assert MOVED.rewrite(EU + tail) == US + tail
    assert not MOVED.remain_in(MOVED.rewrite(EU + tail))
    assert MOVED.remain_in(f"see {EU}{tail}")


@given(names)
def test_a_longer_name_is_another_folder(name: str) -> None:
    assert MOVED.rewrite(EU + name) == EU + name
    assert not MOVED.remain_in(EU + name)


def test_the_longest_prefix_wins() -> None:
    nested = Prefixes.of({"/srv/eu": "/mnt/us", EU: US})
    assert nested.rewrite("/srv/eu/models/1") == "/srv/us/models/1"
    assert nested.rewrite("/srv/eu/code") == "/mnt/us/code"


@pytest.mark.parametrize("new", ["/srv/eu/models/us", "/srv/eu/models-us", "/mnt/srv/eu/models"])
def test_a_new_address_that_contains_the_old_one_is_no_remainder(new: str) -> None:
    inside = Prefixes.of({EU: new})
    assert inside.rewrite(f"{EU}/1") == f"{new}/1"
    assert not inside.remain_in(f"{new}/1")
    assert inside.remain_in(f"{EU}/1")


@pytest.mark.parametrize(
    "text",
    [
        EU,
        f'{{"uri": "{EU}"}}',
        f"a {EU}, b",
        f"file://{EU}/1",
        "x=s3://models-eu/1?y",
        f"sqlite:///{EU}/db",
    ],
)
def test_an_old_address_anywhere_in_a_text_is_found(text: str) -> None:
    assert MOVED.remain_in(text)


def test_what_keeps_its_address_needs_no_rewriting() -> None:
    assert Prefixes.of({EU: EU, "s3://a/": "s3://a"}).pairs == ()


def test_spaces_are_written_as_uris_write_them() -> None:
    spaced = Prefixes.of({"/srv/eu one": "/srv/us two"})
    assert spaced.rewrite("file:///srv/eu%20one/x") == "file:///srv/us%20two/x"
    assert spaced.rewrite("/srv/eu one/x") == "/srv/us two/x"


def test_a_folder_may_move_into_a_bucket() -> None:
    moved = Prefixes.of({EU: "s3://models-us"})
    assert moved.rewrite(f"{EU}/1") == moved.rewrite(f"file://{EU}/1") == "s3://models-us/1"


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("/srv/a", Path("/srv/a")),
        ("file:///srv/a%20b", Path("/srv/a b")),
        ("file://localhost/srv", Path("/srv")),
        ("file://elsewhere/srv", None),
        ("s3://bucket/a", None),
        ("models:/m-1", None),
        ("", None),
    ],
)
def test_which_addresses_are_on_this_machine(address: str, path: Path | None) -> None:
    assert local_path(address) == path


def database(path: Path, location: str, url: str = "") -> Path:
    """The few tables of MLflow that matter here, with their declared widths."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE experiments (experiment_id INTEGER, artifact_location VARCHAR(256));"
            "CREATE TABLE runs (run_uuid VARCHAR(32), experiment_id INTEGER, artifact_uri VARCHAR(40));"
            "CREATE TABLE logged_models (model_id VARCHAR(50), experiment_id INTEGER,"
            " artifact_location VARCHAR(1000));"
            "CREATE TABLE webhooks (url VARCHAR(500), secret VARCHAR(1000));"
        )
        connection.execute("INSERT INTO experiments VALUES (1, ?)", (location,))
        connection.execute("INSERT INTO runs VALUES ('r', 1, ?)", (f"{location}/r",))
        connection.execute("INSERT INTO webhooks VALUES (?, ?)", (url, url))
        connection.commit()
    return path


def test_a_database_is_rewritten_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = database(tmp_path / "db", EU, url=f"http://hook/?to={EU}")
    before = path.read_bytes()
    with pytest.raises(ConnectorError, match=r"webhooks.secret \(1\), webhooks.url \(1\)"):
        rewrite_database(path, MOVED, Path(US))
    assert path.read_bytes() == before


def test_what_does_not_fit_its_column_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    path = database(tmp_path / "db", EU)
    before = path.read_bytes()
    with pytest.raises(ConnectorError, match=r"runs.artifact_uri of MLflow takes 40 characters"):
        rewrite_database(path, Prefixes.of({EU: "/" + "x" * 40}), Path("/x"))
    assert path.read_bytes() == before


def test_rewriting_again_changes_nothing_more(tmp_path: Path) -> None:
    path = database(tmp_path / "db", EU)
    rewrite_database(path, MOVED, Path(US))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT artifact_uri FROM runs").fetchone() == (f"{US}/r",)
    once = path.read_bytes()
    rewrite_database(path, MOVED, Path(US))
    assert path.read_bytes()[100:] == once[100:]  # the header counts transactions


def test_no_page_of_the_file_keeps_what_was_rewritten(tmp_path: Path) -> None:
    path = database(tmp_path / "db", EU)
    with closing(sqlite3.connect(path)) as connection:
        many = ((str(number), f"{EU}/{number}") for number in range(500))
        connection.executemany("INSERT INTO logged_models VALUES (?, 1, ?)", many)
        connection.commit()
    rewrite_database(path, Prefixes.of({EU: "/us"}), Path("/us"))
    assert EU.encode() not in path.read_bytes()
