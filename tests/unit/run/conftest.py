"""A small world to recover in: real slot logs and keys, components that are files, and a power switch.

Every operation on the store and every effect of a component goes through ``Power``, which can be cut at
any of them. What is on the disk and in the store stays as it was at that moment.
"""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from refloat.contracts import (
    Facts,
    Health,
    Layer,
    ObjectInfo,
    Observed,
    Op,
    Place,
    Put,
    Settings,
    Source,
    Spec,
    Staging,
    Store,
)
from refloat.digest import object_name
from refloat.errors import ConnectorError, Retry
from refloat.manifest.model import Manifest
from refloat.plan.build import build
from refloat.plan.model import Action, Plan, Step
from refloat.point.model import Grade, GroupRecord, Point, Snapshot, Verdict
from refloat.run.actions import standard
from refloat.run.actions.readonly import ReadOnly
from refloat.run.claim import Claim
from refloat.run.context import Context
from refloat.run.engine import execute
from refloat.run.journal import Journal
from refloat.run.state import Holder, View
from refloat.run.target import ComponentTarget, Target
from refloat.testing.memory_snapshot import MemorySink
from refloat.vault.keys import KeyFile, Keyring, Role, key_objects
from refloat.vault.layout import Descriptor, key_name, write_descriptor
from refloat.vault.slotlog import SlotLog
from refloat.vault.stores.memory import MemoryStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN = "run-1"


class Cut(BaseException):
    """The power went: nothing after this happens in this process."""


class Power:
    """Counts moments, and fails at one of them and at all that follow."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.moments: list[str] = []
        self.off = False
        self._lock = threading.Lock()

    def moment(self, what: str) -> None:
        with self._lock:
            if self.off or len(self.moments) == self.at:
                self.off = True
                raise Cut(what)
            self.moments.append(what)


class PoweredStore:
    """A store whose every operation can be the last one."""

    def __init__(self, inner: Store, power: Power) -> None:
        self.url = inner.url
        self._inner = inner
        self._power = power

    def create(self, name: str, content: bytes | memoryview) -> Put:
        self._power.moment(f"before create {name}")
        put = self._inner.create(name, content)
        self._power.moment(f"after create {name}")
        return put

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        self._power.moment(f"get {name}")
        return self._inner.get(name, start, length)

    def size(self, name: str) -> int | None:
        self._power.moment(f"size {name}")
        return self._inner.size(name)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._power.moment(f"list {prefix}")
        return self._inner.list(prefix)

    def delete(self, name: str) -> None:
        self._power.moment(f"delete {name}")
        self._inner.delete(name)


class Ticking:
    """A clock that moves a little with every look, and by what is slept."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0

    def now(self) -> datetime:
        self.elapsed_s += 0.001
        return NOW + timedelta(seconds=self.elapsed_s)

    def monotonic(self) -> float:
        self.elapsed_s += 0.001
        return self.elapsed_s

    def sleep(self, seconds: float) -> None:
        self.elapsed_s += seconds


FOR_EVER = 1_000
_overdue: dict[threading.Thread, int] = {}


def overdue(times: int = 1) -> None:
    """Say of the call in which this is said that its time is over; ``FOR_EVER``: the grace after it, too."""
    _overdue[threading.current_thread()] = times


