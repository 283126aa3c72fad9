"""Is everything there that the points of a replica need, and is it still what was written?"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from types import MappingProxyType

from refloat.contracts import Keeping, Progress, Silent
from refloat.errors import Damaged, Malformed, Missing, StoreError, VaultError, WrongKey
from refloat.limits import OBJECT_BYTES_MAX
from refloat.vault import layout
from refloat.vault.aside import role_of, sound_entries
from refloat.vault.forgotten import told
from refloat.vault.keys import Role
from refloat.vault.layout import FORGOTTEN_STREAM, POINTS_STREAM, damaged
from refloat.vault.lock import Held, held
from refloat.vault.pack import PackRecord, can_open, directory_of, open_records
from refloat.vault.points import roots
from refloat.vault.quarantine import is_whole, lift, quarantined
from refloat.vault.reading import Reading, ReadSoFar
from refloat.vault.replica import CommittedPoint, Replica, committed
from refloat.vault.replicate import good_copy, is_let_go, let_go
from refloat.vault.slotlog import Entry
from refloat.vault.tree import Extent, chunk_names, chunks_named
from refloat.vault.unfolded import Totals, require_within, totals_of
from refloat.vault.whose import is_key_of
from refloat.vault.witness import rolled_back_message

_CHUNK = re.compile("[0-9a-f]{64}")  # what no pack holds has no object to be named by
_NOT_NAMED = "its bytes do not match its name"
PACKS_AT_ONCE = 2  # read and opened: each takes the memory of a pack and of what is opened of it


@dataclass(frozen=True)
class Damage:
    """One object that is not what it must be, why, and the points that use it.

    ``malformed``: it is what its writer signed, and nobody recovers it. ``next``: what to do about it.
    """

    object: str
    region: str
    affects: tuple[str, ...] = ()
    reason: str = ""
    malformed: bool = False
    next: str = "refloat vault repair"

    @property
    def told(self) -> str:
        """What is wrong with it, and what to do where that is no repair."""
        return f"{self.reason}; {self.next}" if self.malformed else self.reason


@dataclass(frozen=True)
class CheckReport:
    """What a check saw. ``packs_unopened`` match their names, but this key does not open their records.

    ``points`` is the number of those that are not forgotten. ``needed`` are the objects that the points need
    whatever else is there: their bodies, and each pack that alone holds a chunk of theirs. ``shared`` are their
    chunks that several packs are said to hold, with those. ``covered`` are objects of a locked vault that are whole,
    and hidden from whoever reads the newest version only: somebody had no business there. ``held`` says how what the
    newest point needs is locked, in a locked vault.
    """

    packs: int
    chunks: int
    bytes_read: int
    damaged: tuple[Damage, ...] = ()
    covered: tuple[Damage, ...] = ()
    points: int = 0
    packs_unopened: int = 0
    needed: frozenset[str] = frozenset()
    shared: Mapping[bytes, frozenset[str]] = field(default_factory=dict)
    so_far: ReadSoFar | None = None
    held: Held | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged or covered."""
        return not self.damaged and not self.covered

    @property
    def lapsed(self) -> tuple[str, ...]:
        """What the newest point needs and is not locked, in a vault that is."""
        return () if self.held is None else self.held.lapsed


