"""The connector ``lancedb``: a folder of Lance tables, captured at a tagged version while writers go on."""

from __future__ import annotations

import importlib
import json
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from refloat.connectors.allowance import Allowance, unlimited
from refloat.connectors.beside import Beside, StagedBeside, located
from refloat.contracts import (
    Facts,
    Health,
    Layer,
    Op,
    Place,
    Settings,
    Sink,
    Source,
    Spec,
)
from refloat.digest import Json, canonical_json, json_digest
from refloat.errors import Cancelled, ConnectorError, DeadlineExceeded, Retry
from refloat.limits import CLEANED_ATTEMPTS_MAX, CONNECTOR_SECONDS_MAX
from refloat.stand_in import stand_ins

T = TypeVar("T")

TABLE_SUFFIX = ".lance"
TABLES, BASELINE = "tables", "baseline.json"  # what a snapshot holds
TAG_PREFIX = "refloat-"
RECALL_SAMPLES = 20  # stored vectors that are searched for themselves; one miss moves the share by 0.05
RECALL_FALL_MAX = 0.05  # more than this below the baseline and the index is not the one that was captured
METADATA_CHARACTERS_MAX = 256  # of a schema metadata value; a longer one is represented by its digest
MANIFEST_NUMBER_MAX = 2**64 - 1  # manifests of the second naming scheme count down from here
MANIFEST_FOOTER_BYTES, MANIFEST_MAGIC = 16, b"LANC"
DATA_PATH = re.compile(rb"\x0a(.)([0-9A-Za-z_-]+\.lance)", re.DOTALL)  # a data file's name in a manifest
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CATALOGUE_CLIENT = {
    f"lance_namespace_urllib3_client.api.{part}_api": ["".join(map(str.capitalize, part.split("_"))) + "Api"]
    for part in (
        *("branch", "data", "index", "materialized_view", "metadata"),
        *("namespace", "table", "tag", "transaction"),
    )
}
FAILURES = (RuntimeError, ValueError, OSError)  # what the lancedb package raises


class LanceDBSettings(Settings):
    """``path`` is the database's folder, relative to the current directory where it is not absolute.

    ``tables`` names the tables that are protected; none named means all of them.
    """

    path: str
    tables: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The database's folder, absolute."""
        return Path(self.path).absolute()


class LanceDB(StagedBeside):
    """Tables of a LanceDB database in a local folder (https://lancedb.github.io/lance/format.html).

    Identity: ``tables.<name>`` with ``dimension`` and ``vector_column`` (the first fixed-size list),
    ``fields`` (a digest of names and types), ``indexes`` and the schema's own metadata, so that an index
    that records ``embedder=sha256:…`` shows it. Position: ``tables.<name>`` with ``version`` and ``rows``.

    While a version is captured it is tagged, so a writer's cleanup keeps its files: such a cleanup fails
    with Lance's own error about a tagged version, and succeeds when repeated.
    """

    spec: ClassVar[Spec] = Spec(
        kind="lancedb",
        summary="LanceDB tables in a folder",
        layer=Layer.DATA,
        settings=LanceDBSettings,
        refers_to=("files",),
    )

    def inspect(self, place: Place) -> Facts:
        """Facts of every protected table. Raises ``ConnectorError`` where one cannot be opened."""
        root = _root(place)
        return _facts(
            [
                _attempted(root, name, partial(_Reading.of, root, name))
                for name in _names(root, _settings(place))
            ]
        )

    def token(self, place: Place) -> str | None:
        """The newest manifests, told by the folder alone: to load lancedb takes seconds."""
        root = _root(place)
        newest = {
            name: _attempted(root, name, partial(_newest, root, name))
            for name in _names(root, _settings(place))
        }
        return _token((name, *found) for name, found in newest.items() if found is not None)

    def capture(self, sink: Sink, op: Op) -> Facts:
        """Copy each table at its newest version, tagged meanwhile; facts of exactly those versions."""
        root = _root(op.place)
        allowance = Allowance(op, "capturing LanceDB")
        allowance.check()
        sink.directory(TABLES, mode=root.stat().st_mode & 0o7777)
        names = _names(root, _settings(op.place))
        tables = sink.under(TABLES)
        readings = [
            _attempted(
                root, name, partial(_capture_table, tables, root, name, op, allowance), allowance.check
            )
            for name in names
        ]
        _store_json(sink, op, BASELINE, {reading.name: reading.baseline() for reading in readings})
        return _facts(readings)

    def stage(self, source: Source, op: Op) -> None:
        """Write the tables beside what is live and open each one.

        Raises ``ConnectorError`` where rows, dimension or the recall of stored vectors differ from the
        baseline, or where the live folder holds tables besides those that ``tables`` names.
        """
        baseline = _load_json(source, BASELINE)
        _refuse_to_drop(_settings(op.place))
        allowance = Allowance(op, "staging LanceDB")

        def write(staged: Path) -> None:
            source.under(TABLES).fetch_all(staged)
            for name, expected in baseline.items():
                allowance.check()
                _check_table(staged, name, expected)

        allowance.check()
        self.beside(op.place, op.token).stage(write, goes_on=True)

    def beside(self, place: Place, token: str) -> Beside:
        """Staging beside the database's folder."""
        return Beside(_settings(place).folder, token)

    def health(self, place: Place) -> Health:
        """Healthy where every table opens and says how many rows it has."""
        try:
            self.inspect(place)
        except ConnectorError:
            return Health.SICK
        return Health.HEALTHY


