"""Recover a pipeline: point -> plan -> run -> verify -> evidence."""

from __future__ import annotations

import platform
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from refloat.clock import Clock
from refloat.contracts import Progress, Silent
from refloat.digest import Json, json_form
from refloat.durable import scratch_folder
from refloat.errors import Interrupted, RefloatError, StoreError, UsageError, VaultError, Waiting
from refloat.evidence import assemble, seal
from refloat.evidence.model import Evidence
from refloat.flows import baselines, verify
from refloat.flows.prepare import Prepared, Wanted, prepare, target, with_what_stays
from refloat.flows.protect import protect
from refloat.manifest.resolve import Resolver, redact
from refloat.plan.model import Action, Phase, Plan, Step
from refloat.point.evaluate import evaluate
from refloat.point.select import POINT_SUSPECT, called
from refloat.registry import refloat_version
from refloat.run import actions, engine
from refloat.run.actions.readonly import ReadOnly
from refloat.run.claim import Claim, journal_gone, standing
from refloat.run.context import Context, StepAction
from refloat.run.journal import Journal
from refloat.run.state import View
from refloat.vault.keys import Role
from refloat.vault.layout import stream_prefix
from refloat.vault.replica import Replica
from refloat.vault.vault import Vault
from refloat.vault.witness import lost_points
from refloat.verification import judge
from refloat.verification.golden import read_golden
from refloat.verification.model import Check
from refloat.verification.reference import Reference

OnUnknown = Callable[[Sequence[Check]], None]
"""Is told all checks of a component of which nobody can tell whether it answers as before."""


RUNS, DRILLS = "runs", "drills"
"""The kinds of journals: of recoveries, and of trials in a sandbox."""

SANDBOX = "sandbox-"
"""How a sandbox's name as a target begins; no region is called so."""


@dataclass(frozen=True)
class Recovered:
    """A run that ended, its evidence, and where the signed record lies in each region."""

    evidence: Evidence
    failure: Mapping[str, Json] | None
    records: Mapping[str, str | RefloatError]
    remarks: tuple[str, ...] = ()
    """What is wrong with regions, what was read elsewhere for that, what was not verified or set: for people."""

    @property
    def ok(self) -> bool:
        """Whether the pipeline is back and, where that was asked, known to answer as well as before.

        What the manifest verifies and is not known is not ``ok``, also where a person overrode the rule.
        """
        asked = any(step.phase == Phase.VERIFY for step in self.evidence.steps)
        return self.evidence.state == "done" and (self.evidence.verified is True or not asked)

    def document(self) -> dict[str, Json]:
        """The JSON document of `recover`."""
        failure = {"error": dict(self.failure)} if self.failure else {}
        remarks = list(self.remarks)
        return {**self.evidence.document(), "remarks": remarks, "evidence": self._records(), **failure}

    def _records(self) -> dict[str, Json]:
        """Where the signed record lies in each region, or why it does not."""
        return {
            region: {"record": None, "error": record.message}
            if isinstance(record, RefloatError)
            else {"record": record, "error": None}
            for region, record in self.records.items()
        }


def journal_of(
    replica: Replica, run: str, clock: Clock, hide: Callable[[str], str] = str, kind: str = RUNS
) -> Journal:
    """The journal of a run, in the target's replica; ``hide`` takes secrets out of what is written there.

    Those of drills are of another ``kind``, so that none is taken for a recovery.
    """
    return Journal(replica.log(f"{kind}/{run}", Role.OPERATOR), clock, hide)


def recover(
    prepared: Prepared,
    vault: Vault,
    clock: Clock,
    *,
    run: str | None = None,
    overrides: frozenset[str] = frozenset(),
    declared_at: datetime | None = None,
    progress: Progress | None = None,
    on_event: engine.OnEvent | None = None,
    turn_back: str = "",
    on_unknown: OnUnknown = lambda checks: None,
) -> Recovered:
    """Execute the prepared plan, or what is left of it when ``run`` names one that was begun.

    ``vault`` holds every replica that still answers: the new point and the evidence go there. The claim
    and the journal are in the target's own. With ``turn_back``, which says why, a run that was begun is put back
    instead. ``on_unknown`` is told the checks for which it waits. Raises what ``engine.execute`` raises; a run
    that ended in any state, also rolled back, is returned with its evidence.
    """
    plan, replica = prepared.plan, prepared.replica
    prepared.reader.reading_also(vault.replicas.values())
    name = run or secrets.token_hex(6)
    late = prepared.components.resolver
    journal = journal_of(replica, name, clock, lambda text: redact(text, late.secrets))
    claim = Claim.win(
        replica.log(f"targets/{plan.to}", Role.OPERATOR),
        run=name,
        view_of=lambda other: journal_of(replica, other, clock).view,
        journaled=lambda: _streams(replica, RUNS),
        clock=clock,
        overrides=overrides,
        progress=progress,
    )
    with resumable(plan.to, name, lambda: journal_of(replica, name, clock).view.plan is not None):
        with scratch_folder() as scratch:
            more: dict[Action, StepAction] = {
                Action.VERIFY: Verify(
                    prepared, tuple(vault.replicas.values()), clock, progress or Silent(), on_unknown
                ),
                Action.PROTECT: Protect(prepared, vault, clock, progress or Silent()),
            }
            view = engine.execute(
                plan,
                journal,
                claim,
                actions.standard(target(prepared, scratch), evaluate, more),
                clock=clock,
                progress=progress,
                on_event=on_event,
                overrides=overrides,
                declared_at=declared_at,
                version=refloat_version(),
                turn_back=turn_back,
            )
        return _told(prepared, vault, view, clock)


