"""One region's replica of a vault: its index, its chunks, its points, its logs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from refloat.attributes import Withheld
from refloat.clock import Clock
from refloat.contracts import Facts, Keeping, Progress, Silent, Store
from refloat.digest import Json, object_name
from refloat.errors import Damaged, Missing, RefloatError, StoreError, UsageError, VaultError
from refloat.limits import OBJECT_BYTES_MAX, SLOT_DIGITS
from refloat.units import parse_time
from refloat.vault import layout
from refloat.vault.begun import look, noted_of, objects_of
from refloat.vault.chunk import BASES_MAX, SealedChunk, chunk_name, open_chunk
from refloat.vault.index import Index, open_index
from refloat.vault.indexfile import Shelf
from refloat.vault.indexrun import Location
from refloat.vault.kept import Kept
from refloat.vault.keyfile import Hex32
from refloat.vault.keys import KeyFile, Keyring, Role
from refloat.vault.layout import POINTS_STREAM, Descriptor, damaged
from refloat.vault.lock import judged_anew, lock_keys, open_locked, prove_locks
from refloat.vault.pack import Directory, PackRecord, open_directory, record_secret
from refloat.vault.points import open_point, open_signed_point
from refloat.vault.quarantine import is_whole
from refloat.vault.ranges import Ranges
from refloat.vault.slotlog import Entry, SlotLog
from refloat.vault.source import Heard, SnapshotSource, unheard
from refloat.vault.trial import clear, try_out
from refloat.vault.unfolded import UNTOLD, Totals

GETS_AT_ONCE = 8  # requests in flight while index objects are read
INDEX_OBJECTS_AT_ONCE = 16  # in memory; one lists what a capture had new
LOOKED_FOR_S = 30.0  # for so long what nothing that is listed tells of is not looked for again
WHOLE_READS_MAX = 2  # of a pack of which a piece is bad, where the first one failed
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
        self,
        region: str,
        store: Store,
        keyring: Keyring,
        descriptor: Descriptor,
        clock: Clock,
        cache: Path | None = None,
    ) -> None:
        self.region = region
        self.store = store
        self.keyring = keyring
        self.descriptor = descriptor
        self.clock = clock
        self._lock = threading.RLock()
        self._index: Index | None = None
        self._cache = cache
        self._logs: dict[tuple[str, Role], SlotLog] = {}
        self._ranges = Ranges(store.get)
        self._reads_left: dict[str, int] = {}
        self._looked_at: float | None = None
        self.index_damage: dict[str, VaultError] = {}
        self.progress: Progress = Silent()
        """Who is told how far the index is read, where that takes long."""

    @classmethod
    def open(
        cls, region: str, store: Store, key_file: KeyFile, clock: Clock, cache: Path | None = None
    ) -> Replica:
        """The replica in ``store``; a large index is kept in the folder ``cache``, where one is given.

        Raises ``Missing`` where there is none, ``WrongKey`` for another vault's, ``Damaged`` where its descriptor is
        not the one that was signed for the region, ``UsageError`` for the replica of another region: two that share
        one, or are exchanged, would count copies that are not there.
        """
        store, keyring = open_locked(store, key_file, region, clock)
        descriptor = layout.read_descriptor(store)
        if descriptor.region not in ("", region):
            raise UsageError(
                f"{store.url} holds the replica of region {descriptor.region!r}, not of {region!r}",
                region=region,
                file=layout.VAULT,
                next=f"correct the `vault` of {region}; a region keeps the name that its replica was made with",
            )
        keyring.require_described(region, descriptor)
        return cls(region, store, keyring, descriptor, clock, cache)

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
            return self._index if self._index is not None else self._take_in()

    def _shelf(self) -> Shelf | None:
        """Where a large index is kept on this machine: for this replica alone."""
        if self._cache is None:
            return None
        whose = object_name(f"{self.descriptor.vault} {self.descriptor.replica}".encode())
        return Shelf(self._cache / "index" / whose, self.keyring)

    def refresh_index(self) -> None:
        """Take in the index objects that were added since."""
        with self._lock:
            self._take_in()

    def recover_index(self) -> None:
        """Take in new index objects, and what packs that no index object lists say of themselves."""
        with self._lock:
            self._take_in(unlisted=True)

    def look_again(self) -> None:
        """Let ``locate`` look for what is lacking though it just did: a reading begins, or something was added."""
        with self._lock:
            self._looked_at = None

    def _look(self) -> None:
        """``recover_index`` for a chunk that lacks; after that, what lacks as well does not make it list again."""
        with self._lock:
            if self._looked_at is None or self.clock.monotonic() - self._looked_at >= LOOKED_FOR_S:
                self._take_in(unlisted=True, damaged=False)
                self._looked_at = self.clock.monotonic()

    def _take_in(self, *, unlisted: bool = False, damaged: bool = True) -> Index:
        """The index with what is new; of ``unlisted`` packs, too, and of those again that were found ``damaged``."""
        index = Index(self._shelf()) if self._index is None else self._index
        self._read_index(index)
        if unlisted or self.index_damage:
            self._read_directories(index, damaged)
        self._index, self._looked_at = index, None
        return index

    def learn(self, name: str, packs: Iterable[tuple[PackRecord, Directory]]) -> None:
        """Take in an index object that was just written here."""
        with self._lock:
            self.index.add(packs, name)

    def listing(self, packs: Collection[str]) -> set[frozenset[str]]:
        """For each thing that is told of these packs, the index objects that tell it, of those that were read."""
        with self._lock:
            return {frozenset(map(layout.index_name, names)) for names in self.index.listing(packs)}

    def _read_index(self, index: Index) -> None:
        listed = {info.name.removeprefix(layout.INDEX) for info in self.store.list(layout.INDEX)}
        index.let_count(listed)
        names = sorted(
            listed - index.sources - {name.removeprefix(layout.INDEX) for name in self.index_damage}
        )
        task, told = f"read the index of {self.region}", len(names) > INDEX_OBJECTS_AT_ONCE
        if told:
            self.progress.start(task, len(names), "objects")
        with ThreadPoolExecutor(GETS_AT_ONCE, thread_name_prefix="index") as pool:
            for at in range(0, len(names), INDEX_OBJECTS_AT_ONCE):
                some = names[at : at + INDEX_OBJECTS_AT_ONCE]
                each = pool.map if len(some) > 1 else map  # one, as after a protect, needs no thread
                for name, packs in zip(some, each(self._open_index, some), strict=True):
                    if packs is not None:
                        index.add(packs, name)
                    self.progress.advance(task)
        index.settle()
        if told:
            self.progress.finish(task)

    def _open_index(self, name: str) -> list[tuple[PackRecord, Directory]] | None:
        what = layout.index_name(name)
        try:
            return open_index(self.keyring, name, self.store.get(what, 0, OBJECT_BYTES_MAX + 1), what=what)
        except VaultError as error:  # also one of a newer format: what it lists stands in the packs
            self.index_damage[what] = error
            return None

    def _read_directories(self, index: Index, damaged: bool) -> None:
        """Take in what packs say of themselves, for those that no index object lists."""
        known = frozenset() if damaged else frozenset(self.index_damage)
        for info in self.store.list(layout.PACKS):
            name = info.name.rpartition("/")[2]
            if info.name == layout.pack_name(name) and info.name not in known and not index.knows(name):
                try:
                    directory = self.read_directory(name, info.size)
                except VaultError as error:  # whoever left it there, the packs that are whole are read
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

    def read_chunk(
        self, name: bytes, depth: int = 0, *, base: Callable[[bytes, int], bytes] | None = None
    ) -> bytes:
        """A chunk's raw bytes, opened and held against its name; ``depth`` chunks wait for it already.

        What it rests on is read by ``base``, else here. A pack of which a piece is bad is read whole, and put in
        quarantine where it rotted.

        Raises ``Missing`` or ``Damaged`` where no copy in this region is whole, ``WrongKey`` where this
        holder may not read it.
        """
        failed: VaultError | None = None
        for location in self.locate(name):
            try:
                return self._open(name, location, depth, base)
            except VaultError as error:
                pack = layout.pack_name(location.pack.name)
                self._ranges.forget(pack)
                self._doubt(pack, error)
                failed = failed or error
        if failed is not None:
            failed.next = failed.next or REPAIR
            raise failed.at(region=self.region)
        raise self._no_chunk(name)

    @property
    def met_damage(self) -> bool:
        """Whether a piece was read here that is not what was written: its pack may be in quarantine since."""
        with self._lock:
            return bool(self._reads_left)

    def _doubt(self, pack: str, error: VaultError) -> None:
        """Read a pack whole of which a piece is not what was written; where that fails, nobody hears of it.

        Where it failed, whoever comes upon the pack next tries again, but not each of those who follow.
        """
        if not isinstance(error, Damaged) or error.file != pack:
            return
        with self._lock:
            left = self._reads_left.get(pack, WHOLE_READS_MAX)
            self._reads_left[pack] = 0  # while one reads it, no other does
        if not left:
            return
        try:
            is_whole(self.store, pack, self.store.get(pack, 0, OBJECT_BYTES_MAX + 1))
        except (VaultError, StoreError):
            with self._lock:
                self._reads_left[pack] = left - 1

    def _no_chunk(self, name: bytes) -> Missing:
        return Missing(
            f"chunk {name.hex()} is in no pack of {self.region}",
            region=self.region,
            file=name.hex(),
            next=REPAIR,
        )

    def length_of(self, name: bytes) -> int:
        """How many bytes a chunk has, as the index says. Raises ``Missing``, ``StoreError``."""
        for location in self.locate(name):
            return location.raw_length
        raise self._no_chunk(name)

    def name_of(self, raw: bytes) -> bytes:
        """What the chunk of these bytes is called in this vault."""
        return chunk_name(self.keyring.chunk_name_key, raw)

    def opens(self, name: bytes, pack: str) -> bool:
        """Whether a pack holds a chunk, whole, where the index says so. Raises ``StoreError``."""
        for location in self.index.locations(name):
            if location.pack.name == pack:
                with suppress(VaultError):
                    self._open(name, location)
                    return True
        return False

    def locate(self, name: bytes) -> list[Location]:
        """Every place of a chunk; where the index knows none, new index objects and the packs are asked.

        Not for each chunk that lacks: only once in ``LOOKED_FOR_S``, or after ``look_again``.
        """
        found = list(self.index.locations(name))
        if not found:
            self._look()
            found = list(self.index.locations(name))
        return found

    def _open(
        self,
        name: bytes,
        location: Location,
        depth: int = 0,
        base: Callable[[bytes, int], bytes] | None = None,
    ) -> bytes:
        secret = record_secret(self.keyring, location.pack.key_id)
        what = layout.pack_name(location.pack.name)
        record = self._ranges.read(what, location.pack.size, location.offset, location.stored_length)
        if len(record) != location.stored_length:
            raise damaged(what, "it is shorter than its directory says")
        sealed = SealedChunk(name, location.codec, location.base, location.raw_length, record)
        if depth > BASES_MAX:
            raise damaged(what, f"chunk {name.hex()} is the end of more than {BASES_MAX} differences")
        read = base or self.read_chunk
        return open_chunk(
            sealed,
            name_key=self.keyring.chunk_name_key,
            secret=secret,
            what=what,
            read=lambda name: read(name, depth + 1),
        )

    # -------------------------------------------------------------------------------------------- points

    def log(self, stream: str, role: Role) -> SlotLog:
        """A slot log of this replica; the same one for the same stream and role."""
        with self._lock:
            key = (stream, role)
            if key not in self._logs:
                self._logs[key] = SlotLog(
                    self.store, stream, self.keyring, role=role, clock=self.clock, region=self.region
                )
            return self._logs[key]

    def reread(self, stream: str) -> None:
        """Forget what was seen of a log: part of it was set aside."""
        with self._lock:
            if isinstance(self.store, Keeping):
                self.store = judged_anew(self.store, self.keyring, self.region, self.clock)
                self._ranges = Ranges(self.store.get)
                self._logs = {}
            self._logs = {key: log for key, log in self._logs.items() if key[0] != stream}

    def streams(self) -> list[str]:
        """What the logs of this replica are called, as far as a listing tells."""
        names = (entry.name.removeprefix(layout.LOG) for entry in self.store.list(layout.LOG))
        return sorted({name.rpartition("/")[0] for name in names})

    def points(self) -> list[CommittedPoint]:
        """The points that this region's log commits, oldest first, the chain verified. Raises ``Damaged``.

        One that two writers committed, as when both made up for what the region had missed, counts where it is first.
        """
        found: dict[str, CommittedPoint] = {}
        for entry in self.entries():
            if not entry.void:
                point = committed(entry)
                found.setdefault(point.name, point)
        return list(found.values())

    def entries(self) -> list[Entry]:
        """Every entry of this region's log of points, void ones, too, the chain verified. Raises ``Damaged``."""
        return list(self.log(POINTS_STREAM, Role.WRITER).entries())

    def last_point(self) -> CommittedPoint | None:
        """The last of ``points``; only the end of the log is read."""
        entry = self._last_entry()
        return None if entry is None else committed(entry)

    def head(self) -> Mapping[str, Json] | None:
        """The slot, hash and point of the last entry of this region's log of points; None where it is empty."""
        entry = self._last_entry()
        return None if entry is None else head_of(entry)

    def _last_entry(self) -> Entry | None:
        """The last entry that counts."""
        log = self.log(POINTS_STREAM, Role.WRITER)
        entry = log.head()
        while entry is not None and entry.void:
            entry = log.read(entry.slot - 1) if entry.slot else None
        return entry

    def read_point(self, name: str) -> Mapping[str, Json]:
        """The body of a point, verified. Raises ``Missing`` or ``Damaged``."""
        return open_point(self.keyring, name, self._stored_point(name))

    def signed_point(self, name: str) -> tuple[str, Mapping[str, Json]]:
        """The writer that signed a point, and its body, verified. Raises ``Missing`` or ``Damaged``."""
        return open_signed_point(self.keyring, name, self._stored_point(name))

    def _stored_point(self, name: str) -> bytes:
        self.look_again()  # what a point needs was written before it
        what = layout.point_name(name)
        try:
            return self.store.get(what, 0, OBJECT_BYTES_MAX + 1)
        except Missing as error:
            raise Missing(
                f"{what} is not in {self.region}", region=self.region, file=what, next=REPAIR
            ) from error

    def source(
        self,
        tree: str,
        facts: Facts,
        *,
        priority: tuple[str, ...] = (),
        heard: Heard = unheard,
        cancelled: threading.Event | None = None,
        totals: Totals = UNTOLD,
        withheld: Withheld | None = None,
    ) -> SnapshotSource:
        """The files of a snapshot by its root tree (hex), and the patterns of those that come first.

        Nothing more of it is read or written once ``cancelled`` is set, see ``SnapshotSource``.
        """
        same = Kept(self, heard, cancelled).same
        return SnapshotSource(
            self.read_chunk,
            tree,
            facts,
            priority=priority,
            heard=heard,
            same=same,
            cancelled=cancelled,
            totals=totals,
            withheld=withheld,
        )


