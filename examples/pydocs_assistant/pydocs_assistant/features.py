"""The feature store: what is known of each passage beside its text, offline and online."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, fields

from pydocs_assistant import passages
from pydocs_assistant.passages import Passage
from pydocs_assistant.paths import Region, file_digest, now

VERSION = 1
_CODE = re.compile(r"^(?: {4,}|\t|>>> ).+$", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z_]\w+")


@dataclass(frozen=True, slots=True)
class Features:
    """What helps to rank a passage.

    ``length`` in characters; ``code_share`` of them in lines of code, 0 to 1; ``depth`` of the section or of
    the name, 1 for the outermost; ``popularity``, the number of passages that mention the passage's name.
    """

    id: str
    length: int
    code_share: float
    depth: int
    popularity: int


def compute(documents: Sequence[Passage]) -> list[Features]:
    """The features of each passage, in the order given."""
    mentions = Counter(name for passage in documents for name in set(_NAME.findall(passage.text)))
    return [_of(passage, mentions) for passage in documents]


def _of(passage: Passage, mentions: Counter[str]) -> Features:
    code = sum(len(line) for line in _CODE.findall(passage.text))
    separator = "/" if passage.source == "reference" else "."
    return Features(
        id=passage.id,
        length=len(passage.text),
        code_share=round(code / len(passage.text), 4),
        depth=passage.id.count(separator) + 1,
        popularity=mentions[passage.title.rpartition(".")[2]],
    )


def write(region: Region) -> str:
    """Compute the features of the current data set and write both stores; return the offline digest."""
    rows = compute(passages.read(region))
    event_time = now()
    _write_offline(region, rows, event_time)
    _write_online(region, rows, event_time, str(passages.current(region)["digest"]))
    return "sha256:" + file_digest(region.features_offline / f"v{VERSION}.parquet")


def _write_offline(region: Region, rows: Iterable[Features], event_time: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [field.name for field in fields(Features)]
    table = pa.Table.from_pylist(
        [dict(zip(names, astuple(row), strict=True)) | {"event_time": event_time} for row in rows]
    )
    region.features_offline.mkdir(parents=True, exist_ok=True)
    beside = region.features_offline / f".v{VERSION}.parquet.new"
    pq.write_table(table, beside)
    beside.replace(region.features_offline / f"v{VERSION}.parquet")


def _write_online(region: Region, rows: Iterable[Features], event_time: str, data_digest: str) -> None:
    with closing(sqlite3.connect(region.features_online)) as database, database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("BEGIN IMMEDIATE")
        database.execute(
            "CREATE TABLE IF NOT EXISTS features (id TEXT PRIMARY KEY, length INTEGER NOT NULL,"
            " code_share REAL NOT NULL, depth INTEGER NOT NULL, popularity INTEGER NOT NULL,"
            " event_time TEXT NOT NULL) WITHOUT ROWID"
        )
        database.execute(
            "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
        )
        database.execute("DELETE FROM features")
        database.executemany(
            "INSERT INTO features VALUES (?, ?, ?, ?, ?, ?)", [(*astuple(row), event_time) for row in rows]
        )
        meta = {"feature_set_version": str(VERSION), "data_digest": data_digest}
        database.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())


def open_online(region: Region) -> sqlite3.Connection:
    """A read-only connection to the online store, for one thread at a time. Raises ``sqlite3.Error``."""
    address = f"{region.features_online.as_uri()}?mode=ro"
    return sqlite3.connect(address, uri=True, check_same_thread=False)


def look_up(online: sqlite3.Connection, ids: Sequence[str]) -> dict[str, Features]:
    """The features of the passages ``ids``; those without features are left out."""
    marks = ", ".join("?" * len(ids))
    query = f"SELECT id, length, code_share, depth, popularity FROM features WHERE id IN ({marks})"
    return {row[0]: Features(*row) for row in online.execute(query, ids)}
