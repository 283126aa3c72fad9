"""Every protocol that a plug-in or a room implements, and the small values they exchange."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, ClassVar, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict

from refloat.attributes import PLAIN, Attributes
from refloat.digest import Json, json_digest
from refloat.errors import ConnectorError
from refloat.holding import Holds
from refloat.limits import CONNECTOR_SECONDS_MAX

# ----------------------------------------------------------------------------------------------- stores


class Put(StrEnum):
    """What came of a create-if-absent."""

    CREATED = "created"
    EXISTS = "exists"


@dataclass(frozen=True)
class ObjectInfo:
    """What a store says of one object: its name and its size in bytes."""

    name: str
    size: int


class Store(Protocol):
    """Named, immutable objects. Names are relative paths of ``[a-z0-9_./-]``; there is no overwrite.

    Every method raises ``StoreError`` when the store does not answer as it should, with ``retry`` set.
    """

    url: str

    def create(self, name: str, content: bytes | memoryview) -> Put:
        """Write ``content`` under ``name`` unless the name is taken; durable when this returns.

        A reply that was lost is settled by reading back: our own bytes under the name are ``CREATED``.
        """

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """``length`` bytes from ``start`` (to the end where None). Raises ``Missing``."""

    def size(self, name: str) -> int | None:
        """The object's size in bytes, or None where it does not exist."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects whose name starts with ``prefix``, in any order. A hint: it may lag."""

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""


@runtime_checkable
class Sweepable(Protocol):
    """A store in which a write that was cut may leave something that is no object."""

    def sweep(self, before: datetime) -> int:
        """Remove what such writes have left since before a time; how many bytes that were."""


@runtime_checkable
class Keeping(Store, Protocol):
    """A store that keeps every version of an object, and lets nobody remove one before its time (S3 object lock).

    Of the versions under a name the first one that is what the name says is the object: what was put over it
    later, a delete marker too, hides nothing. ``delete`` removes all versions, and fails where one is locked.
    """

    def judged(self, judge: Callable[[str, bytes], bool]) -> Keeping:
        """The same with another judge: whether bytes may stand under a name."""

    def holds(self, name: str) -> bool:
        """Whether one of the versions under a name is what the name says."""

    def covered(self) -> Mapping[str, str]:
        """Each object that something lies over for whoever reads the newest version, and what does."""

    def uncover(self, name: str) -> str:
        """Put an object on top again, by removing what lies over it or by writing a copy over that; which it was.

        Empty where nothing lies over it.
        """

    def written_at(self, name: str) -> datetime:
        """When an object was written, by the store's clock. Raises ``Missing``."""

    def locked_until(self, name: str) -> datetime | None:
        """Until when nobody at all can remove an object; None for now. Raises ``Missing``."""

    def removable_from(self, name: str) -> datetime | None:
        """When the last lock of all that lies under a name ends; None where none is locked. Raises ``Missing``."""

    def lock(self, name: str, least: datetime, until: datetime) -> None:
        """See that an object is locked to ``least`` or longer, and where it is not, lock it to ``until``.

        Raises ``Missing``, and ``StoreError`` where the store does not do so.
        """

    def prove(self, name: str) -> str | None:
        """Lock a small object for a minute and try to remove it all the same; why that lock is none, or None."""

    def lock_what_comes(self, days: int) -> None:
        """Let the bucket lock every new object for so many days or more. Raises ``StoreError``."""


@runtime_checkable
class Versioned(Protocol):
    """A store that may be able to keep versions."""

    def kept(self, witness: str) -> Keeping | None:
        """The store as it keeps versions; None where it locks none, or where that cannot be told.

        ``witness`` is an object that is there in a store that nobody harmed: what is known of it saves questions.
        """


# ----------------------------------------------------------------------------------------------- facts


@dataclass(frozen=True)
class Facts:
    """What is known about a component at one moment: a small JSON document in two parts.

    ``identity`` is what must not move while a group is captured and must be the same after a recovery:
    versions, digests, dimensions, schemas. Nothing in it may name a region, a host or an absolute path.
    ``position`` is what always moves, and only forward: row counts, offsets, event times.
    ``token`` is equal exactly when nothing changed since; None where that cannot be told cheaply.
    """

    identity: Mapping[str, Json] = field(default_factory=dict)
    position: Mapping[str, Json] = field(default_factory=dict)
    token: str | None = None

    def identity_digest(self) -> str:
        """A digest that is equal exactly when the identity is."""
        return json_digest(self.identity)

    def scope(self) -> dict[str, Json]:
        """The document that an invariant sees under the component's name."""
        return {**self.identity, "position": dict(self.position)}


