"""The components of a manifest, as the flows need them: connectors, places, parts and orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refloat import registry
from refloat.contracts import Connector, Instance, Place, Spec
from refloat.errors import plug_in
from refloat.manifest import graph, resolve
from refloat.manifest.model import Manifest


class Components:
    """Every component of a manifest, resolved for a region only when it is asked for."""

    def __init__(self, manifest: Manifest, resolver: resolve.Resolver) -> None:
        self.manifest = manifest
        self.resolver = resolver

    @property
    def names(self) -> list[str]:
        """Every component, in the manifest's order."""
        return list(self.manifest.components)

    def connector(self, name: str) -> Connector:
        """The connector of a component. Raises ``UsageError`` for a kind that is not installed."""
        return registry.connector(self.manifest.components[name].kind)

    def parts(self, name: str) -> dict[str, Connector]:
        """The connectors that a component is made of, by role."""
        return {role: registry.connector(kind) for role, kind in self.connector(name).spec.parts.items()}

    def specs(self) -> dict[str, Spec]:
        """The spec of every kind in use."""
        kinds = {component.kind for component in self.manifest.components.values()}
        return {kind: registry.connector(kind).spec for kind in kinds}

    @property
    def run_something(self) -> bool:
        """Whether one of them is a program that runs, such as an endpoint, and not only what is kept."""
        return any(spec.runnable for spec in self.specs().values())

    def deadline_s(self, name: str) -> float:
        """How long one call for a component may take."""
        return self.manifest.components[name].deadline or self.connector(name).spec.deadline_s

    def place(self, name: str, region: str, *, source: str | None = None, staged: str = "") -> Place:
        """Where a component lives in a region; ``staged`` is the token of a staged instance.

        ``source`` is the region that the component's snapshot comes from, whose addresses are rewritten.
        Raises ``ManifestError`` for settings that do not fit the connector or do not resolve.
        """
        moved = source is not None and source != region
        schema = self.connector(name).spec.settings
        with plug_in(f"reading the settings of {name}", component=name, region=region):
            settings = self.resolver.settings(self.manifest, name, region, schema)
        return Place(
            component=name,
            region=region,
            settings=settings,
            instance=Instance.STAGED if staged else Instance.LIVE,
            token=staged,
            addresses=self.resolver.addresses(self.manifest, source, region) if moved and source else {},
        )

    def capture_order(self, members: Sequence[str]) -> list[str]:
        """Members with what points before what it points to."""
        return graph.capture_order(self.manifest, self._refers_to(), members)

    def units(self) -> list[list[str]]:
        """The units of capture, each in capture order; units that are pointed to come last."""
        rank = {name: place for place, name in enumerate(self.capture_order(self.names))}
        units = [self.capture_order(unit) for unit in graph.units(self.manifest)]
        return sorted(units, key=lambda unit: min(rank[name] for name in unit))

    def _refers_to(self) -> Mapping[str, tuple[str, ...]]:
        return {kind: spec.refers_to for kind, spec in self.specs().items()}
