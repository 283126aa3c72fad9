"""What object lock does for a vault: what a point needs stays, whoever holds which credential.

The admin says under ``keys/`` for how long; nobody else can say so, and what says it is locked itself. What holds in
every region of such a vault:

1. before a region's log names a point, all that the point needs there is locked: packs that it reuses, index objects,
   its body, keys, the descriptor and the log so far, at least until the point's body was written plus that long;
2. the entry itself is locked before the point is called complete there;
3. times are the bucket's, so a writer's clock that is wrong neither shortens a lock nor makes it one for ages;
4. what must be extended is extended by a tenth more, so that not every commit extends everything.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from refloat.clock import Clock
from refloat.contracts import Keeping, Store, Versioned
from refloat.digest import may_be_named, object_name
from refloat.errors import Refused, Retry, StoreError, UsageError, VaultError
from refloat.limits import SLOT_DIGITS
from refloat.units import format_duration
from refloat.vault import layout
from refloat.vault.keyfile import KeyFile
from refloat.vault.keys import Keyring, Role
from refloat.vault.marks import marked_objects
from refloat.vault.slotlog import FIRST, SlotLog, previous_of

if TYPE_CHECKING:
    from refloat.vault.replica import CommittedPoint, Replica

LOCKS_AT_ONCE = 16  # requests in flight while locks are asked for, as many as a bucket has connections
TIMES_ARE_WHOLE = timedelta(seconds=1)  # a bucket tells times without their fractions
_DAY = timedelta(days=1)
_SIGNED_BY = {
    layout.POINTS_STREAM: Role.WRITER,
    layout.PRUNE_STREAM: Role.ADMIN,
    layout.FORGOTTEN_STREAM: Role.ADMIN,
    layout.RENEWED_STREAM: Role.ADMIN,
}
_ROOM = 10  # a tenth


def view(store: Store) -> Store:
    """The store as it keeps versions, where its bucket locks any: nothing that was put over an object hides it."""
    return (store.kept(layout.VAULT) if isinstance(store, Versioned) else None) or store


def open_locked(store: Store, key_file: KeyFile, region: str, clock: Clock) -> tuple[Store, Keyring]:
    """The store and its keyring; the store as it keeps versions where the admin has said that the vault is locked.

    What the audit of the ``region`` says was set aside does not count there.

    Raises as ``Keyring.open``.
    """
    kept = view(store)
    if isinstance(kept, Keeping):
        try:
            keyring = Keyring.open(key_file, kept)
        except VaultError:
            return store, Keyring.open(key_file, store)
        if keyring.lock is not None:
            return _Judge(keyring, region, clock).over(kept), keyring
    return store, Keyring.open(key_file, store)


def locked_view(store: Store, key_file: KeyFile) -> Store:
    """As the store of ``open_locked``, whatever the descriptor says: by what is under ``keys/`` alone."""
    kept = view(store)
    if isinstance(kept, Keeping):
        with suppress(VaultError):
            keyring = Keyring.vouched(key_file, kept)
            if keyring.lock is not None:
                return _Judge(keyring).over(kept)
    return store


def may_be_set_aside(stream: str) -> bool:
    """Whether entries of a log can be set aside in a locked vault: those that operators sign, but for the audit's."""
    return stream != layout.AUDIT_STREAM and _SIGNED_BY.get(stream, Role.OPERATOR) is Role.OPERATOR


