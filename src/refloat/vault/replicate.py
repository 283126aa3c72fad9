"""Bringing one replica what another one holds: objects verified by name, none of them opened.

No key is needed for it, and none helps to do harm: an object is copied only where its bytes have its name. A region's
log is its own and is never copied: it says what was complete *there*, and when.

Order of writes, so that a crash leaves nothing that names what is not there: keys, packs, index objects, points. What
is listed last at the source is written first, so whatever an index object or a point names was there by then.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from refloat.contracts import Progress, Put, Silent, Store
from refloat.errors import Damaged, Missing, Retry, StoreError, VaultError
from refloat.limits import OBJECT_BYTES_MAX
from refloat.vault import layout
from refloat.vault.index import open_index
from refloat.vault.keys import Noted, last_notes, unproved_notes
from refloat.vault.pace import Pace
from refloat.vault.pack import directory_of
from refloat.vault.quarantine import is_whole
from refloat.vault.recipients import told_of
from refloat.vault.replica import Replica
from refloat.vault.whose import is_key_of

TRANSFERS = 4  # at the same time: an object store takes long to answer; each may hold an object in memory


class Place(Protocol):
    """Where a replica lies, whether a key has opened it or not."""

    @property
    def region(self) -> str:
        """The region's name."""

    @property
    def store(self) -> Store:
        """What holds its objects."""


@dataclass(frozen=True)
class Copied:
    """What was copied. ``damaged`` names what was left behind because it is not whole at the source.

    ``waiting`` are index objects and points that were left behind because what they may name is not all there yet.
    """

    objects: int = 0
    bytes: int = 0
    damaged: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


def catch_up(source: Replica, target: Replica, progress: Progress | None = None) -> Copied:
    """Copy the keys, packs, index objects and points that ``target`` lacks.

    The key that opened the replicas tells which packs an index object names, so one that names a damaged pack keeps
    no other from being copied. Damaged bytes are never copied. Raises ``StoreError``.
    """
    copy = _Copy(source, target, progress or Silent(), opened=source)
    copied = copy.all()
    target.recover_index()  # also what lies in packs whose index object names a lost one, and stays behind for it
    return copied


def copy_objects(
    source: Place,
    target: Place,
    progress: Progress | None = None,
    *,
    pace: Pace | None = None,
    prefixes: Iterable[str] = layout.OBJECTS,
    others: Iterable[Place] = (),
) -> Copied:
    """Copy what ``target`` lacks without a key, at no more than the ``pace``; ``others`` tell, too, what was let go.

    Which packs an index object names only a key tells, so none is copied before every pack that the source lists is
    at the target, and no point before every index object is. Damaged bytes are never copied. Raises ``StoreError``.
    """
    return _Copy(source, target, progress or Silent(), pace=pace, prefixes=prefixes, others=others).all()


def copy_index(source: Replica, target: Replica) -> tuple[str, ...]:
    """Copy the index objects that ``target`` lacks and whose packs it holds; their names. Raises ``StoreError``."""
    copy = _Copy(source, target, Silent(), opened=source, prefixes=[layout.INDEX])
    copy.all()
    return tuple(copy.names)


