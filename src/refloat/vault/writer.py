"""One capture into several replicas at once: the same sealed bytes everywhere, committed region by region.

Order of writes in each region, each step only when the one before it is durable there:

1. packs                an index object names only packs that are there
2. index objects        a point names only chunks that an index object places
3. the point            a log entry names only a point that is there
4. the log's entry      the point is committed in this region

A crash before 4 leaves objects that nothing names, never half a point. A region that fails stays behind; the
others go on without it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from refloat.contracts import Progress, Silent
from refloat.digest import Json, object_name
from refloat.errors import Missing, RefloatError, Retry, StoreError, UsageError
from refloat.limits import PACK_BYTES_MAX
from refloat.vault import layout
from refloat.vault.chunk import SealedChunk, chunk_name, seal_chunk
from refloat.vault.index import seal_index
from refloat.vault.keys import Role
from refloat.vault.pack import CATALOGUE_KEY, Directory, PackRecord, overhead_bytes, seal_pack
from refloat.vault.points import roots, seal_point, worst_grade
from refloat.vault.replica import POINTS_STREAM, Replica, head_of
from refloat.vault.replicate import catch_up, store_checked
from refloat.vault.snapshot import Placed, SnapshotSink, Stored
from refloat.vault.tree import chunk_names

__all__ = ["RegionResult", "Stored", "Writer"]

WAITING_MAX = 2  # packs that wait for one region, so that a slow one bounds memory instead of filling it
INDEX_PACKS_MAX = 64  # packs between two index objects: what a crash may leave unindexed
SEALERS = 2  # chunks being packed and sealed at the same time


@dataclass(frozen=True)
class RegionResult:
    """What became of a point in one region; ``slot`` is its place in that region's log."""

    complete: bool
    error: str | None = None
    slot: int | None = None


