"""The components of a simulated pipeline: files in memory, one disk a region, and a ledger of what was done.

They keep to the same contract as real ones. Every effect is atomic, and is entered in the ledger only where
something changed: it says what happened to a component, not what was asked.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar

from refloat.contracts import (
    EntryType,
    Facts,
    Health,
    Instance,
    Layer,
    Observed,
    Op,
    Place,
    Settings,
    Sink,
    Source,
    Spec,
)
from refloat.digest import Json, listing_digest
from refloat.errors import ConnectorError

Files = Mapping[str, bytes]

PAGES, LEDGER, ANSWERS = "pages", "ledger", "answers"
GROUP = (PAGES, LEDGER)


class Nothing(Settings):
    """A simulated component has no settings."""


@dataclass(frozen=True)
class Marker:
    """Who put there what is live."""

    token: str
    point: str
    run: str
    epoch: int


@dataclass(frozen=True)
class Effect:
    """Something that changed at one component, by which operation."""

    what: str
    region: str
    component: str
    token: str
    epoch: int


@dataclass
class Shelf:
    """One component on the disk of one region."""

    live: Files | None = None
    marker: Marker | None = None
    staged: dict[str, Files] = field(default_factory=dict)
    partial: set[str] = field(default_factory=set)
    aside: dict[str, tuple[Files | None, Marker | None]] = field(default_factory=dict)


@dataclass
class Disks:
    """The disks of all regions. ``touch`` is called before and after each effect, and may be the end."""

    touch: Callable[[str], None] = lambda what: None
    shelves: dict[tuple[str, str], Shelf] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    frozen: set[tuple[str, str]] = field(default_factory=set)

    def shelf(self, region: str, component: str) -> Shelf:
        """A component's place in a region; empty where nothing was put there."""
        return self.shelves.setdefault((region, component), Shelf())

    def live(self, region: str) -> dict[str, Files]:
        """What is live in a region, by component."""
        return {name: shelf.live for (at, name), shelf in self.shelves.items() if at == region and shelf.live}

    def lose(self, region: str) -> None:
        """Everything on a region's disk is gone."""
        for key in [key for key in self.shelves if key[0] == region]:
            del self.shelves[key]


def freeze(files: dict[str, bytes]) -> Files:
    """Contents that nobody changes any more."""
    return MappingProxyType(files)