class _Copy:
    def __init__(
        self,
        source: Place,
        target: Place,
        progress: Progress,
        *,
        opened: Replica | None = None,
        pace: Pace | None = None,
        prefixes: Iterable[str] = layout.OBJECTS,
        others: Iterable[Place] = (),
    ) -> None:
        self._places = (source, target, *others)
        self._source = source.store
        self._target = target.store
        self._progress = progress
        self._opened = opened
        self._pace = pace
        self._prefixes = list(prefixes)
        self._task = f"copy {source.region} to {target.region}"
        self._given_up = threading.Event()
        self._lock = threading.Lock()
        self.names: list[str] = []
        self._bytes = 0
        self._damaged: list[str] = []
        self._waiting: list[str] = []
        self._staying: list[str] = []
        self._gone: frozenset[str] = frozenset()
        self._vault = ""

    def all(self) -> Copied:
        """Copy what the target lacks below each prefix, in the order of writes."""
        listed = {prefix: layout.objects(self._source, prefix) for prefix in reversed(self._prefixes)}
        there = {prefix: layout.objects(self._target, prefix) for prefix in self._prefixes}
        lacking = {p: {n: s for n, s in of.items() if n not in there[p]} for p, of in listed.items()}
        self._progress.start(self._task, sum(sum(of.values()) for of in lacking.values()))
        complete = True
        with ThreadPoolExecutor(TRANSFERS, thread_name_prefix="copy") as pool, ExitStack() as undo:
            undo.callback(self._given_up.set)
            for prefix in self._prefixes:
                if prefix == layout.KEYS and lacking[prefix]:
                    self._gone, self._vault = let_go(self._places), _vault_in(self._places)
                if complete or self._opened is not None or prefix in layout.NAMES_NOTHING:
                    self._some(pool, lacking[prefix])
                else:
                    self._waiting += lacking[prefix]
                complete = complete and self._all_there(listed[prefix], there[prefix])
            undo.pop_all()
        self._progress.finish(self._task)
        return Copied(
            len(self.names), self._bytes, tuple(sorted(self._damaged)), tuple(sorted(self._waiting))
        )

    def _all_there(self, listed: Mapping[str, int], before: Mapping[str, int]) -> bool:
        """Whether the target has every object that the source lists, whole in size."""
        passed = {*self.names, *self._staying}
        return all(name in passed or before.get(name) == size for name, size in listed.items())

    def _some(self, pool: ThreadPoolExecutor, lacking: Mapping[str, int]) -> None:
        """Copy these, a few at the same time."""
        waiting: deque[Future[None]] = deque()
        for name, size in lacking.items():
            if len(waiting) >= TRANSFERS:
                waiting.popleft().result()
            waiting.append(pool.submit(self._one, name, size))
        while waiting:
            waiting.popleft().result()

    def _one(self, name: str, size: int) -> None:
        try:
            content = self._read(name, size)
        except Missing:  # a prune was quicker
            self._put_by(self._waiting, name)
            return
        if content is None:
            return
        if not is_whole(self._source, name, content):
            self._put_by(self._damaged, name)
        elif name.startswith(layout.KEYS) and self._stays(content):
            self._put_by(self._staying, name)
        elif self._may_go(name, content):
            store_checked(self._target, name, content)
            with self._lock:
                self.names.append(name)
                self._bytes += len(content)
        self._progress.advance(self._task, len(content))

    def _stays(self, key: bytes) -> bool:
        """Whether a key object is brought to no other region: it was let go, or is another vault's."""
        return not is_key_of(key, self._vault) or is_let_go(key, self._gone)

    def _put_by(self, names: list[str], name: str) -> None:
        with self._lock:
            names.append(name)

    def _may_go(self, name: str, content: bytes) -> bool:
        """Whether a pack is this vault's, and whether the target holds every pack that an index object names."""
        if self._opened is None or not name.startswith((layout.PACKS, layout.INDEX)):
            return True
        if name.startswith(layout.PACKS):
            return self._is_pack_of(self._opened, name, content)
        try:
            packs = open_index(self._opened.keyring, name.removeprefix(layout.INDEX), content, what=name)
        except Damaged:
            self._put_by(self._damaged, name)
            return False
        except VaultError:  # of a newer format: what it names cannot be told
            self._put_by(self._waiting, name)
            return False
        if all(self._target.size(layout.pack_name(pack.name)) == pack.size for pack, _ in packs):
            return True
        self._put_by(self._waiting, name)
        return False

    def _is_pack_of(self, replica: Replica, name: str, content: bytes) -> bool:
        """Whether a pack opens with this vault's key, or is of a newer format."""
        try:
            directory_of(replica.keyring, content, what=name)
        except Damaged:
            self._put_by(self._damaged, name)
            return False
        except VaultError:  # of a newer format
            pass
        return True

    def _read(self, name: str, size: int) -> bytes | None:
        """An object of the source; None where the copying was given up."""
        if self._given_up.is_set():
            return None
        if self._pace is None:
            return self._source.get(name, 0, OBJECT_BYTES_MAX + 1)
        return _at_pace(self._source, name, min(size, OBJECT_BYTES_MAX), self._pace, self._given_up.is_set)


def _at_pace(store: Store, name: str, size: int, pace: Pace, given_up: Callable[[], bool]) -> bytes | None:
    """An object of this size, read piece by piece; None where the copying was given up."""
    pieces = []
    for start in range(0, size, pace.piece_bytes):
        length = min(pace.piece_bytes, size - start)
        if not pace.take(length, given_up):
            return None
        pieces.append(store.get(name, start, length))
    return b"".join(pieces)


def _vault_in(places: Sequence[Place]) -> str:
    """The id of the vault that the places hold, as the first says that can. Raises as ``layout.read_descriptor``."""
    for place in places:
        if isinstance(place, Replica):
            return place.keyring.vault
        with suppress(Missing, VaultError):
            return layout.read_descriptor(place.store).vault
    return layout.read_descriptor(places[0].store).vault


def let_go(places: Iterable[Place]) -> frozenset[str]:
    """The ids of ways to open the vault that the admin let go, by the last word on each that one of the places has.

    Without a key the word of a store is taken for the admin's: it could hide the way itself as well.
    """
    last = last_notes(chain.from_iterable(map(_notes_in, places)))
    return frozenset(id for id, noted in last.items() if noted.removed_at is not None)


def is_let_go(content: bytes, gone: frozenset[str]) -> bool:
    """Whether this is a key file sealed for a way that is ``gone``: a region that was away may keep it still."""
    told = told_of(content)
    return told is not None and told.id in gone


def _notes_in(place: Place) -> Iterable[Noted]:
    """The admin's notes on sealed key files; of a place that no key has opened, what is said to be such."""
    return place.keyring.notes().values() if isinstance(place, Replica) else unproved_notes(place.store)


def store_checked(store: Store, name: str, content: bytes | memoryview) -> Put:
    """Create an object and ask whether it is there, whole in size: an answer alone is not a copy.

    Raises ``StoreError`` where the store took it and does not hold it.
    """
    put = store.create(name, content)
    size = store.size(name)
    if size != len(content):
        raise StoreError(
            f"{store.url} took {name} ({len(content)} bytes), but holds {size or 'nothing'}",
            file=name,
            retry=Retry.LATER,
            next="check the store; `refloat vault check` says what else is not there",
        )
    return put


def good_copy(name: str, others: Sequence[Place]) -> tuple[str, bytes] | None:
    """The region and the bytes of a copy whose bytes have the object's name; None where none has."""
    for other in others:
        content = _content(other.store, name)
        if content is not None and is_whole(other.store, name, content):
            return other.region, content
    return None


def _content(store: Store, name: str) -> bytes | None:
    try:
        return store.get(name, 0, OBJECT_BYTES_MAX + 1)
    except (Missing, StoreError):
        return None
