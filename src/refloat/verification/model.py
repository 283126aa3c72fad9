"""Measured behaviour, the baseline it is held against, and the verdict on each bound."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Value(BaseModel):
    """The base of what is measured and judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Metric(Value):
    """One measured figure: ``value`` with its 95 % interval from ``samples`` samples."""

    value: float
    low: float
    high: float
    samples: int
    unit: str = ""


class Measurement(Value):
    """How a component behaved under one load.

    ``metrics`` holds ``latency_p50``, ``latency_p95``, ``latency_p99`` and ``end_to_end`` (seconds),
    ``throughput`` (answers a second), ``errors`` (share) and the quality metrics of the manifest (shares).
    ``answers`` maps a question's id to the digest of its answer, so that ``exact_match`` can be taken.
    ``cut_off`` tells that time was up before everything was asked that was to be, and ``unasked`` the golden questions
    that were then never asked.
    """

    component: str
    region: str
    measured_at: datetime
    concurrency: int
    seconds: float
    metrics: Mapping[str, Metric]
    answers: Mapping[str, str] = Field(default_factory=dict)
    cut_off: bool = Field(default=False, exclude_if=operator.not_)
    unasked: tuple[str, ...] = Field(default=(), exclude_if=operator.not_)

    @property
    def taken(self) -> int:
        """How many questions were asked under load, to within one; fewer than were wanted where time was up."""
        answered, errors = self.metrics.get("latency_p50"), self.metrics.get("errors")
        if errors is None:
            return answered.samples if answered else 0
        return answered.samples + round(errors.value * errors.samples) if answered else errors.samples


class Baseline(Value):
    """What a component must match once it is recovered: how it answered, and what it answered with.

    ``identities`` holds the digest of the identity facts of each component that its answers depend on, itself among
    them; nothing else counts. ``profile`` is the one that ran.
    """

    component: str
    identities: Mapping[str, str]
    profile: str
    region: str
    measured_at: datetime
    measurement: Measurement


class PipelineBaseline(Value):
    """How baselines were kept before each was that of one component: for the identity of the whole pipeline."""

    identity_digest: str
    profile: str
    region: str
    measured_at: datetime
    components: Mapping[str, Measurement]

    def each(self, identities: Mapping[str, str], whole: str | None) -> list[Baseline]:
        """One baseline a component; of ``identities`` where the pipeline's is ``whole``, else of nobody knows which."""
        known = dict(identities) if self.identity_digest == whole else {}
        return [
            Baseline(
                component=name,
                identities=known,
                profile=self.profile,
                region=self.region,
                measured_at=self.measured_at,
                measurement=measurement,
            )
            for name, measurement in self.components.items()
        ]


class Check(Value):
    """One bound, judged; ``unknown`` where samples were too few to tell or no baseline fits.

    ``reason`` says why it is unknown, or which baseline served where it was not one of the same identity.
    """

    name: str
    component: str
    baseline: float | None
    recovered: float | None
    bound: str
    samples: int
    verdict: Literal["pass", "fail", "unknown"]
    reason: str = ""
    unit: str = ""
