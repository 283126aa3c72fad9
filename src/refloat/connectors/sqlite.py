"""SQLite: one database file, captured with the online backup API and never by copying a live file.

A snapshot holds ``database.sqlite``: one file without a write-ahead log, whose pages are those of one
transaction. See https://www.sqlite.org/backup.html and https://www.sqlite.org/fileformat2.html.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar
from urllib.parse import quote

from pydantic import Field, field_validator

from refloat.connectors.allowance import Allowance, os_errors
from refloat.connectors.beside import Beside, StagedBeside, located
from refloat.connectors.sqlite_token import database_token, is_closed_log, is_newer_format
from refloat.contracts import (
    Facts,
    Health,
    Instance,
    Layer,
    Op,
    Place,
    Settings,
    Sink,
    Source,
    Spec,
)
from refloat.digest import Json, json_digest
from refloat.errors import ConnectorError, DeadlineExceeded, Retry
from refloat.limits import HEALTH_SECONDS_MAX

DATABASE = "database.sqlite"
SIDECARS = ("-wal", "-shm", "-journal")
RESERVED = frozenset({"schema", "user_version", "application_id", "tables", "position"})

_FACTS_SECONDS_MAX = 300.0  # counting the rows of a large database, and the user's own queries
_BUSY_SECONDS_MAX = 10.0  # how long another program may hold the lock before we say so
_STEP_PAGES = 4096  # 16 MiB at the usual page size: writers get their turn between steps
_RESTARTS_MAX = 3  # a copy that writers made begin again this often is made in one step
_ROWS_MAX = 1000  # of one query of the user's
_VM_STEPS = 20_000  # between two looks at the clock
_READS_ONLY = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}


T = TypeVar("T")


class SQLiteSettings(Settings):
    """``path``: the database file; a relative one starts at the current directory.

    ``select`` and ``position``: queries whose results become facts under their names, of the identity and
    of the position. A single value stands for itself, one row is an object by column, more rows are a list
    of these. They may only read.
    """

    path: str = Field(min_length=1)
    select: Mapping[str, str] = Field(default_factory=dict)
    position: Mapping[str, str] = Field(default_factory=dict)

    @field_validator("select", "position")
    @classmethod
    def _names_are_free(cls, queries: Mapping[str, str]) -> Mapping[str, str]:
        for name in queries:
            if not name.isidentifier() or name in RESERVED or name == "rows":
                raise ValueError(f"{name!r} cannot be the name of a query")
        return queries


class _Restarted(Exception):
    """A writer made the online backup begin again."""


class SQLite(StagedBeside):
    """The connector of one SQLite database."""

    spec: ClassVar[Spec] = Spec(
        kind="sqlite",
        summary="an SQLite database: feature values, state, a backend of something larger",
        layer=Layer.DATA,
        settings=SQLiteSettings,
        refers_to=("files",),
    )

    def __init__(self) -> None:
        self._known: dict[str, tuple[SQLiteSettings, Facts]] = {}

    def inspect(self, place: Place) -> Facts:
        """Schema, versions and the ``select`` queries; row counts and the ``position`` queries.

        All of it is read in one transaction, and remembered as long as the token does not move. Raises
        ``ConnectorError`` for a database that is missing, damaged, or locked for longer than a few seconds.
        """
        settings = _settings(place)
        path = located(place, _live(settings)).resolve()
        with _database_errors("reading the database", path):
            facts, _ = self._look(path, place.instance, settings, _FACTS_SECONDS_MAX)
            return facts

    def capture(self, sink: Sink, op: Op) -> Facts:
        """Copy the database as of one transaction, while it is written; facts of exactly that copy.

        A database to which nothing was committed since the snapshot before is carried. Raises ``ConnectorError``
        for one whose structure is not sound, since it could not be recovered.
        """
        settings, instance = _settings(op.place), op.place.instance
        live = located(op.place, _live(settings)).resolve()
        allowance = Allowance(op, "capturing the database")
        allowance.check()
        with _database_errors("capturing the database", live):
            facts, exact = self._look(live, instance, settings, allowance.left_s)
            if exact and sink.carry(DATABASE, str(facts.token)):
                return facts
            token, found = database_token(live), live.stat()
            copy = op.scratch / DATABASE
            _consistently(live, instance, allowance.left_s, lambda open: _back_up(open, copy, allowance))
            _require_sound(copy, allowance, live, "refloat recover, or repair it with its own program")
            with _reading(copy, allowance.left_s, immutable=True) as connection:
                facts = _facts(connection, settings, token)
            allowance.check()
            mode = stat.S_IMODE(found.st_mode)
            sink.file(DATABASE, copy, mode=mode, mtime_ns=found.st_mtime_ns, token=token)
            _remove(copy)
            return facts

    def _look(
        self, path: Path, instance: Instance, settings: SQLiteSettings, seconds: float
    ) -> tuple[Facts, bool]:
        """The facts, and whether they are of exactly the database that their token names."""
        token = database_token(path)
        known = self._known.get(str(path))
        if known is not None and known[0] == settings and known[1].token == token:
            return known[1], True
        facts = _consistently(path, instance, seconds, lambda open: _facts(open, settings, token))
        exact = database_token(path) == token
        if exact:
            self._known[str(path)] = (settings, facts)
        return facts, exact

    def stage(self, source: Source, op: Op) -> None:
        """Write the database beside the live one and check its structure."""
        allowance = Allowance(op, "staging the database")
        allowance.check()

        def write(staged: Path) -> None:
            with _database_errors("staging the database", staged):
                source.fetch(DATABASE, staged)
                _require_sound(staged, allowance, staged, "recover from another recovery point")
            allowance.check()

        self.beside(op.place, op.token).stage(write)

    def beside(self, place: Place, token: str) -> Beside:
        """Staging beside the database.

        A write-ahead log or journal that met another database would be played into it, so the sidecars are
        set aside before their database is, and put back with it.
        """
        return Beside(_live(_settings(place)), token, companions=SIDECARS)

    @contextlib.contextmanager
    def freeze(self, place: Place) -> Iterator[None]:
        """Hold the write lock: others read on, writers wait.

        Raises ``ConnectorError`` when another writer keeps it for longer than a few seconds.
        """
        path = _live(_settings(place)).resolve()
        with _database_errors("freezing the database", path), _open(path, "rw") as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                connection.execute("ROLLBACK")

    def health(self, place: Place) -> Health:
        """Whether SQLite finds the structure of the database sound."""
        path = located(place, _live(_settings(place))).resolve()
        try:
            with _database_errors("checking the database", path):
                found = _consistently(path, place.instance, HEALTH_SECONDS_MAX, _flaws)
        except ConnectorError as error:
            return Health.SICK if error.retry is Retry.NEVER else Health.UNKNOWN
        return Health.SICK if found else Health.HEALTHY


def _settings(place: Place) -> SQLiteSettings:
    return place.settings_as(SQLiteSettings)


def _live(settings: SQLiteSettings) -> Path:
    return Path(settings.path).absolute()  # SQLite keeps sidecars beside the target of a link: see resolve()


# ----------------------------------------------------------------------------------------- connections


@contextlib.contextmanager
def _open(path: Path, mode: str, *, immutable: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection in autocommit mode to a database that must exist."""
    with os_errors("opening the database", path):
        path.stat()
    uri = f"file:{quote(str(path))}?mode={mode}" + ("&immutable=1" if immutable else "")
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, timeout=_BUSY_SECONDS_MAX, check_same_thread=False
    )
    try:
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def _reading(
    path: Path, seconds: float, *, immutable: bool = False, over: Callable[[], bool] = lambda: False
) -> Iterator[sqlite3.Connection]:
    """A connection that can only read and that is interrupted after ``seconds``, or where it is ``over`` before."""
    ends = time.monotonic() + seconds
    with _open(path, "ro", immutable=immutable) as connection:
        connection.set_progress_handler(lambda: time.monotonic() > ends or over(), _VM_STEPS)
        connection.execute("PRAGMA query_only = 1")
        yield connection


