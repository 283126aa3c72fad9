"""One trial: a point is recovered into a sandbox, asked, and put back; nothing that lives is touched."""

from __future__ import annotations

import platform
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from refloat.clock import Clock
from refloat.contracts import Progress, Silent
from refloat.digest import Json, json_form
from refloat.durable import scratch_folder
from refloat.errors import (
    ConnectorError,
    HoldLost,
    Interrupted,
    RefloatError,
    Refused,
    Retry,
    VaultError,
    Waiting,
)
from refloat.evidence import assemble, seal
from refloat.evidence.model import Evidence
from refloat.flows import points, verify
from refloat.flows.baselines import carried_as
from refloat.flows.components import Components
from refloat.flows.places import alive, held, other_sandboxes, require_apart
from refloat.flows.prepare import Prepared, Wanted, prepare, target, tried_with
from refloat.flows.recover import DRILLS, SANDBOX, journal_of
from refloat.manifest.model import Manifest, Verification
from refloat.manifest.parse import parse
from refloat.manifest.resolve import redact
from refloat.manifest.sandbox import in_sandbox
from refloat.plan.model import Action, Step
from refloat.plan.scenario import DRILL
from refloat.point.evaluate import evaluate
from refloat.point.select import GROUP_BROKEN, POINT_SUSPECT
from refloat.registry import refloat_version
from refloat.run import actions, engine
from refloat.run.actions.readonly import ReadOnly
from refloat.run.claim import DAMAGED, Claim, standing
from refloat.run.context import Context, StepAction
from refloat.run.journal import Journal
from refloat.run.state import View
from refloat.units import format_time
from refloat.vault.keys import Role
from refloat.vault.replica import Replica
from refloat.vault.slotlog import SlotLog
from refloat.vault.vault import Vault
from refloat.verification import judge
from refloat.verification.metrics import ERRORS
from refloat.verification.model import Check
from refloat.verification.reference import Reference


@dataclass(frozen=True)
class Trial:
    """What came of one trial. ``verdict`` is None where it told nothing, which ``reason`` explains.

    ``components`` has a verdict for each component that was to be asked; ``run`` is empty where none was begun.
    """

    point: str
    created_at: datetime
    verdict: bool | None
    components: Mapping[str, bool | None]
    run: str = ""
    checks: tuple[Check, ...] = ()
    reason: str = ""

    def document(self) -> dict[str, Json]:
        """The trial as JSON."""
        return {
            "point": self.point,
            "created_at": format_time(self.created_at),
            "verdict": SPOKEN[self.verdict],
            "components": {name: SPOKEN[verdict] for name, verdict in self.components.items()},
            "run": self.run or None,
            "checks": [json_form(check) for check in self.checks],
            "reason": self.reason,
        }


SPOKEN: Mapping[bool | None, str] = {True: "pass", False: "fail", None: "unknown"}


