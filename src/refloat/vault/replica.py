"""One region's replica of a vault: its index, its chunks, its points, its logs."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import cast

from refloat.clock import Clock
from refloat.contracts import Facts, Store
from refloat.digest import Json, object_name
from refloat.errors import Damaged, Missing, Refused, VaultError
from refloat.limits import KIB, MIB, OBJECT_BYTES_MAX
from refloat.units import parse_time
from refloat.vault import layout
from refloat.vault.chunk import SealedChunk, open_chunk
from refloat.vault.index import Index, Location, open_index
from refloat.vault.keys import KeyFile, Keyring, Role, key_objects
from refloat.vault.layout import Descriptor, damaged
from refloat.vault.pack import Directory, PackRecord, open_directory, record_secret
from refloat.vault.points import open_point
from refloat.vault.slotlog import Entry, SlotLog
from refloat.vault.snapshot import SnapshotSource

POINTS_STREAM = "points"
GETS_AT_ONCE = 8  # requests in flight while index objects are read
WINDOW_BYTES = 1 * MIB  # small records are read this much at a time: neighbours are wanted next
WINDOWS_KEPT = 32
SMALL_RECORD_BYTES = 128 * KIB
REPAIR = "refloat vault repair"
BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class CommittedPoint:
    """A point as a region's log commits it.

    ``time`` is when the log took it, ``created_at`` when its capture began; ``heads`` are the other
    regions' log heads as last seen by the writer. ``hash`` is that of the log's entry.
    """

    name: str
    slot: int
    time: datetime
    heads: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    grade: str = ""
    created_at: datetime = BEFORE_ALL
    hash: str = ""


class Replica:
    """A replica that a key file opened. Threads may share one."""

    def __init__(
        self, region: str, store: Store, keyring: Keyring, descriptor: Descriptor, clock: Clock
    ) -> None:
        self.region = region
        self.store = store
        self.keyring = keyring
        self.descriptor = descriptor
        self.clock = clock
        self._lock = threading.RLock()
        self._index: Index | None = None
        self._read_objects: set[str] = set()
        self._logs: dict[tuple[str, Role], SlotLog] = {}
        self._window = lru_cache(WINDOWS_KEPT)(self._read_window)
        self.index_damage: dict[str, VaultError] = {}

    @classmethod
    def open(cls, region: str, store: Store, key_file: KeyFile, clock: Clock) -> Replica:
        """The replica in ``store``. Raises ``Missing`` where there is none, ``WrongKey`` for another's."""
        return cls(region, store, Keyring.open(key_file, store), layout.read_descriptor(store), clock)

    @classmethod
    def create(cls, region: str, store: Store, key_file: KeyFile, clock: Clock, *, pipeline: str) -> Replica:
        """Make an empty place into a replica: the keys first, the descriptor last.

        Raises ``Refused`` (``vault_exists``) where anything is there already.
        """
        return create_vault({region: store}, key_file, clock, pipeline)[region]

    # -------------------------------------------------------------------------------------------- index

    @property
    def index(self) -> Index:
        """Where the chunks are; read on first use, every index object verified.

        Index objects that are missing or damaged are made up for from the packs, whose directories say the
        same; ``index_damage`` names them.
        """
        with self._lock:
            if self._index is None:
                index = Index()
                self._read_index(index)
                self._index = index
            return self._index

    def refresh_index(self) -> None:
        """Take in the index objects that were added since."""
        with self._lock:
            if self._index is None:
                self._index = self.index
            else:
                self._read_index(self._index)

    def recover_index(self) -> None:
        """Take in new index objects, and what packs that no index object lists say of themselves."""
        with self._lock:
            self.refresh_index()
            self._read_directories(self.index)

    def learn(self, name: str, packs: Iterable[tuple[PackRecord, Directory]]) -> None:
        """Take in an index object that was just written here."""
        with self._lock:
            self.index.add(packs)
            self._read_objects.add(name)

    def _read_index(self, index: Index) -> None:
        listed = {info.name.removeprefix(layout.INDEX) for info in self.store.list(layout.INDEX)}
        names = sorted(listed - self._read_objects)
        with ThreadPoolExecutor(GETS_AT_ONCE, thread_name_prefix="index") as pool:
            for packs in pool.map(self._open_index, names):
                index.add(packs)
        self._read_objects.update(names)
        if self.index_damage:
            self._read_directories(index)

    def _open_index(self, name: str) -> list[tuple[PackRecord, Directory]]:
        what = layout.index_name(name)
        try:
            return open_index(self.keyring, name, self.store.get(what, 0, OBJECT_BYTES_MAX + 1), what=what)
        except (Missing, Damaged) as error:
            self.index_damage[what] = error
            return []

    def _read_directories(self, index: Index) -> None:
        """Take in what packs say of themselves, for those that no index object lists."""
        for info in self.store.list(layout.PACKS):
            name = info.name.rpartition("/")[2]
            if info.name == layout.pack_name(name) and not index.knows(name):
                try:
                    directory = self.read_directory(name, info.size)
                except (Missing, Damaged) as error:
                    self.index_damage[info.name] = error
                else:
                    index.add([(PackRecord(name, info.size, directory.key_id), directory)])

    def read_directory(self, pack: str, size: int) -> Directory:
        """A pack's own directory, by ranged reads. Raises ``Missing`` or ``Damaged``."""
        what = layout.pack_name(pack)
        return open_directory(
            self.keyring, lambda start, length: self.store.get(what, start, length), size, what=what
        )

    # -------------------------------------------------------------------------------------------- chunks

    def read_chunk(self, name: bytes) -> bytes:
        """A chunk's raw bytes, opened and held against its name.

        Raises ``Missing`` or ``Damaged`` where no copy in this region is whole, ``WrongKey`` where this
        holder may not read it.
        """
        failed: VaultError | None = None
        for location in self.locate(name):
            try:
                return self._open(name, location)
            except VaultError as error:
                self._window.cache_clear()
                failed = failed or error
        if failed is not None:
            failed.next = failed.next or REPAIR
            raise failed.at(region=self.region)
        raise Missing(
            f"chunk {name.hex()} is in no pack of {self.region}",
            region=self.region,
            file=name.hex(),
            next=REPAIR,
        )

    def locate(self, name: bytes) -> list[Location]:
        """Every place of a chunk; where the index knows none, new index objects and the packs are asked."""
        found = list(self.index.locations(name))
        if not found:
            self.recover_index()
            found = list(self.index.locations(name))
        return found

    def _open(self, name: bytes, location: Location) -> bytes:
        secret = record_secret(self.keyring, location.pack.key_id)
        what = layout.pack_name(location.pack.name)
        record = self._range(what, location)
        if len(record) != location.stored_length:
            raise damaged(what, "it is shorter than its directory says")
        sealed = SealedChunk(name, location.codec, location.base, location.raw_length, record)
        return open_chunk(sealed, name_key=self.keyring.chunk_name_key, secret=secret, what=what)

    def _range(self, pack: str, location: Location) -> bytes:
        start, length = location.offset, location.stored_length
        if length > SMALL_RECORD_BYTES:
            return self.store.get(pack, start, length)
        first, last = start // WINDOW_BYTES, (start + length - 1) // WINDOW_BYTES
        windows = b"".join(self._window(pack, number) for number in range(first, last + 1))
        return windows[start - first * WINDOW_BYTES :][:length]

    def _read_window(self, pack: str, number: int) -> bytes:
        return self.store.get(pack, number * WINDOW_BYTES, WINDOW_BYTES)

    # -------------------------------------------------------------------------------------------- points

    def log(self, stream: str, role: Role) -> SlotLog:
        """A slot log of this replica; the same one for the same stream and role."""
        with self._lock:
            key = (stream, role)
            if key not in self._logs:
                self._logs[key] = SlotLog(self.store, stream, self.keyring, role=role, clock=self.clock)
            return self._logs[key]

    def points(self) -> list[CommittedPoint]:
        """The points that this region's log commits, oldest first, the chain verified. Raises ``Damaged``."""
        return [committed(entry) for entry in self.log(POINTS_STREAM, Role.WRITER).entries()]

    def last_point(self) -> CommittedPoint | None:
        """The last of ``points``; only the end of the log is read."""
        entry = self.log(POINTS_STREAM, Role.WRITER).head()
        return None if entry is None else committed(entry)

    def head(self) -> Mapping[str, Json] | None:
        """The slot, hash and point of the last entry of this region's log of points; None where it is empty."""
        entry = self.log(POINTS_STREAM, Role.WRITER).head()
        return None if entry is None else head_of(entry)

    def read_point(self, name: str) -> Mapping[str, Json]:
        """The body of a point, verified. Raises ``Missing`` or ``Damaged``."""
        what = layout.point_name(name)
        try:
            return open_point(self.keyring, name, self.store.get(what, 0, OBJECT_BYTES_MAX + 1))
        except Missing as error:
            raise Missing(
                f"{what} is not in {self.region}", region=self.region, file=what, next=REPAIR
            ) from error

    def source(self, tree: str, facts: Facts) -> SnapshotSource:
        """The files of a snapshot by its root tree (hex)."""
        return SnapshotSource(self.read_chunk, tree, facts)