class _Judge:
    """Whether bytes are what a name of a vault says: its digest, or a signed entry for just that slot.

    In the log of points, whose entries are locked, an entry must also follow the one that counts before it. So what
    a thief with a writer's key signs for a slot ahead, or in a chain of its own, never counts: nobody knows the hash
    of an entry that is not yet written.
    """

    def __init__(self, keyring: Keyring, region: str = "", clock: Clock | None = None) -> None:
        self._keyring = keyring
        self._region = region
        self._clock = clock
        self._links: dict[int, str] = {}
        self._aside: frozenset[tuple[str, str]] | None = None

    def over(self, kept: Keeping) -> Keeping:
        """The store in which this judges."""
        self._store = kept.judged(self)
        return self._store

    def __call__(self, name: str, content: bytes) -> bool:
        if not name.startswith(layout.LOG):
            return may_be_named(name, content)
        stream, _, digits = name.removeprefix(layout.LOG).rpartition("/")
        if len(digits) != SLOT_DIGITS or not digits.isdecimal():
            return False
        slot = int(digits)
        role = _SIGNED_BY.get(stream, Role.OPERATOR)
        previous = previous_of(self._keyring, role, stream, slot, content)
        if stream != layout.POINTS_STREAM:
            return previous is not None and not self._is_aside(stream, content)
        if previous is None or previous != self._link(slot - 1):
            return False
        self._links[slot] = object_name(content)
        return True

    def _is_aside(self, stream: str, content: bytes) -> bool:
        """Whether the audit says that an entry that operators sign was set aside; of the audit itself nothing does."""
        if self._clock is None or not may_be_set_aside(stream):
            return False
        if self._aside is None:
            self._aside = frozenset(self._said_aside(self._clock))
        return (stream, object_name(content)) in self._aside

    def _said_aside(self, clock: Clock) -> Iterator[tuple[str, str]]:
        audit = SlotLog(
            self._store,
            layout.AUDIT_STREAM,
            self._keyring,
            role=Role.OPERATOR,
            clock=clock,
            region=self._region,
        )
        with suppress(VaultError):  # what was said before a break counts
            for entry in audit.entries():
                entries = entry.body.get("entries")
                if entry.body.get("type") == "set_aside" and isinstance(entries, list):
                    yield from ((str(entry.body.get("stream")), str(one)) for one in entries)

    def _link(self, last: int) -> str | None:
        """The hash of the entry in a slot; None where one is lacking up to there. What was seen is not asked again."""
        if last < 0:
            return FIRST
        for slot in range(len(self._links), last + 1):
            if not self._store.holds(layout.slot_name(layout.POINTS_STREAM, slot)):
                return None
        return self._links.get(last)


def judged_anew(store: Keeping, keyring: Keyring, region: str, clock: Clock) -> Keeping:
    """The same store of a locked vault, in which nothing is chosen yet: what counts there has changed."""
    return _Judge(keyring, region, clock).over(store)


# ------------------------------------------------------------------------------------------------- making a vault


def require_lockable(stores: Mapping[str, Store]) -> None:
    """Raises ``UsageError`` naming each region whose kind of store locks nothing."""
    others = [region for region, store in stores.items() if not store.url.startswith("s3://")]
    if others:
        raise UsageError(
            f"--lock is for buckets of S3, and the vault of {' and '.join(others)} is none",
            next="give these regions an s3:// address, or leave --lock out",
        )


def prove_locks(stores: Mapping[str, Store], term: timedelta) -> dict[str, Store]:
    """Each store as it keeps versions, after every one was seen to keep a lock; new objects are locked from then on.

    Nothing but a small object that proved it is written before. Raises ``Refused`` (``lock_not_kept``).
    """
    require_lockable(stores)
    kept = {region: _kept(region, store) for region, store in stores.items()}
    for region, store in kept.items():
        wrong = store.prove(f"{layout.PROOF}{secrets.token_hex(8)}")
        if wrong is not None:
            raise _not_kept(region, store, wrong)
    days = _days(term)
    for store in kept.values() if days else ():
        try:
            store.lock_what_comes(days)
        except StoreError as error:  # each commit locks what it needs in any case
            if error.retry is not Retry.NEVER:
                raise
    return dict(kept)


def _kept(region: str, store: Store) -> Keeping:
    kept = view(store)
    if isinstance(kept, Keeping):
        return kept
    _require_boto3(region)
    raise _not_kept(region, store, "its bucket has no object lock")


def _not_kept(region: str, store: Store, wrong: str) -> Refused:
    return Refused(
        "lock_not_kept",
        f"{store.url} does not lock what it holds: {wrong}",
        region=region,
        next="use a bucket made with versioning and object lock, in a store that keeps them; or leave --lock out",
    )


def _require_boto3(region: str) -> None:
    try:
        import boto3  # noqa: F401
    except ImportError:
        raise UsageError(
            "object lock needs boto3, which is not installed",
            region=region,
            next='pip install "refloat[aws]"',
        ) from None


def _days(term: timedelta) -> int:
    """For how many days a bucket locks new objects by itself; 0 for a term that days do not fit."""
    return 0 if term < _DAY else math.ceil((term + term / _ROOM) / _DAY)


# ------------------------------------------------------------------------------------------------- locking a point


def lock_point(replica: Replica, point: str, packs: Iterable[str], slots: int) -> None:
    """Lock all that a point needs in a region, with the first ``slots`` entries of its log, before the log names it.

    Of index objects that say the same, one that is not to go. Nothing in a vault without a lock. Raises
    ``StoreError`` where something cannot be locked so long.
    """
    if replica.keyring.lock is None:
        return
    body, packs, marked = layout.point_name(point), frozenset(packs), marked_objects(replica)
    listed = {min(same, key=lambda name: (name in marked, name)) for same in replica.listing(packs)}
    names = [body, *map(layout.pack_name, packs), *listed, *_slots(0, slots)]
    _lock(replica.store, replica.keyring, [*_always(replica.store, replica.keyring), *names], body)


