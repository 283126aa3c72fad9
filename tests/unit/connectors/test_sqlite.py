"""The ``sqlite`` connector keeps the contract, with writers at work and sidecars lying about."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from refloat.connectors import sqlite
from refloat.connectors.allowance import Allowance
from refloat.connectors.sqlite import SQLite, SQLiteSettings
from refloat.contracts import Facts, Freezable, Health, Observed, Op, Place, Settings
from refloat.errors import ConnectorError, DeadlineExceeded, Retry
from refloat.testing.connector_contract import ConnectorContract
from refloat.testing.memory_snapshot import MemorySink

SCHEMA = "CREATE TABLE features (id INTEGER PRIMARY KEY, passage TEXT, words INTEGER)"


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def make(path: Path, *, journal: str = "WAL", rows: int = 200) -> SQLiteSettings:
    with opened(path) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute(SCHEMA)
        connection.execute("PRAGMA user_version = 7")
        insert(connection, rows)
    return SQLiteSettings(
        path=str(path),
        select={"words": "SELECT min(words) AS least, typeof(words) AS kind FROM features"},
        position={"last": "SELECT max(id) FROM features"},
    )


def insert(connection: sqlite3.Connection, rows: int) -> None:
    values = ((f"passage {number} " * 20, number) for number in range(rows))
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO features (passage, words) VALUES (?, ?)", values)
    connection.execute("COMMIT")


class TestWithLog(ConnectorContract):
    connector = SQLite()
    journal = "WAL"

    def make_live(self, tmp_path: Path) -> Settings:
        return make(tmp_path / "online.db", journal=self.journal)

    def mutate(self, settings: Settings) -> None:
        with opened(settings.path) as connection:  # type: ignore[attr-defined]
            insert(connection, 3)

    def change_identity(self, settings: Settings) -> None:
        with opened(settings.path) as connection:  # type: ignore[attr-defined]
            connection.execute("CREATE TABLE models (name TEXT)")

    def empty_target(self, tmp_path: Path) -> Settings:
        made = make(tmp_path / "settings-only.db", rows=0)
        for path in tmp_path.glob("settings-only.db*"):
            path.unlink()
        return made.model_copy(update={"path": str(tmp_path / "online.db")})

    def fill_foreign(self, settings: Settings) -> None:
        with opened(settings.path) as connection:  # type: ignore[attr-defined]
            connection.execute("CREATE TABLE theirs (name TEXT)")


class TestWithJournal(TestWithLog):
    journal = "DELETE"


def place(settings: Settings) -> Place:
    return Place("part", "eu", settings)


def op(settings: Settings, tmp_path: Path, token: str = "t") -> Op:
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    return Op(place(settings), run="r", token=token, epoch=1, scratch=scratch)


def rows(path: Path | str) -> int:
    with opened(path) as connection:
        return int(connection.execute("SELECT count(*) FROM features").fetchone()[0])


def inspect(path: Path, **named: dict[str, str]) -> Facts:
    return SQLite().inspect(place(SQLiteSettings(path=str(path), **named)))


@contextlib.contextmanager
def writing(path: Path, write: Callable[[sqlite3.Connection], None]) -> Iterator[None]:
    """Another thread writes all the time while the context is open."""
    done, written = threading.Event(), [0]

    def go_on() -> None:
        with opened(path) as connection:
            while not done.is_set():
                write(connection)
                written[0] += 1
                done.wait(0.001)  # a rollback journal lets one without pause starve every reader

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        while written[0] == 0:
            assert thread.is_alive(), "it could not write"
            done.wait(0.001)
        yield
    finally:
        done.set()
        thread.join()


def book(connection: sqlite3.Connection) -> None:
    """A transaction over two tables that must never be seen half done."""
    with contextlib.suppress(sqlite3.OperationalError):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO features (passage, words) VALUES (?, 1)", ("x" * 2000,))
        connection.execute("UPDATE totals SET n = n + 1")
        connection.execute("COMMIT")


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_a_copy_made_under_constant_writing_is_of_one_transaction(
    tmp_path: Path, journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_STEP_PAGES", 5)
    path = tmp_path / "online.db"
    settings = make(path, journal=journal, rows=3000)
    with opened(path) as connection:
        connection.execute("CREATE TABLE totals (n INTEGER)")
        connection.execute("INSERT INTO totals VALUES (3000)")
    sink = MemorySink()
    with writing(path, book):
        facts = SQLite().capture(sink, op(settings, tmp_path))
    copy = tmp_path / "copy.db"
    copy.write_bytes(sink.held.stored["database.sqlite"])
    with opened(copy) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (total,) = connection.execute("SELECT n FROM totals").fetchone()
    assert rows(copy) == total == facts.position["rows"]["features"]  # type: ignore[index, call-overload]
    assert list((tmp_path / "scratch").iterdir()) == []


def capture_with_a_writer_between_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: str
) -> tuple[Facts, list[int]]:
    """A capture page by page with a commit after each; how many pages were left after each."""
    path, steps = tmp_path / "online.db", []
    settings = make(path, journal=journal, rows=500)
    monkeypatch.setattr(sqlite, "_STEP_PAGES", 1)
    paced = sqlite._paced
    program = sqlite3.connect(path)
    program.execute("SELECT count(*) FROM features").fetchone()

    def writer_between_steps(allowance: Allowance) -> Callable[[int, int, int], None]:
        step = paced(allowance)

        def write_then_step(status: int, left: int, total: int) -> None:
            steps.append(left)
            if left:
                with opened(path) as connection:
                    insert(connection, 1)
            step(status, left, total)

        return write_then_step

    monkeypatch.setattr(sqlite, "_paced", writer_between_steps)
    with contextlib.closing(program):
        return SQLite().capture(MemorySink(), op(settings, tmp_path)), steps


def test_a_copy_that_writers_keep_restarting_is_made_in_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, steps = capture_with_a_writer_between_steps(tmp_path, monkeypatch, "DELETE")
    assert steps[-1] == 0
    assert 3 < len(steps) < 10
    assert facts.position["rows"] == {"features": 500 + len(steps) - 1}


def test_with_a_log_writers_neither_wait_nor_restart_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, steps = capture_with_a_writer_between_steps(tmp_path, monkeypatch, "WAL")
    assert steps == list(range(len(steps)))[::-1]
    assert facts.position["rows"] == {"features": 500}


def test_a_commit_between_token_and_facts_is_not_taken_for_carried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, facts_of, first = tmp_path / "online.db", sqlite._facts, MemorySink()
    settings = make(path, journal="DELETE", rows=5)
    SQLite().capture(first, op(settings, tmp_path))

    def commit_first(connection: sqlite3.Connection, *rest: object) -> Facts:
        monkeypatch.setattr(sqlite, "_facts", facts_of)
        with opened(path) as writer:
            insert(writer, 1)
        return facts_of(connection, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(sqlite, "_facts", commit_first)
    sink = MemorySink(first)
    facts = SQLite().capture(sink, op(settings, tmp_path))
    (tmp_path / "copy.db").write_bytes(sink.held.stored["database.sqlite"])
    assert facts.position["rows"] == {"features": rows(tmp_path / "copy.db")}


def test_all_facts_are_of_one_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, count = tmp_path / "online.db", sqlite._count
    settings = make(path, rows=5)
    with opened(path) as writer:
        insert(writer, 1)

        def count_then_commit(connection: sqlite3.Connection, table: str) -> int:
            counted = count(connection, table)
            insert(writer, 1)
            return counted

        monkeypatch.setattr(sqlite, "_count", count_then_commit)
        assert SQLite().inspect(place(settings)).position == {"rows": {"features": 6}, "last": 6}


def test_a_copy_stops_when_it_is_cancelled_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_STEP_PAGES", 1)
    going = op(make(tmp_path / "online.db", rows=500), tmp_path)
    check = Allowance.check

    def cancel_at_the_third(allowance: Allowance, seen: list[int] = []) -> None:  # noqa: B006
        seen.append(1)
        if len(seen) == 3:
            going.cancelled.set()
        check(allowance)

    monkeypatch.setattr(Allowance, "check", cancel_at_the_third)
    sink = MemorySink()
    with pytest.raises(ConnectorError, match="cancelled"):
        SQLite().capture(sink, going)
    assert sink.held.stored == {}


def test_a_database_that_nobody_has_open_gets_no_sidecars(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    settings = make(path, journal="WAL")
    SQLite().inspect(place(settings))
    SQLite().capture(MemorySink(), op(settings, tmp_path))
    assert SQLite().health(place(settings)) is Health.HEALTHY
    assert {found.name for found in tmp_path.iterdir()} == {"online.db", "scratch"}


def test_a_database_opened_while_it_is_read_is_read_again_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "online.db"
    make(path, journal="WAL", rows=5)
    facts_of, calls = sqlite._facts, []
    with contextlib.ExitStack() as programs:

        def open_meanwhile(connection: sqlite3.Connection, *rest: object) -> Facts:
            found = facts_of(connection, *rest)  # type: ignore[arg-type]
            if not calls:
                insert(programs.enter_context(opened(path)), 2)
            calls.append(found)
            return found

        monkeypatch.setattr(sqlite, "_facts", open_meanwhile)
        assert inspect(path).position["rows"] == {"features": 7}
    assert len(calls) == 2


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_the_token_moves_with_every_commit_and_with_nothing_else(tmp_path: Path, journal: str) -> None:
    path = tmp_path / "online.db"
    make(path, journal=journal)
    seen = set()
    with opened(path) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 3")  # the log begins again without growing
        for number in range(40):
            for found in tmp_path.glob("online.db*"):
                os.utime(found, ns=(10**18, 10**18))  # as where clocks tick seldom
            token = inspect(path).token
            assert inspect(path).token == token
            assert token not in seen, number
            seen.add(token)
            connection.execute("UPDATE features SET words = words + 1 WHERE id = 1")


def test_a_rolled_back_transaction_moves_no_facts(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    make(path, journal="WAL")
    before = inspect(path)
    with opened(path) as connection:
        connection.execute("BEGIN")
        connection.execute("DELETE FROM features")
        assert inspect(path).scope() == before.scope()
        connection.execute("ROLLBACK")
    assert inspect(path).scope() == before.scope()


def test_sidecars_go_aside_with_their_database_and_come_back_with_it(tmp_path: Path) -> None:
    source = MemorySink()
    facts = SQLite().capture(source, op(make(tmp_path / "source.db", rows=5), tmp_path))
    live = tmp_path / "online.db"
    crashed_copy(live, tmp_path)
    settings = SQLiteSettings(path=str(live))
    log = live.with_name("online.db-wal").read_bytes()
    assert log
    going = op(settings, tmp_path)
    SQLite().stage(source.source(facts), going)
    SQLite().activate(going)
    assert not live.with_name("online.db-wal").exists()
    assert rows(live) == 5
    SQLite().revert(going)
    assert live.with_name("online.db-wal").read_bytes() == log
    assert rows(live) == 210


def crashed_copy(live: Path, tmp_path: Path) -> None:
    """A database whose program died with ten rows in the log only."""
    make(tmp_path / "running.db", rows=200)
    with opened(tmp_path / "running.db") as connection:
        insert(connection, 10)
        for ending in ("", "-wal"):
            shutil.copy(tmp_path / f"running.db{ending}", live.with_name(live.name + ending))


def test_rows_that_are_only_in_the_log_are_captured(tmp_path: Path) -> None:
    live = tmp_path / "online.db"
    crashed_copy(live, tmp_path)
    sink = MemorySink()
    facts = SQLite().capture(sink, op(SQLiteSettings(path=str(live)), tmp_path))
    (tmp_path / "copy.db").write_bytes(sink.held.stored["database.sqlite"])
    assert rows(tmp_path / "copy.db") == 210 == facts.position["rows"]["features"]  # type: ignore[index, call-overload]


def test_a_database_behind_a_link_is_read_with_its_log(tmp_path: Path) -> None:
    path, link = tmp_path / "online.db", tmp_path / "link.db"
    make(path, rows=1)
    link.symlink_to(path)
    with opened(path) as connection:
        before = inspect(link)
        insert(connection, 2)
        after = inspect(link)
    assert (before.position["rows"], after.position["rows"]) == ({"features": 1}, {"features": 3})
    assert before.token != after.token


def test_a_query_may_only_read(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    make(path, journal="DELETE")
    before = path.read_bytes()
    for query in (
        "DELETE FROM features",
        "DROP TABLE features",
        f"ATTACH '{tmp_path / 'other.db'}' AS other",
        "PRAGMA user_version = 9",
        "VACUUM INTO '/tmp/x'",
        "CREATE TEMP TABLE t (x)",
    ):
        for named in ({"select": {"x": query}}, {"position": {"x": query}}):
            with pytest.raises(ConnectorError):
                inspect(path, **named)
    assert path.read_bytes() == before
    assert not (tmp_path / "other.db").exists()


def test_answers_are_scalars_objects_or_lists(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    make(path, rows=2)
    select = {
        "scalar": "SELECT 1.5",
        "none": "SELECT 1 WHERE 0",
        "null": "SELECT NULL",
        "row": "SELECT 1 AS a, 'x' AS b",
        "rows": "SELECT id FROM features",
        "blob": "SELECT x'00ff'",
        "infinite": "SELECT 9e999",
    }
    with pytest.raises(ValidationError):
        SQLiteSettings(path=str(path), select=select)
    select["ids"] = select.pop("rows")
    identity = inspect(path, select=select).identity
    assert {name: identity[name] for name in select} == {
        "scalar": 1.5,
        "none": None,
        "null": None,
        "row": {"a": 1, "b": "x"},
        "ids": [{"id": 1}, {"id": 2}],
        "blob": f"sha256:{hashlib.sha256(bytes([0, 255])).hexdigest()}",
        "infinite": "inf",
    }


def test_texts_that_are_not_utf_8_are_facts_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    make(path)
    with opened(path) as connection:
        connection.execute("CREATE TABLE named (name TEXT)")
        connection.execute("INSERT INTO named VALUES (CAST(x'61ff' AS TEXT)), (CAST(x'eda080' AS TEXT))")
    identity = inspect(path, select={"names": "SELECT name FROM named"}).identity
    assert identity["names"] == [{"name": "a\udcff"}, {"name": "\udced\udca0\udc80"}]


def test_too_many_rows_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "online.db", rows=1001)
    with pytest.raises(ConnectorError, match="more than 1000 rows"):
        inspect(tmp_path / "online.db", select={"ids": "SELECT id FROM features"})


def test_a_query_that_does_not_end_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_FACTS_SECONDS_MAX", 0.1)
    make(tmp_path / "online.db", rows=1)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(DeadlineExceeded):
        inspect(tmp_path / "online.db", select={"n": endless})


def test_virtual_tables_are_named_but_not_counted(tmp_path: Path) -> None:
    make(tmp_path / "online.db", rows=1)
    with opened(tmp_path / "online.db") as connection:
        connection.execute("CREATE VIRTUAL TABLE search USING fts5(passage)")
    facts = inspect(tmp_path / "online.db")
    assert "search" in facts.identity["tables"]  # type: ignore[operator]
    assert "search" not in facts.position["rows"]  # type: ignore[operator]


def test_a_restored_database_keeps_schema_rows_and_versions(tmp_path: Path) -> None:
    path = tmp_path / 'odd "name" #?%.db'
    make(path, rows=3)
    with opened(path) as connection:
        connection.execute('CREATE TABLE "odd ""table""" (x)')
    facts = inspect(path)
    assert facts.identity["user_version"] == 7
    assert facts.position["rows"] == {"features": 3, 'odd "table"': 0}


