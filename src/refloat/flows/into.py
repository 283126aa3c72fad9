"""Only the bytes: every component of a point as it was captured, into a folder.

Nothing is planned, claimed, journaled, switched or started, and nothing that a component needs is asked for: a
vault and a key are enough.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from refloat.attributes import Withheld
from refloat.clock import Clock
from refloat.contracts import Facts, Progress, Silent
from refloat.digest import Json
from refloat.errors import RefloatError, StoreError, UsageError, VaultError, most_hopeful
from refloat.flows import points
from refloat.flows.anew import point_anew
from refloat.flows.landing import landing
from refloat.flows.opening import Opener
from refloat.flows.prepare import LOG_DAMAGED, candidates
from refloat.flows.room import TARGET_FULL, require_room_in
from refloat.flows.suspects import marked
from refloat.limits import MANIFEST_BYTES_MAX
from refloat.manifest.document import nearest
from refloat.manifest.graph import order_of_need
from refloat.manifest.model import Manifest
from refloat.manifest.parse import parse
from refloat.manifest.resolve import Resolver
from refloat.point.model import Point, Snapshot
from refloat.point.select import POINT_SUSPECT, Candidate, meant, select
from refloat.vault.anywhere import Anywhere
from refloat.vault.extract import Same, nothing_there
from refloat.vault.kept import Kept
from refloat.vault.replica import Replica
from refloat.vault.source import Heard, SnapshotSource
from refloat.vault.tree import Node
from refloat.vault.unfolded import MANIFEST_TOTALS, UNTOLD, Totals
from refloat.vault.vault import Vault
from refloat.vault.witness import lost_points

RULES = ("group_broken", LOG_DAMAGED, "log_rolled_back", POINT_SUSPECT, TARGET_FULL)
"""The safety rules that are asked, and can be overridden, where only the bytes are brought."""
_ROOMIER = (
    f"name a folder with more room, fewer components with --only NAME, or the rule: --override {TARGET_FULL}"
)


@dataclass(frozen=True)
class Chosen:
    """A point to bring, the components that are wanted of it, and where its bytes are read.

    ``passed_over`` says of each region whose log could not be read why not; ``suspects`` are newer points that were not
    chosen because they are suspect or unknown.
    """

    name: str
    point: Point
    components: tuple[str, ...]
    replicas: tuple[Replica, ...]
    passed_over: Mapping[str, RefloatError] = field(default_factory=dict)
    suspects: tuple[Candidate, ...] = ()

    def reading_also(self, vault: Vault) -> Chosen:
        """The same, its bytes read in every other region as well."""
        known = {replica.region for replica in self.replicas}
        more = [replica for region, replica in vault.replicas.items() if region not in known]
        return replace(self, replicas=(*self.replicas, *more))

    def manifest(self) -> Manifest:
        """The manifest that the point carries. Raises ``ManifestError``, ``VaultError``."""
        for replica in self.replicas[:-1]:
            with suppress(VaultError, StoreError):
                return _manifest(replica, self.point)
        return _manifest(self.replicas[-1], self.point)


@dataclass(frozen=True)
class Written:
    """What was written of one component, and how long that took; ``kept`` files an earlier attempt had brought."""

    files: int
    bytes: int
    kept: int
    seconds: float


@dataclass(frozen=True)
class Brought:
    """A point whose bytes are in the folder ``into``, all of them."""

    chosen: Chosen
    into: Path
    components: Mapping[str, Written]
    overrides: tuple[str, ...]
    lost_points: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    """What could not be looked at, though it was not needed, and what could not be set: for people."""

    @property
    def ok(self) -> bool:
        """True: where a byte was missing, there is an error instead, and no folder."""
        return True

    def document(self) -> dict[str, Json]:
        """The JSON document of ``recover --into``."""
        return {
            "point": self.chosen.name,
            "grade": str(self.chosen.point.grade),
            "into": str(self.into),
            "components": {
                name: {
                    "files": part.files,
                    "bytes": part.bytes,
                    "kept": part.kept,
                    "seconds": round(part.seconds, 6),
                }
                for name, part in self.components.items()
            },
            "overrides": list(self.overrides),
            "lost_points": list(self.lost_points),
            "remarks": list(self.remarks),
        }


def choose(
    replicas: Sequence[Replica],
    *,
    point: str | None = None,
    at: datetime | None = None,
    only: Collection[str] = (),
    overrides: Collection[str] = (),
) -> Chosen:
    """Choose a point as a recovery would, among those of every region. A region that is damaged stops no other.

    Raises ``Refused`` and ``UsageError`` where no point fits, and the first region's error where none can be read.
    """
    logs: dict[str, list[Candidate]] = {}
    passed_over: dict[str, RefloatError] = {}
    for replica in replicas:
        try:
            logs[replica.region] = candidates(replica, overrides)
        except (VaultError, StoreError) as error:
            passed_over[replica.region] = error.at(region=replica.region)
    if not logs:
        raise most_hopeful(passed_over.values())
    there = _merged(list(logs.values()))
    point = meant(there, point)
    known = marked(there, replicas, point=point, at=at)
    choice = select(known, point=point, at=at, overrides=overrides)
    name = choice.point
    holding = _holding(replicas, logs, name)
    ordered = (*holding, *(replica for replica in replicas if replica not in holding))
    body = point_anew(_body(holding, name))
    return Chosen(name, body, _wanted(only, body, name), ordered, passed_over, choice.passed_over)


def witnesses(
    chosen: Chosen, reached: Vault, opener: Opener, resolver: Callable[[], Resolver]
) -> tuple[Vault, list[str]]:
    """Every region that the point's manifest names, to be asked whether it saw more; none of them is needed.

    With what could not be asked, and why.
    """
    try:
        everywhere = opener.with_others(reached, chosen.manifest(), resolver())
    except RefloatError as error:
        return reached, [f"whether another region saw newer points was not asked: {error.message}"]
    silent = everywhere.unreachable.keys() - reached.unreachable.keys()
    return everywhere, [
        f"whether {region} saw newer points could not be asked: {everywhere.unreachable[region].message}"
        for region in sorted(silent)
    ]


def bring(
    chosen: Chosen,
    into: Path,
    clock: Clock,
    *,
    overrides: Collection[str] = (),
    progress: Progress | None = None,
) -> Brought:
    """Write each component to ``into``/its name, and the manifest with its files to ``into``/manifest.

    Each piece comes from the first region where it is whole. Raises what ``landing`` raises, and ``VaultError``
    or ``StoreError`` where a piece is whole in none: ``into`` is then as it was. What was stopped, by somebody or
    by a store that did not answer, is gone on with by the same call.
    """
    reader, lost = Anywhere(chosen.replicas), lost_points(chosen.replicas, chosen.point.created_at)
    progress = progress or Silent()
    written, withheld = {}, Withheld()
    if TARGET_FULL not in overrides:
        captured = {name: chosen.point.components[name] for name in chosen.components}
        sizes = {name: (part.bytes, part.files) for name, part in captured.items()}
        require_room_in(into, sizes, next=_ROOMIER)
    with landing(into, _described(chosen)) as folder:
        for name, priority in needed_first(_known(reader, chosen.point), chosen.components).items():
            part = chosen.point.components[name]
            progress.start(name, part.bytes)
            written[name] = _write(
                reader, part.tree, totals_of(part), folder / name, name, clock, progress, priority, withheld
            )
            progress.finish(name)
        manifest = manifest_name(chosen.point)
        _write(reader, chosen.point.manifest, MANIFEST_TOTALS, folder / manifest, manifest, clock, Silent())
    remarks = (*reader.remarks(), *withheld.remarks())
    return Brought(chosen, into, written, tuple(sorted(overrides)), tuple(lost), remarks)


def _described(chosen: Chosen) -> dict[str, Json]:
    """What the folder is marked with as long as it is filled, so that only the same is gone on with."""
    return {"point": chosen.name, "components": list(chosen.components)}


def totals_of(snapshot: Snapshot) -> Totals:
    """What a point says that a component's snapshot unfolds to."""
    return Totals(snapshot.files, snapshot.bytes)


