"""The last good point: points are tried in a sandbox by halves until the newest is known whose answers pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refloat.clock import Clock
from refloat.contracts import Progress, Silent
from refloat.digest import Json
from refloat.errors import Interrupted, Refused, UsageError
from refloat.flows import baselines, points
from refloat.flows.components import Components
from refloat.flows.opening import require_not_rolled_back, target_replica
from refloat.flows.suspects import judged
from refloat.flows.trial import Sandbox, Trial
from refloat.flows.verify import golden_files, require_verification
from refloat.manifest.document import nearest
from refloat.manifest.model import Manifest, Verification
from refloat.manifest.parse import parse
from refloat.manifest.sandbox import in_sandbox, replica_of
from refloat.point.halves import UNKNOWN_IN_A_ROW_MAX, Search
from refloat.point.select import Candidate, meant
from refloat.units import format_time
from refloat.vault.replica import Replica
from refloat.vault.vault import Vault
from refloat.verification.decidable import undecidable
from refloat.verification.golden import read_golden
from refloat.verification.metrics import ERRORS, LOAD_METRICS
from refloat.verification.reference import Reference

OnTrial = Callable[[Trial], None]
"""Is told of each trial when it is over."""


@dataclass(frozen=True)
class Bisected:
    """What a search has found.

    ``newest`` is the newest point that passes, or was given as good and none that passes is newer; ``failing`` the
    oldest that is known not to pass. ``untested`` are those between the two of which nobody can tell, with the reason,
    and ``newer`` those after ``failing`` that were not tried. ``only`` is the component that was named, if any.
    """

    sandbox: str
    to: str
    trials: tuple[Trial, ...]
    newest: Candidate | None
    failing: Candidate | None
    untested: Mapping[str, str]
    newer: tuple[str, ...]
    given_up: bool
    only: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the search came to its end and found a point."""
        return self.newest is not None and not self.given_up

    @property
    def next(self) -> str:
        """What to do now, as it is typed."""
        if self.newest is not None and not self.given_up:
            return f"refloat recover --to {self.to} --point {self.newest.name[:12]}"
        if self.given_up:
            return self.going_on
        return "refloat points list --all"

    @property
    def going_on(self) -> str:
        """How the search is gone on with, knowing what is known now."""
        return going_on(self.sandbox, self.newest, self.failing, self.only)

    def spoken(self) -> list[str]:
        """What was found, in sentences."""
        told = [_found(self)]
        if self.given_up:
            told.append(f"{UNKNOWN_IN_A_ROW_MAX} trials in a row told nothing, so the search ended")
        told += [f"{name[:12]} is not known: {why}" for name, why in self.untested.items()]
        if self.newer:
            names = ", ".join(name[:12] for name in self.newer)
            told.append(f"newer than the first that fails, and not tried: {names}")
        return told

    def document(self) -> dict[str, Json]:
        """The JSON document of `points bisect`."""
        return {
            "sandbox": self.sandbox,
            "trials": [trial.document() for trial in self.trials],
            "newest_passing": self.newest.name if self.newest else None,
            "tried": self._tried,
            "first_failing": self.failing.name if self.failing else None,
            "untested": [{"point": name, "reason": why} for name, why in self.untested.items()],
            "newer_not_tried": list(self.newer),
            "given_up": self.given_up,
            "next": self.next,
        }

    @property
    def _tried(self) -> bool:
        """Whether the newest that passes was tried here, and not only given as good."""
        return any(self.newest and trial.point == self.newest.name for trial in self.trials)


def _found(found: Bisected) -> str:
    if found.newest is None:
        return "no point is known to pass"
    named = f"{found.newest.name[:12]} of {format_time(found.newest.created_at)[:19]}Z"
    if not found._tried:
        return f"no point newer than {named} is known to pass; that one was given as good, and not tried"
    if found.failing is None and not found.untested:
        return f"the newest point passes: {named}"
    first = f"; {found.failing.name[:12]} is the oldest that is known to fail" if found.failing else ""
    return f"the newest point that passes is {named}{first}"


def going_on(sandbox: str, good: Candidate | None, bad: Candidate | None, only: Sequence[str] = ()) -> str:
    """The command for a search between two points."""
    command = " ".join(
        [f"refloat points bisect --sandbox {sandbox}", *(f"--component {name}" for name in only)]
    )
    command += f" --good {good.name[:12]}" if good else ""
    return command + (f" --bad {bad.name[:12]}" if bad else "")