@pytest.mark.parametrize("content", [b"", b"not a database at all, but long enough" * 100])
def test_what_is_no_database_is_an_error_or_empty(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "online.db"
    path.write_bytes(content)
    if not content:
        assert inspect(path).identity["tables"] == []
        return
    with pytest.raises(ConnectorError) as caught:
        inspect(path)
    assert caught.value.file == str(path)
    assert "damaged" in str(caught.value.next)
    assert SQLite().health(place(SQLiteSettings(path=str(path)))) is Health.SICK
    assert path.read_bytes() == content


def test_a_damaged_database_is_sick_and_is_not_staged(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    settings = make(path, journal="DELETE", rows=500)
    sink = MemorySink()
    facts = SQLite().capture(sink, op(settings, tmp_path))
    damaged = bytearray(sink.held.stored["database.sqlite"])
    damaged[4096 * 2 : 4096 * 3] = b"\x55" * 4096
    sink.held.stored["database.sqlite"] = bytes(damaged)
    going = op(SQLiteSettings(path=str(tmp_path / "us.db")), tmp_path)
    with pytest.raises(ConnectorError):
        SQLite().stage(sink.source(facts), going)
    assert SQLite().observe(going) is Observed.PARTIAL
    path.write_bytes(damaged)
    assert SQLite().health(place(settings)) is Health.SICK


def test_a_locked_database_is_worth_another_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS_MAX", 0.05)
    settings = make(tmp_path / "online.db", journal="DELETE")
    with opened(settings.path) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConnectorError) as caught:
            SQLite().inspect(place(settings))
        assert caught.value.retry is Retry.LATER
        assert SQLite().health(place(settings)) is Health.UNKNOWN
        connection.execute("ROLLBACK")
    assert SQLite().health(place(settings)) is Health.HEALTHY


@pytest.mark.parametrize("harm", ["cut short", "scribbled over"])
def test_a_database_that_could_not_be_recovered_is_not_captured(
    tmp_path: Path, harm: str
) -> None:  # fault 41
    path = tmp_path / "online.db"
    settings = make(path, journal="DELETE")
    with opened(path) as connection:
        connection.execute("CREATE TABLE later (x)")
        connection.execute("INSERT INTO later VALUES (zeroblob(50000))")
    size = path.stat().st_size
    if harm == "cut short":
        os.truncate(path, size - 2 * 4096)
    else:  # where no count of rows comes by
        with path.open("r+b") as file:
            file.seek(size - 3 * 4096)
            file.write(b"\x55" * 4096)
        assert inspect(path).position["rows"] == {"features": 200, "later": 1}
    sink = MemorySink()
    with pytest.raises(ConnectorError, match=r"malformed|not sound") as caught:
        SQLite().capture(sink, op(settings, tmp_path))
    assert (caught.value.file, sink.held.stored) == (str(path), {})


@pytest.mark.parametrize(("at", "value"), [(19, 9), (47, 9)], ids=["read version", "schema format"])
def test_a_newer_format_is_refused_in_these_words(tmp_path: Path, at: int, value: int) -> None:  # fault 42
    path = tmp_path / "online.db"
    settings = make(path, journal="DELETE")
    content = bytearray(path.read_bytes())
    content[at] = value
    path.write_bytes(content)
    with pytest.raises(ConnectorError, match="newer than SQLite") as caught:
        SQLite().capture(MemorySink(), op(settings, tmp_path))
    assert "as new as" in str(caught.value.next)
    sink = MemorySink()
    sink.file("database.sqlite", path)
    target = op(SQLiteSettings(path=str(tmp_path / "us.db")), tmp_path)
    with pytest.raises(ConnectorError, match="newer than SQLite"):
        SQLite().stage(sink.source(Facts()), target)
    assert not (tmp_path / "us.db").exists()


def test_a_pipe_where_the_database_should_be_holds_up_nobody(tmp_path: Path) -> None:  # fault 40
    os.mkfifo(tmp_path / "online.db")
    settings = SQLiteSettings(path=str(tmp_path / "online.db"))
    for act in (SQLite().inspect, lambda place: SQLite().capture(MemorySink(), op(settings, tmp_path))):
        with pytest.raises(ConnectorError, match="not a regular file"):
            act(place(settings))


HOLDS_THE_LOCK = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(600)
"""


def test_a_writer_that_was_stopped_with_the_lock_in_its_hand_is_not_waited_for(  # faults 39, 40
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS_MAX", 0.1)
    settings = make(tmp_path / "online.db", journal="DELETE")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS_THE_LOCK, settings.path], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "locked\n"
        writer.send_signal(signal.SIGSTOP)
        with pytest.raises(ConnectorError, match="locked") as caught:
            SQLite().capture(MemorySink(), op(settings, tmp_path))
        writer.kill()
    assert caught.value.retry is Retry.LATER
    SQLite().capture(MemorySink(), op(settings, tmp_path))


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_frozen_means_that_writers_wait_and_capture_goes_on(tmp_path: Path, journal: str) -> None:
    settings, connector = make(tmp_path / "online.db", journal=journal), SQLite()
    assert isinstance(connector, Freezable)
    with contextlib.closing(sqlite3.connect(settings.path, timeout=0.05, isolation_level=None)) as writer:
        with pytest.raises(RuntimeError), connector.freeze(place(settings)):
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                insert(writer, 1)
            facts = connector.capture(MemorySink(), op(settings, tmp_path))
            assert facts.position["rows"] == {"features": 200}
            raise RuntimeError("the capture failed")
        insert(writer, 1)
    assert rows(settings.path) == 201


@pytest.mark.parametrize("name", ["schema", "tables", "position", "a-b", ""])
def test_names_of_queries_collide_with_nothing(name: str) -> None:
    with pytest.raises(ValidationError):
        SQLiteSettings(path="x", select={name: "SELECT 1"})