class Health(StrEnum):
    """The answer to a question whose answer is known. Unknown is unsafe."""

    HEALTHY = "healthy"
    SICK = "sick"
    UNKNOWN = "unknown"


class Observed(StrEnum):
    """What a connector finds of an operation that may have been cut short."""

    ABSENT = "absent"
    PARTIAL = "partial"
    STAGED = "staged"
    ACTIVE = "active"
    REVERTED = "reverted"
    UNKNOWN = "unknown"


class Layer(StrEnum):
    """The layer by which RTO is reported and activation is ordered, lowest first."""

    INFRASTRUCTURE = "infrastructure"
    DATA = "data"
    MODEL = "model"
    ORCHESTRATION = "orchestration"
    SERVING = "serving"


class Staging(StrEnum):
    """Where a connector puts what it restores before the switch."""

    BESIDE = "beside"
    IN_PLACE = "in_place"
    NONE = "none"


class Instance(StrEnum):
    """Which of a component's instances in a region is meant."""

    LIVE = "live"
    STAGED = "staged"


# ----------------------------------------------------------------------------------------------- connectors


class Settings(BaseModel):
    """The base of a connector's settings: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


AnySettings = TypeVar("AnySettings", bound=Settings)


@dataclass(frozen=True)
class Spec:
    """What a connector is, as data.

    ``refers_to`` names the kinds that this one points to: they are captured after it and switched before
    it. ``parts`` maps a role to the kind of the connector that the engine supplies for it.
    """

    kind: str
    summary: str
    layer: Layer
    settings: type[Settings]
    staging: Staging = Staging.BESIDE
    refers_to: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    runnable: bool = False
    deadline_s: float = CONNECTOR_SECONDS_MAX


@dataclass(frozen=True)
class Place:
    """One component in one region: its settings there, already resolved.

    ``addresses`` maps each address of the source region to its counterpart here, longest first: what a
    connector rewrites when data moves between regions. Empty when the source is this region.
    ``token`` says which staged instance is meant when ``instance`` is ``STAGED``.
    """

    component: str
    region: str
    settings: Settings
    instance: Instance = Instance.LIVE
    token: str = ""
    addresses: Mapping[str, str] = field(default_factory=dict)

    def settings_as(self, wanted: type[AnySettings]) -> AnySettings:
        """The settings as their connector knows them. Raises ``TypeError``, a defect, for another one's."""
        if not isinstance(self.settings, wanted):
            raise TypeError(f"{self.component} has {type(self.settings).__name__}, not {wanted.__name__}")
        return self.settings


@dataclass
class Op:
    """One operation on one component; the same ``Op`` comes again after a crash.

    ``token`` is the same for every attempt of the same step and differs between runs. ``remember``
    returns only when what it was given is in the journal, so what ``revert`` will need is remembered
    before the switch; ``memory`` holds what earlier attempts remembered. Once ``cancelled`` is set nothing that the
    call does is wanted any more: look at it in every loop, and raise ``Cancelled``. ``scratch`` is a folder of this
    operation's own, which the engine removes; it may lie on another file system than the target.
    ``source_identity`` is the identity that the snapshot being staged had when it was captured.
    """

    place: Place
    run: str
    token: str
    epoch: int
    scratch: Path
    deadline_s: float = CONNECTOR_SECONDS_MAX
    cancelled: threading.Event = field(default_factory=threading.Event)
    parts: Mapping[str, Connector] = field(default_factory=dict)
    memory: dict[str, Json] = field(default_factory=dict)
    journal: Callable[[Mapping[str, Json]], None] = lambda remembered: None
    source_identity: Mapping[str, Json] = field(default_factory=dict)

    def remember(self, **what: Json) -> None:
        """Write ``what`` to the journal, then to ``memory``."""
        self.journal(what)
        self.memory.update(what)


class EntryType(StrEnum):
    """What a stored path is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FIFO = "fifo"


@dataclass(frozen=True)
class Entry:
    """One path of a snapshot, with ``/``; bytes that are not UTF-8 are surrogates. ``link``: its file's first path."""

    path: str
    type: EntryType
    size: int = 0
    mode: int = 0o644
    mtime_ns: int = 0
    target: str = ""
    token: str = ""
    attributes: Attributes = PLAIN
    link: str = ""