# ---------------------------------------------------------------------------------------------- what is asked


def opened(
    today: Components,
    folder: Path,
    vault: Vault,
    clock: Clock,
    name: str,
    *,
    good: str | None = None,
    component: str | None = None,
    progress: Progress | None = None,
) -> tuple[Sandbox, list[str]]:
    """The sandbox ``name`` of today's manifest, which lies in ``folder``, and what every point is asked in it.

    What counts is how it answers, not how fast: a sandbox may be slower. A bound that is relative to a baseline is held
    against that of the point ``good`` for all points alike, since a point that was poisoned may have a poisoned
    baseline of its own. Bounds that cannot be told, and components without one, are left out; the second value says
    so. Raises ``UsageError`` where nothing is left, ``Refused`` (rules ``sandbox_shared``, ``log_rolled_back``) and
    ``ManifestError``.
    """
    manifest = today.manifest
    replica = target_replica(vault, replica_of(manifest, name), None)
    require_verification(manifest)
    if component is not None and component not in manifest.verify:
        known = nearest(component, manifest.verify) or f"verified are: {', '.join(manifest.verify)}"
        raise UsageError(f"the manifest verifies no component {component!r}", next=known)
    _require_whole(vault, replica)
    _require_addresses(manifest, name)
    files = golden_files(today, folder)
    references = {} if good is None else _references(vault, replica, good, today, name, files)
    names = [one for one in manifest.verify if component in (None, one)]
    asked: dict[str, Verification] = {}
    remarks = []
    for one in names:
        counting, left_out = _counting(
            manifest.verify[one], references.get(one), files[baselines.carried_as(one)]
        )
        remarks += [f"{one}: {bound} does not count: {why}" for bound, why in left_out.items()]
        if counting is not None:
            asked[one] = counting
    if not asked:
        raise UsageError(
            f"nothing tells whether answers are good: {'; '.join(remarks) or 'no bound is on what is answered'}",
            next="bound a metric of `verify` by a figure, such as at_least: 0.9, or name a point that has a baseline: "
            "--good POINT",
        )
    remarks += [
        f"{one} has no bound on its answers that counts, so it is not asked"
        for one in names
        if one not in asked
    ]
    sandbox = Sandbox(
        name=name,
        today=today,
        asked=asked,
        golden={baselines.carried_as(one): files[baselines.carried_as(one)] for one in asked},
        vault=vault,
        replica=replica,
        clock=clock,
        only=() if component is None else (component,),
        references={one: found for one, found in references.items() if one in asked},
        progress=progress or Silent(),
    )
    sandbox.require_apart()
    return sandbox, remarks


def _require_whole(vault: Vault, replica: Replica) -> None:
    try:
        require_not_rolled_back(vault, {replica.region}, frozenset())
    except Refused as error:
        error.next = f"refloat vault rejoin {replica.region}"
        raise


def _require_addresses(manifest: Manifest, sandbox: str) -> None:
    """Raises ``UsageError`` where what comes into the sandbox would go on leading to where it came from."""
    there = manifest.sandboxes[sandbox].addresses
    for region, place in manifest.regions.items():
        if lacking := [name for name in place.addresses if name not in there]:
            raise UsageError(
                f"the sandbox {sandbox} has no counterpart to the addresses {', '.join(lacking)} of {region}",
                next=f"give it its own, under `addresses` of sandboxes.{sandbox}",
            )


def _counting(
    verification: Verification, reference: Reference | None, golden: bytes
) -> tuple[Verification | None, Mapping[str, str]]:
    """What is asked of a component: its bounds on answers, as far as they can be told; and why others cannot."""
    bounds = {
        name: bound
        for name, bound in verification.bounds.items()
        if name == ERRORS or name not in LOAD_METRICS
    }
    answers = verification.model_copy(update={"bounds": bounds})
    untold = undecidable(reference, answers, [question.id for question in read_golden(golden)])
    left = {name: bound for name, bound in bounds.items() if name not in untold}
    found = answers.model_copy(update={"bounds": left}) if set(left) - {ERRORS} else None
    return found, untold


