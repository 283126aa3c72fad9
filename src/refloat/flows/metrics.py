"""The protection of a pipeline in figures, as Prometheus reads them from a text file.

The text is the exposition format 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/. All are gauges:
each run of the command writes all of them anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from refloat.clock import Clock
from refloat.digest import Json
from refloat.flows.status import Newest, Status, status
from refloat.manifest.model import Manifest
from refloat.point.exposure import SEVERITY
from refloat.point.model import Grade
from refloat.registry import refloat_version
from refloat.vault.vault import Vault

METRICS: Mapping[str, str] = {
    "refloat_build_info": "The version of refloat that wrote this; always 1.",
    "refloat_component_age_seconds": "Age of the newest copy of a component in any region that answers.",
    "refloat_component_rpo_objective_seconds": "The RPO of a component: how much of it may be lost.",
    "refloat_component_exposure_seconds": "What losing a region now would cost of a component; none: all, or unknown.",
    "refloat_component_state": "1 for the state of a component, the worst over all losses, else 0.",
    "refloat_region_reachable": "1 where the vault of a region answers and its log can be read, else 0.",
    "refloat_region_head": "The slot of the last entry in a region's log of points; none where it is empty.",
    "refloat_point_timestamp_seconds": "When the newest point was made, in seconds since the epoch.",
    "refloat_point_grade": "1 for the grade of the newest point, else 0.",
    "refloat_point_verifiable": "1 where the newest point could be verified if it were recovered now, else 0.",
    "refloat_point_capture_seconds": "How long capturing the newest point took, all components together.",
    "refloat_point_bytes": "What the newest point holds.",
    "refloat_point_new_bytes": "Of these, what was not in the vault before.",
    "refloat_point_stored_bytes": "What the new bytes of the newest point take in a vault.",
}
"""Every metric, and what it says."""


@dataclass(frozen=True)
class Sample:
    """One figure; ``labels`` without the pipeline, which all have."""

    metric: str
    value: float
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Measured:
    """Every figure at one moment."""

    pipeline: str
    samples: Sequence[Sample]

    def text(self) -> str:
        """The figures in Prometheus' text format."""
        return "".join(self._family(name) for name in METRICS)

    def document(self) -> dict[str, Json]:
        """The figures as JSON."""
        return {
            "pipeline": self.pipeline,
            "samples": [
                {"metric": one.metric, "labels": dict(one.labels), "value": one.value} for one in self.samples
            ],
        }

    def _family(self, name: str) -> str:
        lines = [self._line(sample) for sample in self.samples if sample.metric == name]
        head = f"# HELP {name} {_escaped(METRICS[name])}\n# TYPE {name} gauge\n"
        return head + "".join(lines) if lines else ""

    def _line(self, sample: Sample) -> str:
        labels = {"pipeline": self.pipeline, **sample.labels}
        told = ",".join(f'{name}="{_escaped(value, quoted=True)}"' for name, value in labels.items())
        return f"{sample.metric}{{{told}}} {sample.value:.15g}\n"


def _escaped(text: str, *, quoted: bool = False) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quoted else text


def metrics(manifest: Manifest, vault: Vault, clock: Clock) -> Measured:
    """Read what ``status`` reads. Raises as it does."""
    found = status(manifest, vault, clock)
    samples = [
        Sample("refloat_build_info", 1, {"version": refloat_version()}),
        *_components(found, clock.now()),
        *_regions(found),
        *(_point(found.newest) if found.newest else ()),
    ]
    return Measured(manifest.pipeline, samples)


def _components(found: Status, now: datetime) -> Iterator[Sample]:
    for name, component in found.components.items():
        labels = {"component": name, "tier": component.tier}
        if component.as_of is not None:
            age_s = round((now - component.as_of).total_seconds(), 3)
            yield Sample("refloat_component_age_seconds", age_s, labels)
        yield Sample("refloat_component_rpo_objective_seconds", component.rpo_objective_s, labels)
        for region, loss in component.exposure.items():
            if loss.seconds is not None and loss.state != "unprotected":
                lost = {"component": name, "lost": region}
                yield Sample("refloat_component_exposure_seconds", loss.seconds, lost)
        for state in SEVERITY:
            is_state = int(component.state == state)
            yield Sample("refloat_component_state", is_state, {"component": name, "state": state})


def _regions(found: Status) -> Iterator[Sample]:
    for name, region in found.regions.items():
        yield Sample("refloat_region_reachable", int("error" not in region), {"region": name})
        head = region.get("head")
        slot = head.get("slot") if isinstance(head, Mapping) else None
        if isinstance(slot, int):
            yield Sample("refloat_region_head", slot, {"region": name})


def _point(newest: Newest) -> Iterator[Sample]:
    point = newest.point
    snapshots = point.components.values()
    yield Sample("refloat_point_timestamp_seconds", point.created_at.timestamp(), {})
    for grade in Grade:
        yield Sample("refloat_point_grade", int(point.grade is grade), {"grade": str(grade)})
    yield Sample("refloat_point_verifiable", int(not newest.doubts), {})
    yield Sample("refloat_point_capture_seconds", round(sum(s.seconds for s in snapshots), 4), {})
    yield Sample("refloat_point_bytes", sum(s.bytes for s in snapshots), {})
    yield Sample("refloat_point_new_bytes", sum(s.new_bytes for s in snapshots), {})
    yield Sample("refloat_point_stored_bytes", sum(s.stored_bytes for s in snapshots), {})
