"""Removes from a vault what no recovery point needs: marked first, removed a day later, beside writers.

A command that was cut leaves packs, index objects and bodies of points that no log of points leads to, and a point
that every region which lists it has forgotten (``forgotten``) needs nothing any more. What holds when they go:

1. nothing is removed or marked unless everything that every point of every region needs was found: a log that
   is damaged, a folder that cannot be read, a pack that no index object lists, and nothing goes; a tree that nobody
   recovers, as one that nests too deep, stops nothing, and what it names stays as far as that can be read;
2. what no point needs is *marked* first (``marks``), and a writer that begins after that does not rely on it; an
   index object that lists such a pack beside others is marked with it, after one was written that leaves it out;
3. what was marked ``PRUNE_GRACE_S`` ago and is still needed by no point is removed: by then every writer that
   began before the mark has ended;
4. of several packs that are said to hold the same chunk one stays, and only one out of which it was read: what a
   writer says of its own pack is not enough to let go of another's;
5. bodies of points go first, then index objects, then packs that no index object lists any more, so a cut leaves
   nothing that names what is gone, and what it left goes the next time;
6. an index object goes only where another one that stays says the same of each of its packs that is needed, or
   that was not marked ``PRUNE_GRACE_S`` ago.

To remove takes no space, so a full disk is pruned as well: what was marked before goes before anything is written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from refloat.contracts import Progress, Silent, Sweepable
from refloat.errors import Damaged, RefloatError, Refused, StoreError, VaultError
from refloat.limits import PRUNE_GRACE_S
from refloat.vault import layout
from refloat.vault.check import Damage, check
from refloat.vault.keys import Role
from refloat.vault.listed import Listed, replace_index
from refloat.vault.lock import removable_from
from refloat.vault.marks import MARKS_MAX, marks, write_marks
from refloat.vault.replica import Replica
from refloat.vault.vault import Vault
from refloat.vault.witness import rolled_back, rolled_back_message

GRACE = timedelta(seconds=PRUNE_GRACE_S)


@dataclass(frozen=True)
class Locked:
    """An object that no point needs, in bytes, and until when nobody can remove it."""

    bytes: int
    until: datetime


@dataclass(frozen=True)
class PrunePlan:
    """What a prune does in one region; names of objects with their bytes, in the order in which it does it.

    ``remove`` goes now, ``mark`` is marked now, ``wait`` was marked before and may go at the time given:
    when the grace is over, and the object's lock. ``locked`` are all that nobody can remove before that lock is over.
    ``replace`` are index objects of those marked that list what stays, too, each with the packs that the one which is
    written in its place leaves out. ``beside`` are trees that nobody recovers, and why: all that they name is kept.
    """

    region: str
    remove: Mapping[str, int]
    mark: Mapping[str, int]
    wait: Mapping[str, datetime]
    locked: Mapping[str, Locked]
    replace: Mapping[str, frozenset[str]]
    slot: int
    marked: Mapping[str, datetime]
    now: datetime
    beside: Mapping[str, str] = field(default_factory=dict)

    @property
    def marked_then(self) -> dict[str, datetime]:
        """What is marked when the plan is done."""
        return {name: self.marked[name] for name in self.wait} | dict.fromkeys(self.mark, self.now)


def plan_prune(
    vault: Vault,
    now: datetime,
    progress: Progress | None = None,
    *,
    forgetting: Collection[str] = (),
    spared: Collection[str] = (),
) -> tuple[PrunePlan, ...]:
    """What no point of any region needs, region by region. Nothing is changed.

    ``forgetting`` are points that would be forgotten before; ``spared`` are needed though they are forgotten, since
    somebody reads them.
    Raises ``StoreError`` or ``VaultError`` where a region is not to be had, since what only its points need cannot
    be told; ``Refused`` (``log_rolled_back``) where a log of points is not the one that was seen; ``Damaged`` where
    anything that the points need is damaged, lacking, or listed by no index object; ``WrongKey`` without the
    admin's role.
    """
    for region, error in vault.unreachable.items():
        kind = VaultError if isinstance(error, VaultError) else StoreError
        message = f"nothing is pruned, since what {region} needs cannot be told: {error.message}"
        raise kind(message, region=region, file=error.file, retry=error.retry, next=error.next) from error
    replicas = list(vault.replicas.values())
    beside: dict[str, dict[str, str]] = {}
    for replica in replicas:
        replica.keyring.signer(Role.ADMIN)
    _require_whole_logs(replicas)
    progress = progress or Silent()
    needed: set[str] = set()
    for replica in replicas:
        report = check(
            replica,
            read_data=False,
            progress=progress,
            forgetting=forgetting,
            spared=spared,
            needed_only=True,
        )
        damaged = [one for one in report.damaged if not one.malformed]
        if damaged:
            raise _incomplete(damaged[0])
        beside[replica.region] = {one.object: one.reason for one in report.damaged}
        needed |= report.needed
        _choose(replica, report.shared, needed)
    plans = (_plan(replica, needed, now, progress) for replica in replicas)
    return tuple(replace(plan, beside=beside[plan.region]) for plan in plans)


def prune(replica: Replica, plan: PrunePlan, progress: Progress | None = None) -> int:
    """Do what the plan of this region says; the bytes of unfinished writes that were removed besides.

    It may be cut anywhere and begun anew with a new plan. Raises ``StoreError``, and ``SlotTaken`` where another
    prune marked something since the plan was made.
    """
    progress = progress or Silent()
    task = f"remove from {replica.region}"
    progress.start(task, len(plan.remove), "objects")
    for name in plan.remove:
        replica.store.delete(name)
        progress.advance(task)
    progress.finish(task)
    swept = replica.store.sweep(plan.now - GRACE) if isinstance(replica.store, Sweepable) else 0
    for name, packs in plan.replace.items():
        replace_index(replica, name, packs)
    if plan.marked_then != plan.marked:
        write_marks(replica, plan.slot, plan.marked_then)
    return swept


def _require_whole_logs(replicas: list[Replica]) -> None:
    for region, (seen, there) in rolled_back(replicas).items():
        raise Refused(
            "log_rolled_back",
            f"nothing is pruned, or what only lost entries name would go: {rolled_back_message(region, seen, there)}",
            region=region,
            next=f"refloat vault rejoin {region}",
        )

    for replica in replicas:
        if not replica.points() and layout.objects(replica.store, layout.POINTS):
            raise VaultError(
                f"nothing is pruned: the log of points in {replica.region} is empty, and bodies of points lie there",
                region=replica.region,
                next="refloat protect; if there were points before, find out what became of the log",
            )


def _incomplete(found: Damage) -> RefloatError:
    return Damaged(
        f"nothing is pruned, since what the points need cannot be told: {found.object}: {found.reason}",
        region=found.region,
        file=found.object,
        next=f"{found.next}, then prune again",
    )


def _choose(replica: Replica, shared: Mapping[bytes, frozenset[str]], needed: set[str]) -> None:
    """Add to what is ``needed`` one whole place of each chunk that lies in several; all of them where none is whole.

    What is needed anyway is preferred, then what is not marked, then what an index object lists: so the choice is
    the same the next time.
    """
    _, marked = marks(replica)
    listed = {layout.pack_name(pack.name) for pack in replica.index.packs if pack.writer}
    for name, packs in sorted(shared.items()):
        order = sorted(packs, key=lambda pack: (pack not in needed, pack in marked, pack not in listed, pack))
        whole = next((pack for pack in order if replica.opens(name, pack.rpartition("/")[2])), None)
        needed.update(packs if whole is None else [whole])


def _plan(replica: Replica, needed: set[str], now: datetime, progress: Progress) -> PrunePlan:
    slot, marked = marks(replica)
    listed = Listed.of(replica, progress)
    garbage = _garbage(replica, needed | listed.pinned(needed), listed, marked)
    aged = {name for name in garbage if name in marked and now - marked[name] >= GRACE}
    over = {name: until for name, until in removable_from(replica.store, garbage).items() if until > now}
    going = listed.going(aged - over.keys(), aged)
    remove = {name: size for name, size in garbage.items() if name in going}
    due = {name: marked[name] + GRACE for name in garbage if name in marked and name not in remove}
    wait = {name: max(at, over.get(name, at)) for name, at in due.items()}
    locked = {name: Locked(garbage[name], until) for name, until in over.items()}
    left = listed.without(going)
    unmarked = dict.fromkeys(name for name in _in_turn(garbage, left, marked.keys()) if name not in marked)
    new = set(list(unmarked)[: MARKS_MAX - len(wait)])
    mark = {name: size for name, size in garbage.items() if name in new}
    replace = left.replaced(wait.keys() | mark.keys())
    return PrunePlan(replica.region, remove, mark, wait, locked, replace, slot, marked, now)


def _garbage(replica: Replica, kept: set[str], listed: Listed, marked: Collection[str]) -> dict[str, int]:
    """What goes, in the order of going, with its bytes."""
    points, packs = (layout.objects(replica.store, prefix) for prefix in (layout.POINTS, layout.PACKS))
    index = listed.dispensable(kept, last=marked)
    return {
        **{name: size for name, size in points.items() if name not in kept},
        **{name: size for name, size in listed.sizes.items() if name in index},
        **{name: size for name, size in packs.items() if name not in kept},
    }


def _in_turn(garbage: Collection[str], listed: Listed, marked: Set[str]) -> Iterator[str]:
    """The same in the order of marking: no pack before the index objects that it waits for, which may not all fit."""
    by_pack = {name: listed.listing(name) for name in garbage if name.startswith(layout.PACKS)}
    yield from (name for name in garbage if name.startswith(layout.POINTS))
    for pack in sorted(by_pack, key=lambda pack: len(by_pack[pack] - marked)):
        yield from sorted(by_pack[pack])
        yield pack
    yield from garbage
