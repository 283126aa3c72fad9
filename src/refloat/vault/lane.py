"""One region's writes of a capture, in order, on a thread of their own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial

from refloat.contracts import Progress
from refloat.digest import Json, object_name
from refloat.errors import RefloatError, Retry, StoreFull
from refloat.vault import layout
from refloat.vault.index import is_there
from refloat.vault.indexrun import Location
from refloat.vault.marks import marked_objects
from refloat.vault.pack import Directory, PackRecord
from refloat.vault.quarantine import quarantined
from refloat.vault.replica import Replica
from refloat.vault.replicate import store_checked

WAITING_MAX = 2  # packs on their way to one region, so that a slow one bounds memory instead of filling it
LAG_S = 5.0  # what a capture waits in all for a region that takes nothing more while another one does


@dataclass(frozen=True)
class RegionResult:
    """What became of a point in one region; ``slot`` is its place in that region's log."""

    complete: bool
    error: str | None = None
    slot: int | None = None


class Lane:
    """One region's writes, in order, on a thread of their own.

    ``error`` is why the region was given up; nothing more is written to it then. One that is ``behind`` lacks what it
    had no room for, and gets it from another region before its point. One that is ``late`` has not said in time what
    it holds, so nothing counts on it before its point.
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
        self.behind = False
        self.again = False
        self.late = False
        self.marked: frozenset[str] = frozenset()
        self.marked_anywhere: frozenset[str] = frozenset()
        progress.start(self._task)

    @property
    def answers(self) -> bool:
        """Whether what it holds can be counted on."""
        return self.error is None and not self.late

    def submit(self, action: Callable[[], None]) -> Future[None]:
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
        return future

    def offer(self, action: Callable[[], None]) -> bool:
        """As ``submit``, where there is room within ``LAG_S``; else the region is behind, and not waited for again."""
        if not self._room.acquire(timeout=0 if self.behind else LAG_S):
            self.behind = True
            return False
        self._room.release()
        self.submit(action)
        return True

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
            self.result = RegionResult(complete=False, error=error.told)
        self._cut_off = False

    def prepare(self) -> None:
        """Read what the region holds, before anything is skipped because it is there."""
        self.head = self.replica.head()
        self.replica.refresh_index()
        self.marked = marked_objects(self.replica)

    def begin_again(self) -> None:
        """After an error that may have passed, read anew what the region holds; it lacks what came meanwhile.

        A store without room is not filled further with what does not become a point there.
        """
        passes = self.error is not None and self.error.retry is not Retry.NEVER
        if passes and not isinstance(self.error, StoreFull):
            self.error, self.behind, self.again = None, True, True
            self.submit(self.prepare)
            self.submit(self.look)

    def look(self) -> None:
        """See which packs are there to rely on. What a listing does not show yet is only stored again."""
        listed = self.replica.store.list(layout.PACKS)
        doubted = self.marked | self.marked_anywhere | quarantined(self.replica.store)
        self._packs = {
            entry.name.rpartition("/")[2]: entry.size for entry in listed if entry.name not in doubted
        }

    def store_pack(self, record: PackRecord, stored: memoryview, uses: Uses) -> None:
        """Write a pack. Its memory is used again when every region has it; one that was given up keeps it."""
        store_checked(self.replica.store, layout.pack_name(record.name), stored)
        self._packs[record.name] = record.size
        self._progress.advance(self._task, record.size)
        uses.end_one()

    def store_index(self, stored: bytes, packs: Sequence[tuple[PackRecord, Directory]]) -> None:
        """Write an index object, after its packs; none where one of them is lacking, since the region is behind."""
        if not all(self.has(pack) for pack, _ in packs):
            return
        name = object_name(stored)
        store_checked(self.replica.store, layout.index_name(name), stored)
        self.replica.learn(name, packs)

    def holds(self, name: bytes, key_id: bytes | None = None, writer: str | None = None) -> bool:
        """Whether a pack with the chunk is there; sealed for one key and by one writer, where given."""
        return self._is_there(
            name,
            lambda place: key_id in (None, place.pack.key_id) and writer in (None, place.pack.writer),
        )

    def _is_there(self, name: bytes, counts: Callable[[Location], bool]) -> bool:
        """Whether a pack with the chunk is there that ``counts``, and so is what the chunk rests on."""
        return is_there(
            name, self.replica.index.locations, lambda place: self.has(place.pack) and counts(place)
        )

    def has(self, pack: PackRecord) -> bool:
        """Whether a pack is there, whichever region lists what lies in it."""
        return self._packs.get(pack.name) == pack.size

    def packs_of(self, names: Iterable[bytes], writer: str) -> frozenset[str]:
        """Packs that hold these chunks and what they rest on: one by ``writer``, else all, since one may lie."""
        packs: set[str] = set()
        for name in self.replica.index.with_bases(names):
            there = [
                place.pack for place in self.replica.index.locations(name) if place.pack.name in self._packs
            ]
            own = sorted(pack.name for pack in there if pack.writer == writer)
            if packs.isdisjoint(own):
                packs.update(own[:1] or (pack.name for pack in there))
        return frozenset(packs)


def in_time(lanes: Sequence[Lane], action: Callable[[Lane], None]) -> None:
    """Let every region do ``action``. Once one has, the others have ``LAG_S`` in all; who has not by then is late."""
    doing = {lane.submit(partial(action, lane)): lane for lane in lanes}
    left = set(doing)
    while left and not any(doing[future].error is None for future in doing.keys() - left):
        left = wait(left, return_when=FIRST_COMPLETED).not_done
    wait([future for future in left if not doing[future].late], timeout=LAG_S)
    for future, lane in doing.items():
        if future.done():
            lane.wait()
        others_go_on = any(other.error is None for other in lanes if other is not lane)
        lane.late = lane.behind = others_go_on and (lane.late or not future.done())


class Uses:
    """How many lanes have not stored a pack yet; ``over`` is called when none is left."""

    def __init__(self, count: int, over: Callable[[], None]) -> None:
        self._left = count
        self._over = over
        self._lock = threading.Lock()

    def end_one(self) -> None:
        """One more lane has it."""
        with self._lock:
            self._left -= 1
            over = self._left == 0
        if over:
            self._over()