# ----------------------------------------------------------------------------------------------- places


def _settings(place: Place) -> LanceDBSettings:
    return place.settings_as(LanceDBSettings)


def _root(place: Place) -> Path:
    root = located(place, _settings(place).folder)
    if not root.is_dir():
        raise ConnectorError(f"there is no LanceDB folder at {root}", next="check `path` in the manifest")
    return root


def _names(root: Path, settings: LanceDBSettings) -> list[str]:
    found = _tables_in(root)
    missing = sorted(set(settings.tables) - set(found))
    if missing:
        raise ConnectorError(
            f"{root} has no table {', '.join(missing)}; it has {', '.join(found) or 'none'}",
            next="check `tables` in the manifest",
        )
    return sorted(settings.tables) or found


def _tables_in(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(
        path.name.removesuffix(TABLE_SUFFIX)
        for path in folder.iterdir()
        if path.name.endswith(TABLE_SUFFIX) and path.is_dir()
    )


def _refuse_to_drop(settings: LanceDBSettings) -> None:
    """The whole folder is switched, so tables that this component leaves out would go with it."""
    others = sorted(set(_tables_in(settings.folder)) - set(settings.tables)) if settings.tables else []
    if others:
        raise ConnectorError(
            f"{settings.folder} also holds tables that are not protected, and would lose them: "
            + ", ".join(others),
            next="leave `tables` out to protect them all, or give this component a folder of its own",
        )


# ----------------------------------------------------------------------------------------------- reading


@cache
def _library() -> Any:
    """LanceDB without the client of remote catalogues, half of its time to load: tables here lie in folders.

    A part of that client that a later one has besides is loaded as it is.
    """
    if "lancedb" in sys.modules:
        return sys.modules["lancedb"]
    with stand_ins(_CATALOGUE_CLIENT):
        return importlib.import_module("lancedb")


def _open(root: Path, name: str, version: int | None = None) -> Any:
    """A handle on one table at one version. lancedb ships no types, hence ``Any``."""
    lancedb = _library()
    try:
        table = lancedb.connect(str(root)).open_table(name)
        if version is not None:
            table.checkout(version)
    except FAILURES as error:
        raise _failed(root, name, error) from error
    return table


def _failed(root: Path, name: str, error: Exception) -> ConnectorError:
    return ConnectorError(
        f"the table {name} cannot be read: {str(error).splitlines()[0]}",
        file=str(root / f"{name}{TABLE_SUFFIX}"),
        retry=Retry.LATER,
        next="open the table with lancedb itself; if that fails too, recover it from a recovery point",
    )


@dataclass(frozen=True)
class _Reading:
    """One table at one version. ``stamp`` tells this version's manifest from any other."""

    name: str
    version: int
    rows: int
    identity: Mapping[str, Json]
    stamp: tuple[int, ...]
    self_recall: float | None = None

    @classmethod
    def of(cls, root: Path, name: str, version: int | None = None, *, recall: bool = False) -> _Reading:
        """Read a table at ``version``, or at its newest."""
        table = _open(root, name, version)
        try:
            # Counted by the rows themselves where it matters: else a lost deletion file would not be missed.
            version, rows = int(table.version), int(table.count_rows("true" if recall else None))
            identity = _identity(table)
            share = _self_recall(table, identity.get("vector_column"), rows) if recall else None
        except FAILURES as error:
            raise _failed(root, name, error) from error
        return cls(name, version, rows, identity, _stamp(root, name, version), share)

    def baseline(self) -> dict[str, Json]:
        """What the staged copy must show again."""
        dimension = self.identity.get("dimension")
        return {"rows": self.rows, "dimension": dimension, "self_recall": self.self_recall}


def _facts(readings: Iterable[_Reading]) -> Facts:
    read = list(readings)
    return Facts(
        identity={"tables": {table.name: table.identity for table in read}},
        position={"tables": {table.name: {"version": table.version, "rows": table.rows} for table in read}},
        token=_token((table.name, table.version, table.stamp) for table in read),
    )


def _token(versions: Iterable[tuple[str, int, tuple[int, ...]]]) -> str:
    return json_digest({name: [version, *stamp] for name, version, stamp in versions})


def _identity(table: Any) -> dict[str, Json]:
    schema = table.schema
    own: dict[str, Json] = {
        "fields": json_digest([[field.name, str(field.type), field.nullable] for field in schema]),
        "indexes": {index.name: str(index.index_type) for index in table.list_indices()},
    }
    vector = next((field for field in schema if hasattr(field.type, "list_size")), None)
    if vector is not None:
        own |= {"vector_column": vector.name, "dimension": int(vector.type.list_size)}
    return {**_metadata(schema.metadata or {}), **own}


def _metadata(entries: Mapping[bytes, bytes]) -> dict[str, Json]:
    decoded = (
        (key.decode("utf-8", "replace"), value.decode("utf-8", "replace")) for key, value in entries.items()
    )
    return {key: _short(value) for key, value in decoded if IDENTIFIER.fullmatch(key)}


def _short(value: str) -> str:
    return value if len(value) <= METADATA_CHARACTERS_MAX else f"blake3:{json_digest(value)}"


def _stamp(root: Path, name: str, version: int) -> tuple[int, ...]:
    """What tells a manifest from one of the same version in a table that was dropped and made again."""
    try:
        stat = _manifests(root / f"{name}{TABLE_SUFFIX}")[version].stat()
    except (KeyError, FileNotFoundError) as error:
        raise _VanishedError(version) from error
    return (stat.st_size, stat.st_mtime_ns, stat.st_ino)


def _newest(root: Path, name: str) -> tuple[int, tuple[int, ...]] | None:
    """The newest version that a table's folder shows, and its stamp; None for a table without any."""
    version = max(_manifests(root / f"{name}{TABLE_SUFFIX}"), default=None)
    return None if version is None else (version, _stamp(root, name, version))


def _manifests(table: Path) -> dict[int, Path]:
    """Every version's manifest, of both naming schemes: ``4.manifest``, or 20 digits that count down."""
    found = {}
    for path in (table / "_versions").glob("*.manifest"):
        if path.stem.isdigit():
            number = int(path.stem)
            found[MANIFEST_NUMBER_MAX - number if len(path.stem) == 20 else number] = path
    return found


def _self_recall(table: Any, column: Json, rows: int) -> float | None:
    """The share of sampled stored vectors that a search for them finds first; None without any."""
    if not isinstance(column, str) or rows == 0:
        return None
    samples = min(RECALL_SAMPLES, rows)
    offsets = [position * rows // samples for position in range(samples)]
    stored = table.take_offsets(offsets).select([column]).to_arrow()[column].to_pylist()
    vectors = [vector for vector in stored if vector is not None and None not in vector]
    found = [_nearest(table, column, vector) == vector for vector in vectors]
    return sum(found) / len(found) if found else None


def _nearest(table: Any, column: str, vector: list[float]) -> object:
    query = table.search(vector, vector_column_name=column).select([column, "_distance"]).limit(1)
    first = query.to_arrow()[column].to_pylist()
    return first[0] if first else None


# ----------------------------------------------------------------------------------------------- capture


class _VanishedError(Exception):
    """A file of a version went away while it was looked at or copied."""


def _attempted(root: Path, name: str, attempt: Callable[[], T], check: Callable[[], None] = unlimited) -> T:
    """What comes of one of a few attempts: a cleanup may take away the version that one has just found the newest."""
    for _attempt in range(CLEANED_ATTEMPTS_MAX):
        check()
        try:
            return attempt()
        except (Cancelled, DeadlineExceeded):
            raise
        except (_VanishedError, ConnectorError) as error:
            failure: Exception = error
    if isinstance(failure, ConnectorError):
        raise failure
    raise ConnectorError(
        f"the table {name} lost files of its newest version {CLEANED_ATTEMPTS_MAX} times while it was read",
        file=str(root / f"{name}{TABLE_SUFFIX}"),
        retry=Retry.LATER,
        next="hold cleanup and compaction of this table while it is captured",
    ) from failure


def _capture_table(sink: Sink, root: Path, name: str, op: Op, allowance: Allowance) -> _Reading:
    """Tag the newest version and copy it."""
    folder = root / f"{name}{TABLE_SUFFIX}"
    with _tagged(root, name, op) as version:
        reading = _Reading.of(root, name, version, recall=True)
        _copy(sink.under(folder.name), folder, version, reading.rows, allowance)
    return reading


@contextmanager
def _tagged(root: Path, name: str, op: Op) -> Iterator[int]:
    """Keep the newest version from any cleanup; the tag goes when the context ends."""
    table, folder = _open(root, name), root / f"{name}{TABLE_SUFFIX}"
    tag = TAG_PREFIX + re.sub(r"[^A-Za-z0-9.-]", "-", op.token)
    try:
        _remove_leftovers(folder, table, tag)
        version = int(table.version)
        table.tags.create(tag, version)
    except FAILURES as error:
        raise _failed(root, name, error) from error
    try:
        yield version
    finally:
        with suppress(*FAILURES):  # of a table that was dropped meanwhile; else the next capture removes it
            table.tags.delete(tag)
        with suppress(OSError):  # the folders that hold tags stay while any other tag needs them
            (folder / "_refs" / "tags").rmdir()
            (folder / "_refs").rmdir()


def _remove_leftovers(folder: Path, table: Any, own: str) -> None:
    """Remove this operation's own tag, and those of captures that cannot be running any more."""
    for tag in table.tags.list():
        if tag == own or (
            tag.startswith(TAG_PREFIX) and _age(folder, tag) > timedelta(seconds=CONNECTOR_SECONDS_MAX)
        ):
            table.tags.delete(tag)


def _age(folder: Path, tag: str) -> timedelta:
    try:
        written = (folder / "_refs" / "tags" / f"{tag}.json").stat().st_mtime
    except FileNotFoundError:
        return timedelta(0)
    return timedelta(seconds=time.time() - written)


def _copy(sink: Sink, folder: Path, version: int, rows: int, allowance: Allowance) -> None:
    """Copy what one version needs, its manifest last: when that is still there, so is all it names."""
    manifest = _manifests(folder).get(version)
    if manifest is None:
        raise _VanishedError(version)
    try:
        needed = _Needed(folder, version, manifest.read_bytes())
        needed.require_data()
        for path in needed.files(rows):
            allowance.check()
            _store(sink, folder, path)
        _store(sink, folder, manifest)
    except FileNotFoundError as error:
        raise _VanishedError(str(error)) from error


def _store(sink: Sink, folder: Path, path: Path) -> None:
    stat = path.stat()
    relative = path.relative_to(folder).as_posix()
    # Lance never writes a name twice, except manifests of a table that was dropped and made again.
    token = f"{stat.st_size}:{stat.st_mtime_ns}" if path.suffix == ".manifest" else str(stat.st_size)
    if not sink.carry(relative, token):
        with path.open("rb") as content:
            sink.file(relative, content, mode=stat.st_mode & 0o7777, mtime_ns=stat.st_mtime_ns, token=token)


@dataclass(frozen=True)
class _Needed:
    """Which files of a table one version needs, told from the names that its manifest holds.

    What is of no kind known here is taken along: too much is harmless, too little is a lost table.
    """

    folder: Path
    version: int
    manifest: bytes

    def require_data(self) -> None:
        """Raise ``ConnectorError`` where a data file that the version names is not in the table's folder."""
        lost = sorted(name for name in self._data_names() if not (self.folder / "data" / name).is_file())
        if lost:
            raise ConnectorError(
                f"the table {self.folder.stem} names {len(lost)} data files that are not there: {lost[0]}",
                file=str(self.folder / "data" / lost[0]),
                retry=Retry.LATER,
                next="see what removed it; recover the table from a recovery point, or write it anew",
            )

    def _data_names(self) -> set[str]:
        """The data files of the version's fragments, as its manifest names them.

        The last 16 bytes of the file say where the manifest starts; before it may stand the transaction that
        made it, which also names files that are gone. A path is field 1 of its message, with its length.
        """
        footer = self.manifest[-MANIFEST_FOOTER_BYTES:]
        if not footer.endswith(MANIFEST_MAGIC):
            return set()
        fragments = self.manifest[int.from_bytes(footer[:8], "little") : -MANIFEST_FOOTER_BYTES]
        return {
            name.decode() for length, name in DATA_PATH.findall(fragments) if length == bytes([len(name)])
        }

    def files(self, rows: int) -> list[Path]:
        """The files to copy, without the manifest. Raises ``FileNotFoundError`` where one just went."""
        every = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        chosen = [path for path in every if self._wants(path.relative_to(self.folder))]
        if rows and not any(path.parent.name == "data" for path in chosen):
            return [
                path for path in every if path.relative_to(self.folder).parts[0] not in ("_refs", "_versions")
            ]
        return chosen

    def _wants(self, path: Path) -> bool:
        if len(path.parts) < 2:
            return True
        top, name = path.parts[0], path.parts[1]
        match top:
            case "_refs" | "_versions":
                return False
            case "data" | "_transactions":
                return name.partition(".")[0].encode() in self.manifest
            case "_deletions":
                return self._deletes(name)
            case "_indices":
                return self._indexes(name)
            case _:
                return True

    def _deletes(self, name: str) -> bool:
        """Deletion files are called ``<fragment>-<version they were made from>-<number>``."""
        made_from = name.split("-")[1:2]
        return not made_from or not made_from[0].isdigit() or int(made_from[0]) < self.version

    def _indexes(self, name: str) -> bool:
        try:
            return uuid.UUID(name).bytes in self.manifest or name.encode() in self.manifest
        except ValueError:
            return True


# ----------------------------------------------------------------------------------------------- staging


def _store_json(sink: Sink, op: Op, name: str, document: Json) -> None:
    path = op.scratch / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(canonical_json(document))
    if not sink.carry(name, token := json_digest(document)):
        sink.file(name, path, token=token)


def _load_json(source: Source, name: str) -> Any:
    with source.open(name) as content:
        return json.load(content)


def _check_table(root: Path, name: str, expected: Mapping[str, Any]) -> None:
    found = _attempted(root, name, partial(_Reading.of, root, name, recall=True)).baseline()
    for key in ("rows", "dimension"):
        if found[key] != expected[key]:
            raise _unlike(name, key, found[key], expected[key])
    before, after = expected["self_recall"], found["self_recall"]
    if before is not None and (not isinstance(after, float) or after < before - RECALL_FALL_MAX):
        raise _unlike(name, "self_recall", after, before)


def _unlike(name: str, what: str, found: Json, expected: Json) -> ConnectorError:
    return ConnectorError(
        f"the staged table {name} has {what} {found}, but {expected} was captured",
        next="choose another recovery point, and run `refloat vault check` on this one",
    )