def _told(prepared: Prepared, vault: Vault, view: View, clock: Clock) -> Recovered:
    """The evidence of a run that ended, sealed in every region that answers."""
    evidence = assemble.evidence(
        view,
        prepared.point,
        prepared.manifest,
        finished_at=view.seen_at or clock.now(),
        lost_points=lost_points(list(vault.replicas.values()), prepared.point.created_at),
        versions={"refloat": refloat_version(), "python": platform.python_version()},
        vault=prepared.replica.keyring.vault,
    )
    sealed = seal.seal(evidence, list(vault.replicas.values()))
    failure = view.failure if evidence.state != "done" else None
    doubts = (baselines.unverified(prepared.doubts),) if prepared.doubts else ()
    met = (*prepared.reader.remarks(), *prepared.withheld.remarks())
    return Recovered(evidence, failure, sealed, (*prepared.remarks, *doubts, *met))


@contextmanager
def resumable(to: str, run: str, begun: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Whoever stops in here goes on with ``--resume``, also where only the telling is left; not with another run.

    Whether it was ``begun`` is read anew: what was being written may be there, and nobody here was told.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        if not begun():
            raise
        raise Interrupted(
            f"run {run} was interrupted", next=f"refloat recover --to {to} --resume {run}"
        ) from error


def plan_of(replica: Replica, run: str, clock: Clock) -> tuple[Plan, View]:
    """The plan of a run that was begun, from its journal. Raises ``UsageError`` for one that was not."""
    view = journal_of(replica, run, clock).view
    if view.plan is None and _was_begun(replica, run):
        raise journal_gone(run)
    if view.plan is None:
        raise UsageError(f"no run {run!r} was begun in this region", next="refloat run list --to REGION")
    return view.plan, view


def prepare_again(
    replica: Replica,
    run: str,
    resolver: Callable[[], Resolver],
    clock: Clock,
    others: Sequence[Replica] = (),
) -> Prepared:
    """What was prepared for a run that was begun, whatever points have been made since.

    Choosing the point is over, so no rule about that is asked again; the run's own checks are.
    """
    plan, view = plan_of(replica, run, clock)
    wanted = Wanted(
        plan.to, point=plan.point, only=plan.only, overrides=view.overrides | {"group_broken", POINT_SUSPECT}
    )
    return replace(prepare(replica, wanted, resolver, others), plan=plan)


def runs_of(replica: Replica, region: str) -> list[str]:
    """The runs that ever claimed a region, oldest first.

    Where a claim cannot be read, every journal that is there may be that of the run which it named.
    """
    found = standing(replica.log(f"targets/{region}", Role.OPERATOR))
    journaled = [] if found.damage is None else _streams(replica, RUNS)
    return list(dict.fromkeys((*found.runs, *journaled)))


def run_named(replica: Replica, region: str, start: str) -> str:
    """The one run into a region whose name begins so, or ``latest``. Raises ``UsageError`` where it is none or several.

    A whole name is taken as it is: what became of its journal is for others to say.
    """
    runs = runs_of(replica, region)
    found = called(runs, start)
    if len(found) == 1 or start in (*found, *_streams(replica, RUNS)):
        return found[0] if len(found) == 1 else start
    problem = (
        f"more than one run begins with {start!r}" if found else f"no run {start!r} was begun in this region"
    )
    raise UsageError(problem, next=f"refloat run list --to {region}")


def unfinished(replica: Replica, clock: Clock, kind: str = RUNS) -> Iterator[tuple[str, Plan | None]]:
    """The runs whose journals are not at their end, each with its plan; None where the journal is damaged."""
    for run in _streams(replica, kind):
        try:
            head = replica.log(f"{kind}/{run}", Role.OPERATOR).head()
            record = None if head is None else head.body.get("record")
            if not (isinstance(record, Mapping) and record.get("type") == "finished"):
                view = journal_of(replica, run, clock, kind=kind).view
                if view.plan is not None and not view.ended:
                    yield run, view.plan
        except VaultError:
            yield run, None


def _was_begun(replica: Replica, run: str) -> bool:
    """Whether a claim on any target says that the journal of a run was begun."""
    regions = (target for target in _streams(replica, "targets") if not target.startswith(SANDBOX))
    claims = (replica.log(f"targets/{region}", Role.OPERATOR) for region in regions)
    return any(run in standing(log).begun for log in claims)


def _streams(replica: Replica, kind: str) -> list[str]:
    """What the streams of a kind are called, as far as a listing tells."""
    prefix = stream_prefix(kind)
    names = (entry.name.removeprefix(prefix) for entry in replica.store.list(prefix))
    return sorted({name.rpartition("/")[0] for name in names})


@dataclass(frozen=True)
class Verify(ReadOnly):
    """Measures a component under load and holds it against the baseline that ``replicas`` keep for it."""

    prepared: Prepared
    replicas: Sequence[Replica]
    clock: Clock
    progress: Progress = field(default_factory=Silent)
    on_unknown: OnUnknown = lambda checks: None

    def do(self, step: Step, context: Context) -> Mapping[str, Json]:
        """Raises ``Refused`` (rule ``quality_unverified``) for a broken bound, ``Waiting`` for an unknown one."""
        prepared, name = self.prepared, step.subject
        manifest, region = prepared.manifest, prepared.plan.to
        reference = self._reference(name)
        measured = verify.measure_component(
            prepared.components,
            name,
            prepared.files[baselines.carried_as(name)],
            region,
            self.clock,
            reference=reference,
            until_decided=True,
            progress=self.progress,
        )
        checks = judge.judge(name, reference, measured, manifest.verify[name].bounds)
        found: dict[str, Json] = {
            "checks": [json_form(check) for check in checks],
            "measurement": json_form(measured),
            "baseline_region": reference.baseline.region if reference else None,
        }
        context.remember({assemble.VERIFIED: found})
        return {"verified": True} if judge.verified(checks) else self._otherwise(name, checks, context)

    def _reference(self, name: str) -> Reference | None:
        """The baseline of what it answers by now; none where what stays beside it cannot be looked at."""
        prepared = self.prepared
        try:
            point = with_what_stays(prepared, name)
        except RefloatError as error:
            self.progress.say(
                f"what {name} depends on cannot be looked at, so no baseline counts: {error.message}"
            )
            return None
        kept = baselines.kept(self.replicas)
        questions = len(read_golden(prepared.files[baselines.carried_as(name)]))
        return baselines.reference_for(kept, point, prepared.manifest, name, questions, prepared.plan.to)

    def _otherwise(self, name: str, checks: Sequence[Check], context: Context) -> Mapping[str, Json]:
        """What is worse is put back; what is not known is for a person to decide, and stays as it is until then."""
        rule, to = "quality_unverified", self.prepared.plan.to
        told = [
            f"{check.name} {check.reason or check.verdict}" for check in checks if check.verdict != "pass"
        ]
        verified = judge.verified(checks)
        answers = "does not answer" if verified is False else "is not known to answer"
        message = f"{name} {answers} as well as before: {'; '.join(told)}"
        if verified is None and rule not in context.overrides:
            self.on_unknown(checks)
            go_on = f"refloat recover --to {to} --resume {context.run}"
            raise Waiting(
                f"{message}; what was recovered stays as it is until a person decides",
                component=name,
                next=f"to take it into service: {go_on} --override {rule}; to put all back: "
                f"refloat run abort {context.run} --to {to}; once there is a baseline: {go_on}",
            )
        return context.refuse(rule, message, component=name, next="see the checks in the evidence")


@dataclass(frozen=True)
class Protect(ReadOnly):
    """Makes the first recovery point of the recovered pipeline, so that it is not without one."""

    prepared: Prepared
    vault: Vault
    clock: Clock
    progress: Progress = field(default_factory=Silent)

    def do(self, step: Step, context: Context) -> Mapping[str, Json]:
        """Raises ``StoreError`` where fewer regions than the manifest asks for hold the new point."""
        made = protect(
            self.prepared.components,
            self.prepared.files,
            self.vault,
            self.clock,
            region=self.prepared.plan.to,
            progress=self.progress,
        )
        if made.copies < self.prepared.manifest.copies_required:
            raise StoreError(
                f"the point {made.name[:12]} is in {made.copies} of the "
                f"{self.prepared.manifest.copies_required} regions that the manifest asks for",
                next="bring a second region's vault back, then refloat protect",
            )
        return {"point": made.name, "grade": str(made.point.grade), "copies": made.copies}