def _references(
    vault: Vault,
    replica: Replica,
    good: str,
    today: Components,
    sandbox: str,
    golden: Mapping[str, bytes],
) -> dict[str, Reference]:
    """The baselines of a point that is known to be good, as far as there are any, for what is asked of all points."""
    _, point, _ = points.find([replica], good)
    carried = parse(points.manifest_files(replica, point)[points.MANIFEST], file=points.MANIFEST)
    manifest = in_sandbox(carried, today.manifest, sandbox)
    kept = baselines.kept(vault.replicas.values())
    found = {
        name: baselines.reference_for(
            kept,
            point,
            manifest,
            name,
            len(read_golden(golden[baselines.carried_as(name)])),
            today.manifest.primary,
        )
        for name in manifest.verify
        if name in today.manifest.verify
    }
    return {name: one for name, one in found.items() if one is not None}


# ------------------------------------------------------------------------------------------------- the search


def bisect(
    sandbox: Sandbox,
    *,
    good: str | None = None,
    bad: str | None = None,
    on_trial: OnTrial = lambda trial: None,
) -> Bisected:
    """Try points by halves, in the order of the log, until the newest is known whose answers pass.

    ``good`` and ``bad`` are points of which a person knows. Raises ``UsageError`` where these are none, and as
    ``Sandbox.run``; ``Interrupted`` says how the search is gone on with.
    """
    replicas = [sandbox.replica, *(r for r in sandbox.vault.replicas.values() if r is not sandbox.replica)]
    marked = judged(replicas).mark(points.candidates(sandbox.replica))
    known = [candidate for candidate in marked if not candidate.forgotten]
    if not known:
        raise UsageError("this vault holds no point yet", next="run `refloat protect` first")
    first, last = _at(known, good, "--good"), _at(known, bad, "--bad")
    if first is not None and last is not None and first >= last:
        raise UsageError(
            "the point that is good is not older than the one that is bad", next="exchange --good and --bad"
        )
    refused = {at: why for at, candidate in enumerate(known) if (why := _untried(candidate))}
    search = Search.over(len(known), good=first, bad=last, passed_over=frozenset(refused))
    trials: list[Trial] = []
    sandbox.clear()
    while (at := search.next) is not None:
        try:
            trial = sandbox.run(known[at].name, known[at].created_at)
        except Interrupted as error:
            passes, fails = _known(known, search.good), _known(known, search.bad)
            error.next = going_on(sandbox.name, passes, fails, sandbox.only)
            raise
        search = search.after(at, trial.verdict)
        trials.append(trial)
        on_trial(trial)
    return _told(sandbox, known, search, trials, refused)


def _told(
    sandbox: Sandbox,
    known: Sequence[Candidate],
    search: Search,
    trials: Sequence[Trial],
    refused: Mapping[int, str],
) -> Bisected:
    reasons = {trial.point: trial.reason for trial in trials}
    between = {
        known[at].name: refused.get(at) or reasons.get(known[at].name) or "it was not tried"
        for at in search.between
    }
    tried = {trial.point for trial in trials}
    newer = (candidate.name for candidate in known[search.bad + 1 :] if candidate.name not in tried)
    return Bisected(
        sandbox=sandbox.name,
        to=sandbox.today.manifest.primary,
        trials=tuple(trials),
        newest=_known(known, search.good),
        failing=_known(known, search.bad),
        untested=between,
        newer=tuple(newer),
        given_up=search.given_up,
        only=sandbox.only,
    )


def _known(known: Sequence[Candidate], at: int) -> Candidate | None:
    return known[at] if 0 <= at < len(known) else None


def _untried(candidate: Candidate) -> str:
    """Why a point is not tried at all: no recovery would take it without a person's word."""
    if candidate.malformed:
        return "not tried: its writer signed it, and it is no recovery point"
    if candidate.doubt:
        return f"not tried: {candidate.doubt}"
    return "" if candidate.grade.consistent else f"not tried: graded {candidate.grade}"


def _at(known: Sequence[Candidate], start: str | None, option: str) -> int | None:
    """Where the one point stands whose name begins so. Raises ``UsageError`` where none does, or several."""
    if start is None:
        return None
    wanted = meant(known, start) or start
    found = [at for at, candidate in enumerate(known) if candidate.name.startswith(wanted)]
    if len(found) != 1:
        problem = "no point here begins with" if not found else "more than one point begins with"
        raise UsageError(f"{option}: {problem} {start!r}", next="refloat points list")
    return found[0]