class _Lane:
    """One region's writes, in order, on a thread of their own.

    ``error`` is why the region was given up; nothing more is written to it then.
    """

    def __init__(self, replica: Replica, progress: Progress) -> None:
        self.replica = replica
        self.error: RefloatError | None = None
        self.head: Mapping[str, Json] | None = None
        self.result = RegionResult(complete=False)
        self._progress = progress
        self._task = f"store in {replica.region}"
        self._packs: dict[str, int] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"vault-{replica.region}")
        self._room = threading.BoundedSemaphore(WAITING_MAX)
        self._futures: deque[Future[None]] = deque()
        self._cut_off = False
        progress.start(self._task)

    def submit(self, action: Callable[[], None]) -> None:
        """Do ``action`` after what was submitted before; waits while too much is waiting.

        A ``RefloatError`` of an action gives the region up. Any other is a defect: it comes out here or in
        ``wait``, and nothing more is written.
        """
        while self._futures and self._futures[0].done():
            self._futures.popleft().result()
        self._room.acquire()
        future = self._pool.submit(self._attempt, action)
        future.add_done_callback(lambda _: self._room.release())
        self._futures.append(future)

    def wait(self) -> None:
        """Until everything submitted is done."""
        while self._futures:
            self._futures.popleft().result()

    def close(self) -> None:
        """Drop what waits and end the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._progress.finish(self._task)

    def _attempt(self, action: Callable[[], None]) -> None:
        if self.error is not None or self._cut_off:
            return
        self._cut_off = True
        try:
            action()
        except RefloatError as error:
            self.error = error.at(region=self.replica.region)
            self.result = RegionResult(complete=False, error=error.message)
        self._cut_off = False

    def prepare(self) -> None:
        """Read what the region holds, before anything is skipped because it is there."""
        self.head = self.replica.head()
        self.replica.refresh_index()
        self.look()

    def look(self) -> None:
        """See which packs are there. What a listing does not show yet is only stored again."""
        listed = self.replica.store.list(layout.PACKS)
        self._packs = {entry.name.rpartition("/")[2]: entry.size for entry in listed}

    def store_pack(self, record: PackRecord, stored: bytes) -> None:
        """Write a pack."""
        store_checked(self.replica.store, layout.pack_name(record.name), stored)
        self._packs[record.name] = record.size
        self._progress.advance(self._task, record.size)

    def store_index(self, stored: bytes, packs: Sequence[tuple[PackRecord, Directory]]) -> None:
        """Write an index object, after its packs."""
        name = object_name(stored)
        store_checked(self.replica.store, layout.index_name(name), stored)
        self.replica.learn(name, packs)

    def holds(self, name: bytes, key_id: bytes | None = None, writer: str | None = None) -> bool:
        """Whether a pack with the chunk is there; sealed for one key and by one writer, where given."""
        return any(
            self._packs.get(place.pack.name) == place.pack.size
            and key_id in (None, place.pack.key_id)
            and writer in (None, place.pack.writer)
            for place in self.replica.index.locations(name)
        )

    def lacking(self, names: Iterable[bytes]) -> int:
        """How many of these chunks are not there."""
        return sum(not self.holds(name) for name in names)


@dataclass
class _OpenPack:
    chunks: list[SealedChunk]
    record_bytes: int = 0

    def fits(self, chunk: SealedChunk, pack_bytes_max: int) -> bool:
        total = self.record_bytes + len(chunk.record) + overhead_bytes(len(self.chunks) + 1)
        return not self.chunks or total <= pack_bytes_max

    def add(self, chunk: SealedChunk) -> None:
        self.chunks.append(chunk)
        self.record_bytes += len(chunk.record)


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
        return {
            "point": self.name,
            "heads": {other: head for other, head in self.heads.items() if other != region},
            "grade": worst_grade(self.body),
            "created_at": self.body.get("created_at"),
            "pipeline": self.body.get("pipeline"),
        }


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
        self._pack_bytes_max = min(pack_bytes_max, PACK_BYTES_MAX)
        self.chunking = replicas[0].descriptor.chunking
        self._lock = threading.Lock()
        self._claimed: set[tuple[bytes, bytes]] = set()
        self._open: dict[bytes, _OpenPack] = {}
        self._unindexed: list[tuple[PackRecord, Directory]] = []
        self._trees: dict[bytes, bytes] = {}
        self._needed: dict[str, frozenset[bytes]] = {}
        self._sealers = ThreadPoolExecutor(SEALERS, thread_name_prefix="vault-seal")
        self._lanes = [_Lane(replica, progress or Silent()) for replica in replicas]
        with ExitStack() as undo:
            undo.callback(self.close)
            self._in_every_region(_Lane.prepare)
            undo.pop_all()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the threads; what is not committed is dropped."""
        self._sealers.shutdown(wait=True, cancel_futures=True)
        for lane in self._lanes:
            lane.close()

    def sink(self, previous: str | None = None) -> SnapshotSink:
        """Where one component's files go; ``previous`` is the tree of its earlier snapshot, for ``carry``."""
        return SnapshotSink(self, previous)

    def commit(self, body: Mapping[str, Json]) -> tuple[str, Mapping[str, RegionResult]]:
        """Commit a point whose trees are stored; its name, and what became of it in each region.

        A region is complete when it holds every pack that the point needs and its log has the entry. What it
        lacks from before is copied from a region that has it. Raises ``StoreError`` where none completes.
        """
        needed = self._needs(body)
        self._flush()
        heads = {lane.replica.region: lane.head for lane in self._lanes if lane.head is not None}
        point = _Point(seal_point(self._keyring, body), body, needed, heads)
        self._in_every_region(lambda lane: self._commit(lane, point))
        return point.name, {lane.replica.region: lane.result for lane in self._lanes}

    def _in_every_region(self, action: Callable[[_Lane], None]) -> None:
        for lane in self._lanes:
            lane.submit(partial(action, lane))
        for lane in self._lanes:
            lane.wait()
        self._require_a_region()

    # ------------------------------------------------------------------------------------------- chunks

    def put_contents(self, pieces: Iterable[bytes]) -> Iterator[Placed]:
        """Store pieces of files, a few at the same time; the results come in the same order."""
        waiting: deque[Future[Placed]] = deque()
        for piece in pieces:
            if len(waiting) > SEALERS:
                yield waiting.popleft().result()
            waiting.append(self._sealers.submit(self._put, piece, self._content_key.id))
        while waiting:
            yield waiting.popleft().result()

    def put_tree(self, raw: bytes) -> Placed:
        """Store a page of a folder."""
        placed = self._put(raw, CATALOGUE_KEY)
        self._trees[placed.name] = raw
        return placed

    def read_tree(self, name: bytes) -> bytes:
        """A page of a folder, of this session or from any region that has it. Raises ``VaultError``."""
        if name in self._trees:
            return self._trees[name]
        failed: RefloatError | None = None
        for lane in sorted(self._lanes, key=lambda lane: lane.error is not None):
            try:
                return lane.replica.read_chunk(name)
            except RefloatError as error:
                failed = error
        raise failed or Missing(f"folder {name.hex()} is in no region", next="refloat vault repair")

    def holds_all(self, names: Iterable[bytes]) -> bool:
        """Whether all these pieces of files are stored, as written by this writer."""
        return all(self._is_stored(name, self._content_key.id) for name in names)

    def finished(self, tree: str, needed: frozenset[bytes]) -> None:
        """A tree is whole; ``needed`` are all its chunks."""
        self._needed[tree] = needed

    def _put(self, raw: bytes, key_id: bytes) -> Placed:
        name = chunk_name(self._name_key, raw)
        with self._lock:
            if self._is_stored(name, key_id):
                return Placed(name, len(raw))
            self._claimed.add((key_id, name))
        secret = self._keyring.catalogue_key if key_id == CATALOGUE_KEY else self._content_key.secret
        sealed = seal_chunk(raw, name, secret)
        with self._lock:
            self._pack(key_id, sealed)
        return Placed(name, len(raw), len(raw), len(sealed.record))

    def _is_stored(self, name: bytes, key_id: bytes) -> bool:
        if (key_id, name) in self._claimed:
            return True
        writer = self._keyring.writer
        return any(lane.error is None and lane.holds(name, key_id, writer) for lane in self._lanes)

    def _pack(self, key_id: bytes, sealed: SealedChunk) -> None:
        pack = self._open.setdefault(key_id, _OpenPack([]))
        if not pack.fits(sealed, self._pack_bytes_max):
            self._seal(key_id)
            pack = self._open.setdefault(key_id, _OpenPack([]))
        pack.add(sealed)

    # -------------------------------------------------------------------------------------------- packs

    def _seal(self, key_id: bytes) -> None:
        pack = seal_pack(self._keyring, key_id, self._open.pop(key_id).chunks)
        for lane in self._lanes:
            lane.submit(partial(lane.store_pack, pack.record, pack.stored))
        self._unindexed.append((pack.record, pack.directory))
        if len(self._unindexed) >= INDEX_PACKS_MAX:
            self._index()

    def _index(self) -> None:
        packs, self._unindexed = self._unindexed, []
        stored = seal_index(self._keyring, packs)
        for lane in self._lanes:
            lane.submit(partial(lane.store_index, stored, packs))

    def _flush(self) -> None:
        with self._lock:
            for key_id in list(self._open):
                self._seal(key_id)
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

    def _commit(self, lane: _Lane, point: _Point) -> None:
        self._complete(lane, point.needed)
        name = layout.point_name(point.name)
        store_checked(lane.replica.store, name, point.stored)
        log = lane.replica.log(POINTS_STREAM, Role.WRITER)
        landed = log.append(point.entry(lane.replica.region), refs=(name,))
        log.read(landed.slot)  # read back: an answer alone is not a commit
        lane.head = head_of(landed)
        lane.result = RegionResult(complete=True, slot=landed.slot)

    def _complete(self, lane: _Lane, needed: frozenset[bytes]) -> None:
        """Fetch what the region lacks from before. Raises ``Missing`` where no other region has it."""
        others = [other for other in self._lanes if other is not lane]
        failed: RefloatError | None = None
        for other in sorted(others, key=lambda other: other.error is not None):
            if not lane.lacking(needed):
                return
            try:
                catch_up(other.replica, lane.replica)
            except RefloatError as error:
                failed = error
            lane.look()
        lacking = lane.lacking(needed)
        if lacking:
            raise Missing(
                f"{lane.replica.region} lacks {lacking} of the {len(needed)} chunks that the point needs",
                next="refloat vault repair",
            ) from failed

    def _require_a_region(self) -> None:
        errors = [lane.error for lane in self._lanes if lane.error is not None]
        if len(errors) == len(self._lanes):
            raise StoreError(
                "no region took the capture: " + "; ".join(f"{e.region}: {e.message}" for e in errors),
                retry=Retry.NEVER if all(e.retry is Retry.NEVER for e in errors) else Retry.LATER,
                next=errors[0].next,
            ) from errors[0]
