"""The baselines that regions keep: which one a component is held against, and what no baseline lets one tell."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from pydantic import ValidationError

from refloat.digest import Json, json_digest, json_form
from refloat.errors import ManifestError, RefloatError, StoreError, VaultError
from refloat.flows import points
from refloat.manifest.graph import answers_depend_on
from refloat.manifest.model import Manifest
from refloat.manifest.parse import parse
from refloat.point.model import Point
from refloat.vault.keys import Role
from refloat.vault.missed_records import BASELINES
from refloat.vault.replica import Replica
from refloat.verification.decidable import undecidable
from refloat.verification.golden import read_golden
from refloat.verification.metrics import samples_wanted
from refloat.verification.model import Baseline, PipelineBaseline
from refloat.verification.reference import Reference, nearest

Kept = Sequence[Baseline | PipelineBaseline]
"""What regions keep, as it was written."""

Doubts = Mapping[str, Mapping[str, str]]
"""For each component that could not be verified, the bounds that can never be found to be kept, with the reasons."""


def carried_as(component: str) -> str:
    """The path under which a point carries a component's golden set."""
    return f"verify/{component}.jsonl"


def save(baselines: Iterable[Baseline], replicas: Sequence[Replica]) -> dict[str, str | None]:
    """Append baselines, signed, in every region; the first error by region, None where all landed."""
    outcome: dict[str, str | None] = dict.fromkeys(replica.region for replica in replicas)
    for baseline in baselines:
        for replica in replicas:
            try:
                replica.log(BASELINES, Role.OPERATOR).append(json_form(baseline))
            except RefloatError as error:
                outcome[replica.region] = outcome[replica.region] or error.message
    return outcome


def kept(replicas: Iterable[Replica]) -> Kept:
    """What any of the replicas keeps, as far as it can be read: one that is lost makes a bound unknown, no more."""
    found: list[Baseline | PipelineBaseline] = []
    for replica in replicas:
        with contextlib.suppress(VaultError, StoreError):
            for entry in replica.log(BASELINES, Role.OPERATOR).entries():
                with contextlib.suppress(ValidationError):  # a form that a later refloat writes
                    if not entry.void:
                        found.append(_read(entry.body))
    return found


def _read(body: Mapping[str, Json]) -> Baseline | PipelineBaseline:
    form = PipelineBaseline if "identity_digest" in body else Baseline
    return form.model_validate(body)


def reference(
    known: Kept,
    component: str,
    identities: Mapping[str, str],
    *,
    profile: str,
    region: str,
    wanted: int = 0,
    pipeline: str | None = None,
) -> Reference | None:
    """The baseline to hold a component against in ``region``; None where there is none of it.

    ``identities`` are the digests of what its answers depend on, and ``pipeline`` that of everything, by which
    baselines were once kept; ``wanted`` is how many answers a whole measurement has.
    """
    each = (
        one
        for baseline in known
        for one in (
            baseline.each(identities, pipeline) if isinstance(baseline, PipelineBaseline) else [baseline]
        )
    )
    return nearest(each, component, identities, profile, region, wanted=wanted)


def identities_in(point: Point, manifest: Manifest, component: str) -> dict[str, str]:
    """The digests of what a component's answers depend on, as a point holds it."""
    names = answers_depend_on(manifest, component)
    return {
        name: json_digest(dict(point.components[name].identity)) for name in names if name in point.components
    }


def reference_for(
    known: Kept, point: Point, manifest: Manifest, component: str, questions: int, region: str
) -> Reference | None:
    """The baseline to hold a component against once it is recovered from ``point`` and asked in ``region``.

    ``questions`` is how many golden ones there are.
    """
    return reference(
        known,
        component,
        identities_in(point, manifest, component),
        profile=point.profile,
        region=region,
        wanted=samples_wanted(manifest.verify[component].samples, questions),
        pipeline=point.identity_digest,
    )


# ------------------------------------------------------------------------------------- what cannot be told


def doubts(
    known: Kept, point: Point, manifest: Manifest, files: Mapping[str, bytes], region: str = ""
) -> Doubts:
    """The components that could not be verified if ``point`` were recovered now, with the bounds and reasons.

    ``files`` are what the point carries beside the snapshots. Nothing is measured for it.
    """
    found = {name: doubts_on(name, known, point, manifest, files, region) for name in manifest.verify}
    return {name: bounds for name, bounds in found.items() if bounds}


def doubts_on(
    name: str, known: Kept, point: Point, manifest: Manifest, files: Mapping[str, bytes], region: str
) -> Mapping[str, str]:
    """The same of one component that the manifest verifies: its bounds that could never be kept, with reasons."""
    asked, golden = manifest.verify[name], files.get(carried_as(name), b"")
    try:
        questions = [question.id for question in read_golden(golden)]
        held = reference_for(known, point, manifest, name, len(questions), region)
        return undecidable(held, asked, questions)
    except ManifestError as error:
        return dict.fromkeys(asked.bounds, error.message)


def doubts_of(replica: Replica, point: Point, replicas: Iterable[Replica], region: str = "") -> Doubts:
    """The same for a point as ``replica`` holds it, by its own manifest.

    Raises ``Missing`` or ``Damaged`` where the files it carries cannot be had, ``ManifestError`` where its manifest
    cannot be read.
    """
    files = points.manifest_files(replica, point)
    manifest = parse(files[points.MANIFEST], file=points.MANIFEST)
    return doubts(kept(replicas), point, manifest, files, region) if manifest.verify else {}


def document(found: Doubts) -> dict[str, Json]:
    """Doubts as JSON."""
    return {component: dict(bounds) for component, bounds in found.items()}


def spoken(found: Doubts) -> str:
    """Doubts in one line: ``assistant: accuracy, recall (there is no baseline to compare with)``."""
    told = []
    for component, bounds in found.items():
        by_reason: dict[str, list[str]] = defaultdict(list)
        for bound, reason in bounds.items():
            by_reason[reason].append(bound)
        why = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
        told.append(f"{component}: {why}")
    return "; ".join(told)


def unverified(found: Doubts) -> str:
    """What is said of a point that could not be verified."""
    return f"it could not be verified if it were recovered now: {spoken(found)}"


def remark(found: Doubts) -> str:
    """The same, with what to do where the pipeline still answers."""
    return f"{unverified(found)}; while it answers well: refloat verify --save-baseline"