class Shelved:
    """The connector of a simulated component. Its facts: a digest, and what ``facts.json`` says."""

    spec: ClassVar[Spec]

    def __init__(self, disks: Disks, kind: str, refers_to: tuple[str, ...] = ()) -> None:
        self.spec = Spec(kind, "files in memory", Layer.DATA, Nothing, refers_to=refers_to)  # type: ignore[misc]
        self._disks = disks

    def inspect(self, place: Place) -> Facts:
        """Raises ``ConnectorError`` where nothing is there."""
        self._disks.touch(f"inspect {place.component}")
        shelf = self._shelf(place)
        files = shelf.staged.get(place.token) if place.instance is Instance.STAGED else shelf.live
        if files is None:
            raise ConnectorError(
                "nothing is there", component=place.component, next="release something, or recover it"
            )
        return facts(files)

    def capture(self, sink: Sink, op: Op) -> Facts:
        """Facts of exactly what was captured: what was live at one moment."""
        files = self._shelf(op.place).live
        if files is None:
            raise ConnectorError(
                "nothing is there", component=op.place.component, next="release something, or recover it"
            )
        for path, content in sorted(files.items()):
            self._disks.touch(f"capture {op.place.component}/{path}")
            sink.file(path, io.BytesIO(content))
        return facts(files)

    def stage(self, source: Source, op: Op) -> None:
        """Beside what is live, file by file."""
        shelf = self._shelf(op.place)
        if self.observe(op) in (Observed.STAGED, Observed.ACTIVE):
            return
        shelf.partial.add(op.token)
        self._disks.touch(f"stage {op.place.component}")
        paths = [entry.path for entry in source.entries() if entry.type is EntryType.FILE]
        files = {path: source.open(path).read() for path in paths}
        self._disks.touch(f"staging {op.place.component}")
        shelf.staged[op.token] = freeze(files)
        shelf.partial.discard(op.token)
        self._done("stage", op)

    def activate(self, op: Op) -> None:
        """Raises ``ConnectorError`` for an epoch that is over, or where nothing whole is staged."""
        shelf = self._shelf(op.place)
        if self.observe(op) is Observed.ACTIVE:
            return
        if "was_live" not in op.memory:
            op.remember(was_live=shelf.live is not None)
        self._disks.touch(f"activate {op.place.component}")
        if shelf.marker is not None and shelf.marker.epoch > op.epoch:
            raise ConnectorError(f"epoch {op.epoch} is over", next="stop this run")
        if op.token not in shelf.staged:
            raise ConnectorError("nothing whole is staged", next="stage it again")
        shelf.aside[op.token] = (shelf.live, shelf.marker)
        shelf.live = shelf.staged.pop(op.token)
        shelf.marker = Marker(op.token, str(op.memory["point"]), op.run, op.epoch)
        self._done("activate", op)

    def revert(self, op: Op) -> None:
        """Raises ``ConnectorError`` where what was live before has been discarded."""
        shelf = self._shelf(op.place)
        self._disks.touch(f"revert {op.place.component}")
        if not self._is_live(op):
            return
        if op.token not in shelf.aside:
            raise ConnectorError(
                "what was live before has been discarded", next="recover from a point instead"
            )
        assert shelf.live is not None
        shelf.staged[op.token] = shelf.live
        shelf.live, shelf.marker = shelf.aside.pop(op.token)
        self._done("revert", op)

    def discard(self, op: Op) -> None:
        """Remove what was staged, and what the switch set aside."""
        shelf = self._shelf(op.place)
        self._disks.touch(f"discard {op.place.component}")
        shelf.partial.discard(op.token)
        held = [shelf.staged.pop(op.token, None), shelf.aside.pop(op.token, None)]
        if any(found is not None for found in held):
            self._done("discard", op)

    def observe(self, op: Op) -> Observed:
        """How far the operation got."""
        self._disks.touch(f"observe {op.place.component}")
        shelf = self._shelf(op.place)
        if self._is_live(op):
            return Observed.ACTIVE
        if op.token in shelf.staged:
            return Observed.STAGED
        return Observed.PARTIAL if op.token in shelf.partial else Observed.ABSENT

    def health(self, place: Place) -> Health:
        """Whether something is there."""
        return Health.HEALTHY if self._shelf(place).live is not None else Health.SICK

    def holder(self, place: Place) -> str | None:
        """Who put there what is live."""
        shelf = self._shelf(place)
        if shelf.live is None:
            return None
        return shelf.marker.point if shelf.marker else ""

    @contextmanager
    def freeze(self, place: Place) -> Iterator[None]:
        """No release goes on meanwhile."""
        key = (place.region, place.component)
        self._disks.frozen.add(key)
        try:
            yield
        finally:
            self._disks.frozen.discard(key)

    def _shelf(self, place: Place) -> Shelf:
        return self._disks.shelf(place.region, place.component)

    def _is_live(self, op: Op) -> bool:
        marker = self._shelf(op.place).marker
        return marker is not None and marker.token == op.token

    def _done(self, what: str, op: Op) -> None:
        self._disks.effects.append(Effect(what, op.place.region, op.place.component, op.token, op.epoch))
        self._disks.touch(f"after {what} {op.place.component}")


def facts(files: Files) -> Facts:
    """Identity: a digest, and what ``facts.json`` says. Where there is a log: its length, as a position."""
    digest = listing_digest((path, hashlib.sha256(content).hexdigest()) for path, content in files.items())
    if "log" in files:
        return Facts(identity={}, position={"lines": files["log"].count(b"\n")}, token=digest)
    told: dict[str, Json] = json.loads(files["facts.json"])
    return Facts(identity={**told, "digest": digest}, token=digest)
