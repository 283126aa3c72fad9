"""The regions of a simulated world, and the processes that look at them through faults."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from refloat.contracts import ObjectInfo, Put, Store
from refloat.run.state import Holder
from refloat.testing.disk import torn
from refloat.testing.world import WorldClock
from refloat.vault import layout
from refloat.vault.stores.faulty import Crash, FaultyStore, Operation, When
from refloat.vault.stores.local import LocalStore
from refloat.vault.stores.memory import MemoryStore

LIED_ABOUT = (layout.PACKS, layout.INDEX, layout.POINTS, "log/points/")
"""What a store may say it holds and not hold. Of a journal's entry only a reply may be lost."""


class LaggingStore:
    """A store whose listings do not show the ``lag`` objects that were created last, in memory or in a folder."""

    def __init__(self, name: str, folder: Path | None = None) -> None:
        self.url = f"memory://{name}"
        self.lag = 0
        self.changes = 0
        self._folder = folder
        self._inner: Store = MemoryStore(name) if folder is None else LocalStore(folder)
        self._created: dict[str, None] = {}

    def create(self, name: str, content: bytes | memoryview) -> Put:
        """As in any store."""
        self.changes += 1
        put = self._inner.create(name, content)
        self._created[name] = None
        return put

    def torn(self, create: Callable[[], object]) -> None:
        """What a create leaves that is stopped in its middle."""
        self.changes += 1
        if self._folder is not None:
            torn(self._folder)(create)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """As in any store."""
        return self._inner.get(name, start, length)

    def size(self, name: str) -> int | None:
        """As in any store."""
        return self._inner.size(name)

    def delete(self, name: str) -> None:
        """As in any store."""
        self.changes += 1
        self._inner.delete(name)
        self._created.pop(name, None)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Some of what is there."""
        late = set(self.names()[-self.lag :]) if self.lag else set()
        return (entry for entry in self._listed(prefix) if entry.name not in late)

    def saved(self) -> dict[str, bytes]:
        """Everything that is stored now."""
        return {name: self.get(name) for name in self.names()}

    def put_back(self, objects: Mapping[str, bytes]) -> None:
        """Hold exactly ``objects``."""
        for name in self.names():
            self.delete(name)
        for name, content in objects.items():
            self.create(name, content)
        self.changes += 1

    def names(self) -> tuple[str, ...]:
        """Every name, oldest first; no listing lags here."""
        return tuple(entry.name for entry in self._listed(""))

    def _listed(self, prefix: str) -> tuple[ObjectInfo, ...]:
        """Oldest first; what was there without having been created comes last."""
        found = {entry.name: entry for entry in self._inner.list(prefix)}
        known = tuple(found.pop(name) for name in self._created if name in found)
        return known + tuple(found[name] for name in sorted(found))


@dataclass
class Region:
    """One region as it truly is. ``harmed`` names the objects that are not what was written, or are gone.

    ``judged`` is how many changes its store had seen when everything in it was last held against the truth.
    """

    name: str
    store: LaggingStore
    up: bool = True
    harmed: set[str] = field(default_factory=set)
    wiped: bool = False
    judged: int = -1

    @property
    def sound(self) -> bool:
        """Whether everything that was acknowledged here can be read."""
        return self.up and not self.wiped and not self.harmed

    @property
    def rotten(self) -> bool:
        """Whether anything has other bytes than were written, which only reading it can tell."""
        return any(self.store.size(name) is not None for name in self.harmed)

    @contextmanager
    def listed(self) -> Iterator[None]:
        """Listings show everything while the context is open."""
        lag, self.store.lag = self.store.lag, 0
        try:
            yield
        finally:
            self.store.lag = lag

    @property
    def log_harmed(self) -> bool:
        """Whether an entry of the log of points was harmed: it has no copy elsewhere."""
        return any(name.startswith("log/points/") for name in self.harmed)


@dataclass(frozen=True)
class Faults:
    """What goes wrong for one process. Steps are its store operations and its effects, counted from 1.

    ``dies_at`` is the step at which it dies, before or after it; ``failing`` are steps that fail if they are
    store operations; ``misdirect`` is a seed for one object whose bytes are served for those of another.
    """

    dies_at: int | None = None
    when: When = When.BEFORE
    failing: Mapping[int, When] = field(default_factory=dict)
    misdirect: int | None = None
    latency_s: float = 0.0


NONE = Faults()


class Process:
    """One process on a machine of its own: how it sees the stores, and when it dies."""

    def __init__(
        self,
        name: str,
        regions: Mapping[str, Region],
        clock: WorldClock,
        faults: Faults = NONE,
        *,
        pause: Callable[[], None] = lambda: None,
        told: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.name = name
        self.dead = False
        self.steps = 0
        self._faults = faults
        self._pause = pause
        self._told = told
        self._clock = clock
        self._stores = {region: self._store(place) for region, place in regions.items()}
        if faults.misdirect is not None:
            self._misdirect(random.Random(faults.misdirect), regions)

    @property
    def holder(self) -> Holder:
        """How it signs a claim."""
        return Holder(host=f"host-{self.name}", boot="one", process=1, born="1")

    def store(self, url: str) -> Store:
        """The store at an address, as this process sees it."""
        return self._stores[url.removeprefix("memory://")]

    def touch(self, what: str) -> None:
        """One step that is no store operation."""
        self._step(what)
        if self._dies_now():
            self.dead = True
            raise Crash(what)

    def _store(self, region: Region) -> FaultyStore:
        def at_each(operation: Operation) -> None:
            self._step(f"{region.name} {operation.op} {operation.name}")
            store.down = not region.up
            if self._dies_now():
                self.dead = True
                store.crash(operation.number, self._faults.when)
            elif (how := self._faults.failing.get(self.steps)) is not None:
                lies = how is When.LYING and not operation.name.startswith(LIED_ABOUT)
                store.fail(operation.number, When.AFTER if lies else how)

        store = FaultyStore(
            region.store,
            latency_s=self._faults.latency_s,
            sleep=self._clock.sleep,
            at_each=at_each,
            torn=region.store.torn,
        )
        return store

    def _misdirect(self, dice: random.Random, regions: Mapping[str, Region]) -> None:
        region = dice.choice(list(regions))
        names = regions[region].store.names()
        kind = dice.choice(LIED_ABOUT)
        alike = [name for name in names if name.startswith(kind)]
        if len(alike) > 1:
            asked, served = dice.sample(alike, 2)
            self._told(f"{self.name} {region} serves {served} for {asked}")
            self._stores[region].misdirect(asked, served)

    def _step(self, what: str) -> None:
        self._pause()
        if self.dead:
            raise Crash(what)
        self.steps += 1
        self._told(f"{self.name} {what}")

    def _dies_now(self) -> bool:
        return self.steps == self._faults.dies_at
