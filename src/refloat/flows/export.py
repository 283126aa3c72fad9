"""Files of a point into a folder, without a recovery: what is asked for, and what is needed first first.

Nothing is planned, claimed, journaled, switched or started. Every file has its name only when it is whole, every
component is told when all of it is there, and an export that was stopped goes on when it is asked for again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from refloat.attributes import Withheld
from refloat.clock import Clock
from refloat.contracts import Progress, Silent
from refloat.digest import Json
from refloat.errors import RefloatError, StoreError, UsageError, VaultError
from refloat.flows.filling import Filling, filling
from refloat.flows.into import Counted, manifest_name, needed_first
from refloat.flows.room import require_room_in
from refloat.manifest.document import nearest
from refloat.manifest.model import Manifest
from refloat.patterns import EVERYTHING, Selection
from refloat.point.model import Point
from refloat.vault.anywhere import Anywhere
from refloat.vault.extract import FOLDER_FLAGS, Wish, nothing_there
from refloat.vault.kept import Kept
from refloat.vault.source import SnapshotSource
from refloat.vault.unfolded import MANIFEST_TOTALS, Totals

_ROOMIER = "name a folder with more room, or less of the point: a component, --include GLOB, --exclude GLOB"


@dataclass(frozen=True)
class Part:
    """What is exported of one component: its tree (hex), its bytes and files where known, and what comes first."""

    tree: str
    bytes: int | None = None
    files: int = 0
    priority: tuple[str, ...] = ()

    @property
    def totals(self) -> Totals:
        """What the point says that it unfolds to."""
        return MANIFEST_TOTALS if self.bytes is None else Totals(self.files, self.bytes)


@dataclass(frozen=True)
class Ready:
    """A component that is there whole; with ``path`` only that file of it, which had priority."""

    component: str
    path: str | None = None
    files: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Exported:
    """What was written of one component; ``kept`` files were there already, exactly so, from an earlier attempt."""

    files: int
    bytes: int
    kept: int
    seconds: float

    def document(self) -> dict[str, Json]:
        """As ``vault export --json`` prints it."""
        return {
            "files": self.files,
            "bytes": self.bytes,
            "kept": self.kept,
            "seconds": round(self.seconds, 6),
        }


@dataclass(frozen=True)
class Export:
    """What is asked for: a point, its parts in the order in which they are needed, and what of each."""

    point: str
    parts: Mapping[str, Part]
    selection: Selection = EVERYTHING

    def described(self) -> dict[str, Json]:
        """What a folder is marked with, so that only the same is gone on with."""
        chosen = self.selection
        texts = {"include": chosen.include, "exclude": chosen.exclude, "paths": chosen.paths}
        return {
            "point": self.point,
            "parts": list(self.parts),
            **{key: [os.fsencode(text).hex() for text in given] for key, given in texts.items()},
        }


def parts_of(point: Point, manifest: Manifest | None, component: str | None) -> dict[str, Part]:
    """The parts of a point, or the one that is named: components as serving needs them, and last the manifest.

    Without the point's manifest they come as the point lists them. Raises ``UsageError`` for no such component.
    """
    ordered = needed_first(manifest, [*point.components])
    captured = point.components
    parts = {
        name: Part(captured[name].tree, captured[name].bytes, captured[name].files, first)
        for name, first in ordered.items()
    }
    parts[manifest_name(point)] = Part(point.manifest)
    if component is None:
        return parts
    if component not in parts:
        hint = nearest(component, parts) or f"it holds {', '.join(parts)}"
        raise UsageError(f"the point holds no component {component!r}", next=hint)
    return {component: parts[component]}


def export(
    wanted: Export,
    reader: Anywhere,
    into: Path,
    clock: Clock,
    *,
    progress: Progress | None = None,
    ready: Callable[[Ready], None] = lambda told: None,
    withheld: Withheld | None = None,
) -> dict[str, Exported]:
    """Write each part to ``into``/its name, one after the other; ``ready`` is told of each, and of its first files.

    ``withheld`` counts what came without its owner or attributes.

    Raises what ``filling`` raises, and ``VaultError`` or ``StoreError`` where a piece is whole nowhere: what was
    written until then stays, and the same call goes on with it.
    """
    done = {}
    require_room_in(into, sizes_of(wanted, reader), next=_ROOMIER)
    with filling(into, wanted.described()) as folder:
        for name, part in wanted.parts.items():
            try:
                done[name] = _part(
                    wanted,
                    name,
                    part,
                    reader,
                    folder,
                    clock,
                    progress or Silent(),
                    ready,
                    withheld or Withheld(),
                )
            except RefloatError as error:
                raise error.at(component=name) from error.__cause__
            folder.is_ready(name)
            ready(Ready(name, None, done[name].files, done[name].bytes))
    return done


def _part(
    wanted: Export,
    name: str,
    part: Part,
    reader: Anywhere,
    into: Filling,
    clock: Clock,
    progress: Progress,
    ready: Callable[[Ready], None],
    withheld: Withheld,
) -> Exported:
    begun = clock.monotonic()
    source = Counted(
        reader.read_chunk, part.tree, lambda size: progress.advance(name, size), totals=part.totals
    )
    kept = Kept(reader, lambda size: progress.advance(name, size))
    wish = Wish(
        wanted.selection,
        part.priority,
        ready=lambda path: ready(Ready(name, path)),
        same=kept.same if into.again else nothing_there,
        withheld=withheld,
    )
    progress.start(name, size_of(source, part, wanted.selection)[0])
    folder = _opened(into.folder, name)
    try:
        source.fill(folder, wish)
    finally:
        os.close(folder)
    progress.finish(name)
    return Exported(
        source.files + kept.files, source.bytes + kept.bytes, kept.files, clock.monotonic() - begun
    )


def sizes_of(wanted: Export, reader: Anywhere) -> dict[str, tuple[int, int]]:
    """How much is exported of each part; without those that cannot be read, which is said when it is their turn."""
    found = {}
    for name, part in wanted.parts.items():
        with suppress(VaultError, StoreError):
            found[name] = size_of(reader.source(part.tree, totals=part.totals), part, wanted.selection)
    return found


def size_of(source: SnapshotSource, part: Part, selection: Selection) -> tuple[int, int]:
    """The bytes of the files of a part that are meant, and how many those are.

    Raises ``VaultError`` for a folder that is not whole.
    """
    if part.bytes is not None and selection == EVERYTHING:
        return part.bytes, part.files
    sizes = [entry.size for entry in source.entries() if entry.type == "file" and selection.holds(entry.path)]
    return sum(sizes), len(sizes)


def _opened(above: int, name: str) -> int:
    """A descriptor of a component's folder, made where it is not there; a link is not followed."""
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=above)
    return os.open(name, FOLDER_FLAGS, dir_fd=above)
