"""Measure how a pipeline answers, keep it as the baseline, and hold a recovery against it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from refloat import registry
from refloat.clock import Clock
from refloat.contracts import Probe, Progress, Silent
from refloat.digest import Json, json_form
from refloat.errors import ConnectorError, ManifestError, RefloatError, Retry, StoreError, VaultError, plug_in
from refloat.flows.components import Components
from refloat.limits import MANIFEST_FILES_BYTES_MAX
from refloat.manifest.model import Verification
from refloat.point.capture import inspected
from refloat.point.model import identity_digest
from refloat.vault.keys import Role
from refloat.vault.replica import Replica
from refloat.verify import judge
from refloat.verify.golden import read_golden
from refloat.verify.load import measure
from refloat.verify.model import Baseline, Check, Measurement

STREAM = "baselines"
MEASURE_ATTEMPTS_MAX = 2  # an identity that moves twice is being deployed


def golden_files(components: Components, folder: Path) -> dict[str, bytes]:
    """The golden sets that the manifest names, under the paths by which a point carries them.

    Relative paths start at ``folder``, where the manifest lies. Raises ``ManifestError``.
    """
    manifest = components.manifest
    found = {}
    for name, verification in manifest.verify.items():
        path = folder / str(components.resolver.value(verification.golden, manifest, manifest.primary))
        try:
            if path.stat().st_size > MANIFEST_FILES_BYTES_MAX:
                raise ManifestError(
                    f"verify.{name}.golden is larger than a point may carry",
                    file=str(path),
                    next="keep a sample of it",
                )
            found[carried_as(name)] = path.read_bytes()
        except OSError as error:
            raise ManifestError(
                f"verify.{name}.golden cannot be read: {error.strerror}",
                file=str(path),
                next=f"put the questions there, or correct `golden` of verify.{name}",
            ) from error
    return found


def carried_as(component: str) -> str:
    """The path under which a point carries a component's golden set."""
    return f"verify/{component}.jsonl"


def measure_component(
    components: Components,
    name: str,
    golden: bytes,
    region: str,
    clock: Clock,
    *,
    baseline: Measurement | None = None,
    progress: Progress | None = None,
) -> Measurement:
    """Put a component under the load that its manifest names and measure how it answers.

    Where a ``baseline`` is given, more samples are taken while a bound would be decided by noise.
    """
    manifest = components.manifest
    asked = manifest.verify[name]
    questions = read_golden(golden)

    def undecided(so_far: Measurement) -> bool:
        return baseline is not None and judge.needs_more(judge.judge(name, baseline, so_far, asked.bounds))

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
        more_while=undecided,
    )


def _probe(components: Components, asked: Verification, region: str) -> Probe:
    ((kind, address),) = asked.probe.items()
    settings = components.resolver.value(address, components.manifest, region)
    with plug_in(f"beginning the probe {kind!r}"):
        return registry.probe(kind)(settings)  # type: ignore[call-arg]  # every probe takes its settings


def identities(components: Components, region: str) -> dict[str, Mapping[str, Json]]:
    """The identity facts of every component that is live in a region."""
    found = {}
    for name in components.names:
        with plug_in(f"inspecting {name}", component=name, region=region):
            found[name] = inspected(components.connector(name), components.place(name, region)).identity
    return found


def measure_baseline(
    components: Components,
    files: Mapping[str, bytes],
    region: str,
    clock: Clock,
    *,
    profile: str = "default",
    progress: Progress | None = None,
) -> Baseline:
    """Measure everything that the manifest verifies, for the identity that is live now.

    Where it moved meanwhile, for example because the first probe was the first record of a log, it is
    measured once more. Raises ``ConnectorError`` where it moved again.
    """
    for _ in range(MEASURE_ATTEMPTS_MAX):
        measured_at = clock.now()
        before = identity_digest(identities(components, region))
        measured = {
            name: measure_component(
                components, name, files[carried_as(name)], region, clock, progress=progress
            )
            for name in components.manifest.verify
        }
        if identity_digest(identities(components, region)) == before:
            return Baseline(
                identity_digest=before,
                profile=profile,
                region=region,
                measured_at=measured_at,
                components=measured,
            )
    raise ConnectorError(
        "the pipeline's identity moved each time it was measured, so it is not known what was measured",
        region=region,
        retry=Retry.LATER,
        next="measure again while nothing is deployed",
    )


def save_baseline(baseline: Baseline, replicas: Sequence[Replica]) -> dict[str, str | None]:
    """Append a baseline, signed, in every region; the error by region, None where it landed."""
    outcome: dict[str, str | None] = {}
    for replica in replicas:
        try:
            replica.log(STREAM, Role.OPERATOR).append(json_form(baseline))
            outcome[replica.region] = None
        except RefloatError as error:
            outcome[replica.region] = error.message
    return outcome


def best_baseline(replicas: Sequence[Replica], digest: str, profile: str, region: str) -> Baseline | None:
    """The newest baseline of an identity and profile that any replica keeps, one from ``region`` preferred."""
    kept = [baseline for replica in replicas for baseline in _baselines(replica)]
    matching = [known for known in kept if (known.identity_digest, known.profile) == (digest, profile)]
    return max(matching, key=lambda known: (known.region == region, known.measured_at), default=None)


def _baselines(replica: Replica) -> list[Baseline]:
    """What a replica keeps, as far as it can be read: a baseline that is lost makes a bound unknown, no more."""
    kept = []
    with contextlib.suppress(VaultError, StoreError, ValidationError):
        for entry in replica.log(STREAM, Role.OPERATOR).entries():
            if not entry.void:
                kept.append(Baseline.model_validate(entry.body))
    return kept


def judge_component(
    components: Components, name: str, baseline: Baseline | None, measured: Measurement
) -> list[Check]:
    """Every bound of a component, judged against the baseline."""
    before = baseline.components.get(name) if baseline else None
    reason = "" if before else "no baseline was measured for this identity of the pipeline"
    return judge.judge(name, before, measured, components.manifest.verify[name].bounds, reason=reason)