def manifest_of(reader: Anywhere, point: Point) -> Manifest:
    """The manifest that a point carries, read wherever it is whole. Raises ``RefloatError``."""
    with reader.source(point.manifest, totals=MANIFEST_TOTALS).open(points.MANIFEST) as file:
        return parse(file.read(MANIFEST_BYTES_MAX + 1), file=points.MANIFEST)


def needed_first(manifest: Manifest | None, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """``names`` in the order in which serving needs them, each with the patterns of its files that come first.

    Without the manifest that the point carries they stay as they are.
    """
    if manifest is None or not set(names) <= manifest.components.keys():
        return dict.fromkeys(names, ())
    return {name: manifest.components[name].priority for name in order_of_need(manifest, names)}


def _known(reader: Anywhere, point: Point) -> Manifest | None:
    with suppress(RefloatError):  # the bytes come all the same, in another order
        return manifest_of(reader, point)
    return None


def manifest_name(point: Point) -> str:
    """What the manifest's tree is called beside the components: none of theirs has a hyphen."""
    return "manifest" if "manifest" not in point.components else "point-manifest"


def _merged(logs: Sequence[Sequence[Candidate]]) -> list[Candidate]:
    """The points of every log, oldest first; one log alone keeps its own order, whatever its clocks said."""
    if len(logs) == 1:
        return list(logs[0])
    known: dict[str, Candidate] = {}
    for candidate in (candidate for log in logs for candidate in log):
        if candidate.name not in known or known[candidate.name].forgotten:
            known[candidate.name] = candidate  # what one region has forgotten, another may still list
    return sorted(known.values(), key=lambda candidate: (candidate.created_at, candidate.name))


def _holding(
    replicas: Sequence[Replica], logs: Mapping[str, Sequence[Candidate]], name: str
) -> list[Replica]:
    """The replicas that list a point, first those that have not forgotten it."""
    listing = {
        region: candidate.forgotten
        for region, log in logs.items()
        for candidate in log
        if candidate.name == name
    }
    found = [replica for replica in replicas if replica.region in listing]
    return sorted(found, key=lambda replica: listing[replica.region])


def _body(replicas: Sequence[Replica], name: str) -> Point:
    for replica in replicas[:-1]:
        with suppress(VaultError, StoreError):
            return points.read(replica, name)
    return points.read(replicas[-1], name)


def _manifest(replica: Replica, point: Point) -> Manifest:
    return parse(points.manifest_files(replica, point)[points.MANIFEST], file=points.MANIFEST)


def _wanted(only: Collection[str], point: Point, name: str) -> tuple[str, ...]:
    for asked in only:
        if asked not in point.components:
            hint = nearest(asked, point.components) or f"it holds {', '.join(point.components)}"
            raise UsageError(f"the point {name[:12]} holds no component {asked!r}", next=hint)
    return tuple(component for component in point.components if not only or component in only)


def _write(
    reader: Anywhere,
    tree: str,
    totals: Totals,
    folder: Path,
    task: str,
    clock: Clock,
    progress: Progress,
    priority: tuple[str, ...] = (),
    withheld: Withheld | None = None,
) -> Written:
    begun = clock.monotonic()
    kept = Kept(reader, lambda size: progress.advance(task, size))
    source = Counted(
        reader.read_chunk,
        tree,
        lambda size: progress.advance(task, size),
        priority,
        kept.same,
        totals,
        withheld,
    )
    try:
        source.fetch_all(folder)
    except RefloatError as error:
        raise error.at(component=task) from error.__cause__
    return Written(
        source.files + kept.files, source.bytes + kept.bytes, kept.files, clock.monotonic() - begun
    )


class Counted(SnapshotSource):
    """A snapshot that counts what is read of it; several threads may read."""

    def __init__(
        self,
        read: Callable[[bytes], bytes],
        tree: str,
        heard: Heard,
        priority: tuple[str, ...] = (),
        same: Same = nothing_there,
        totals: Totals = UNTOLD,
        withheld: Withheld | None = None,
    ) -> None:
        super().__init__(
            read,
            tree,
            Facts(),
            priority=priority,
            heard=heard,
            same=same,
            totals=totals,
            withheld=withheld,
        )
        self.files = 0
        self.bytes = 0
        self._lock = threading.Lock()

    def pieces(self, node: Node) -> Generator[bytes, None, None]:
        """As ``SnapshotSource.pieces``."""
        for piece in super().pieces(node):
            with self._lock:
                self.bytes += len(piece)
            yield piece
        with self._lock:
            self.files += 1
