"""The pipeline's own record: which step of the build is done, which was in flight when it ended."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pydocs_assistant.paths import now


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What is known of a step. ``status`` is ``running`` or ``done``; times are RFC 3339 in UTC."""

    step: str
    status: str
    attempts: int
    started_at: str
    finished_at: str | None
    output_digest: str | None


class State:
    """The durable record of a build's steps, so that a build that was killed goes on where it ended."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with closing(self._connect()) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(
                "CREATE TABLE IF NOT EXISTS steps (step TEXT PRIMARY KEY, status TEXT NOT NULL,"
                " attempts INTEGER NOT NULL, started_at TEXT NOT NULL, finished_at TEXT, output_digest TEXT)"
            )

    def of(self, step: str) -> StepRecord | None:
        """The record of one step; None when it never began."""
        return next((record for record in self.steps() if record.step == step), None)

    def steps(self) -> list[StepRecord]:
        """The records of all steps that have begun, in the order in which they first did."""
        with closing(self._connect()) as database:
            rows = database.execute(
                "SELECT step, status, attempts, started_at, finished_at, output_digest"
                " FROM steps ORDER BY rowid"
            )
            return [StepRecord(*row) for row in rows]

    def run(self, step: str, work: Callable[[], str]) -> bool:
        """Do a step unless it is done already; return whether it was done now.

        ``work`` returns the digest of what it made and must be safe to repeat: a step that was in flight when
        the build was killed is done again from its beginning.
        """
        record = self.of(step)
        if record is not None and record.status == "done":
            return False
        self._write(
            "INSERT INTO steps (step, status, attempts, started_at) VALUES (?, 'running', 1, ?)"
            " ON CONFLICT (step) DO UPDATE SET attempts = attempts + 1, started_at = excluded.started_at",
            step,
            now(),
        )
        output_digest = work()
        self._write(
            "UPDATE steps SET status = 'done', finished_at = ?, output_digest = ? WHERE step = ?",
            now(),
            output_digest,
            step,
        )
        return True

    def _write(self, statement: str, *values: str) -> None:
        with closing(self._connect()) as database, database:
            database.execute(statement, values)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=10.0)
