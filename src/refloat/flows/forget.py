"""Forget: the points that `keep` has no use for are let go of, on record, and a prune may remove their data.

Everything that is decided by is read first, then the decision is made (``point.retain``), and only then a region is
told, one after the other. A region that does not answer keeps what it has until it is told another time; since no
region prunes what another needs, nothing is lost by that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import product

from refloat.clock import Clock
from refloat.contracts import Progress
from refloat.errors import Damaged, Malformed, Missing, RefloatError, Refused, UsageError, VaultError
from refloat.evidence.seal import Unread, each_record
from refloat.flows import points, request
from refloat.flows.anew import graded_now
from refloat.flows.recover import DRILLS, RUNS, unfinished
from refloat.flows.suspects import Listings, accepted, overridden, part_of
from refloat.manifest.model import Keep, Manifest
from refloat.point.model import Grade, Point
from refloat.point.retain import (
    RULES,
    Decided,
    Listed,
    Objection,
    Seen,
    decide,
    decide_named,
    named_objections,
    objections,
)
from refloat.point.select import Candidate, called
from refloat.point.suspicion import Part, Suspects, judge
from refloat.vault.forgotten import Forgotten, forgotten, write_forgotten
from refloat.vault.keys import Role
from refloat.vault.prune import plan_prune
from refloat.vault.replica import GETS_AT_ONCE, CommittedPoint, Replica
from refloat.vault.vault import Vault
from refloat.vault.witness import rolled_back, rolled_back_message

NAMED = "a person named it"


@dataclass(frozen=True)
class Entry:
    """What a region that has a point is told, and in which slot; ``seen`` is the last slot of its log of points."""

    points: Mapping[str, str]
    slot: int
    seen: int


@dataclass(frozen=True)
class Freed:
    """What a prune would mark in a region once the points are forgotten."""

    objects: int
    bytes: int


@dataclass(frozen=True)
class ForgetPlan:
    """What is kept and forgotten, what speaks against it, and what each region is told.

    ``frees`` is empty where it cannot be told, and ``unknown`` says why then. ``why`` is what is put on
    record of the points that go.
    """

    keep: Keep
    decided: tuple[Decided, ...]
    objections: tuple[Objection, ...]
    overrides: frozenset[str]
    entries: Mapping[str, Entry]
    frees: Mapping[str, Freed] = field(default_factory=dict)
    unknown: str | None = None
    why: str = ""

    @property
    def goes(self) -> frozenset[str]:
        """The points that are forgotten."""
        return frozenset(one.point.name for one in self.decided if not one.kept)


def plan_forget(
    manifest: Manifest,
    vault: Vault,
    clock: Clock,
    *,
    overrides: Collection[str] = (),
    progress: Progress | None = None,
    named: str | None = None,
) -> ForgetPlan:
    """Decide of every point, or only of the one whose name begins with ``named``. Nothing is changed.

    Raises ``WrongKey`` without the admin's role; ``Refused`` (``log_rolled_back``) where a log of points is not the
    one that was seen; ``UsageError`` for an override of no rule of ``point.retain``; the error of a region whose logs
    cannot be read to their end. With ``named`` also ``UsageError`` where no point is called so, or several;
    ``Refused`` (``point_kept``) where a run or a hold keeps it, or it cannot be read and a region does not answer; the
    error of a point that another version or another key can read.
    """
    rules = known_rules(overrides)
    replicas = list(vault.replicas.values())
    for replica in replicas:
        replica.keyring.signer(Role.ADMIN)
    _require_whole(replicas)
    logs = {replica.region: (replica.points(), forgotten(replica)) for replica in replicas}
    seen = _seen(vault, logs, clock)
    holds = {n: component.hold for n, component in manifest.components.items() if component.hold is not None}
    if named is None:
        decided = decide(seen, manifest.keep, holds)
        against = objections(seen, decided)
    else:
        one = _named(seen, named, holds, vault)
        decided, against = (one,), named_objections(seen, one)
    why = f"beyond {spoken(manifest.keep)}" if named is None else NAMED
    entries = {
        region: _entry(region, decided, logs[region], why, seen) for region, (log, _) in logs.items() if log
    }
    plan = ForgetPlan(manifest.keep, decided, against, rules, entries, why=why)
    return _with_freed(plan, vault, clock, progress) if plan.goes else plan


def _named(seen: Seen, start: str, holds: Mapping[str, float], vault: Vault) -> Decided:
    found = called([point.name for point in reversed(seen.points)], start)
    if len(found) != 1:
        problem = "more than one point begins with" if found else "no point that is not forgotten begins with"
        raise UsageError(f"{problem} {start!r}", next="refloat points list")
    decided = decide_named(seen, found[0], holds)
    for replica in vault.replicas.values() if found[0] not in seen.parts else ():
        with suppress(
            Missing, Damaged
        ):  # nobody recovers it; what another version or key can read somebody may
            points.read(replica, found[0])
    if found[0] not in seen.parts and found[0] not in seen.malformed and vault.unreachable:
        away = ", ".join(vault.unreachable)
        decided = replace(
            decided, reasons=(*decided.reasons, f"cannot be read here, and may be whole in {away}")
        )
    if decided.kept:
        raise Refused(
            "point_kept",
            f"point {found[0]} is not forgotten: {', '.join(decided.reasons)}",
            next="forget it when that is over: refloat points list",
        )
    return decided


def forget(vault: Vault, plan: ForgetPlan) -> None:
    """Tell each region what it forgets. It may be cut anywhere and begun anew with a new plan.

    Raises ``Refused`` for the first rule that says no and is not overridden, before anything is written;
    ``StoreError``, and ``SlotTaken`` where another forgets since the plan was made.
    """
    for objection in plan.objections:
        if objection.rule not in plan.overrides:
            raise Refused(
                objection.rule,
                f"nothing is forgotten: {objection.message}",
                next=f"{objection.next}; or name the rule: --override {objection.rule}",
            )
    if not plan.goes:
        return
    overridden = plan.overrides & {objection.rule for objection in plan.objections}
    for region, entry in plan.entries.items():
        if entry.points or overridden:
            try:
                write_forgotten(
                    vault.replicas[region], entry.slot, entry.points, seen=entry.seen, overrides=overridden
                )
            except RefloatError as error:
                raise error.at(region=region) from error.__cause__


def spared(vault: Vault, clock: Clock) -> frozenset[str]:
    """The points that a prune spares though they are forgotten: a run that is not over names them.

    All that are forgotten, where a run's journal cannot be read.
    """
    names, unreadable = _in_use(vault.replicas.values(), clock)
    if not unreadable:
        return names
    with suppress(VaultError):
        for replica in vault.replicas.values():
            names |= forgotten(replica).points.keys()
    return names


def known_rules(names: Iterable[str]) -> frozenset[str]:
    """The safety rules to override. Raises ``UsageError`` for one that does not exist here."""
    return request.known_rules(names, RULES, noun="safety rule of forgetting")


# ------------------------------------------------------------------------------------------------ what is seen


def _require_whole(replicas: Sequence[Replica]) -> None:
    for region, (seen, there) in rolled_back(replicas).items():
        raise Refused(
            "log_rolled_back",
            f"nothing is forgotten: {rolled_back_message(region, seen, there)}",
            region=region,
            next=f"refloat vault rejoin {region}",
        )


def _seen(vault: Vault, logs: Mapping[str, tuple[Sequence[CommittedPoint], Forgotten]], clock: Clock) -> Seen:
    replicas = list(vault.replicas.values())
    listed = {
        region: tuple(_listed(point) for point in log if point.name not in told.points)
        for region, (log, told) in logs.items()
    }
    malformed: set[str] = set()
    bodies = {replica.region: _bodies(replica, listed[replica.region], malformed) for replica in replicas}
    parts = {name: held for found in bodies.values() for name, held in found.items() if held is not None}
    missing = {name for found in bodies.values() for name, held in found.items() if held is None}
    let_go = {name for _, told in logs.values() for name in told.points}
    in_use, unreadable = _in_use(replicas, clock)
    verified, maybe_verified = _verified(replicas)
    known = {point.name: point for points in listed.values() for point in points if point.name in parts}
    oldest_first = sorted(known.values(), key=lambda point: (point.created_at, point.name))
    suspects = judge(
        [(p.name, parts[p.name]) for p in oldest_first], accepted(logs.values()), Listings(replicas)
    )
    return Seen(
        now=clock.now(),
        regions={
            replica.region: _graded(replica, _demoted(listed[replica.region], malformed), suspects)
            for replica in replicas
        },
        parts=parts,
        verified=verified,
        maybe_verified=maybe_verified,
        in_use=in_use,
        gone=frozenset() if vault.unreachable else frozenset((missing & let_go) - parts.keys()),
        accepted=overridden(logs.values()),
        suspects=suspects,
        unreadable_runs=unreadable,
        malformed=frozenset(malformed),
    )


def _listed(point: CommittedPoint) -> Listed:
    return Listed(point.name, point.slot, point.created_at, points.candidate(point).grade)


def _demoted(listed: Sequence[Listed], malformed: Collection[str]) -> list[Listed]:
    """The same; what is signed and no point is broken, whatever the log says."""
    return [replace(one, grade=Grade.BROKEN) if one.name in malformed else one for one in listed]


def _graded(replica: Replica, listed: Sequence[Listed], suspects: Suspects) -> tuple[Listed, ...]:
    """The same, as a recovery from this region would find them that takes the newest good one."""

    def read(name: str) -> Point | None:
        with suppress(VaultError):
            return points.read(replica, name)
        return None

    candidates = [
        Candidate(point.name, point.created_at, point.grade, suspect=suspects.get(point.name, {}))
        for point in listed
    ]
    graded = graded_now(candidates, read)
    return tuple(replace(point, grade=now.grade) for point, now in zip(listed, graded, strict=True))


def _bodies(
    replica: Replica, listed: Sequence[Listed], malformed: set[str]
) -> dict[str, dict[str, Part] | None]:
    """What each point holds; None where its body is not there. One that is damaged is left out.

    So is one that is malformed, whose name is added to ``malformed``.
    """

    def read(point: Listed) -> tuple[str, dict[str, Part] | None] | None:
        try:
            components = points.read(replica, point.name).components
        except Missing:
            return point.name, None
        except Malformed:
            malformed.add(point.name)
            return None
        except VaultError:
            return None
        return point.name, {name: part_of(held) for name, held in components.items()}

    with ThreadPoolExecutor(GETS_AT_ONCE, thread_name_prefix="points") as pool:
        return dict(found for found in pool.map(read, listed) if found is not None)


def _verified(replicas: Sequence[Replica]) -> tuple[frozenset[str], frozenset[str]]:
    """The points of which a recovery was verified, as far as a log can be read; and those of which it may have been.

    The latter are named by a record that this version cannot read.
    """
    names: set[str] = set()
    unknown: set[str] = set()
    for replica in replicas:
        with suppress(VaultError):
            for record in each_record(replica):
                if isinstance(record, Unread):
                    unknown.add(record.point)
                elif record.verified and record.kind == "recovery":
                    names.add(record.point)
    return frozenset(names), frozenset(unknown)


def _in_use(replicas: Iterable[Replica], clock: Clock) -> tuple[frozenset[str], tuple[str, ...]]:
    """The points that runs which are not over name, and the runs of which that cannot be told."""
    runs = {
        run: plan
        for replica, kind in product(replicas, (RUNS, DRILLS))
        for run, plan in unfinished(replica, clock, kind)
    }
    unreadable = tuple(sorted(run for run, plan in runs.items() if plan is None))
    return frozenset(plan.point for plan in runs.values() if plan is not None), unreadable


# ------------------------------------------------------------------------------------------- what a region is told


def _entry(
    region: str,
    decided: Sequence[Decided],
    logs: tuple[Sequence[CommittedPoint], Forgotten],
    why: str,
    seen: Seen,
) -> Entry:
    log, told = logs
    goes = {
        one.point.name: "its data is gone" if one.point.name in seen.gone else why
        for one in decided
        if not one.kept and region in one.regions
    }
    return Entry(goes, told.next_slot, log[-1].slot)


def spoken(keep: Keep) -> str:
    """The policy in words: `last 24, daily 7`."""
    return ", ".join(f"{name} {count}" for name, count in keep.model_dump().items() if count)


def _with_freed(plan: ForgetPlan, vault: Vault, clock: Clock, progress: Progress | None) -> ForgetPlan:
    """The plan with what a prune would mark after it; or why that cannot be told."""
    try:
        now = clock.now()
        plans = plan_prune(vault, now, progress, forgetting=plan.goes, spared=spared(vault, clock))
    except RefloatError as error:
        return replace(plan, unknown=error.message)
    frees = {one.region: Freed(len(one.mark), sum(one.mark.values())) for one in plans}
    return replace(plan, frees=frees)
