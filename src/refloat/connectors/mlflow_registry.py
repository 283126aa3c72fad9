"""What an MLflow database says about its models, read with plain SQL, and the facts made of it."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from refloat.connectors.mlflow_addresses import local_path
from refloat.connectors.sqlite_text import decoded
from refloat.digest import Json, json_digest, listing_digest
from refloat.errors import ConnectorError, Retry

IS_PROMPT = "mlflow.prompt.is_prompt"
DELETED = "Deleted_Internal"  # the stage of a version that was deleted; MLflow keeps the row
DEFAULT_WORKSPACE = "default"
BUSY_SECONDS_MAX = 10.0  # how long a read waits for a writer of the database
TAG_CHARACTERS_MAX = 256  # of a tag's value among the facts; a longer one is represented by its digest
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OWN_KEYS = frozenset({"version", "run_id", "digest", "files"})

Listing = Mapping[str, str]
"""SHA-256 in hex of each file of a folder, by its relative path."""


@dataclass(frozen=True)
class Version:
    """One version of a registered model or prompt; ``location`` is where its files are."""

    model: str
    number: int
    location: str
    run_id: str
    status: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Registry:
    """The rows that facts are made of, read in one transaction."""

    schema: str
    versions: Mapping[tuple[str, int], Version]
    aliases: Mapping[tuple[str, str], int]
    prompts: frozenset[str]
    runs: int
    run_locations: tuple[str, ...]
    last_run_ended_ms: int | None

    @property
    def models(self) -> list[Version]:
        """Versions that have files: not those of prompts, nor any that is still being registered."""
        return [v for v in self.versions.values() if v.model not in self.prompts and v.status == "READY"]


def read_registry(database: Path, *, staged: bool = False) -> Registry:
    """Read an MLflow database, which stays as it is. Raises ``ConnectorError``.

    Nobody writes to one that is ``staged``, so it is opened as immutable, which leaves no sidecar behind.
    """
    if not database.is_file():
        raise ConnectorError(f"there is no MLflow database at {database}", next="check `tracking_uri`")
    uri = f"{database.as_uri()}?mode=ro" + ("&immutable=1" if staged else "")
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS_MAX)) as connection:
            connection.isolation_level = None
            connection.text_factory = decoded
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
            return _Reader(connection).registry()
    except sqlite3.Error as error:
        raise ConnectorError(
            f"the MLflow database cannot be read: {error}",
            file=str(database),
            retry=Retry.LATER,
            next="see whether it is an MLflow tracking database, and which writer holds it",
        ) from error


@dataclass(frozen=True)
class _Reader:
    connection: sqlite3.Connection

    def registry(self) -> Registry:
        runs, ended = self.connection.execute("SELECT count(*), max(end_time) FROM runs").fetchone()
        locations = self.connection.execute("SELECT artifact_uri FROM runs WHERE lifecycle_stage = 'active'")
        return Registry(
            schema=str(self.connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]),
            versions=self._versions(),
            aliases=self._aliases(),
            prompts=self._prompts(),
            runs=runs,
            run_locations=tuple(location for (location,) in locations if location),
            last_run_ended_ms=ended,
        )

    def _has(self, table: str, column: str) -> bool:
        return any(row[1] == column for row in self.connection.execute(f'PRAGMA table_info("{table}")'))

    def _name(self, table: str) -> str:
        """The SQL for a model's name; the workspace comes before it where that is not the default one."""
        if not self._has(table, "workspace"):
            return "name"
        return f"CASE workspace WHEN '{DEFAULT_WORKSPACE}' THEN name ELSE workspace || '/' || name END"

    def _versions(self) -> dict[tuple[str, int], Version]:
        tags = self._tags()
        storage = "storage_location" if self._has("model_versions", "storage_location") else "NULL"
        rows = self.connection.execute(
            f"SELECT {self._name('model_versions')}, version, source, {storage}, run_id, status"
            " FROM model_versions WHERE coalesce(current_stage, '') <> ? ORDER BY 1, 2",
            (DELETED,),
        ).fetchall()
        return {
            (model, number): Version(
                model=model,
                number=number,
                location=stored or self._resolve(source or ""),
                run_id=run or "",
                status=status,
                tags=tags.get((model, number), {}),
            )
            for model, number, source, stored, run, status in rows
        }

    def _resolve(self, source: str) -> str:
        """Where ``models:/m-<id>`` and ``runs:/<id>/<path>`` lie; anything else is a place itself."""
        if source.startswith("models:/m-"):
            query, below = "SELECT artifact_location FROM logged_models WHERE model_id = ?", ""
            key = source.removeprefix("models:/")
        elif source.startswith("runs:/"):
            query = "SELECT artifact_uri FROM runs WHERE run_uuid = ?"
            key, _, below = source.removeprefix("runs:/").partition("/")
        else:
            return source
        row = self.connection.execute(query, (key,)).fetchone()
        return f"{row[0]}/{below}".rstrip("/") if row else source

    def _tags(self) -> dict[tuple[str, int], dict[str, str]]:
        name = self._name("model_version_tags")
        found: dict[tuple[str, int], dict[str, str]] = {}
        for model, number, key, value in self.connection.execute(
            f"SELECT {name}, version, key, value FROM model_version_tags"
        ):
            found.setdefault((model, number), {})[key] = value or ""
        return found

    def _aliases(self) -> dict[tuple[str, str], int]:
        name = self._name("registered_model_aliases")
        rows = self.connection.execute(
            f"SELECT {name}, alias, version FROM registered_model_aliases ORDER BY 1, 2"
        )
        return {(model, alias): int(number) for model, alias, number in rows}

    def _prompts(self) -> frozenset[str]:
        name = self._name("registered_model_tags")
        rows = self.connection.execute(
            f"SELECT {name} FROM registered_model_tags WHERE key = ? AND lower(value) = 'true'", (IS_PROMPT,)
        )
        return frozenset(model for (model,) in rows)


