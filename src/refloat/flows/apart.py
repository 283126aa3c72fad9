"""Whether the places of a pipeline lie apart: a copy that lies in what it is a copy of, or in another, is none.

Places on disk are told by where they really are, whatever links and dots they are spelled with; buckets by server,
name and prefix.
"""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from refloat.contracts import Sited
from refloat.errors import RefloatError, plug_in
from refloat.flows.components import Components
from refloat.manifest.address import access_of
from refloat.manifest.document import Path as ManifestPath
from refloat.manifest.parse import Mistake, refused
from refloat.vault.stores import OBJECT_SCHEMES, open_store
from refloat.vault.stores.local import LocalStore

OWN = "give each region a `vault` of its own: what is in one place is one copy"
APART = "move one of the two, so that neither lies in the other"
OWN_PLACE = "give {region} a place of its own: `at: {{{region}: …}}` below {component}"
ELSEWHERE = "where {region} is another machine, say so: `domain: {{site: …}}` of both regions"


@dataclass(frozen=True)
class Spot:
    """Something that lies somewhere: as people call it, where the manifest says so, and where that is.

    ``steps`` lead there: one spot lies in another where its steps begin with those. ``component`` and ``region`` are
    of a component.
    """

    what: str
    said_at: ManifestPath
    where: str
    steps: tuple[str, ...]
    component: str = ""
    region: str = ""

    def holds(self, other: Spot) -> bool:
        """Whether the other one lies in this one, or in the same place."""
        return other.steps[: len(self.steps)] == self.steps


def overlaps(components: Components, state: Path | None = None) -> list[Mistake]:
    """What is wrong with where vaults, components and this machine's folder ``state`` lie, as far as it can be told.

    A region or a component whose settings do not resolve here is passed over: whoever needs it says so.
    """
    vaults = list(_vaults(components))
    live = list(_components(components, list(components.manifest.regions)))
    found = [
        *itertools.chain.from_iterable(_of_two(*pair) for pair in itertools.combinations(vaults, 2)),
        *itertools.chain.from_iterable(_of_two(*pair) for pair in itertools.product(vaults, live)),
    ]
    kept = _on_disk("what this machine keeps", (), state) if state else None
    found += [_inside(vault, kept) for vault in vaults if kept and vault.holds(kept)]
    return list({mistake.path: mistake for mistake in reversed(found)}.values())


def require_apart(
    components: Components, content: bytes, file: Path | str, state: Path | None = None
) -> None:
    """Raises ``ManifestError``, at its line in the manifest's ``content``, where two places do not lie apart."""
    if found := overlaps(components, state):
        raise refused(found, content, file=str(file))


def in_one_place(components: Components) -> list[Mistake]:
    """The components that have one place in two regions, or lie in what another has in another region.

    Recovered into the one, they would take the place of what is live in the other. Regions that ``domain`` tells apart
    are machines of their own, on which one path is two places.
    """
    found: dict[ManifestPath, Mistake] = {}
    regions = components.manifest.regions
    for inner, outer in _shared(components, regions):
        region = max(inner.region, outer.region, key=lambda name: (name != components.manifest.primary, name))
        component = inner.component if region == inner.region else outer.component
        if inner.steps == outer.steps and inner.component == outer.component:
            both = " and ".join(name for name in regions if name in (inner.region, outer.region))
            message = f"{component} has one place in {both}: {inner.where}"
        else:
            message = _lying(inner, outer)
        own = OWN_PLACE.format(region=region, component=component)
        hint = f"{own}; {ELSEWHERE.format(region=region)}"
        found.setdefault(inner.said_at, Mistake(inner.said_at, message, hint))
    return list(found.values())


def lived_in(components: Components, region: str, homes: Collection[str]) -> dict[str, str]:
    """The components whose place in ``region`` has something live of one of the regions ``homes``: which of them."""
    found: dict[str, str] = {}
    for inner, outer in _shared(components, [region, *homes]):
        for mine, theirs in ((inner, outer), (outer, inner)):
            if mine.region == region and theirs.region in homes:
                found.setdefault(mine.component, theirs.region)
    return found


def _shared(components: Components, regions: Collection[str]) -> Iterator[tuple[Spot, Spot]]:
    """Components of two regions of one machine, the first of which lies in the second, or where that does."""
    known = components.manifest.regions
    spots = list(_components(components, list(dict.fromkeys(regions))))
    at: dict[tuple[str, ...], list[Spot]] = defaultdict(list)
    for spot in spots:
        at[spot.steps].append(spot)
    for inner in spots:
        for length in range(1, len(inner.steps) + 1):
            for outer in at.get(inner.steps[:length], ()):
                if outer.region != inner.region and not known[inner.region].domain.is_elsewhere(
                    known[outer.region].domain
                ):
                    yield inner, outer


def _of_two(one: Spot, other: Spot) -> Iterator[Mistake]:
    if one.steps == other.steps and one.said_at[0] == other.said_at[0]:
        both = f"the regions {one.said_at[1]} and {other.said_at[1]} have one place"
        yield Mistake(other.said_at, f"{both}: {one.where}", OWN)
    elif one.holds(other) or other.holds(one):
        yield _inside(*sorted((one, other), key=lambda spot: len(spot.steps)))


def _inside(outer: Spot, inner: Spot) -> Mistake:
    return Mistake(inner.said_at or outer.said_at, _lying(inner, outer), APART)


def _lying(inner: Spot, outer: Spot) -> str:
    return f"{inner.what} ({inner.where}) lies in {outer.what} ({outer.where})"


def _vaults(components: Components) -> Iterator[Spot]:
    for region in components.manifest.regions:
        with suppress(RefloatError):
            url = components.resolver.vault(components.manifest, region)
            yield _vault(f"the vault of {region}", ("regions", region, "vault"), url)


def _vault(what: str, said_at: ManifestPath, url: str) -> Spot:
    scheme = url.partition("://")[0]
    if scheme in OBJECT_SCHEMES:
        parts, access = urlsplit(str(url)), access_of(url)
        prefix = [step for step in parts.path.split("/") if step]
        return Spot(what, said_at, str(url), (scheme, access.endpoint, access.account, parts.netloc, *prefix))
    store = open_store(url)
    return (
        _on_disk(what, said_at, store.root)
        if isinstance(store, LocalStore)
        else Spot(what, said_at, url, (url,))
    )


def _components(components: Components, regions: Sequence[str]) -> Iterator[Spot]:
    for name, region in itertools.product(components.names, regions):
        with suppress(RefloatError), plug_in(f"asking where {name} lies", component=name):
            connector = components.connector(name)
            sites: Mapping[str, Path] = {}
            if isinstance(connector, Sited):
                sites = connector.sites(components.place(name, region))
            for path in sites.values():
                spot = _on_disk(f"{name} in {region}", ("components", name, "with"), path)
                yield replace(spot, component=name, region=region)


def _on_disk(what: str, said_at: ManifestPath, path: Path) -> Spot:
    real = os.path.realpath(path)
    return Spot(what, said_at, real, ("file", *Path(real).parts))
