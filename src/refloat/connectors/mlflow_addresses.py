"""Which columns of an MLflow database hold addresses, and how they are rewritten for another region."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from refloat.connectors.sqlite_text import bindable, decoded
from refloat.errors import ConnectorError

# Found by writing a run, a model, a prompt, a trace and a data set with MLflow 3.17 and searching every
# column of every table for the absolute path of the artifacts; the second half is from its source.
ADDRESSES: tuple[tuple[str, str], ...] = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("datasets", "dataset_source"),
    ("trace_tags", "value"),
    ("model_versions", "source"),
    ("model_version_tags", "value"),
    ("registered_model_tags", "value"),
    ("experiment_tags", "value"),
    ("workspaces", "default_artifact_root"),
    ("workspaces", "trace_archival_location"),
    ("webhooks", "url"),
    ("mcp_access_endpoints", "url"),
    ("skill_versions", "source"),
)
# What happened, in the words of that time: where a run's script lay stays true after the region is gone.
HISTORY_TABLES = frozenset(
    {
        "assessments",
        "evaluation_dataset_records",
        "jobs",
        "logged_model_params",
        "params",
        "spans",
        "trace_info",
        "trace_request_metadata",
    }
)
HISTORY_COLUMNS = frozenset({"description", "name", "run_link", "source_name", "status_message"})


def local_path(address: str) -> Path | None:
    """The path of ``/folder`` or ``file:///folder``; None for an address that is not on this machine."""
    parts = urlsplit(address)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    return Path(address) if address.startswith("/") else None


def _spellings(old: str, new: str) -> Iterator[tuple[str, str]]:
    """A local path may stand in a row as a path or as a URI; each keeps its form where it can."""
    old, new = old.rstrip("/"), new.rstrip("/")
    before, after = local_path(old), local_path(new)
    if before is None:
        yield old, new
        return
    yield str(before), str(after) if after is not None else new
    yield f"file://{quote(str(before))}", f"file://{quote(str(after))}" if after is not None else new


def _whole(prefix: str) -> str:
    """A prefix that ends where a path's part ends: ``/eu`` is not in ``/eu2``."""
    return f"{re.escape(prefix)}(?![^/\\s\"'?#,;)}}\\]\\\\])"


@dataclass(frozen=True)
class Prefixes:
    """Addresses of the source region and what each becomes here, the longest first."""

    pairs: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, mapping: Mapping[str, str]) -> Prefixes:
        """From a map of addresses; those that stay as they are need no rewriting."""
        spelt = {before: after for old, new in mapping.items() for before, after in _spellings(old, new)}
        moved = [(before, after) for before, after in spelt.items() if before and before != after]
        return cls(tuple(sorted(moved, key=lambda pair: len(pair[0]), reverse=True)))

    def rewrite(self, text: str) -> str:
        """``text`` with the prefix it starts with replaced; as it was where it starts with none."""
        for before, after in self.pairs:
            if re.match(_whole(before), text):
                return after + text[len(before) :]
        return text

    def rewrite_json(self, value: object) -> object:
        """A JSON value with every string in it rewritten."""
        match value:
            case str():
                return self.rewrite(value)
            case list():
                return [self.rewrite_json(item) for item in value]
            case dict():
                return {key: self.rewrite_json(item) for key, item in value.items()}
        return value

    def remain_in(self, text: str) -> bool:
        """Whether an old address still stands anywhere in ``text``, other than as part of a new one."""
        for _before, after in self.pairs:
            text = re.sub(_whole(after), "", text)
        return any(re.search(rf"(?<![\w.-]){_whole(before)}", text) for before, _after in self.pairs)


def _rewritten(prefixes: Prefixes, text: str) -> str:
    if not text.startswith(("{", "[")):
        return prefixes.rewrite(text)
    try:
        value = json.loads(text)
    except ValueError:
        return prefixes.rewrite(text)
    changed = prefixes.rewrite_json(value)
    return text if changed == value else json.dumps(changed)