class Sink(Protocol):
    """Where a connector's ``capture`` puts files. Paths are relative, with ``/``, without ``..``.

    Once the operation is cancelled, everything raises ``Cancelled`` at the next piece, and nothing more is stored.
    """

    def file(
        self,
        path: str,
        content: Path | BinaryIO,
        *,
        mode: int = 0o644,
        mtime_ns: int = 0,
        token: str | Callable[[], str] = "",
        length: int | None = None,
        link: str = "",
        attributes: Attributes = PLAIN,
    ) -> int:
        """Store a file and return its size; at most ``length`` bytes of it where given.

        ``link`` is the path under which the same file was given before: where it can be, it comes back as one file.

        ``token`` is kept with the entry, so that the next capture may ``carry`` it; one that depends on the content is
        asked for when that was read.
        """

    def earlier(self, path: str) -> str:
        """The token of a file in the previous snapshot; empty where it had none, or was not there."""

    def carry(self, path: str, token: str, *, attributes: Attributes = PLAIN) -> bool:
        """Take ``path`` from the snapshot before, with these attributes, where its token is this one; else False."""

    def directory(
        self, path: str, *, mode: int = 0o755, mtime_ns: int = 0, attributes: Attributes = PLAIN
    ) -> None:
        """Record a folder, so that an empty one comes back."""

    def symlink(self, path: str, target: str, *, attributes: Attributes = PLAIN) -> None:
        """Record a symbolic link; its target is stored, never followed."""

    def fifo(
        self, path: str, *, mode: int = 0o644, mtime_ns: int = 0, attributes: Attributes = PLAIN
    ) -> None:
        """Record a named pipe, of which nothing is read."""

    def under(self, prefix: str) -> Sink:
        """A sink whose paths land below ``prefix``: what a part is given."""


class Source(Protocol):
    """One component's snapshot, as ``stage`` reads it. Every byte is verified before it is returned.

    Once the operation is cancelled, everything raises ``Cancelled`` at the next chunk, and nothing more is written.
    """

    facts: Facts

    def entries(self) -> Iterator[Entry]:
        """Every path of the snapshot, folders before what they hold."""

    def open(self, path: str) -> BinaryIO:
        """A file's bytes. Raises ``Missing`` or ``Damaged``."""

    def fetch(self, path: str, to: Path) -> None:
        """Write one file's bytes to ``to`` durably (its parent exists), with mode and time."""

    def fetch_all(self, into: Path) -> None:
        """Write every path below ``into``; never outside of it."""

    def under(self, prefix: str) -> Source:
        """The part of the snapshot below ``prefix``."""


@runtime_checkable
class Connector(Protocol):
    """One kind of component. Every method may be called again after a crash, with the same ``Op``.

    Errors are ``ConnectorError``; the engine adds the component and the region.
    """

    spec: ClassVar[Spec]

    def inspect(self, place: Place) -> Facts:
        """Facts of what is live or staged; cheap and read-only."""

    def capture(self, sink: Sink, op: Op) -> Facts:
        """Copy the component while it runs; facts of exactly what was captured."""

    def stage(self, source: Source, op: Op) -> None:
        """Put a snapshot beside what is live, or into an empty target not yet used."""

    def activate(self, op: Op) -> None:
        """Switch to what is staged, atomically, and write (run, epoch) beside it."""

    def revert(self, op: Op) -> None:
        """Undo ``activate``: what was live before is live again."""

    def discard(self, op: Op) -> None:
        """Remove what was staged, or what ``activate`` set aside."""

    def observe(self, op: Op) -> Observed:
        """How far this operation got."""

    def health(self, place: Place) -> Health:
        """Ask the component a question whose answer is known."""


@runtime_checkable
class Occupied(Protocol):
    """A connector that can say who put what is live in a place."""

    def holder(self, place: Place) -> str | None:
        """None: empty. ``""``: something refloat did not put there. Else the name of the point that did."""


@runtime_checkable
class Identifiable(Protocol):
    """A connector that can say what it is that is in a place and that refloat did not put there."""

    def occupant(self, place: Place) -> ConnectorError | None:
        """What is there, as the error that names it and says how it is cleared; None where nothing is."""


@runtime_checkable
class Remarked(Protocol):
    """A connector that can say what a person should know of a component although nothing is wrong with it."""

    def remarks(self, place: Place) -> list[ConnectorError]:
        """Each as an error that says what to do about it; it is shown as a warning."""