def check(
    replica: Replica,
    *,
    read_data: bool,
    progress: Progress | None = None,
    forgetting: Collection[str] = (),
    spared: Collection[str] = (),
    reading: Reading | None = None,
    others: Sequence[Replica] = (),
    shorter: Mapping[str, tuple[int, int]] = MappingProxyType({}),
    needed_only: bool = False,
) -> CheckReport:
    """Check the structure of a replica and, with ``read_data``, every byte of every pack.

    Structure: the chain of every log, every point's seal, every folder, every chunk placed by the index, every pack
    there in its full size; in a locked vault also what lies over an object, and how what the newest point needs is
    locked. What is gone without a trace others tell: ``others`` by what they hold of a key, and ``shorter``, which
    is ``witness.rolled_back`` of all regions, of the end of the log of points.
    Bytes: each pack's name computed anew, each record opened where the key allows. A pack that is not what was written
    is put in quarantine, and damage from then on whether it is read or not; one that is what it was is let out.
    ``needed_only``: only what the points need, and nothing else that is wrong.
    A point that is forgotten needs nothing. ``forgetting`` are looked upon as forgotten as well, and ``spared`` are
    not, as long as their bodies are there. With ``reading`` only the packs are read that it names, and it is told.
    Raises ``StoreError`` where the store does not answer.
    """
    run = _Check(replica, progress or Silent())
    run.keys(others)
    run.points(forgetting, spared)
    run.packs()
    if not needed_only:
        run.logs()
        run.witnesses(shorter)
        run.covers()
        run.locks()
    if read_data:
        run.read(reading)
    return run.report()


@dataclass
class _Findings:
    """What one tree needs, and what is wrong with it. ``packs`` are all that hold a chunk of it."""

    alone: set[str] = field(default_factory=set)
    shared: dict[bytes, frozenset[str]] = field(default_factory=dict)
    packs: set[str] = field(default_factory=set)
    unlisted: set[str] = field(default_factory=set)
    faults: dict[str, str] = field(default_factory=dict)
    extent: Extent = field(default_factory=Extent)
    malformed: Malformed | None = None


@dataclass(frozen=True)
class _PackRead:
    """How many bytes of a pack were read, and what was found: damage, or that this key opens none of its records.

    ``whole``: its bytes are those that were written, whatever a key opens.
    """

    bytes: int
    unopened: bool = False
    damage: VaultError | None = None
    whole: bool = True


