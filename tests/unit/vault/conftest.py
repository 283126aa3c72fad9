"""A small vault of two regions in memory, and the words in which the tests speak of it."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from refloat.contracts import EntryType, Facts, Store
from refloat.digest import Json
from refloat.vault.described import known_notes
from refloat.vault.keys import KeyFile
from refloat.vault.replica import Replica, create_vault
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.writer import RegionResult, Stored, Writer

sys.path.insert(0, str(Path(__file__).parent))  # for poison

MOMENT = datetime(2026, 11, 1, 12, tzinfo=UTC)


class TickingClock:
    """Every look at it is a second later."""

    def __init__(self) -> None:
        self._ticks = 0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        with self._lock:
            self._ticks += 1
            return MOMENT + timedelta(seconds=self._ticks)

    def monotonic(self) -> float:
        return (self.now() - MOMENT).total_seconds()

    def sleep(self, seconds: float) -> None:
        self.now()


def body_of(trees: Mapping[str, str], manifest: str) -> dict[str, Json]:
    """A point's body with one component for each tree."""
    components: dict[str, Json] = {name: {"tree": tree} for name, tree in trees.items()}
    return {
        "manifest": manifest,
        "components": components,
        "groups": {"serving": {"grade": "exact"}},
        "pipeline": "demo",
        "created_at": "2026-11-01T12:00:00Z",
    }


@dataclass(frozen=True)
class Captured:
    """A committed point: its name, what its one component stored, each region's result."""

    point: str
    stored: Stored
    regions: Mapping[str, RegionResult]


@dataclass
class VaultWorld:
    """A vault with one component called ``files``, a manifest, and a clock of its own."""

    key_file: KeyFile = field(default_factory=lambda: KeyFile.create("vault-1", "demo"))
    clock: TickingClock = field(default_factory=TickingClock)
    stores: dict[str, Store] = field(
        default_factory=lambda: {"eu": MemoryStore("eu"), "us": MemoryStore("us")}
    )

    def create(self) -> VaultWorld:
        create_vault(self.stores, self.key_file, self.clock, "demo")
        return self

    def open(
        self, region: str = "eu", *, store: Store | None = None, key_file: KeyFile | None = None
    ) -> Replica:
        return Replica.open(region, store or self.stores[region], key_file or self.key_file, self.clock)

    def replicas(self) -> list[Replica]:
        return [self.open(region) for region in self.stores]

    def capture(
        self,
        files: Mapping[str, bytes],
        *,
        replicas: Iterable[Replica] | None = None,
        previous: str | None = None,
        pack_bytes_max: int = 1 << 26,
    ) -> Captured:
        """Capture ``files`` as the component, and commit."""
        open_replicas = self.replicas() if replicas is None else list(replicas)
        with Writer(open_replicas, pack_bytes_max=pack_bytes_max) as writer:
            manifest = writer.sink()
            manifest.file("refloat.yaml", io.BytesIO(b"version: 1\n"))
            sink = writer.sink(previous)
            for path, content in files.items():
                sink.file(path, io.BytesIO(content))
            stored = sink.finish()
            point, regions = writer.commit(body_of({"files": stored.tree}, manifest.finish().tree))
        return Captured(point, stored, regions)

    def restored(self, point: str, region: str = "eu", *, replica: Replica | None = None) -> dict[str, bytes]:
        """The component's files, as a machine reads them that knows the address and the key alone."""
        fresh = replica or self.open(region)
        components = fresh.read_point(point)["components"]
        source = fresh.source(components["files"]["tree"], Facts())  # type: ignore[index,call-overload]
        files = [entry.path for entry in source.entries() if entry.type is EntryType.FILE]
        return {path: source.open(path).read() for path in files}

    def committed(self, region: str = "eu") -> list[str]:
        return [point.name for point in self.open(region).points()]

    def names(self, prefix: str, region: str = "eu") -> list[str]:
        return sorted(entry.name for entry in self.stores[region].list(prefix))

    def replace(self, name: str, content: bytes, region: str = "eu") -> None:
        """Put other bytes under a name, as only a broken or hostile store can."""
        self.stores[region].delete(name)
        self.stores[region].create(name, content)

    def unsign(self, *regions: str) -> None:
        """Take away what was signed for descriptors, as in a vault of before."""
        for name in known_notes(self.stores.values(), self.key_file):
            for region in regions or self.stores:
                self.stores[region].delete(name)

    def flip(self, name: str, byte: int, region: str = "eu") -> None:
        content = bytearray(self.stores[region].get(name))
        content[byte] ^= 0x40
        self.replace(name, bytes(content), region)


@pytest.fixture
def world() -> VaultWorld:
    return VaultWorld().create()