@runtime_checkable
class Ailing(Protocol):
    """A connector that can say why a component is not healthy."""

    def ailment(self, place: Place) -> str:
        """What is wrong, in a few words; empty where nothing is."""


@runtime_checkable
class Sited(Protocol):
    """A connector that can say where a component's bytes lie: where room is looked for, and no vault may be."""

    def sites(self, place: Place) -> Mapping[str, Path]:
        """The live path beside which each part of a snapshot is staged, by the folder of the snapshot that holds it.

        ``""`` alone is for all of it; none where nothing is put anywhere.
        """


@runtime_checkable
class Holding(Protocol):
    """A connector that can say all that a component uses in a place; without it, none is tried in a sandbox."""

    def holds(self, place: Place) -> Holds:
        """What no other place may share with this one. Nothing is looked at: the settings alone tell."""


@runtime_checkable
class Passing(Protocol):
    """A connector that stages by way of files in ``Op.scratch``, for which there must be room as well."""

    def passing(self, place: Place) -> str | None:
        """The folder of the snapshot that lies there for a while: ``""`` for all of it, ``None`` for nothing."""


@runtime_checkable
class SetsAside(Protocol):
    """A connector that can keep what was live before the switch, where somebody else had put it there."""

    def set_aside(self, op: Op) -> list[Path]:
        """Give what the switch took away a name that ``discard`` leaves alone; where it lies, also when asked again."""


@runtime_checkable
class Tokened(Protocol):
    """A connector that can tell whether anything changed for less than an inspection costs.

    Only where nothing but the token decides what ``inspect`` finds: no setting may change what else it reads.
    """

    def token(self, place: Place) -> str | None:
        """The ``token`` of the facts that ``inspect`` would find now; None where only that can tell."""


@runtime_checkable
class Freezable(Protocol):
    """A connector that can hold its component still for a moment."""

    def freeze(self, place: Place) -> AbstractContextManager[None]:
        """Writers wait while the context is open; leaving it always lets them go on."""


@runtime_checkable
class Runnable(Protocol):
    """A connector whose component runs."""

    def start(self, op: Op) -> None:
        """Start fenced: it can be probed, but serves no user and runs no job of its own."""

    def unfence(self, op: Op) -> None:
        """Let it serve."""

    def stop(self, op: Op) -> None:
        """Stop what this operation started, by its own identity."""


# ----------------------------------------------------------------------------------------------- probes


@dataclass(frozen=True)
class Question:
    """One golden question: what to ask, and what a right answer names."""

    id: str
    request: Mapping[str, Json]
    expected: Mapping[str, Json]


@dataclass(frozen=True)
class Answer:
    """What came back for one question. ``seconds`` is None where no answer came."""

    question: Question
    seconds: float | None
    response: Mapping[str, Json]
    end_to_end_s: float | None = None
    error: str = ""


PROBE_ID_START = "7265666c6f61"
"""How the identifier of a probe's question begins: ``refloa`` in ASCII, so that a log tells them from users' by it.

The identifier is a UUID all the same, because some endpoints take nothing else.
"""


class Probe(Protocol):
    """One way of asking a component a question."""

    def ask(self, question: Question) -> Answer:
        """Ask once and time it; a failure is an answer with ``error``."""

    def trace(self, question: Question) -> Answer:
        """Ask once and wait until the answer has reached its last stop, timing the whole way."""

    def close(self) -> None:
        """Give back connections."""


@runtime_checkable
class Reaching(Protocol):
    """A probe that can tell whether anybody listens where it asks, without a question."""

    def unreachable(self) -> str:
        """Why nobody does, in a few words; empty where somebody does."""


# ----------------------------------------------------------------------------------------------- progress


class Progress(Protocol):
    """Where long work says how far it is; drawn in ``cli/``, silent elsewhere."""

    def start(self, task: str, total: int | None = None, unit: str = "bytes") -> None:
        """A piece of work begins; ``total`` in ``unit`` where it is known."""

    def advance(self, task: str, amount: int = 1) -> None:
        """``amount`` more of it is done."""

    def finish(self, task: str, note: str = "") -> None:
        """It is over."""

    def say(self, text: str) -> None:
        """One line for the person watching."""


class Silent:
    """Progress that nobody watches."""

    def start(self, task: str, total: int | None = None, unit: str = "bytes") -> None:
        """Nothing."""

    def advance(self, task: str, amount: int = 1) -> None:
        """Nothing."""

    def finish(self, task: str, note: str = "") -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""
