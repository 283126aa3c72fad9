"""Which baseline a component is held against: one of the same identity, else the nearest, which serves for less."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from refloat.units import format_time
from refloat.verification.model import Baseline


@dataclass(frozen=True)
class Reference:
    """A baseline to hold a component against. ``changed`` names what is not as it was when that was measured.

    One with nothing changed serves every bound. A *near* one serves those that tell how fast it answers, and these
    only where they are kept: where not, what changed may be why. One that is not ``whole`` has fewer answers than are
    wanted now: time cut it off, as baselines once were, or the manifest asked for fewer.
    """

    baseline: Baseline
    changed: tuple[str, ...] = ()
    whole: bool = True

    @property
    def exact(self) -> bool:
        """Whether it was measured for the same identity."""
        return not self.changed

    @property
    def told(self) -> str:
        """What has changed since when: ``index, prompts changed since the baseline of 2026-11-01T12:00:00Z``."""
        since = format_time(self.baseline.measured_at)[:19] + "Z"
        return f"{', '.join(self.changed)} changed since the baseline of {since}"


def nearest(
    kept: Iterable[Baseline],
    component: str,
    identities: Mapping[str, str],
    profile: str,
    region: str,
    *,
    wanted: int = 0,
) -> Reference | None:
    """The best of ``kept`` for a component as ``identities`` describe what its answers depend on; None where none is.

    One of the same identity goes before any other, then one of the same component's own, then the one of which least
    has changed; among equals one that is whole, of ``wanted`` answers or more;
    then one measured in ``region``, and of these the newest.
    """
    found = [
        Reference(
            baseline,
            _changed(identities, baseline.identities),
            whole=baseline.measurement.taken >= wanted,
        )
        for baseline in kept
        if (baseline.component, baseline.profile) == (component, profile)
    ]
    return max(
        found,
        key=lambda r: (
            component not in r.changed,
            -len(r.changed),
            r.whole,
            r.baseline.region == region,
            r.baseline.measured_at,
        ),
        default=None,
    )


def _changed(now: Mapping[str, str], before: Mapping[str, str]) -> tuple[str, ...]:
    """What is not the same, or only on one side."""
    return tuple(name for name in {**now, **before} if now.get(name) != before.get(name))