@dataclass(frozen=True)
class Sandbox:
    """A sandbox of today's manifest, and what every point that is tried in it is asked.

    ``today`` is that manifest as it is. ``asked`` are the bounds that count, by component, ``golden`` the questions, by
    the path under which a point carries them, and ``references`` what the answers are held against, where anything is.
    Where ``only`` names components, these are brought with what their answers depend on, else everything is.
    ``replica`` is read, and keeps the claim and the journals.
    """

    name: str
    today: Components
    asked: Mapping[str, Verification]
    golden: Mapping[str, bytes]
    vault: Vault
    replica: Replica
    clock: Clock
    only: tuple[str, ...] = ()
    references: Mapping[str, Reference] = field(default_factory=dict)
    progress: Progress = field(default_factory=Silent)

    def require_apart(self, carried: Manifest | None = None) -> None:
        """Raises ``Refused`` (rule ``sandbox_shared``) where it shares a place with what lives or another sandbox.

        What lives is what the regions use by today's manifest and, where a point is tried, by the one it carries.
        """
        manifest, resolver = self.today.manifest, self.today.resolver
        there = Components(in_sandbox(carried or manifest, manifest, self.name, self.asked), resolver)
        others = [*alive(self.today), *other_sandboxes(self.today, self.name)]
        if carried is not None:
            others += alive(Components(carried, resolver))
        names = tried_with(there.manifest, self.only) or there.names
        require_apart(held(there, self.name, names), others, self.name)

    def clear(self) -> None:
        """Put back what a trial has left that ended without doing so. Raises as ``run``, where somebody is at it."""
        last = standing(self._claims()).last
        if last is None or last.released:
            return
        try:
            view = self._journal(last.run).view
        except VaultError as error:  # what is left there keeps the next trial away
            self.progress.say(f"what trial {last.run} did cannot be told: {error.message}")
            return
        if view.plan is not None and not view.ended:
            self.progress.say(f"a trial was cut short: what it left in {self.name} is put back first")
            wanted = self._wanted(view.plan.point, overrides=frozenset({GROUP_BROKEN, POINT_SUSPECT}))
            prepared = replace(self._prepared(wanted), plan=view.plan)
            self._ended(prepared, self._execute(prepared, last.run, "it was cut short"))

    def run(self, point: str, created_at: datetime) -> Trial:
        """Recover a point into the sandbox, ask it, and put everything back; the record is kept as that of a drill.

        Raises ``Interrupted`` once all is put back, ``Waiting`` where something is not, ``HoldLost`` and ``Refused``
        (rule ``target_claimed``) where another trial has the sandbox, and ``StoreError`` or ``VaultError`` where the
        journal cannot be written. Whatever else keeps a point from being tried is a trial
        without a verdict.
        """
        untold = Trial(point, created_at, None, dict.fromkeys(self.asked))
        try:
            prepared = self._prepared(self._wanted(point))
        except Interrupted:
            raise
        except RefloatError as error:
            return replace(untold, reason=error.message)
        run = secrets.token_hex(6)
        try:
            view = self._execute(prepared, run)
        except (Interrupted, KeyboardInterrupt) as error:
            self._turn_back(prepared, run)
            told = f"the search was interrupted; what was in the sandbox {self.name} is put back"
            raise Interrupted(told, next=self._again) from error
        evidence = self._ended(prepared, view)
        untold = replace(untold, run=run, checks=evidence.checks)
        if (failure := view.failure) is not None:
            where = f"{failure['component']}: " if failure.get("component") else ""
            return replace(untold, reason=f"{where}{failure['message']}")
        components = {name: _verdict(name, evidence.checks) for name in self.asked}
        verdict = _of_all(components.values())
        return replace(
            untold, verdict=verdict, components=components, reason=_why(components, evidence.checks)
        )

    def _wanted(self, point: str, overrides: frozenset[str] = frozenset()) -> Wanted:
        return Wanted(self.name, point, only=self.only, overrides=overrides, scenario=DRILL)

    def _prepared(self, wanted: Wanted) -> Prepared:
        """A trial that is ready to run. Raises as ``prepare``, and ``ManifestError`` where a place cannot be told."""

        def put(carried: Manifest, files: dict[str, bytes]) -> tuple[Manifest, dict[str, bytes]]:
            return in_sandbox(carried, self.today.manifest, self.name, self.asked), {**files, **self.golden}

        prepared = prepare(self.replica, wanted, lambda: self.today.resolver, put=put)
        target(prepared, Path())  # each place can be told, before anything is claimed
        return prepared

    def _execute(self, prepared: Prepared, run: str, turn_back: str = "") -> View:
        """The run at its end. Nothing is staged before it is known to lie apart."""
        carried = parse(prepared.files[points.MANIFEST], file=points.MANIFEST)
        with self._of_the_sandbox():
            claim = Claim.win(
                self._claims(),
                run=run,
                view_of=lambda other: self._journal(other).view,
                clock=self.clock,
                overrides=frozenset({DAMAGED}),  # nothing in a sandbox is worth a person's time
                progress=self.progress,
            )
            with scratch_folder() as scratch:
                place = replace(target(prepared, scratch), apart=lambda: self.require_apart(carried))
                asking: dict[Action, StepAction] = {Action.VERIFY: Ask(self, prepared)}
                return engine.execute(
                    prepared.plan,
                    self._journal(run),
                    claim,
                    actions.standard(place, evaluate, asking),
                    clock=self.clock,
                    progress=self.progress,
                    version=refloat_version(),
                    turn_back=turn_back,
                )

    def _turn_back(self, prepared: Prepared, run: str) -> None:
        """Put back what an interrupted trial has done, if it has begun at all."""
        view = self._journal(run).view
        if view.plan is not None and not view.ended:
            self.progress.say(f"interrupted: what is in {self.name} is put back")
            self._ended(prepared, self._execute(prepared, run, "it was interrupted"))

    def _ended(self, prepared: Prepared, view: View) -> Evidence:
        """The evidence of a trial that ended, kept in every region. Raises ``Waiting`` where not all is put back."""
        evidence = assemble.evidence(
            view,
            prepared.point,
            prepared.manifest,
            finished_at=view.seen_at or self.clock.now(),
            lost_points=(),
            versions={"refloat": refloat_version(), "python": platform.python_version()},
            vault=self.replica.keyring.vault,
        )
        for region, kept in seal.seal(evidence, list(self.vault.replicas.values())).items():
            if isinstance(kept, RefloatError):
                self.progress.say(f"the record of trial {view.run} is not kept in {region}: {kept.message}")
        if not view.ended:
            left = ", ".join(f"{name} is {where}" for name, where in view.standing.items())
            raise Waiting(
                f"the sandbox {self.name} could not be cleared: {view.reason}; {left}", next=self._again
            )
        return evidence

    @contextmanager
    def _of_the_sandbox(self) -> Iterator[None]:
        """Let what stops a trial lead on to what can be done about a sandbox, which is no region."""
        try:
            yield
        except Refused as error:
            error.next = f"wait for the other trial to end, then {self._again}"
            raise
        except VaultError as error:
            error.next = f"refloat vault repair; then {self._again}"
            raise
        except (HoldLost, Waiting) as error:
            error.next = f"see what is in the sandbox, then {self._again}"
            raise
        except Interrupted as error:
            error.next = self._again
            raise

    @property
    def _again(self) -> str:
        return f"refloat points bisect --sandbox {self.name}"

    def _claims(self) -> SlotLog:
        return self.replica.log(f"targets/{SANDBOX}{self.name}", Role.OPERATOR)

    def _journal(self, run: str) -> Journal:
        resolver = self.today.resolver
        return journal_of(self.replica, run, self.clock, lambda text: redact(text, resolver.secrets), DRILLS)


