"""Which baseline counts: one of the same identity first, else the nearest."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from refloat.verification.model import Baseline, Measurement, Metric, PipelineBaseline
from refloat.verification.reference import nearest

NOW = {"assistant": "a1", "index": "i1", "prompts": "p1"}


def kept(
    identities: Mapping[str, str] = NOW,
    *,
    day: int = 1,
    region: str = "eu",
    profile: str = "default",
    component: str = "assistant",
    samples: int = 300,
) -> Baseline:
    at = datetime(2026, 1, day, tzinfo=UTC)
    measurement = Measurement(
        component=component,
        region=region,
        measured_at=at,
        concurrency=1,
        seconds=1.0,
        metrics={"latency_p50": Metric(value=0.1, low=0.1, high=0.1, samples=samples)},
    )
    return Baseline(
        component=component,
        identities=identities,
        profile=profile,
        region=region,
        measured_at=at,
        measurement=measurement,
    )


def chosen(*known: Baseline, region: str = "us") -> tuple[Baseline, tuple[str, ...]] | None:
    found = nearest(known, "assistant", NOW, "default", region, wanted=300)
    return (found.baseline, found.changed) if found else None


def test_one_of_the_same_identity_goes_before_a_newer_one_of_another() -> None:
    same = kept(day=1)
    assert chosen(same, kept({**NOW, "index": "i2"}, day=9)) == (same, ())


def test_of_the_same_identity_one_of_the_target_is_preferred_and_then_the_newest() -> None:
    old, new, there = kept(day=1), kept(day=2), kept(day=1, region="us")
    assert chosen(old, new) == (new, ())
    assert chosen(old, new, there) == (there, ())


def test_of_others_one_of_the_same_endpoint_and_then_the_one_with_the_fewest_changes() -> None:
    itself = kept({**NOW, "assistant": "a2"}, day=9)
    two = kept({**NOW, "index": "i2", "prompts": "p2"}, day=8)
    one = kept({**NOW, "prompts": "p2"}, day=1)
    assert chosen(itself, two) == (two, ("index", "prompts"))
    assert chosen(itself, two, one) == (one, ("prompts",))


def test_what_one_side_does_not_know_has_changed() -> None:
    less = kept({"assistant": "a1", "index": "i1"})
    more = kept({**NOW, "flags": "f1"})
    assert chosen(less) == (less, ("prompts",))
    assert chosen(more) == (more, ("flags",))


def test_another_component_or_profile_never_counts() -> None:
    assert chosen(kept(component="other"), kept(profile="cpu")) is None


def test_a_baseline_of_the_whole_pipeline_counts_for_each_component_where_nothing_at_all_has_changed() -> (
    None
):
    one = kept()
    whole = PipelineBaseline(
        identity_digest="all",
        profile="default",
        region="eu",
        measured_at=one.measured_at,
        components={"assistant": one.measurement},
    )
    assert whole.each(NOW, "all") == [one]
    (near,) = whole.each(NOW, "other")
    assert chosen(near) == (near, ("assistant", "index", "prompts"))


def test_one_that_time_had_cut_off_gives_way_to_an_older_whole_one() -> None:
    whole, cut = kept(day=1), kept(day=9, region="us", samples=299)
    assert chosen(whole, cut) == (whole, ())
    assert chosen(kept({**NOW, "index": "i2"}, day=1), cut) == (cut, ()), "but not to one of another identity"
    assert chosen(kept(day=1, samples=5), cut) == (cut, ())