def rewrite_database(database: Path, prefixes: Prefixes, artifacts: Path) -> None:
    """Replace the old addresses in a staged MLflow database, all of them or none.

    ``artifacts`` is the new root. An experiment that has no runs yet and keeps its artifacts elsewhere on
    this machine is moved below it, so that new runs do not write to a region that is gone. Raises
    ``ConnectorError`` where a new address does not fit its column, or an old one would remain.
    """
    if not prefixes.pairs:
        return
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.text_factory = decoded
        connection.execute("PRAGMA secure_delete = ON")  # the old strings go from free pages as well
        connection.execute("BEGIN IMMEDIATE")
        columns = _columns(connection)
        changes = list(_changes(connection, columns, prefixes))
        for table, column, rows in changes:
            _check_width(table, column, columns[table][column], [value for value, _row in rows])
        for table, column, rows in changes:
            connection.executemany(
                f'UPDATE "{table}" SET "{column}" = CAST(? AS TEXT) WHERE rowid = ?',
                [(bindable(value), row) for value, row in rows],
            )
        _move_empty_experiments(connection, columns, artifacts)
        _refuse_remains(connection, columns, prefixes)
        connection.execute("COMMIT")


Columns = Mapping[str, Mapping[str, str]]
"""The declared type of each column of each table."""


def _columns(connection: sqlite3.Connection) -> Columns:
    tables = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    )
    return {
        table: {row[1]: row[2] for row in connection.execute(f'PRAGMA table_info("{table}")')}
        for (table,) in tables.fetchall()
    }


def _changes(
    connection: sqlite3.Connection, columns: Columns, prefixes: Prefixes
) -> Iterator[tuple[str, str, list[tuple[str, int]]]]:
    """Table, column and (new value, rowid) of every row that is to be rewritten."""
    for table, column in ADDRESSES:
        if column not in columns.get(table, {}):
            continue
        rows = connection.execute(
            f'SELECT rowid, "{column}" FROM "{table}" WHERE typeof("{column}") = \'text\''
        )
        changed = [
            (_rewritten(prefixes, text), row) for row, text in rows if _rewritten(prefixes, text) != text
        ]
        if changed:
            yield table, column, changed


def _check_width(table: str, column: str, declared: str, values: Iterable[str]) -> None:
    """SQLite does not hold a column to its width; MLflow, and the database it may move to, do."""
    limit = re.search(r"CHAR\((\d+)\)", declared.upper())
    longest = max(values, key=len)
    if limit and len(longest) > int(limit[1]):
        raise ConnectorError(
            f"{table}.{column} of MLflow takes {limit[1]} characters; {longest!r} has {len(longest)}",
            next="give the artifacts of the target region a shorter address",
        )


def _move_empty_experiments(connection: sqlite3.Connection, columns: Columns, artifacts: Path) -> None:
    users = [t for t in ("runs", "logged_models") if "experiment_id" in columns.get(t, {})]
    unused = " AND ".join(f'experiment_id NOT IN (SELECT experiment_id FROM "{table}")' for table in users)
    query = f"SELECT experiment_id, artifact_location FROM experiments WHERE {unused}"
    for experiment, location in connection.execute(query).fetchall():
        path = local_path(location or "")
        if path is not None and not path.is_relative_to(artifacts):
            connection.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                (str(artifacts / str(experiment)), experiment),
            )


def _refuse_remains(connection: sqlite3.Connection, columns: Columns, prefixes: Prefixes) -> None:
    found = list(_remains(connection, columns, prefixes))
    if found:
        raise ConnectorError(
            "addresses of the source region would remain in " + ", ".join(found),
            next="name the address and its counterpart under `addresses` of both regions in the manifest",
        )


def _remains(connection: sqlite3.Connection, columns: Columns, prefixes: Prefixes) -> Iterator[str]:
    """``table.column (count)`` wherever an old address stands in something that is not history."""
    anywhere = " OR ".join("instr(CAST({0} AS TEXT), ?)" for _pair in prefixes.pairs)
    old = [before for before, _after in prefixes.pairs]
    for table in sorted(columns.keys() - HISTORY_TABLES):
        if table.endswith("tags"):  # users' own words; an address that is a whole value was rewritten
            continue
        for column in sorted(columns[table].keys() - HISTORY_COLUMNS):
            quoted = f'"{column}"'
            query = f'SELECT CAST({quoted} AS TEXT) FROM "{table}" WHERE {anywhere.format(quoted)}'
            count = sum(prefixes.remain_in(text) for (text,) in connection.execute(query, old))
            if count:
                yield f"{table}.{column} ({count})"
