"""The connector ``mlflow``: database and artifacts as one, readdressed for the region they come to."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from refloat.connectors.allowance import Allowance, os_errors
from refloat.connectors.beside import Beside, located
from refloat.connectors.mlflow_addresses import Prefixes, local_path, rewrite_database
from refloat.connectors.mlflow_registry import (
    Artifacts,
    Registry,
    identity,
    lost,
    position,
    read_registry,
    unresolved,
    version_digests,
)
from refloat.connectors.mlflow_snapshot import (
    CTIME_NS,
    Disk,
    HashedSink,
    KeptSink,
    PartSource,
)
from refloat.connectors.sqlite_token import database_token
from refloat.contracts import (
    Connector,
    EntryType,
    Facts,
    Health,
    Instance,
    Layer,
    Observed,
    Op,
    Place,
    SetsAside,
    Settings,
    Sink,
    Source,
    Spec,
)
from refloat.digest import Json, canonical_json, json_digest
from refloat.errors import ConnectorError, Retry
from refloat.holding import Holds

DATABASE, ARTIFACTS = "database", "artifacts"
ORIGIN = "origin.json"
TICK_NS = 20_000_000  # the slowest clock of a kernel, 50 Hz


class MLflowSettings(Settings):
    """``tracking_uri`` is ``sqlite:////absolute/path.db``; ``artifacts`` a folder, or its ``file://`` URI.

    Relative paths are relative to the current directory.
    """

    tracking_uri: str
    artifacts: str

    @property
    def database(self) -> Path:
        """The database's file. Raises ``ConnectorError`` for a database that is not SQLite."""
        scheme, _, path = self.tracking_uri.partition(":///")
        if not scheme.startswith("sqlite") or not path:
            kind = urlsplit(self.tracking_uri).scheme or "no known"
            raise ConnectorError(
                f"an MLflow database of kind {kind} cannot be captured; SQLite can",
                next="set `tracking_uri` to sqlite:////absolute/path/of/mlflow.db",
            )
        return Path(path.partition("?")[0]).absolute()

    @property
    def root(self) -> Path:
        """The artifacts' folder. Raises ``ConnectorError`` where it is not on this machine."""
        if "://" not in self.artifacts:
            return Path(self.artifacts).absolute()
        path = local_path(self.artifacts)
        if path is None:
            raise ConnectorError(
                f"MLflow artifacts in {urlsplit(self.artifacts).scheme} cannot be captured; a folder can",
                next="set `artifacts` to a folder, such as /srv/models or file:///srv/models",
            )
        return path