def lock_entries(replica: Replica, point: str, first: int, last: int) -> None:
    """Lock the entries of a region's log from ``first`` to ``last`` for as long as a point. Raises ``StoreError``."""
    _lock(replica.store, replica.keyring, list(_slots(first, last + 1)), layout.point_name(point))


def lock_keys(store: Store, keyring: Keyring) -> None:
    """Lock the keys and the descriptor of a new vault."""
    _lock(store, keyring, _always(store, keyring), layout.VAULT)


def _slots(first: int, end: int) -> Iterable[str]:
    return (layout.slot_name(layout.POINTS_STREAM, slot) for slot in range(first, end))


def _always(store: Store, keyring: Keyring) -> list[str]:
    if keyring.lock is None:
        return []
    keys = (entry.name for entry in store.list(layout.KEYS))
    return [layout.VAULT, *(name for name in keys if name not in keyring.rejected)]


def _lock(store: Store, keyring: Keyring, names: list[str], newest: str) -> None:
    """Lock objects from when the newest of them was written."""
    term = keyring.lock
    if term is None:
        return
    if not isinstance(store, Keeping):
        raise _unlocked(store, term)
    least = store.written_at(newest) + TIMES_ARE_WHOLE + term
    until = least + term / _ROOM
    with ThreadPoolExecutor(LOCKS_AT_ONCE, thread_name_prefix="lock") as pool:
        for _ in pool.map(partial(store.lock, least=least, until=until), names):
            pass


def _unlocked(store: Store, term: timedelta) -> StoreError:
    try:
        _require_boto3("")
    except UsageError as error:
        return StoreError(f"the vault locks its points: {error.message}", next=error.next)
    return StoreError(
        f"the vault locks its points for {format_duration(term.total_seconds())}, and {store.url} locks nothing",
        next="see what became of the bucket's object lock, and whether these credentials may ask for it",
    )


# ------------------------------------------------------------------------------------------------- what is locked


def removable_from(store: Store, names: Iterable[str]) -> dict[str, datetime]:
    """Which of these objects were locked with all that lies under their names, and to when. Raises ``StoreError``."""
    return _asked(store.removable_from, names) if isinstance(store, Keeping) else {}


def locked_until(store: Store, names: Iterable[str]) -> dict[str, datetime]:
    """Which of these objects were ever locked, and to when. Raises ``Missing``, ``StoreError``."""
    return _asked(store.locked_until, names) if isinstance(store, Keeping) else {}


@dataclass(frozen=True)
class Held:
    """Until when all that a point needs in a region is locked, and what of it is not now. None: not all ever was."""

    until: datetime | None
    lapsed: tuple[str, ...] = ()


def held(
    replica: Replica,
    point: CommittedPoint,
    packs: Iterable[str] = (),
    either: Iterable[frozenset[str]] = (),
) -> Held | None:
    """How what a point needs is locked; None in a vault without a lock. Raises ``StoreError``.

    Its body, the entries up to its own and the keys of before; ``packs`` by the names of their objects; and one of each
    set of packs of ``either``, and of index objects that say the same of ``packs``.
    """
    store = replica.store
    body = layout.point_name(point.name)
    if replica.keyring.lock is None:
        return None
    if not isinstance(store, Keeping):
        return Held(None, (body,))
    packs = list(packs)
    made = store.written_at(body)
    keys = (name for name in _always(store, replica.keyring) if store.written_at(name) <= made)
    listed = replica.listing({pack.rpartition("/")[2] for pack in packs}) if packs else ()
    some = {*either, *listed}
    needed = [body, *keys, *_slots(0, point.slot + 1), *packs]
    asked = locked_until(store, {*needed, *(name for names in some for name in names)})
    longest = [max(sorted(names), key=lambda name: asked.get(name, made)) for names in some]
    now = replica.clock.now()
    ends = {name: asked.get(name) for name in sorted({*needed, *longest})}
    lapsed = tuple(name for name, end in ends.items() if end is None or end <= now)
    known = [end for end in ends.values() if end is not None]
    return Held(min(known) if len(known) == len(ends) else None, lapsed)


def _asked(ask: Callable[[str], datetime | None], names: Iterable[str]) -> dict[str, datetime]:
    """What is answered for these names, where there is an answer."""
    names = list(names)
    with ThreadPoolExecutor(LOCKS_AT_ONCE, thread_name_prefix="lock") as pool:
        found = zip(names, pool.map(ask, names), strict=True)
        return {name: until for name, until in found if until is not None}