class _Check:
    def __init__(self, replica: Replica, progress: Progress) -> None:
        self._replica = replica
        self._progress = progress
        self._reasons: dict[str, str] = {}
        self._malformed: set[str] = set()
        self._next: dict[str, str] = {}
        self._affects: dict[str, set[str]] = {}
        self._users: dict[str, set[str]] = {}
        self._unlisted: set[str] = set()
        self._trees: dict[str, _Findings] = {}
        self._bodies: set[str] = set()
        self._slots: dict[str, str] = {}
        self._newest: CommittedPoint | None = None
        self._newest_trees: list[str] = []
        self._held: Held | None = None
        self._covered: dict[str, str] = {}
        self._points = 0
        self._bytes_read = 0
        self._unopened = 0
        self._so_far: ReadSoFar | None = None
        replica.recover_index()
        self._sizes = {entry.name: entry.size for entry in replica.store.list(layout.PACKS)}
        self._doubted = quarantined(replica.store)

    def report(self) -> CheckReport:
        found = self._damages(self._reasons, self._affects)
        covered = self._damages(self._covered, {name: self._users_of(name) for name in self._covered})
        index = self._replica.index
        trees = self._trees.values()
        needed = self._bodies.union(*(tree.alone for tree in trees))
        shared = {name: packs for tree in trees for name, packs in tree.shared.items()}
        counted = (self._bytes_read, found, covered, self._points, self._unopened)
        numbers = (len(index.packs), len(index), *counted)
        return CheckReport(*numbers, frozenset(needed), shared, self._so_far, self._held)

    def _damages(self, reasons: Mapping[str, str], affects: Mapping[str, set[str]]) -> tuple[Damage, ...]:
        return tuple(
            Damage(
                name,
                self._replica.region,
                tuple(sorted(affects.get(name, ()))),
                reason,
                name in self._malformed,
                self._next.get(name, Damage.next),
            )
            for name, reason in sorted(reasons.items())
        )

    def _blame(self, name: str, reason: str, points: set[str] | None = None) -> None:
        self._reasons.setdefault(name, reason)
        self._affects.setdefault(name, set()).update(points or ())

    def keys(self, others: Sequence[Replica]) -> None:
        names = [entry.name for entry in self._replica.store.list(layout.KEYS)]
        wrong = {name: reason for name in names if (reason := self._wrong_with_key(name)) is not None}
        for name, reason in wrong.items():
            self._blame(name, reason)
        if _NOT_NAMED not in wrong.values():
            self._lacking_keys()
        self._keys_elsewhere(set(names), others)

    def _lacking_keys(self) -> None:
        """A key object that is gone leaves no name behind, only what can no longer be signed, opened or locked."""
        if self._replica.keyring.lock_lacks:
            self._blame(
                layout.KEYS, "no key there says for how long points are locked, and another region's does"
            )
        for role in self._replica.keyring.unvouched():
            self._blame(layout.KEYS, f"no certificate there vouches for this key as {role}")
        for key_id in {pack.key_id for pack in self._replica.index.packs}:
            try:
                can_open(self._replica.keyring, key_id)
            except VaultError as error:
                self._blame(layout.KEYS, error.message)

    def _keys_elsewhere(self, here: Collection[str], others: Sequence[Replica]) -> None:
        """The keys that only other regions have, but those that were let go, which are brought to none."""
        for other in others:
            lacking: list[str] = []
            with suppress(StoreError):  # what another region does not say is its own fault
                lacking = [name for name in layout.objects(other.store, layout.KEYS) if name not in here]
            gone = let_go([self._replica, *others]) if lacking else frozenset[str]()
            for name in lacking:
                copy = good_copy(name, [other])
                if (
                    copy is not None
                    and is_key_of(copy[1], self._replica.keyring.vault)
                    and not is_let_go(copy[1], gone)
                ):
                    self._blame(name, f"it is not there, and {other.region} has it")

    def _wrong_with_key(self, name: str) -> str | None:
        """What is wrong with an object below ``keys/``; somebody else's cannot be removed from a locked vault."""
        content = self._replica.store.get(name, 0, OBJECT_BYTES_MAX + 1)
        self._bytes_read += len(content)
        if not layout.has_its_name(name, content):
            return _NOT_NAMED
        may_stay = isinstance(self._replica.store, Keeping) or is_key_of(content, self._replica.keyring.vault)
        return None if may_stay else "it does not belong to this vault"

    def points(self, forgetting: Collection[str], spared: Collection[str]) -> None:
        gone = {*forgetting, *self._forgotten()}
        gone -= {name for name in spared if self._replica.store.size(layout.point_name(name)) is not None}
        points = [point for point in self._committed() if point.name not in gone]
        self._points = len(points)
        task = f"look at the points of {self._replica.region}"
        self._progress.start(task, len(points), "points")
        for point in points:
            self._point(point)
            self._progress.advance(task)
        self._progress.finish(task)

    def _point(self, committed_point: CommittedPoint) -> None:
        point = committed_point.name
        self._bodies.add(layout.point_name(point))
        self._slots[layout.slot_name(POINTS_STREAM, committed_point.slot)] = point
        try:
            body = self._replica.read_point(point)
            trees = roots(body)
        except WrongKey:
            raise  # it is the key that lacks something, not the vault
        except (VaultError, ValueError) as error:
            self._blame(name := layout.point_name(point), str(error), {point})
            letting_go = f"refloat points forget {point[:12]}"
            if isinstance(error, Malformed | ValueError):
                self._next[name] = letting_go
            elif isinstance(error, Damaged | Missing):
                self._next[name] = f"{Damage.next}; where no region has it whole, {letting_go}"
            else:
                self._next[name] = error.next or Damage.next
            return
        self._newest, self._newest_trees = committed_point, trees
        for tree in trees:
            self._tree(tree, point)
        for tree, totals in totals_of(body):
            self._is_within(tree, totals, point)

    def _committed(self) -> Iterator[CommittedPoint]:
        yield from (committed(entry) for entry in self._entries(POINTS_STREAM, Role.WRITER) if not entry.void)

    def _forgotten(self) -> Iterator[str]:
        for entry in self._entries(FORGOTTEN_STREAM, Role.ADMIN):
            yield from () if entry.void else told(entry).points

    def _entries(self, stream: str, role: Role) -> Iterator[Entry]:
        """The entries of a log up to the first that is not what was written."""
        found = yield from sound_entries(self._replica.log(stream, role))
        if found is not None:
            self._blame(found.error.file or layout.stream_prefix(stream), found.error.message)

    def logs(self) -> None:
        """Every other log. What is in one that is not known here is left alone."""
        for stream in self._replica.streams():
            role = None if stream in (POINTS_STREAM, FORGOTTEN_STREAM) else role_of(stream)
            for _ in self._entries(stream, role) if role is not None else ():
                pass

    def witnesses(self, shorter: Mapping[str, tuple[int, int]]) -> None:
        """Whether the log of points is the one that other regions, and this machine, saw."""
        region = self._replica.region
        if seen := shorter.get(region):
            told = f"{rolled_back_message(region, *seen)}: `refloat vault rejoin {region}`"
            self._blame(name := layout.stream_prefix(POINTS_STREAM), told)
            self._next[name] = f"refloat vault rejoin {region}"

    def _tree(self, tree: str, point: str) -> None:
        if tree not in self._trees:
            self._trees[tree] = self._walk(tree)
        findings = self._trees[tree]
        self._unlisted |= findings.unlisted
        for pack in findings.packs:
            self._users.setdefault(pack, set()).add(point)
        for name, reason in findings.faults.items():
            self._blame(name, reason, {point})

    def _is_within(self, tree: str, totals: Totals, point: str) -> None:
        """Whether a tree of a point is one that somebody recovers, and unfolds to no more than its point says."""
        found = self._trees[tree]
        try:
            if found.malformed is not None:
                raise found.malformed
            require_within(found.extent, totals, tree)
        except Malformed as error:
            name = f"folder {tree}"
            self._blame(name, error.message, {point})
            self._malformed.add(name)
            self._next[name] = error.next or Damage.next

    def _walk(self, tree: str) -> _Findings:
        found = _Findings()
        root, read = bytes.fromhex(tree), self._replica.read_chunk

        def walked() -> Iterator[bytes]:
            found.extent = yield from chunk_names(root, read)

        try:
            try:
                self._place(found, walked())
            except Malformed as error:
                found = _Findings(malformed=error)
                self._place(found, chunks_named(root, read))
                found.faults.clear()  # nobody recovers it, so it lacks nothing
        except WrongKey:
            raise
        except (VaultError, ValueError) as error:
            where = error.file if isinstance(error, VaultError) and error.file else f"tree {tree}"
            found.faults[f"chunk {where}" if _CHUNK.fullmatch(where) else where] = str(error)
        return found

    def _place(self, found: _Findings, names: Iterable[bytes]) -> None:
        """Find where chunks lie, and those that they rest on. Raises what ``names`` does."""
        for name in self._replica.index.with_bases(names):
            places = list(self._replica.index.locations(name))
            packs = frozenset(place.pack.name for place in places)
            found.packs |= packs
            if len(packs) > 1:
                found.shared[name] = frozenset(map(layout.pack_name, packs))
            else:
                found.alone.update(map(layout.pack_name, packs))
            if not any(place.pack.writer for place in places):
                found.unlisted.update(place.pack.name for place in places)
            if not places:
                found.faults[f"chunk {name.hex()}"] = "it is in no pack"

    def packs(self) -> None:
        for pack in self._replica.index.packs:
            name = layout.pack_name(pack.name)
            size = self._sizes.get(name)
            size = self._replica.store.size(name) if size is None else size  # a listing may lag
            if size != pack.size:
                found = "it is not there" if size is None else f"it has {size} bytes, not {pack.size}"
                self._blame(name, found, self._users.get(pack.name))
            elif name in self._doubted:
                self._blame(name, "it was read and is not what was written", self._users.get(pack.name))
            elif pack.name in self._unlisted:
                self._blame(name, "no index object lists it; its own directory was used")
        for name, error in self._replica.index_damage.items():
            self._blame(name, error.message, self._users.get(name.rpartition("/")[2]))

    def covers(self) -> None:
        """What lies over objects of a locked vault. A slot that no entry counts in is free, whatever lies there."""
        store = self._replica.store
        if not isinstance(store, Keeping):
            return
        for name, reason in store.covered().items():
            if name.startswith(layout.LOG) and not store.holds(name):
                continue
            if name == layout.VAULT or name.startswith((*layout.OBJECTS, layout.LOG)):
                self._covered[name] = reason

    def locks(self) -> None:
        """How what the newest point needs is locked. Of a chunk that lies in several packs one is enough."""
        if self._newest is None or self._replica.keyring.lock is None:
            return
        found = [self._trees[tree] for tree in self._newest_trees]
        alone = set[str]().union(*(tree.alone for tree in found))
        either = {packs for tree in found for packs in tree.shared.values()}
        with suppress(Missing):  # what is not there is damage already
            self._held = held(self._replica, self._newest, alone, either)

    def _users_of(self, name: str) -> set[str]:
        """The points that use an object: all of them the descriptor, the keys and the index."""
        bodies = {body.removeprefix(layout.POINTS) for body in self._bodies}
        if name.startswith(layout.PACKS):
            return self._users.get(name.rpartition("/")[2], set())
        if name.startswith(layout.POINTS):
            return bodies & {name.removeprefix(layout.POINTS)}
        if name.startswith(layout.LOG):
            return bodies & {self._slots.get(name, "")}
        return bodies

    def read(self, reading: Reading | None) -> None:
        packs = self._replica.index.packs
        packs = reading.due(packs) if reading is not None else packs
        task = f"check {self._replica.region}"
        self._progress.start(task, sum(pack.size for pack in packs))
        with ExitStack() as undo:
            pool = ThreadPoolExecutor(PACKS_AT_ONCE, thread_name_prefix="check")
            undo.callback(pool.shutdown, wait=False, cancel_futures=True)  # who is stopped waits for no store
            waiting: deque[tuple[PackRecord, Future[_PackRead]]] = deque()
            for pack in packs:
                if len(waiting) == PACKS_AT_ONCE:
                    self._take_in(task, reading, *waiting.popleft())
                waiting.append((pack, pool.submit(_read_pack, self._replica, pack.name)))
            while waiting:
                self._take_in(task, reading, *waiting.popleft())
        self._progress.finish(task)
        if reading is not None:
            reading.tidy(self._replica.index.packs)
            self._so_far = reading.so_far(self._replica.index.packs)

    def _take_in(self, task: str, reading: Reading | None, pack: PackRecord, read: Future[_PackRead]) -> None:
        found = read.result()
        self._bytes_read += found.bytes
        self._unopened += found.unopened
        name = layout.pack_name(pack.name)
        if found.whole:
            self._acquit(name)
        if found.damage is not None:
            self._blame(name, found.damage.message, self._users.get(pack.name))
        elif reading is not None:
            reading.done(pack.name)
        self._progress.advance(task, pack.size)

    def _acquit(self, name: str) -> None:
        """A pack that was in quarantine is what was written: mended by hand, or only read badly before."""
        if name in self._doubted and self._reasons.pop(name, None) is not None:
            with suppress(StoreError):
                lift(self._replica.store, [name])


def _read_pack(replica: Replica, name: str) -> _PackRead:
    """Read a pack, by its hexadecimal name, and open its records; several threads may do so. Raises ``StoreError``."""
    what, read, whole, keyring = layout.pack_name(name), 0, False, replica.keyring
    try:
        stored = replica.store.get(what, 0, OBJECT_BYTES_MAX + 1)
        read = len(stored)
        whole = is_whole(replica.store, what, stored)
        if not whole:
            raise damaged(what, "its bytes do not match its name")
        directory = directory_of(keyring, stored, what=what)
        opens = can_open(keyring, directory.key_id)
        if opens:
            open_records(keyring, stored, directory, what=what, read=replica.read_chunk)
    except VaultError as error:
        return _PackRead(read, damage=error, whole=whole)
    return _PackRead(read, unopened=not opens)
