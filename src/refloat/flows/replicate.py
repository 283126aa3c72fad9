"""Bring a region's replica what the others hold, without a key, and make an empty place a replica of the vault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from refloat.clock import Clock
from refloat.contracts import Progress, Store
from refloat.errors import Missing, RefloatError, StoreError, UsageError, VaultError
from refloat.vault.keys import KeyFile, Role
from refloat.vault.layout import Descriptor, read_descriptor
from refloat.vault.missed import MadeUp, commit_points, missed_points
from refloat.vault.missed_records import make_up_records
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
    """What lies at each region's address, as its descriptor says; all are asked at the same time.

    Raises ``UsageError`` where two regions hold different vaults, or one holds another region's replica.
    """
    places: dict[str, Located] = {}
    empty: dict[str, Located] = {}
    unreachable: dict[str, RefloatError] = {}
    vaults: dict[str, str] = {}
    located = {region: Located(region, open_store(url)) for region, url in urls.items()}
    with ThreadPoolExecutor(max_workers=len(urls)) as pool:
        found = {region: pool.submit(_described, place) for region, place in located.items()}
    for region, described in found.items():
        match described.result():
            case None:
                empty[region] = located[region]
            case RefloatError() as error:
                unreachable[region] = error
            case there:
                _require_ours(there, pipeline, region, urls[region])
                places[region] = located[region]
                vaults[region] = there.vault
    if len(set(vaults.values())) > 1:
        told = ", ".join(f"{region}: {vault}" for region, vault in vaults.items())
        raise UsageError(
            f"the regions hold different vaults: {told}",
            next="correct the `vault` of the region that is not this pipeline's",
        )
    return Regions(places, empty, unreachable)


def _described(place: Located) -> Descriptor | RefloatError | None:
    try:
        return read_descriptor(place.store)
    except Missing:
        return None
    except (StoreError, VaultError) as error:
        return error.at(region=place.region)


def _require_ours(found: Descriptor, pipeline: str, region: str, url: str) -> None:
    if found.pipeline != pipeline or found.region not in ("", region):
        whose = f"region {found.region!r} of the pipeline {found.pipeline!r}"
        raise UsageError(
            f"{url} holds the replica of {whose}", region=region, next=f"correct the `vault` of {region}"
        )


def replicate(
    regions: Regions,
    sources: Sequence[str],
    targets: Sequence[str],
    clock: Clock,
    *,
    pace: Pace | None = None,
    progress: Progress | None = None,
) -> list[Pair]:
    """Copy what each target lacks from each source. Raises ``StoreError``."""
    done = []
    for target in targets:
        place = regions.places.get(target) or regions.empty[target]
        for source in sources:
            if source == target:
                continue
            begun = clock.monotonic()
            copied = copy_objects(
                regions.places[source], place, progress, pace=pace, others=regions.places.values()
            )
            done.append(Pair(source, target, copied, clock.monotonic() - begun))
    return done


def add(
    regions: Regions,
    sources: Sequence[str],
    region: str,
    clock: Clock,
    *,
    key_file: KeyFile | None = None,
    pace: Pace | None = None,
    progress: Progress | None = None,
) -> list[Pair]:
    """Make an empty place the region's replica, and fill it from the sources; one that was begun is gone on with.

    With a key that signs, what it says of itself is signed.

    Raises ``StoreError``, and ``Refused`` (``vault_exists``) where something else is there.
    """
    if region in regions.empty:
        source = regions.places[sources[0]]
        empty = regions.empty[region]
        make_replica(source, empty, progress, regions.places.values(), key_file=key_file)
    return replicate(regions, sources, [region], clock, pace=pace, progress=progress)


def make_points_count(
    vault: Vault, sources: Sequence[str], targets: Sequence[str], progress: Progress | None = None
) -> dict[str, MadeUp]:
    """Commit in each target the points that it missed, and sign there the records that it lacks. Raises ``StoreError``.

    Points take a writer's key, records an operator's; without one, nothing is done about them.
    """
    heads = {region: head for region, r in vault.replicas.items() if (head := r.head()) is not None}
    found = {}
    for target in targets:
        made = MadeUp()
        for source in sources:
            if source == target or not {source, target} <= vault.replicas.keys():
                continue
            if not vault.replicas[target].keyring.can(Role.WRITER):
                continue
            missed = missed_points(vault.replicas[source], vault.replicas[target])
            if missed:
                catch_up(vault.replicas[source], vault.replicas[target], progress)
                more = commit_points(vault.replicas[target], missed, heads)
                made = MadeUp((*made.committed, *more.committed), (*made.lacking, *more.lacking))
        found[target] = made
    asked = [
        vault.replicas[region] for region in dict.fromkeys([*sources, *targets]) if region in vault.replicas
    ]
    records = make_up_records(asked, found)
    return {region: replace(made, records=records.get(region, 0)) for region, made in found.items()}
