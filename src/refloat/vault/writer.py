"""One capture into several replicas at once: the same sealed bytes everywhere, committed region by region.

Order of writes in each region, each step only when the one before it is durable there:

1. packs                an index object names only packs that are there
2. index objects        a point names only chunks that an index object places
3. the point            a log entry names only a point that is there; in a vault with a lock, all of it is locked
4. the log's entry      the point is committed in this region

A crash before 4 leaves objects that nothing names, never half a point. A region that fails stays behind; the
others go on without it. One that takes nothing more while another does is not waited for: what it lacks it gets from
another region, before its point and after theirs.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType

from refloat.contracts import Progress, Silent
from refloat.digest import Json, object_name
from refloat.errors import Missing, RefloatError, Retry, StoreError, UsageError, VaultError, most_hopeful
from refloat.limits import KIB, MIB, PACK_BYTES_MAX
from refloat.vault import layout
from refloat.vault.chunk import NO_BASE, Base, SealedChunk, chunk_name, seal_chunk
from refloat.vault.index import is_there, seal_index
from refloat.vault.indexrun import Location
from refloat.vault.keys import Role
from refloat.vault.lane import Lane, RegionResult, Uses, in_time
from refloat.vault.layout import POINTS_STREAM
from refloat.vault.lock import lock_entries, lock_point
from refloat.vault.missed import commit_points, missed_points
from refloat.vault.pack import CATALOGUE_KEY, Directory, PackRecord, PackRoom, overhead_bytes, seal_pack
from refloat.vault.points import committing_entry, roots, seal_point
from refloat.vault.replica import CommittedPoint, Replica, head_of
from refloat.vault.replicate import catch_up, store_checked
from refloat.vault.slotlog import read_back
from refloat.vault.snapshot import Content, Placed, SnapshotSink, Stored
from refloat.vault.source import Heard, unheard
from refloat.vault.tree import chunk_names

__all__ = ["RegionResult", "Stored", "Writer"]

INDEX_PACKS_MAX = 16  # packs between two index objects: what a crash may leave unindexed
INDEX_BYTES = (
    8 * MIB
)  # the same for packs of very many small files; one pack's directory takes at most 50 MiB
SEALERS = 2  # chunks being packed and sealed at the same time
SMALL_BYTES = 64 * KIB  # sealed sooner than handed over to another thread


@dataclass
class _OpenPack:
    """A pack that is being filled: its records are sealed where they will lie, several at the same time.

    ``full`` is set when no more are to come. Who seals the last one then sends it.
    """

    room: PackRoom
    chunks: list[SealedChunk | None] = field(default_factory=list)
    full: bool = False

    def fits(self, length: int, pack_bytes_max: int) -> bool:
        return self.room.taken + length + overhead_bytes(len(self.chunks) + 1) <= pack_bytes_max

    def take(self, length: int) -> tuple[int, memoryview]:
        """The place of another record, and its memory."""
        self.chunks.append(None)
        return len(self.chunks) - 1, self.room.take(length)

    @property
    def sealed(self) -> list[SealedChunk]:
        return [chunk for chunk in self.chunks if chunk is not None]

    @property
    def due(self) -> bool:
        return self.full and None not in self.chunks


@dataclass(frozen=True)
class _Point:
    """A point on its way into the regions; ``heads`` are their log heads as last seen."""

    stored: bytes
    body: Mapping[str, Json]
    needed: frozenset[bytes]
    heads: Mapping[str, Mapping[str, Json]]

    @property
    def name(self) -> str:
        return object_name(self.stored)

    def entry(self, region: str) -> dict[str, Json]:
        """What a region's log says of the point."""
        others = {other: head for other, head in self.heads.items() if other != region}
        return committing_entry(self.name, self.body, others)


