"""The target of a run as values: each component with its connector, its place and its snapshot."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Never

from refloat.contracts import Connector, Facts, Health, Instance, Op, Place, Source
from refloat.digest import json_digest
from refloat.errors import ConnectorError
from refloat.manifest.model import Group
from refloat.plan.model import Step
from refloat.point.model import Point, Snapshot
from refloat.room import Room
from refloat.run.context import Context

SET_ASIDE = "set_aside"
"""What is remembered of a component whose place somebody else had filled: at first that, in the end where it lies."""

SOURCE_AHEAD = "source_ahead"
"""The rule against a move that would lose what was written after the point."""

TOKEN_DIGITS = 16  # enough to tell the operations of all runs on one component apart


def token(run: str, component: str) -> str:
    """What every operation of a run on one component is known by: stage, switch, revert and start."""
    return json_digest([run, component])[:TOKEN_DIGITS]


@dataclass(frozen=True)
class ComponentTarget:
    """One component where it is recovered to. ``place`` is what is live there.

    ``source`` gives its snapshot, and is told whom to tell how many bytes of it are read, and what ends the reading.
    """

    name: str
    connector: Connector
    place: Place
    snapshot: Snapshot
    source: Callable[[Callable[[int], None], threading.Event], Source]
    parts: Mapping[str, Connector] = field(default_factory=dict)

    def staged(self, run: str) -> Place:
        """What ``run`` has staged beside what is live."""
        return replace(self.place, instance=Instance.STAGED, token=token(run, self.name))


def _nobody_looks(name: str) -> Never:
    raise ConnectorError("nobody can look at it", component=name, next="recover it too")


def _nowhere(name: str) -> None:
    return None


def _nobody_compares() -> Never:
    raise ConnectorError(
        "whether it shares anything with what lives cannot be told", next="choose another target"
    )


@dataclass(frozen=True)
class Target:
    """A region that a point is recovered into, and what the checks need to know.

    ``missing`` names what the point needs and the region's replica lacks. ``source_health`` asks, by region, what
    runs where the point was made and in the manifest's primary. ``known_points`` are the points of this vault: what
    one of them put into the target is not foreign. ``homes`` are the regions in which the pipeline lives, as far as
    is known, and ``lives_in`` tells which other of them has its place where this region has that of a component.
    ``beside`` names the components that may be in the region already and are not recovered, and ``live``
    looks at one of them. In one that ``moves`` nothing may be lost, and ``token_in_source`` is the token of a component
    where the point was made. Both raise what the connector raises, as a ``RefloatError``.
    In a ``drill`` the region is a sandbox: its places must be empty, and ``apart`` raises ``Refused`` where it shares
    one with what lives. ``room`` tells, for each file system, what all components need there. ``scratch`` is a folder
    for temporary files.
    """

    region: str
    point_name: str
    point: Point
    components: Mapping[str, ComponentTarget]
    scratch: Path
    groups: Mapping[str, Group] = field(default_factory=dict)
    known_points: frozenset[str] = frozenset()
    homes: frozenset[str] = frozenset()
    lives_in: Callable[[str], str | None] = _nowhere
    missing: Callable[[], Sequence[str]] = tuple
    source_health: Callable[[], Mapping[str, Mapping[str, Health]]] = dict
    beside: Callable[[], Sequence[str]] = tuple
    live: Callable[[str], Facts] = _nobody_looks
    moves: bool = False
    token_in_source: Callable[[str], str | None] = _nobody_looks
    room: Callable[[], Sequence[Room]] = tuple
    drill: bool = False
    apart: Callable[[], None] = _nobody_compares

    def component(self, step: Step) -> ComponentTarget:
        """The component that a step is about. Raises ``KeyError`` for a step about none."""
        return self.components[step.component or ""]

    @contextlib.contextmanager
    def op(self, step: Step, context: Context) -> Iterator[Op]:
        """The operation of a step, with a scratch folder that goes when the context is left."""
        component = self.component(step)
        known = token(context.run, component.name)
        scratch = self.scratch / known / str(step.action)
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            yield Op(
                place=component.place,
                run=context.run,
                token=known,
                epoch=context.epoch,
                scratch=scratch,
                deadline_s=step.timeout_s,
                cancelled=context.cancelled,
                parts=component.parts,
                memory={"point": self.point_name, **context.memory},
                journal=context.remember,
                source_identity=component.snapshot.identity,
            )
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
