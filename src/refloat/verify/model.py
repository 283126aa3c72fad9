"""Measured behaviour, the baseline it is held against, and the verdict on each bound."""

from __future__ import annotations

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
    """

    component: str
    region: str
    measured_at: datetime
    concurrency: int
    seconds: float
    metrics: Mapping[str, Metric]
    answers: Mapping[str, str] = Field(default_factory=dict)


class Baseline(Value):
    """What a recovery must match, for one identity of the pipeline and one profile."""

    identity_digest: str
    profile: str
    region: str
    measured_at: datetime
    components: Mapping[str, Measurement]


class Check(Value):
    """One bound, judged; ``unknown`` where samples were too few to tell or no baseline fits."""

    name: str
    component: str
    baseline: float | None
    recovered: float | None
    bound: str
    samples: int
    verdict: Literal["pass", "fail", "unknown"]
    reason: str = ""
    unit: str = ""