class Writer:
    """Stores chunks once and commits points. Several sinks may be filled at the same time.

    A chunk is skipped only where an index entry signed by this same writer places it in a pack that is there
    in at least one region that answers: what somebody else claims to have stored is stored again.
    Raises ``StoreError`` where no region answers, ``WrongKey`` without the writer's role.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        progress: Progress | None = None,
        *,
        pack_bytes_max: int = PACK_BYTES_MAX,
    ) -> None:
        if not replicas:
            raise UsageError(
                "a capture needs at least one replica to write to",
                next="see which regions answer: refloat check",
            )
        if len({replica.keyring.vault for replica in replicas}) > 1:
            raise UsageError(
                "the replicas of a capture must be those of one vault",
                next="correct the regions' `vault` in the manifest",
            )
        self._keyring = replicas[0].keyring
        self._content_key = self._keyring.content_key()
        self._name_key = self._keyring.chunk_name_key
        self._signer = self._keyring.writer
        self._pack_bytes_max = min(pack_bytes_max, PACK_BYTES_MAX)
        self.chunking = replicas[0].descriptor.chunking
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._claimed: set[tuple[bytes, bytes]] = set()
        self._bases: dict[bytes, bytes] = {}
        self.warnings: list[str] = []
        self._open: dict[bytes, _OpenPack] = {}
        self._rooms: list[PackRoom] = []
        self._unindexed: list[tuple[PackRecord, Directory]] = []
        self._trees: dict[bytes, bytes] = {}
        self._needed: dict[str, frozenset[bytes]] = {}
        self._sealers = ThreadPoolExecutor(SEALERS, thread_name_prefix="vault-seal")
        self._lanes = [Lane(replica, progress or Silent()) for replica in replicas]
        with ExitStack() as undo:
            undo.callback(self.close)
            in_time(self._lanes, Lane.prepare)
            marked = frozenset().union(*(lane.marked for lane in self._answering()))
            for lane in self._lanes:
                lane.marked_anywhere = marked  # by all alike: what one region is to lose, no other counts on
            in_time(self._lanes, Lane.look)
            self._require_a_region()
            undo.pop_all()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if isinstance(error, KeyboardInterrupt):
            self._list_what_is_there()

    def close(self) -> None:
        """End the threads; what is not committed is dropped."""
        self._sealers.shutdown(wait=True, cancel_futures=True)
        for lane in self._lanes:
            lane.close()

    def _list_what_is_there(self) -> None:
        """Let the next capture rely on what was stored until somebody ended this one."""
        for lane in self._lanes:
            packs = [(pack, directory) for pack, directory in self._unindexed if lane.has(pack)]
            if packs and lane.error is None:
                with suppress(RefloatError):  # it is only stored again then
                    lane.store_index(seal_index(self._keyring, packs), packs)

    def sink(
        self,
        previous: str | None = None,
        heard: Heard = unheard,
        cancelled: threading.Event | None = None,
    ) -> SnapshotSink:
        """Where one component's files go; ``previous`` is the tree of its earlier snapshot, for ``carry``.

        Nothing more is taken once ``cancelled`` is set, see ``SnapshotSink``.
        """
        return SnapshotSink(self, previous, heard, cancelled)

    def commit(self, body: Mapping[str, Json]) -> tuple[str, Mapping[str, RegionResult]]:
        """Commit a point whose trees are stored; its name, and what became of it in each region.

        A region is complete when it holds every pack that the point needs and its log has the entry. What it
        lacks from before is copied from a region that has it. One that failed in a way that may have passed is
        tried once more when the others are done. Raises ``StoreError`` where none completes.
        """
        needed = self._needs(body)
        self._flush()
        heads = {
            lane.replica.region: lane.head for lane in self._lanes if lane.head is not None and not lane.late
        }
        point = _Point(seal_point(self._keyring, body), body, needed, heads)
        commit = partial(self._commit, point)
        self._in_regions([lane for lane in self._lanes if not lane.behind], commit)
        for lane in self._lanes:
            lane.begin_again()
        self._in_regions([lane for lane in self._lanes if lane.behind], commit)
        return point.name, {lane.replica.region: lane.result for lane in self._lanes}

    def _answering(self) -> list[Lane]:
        """The regions that were not given up and are not late: what is wrong with another one is nothing to them."""
        return [lane for lane in self._lanes if lane.answers]

    def _in_regions(self, lanes: Sequence[Lane], action: Callable[[Lane], None]) -> None:
        for lane in lanes:
            lane.submit(partial(action, lane))
        for lane in lanes:
            lane.wait()
        self._require_a_region()

    # ------------------------------------------------------------------------------------------- chunks

    def put_contents(self, contents: Iterable[Content]) -> Iterator[Placed]:
        """Store pieces of files, a few at the same time; the results come in the same order."""
        waiting: deque[Future[Placed]] = deque()
        for content in contents:
            if not waiting and len(content.raw) <= SMALL_BYTES:
                yield self._put(content, self._content_key.id)
                continue
            if len(waiting) > SEALERS:
                yield waiting.popleft().result()
            waiting.append(self._sealers.submit(self._put, content, self._content_key.id))
        while waiting:
            yield waiting.popleft().result()

    def put_tree(self, raw: bytes) -> Placed:
        """Store a page of a folder."""
        placed = self._put(Content(raw, width=0), CATALOGUE_KEY)
        self._trees[placed.name] = raw
        return placed

    def read_tree(self, name: bytes) -> bytes:
        """A page of a folder, of this session or from any region that has it. Raises ``VaultError``."""
        if name in self._trees:
            return self._trees[name]
        failed: RefloatError | None = None
        for lane in sorted(self._lanes, key=lambda lane: not lane.answers):
            try:
                return lane.replica.read_chunk(name)
            except RefloatError as error:
                failed = error
        raise failed or Missing(f"folder {name.hex()} is in no region", next="refloat vault repair")

    def holds_all(self, names: Iterable[bytes]) -> bool:
        """Whether all these pieces of files are stored, as written by this writer."""
        return all(self._is_stored(name, self._content_key.id) for name in names)

    def holds(self, tree: str) -> bool:
        """Whether everything below an earlier snapshot's tree is there, in one region or another."""
        try:
            needed = self._needs_of(tree)
        except RefloatError:
            return False
        answering = self._answering()
        return all(any(lane.holds(name) for lane in answering) for name in needed)

    def finished(self, tree: str, needed: frozenset[bytes]) -> None:
        """A tree is whole; ``needed`` are all its chunks."""
        self._needed[tree] = needed

    def warn(self, text: str) -> None:
        """Note what a person may want to know of the capture, though nothing is wrong with it."""
        self.warnings.append(text)

    # -------------------------------------------------------------------------------------------- bases

    def name_of(self, raw: bytes) -> bytes:
        """What the chunk of these bytes is called."""
        return chunk_name(self._name_key, raw)

    def rests_on(self, name: bytes) -> bytes | None:
        """The base of a chunk that is stored; None where it has none."""
        if name in self._bases:
            return self._bases[name]
        for lane in self._answering():
            for place in lane.replica.index.locations(name):
                return None if place.base == NO_BASE else place.base
        return None

    def fetch(self, name: bytes) -> bytes | None:
        """A chunk's bytes out of a region; None where this key may not read them, or no region that answers can."""
        for lane in self._answering():
            if next(lane.replica.index.locations(name), None) is not None:
                with suppress(RefloatError):
                    return lane.replica.read_chunk(name)
        return None

    def _base_of(self, content: Content, key_id: bytes) -> Base | None:
        """The base of a piece, if it is stored for the same key, so that whoever opens the one opens the other."""
        base = content.base() if content.base is not None else None
        if base is None:
            return None
        with self._lock:
            return base if self._is_stored(base.name, key_id) else None

    def _put(self, content: Content, key_id: bytes) -> Placed:
        raw = content.raw
        name = chunk_name(self._name_key, raw)
        with self._lock:
            if self._is_stored(name, key_id):
                return Placed(name, len(raw))
            self._claimed.add((key_id, name))
        secret = self._keyring.catalogue_key if key_id == CATALOGUE_KEY else self._content_key.secret
        place = _Place(self, key_id)
        sealed = seal_chunk(
            raw, name, secret, width=content.width, base=self._base_of(content, key_id), room=place.take
        )
        for pack in place.filled(sealed):
            self._send(key_id, pack)
        return Placed(name, len(raw), len(raw), len(sealed.record))

    def _is_stored(self, name: bytes, key_id: bytes) -> bool:
        if (key_id, name) in self._claimed:
            return True
        return any(lane.holds(name, key_id, self._signer) for lane in self._answering())

    def _room(self, length: int) -> PackRoom:
        """Room for a pack, of which the first record has this length."""
        size = max(self._pack_bytes_max, length + overhead_bytes(1))
        if self._rooms and len(self._rooms[-1]) >= size:
            return self._rooms.pop()
        return PackRoom(size)

    def _empty(self, room: PackRoom) -> None:
        """Every region has the pack: the next one may be sealed here."""
        room.clear()
        with self._lock:
            self._rooms.append(room)

    # -------------------------------------------------------------------------------------------- packs

    def _send(self, key_id: bytes, full: _OpenPack) -> None:
        """Send a pack to every region. Other chunks are sealed meanwhile, also while a region has no room."""
        with self._sending:
            pack = seal_pack(self._keyring, key_id, full.sealed, full.room)
            uses = Uses(len(self._lanes), partial(self._empty, full.room))
            for lane in self._lanes:
                if not self._hand_to(lane, partial(lane.store_pack, pack.record, pack.stored, uses)):
                    uses.end_one()
            self._unindexed.append((pack.record, pack.directory))
            listed_bytes = sum(directory.entries.nbytes for _, directory in self._unindexed)
            if len(self._unindexed) >= INDEX_PACKS_MAX or listed_bytes >= INDEX_BYTES:
                self._index()

    def _index(self) -> None:
        packs, self._unindexed = self._unindexed, []
        stored = seal_index(self._keyring, packs)
        for lane in self._lanes:
            self._hand_to(lane, partial(lane.store_index, stored, packs))

    def _hand_to(self, lane: Lane, action: Callable[[], None]) -> bool:
        """Let a region write something, where it has room for it; the last that keeps up is waited for."""
        if any(other.error is None and not other.behind for other in self._lanes if other is not lane):
            return lane.offer(action)
        lane.submit(action)
        return True

    def _flush(self) -> None:
        with self._lock:
            rest, self._open = self._open, {}
        for key_id, pack in rest.items():
            self._send(key_id, pack)
        with self._sending:
            if self._unindexed:
                self._index()

    # ------------------------------------------------------------------------------------------- commit

    def _needs(self, body: Mapping[str, Json]) -> frozenset[bytes]:
        try:
            trees = roots(body)
        except ValueError as error:
            raise UsageError(str(error)) from error
        return frozenset().union(*(self._needs_of(tree) for tree in trees))

    def _needs_of(self, tree: str) -> frozenset[bytes]:
        if tree not in self._needed:
            self._needed[tree] = frozenset(chunk_names(bytes.fromhex(tree), self.read_tree))
        return self._needed[tree]

    def _commit(self, point: _Point, lane: Lane) -> None:
        lane.late = False  # what it holds it has said by now
        if lane.replica.met_damage:
            lane.look()  # what was relied on may be in quarantine by now
        self._complete(lane, point.needed)
        self._make_up(lane, point)
        name = layout.point_name(point.name)
        store_checked(lane.replica.store, name, point.stored)
        slots = self._lock_all(lane, point)
        log = lane.replica.log(POINTS_STREAM, Role.WRITER)
        last = log.head() if lane.head is not None and lane.head["point"] == point.name else None
        landed = last or log.append(point.entry(lane.replica.region), refs=(name,))
        read_back(log, landed.slot)
        lock_entries(lane.replica, point.name, slots, landed.slot)
        lane.head = head_of(landed)
        lane.result = RegionResult(complete=True, slot=landed.slot)

    def _lock_all(self, lane: Lane, point: _Point) -> int:
        """Lock what the point needs, where the vault has a lock; how many entries of the log were there."""
        slots = 0 if lane.head is None else int(str(lane.head["slot"])) + 1
        if lane.replica.keyring.lock is not None:
            lock_point(lane.replica, point.name, lane.packs_of(point.needed, self._signer), slots)
        return slots

    def _complete(self, lane: Lane, needed: frozenset[bytes]) -> None:
        """Fetch what the region lacks from before. Raises ``Missing`` where no other region has it.

        What somebody else says to have stored there may be other bytes: it counts where no region has our own word.
        """
        others = [other for other in self._lanes if other is not lane and not other.late]
        failed: RefloatError | None = None
        unsure = [name for name in needed if not lane.holds(name, writer=self._signer)]
        for other in sorted(others, key=lambda other: (other.error is not None, other.behind)):
            if not unsure:
                return
            try:
                catch_up(other.replica, lane.replica)
            except RefloatError as error:
                failed = error
            lane.look()
            unsure = [name for name in unsure if not lane.holds(name, writer=self._signer)]
        if unsure and failed is not None and lane.again:
            raise failed  # it may be the store itself that does not keep what it is given
        lacking = sum(self._is_lacking(lane, name) for name in unsure)
        if lacking:
            why = "" if failed is None else f": {failed.message}"
            raise Missing(
                f"{lane.replica.region} lacks {lacking} of the {len(needed)} chunks that the point needs{why}",
                retry=Retry.NEVER if failed is None else failed.retry,
                next=(failed and failed.next) or "refloat vault repair",
            ) from failed

    def _is_lacking(self, lane: Lane, name: bytes) -> bool:
        if any(self._own_places(name)):
            return not is_there(name, self._own_places, lambda place: lane.has(place.pack))
        return not lane.holds(name)

    def _own_places(self, name: bytes) -> Iterator[Location]:
        """Where a chunk lies by this writer's own word, in whichever region."""
        for lane in self._answering():
            yield from (
                place for place in lane.replica.index.locations(name) if place.pack.writer == self._signer
            )

    def _make_up(self, lane: Lane, point: _Point) -> None:
        """Commit what the region missed, before what is newer: as the logs were when this capture began."""
        head = point.heads.get(lane.replica.region, {}).get("point")
        for other in self._lanes:
            seen = point.heads.get(other.replica.region, {}).get("point")
            if other is lane or seen in (None, head):
                continue
            missed: list[CommittedPoint] = []
            with suppress(VaultError, StoreError):  # a log that cannot be read is no reason not to go on
                missed = missed_points(other.replica, lane.replica, up_to=str(seen))
            if missed:
                commit_points(lane.replica, missed, point.heads)
                lane.look()

    def _require_a_region(self) -> None:
        errors = [lane.error for lane in self._lanes if lane.error is not None]
        if len(errors) == len(self._lanes):
            first = most_hopeful(errors)
            raise StoreError(
                "no region took the capture: " + "; ".join(f"{e.region}: {e.message}" for e in errors),
                file=first.file,
                retry=first.retry,
                next=first.next,
            ) from first


class _Place:
    """Where one record goes: in the pack that is being filled, or in a new one where it does not fit in there."""

    def __init__(self, writer: Writer, key_id: bytes) -> None:
        self._writer = writer
        self._key_id = key_id
        self._due: list[_OpenPack] = []

    def take(self, length: int) -> memoryview:
        """Memory for the record."""
        writer = self._writer
        with writer._lock:
            pack = writer._open.get(self._key_id)
            if pack is None or not pack.fits(length, writer._pack_bytes_max):
                if pack is not None:
                    pack.full = True
                    self._due += [pack] if pack.due else []
                pack = writer._open[self._key_id] = _OpenPack(writer._room(length))
            self._pack = pack
            self._index, room = pack.take(length)
        return room

    def filled(self, sealed: SealedChunk) -> list[_OpenPack]:
        """The record is sealed; the packs that are to be sent now."""
        with self._writer._lock:
            if sealed.base != NO_BASE:
                self._writer._bases[sealed.name] = sealed.base
            self._pack.chunks[self._index] = sealed
            return [*self._due, *([self._pack] if self._pack.due else [])]
