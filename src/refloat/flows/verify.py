"""Measure how a pipeline answers, keep it as the baseline, and hold what was measured against one."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from refloat import registry
from refloat.clock import Clock
from refloat.contracts import Probe, Progress, Reaching, Silent
from refloat.digest import Json, json_digest, json_form
from refloat.durable import opened_file
from refloat.errors import ConnectorError, ManifestError, Retry, UsageError, plug_in
from refloat.flows import baselines
from refloat.flows.baselines import carried_as
from refloat.flows.components import Components
from refloat.limits import MANIFEST_BYTES_MAX, MANIFEST_FILES_BYTES_MAX
from refloat.manifest.graph import answers_depend_on
from refloat.manifest.model import Manifest, Verification
from refloat.point.capture import inspected
from refloat.units import format_time
from refloat.vault.vault import Vault
from refloat.verification import judge
from refloat.verification.decidable import undecidable
from refloat.verification.golden import read_golden
from refloat.verification.load import SECONDS_MAX, measure
from refloat.verification.metrics import ERRORS, samples_wanted
from refloat.verification.model import Baseline, Check, Measurement
from refloat.verification.reference import Reference

DEFAULT_PROFILE = "default"
MEASURE_ATTEMPTS_MAX = 2  # an identity that moves twice is being deployed

ReferenceOf = Callable[[Mapping[str, str]], Reference | None]
"""Finds the baseline for the digests of what a component's answers depend on."""


@dataclass(frozen=True)
class Verified:
    """How a pipeline answers, held against its baselines. ``measured`` is by component."""

    measured: Mapping[str, Baseline]
    checks: tuple[Check, ...]

    @property
    def verified(self) -> bool | None:
        """True when every bound is kept, False when one is not, None while any is unknown."""
        return judge.verified(self.checks)

    @property
    def ok(self) -> bool:
        """Whether every bound is known to be kept."""
        return self.verified is True

    def document(self) -> dict[str, Json]:
        """The JSON document of `verify`."""
        return {"verified": self.verified, "checks": [json_form(check) for check in self.checks]}