class MLflow:
    """An MLflow tracking store and model registry (https://mlflow.org/docs/latest/ml/tracking/).

    The database is captured before the artifacts and switched after them, so that what a row points to
    exists. Identity: ``schema``, ``models.<model>.<alias>`` with ``version``, ``run_id``, ``digest`` and
    ``files`` of its folder and the version's own tags, ``versions``, ``prompts``, ``unresolved``.
    Position: ``runs``, ``versions``, ``last_run_ended_ms``, ``runs_outside``.
    """

    spec: ClassVar[Spec] = Spec(
        kind="mlflow",
        summary="MLflow runs, models and prompts: an SQLite database and a folder of artifacts",
        layer=Layer.MODEL,
        settings=MLflowSettings,
        parts={DATABASE: "sqlite", ARTIFACTS: "files"},
    )

    def inspect(self, place: Place) -> Facts:
        """Facts of what the registry names and of the bytes of its models."""
        database, root = _instance(place)
        token = _token(database, root)
        return _facts(_registry(place, database), _artifacts(place, Disk(root).listing), token)

    def capture(self, sink: Sink, op: Op) -> Facts:
        """Copy the rows, then what they point to; facts of exactly those rows and files.

        Raises ``ConnectorError`` where a version that has an alias has no files: what is in use could not be
        brought back, and an artifacts folder that is not mounted looks just so.
        """
        database, root = _instance(op.place)
        Allowance(op, "capturing MLflow").check()
        token = _token(database, root)
        rows = KeptSink(sink.under(DATABASE), database, op.scratch / "rows.db")
        files = HashedSink(sink.under(ARTIFACTS), Disk(root))
        parts = {
            DATABASE: _part(op, DATABASE).capture(rows, _part_op(op, DATABASE)),
            ARTIFACTS: _part(op, ARTIFACTS).capture(files, _part_op(op, ARTIFACTS)),
        }
        registry, artifacts = rows.registry, _artifacts(op.place, files.listing)
        _require_whole(registry, artifacts)
        _store_origin(sink, op, _Origin.of(artifacts.roots, parts, version_digests(registry, artifacts)))
        return _facts(registry, artifacts, token)

    def stage(self, source: Source, op: Op) -> None:
        """Put both parts beside what is live, with every address of the source region replaced.

        Raises ``ConnectorError`` where an old address would remain, or a model version does not resolve to
        the bytes that it was captured with.
        """
        allowance = Allowance(op, "staging MLflow")
        origin = _load_origin(source)
        rows = _rewritten(source.under(DATABASE), origin, op)
        allowance.check()
        files = PartSource(source.under(ARTIFACTS), origin.facts(ARTIFACTS))
        _part(op, ARTIFACTS).stage(files, _part_op(op, ARTIFACTS, origin))
        allowance.check()
        _part(op, DATABASE).stage(rows, _part_op(op, DATABASE, origin))
        _validate(origin, op, allowance)

    def activate(self, op: Op) -> None:
        """Switch the artifacts, then the database that points to them."""
        for role in (ARTIFACTS, DATABASE):
            _part(op, role).activate(_part_op(op, role))

    def revert(self, op: Op) -> None:
        """Put back the database, then the artifacts."""
        for role in (DATABASE, ARTIFACTS):
            _part(op, role).revert(_part_op(op, role))

    def discard(self, op: Op) -> None:
        """Remove what was staged or set aside of both."""
        for role in (DATABASE, ARTIFACTS):
            _part(op, role).discard(_part_op(op, role))

    def set_aside(self, op: Op) -> list[Path]:
        """Keep what was live before of both; see ``contracts.SetsAside``."""
        parts = [(_part(op, role), _part_op(op, role)) for role in (DATABASE, ARTIFACTS)]
        return [kept for part, own in parts if isinstance(part, SetsAside) for kept in part.set_aside(own)]

    def observe(self, op: Op) -> Observed:
        """What both parts agree on; ``STAGED`` while only the artifacts have been switched."""
        database, artifacts = (_part(op, role).observe(_part_op(op, role)) for role in (DATABASE, ARTIFACTS))
        return _combined(database, artifacts)

    def holder(self, place: Place) -> str | None:
        """Who put the live parts there: refloat only where it put both; see ``contracts.Occupied``."""
        settings = _settings(place)
        holders = [Beside(path, place.token).holder() for path in (settings.database, settings.root)]
        points = [holder for holder in holders if holder is not None]
        return min(points) if points else None

    def sites(self, place: Place) -> Mapping[str, Path]:
        """The rows beside the database, the files beside the artifacts' folder; see ``contracts.Sited``."""
        settings = _settings(place)
        return {DATABASE: settings.database, ARTIFACTS: settings.root}

    def holds(self, place: Place) -> Holds:
        """The database, and the artifacts' folder; see ``contracts.Holding``."""
        settings = _settings(place)
        return Holds(paths=(settings.database, settings.root))

    def passing(self, place: Place) -> str | None:
        """The rows, while their addresses are rewritten; see ``contracts.Passing``."""
        return DATABASE

    def health(self, place: Place) -> Health:
        """Healthy where the database answers and every model version has its files."""
        try:
            database, root = _instance(place)
            broken = unresolved(_registry(place, database), _artifacts(place, Disk(root).names))
        except ConnectorError:
            return Health.SICK
        return Health.SICK if broken else Health.HEALTHY


# ----------------------------------------------------------------------------------------------- places


def _settings(place: Place) -> MLflowSettings:
    return place.settings_as(MLflowSettings)


def _instance(place: Place) -> tuple[Path, Path]:
    """The database and the artifacts of the instance that is meant. Raises ``ConnectorError``."""
    settings = _settings(place)
    database, root = located(place, settings.database), located(place, settings.root)
    if not database.is_file():
        raise ConnectorError(f"there is no MLflow database at {database}", next="check `tracking_uri`")
    if not root.is_dir():
        raise ConnectorError(f"there is no folder of MLflow artifacts at {root}", next="check `artifacts`")
    return database, root


def _registry(place: Place, database: Path) -> Registry:
    return read_registry(database, staged=place.instance is Instance.STAGED)


def _artifacts(place: Place, listing: Any) -> Artifacts:
    """Rows name the live folder, also those of what is staged."""
    live = _settings(place).root
    return Artifacts(roots=tuple(dict.fromkeys((live, live.resolve()))), listing=listing)


def _part(op: Op, role: str) -> Connector:
    if role not in op.parts:
        raise ConnectorError(
            f"the connector mlflow was given no part {role!r}",
            component=op.place.component,
            next="this is a defect of refloat; report it",
        )
    return op.parts[role]


def _part_op(op: Op, role: str, origin: _Origin | None = None) -> Op:
    """The operation as one part sees it: its own settings, scratch folder and memory."""
    settings = _settings(op.place)
    path = settings.database if role == DATABASE else settings.root
    place = replace(
        op.place, settings=_part(op, role).spec.settings.model_validate({"path": str(path)}), addresses={}
    )
    scratch = op.scratch / role
    scratch.mkdir(parents=True, exist_ok=True)
    prefix = f"{role}."
    own = {key.removeprefix(prefix): value for key, value in op.memory.items() if key.startswith(prefix)}
    return replace(
        op,
        place=place,
        scratch=scratch,
        parts={},
        memory={**({"point": op.memory["point"]} if "point" in op.memory else {}), **own},
        journal=lambda what: op.remember(**{f"{prefix}{key}": value for key, value in what.items()}),
        source_identity=origin.parts[role] if origin else {},
    )