@dataclass(frozen=True)
class Ask(ReadOnly):
    """Asks a component what every point is asked. What it answers is a finding, so whatever it is the step is done."""

    sandbox: Sandbox
    prepared: Prepared

    def do(self, step: Step, context: Context) -> Mapping[str, Json]:
        """Raises what asking raises."""
        sandbox, name = self.sandbox, step.subject
        reference = sandbox.references.get(name)
        verify.require_listening(self.prepared.components, name, sandbox.name)  # silence is no wrong answer
        measured = verify.measure_component(
            self.prepared.components,
            name,
            self.prepared.files[carried_as(name)],
            sandbox.name,
            sandbox.clock,
            reference=reference,
            until_decided=True,
            progress=sandbox.progress,
        )
        checks = judge.judge(name, reference, measured, sandbox.asked[name].bounds)
        _require_answers(checks, name, sandbox.name)
        found: dict[str, Json] = {
            "checks": [json_form(check) for check in checks],
            "measurement": json_form(measured),
            "baseline_region": reference.baseline.region if reference else None,
        }
        context.remember({assemble.VERIFIED: found})
        return {"verified": judge.verified(checks)}


def _require_answers(checks: Iterable[Check], component: str, sandbox: str) -> None:
    """Raises ``ConnectorError`` where too many questions had no answer: a small bench, too, lets programs fail."""
    if any(check.name == ERRORS and check.verdict == "fail" for check in checks):
        raise ConnectorError(
            "too many questions had no answer, which tells nothing of the answers",
            component=component,
            region=sandbox,
            retry=Retry.LATER,
            next="read the log of what is to answer there, or give the sandbox more room and time",
        )


def _verdict(component: str, checks: Iterable[Check]) -> bool | None:
    return judge.verified([check for check in checks if check.component == component])


def _of_all(verdicts: Iterable[bool | None]) -> bool | None:
    """Good where each is, bad where any is."""
    known = set(verdicts)
    return False if False in known else True if known == {True} else None


def _why(components: Mapping[str, bool | None], checks: Sequence[Check]) -> str:
    """Which checks do not pass, and which components could not be asked."""
    told = [
        f"{check.component}: {check.name} {check.reason or check.verdict}"
        for check in checks
        if check.verdict != "pass"
    ]
    asked = {check.component for check in checks}
    return "; ".join([*told, *(f"{name} is not in this point" for name in components if name not in asked)])