@pytest.fixture
def called_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Time is over for a call when it says so, and never else, however slow the machine is."""

    def ends(call: Any, seconds: float) -> bool:
        while call.thread.is_alive():
            call.thread.join(0.005)
            if _overdue.get(call.thread, 0) > 0:
                _overdue[call.thread] -= 1
                return False
        return True

    monkeypatch.setattr("refloat.deadline._Call.ends", ends)
    return overdue


class ShelfSettings(Settings):
    path: str


class Shelf:
    """A component that is one file; ``effects`` is its op-ID ledger: what happened, not what was asked."""

    spec: ClassVar[Spec]

    def __init__(self, spec: Spec, power: Power, effects: list[str], failing: set[str]) -> None:
        self.spec = spec  # type: ignore[misc]
        self._power = power
        self._effects = effects
        self._failing = failing
        self.observed: Observed | None = None
        self.retry = Retry.NEVER

    def _path(self, place: Place) -> Path:
        settings = place.settings
        assert isinstance(settings, ShelfSettings)
        return Path(settings.path)

    def _beside(self, op: Op, what: str) -> Path:
        path = self._path(op.place)
        return path.with_name(f"{path.name}.{op.token}.{what}")

    def _marker(self, place: Place) -> Path:
        path = self._path(place)
        return path.with_name(f"{path.name}.marker")

    def _effect(self, op: Op, what: str) -> None:
        self._effects.append(f"{what} {op.place.component} {op.token}")

    def _begin(self, what: str, op: Op) -> None:
        component = op.place.component
        self._power.moment(f"before {what} {component}")
        self._refuse_stale_epoch(op)
        if f"{what} {component}" in self._failing:
            raise ConnectorError(f"{what} of {component} does not work", retry=self.retry)
        if f"hang {what} {component}" in self._failing:
            overdue()
            op.cancelled.wait(20)
            op.remember(too="late")

    def _refuse_stale_epoch(self, op: Op) -> None:
        path = self._path(op.place)
        fence = path.with_name(f"{path.name}.epoch")
        fence.parent.mkdir(parents=True, exist_ok=True)
        if fence.exists() and int(fence.read_text()) > op.epoch:
            raise ConnectorError(f"epoch {op.epoch} is over")
        fence.write_text(str(op.epoch))

    def inspect(self, place: Place) -> Facts:
        path = self._path(place)
        if place.instance == "staged":
            path = path.with_name(f"{path.name}.{place.token}.staged")
        if not path.exists():
            raise ConnectorError(f"{path.name} is not there")
        return facts_of(path.read_bytes())

    def capture(self, sink: Any, op: Op) -> Facts:
        raise ConnectorError("a shelf is never captured")

    def stage(self, source: Source, op: Op) -> None:
        self._begin("stage", op)
        if self.spec.staging is Staging.NONE or self.observe(op) is Observed.STAGED:
            return
        content = source.open("content").read()
        partial = self._beside(op, "partial")
        partial.write_bytes(content[: len(content) // 2])
        self._power.moment(f"amid stage {op.place.component}")
        partial.write_bytes(content)
        partial.replace(self._beside(op, "staged"))
        self._effect(op, "stage")
        self._power.moment(f"after stage {op.place.component}")

    def activate(self, op: Op) -> None:
        self._begin("activate", op)
        if self.spec.staging is Staging.NONE or self.observe(op) is Observed.ACTIVE:
            return
        live = self._path(op.place)
        if "was_live" not in op.memory:
            op.remember(was_live=live.exists())
        if live.exists():
            live.replace(self._beside(op, "previous"))
        self._power.moment(f"amid activate {op.place.component}")
        self._beside(op, "staged").replace(live)
        self._marker(op.place).write_text(f"{op.token} {op.memory['point']} {op.epoch}")
        self._effect(op, "activate")
        self._power.moment(f"after activate {op.place.component}")

    def revert(self, op: Op) -> None:
        self._begin("revert", op)
        live, previous = self._path(op.place), self._beside(op, "previous")
        if self._is_ours(op):
            live.replace(self._beside(op, "staged"))
            self._marker(op.place).unlink()
            self._effect(op, "revert")
        self._power.moment(f"amid revert {op.place.component}")
        if previous.exists():
            assert op.memory["was_live"] is True
            previous.replace(live)

    def set_aside(self, op: Op) -> list[Path]:
        previous, aside = self._beside(op, "previous"), self._beside(op, "set-aside")
        if previous.exists():
            previous.replace(aside)
        return [aside] if aside.exists() else []

    def discard(self, op: Op) -> None:
        self._begin("discard", op)
        for what in ("partial", "staged", "previous"):
            self._beside(op, what).unlink(missing_ok=True)
        self._power.moment(f"after discard {op.place.component}")

    def _is_ours(self, op: Op) -> bool:
        marker = self._marker(op.place)
        return marker.exists() and marker.read_text().split()[0] == op.token

    def observe(self, op: Op) -> Observed:
        self._power.moment(f"observe {op.place.component}")
        if self.observed is not None:
            return self.observed
        if self.spec.runnable:
            return Observed.ACTIVE if self._runs(op) else Observed.ABSENT
        if self._is_ours(op):
            return Observed.ACTIVE
        if self._beside(op, "previous").exists():
            return Observed.PARTIAL
        return Observed.STAGED if self._beside(op, "staged").exists() else Observed.ABSENT

    def health(self, place: Place) -> Health:
        path = self._path(place)
        live = path.with_name(f"{path.name}.running") if self.spec.runnable else path
        return Health.HEALTHY if live.exists() else Health.SICK

    def holder(self, place: Place) -> str | None:
        if self._marker(place).exists():
            return self._marker(place).read_text().split()[1]
        return "" if self._path(place).exists() else None


class Service(Shelf):
    """A shelf that runs: its process is a file with the token of who started it."""

    def _running(self, op: Op) -> Path:
        path = self._path(op.place)
        return path.with_name(f"{path.name}.running")

    def _runs(self, op: Op) -> bool:
        return self._running(op).exists() and self._running(op).read_text() == op.token

    def start(self, op: Op) -> None:
        self._begin("start", op)
        if not self._runs(op):
            assert not self._running(op).exists(), "a second process was started"
            self._running(op).write_text(op.token)
            self._effect(op, "start")
        self._power.moment(f"after start {op.place.component}")

    def unfence(self, op: Op) -> None:
        self._begin("unfence", op)
        serving = self._running(op).with_suffix(".serving")
        if not serving.exists():
            serving.write_text("")
            self._effect(op, "unfence")
        self._power.moment(f"after unfence {op.place.component}")

    def stop(self, op: Op) -> None:
        self._begin("stop", op)
        if self._runs(op):
            self._running(op).unlink()
            self._effect(op, "stop")
        self._power.moment(f"after stop {op.place.component}")


def facts_of(content: bytes) -> Facts:
    return Facts(identity={"digest": hashlib.sha256(content).hexdigest()})


SPECS = {
    "shelf": Spec("shelf", "one file", Layer.DATA, ShelfSettings),
    "models": Spec("models", "one file of models", Layer.MODEL, ShelfSettings, refers_to=("shelf",)),
    "service": Spec(
        "service",
        "a file that runs",
        Layer.SERVING,
        ShelfSettings,
        staging=Staging.NONE,
        refers_to=("shelf", "models"),
        runnable=True,
    ),
}
KINDS = {"answers": "shelf", "registry": "models", "assistant": "service"}
MANIFEST = Manifest.model_validate(
    {
        "version": 1,
        "pipeline": "support",
        "regions": {"eu": {"vault": "memory://eu"}, "us": {"vault": "memory://us"}},
        "primary": "eu",
        "components": {
            "assistant": {"kind": "service", "tier": "critical", "needs": ["registry", "answers"]},
            "registry": {"kind": "models"},
            "answers": {"kind": "shelf"},
        },
        "groups": {"serving": {"members": ["registry", "answers"], "must": ["registry.digest != ''"]}},
        "verify": {
            "assistant": {
                "probe": {"http": "http://x"},
                "golden": "g",
                "bounds": {"errors": {"at_most": 0.1}},
            }
        },
    }
)


class Told(ReadOnly):
    """An action handed in from outside: fails where told to."""

    def __init__(self, name: str, power: Power, failing: set[str]) -> None:
        self._name, self._power, self._failing = name, power, failing

    def do(self, step: Step, context: Context) -> Mapping[str, Any]:
        self._power.moment(f"before {self._name}")
        if self._name in self._failing:
            raise ConnectorError(f"{self._name} says no")
        self._power.moment(f"after {self._name}")
        return {"asked": 20}


@pytest.fixture(scope="session")
def key_file() -> KeyFile:
    return KeyFile.create("vault-1", "support")


@pytest.fixture(scope="session")
def keyed(key_file: KeyFile) -> Callable[[], MemoryStore]:
    """Makes empty replicas with the same keys."""
    objects = [(key_name(object_name(stored)), stored) for stored in key_objects(key_file)]

    def make() -> MemoryStore:
        store = MemoryStore()
        write_descriptor(store, Descriptor(vault="vault-1", replica="us", region="us", pipeline="support"))
        for name, stored in objects:
            store.create(name, stored)
        return store

    return make


@pytest.fixture(scope="session")
def keyring(key_file: KeyFile, keyed: Callable[[], MemoryStore]) -> Keyring:
    return Keyring.open(key_file, keyed())


@dataclasses.dataclass
class World:
    """One region to recover into. ``power`` and ``failing`` may be changed between runs."""

    root: Path
    store: MemoryStore
    keyring: Keyring
    power: Power = dataclasses.field(default_factory=Power)
    clock: Ticking = dataclasses.field(default_factory=Ticking)
    effects: list[str] = dataclasses.field(default_factory=list)
    failing: set[str] = dataclasses.field(default_factory=set)
    verdicts: list[bool | None] = dataclasses.field(default_factory=lambda: [True])
    source_health: dict[str, Health] = dataclasses.field(default_factory=dict)
    missing: list[str] = dataclasses.field(default_factory=list)
    grade: Grade = Grade.EXACT
    process: int = 1
    shelves: dict[str, Shelf] = dataclasses.field(default_factory=dict)
    deadlines: dict[str, float] = dataclasses.field(default_factory=dict)
    prepare: Callable[[Mapping[str, Shelf]], None] = lambda shelves: None

    @property
    def point(self) -> Point:
        def snapshot(name: str) -> Snapshot:
            content = self.content(name)
            return Snapshot(
                kind=KINDS[name],
                tree="00",
                identity=facts_of(content).identity,
                position={},
                as_of=NOW,
                captured_from=NOW,
                captured_to=NOW,
                files=1,
                bytes=len(content),
            )

        group = GroupRecord(members=("registry", "answers"), grade=self.grade, reason="by a test")
        return Point(
            pipeline="support",
            primary="eu",
            created_at=NOW,
            manifest="00",
            components={name: snapshot(name) for name in KINDS},
            groups={"serving": group},
        )

    @property
    def plan(self) -> Plan:
        plan = build("point-1", self.point, MANIFEST, "us", SPECS)
        steps = (
            step.model_copy(update={"timeout_s": self.deadlines.get(step.id, step.timeout_s)})
            for step in plan.steps
        )
        return plan.model_copy(update={"steps": tuple(steps)})

    def content(self, name: str) -> bytes:
        return f"{name} as captured".encode() * 3

    def path(self, name: str) -> Path:
        return self.root / "us" / name

    def target(self) -> Target:
        self.shelves = {
            name: (Service if SPECS[kind].runnable else Shelf)(
                SPECS[kind], self.power, self.effects, self.failing
            )
            for name, kind in KINDS.items()
        }
        self.prepare(self.shelves)
        return Target(
            region="us",
            point_name="point-1",
            point=self.point,
            components={name: self.component(name) for name in KINDS},
            scratch=self.root / "scratch",
            groups=MANIFEST.groups,
            known_points=frozenset({"point-1", "point-0"}),
            missing=lambda: self.missing,
            source_health=lambda: {self.point.primary: self.source_health},
        )

    def component(self, name: str) -> ComponentTarget:
        sink = MemorySink()
        content = self.root / f"{name}.captured"
        content.write_bytes(self.content(name))
        sink.file("content", content)
        snapshot = self.point.components[name]
        place = Place(name, "us", ShelfSettings(path=str(self.path(name))))
        return ComponentTarget(
            name, self.shelves[name], place, snapshot, lambda heard, cancelled: sink.source(snapshot.facts)
        )

    def actions(self) -> dict[Action, Any]:
        def evaluate(must: Sequence[str], facts: Mapping[str, Facts]) -> list[Verdict]:
            assert all(known.identity for known in facts.values())
            return [Verdict(must=text, holds=holds) for text, holds in zip(must, self.verdicts, strict=True)]

        more = {
            Action.VERIFY: Told("verify", self.power, self.failing),
            Action.PROTECT: Told("protect", self.power, self.failing),
        }
        return standard(self.target(), evaluate, more)

    def log(self, stream: str) -> SlotLog:
        store = PoweredStore(self.store, self.power)
        return SlotLog(store, stream, self.keyring, role=Role.OPERATOR, clock=self.clock)

    def journal(self, run: str = RUN) -> Journal:
        return Journal(self.log(f"runs/{run}"), self.clock)

    def holder(self) -> Holder:
        """A process that no longer lives, so that the next one may follow it."""
        return Holder(host="here", boot="this", process=self.process, born="1")

    def claim(self, run: str = RUN, **more: Any) -> Claim:
        return Claim.win(
            self.log("targets/us"),
            run=run,
            clock=self.clock,
            **{"holder": self.holder(), "view_of": lambda other: self.journal(other).view, **more},
        )

    def recover(self, *, workers: int = 1, **more: Any) -> View:
        """Begin the run, or resume it: the same words for both."""
        claim = self.claim(overrides=more.get("overrides", frozenset()))
        journal = self.journal()
        plan = journal.view.plan or self.plan
        return execute(plan, journal, claim, self.actions(), clock=self.clock, workers=workers, **more)

    def after_the_crash(self) -> World:
        """Power is back, on another machine, a while later."""
        self.power = Power()
        self.process += 1
        self.clock.elapsed_s += 60
        return self

    def tree(self) -> dict[str, str]:
        """What is on the disk in the region, by path; tokens and epochs apart."""
        folder = self.root / "us"
        files = sorted(folder.rglob("*")) if folder.exists() else []
        return {
            path.name: "" if path.name.endswith(("marker", "running", "epoch")) else path.read_text()
            for path in files
        }

    def counted(self) -> Counter[str]:
        """How often each effect happened, by operation."""
        return Counter(self.effects)


@pytest.fixture
def make_world(tmp_path: Path, keyring: Keyring, keyed: Callable[[], MemoryStore]) -> Callable[..., World]:
    """Makes worlds that share nothing but the keys."""
    made: list[World] = []

    def make(**more: Any) -> World:
        root = tmp_path / f"world-{len(made)}"
        root.mkdir()
        made.append(World(root, keyed(), keyring, **more))
        return made[-1]

    return make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


@pytest.fixture
def names() -> SimpleNamespace:
    """What a test needs to name and cannot import from here."""
    return SimpleNamespace(
        Cut=Cut,
        Power=Power,
        RUN=RUN,
        MANIFEST=MANIFEST,
        SPECS=SPECS,
        Told=Told,
        FOR_EVER=FOR_EVER,
    )