def _combined(database: Observed, artifacts: Observed) -> Observed:
    if database is artifacts:
        return database
    if Observed.UNKNOWN in (database, artifacts):
        return Observed.UNKNOWN
    half_switched = (database, artifacts) == (Observed.STAGED, Observed.ACTIVE)
    return Observed.STAGED if half_switched else Observed.PARTIAL


# ----------------------------------------------------------------------------------------------- facts


def _facts(registry: Registry, artifacts: Artifacts, token: str | None) -> Facts:
    return Facts(identity=identity(registry, artifacts), position=position(registry, artifacts), token=token)


def _token(database: Path, root: Path) -> str | None:
    """Moves with every change of a row or a file; None where one could go unseen.

    A kernel dates files by a clock that ticks, so two changes within a tick may look like one.
    """
    with os_errors("looking at MLflow", database):
        for _attempt in range(2):
            rows, files = database_token(database), Disk(root).stamps()
            newest_ns = max((stamp[CTIME_NS] for stamp in files.values()), default=0)
            if time.time_ns() - newest_ns >= TICK_NS:
                return json_digest([rows, files])
            time.sleep(TICK_NS / 1e9)
    return None


# ----------------------------------------------------------------------------------------------- capture


@dataclass(frozen=True)
class _Origin:
    """What a recovery must know of the region that was captured.

    ``parts`` are the identities of the two parts, ``digests`` those of each model version's files.
    """

    artifacts: tuple[str, ...]
    parts: Mapping[str, Mapping[str, Json]]
    digests: Mapping[str, Json]

    @classmethod
    def of(cls, roots: tuple[Path, ...], parts: Mapping[str, Facts], digests: Mapping[str, Json]) -> _Origin:
        """From what ``capture`` found."""
        identities = {role: dict(facts.identity) for role, facts in parts.items()}
        return cls(tuple(map(str, roots)), identities, digests)

    def facts(self, role: str) -> Facts:
        """A part's facts, as far as they matter to staging it."""
        return Facts(identity=self.parts[role])

    def prefixes(self, place: Place) -> Prefixes:
        """The regions' addresses, and the old root of the artifacts, which wins over them."""
        root = str(_settings(place).root)
        return Prefixes.of({**place.addresses, **dict.fromkeys(self.artifacts, root)})


def _require_whole(registry: Registry, artifacts: Artifacts) -> None:
    missing = lost(registry, artifacts)
    if missing:
        raise ConnectorError(
            f"the files of {', '.join(missing)} are not in the artifacts' folder",
            file=str(artifacts.roots[0]),
            retry=Retry.LATER,
            next="see whether it is mounted; else take the alias away, or bring the model's files back",
        )


def _store_origin(sink: Sink, op: Op, origin: _Origin) -> None:
    path = op.scratch / ORIGIN
    document = {"artifacts": origin.artifacts, "parts": origin.parts, "digests": origin.digests}
    path.write_bytes(canonical_json(document))
    if not sink.carry(ORIGIN, token := json_digest(document)):
        sink.file(ORIGIN, path, token=token)


def _load_origin(source: Source) -> _Origin:
    with source.open(ORIGIN) as content:
        document = json.load(content)
    return _Origin(tuple(document["artifacts"]), document["parts"], document["digests"])


# ----------------------------------------------------------------------------------------------- staging


def _rewritten(source: Source, origin: _Origin, op: Op) -> PartSource:
    """The database's snapshot with its addresses rewritten, before anything of it is staged."""
    files = [entry.path for entry in source.entries() if entry.type is EntryType.FILE]
    if len(files) != 1:
        raise ConnectorError(
            f"the snapshot holds {len(files)} database files where one was expected",
            next="see whether it was captured by `mlflow`; else choose another recovery point",
        )
    local = op.scratch / "rewritten.db"
    local.unlink(missing_ok=True)
    source.fetch(files[0], local)
    rewrite_database(local, origin.prefixes(op.place), _settings(op.place).root)
    return PartSource(source, origin.facts(DATABASE), {files[0]: local})


def _validate(origin: _Origin, op: Op, allowance: Allowance) -> None:
    """Every model version must resolve to the bytes that it was captured with."""
    settings = _settings(op.place)
    staged = Beside(settings.root, op.token).staged, Beside(settings.database, op.token).staged
    if not all(path.exists() for path in staged):
        return  # an earlier attempt staged, validated and switched both
    disk = Disk(staged[0], allowance.check)
    registry, artifacts = read_registry(staged[1], staged=True), _artifacts(op.place, disk.listing)
    found = version_digests(registry, artifacts)
    wrong = sorted(name for name, digest in origin.digests.items() if found.get(name) != digest)
    if wrong:
        raise ConnectorError(
            f"the staged files of {', '.join(wrong)} are not those that were captured",
            next="choose another recovery point, and run `refloat vault check` on this one",
        )
