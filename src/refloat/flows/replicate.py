"""Bring every region's replica what another one holds, without a key; make an empty place a replica first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from refloat.clock import Clock
from refloat.contracts import Progress, Store
from refloat.errors import Missing, RefloatError, StoreError, UsageError, VaultError
from refloat.vault.layout import read_descriptor
from refloat.vault.missed import MadeUp, commit_points, missed_points
from refloat.vault.new_replica import make_replica
from refloat.vault.pace import Pace
from refloat.vault.replicate import Copied, catch_up, copy_objects
from refloat.vault.stores import open_store
from refloat.vault.vault import Vault


@dataclass(frozen=True)
class Located:
    """A region's replica as its address gives it; no key has opened it."""

    region: str
    store: Store


@dataclass(frozen=True)
class Regions:
    """The regions whose replica is there, those that hold none yet, and the errors of the others."""

    places: Mapping[str, Located]
    empty: Mapping[str, Located]
    unreachable: Mapping[str, RefloatError]


@dataclass(frozen=True)
class Pair:
    """What one region got from another, and how long that took."""

    source: str
    target: str
    copied: Copied
    seconds: float


def look(urls: Mapping[str, str], pipeline: str) -> Regions:
    """What lies at each region's address, as its descriptor says.

    Raises ``UsageError`` where two regions hold different vaults, or one holds another region's replica.
    """
    places: dict[str, Located] = {}
    empty: dict[str, Located] = {}
    unreachable: dict[str, RefloatError] = {}
    vaults: dict[str, str] = {}
    for region, url in urls.items():
        place = Located(region, open_store(url))
        try:
            found = read_descriptor(place.store)
        except Missing:
            empty[region] = place
            continue
        except (StoreError, VaultError) as error:
            unreachable[region] = error.at(region=region)
            continue
        if found.pipeline != pipeline or found.region not in ("", region):
            whose = f"region {found.region!r} of the pipeline {found.pipeline!r}"
            raise UsageError(
                f"{url} holds the replica of {whose}", region=region, next=f"correct the `vault` of {region}"
            )
        places[region] = place
        vaults[region] = found.vault
    if len(set(vaults.values())) > 1:
        told = ", ".join(f"{region}: {vault}" for region, vault in vaults.items())
        raise UsageError(
            f"the regions hold different vaults: {told}",
            next="correct the `vault` of the region that is not this pipeline's",
        )
    return Regions(places, empty, unreachable)


def replicate(
    regions: Regions,
    sources: Sequence[str],
    targets: Sequence[str],
    clock: Clock,
    *,
    pace: Pace | None = None,
    progress: Progress | None = None,
) -> list[Pair]:
    """Copy what each target lacks from each source; a target that holds nothing becomes a replica first.

    Raises ``StoreError``, ``Refused`` (``vault_exists``) for a target that is neither empty nor a replica.
    """
    done = []
    for target in targets:
        place = regions.places.get(target) or regions.empty[target]
        for source in sources:
            if source == target:
                continue
            begun = clock.monotonic()
            if target in regions.empty:
                make = Located(target, place.store)
                if _is_new(place.store):
                    make_replica(regions.places[source], make, progress, regions.places.values())
            copied = copy_objects(
                regions.places[source], place, progress, pace=pace, others=regions.places.values()
            )
            done.append(Pair(source, target, copied, clock.monotonic() - begun))
    return done


def _is_new(store: Store) -> bool:
    try:
        read_descriptor(store)
    except Missing:
        return True
    return False


def make_points_count(
    vault: Vault, sources: Sequence[str], targets: Sequence[str], progress: Progress | None = None
) -> dict[str, MadeUp]:
    """Commit in each target the points that it missed; takes a writer's key. Raises ``StoreError``."""
    heads = {region: head for region, r in vault.replicas.items() if (head := r.head()) is not None}
    found = {}
    for target in targets:
        made = MadeUp()
        for source in sources:
            if source == target or not {source, target} <= vault.replicas.keys():
                continue
            missed = missed_points(vault.replicas[source], vault.replicas[target])
            if missed:
                catch_up(vault.replicas[source], vault.replicas[target], progress)
                more = commit_points(vault.replicas[target], missed, heads)
                made = MadeUp((*made.committed, *more.committed), (*made.lacking, *more.lacking))
        found[target] = made
    return found
