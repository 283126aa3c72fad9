"""What ``refloat check`` finds out about how components are verified: probes, golden questions, and who listens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refloat.cli.findings import Level, Problem
from refloat.contracts import Reaching
from refloat.deadline import within
from refloat.errors import ManifestError, RefloatError, plug_in
from refloat.flows.baselines import carried_as
from refloat.flows.components import Components
from refloat.flows.verify import golden_files
from refloat.manifest.parse import Mistake, dotted
from refloat.verification.decidable import too_few_samples
from refloat.verification.golden import read_golden
from refloat.verification.metrics import quality

if TYPE_CHECKING:
    from refloat.manifest.document import Path as ManifestPath
    from refloat.manifest.model import Manifest
    from refloat.manifest.resolve import Resolver

START = "start it before refloat verify --save-baseline"


def wrong_probes(manifest: Manifest, late: Resolver, regions: Sequence[str]) -> Iterator[Mistake]:
    """What probes refuse of their settings as they are in ``regions``, once each, and what does not resolve."""
    from refloat import registry

    told: set[tuple[ManifestPath, str]] = set()
    for name, asked in manifest.verify.items():
        ((kind, written),) = asked.probe.items()
        for region in regions:
            try:
                settings = late.value(written, manifest, region, ("verify", name, "probe", kind))
                with plug_in(f"beginning the probe {kind!r}"):
                    registry.probe(kind)(settings).close()  # type: ignore[call-arg]  # every probe takes its settings
            except ManifestError as error:
                mistake = _placed(error, name, region)
                if (mistake.path, error.message) not in told:
                    told.add((mistake.path, error.message))
                    yield mistake
            except RefloatError:
                pass  # a probe that cannot be loaded is no mistake of the manifest; ``silent`` tells


def _placed(error: ManifestError, name: str, region: str) -> Mistake:
    """An error about a probe at its place in the manifest; a probe itself does not know whose it is."""
    message = error.message.removeprefix(f"{dotted(error.path)}: ")
    path = error.path if error.path[:1] == ("verify",) else ("verify", name, *(error.path or ("probe",)))
    return Mistake(path, f"{message} (in {region})", error.next)


def wrong_golden(manifest: Manifest, late: Resolver, folder: Path) -> Iterator[Problem]:
    """What is wrong with the golden questions, where they do not fit the metrics, and of what too few are asked."""
    for name, asked in manifest.verify.items():
        key, path = "golden", ""
        one = Components(manifest.model_copy(update={"verify": {name: asked}}), late)
        try:
            path = str(folder / late.value(asked.golden, manifest, manifest.primary))
            questions = read_golden(golden_files(one, folder)[carried_as(name)])
            key = "metrics"
            quality(asked.metrics).fits(questions)
            for bound, why in too_few_samples(asked, [question.id for question in questions]).items():
                yield Problem(
                    Level.WARNING, f"verify.{name}.samples", f"{bound} can never be verified: {why}"
                )
        except ManifestError as error:
            place = f"{path}:{error.line}" if error.line else path
            yield Problem(Level.ERROR, f"verify.{name}.{key}", f"{error.message} ({place})", error.next_step)


def silent(manifest: Manifest, late: Resolver, seconds_max: float) -> Mapping[str, Problem]:
    """For each component whose probe would find nobody in the primary now: why. Nothing is asked."""
    from refloat import registry

    found = {}
    for name, asked in manifest.verify.items():
        ((kind, written),) = asked.probe.items()
        where = f"verify.{name}.probe"
        try:
            with plug_in(f"looking where the probe of {name} asks", component=name):
                probe = registry.probe(kind)(late.value(written, manifest, manifest.primary))  # type: ignore[call-arg]
                why = (
                    within(seconds_max, f"looking where the probe of {name} asks", probe.unreachable)
                    if isinstance(probe, Reaching)
                    else ""
                )
                probe.close()
        except RefloatError as error:
            found[name] = Problem(Level.ERROR, where, error.message, error.next_step)
        else:
            if why:
                found[name] = Problem(Level.WARNING, where, why, START)
    return found
