"""Recover a pipeline: point -> plan -> run -> verify -> evidence."""

from __future__ import annotations

import platform
import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from refloat.clock import Clock
from refloat.contracts import Progress, Silent
from refloat.digest import Json
from refloat.errors import RefloatError, StoreError, UsageError
from refloat.evidence import assemble, seal
from refloat.evidence.model import Evidence
from refloat.flows import verify
from refloat.flows.prepare import Prepared, Wanted, prepare, target
from refloat.flows.protect import protect
from refloat.manifest.resolve import Resolver
from refloat.plan.model import Action, Plan, Step
from refloat.point.evaluate import evaluate
from refloat.run import actions, engine
from refloat.run.actions.readonly import ReadOnly
from refloat.run.claim import Claim
from refloat.run.context import Context, StepAction
from refloat.run.journal import Journal
from refloat.run.state import View
from refloat.vault.keys import Role
from refloat.vault.replica import Replica
from refloat.vault.vault import Vault
from refloat.vault.witness import lost_points
from refloat.verify import judge


@dataclass(frozen=True)
class Recovered:
    """A run that ended, its evidence, and where the signed record lies in each region."""

    evidence: Evidence
    failure: Mapping[str, Json] | None
    records: Mapping[str, str | RefloatError]

    @property
    def ok(self) -> bool:
        """Whether the pipeline is back, and answers as well as before where that was asked."""
        return self.evidence.state == "done" and self.evidence.verified is not False

    def document(self) -> dict[str, Json]:
        """The JSON document of `recover`."""
        failure = {"error": dict(self.failure)} if self.failure else {}
        return {**self.evidence.document(), "evidence": self._records(), **failure}

    def _records(self) -> dict[str, Json]:
        """Where the signed record lies in each region, or why it does not."""
        return {
            region: {"record": None, "error": record.message}
            if isinstance(record, RefloatError)
            else {"record": record, "error": None}
            for region, record in self.records.items()
        }


def journal_of(replica: Replica, run: str, clock: Clock) -> Journal:
    """The journal of a run, in the target's replica."""
    return Journal(replica.log(f"runs/{run}", Role.OPERATOR), clock)


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
) -> Recovered:
    """Execute the prepared plan, or what is left of it when ``run`` names one that was begun.

    ``vault`` holds every replica that still answers: the new point and the evidence go there. The claim
    and the journal are in the target's own. Raises what ``engine.execute`` raises; a run that ended in any
    state, also rolled back, is returned with its evidence.
    """
    plan, replica = prepared.plan, prepared.replica
    name = run or secrets.token_hex(6)
    journal = journal_of(replica, name, clock)
    claim = Claim.win(
        replica.log(f"targets/{plan.to}", Role.OPERATOR),
        run=name,
        view_of=lambda other: journal_of(replica, other, clock).view,
        clock=clock,
        overrides=overrides,
    )
    with tempfile.TemporaryDirectory(prefix="refloat-") as scratch:
        more: dict[Action, StepAction] = {
            Action.VERIFY: Verify(prepared, clock, progress or Silent()),
            Action.PROTECT: Protect(prepared, vault, clock, progress or Silent()),
        }
        view = engine.execute(
            plan,
            journal,
            claim,
            actions.standard(target(prepared, Path(scratch)), evaluate, more),
            clock=clock,
            progress=progress,
            on_event=on_event,
            overrides=overrides,
            declared_at=declared_at,
            version=version("refloat"),
        )
    evidence = assemble.evidence(
        view,
        prepared.point,
        prepared.manifest,
        finished_at=view.seen_at or clock.now(),
        lost_points=lost_points(list(vault.replicas.values())),
        versions={"refloat": version("refloat"), "python": platform.python_version()},
        vault=replica.keyring.vault,
    )
    sealed = seal.seal(evidence, list(vault.replicas.values()))
    return Recovered(evidence, view.failure if evidence.state != "done" else None, sealed)


def plan_of(replica: Replica, run: str, clock: Clock) -> tuple[Plan, View]:
    """The plan of a run that was begun, from its journal. Raises ``UsageError`` for one that was not."""
    view = journal_of(replica, run, clock).view
    if view.plan is None:
        raise UsageError(f"no run {run!r} was begun in this region", next="refloat run list --to REGION")
    return view.plan, view


def prepare_again(replica: Replica, run: str, resolver: Callable[[], Resolver], clock: Clock) -> Prepared:
    """What was prepared for a run that was begun, whatever points have been made since.

    Choosing the point is over, so no rule about that is asked again; the run's own checks are.
    """
    plan, view = plan_of(replica, run, clock)
    wanted = Wanted(plan.to, point=plan.point, only=plan.only, overrides=view.overrides | {"group_broken"})
    return replace(prepare(replica, wanted, resolver), plan=plan)


def runs_of(replica: Replica, region: str) -> list[str]:
    """The runs that ever claimed a region, oldest first."""
    claims = replica.log(f"targets/{region}", Role.OPERATOR).entries()
    return list(dict.fromkeys(str(entry.body["run"]) for entry in claims))


@dataclass(frozen=True)
class Verify(ReadOnly):
    """Measures a recovered component under load and holds it against the matching baseline."""

    prepared: Prepared
    clock: Clock
    progress: Progress = field(default_factory=Silent)

    def do(self, step: Step, context: Context) -> Mapping[str, Json]:
        """Raises ``Refused`` (rule ``quality_unverified``) unless every bound is known to be kept."""
        prepared, name = self.prepared, step.subject
        region = prepared.plan.to
        baseline = verify.best_baseline(
            [prepared.replica], prepared.point.identity_digest, prepared.point.profile, region
        )
        measured = verify.measure_component(
            prepared.components,
            name,
            prepared.files[verify.carried_as(name)],
            region,
            self.clock,
            baseline=baseline.components.get(name) if baseline else None,
            progress=self.progress,
        )
        checks = verify.judge_component(prepared.components, name, baseline, measured)
        found: dict[str, Json] = {
            "checks": [check.model_dump(mode="json") for check in checks],
            "measurement": measured.model_dump(mode="json"),
            "baseline_region": baseline.region if baseline else None,
        }
        context.remember({assemble.VERIFIED: found})
        if judge.verified(checks) is True:
            return {"verified": True}
        failed = [
            f"{check.name} {check.reason or check.verdict}" for check in checks if check.verdict != "pass"
        ]
        return context.refuse(
            "quality_unverified",
            f"{name} is not known to answer as well as before: {'; '.join(failed)}",
            component=name,
            next="see the checks in the evidence",
        )


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