def head_of(entry: Entry) -> dict[str, Json]:
    """What is told of an entry of a log of points when it is the last one."""
    return {"slot": entry.slot, "hash": entry.hash, "point": committed(entry).name}


def committed(entry: Entry) -> CommittedPoint:
    """The point that an entry of a log of points commits. Raises ``Damaged`` for an entry that names none."""
    made = entry.body.get("created_at")
    try:
        told = _Told.model_validate(entry.body)
        created_at = parse_time(made) if isinstance(made, str) else entry.time
    except ValueError as error:  # pydantic's is one, too
        what = layout.slot_name(POINTS_STREAM, entry.slot)
        raise damaged(what, "it does not say of a point what it must") from error
    heads = {region: seen.model_dump() for region, seen in told.heads.items()}
    return CommittedPoint(told.point, entry.slot, entry.time, heads, told.grade, created_at, entry.hash)


class _SeenHead(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    slot: int = Field(ge=0, lt=10**SLOT_DIGITS)
    hash: Hex32
    point: Hex32


class _Told(BaseModel):
    """What an entry of a log of points must say; more may stand in it."""

    model_config = ConfigDict(frozen=True, strict=True)

    point: Hex32
    heads: dict[str, _SeenHead] = Field(default_factory=dict)
    grade: Literal["exact", "fuzzy", "broken"] = "broken"


@dataclass
class Begun:
    """Where something of a vault may lie that could not be made: addresses, none where all was taken back."""

    left: tuple[str, ...] = ()


def create_vault(
    replicas: Mapping[str, Store],
    key_file: KeyFile,
    clock: Clock,
    pipeline: str,
    lock: timedelta | None = None,
    begun: Begun | None = None,
    *,
    passphrase: str | None = None,
) -> dict[str, Replica]:
    """Make empty places into the replicas of one vault. None is begun unless all are empty and fit for it.

    What a making with the same key that was cut has left counts as empty, and is gone on with. With ``lock``, none is
    begun unless all keep locks, either: what every point needs is locked for so long. With ``passphrase``, each keeps
    the key file sealed for it.
    Where one cannot be made, what was begun is taken back everywhere, unless it was begun before, and ``begun`` says
    where something is left: only the key opens that. Raises ``UsageError`` for two regions in one place and for what
    was begun with another lock, ``Refused`` (``vault_exists``, ``create_ignored``, ``lock_not_kept``), and
    ``StoreError`` for a store that does not take a write.
    """
    begun = begun or Begun()
    found = {region: look(region, store, key_file.vault) for region, store in replicas.items()}
    for there in found.values():
        there.require_free()
    try_out(replicas)
    keys = objects_of(key_file, lock, passphrase, found.values())
    if lock is not None:
        replicas = prove_locks(replicas, lock)
    written: list[tuple[Store, str]] = []
    described: list[tuple[Store, Descriptor]] = []
    begun.left = tuple(store.url for store in replicas.values())  # until it is known to be otherwise
    try:
        noted = noted_of(key_file, pipeline, found.values())
        told = {
            region: there.descriptor
            or noted.get(region)
            or Descriptor.of_new(key_file.vault, region, pipeline)
            for region, there in found.items()
        }
        notes = map(Keyring(key_file).sign_descriptor, told.values())
        keys += [note.stored() for note in notes if note is not None]
        for store in replicas.values():
            _write_keys(store, keys, written)
        for region, store in replicas.items():
            replica = told[region]
            _require_another_place(region, store, [one for _, one in described])
            described.append((store, replica))
            if found[region].descriptor is None:
                layout.write_descriptor(store, replica)
        made = {region: Replica.open(region, store, key_file, clock) for region, store in replicas.items()}
        for opened in made.values():
            lock_keys(opened.store, opened.keyring)
        clear(replicas.values())
        return made
    except (RefloatError, KeyboardInterrupt) as error:
        if not any(there.begun for there in found.values()):
            ours = [(store, layout.VAULT) for store, descriptor in described if _holds(store, descriptor)]
            begun.left = _take_back(written + ours)
        if begun.left and isinstance(error, RefloatError):
            error.next = (
                f"{error.next}; then the same again goes on with what is in {' and '.join(begun.left)}"
            )
        raise


def _require_another_place(region: str, store: Store, described: Sequence[Descriptor]) -> None:
    """Raise ``UsageError`` where a place holds what was just written as another region's, however it is spelled."""
    with suppress(Missing):
        there = layout.read_descriptor(store)
        if there in described:
            raise UsageError(
                f"the regions {there.region} and {region} have one place: {store.url}",
                region=region,
                next="give each region a `vault` of its own: what is in one place is one copy",
            )


def _write_keys(store: Store, keys: list[bytes], written: list[tuple[Store, str]]) -> None:
    for key in keys:
        name = layout.key_name(object_name(key))
        written.append((store, name))
        store.create(name, key)


def _holds(store: Store, descriptor: Descriptor) -> bool:
    """Whether a place has this descriptor, and not somebody else's who was quicker; so also where it cannot be read."""
    try:
        return layout.read_descriptor(store) == descriptor
    except (Missing, VaultError):
        return False
    except StoreError:
        return True


def _take_back(begun: list[tuple[Store, str]]) -> tuple[str, ...]:
    """Remove what was begun, the last first; the addresses of the stores that would not."""
    left: dict[str, None] = {}
    for store, name in reversed(begun):
        try:
            store.delete(name)
        except StoreError:
            left[store.url] = None
    return tuple(left)