@dataclass(frozen=True)
class Measured:
    """How a pipeline answers, kept as its baselines. ``regions`` holds why one did not keep them, or None.

    ``doubts`` are the bounds that can never be found to be kept beside them.
    """

    measured: Mapping[str, Baseline]
    regions: Mapping[str, str | None]
    doubts: baselines.Doubts = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every region keeps them."""
        return not any(self.regions.values())

    def document(self) -> dict[str, Json]:
        """The JSON document of `verify --save-baseline`; ``identity_digest`` is that of all for which they count."""
        identities = {name: dict(made.identities) for name, made in self.measured.items()}
        first = next(iter(self.measured.values()))
        return {
            "baseline": {
                "identity_digest": json_digest(identities),
                "identities": identities,
                "profile": first.profile,
                "region": first.region,
                "measured_at": format_time(first.measured_at),
                "components": {name: json_form(made.measurement) for name, made in self.measured.items()},
            },
            "regions": dict(self.regions),
            "unverifiable": baselines.document(self.doubts),
        }


def golden_files(components: Components, folder: Path) -> dict[str, bytes]:
    """The golden sets that the manifest names, under the paths by which a point carries them.

    Relative paths start at ``folder``, where the manifest lies. Raises ``ManifestError``, also where all of them
    together are more than a point may carry; no more than that is ever read, whatever lies there.
    """
    manifest = components.manifest
    found: dict[str, bytes] = {}
    left = MANIFEST_FILES_BYTES_MAX - MANIFEST_BYTES_MAX
    for name, verification in manifest.verify.items():
        path = folder / str(components.resolver.value(verification.golden, manifest, manifest.primary))
        try:
            with opened_file(path) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
                content = file.read(left + 1)
        except OSError as error:
            raise ManifestError(
                f"verify.{name}.golden cannot be read: {error.strerror}",
                file=str(path),
                next=f"put the questions there, or correct `golden` of verify.{name}",
            ) from error
        left -= len(content)
        if left < 0:
            more = " together with those before it" if found else ""
            raise ManifestError(
                f"verify.{name}.golden is larger{more} than a point may carry",
                file=str(path),
                next="keep a sample of it",
            )
        found[carried_as(name)] = content
    return found


def measure_component(
    components: Components,
    name: str,
    golden: bytes,
    region: str,
    clock: Clock,
    *,
    reference: Reference | None = None,
    until_decided: bool = False,
    progress: Progress | None = None,
    seconds_max: float | None = None,
) -> Measurement:
    """Put a component under the load that its manifest names and measure how it answers.

    It takes ``seconds_max`` at most, by default five minutes, and longer where ``within`` of the manifest is longer.
    With ``until_decided`` more samples are taken while a bound, held against ``reference``, would be decided by noise.
    """
    manifest = components.manifest
    asked = manifest.verify[name]
    questions = read_golden(golden)

    def undecided(so_far: Measurement) -> bool:
        return judge.needs_more(judge.judge(name, reference, so_far, asked.bounds))

    return measure(
        lambda: _probe(components, asked, region),
        questions,
        component=name,
        region=region,
        concurrency=asked.concurrency,
        samples=asked.samples,
        warmup=asked.warmup,
        clock=clock,
        metrics=asked.metrics,
        progress=progress or Silent(),
        more_while=undecided if until_decided else None,
        seconds_max=max(SECONDS_MAX, asked.within) if seconds_max is None else seconds_max,
    )


def _probe(components: Components, asked: Verification, region: str) -> Probe:
    ((kind, address),) = asked.probe.items()
    settings = components.resolver.value(address, components.manifest, region)
    with plug_in(f"beginning the probe {kind!r}"):
        return registry.probe(kind)(settings)  # type: ignore[call-arg]  # every probe takes its settings


def require_listening(components: Components, name: str, region: str) -> None:
    """Raises ``ConnectorError`` where nobody listens at the address at which a component is asked."""
    probe = _probe(components, components.manifest.verify[name], region)
    try:
        if isinstance(probe, Reaching) and (silent := probe.unreachable()):
            raise ConnectorError(
                f"nobody listens where it is asked: {silent}",
                component=name,
                region=region,
                retry=Retry.LATER,
                next="see what is to answer there, or correct `probe`",
            )
    finally:
        probe.close()


def identities(components: Components, component: str, region: str) -> dict[str, str]:
    """The digests of the identity facts of what a component's answers depend on, live in a region."""
    found = {}
    for name in answers_depend_on(components.manifest, component):
        with plug_in(f"inspecting {name}", component=name, region=region):
            facts = inspected(components.connector(name), components.place(name, region))
        found[name] = facts.identity_digest()
    return found


def measure_baseline(
    components: Components,
    name: str,
    golden: bytes,
    region: str,
    clock: Clock,
    *,
    profile: str = DEFAULT_PROFILE,
    reference_of: ReferenceOf | None = None,
    progress: Progress | None = None,
    seconds_max: float | None = None,
) -> Baseline:
    """Measure a component, for the identity of what its answers depend on that is live now.

    ``reference_of`` finds what it will be held against: then it is measured until that is decided. Where the identity
    moved meanwhile, for example because the first probe was the first record of a log, it is
    measured once more. Raises ``ConnectorError`` where it moved again.
    """
    for _ in range(MEASURE_ATTEMPTS_MAX):
        measured_at = clock.now()
        before = identities(components, name, region)
        measurement = measure_component(
            components,
            name,
            golden,
            region,
            clock,
            reference=reference_of(before) if reference_of else None,
            until_decided=reference_of is not None,
            progress=progress,
            seconds_max=seconds_max,
        )
        after = identities(components, name, region)
        if after == before:
            return Baseline(
                component=name,
                identities=before,
                profile=profile,
                region=region,
                measured_at=measured_at,
                measurement=measurement,
            )
    moved = ", ".join(each for each in after if after[each] != before[each])
    raise ConnectorError(
        f"the identity of {moved} moved each time {name} was measured, so it is not known what was measured",
        component=name,
        region=region,
        retry=Retry.LATER,
        next="measure again while nothing is deployed",
    )