def head_of(entry: Entry) -> dict[str, Json]:
    """What is told of an entry of a log of points when it is the last one."""
    return {"slot": entry.slot, "hash": entry.hash, "point": committed(entry).name}


def committed(entry: Entry) -> CommittedPoint:
    """The point that an entry of a log of points commits. Raises ``Damaged`` for an entry that names none."""
    point, heads, grade = entry.body.get("point"), entry.body.get("heads", {}), entry.body.get("grade", "")
    made = entry.body.get("created_at")
    try:
        created_at = parse_time(made) if isinstance(made, str) else entry.time
    except ValueError as error:
        raise damaged(layout.slot_name(POINTS_STREAM, entry.slot), str(error)) from error
    if not isinstance(point, str) or not isinstance(heads, Mapping):
        raise damaged(layout.slot_name(POINTS_STREAM, entry.slot), "it does not name a point")
    seen = cast("Mapping[str, Mapping[str, Json]]", heads)
    return CommittedPoint(point, entry.slot, entry.time, seen, str(grade), created_at, entry.hash)


def create_vault(
    replicas: Mapping[str, Store], key_file: KeyFile, clock: Clock, pipeline: str
) -> dict[str, Replica]:
    """Make empty places into the replicas of one vault. None is begun unless all are empty.

    Raises ``Refused`` (``vault_exists``).
    """
    for region, store in replicas.items():
        _require_empty(region, store)
    keys = key_objects(key_file)
    return {
        region: _create(region, store, keys, key_file, clock, pipeline) for region, store in replicas.items()
    }


def _require_empty(region: str, store: Store) -> None:
    there = next(iter(_names(store)), None)
    if there is not None:
        raise Refused(
            "vault_exists",
            f"{store.url} is not empty: it holds {there}",
            region=region,
            next="choose an empty place, or use the vault that is there with its own key",
        )


def _names(store: Store) -> Iterator[str]:
    if store.size(layout.VAULT) is not None:
        yield layout.VAULT
    yield from (info.name for info in store.list(""))


def _create(
    region: str, store: Store, keys: list[bytes], key_file: KeyFile, clock: Clock, pipeline: str
) -> Replica:
    for key in keys:
        store.create(layout.key_name(object_name(key)), key)
    descriptor = Descriptor(vault=key_file.vault, replica=uuid.uuid4().hex, region=region, pipeline=pipeline)
    layout.write_descriptor(store, descriptor)
    return Replica.open(region, store, key_file, clock)