@dataclass(frozen=True)
class Artifacts:
    """The artifacts: where rows say that they are, and the listing of a folder below that place.

    ``roots`` are the spellings of the live root; ``listing`` takes a path relative to it.
    """

    roots: tuple[Path, ...]
    listing: Callable[[str], Listing]
    _known: dict[str, Listing] = field(default_factory=dict)

    def relative(self, location: str) -> str | None:
        """``location`` relative to the root; None where it lies elsewhere."""
        if location.startswith("mlflow-artifacts:/"):  # an MLflow server's own root, wherever that is
            return location.removeprefix("mlflow-artifacts:").lstrip("/")
        path = local_path(location)
        below = (path.relative_to(root) for root in self.roots if path and path.is_relative_to(root))
        return next((relative.as_posix() for relative in below), None)

    def files(self, location: str) -> Listing:
        """The files at a location; none where it lies elsewhere or is not there."""
        relative = self.relative(location)
        if relative is None:
            return {}
        if relative not in self._known:
            self._known[relative] = self.listing(relative)
        return self._known[relative]


def identity(registry: Registry, artifacts: Artifacts) -> dict[str, Json]:
    """What must be the same after a recovery: aliases, versions, the digests of their files, prompts.

    ``unresolved`` names versions whose files are not below the artifacts, and aliases of no version: what
    a recovery from here could not bring back.
    """
    return {
        "schema": registry.schema,
        "models": _models(registry, artifacts),
        "versions": _numbers(registry.models),
        "prompts": _prompts(registry),
        "unresolved": unresolved(registry, artifacts),
    }


def position(registry: Registry, artifacts: Artifacts) -> dict[str, Json]:
    """What moves with every run. ``runs_outside`` keep their artifacts where refloat does not look."""
    return {
        "runs": registry.runs,
        "versions": len(registry.versions),
        "last_run_ended_ms": registry.last_run_ended_ms,
        "runs_outside": sum(artifacts.relative(location) is None for location in registry.run_locations),
    }


def version_digests(registry: Registry, artifacts: Artifacts) -> dict[str, Json]:
    """``model/version`` and the digest of its files, for every version that has some."""
    found = {f"{v.model}/{v.number}": artifacts.files(v.location) for v in registry.models}
    return {name: listing_digest(files.items()) for name, files in found.items() if files}


def unresolved(registry: Registry, artifacts: Artifacts) -> list[str]:
    """``model/version`` without files, and ``model@alias`` of no version."""
    empty = [f"{v.model}/{v.number}" for v in registry.models if not artifacts.files(v.location)]
    loose = [
        f"{model}@{alias}"
        for (model, alias), n in registry.aliases.items()
        if (model, n) not in registry.versions
    ]
    return sorted(empty + loose)


def lost(registry: Registry, artifacts: Artifacts) -> list[str]:
    """``model@alias`` of versions that are in use, and whose files should lie below the artifacts and do not."""
    located = {(version.model, version.number): version.location for version in registry.models}
    return sorted(
        f"{model}@{alias}"
        for (model, alias), number in registry.aliases.items()
        if (location := located.get((model, number))) is not None
        and artifacts.relative(location) is not None
        and not artifacts.files(location)
    )


def _models(registry: Registry, artifacts: Artifacts) -> dict[str, Json]:
    found: dict[str, dict[str, Json]] = {}
    for (model, alias), number in registry.aliases.items():
        if model not in registry.prompts:
            version = registry.versions.get((model, number))
            facts = _version(version, artifacts) if version else {"version": number}
            found.setdefault(model, {})[alias] = facts
    return dict(found)


def _version(version: Version, artifacts: Artifacts) -> dict[str, Json]:
    files = artifacts.files(version.location)
    tags = {key: _parsed(value) for key, value in version.tags.items() if _is_fact(key, value)}
    return {
        **tags,
        "version": version.number,
        "run_id": version.run_id,
        "digest": listing_digest(files.items()) if files else None,
        "files": len(files),
    }


def _is_fact(key: str, value: str) -> bool:
    """An address is rewritten on the way to another region, so it cannot be part of an identity."""
    address = value.startswith("/") or "://" in value
    return bool(IDENTIFIER.fullmatch(key)) and key not in OWN_KEYS and not address


def _parsed(value: str) -> Json:
    if re.fullmatch(r"-?\d{1,18}", value):
        return int(value)
    if re.fullmatch(r"-?\d{1,18}\.\d{1,18}(e-?\d{1,2})?", value):
        return float(value)
    return value if len(value) <= TAG_CHARACTERS_MAX else f"blake3:{json_digest(value)}"


def _numbers(versions: Iterable[Version]) -> dict[str, Json]:
    found: dict[str, list[int]] = {}
    for version in versions:
        found.setdefault(version.model, []).append(version.number)
    return {model: sorted(numbers) for model, numbers in found.items()}


def _prompts(registry: Registry) -> dict[str, Json]:
    """Prompts are rows alone: their versions, aliases and a digest of the texts."""
    numbers = _numbers(v for v in registry.versions.values() if v.model in registry.prompts)
    return {
        name: {
            "versions": numbers.get(name, []),
            "aliases": {alias: n for (model, alias), n in registry.aliases.items() if model == name},
            "digest": _prompt_digest(v for v in registry.versions.values() if v.model == name),
        }
        for name in sorted(registry.prompts)
    }


def _prompt_digest(versions: Iterable[Version]) -> str:
    texts = [(str(v.number), v.tags.get("mlflow.prompt.text", "")) for v in versions]
    return listing_digest(
        (number, hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest())
        for number, text in texts
    )