def verify(
    components: Components,
    files: Mapping[str, bytes],
    vault: Vault,
    region: str,
    clock: Clock,
    *,
    progress: Progress | None = None,
) -> Verified:
    """Measure everything that the manifest verifies, until it is decided, and hold it against the baselines.

    Raises ``UsageError`` where the manifest verifies nothing, and as ``measure_baseline``.
    """
    require_verification(components.manifest)
    known, measured, checks = baselines.kept(vault.replicas.values()), dict[str, Baseline](), list[Check]()
    for name, asked in components.manifest.verify.items():
        golden = files[carried_as(name)]
        reference_of = functools.partial(
            baselines.reference,
            known,
            name,
            profile=DEFAULT_PROFILE,
            region=region,
            wanted=samples_wanted(asked.samples, len(read_golden(golden))),
        )
        made = measure_baseline(
            components,
            name,
            golden,
            region,
            clock,
            reference_of=reference_of,
            progress=progress,
        )
        measured[name] = made
        checks += judge.judge(name, reference_of(made.identities), made.measurement, asked.bounds)
    return Verified(measured, tuple(checks))


def save_baseline(
    components: Components,
    files: Mapping[str, bytes],
    vault: Vault,
    region: str,
    clock: Clock,
    *,
    progress: Progress | None = None,
) -> Measured:
    """Measure everything that the manifest verifies, and keep it as the baselines in every region.

    Raises as ``verify``, and ``ConnectorError`` where something does not answer, or not in time: then none is kept.
    """
    require_verification(components.manifest)
    measured, doubts = {}, {}
    for name, asked in components.manifest.verify.items():
        golden = files[carried_as(name)]
        made = measure_baseline(components, name, golden, region, clock, progress=progress)
        require_baseline(made.measurement, asked)
        measured[name] = made
        found = undecidable(Reference(made), asked, [question.id for question in read_golden(golden)])
        doubts.update({name: found} if found else {})
    lost = {name: error.message for name, error in vault.unreachable.items()}
    kept = baselines.save(measured.values(), list(vault.replicas.values()))
    return Measured(measured, {**kept, **lost}, doubts)


def require_verification(manifest: Manifest) -> None:
    """Raises ``UsageError`` where the manifest verifies nothing."""
    if not manifest.verify:
        raise UsageError(
            "the manifest asks for no verification", next="add a `verify:` section: docs/MANIFEST.md"
        )


def require_baseline(measurement: Measurement, asked: Verification) -> None:
    """Raise ``ConnectorError`` for what is no baseline: too few questions were answered, or time cut it off.

    What was cut off has few samples, and as the newest baseline it would make every verdict unknown.
    """
    _require_answers(measurement, asked)
    if measurement.cut_off:
        name = measurement.component
        raise ConnectorError(
            f"time was up when {name} had been asked {measurement.taken} questions, and not all: "
            "what was cut off is no baseline, and none is kept",
            component=name,
            region=measurement.region,
            next=f"in verify.{name}, give `within` more time, ask with a higher `concurrency`, or for fewer `samples`",
        )


def _require_answers(measurement: Measurement, asked: Verification) -> None:
    """A baseline of errors is none."""
    checks = judge.judge(measurement.component, None, measurement, asked.bounds)
    failed = any(check.name == ERRORS and check.verdict == "fail" for check in checks)
    if failed or not measurement.answers:
        share = measurement.metrics.get(ERRORS)
        name = measurement.component
        told = f"{share.value:.0%} of {share.samples} questions to {name} got no answer" if share else ""
        raise ConnectorError(
            f"{told or f'no question to {name} got an answer'}: that is no baseline, and none is kept",
            component=name,
            region=measurement.region,
            retry=Retry.LATER,
            next="refloat check tells what answers; start what does not, then measure again",
        )