def _consistently(
    path: Path, instance: Instance, seconds: float, read: Callable[[sqlite3.Connection], T]
) -> T:
    """What ``read`` finds, which may be called twice.

    Whoever opens a database with a write-ahead log makes sidecars, and one that may only read cannot remove
    them again; left by another user, they lock the database's own program out. So one that no program has
    open is read as immutable, and once more with all locks if its token moved meanwhile. Nobody writes to
    what is staged.
    """
    if instance is Instance.STAGED:
        with _reading(path, seconds, immutable=True) as connection:
            return read(connection)
    if is_closed_log(path):
        token = database_token(path)
        with (
            contextlib.suppress(sqlite3.DatabaseError),
            _reading(path, seconds, immutable=True) as connection,
        ):
            found = read(connection)
            if database_token(path) == token:
                return found
    with _reading(path, seconds) as connection:
        return read(connection)


@contextlib.contextmanager
def _database_errors(doing: str, path: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into ``ConnectorError``."""
    try:
        with os_errors(doing, path):
            yield
    except sqlite3.Error as error:
        raise _translated(doing, path, error) from error


def _translated(doing: str, path: Path, error: sqlite3.Error) -> ConnectorError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if is_newer_format(path):
        return ConnectorError(
            f"{doing} failed: its format is newer than SQLite {sqlite3.sqlite_version} knows",
            file=str(path),
            next="run refloat with a Python whose SQLite is as new as the program's own",
        )
    match code:
        case sqlite3.SQLITE_INTERRUPT:
            return DeadlineExceeded(
                f"{doing} took too long",
                file=str(path),
                retry=Retry.LATER,
                next="make its queries cheaper, or raise its `deadline` in the manifest",
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            next, retry = "another program holds the database's lock: wait for it, or end it", Retry.LATER
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            next, retry = "the database is damaged: recover it from a recovery point", Retry.NEVER
        case sqlite3.SQLITE_READONLY:
            next, retry = "its last writer crashed: let its own program open it once", Retry.NEVER
        case sqlite3.SQLITE_AUTH:
            next, retry = "queries in `select` and `position` may only read", Retry.NEVER
        case _:
            next, retry = (
                "see that the path is a readable SQLite database and the queries fit it",
                Retry.NEVER,
            )
    return ConnectorError(f"{doing} failed: {error}", file=str(path), retry=retry, next=next)


# ----------------------------------------------------------------------------------------- facts


def _facts(connection: sqlite3.Connection, settings: SQLiteSettings, token: str) -> Facts:
    connection.execute("BEGIN")
    schema = connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2"
    ).fetchall()
    tables = _tables(schema)
    identity: dict[str, Json] = {
        "schema": json_digest(schema),
        "user_version": _pragma(connection, "user_version"),
        "application_id": _pragma(connection, "application_id"),
        "tables": [name for name, _ in tables],
        **_answers(connection, settings.select),
    }
    rows = {name: _count(connection, name) for name, countable in tables if countable}
    position: dict[str, Json] = {"rows": rows, **_answers(connection, settings.position)}
    return Facts(identity=identity, position=position, token=token)


def _tables(schema: list[tuple[str, str, str, str | None]]) -> list[tuple[str, bool]]:
    """Names of tables, and whether their rows can be counted without a module of the program's own."""
    return [
        (name, not (sql or "").lstrip().upper().startswith("CREATE VIRTUAL"))
        for kind, name, _, sql in schema
        if kind == "table" and not name.startswith("sqlite_")
    ]


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def _count(connection: sqlite3.Connection, table: str) -> int:
    quoted = table.replace('"', '""')
    (count,) = connection.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()
    return int(count)


def _answers(connection: sqlite3.Connection, queries: Mapping[str, str]) -> dict[str, Json]:
    connection.set_authorizer(
        lambda action, *_: sqlite3.SQLITE_OK if action in _READS_ONLY else sqlite3.SQLITE_DENY
    )
    try:
        return {name: _answer(connection, name, query) for name, query in queries.items()}
    finally:
        connection.set_authorizer(None)


def _answer(connection: sqlite3.Connection, name: str, query: str) -> Json:
    cursor = connection.execute(query)
    rows = cursor.fetchmany(_ROWS_MAX + 1)
    if len(rows) > _ROWS_MAX:
        raise ConnectorError(
            f"the query {name!r} has more than {_ROWS_MAX} rows", next="facts are small: aggregate them"
        )
    columns = [column[0] for column in cursor.description or ()]
    documents = [{column: _value(value) for column, value in zip(columns, row, strict=True)} for row in rows]
    if len(documents) == 1:
        return next(iter(documents[0].values())) if len(columns) == 1 else documents[0]
    return documents or None


def _value(value: object) -> Json:
    match value:
        case None | int() | str():
            return value
        case float() if math.isfinite(value):
            return value
        case bytes():
            return f"sha256:{hashlib.sha256(value).hexdigest()}"
    return str(value)


# ----------------------------------------------------------------------------------------- capture


def _back_up(source: sqlite3.Connection, copy: Path, allowance: Allowance) -> None:
    """Copy the database to ``copy`` with the online backup API.

    With a write-ahead log, a read transaction keeps one version for the whole copy and holds nobody up.
    Without, the lock is given back between steps, and each write of another process makes the copy begin
    again; after some of that it is made in one step, for which writers wait.
    """
    (mode,) = source.execute("PRAGMA journal_mode").fetchone()
    if mode == "wal":
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    try:
        _copy_pages(source, copy, _STEP_PAGES, _paced(allowance))
    except _Restarted:
        _copy_pages(source, copy, -1, _paced(allowance))


def _copy_pages(
    source: sqlite3.Connection, copy: Path, pages: int, progress: Callable[[int, int, int], None]
) -> None:
    _remove(copy)
    target = sqlite3.connect(copy, isolation_level=None, check_same_thread=False)
    try:
        # The copy is scratch: it is begun again after a crash, so it needs neither journal nor fsync.
        target.execute("PRAGMA journal_mode = OFF")
        target.execute("PRAGMA synchronous = OFF")
        source.backup(target, pages=pages, progress=progress, sleep=0.001)
    finally:
        target.close()


@dataclass
class _Pace:
    """What one copy has seen so far."""

    left: float = math.inf
    restarts: int = 0


def _paced(allowance: Allowance) -> Callable[[int, int, int], None]:
    """What the backup calls after each step: stops it when its time is over or it keeps beginning again."""
    pace = _Pace()

    def step(status: int, left: int, total: int) -> None:
        allowance.check()
        pace.restarts += status == sqlite3.SQLITE_OK and left >= pace.left
        pace.left = left
        if pace.restarts > _RESTARTS_MAX:
            raise _Restarted

    return step


def _flaws(connection: sqlite3.Connection) -> list[str]:
    """What SQLite finds wrong with the structure of the database, at most three things."""
    found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
    return [] if found == ["ok"] else found


def _require_sound(copy: Path, allowance: Allowance, named: Path, next: str) -> None:
    """Raise ``ConnectorError`` about the database ``named``, of which this is a copy.

    The backup API fills the pages that a file has lost with zeros, and says nothing.
    """
    with _reading(copy, allowance.left_s, immutable=True, over=lambda: not allowance.left_s) as connection:
        found = _flaws(connection)
    if found:
        message = f"the database is not sound: {'; '.join(found)}"
        raise ConnectorError(message, file=str(named), next=next)


def _remove(path: Path) -> None:
    for ending in ("", *SIDECARS):
        path.with_name(path.name + ending).unlink(missing_ok=True)
