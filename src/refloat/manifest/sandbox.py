"""A manifest as it is in a sandbox: what a point carries, in the places and with the questions of today's."""

from __future__ import annotations

from collections.abc import Mapping

from refloat.errors import UsageError
from refloat.manifest.document import nearest
from refloat.manifest.model import Manifest, Region, Sandbox, Verification


def sandbox_of(manifest: Manifest, name: str) -> Sandbox:
    """The sandbox of that name. Raises ``UsageError`` where the manifest has none called so."""
    found = manifest.sandboxes.get(name)
    if found is None:
        known = nearest(name, manifest.sandboxes) or (
            f"its sandboxes: {', '.join(manifest.sandboxes)}"
            if manifest.sandboxes
            else "describe one under `sandboxes:`, as docs/MANIFEST.md says"
        )
        raise UsageError(f"the manifest knows no sandbox {name!r}", next=known)
    return found


def replica_of(manifest: Manifest, name: str) -> str:
    """The region whose replica a sandbox reads, and where its journals are kept. Raises as ``sandbox_of``."""
    return sandbox_of(manifest, name).replica or manifest.primary


def in_sandbox(
    carried: Manifest, today: Manifest, name: str, asked: Mapping[str, Verification] | None = None
) -> Manifest:
    """``carried`` with the sandbox of today's manifest among its regions, verified by ``asked`` or else as today's is.

    So each point is asked the same, whatever its own manifest asks. What it has not is not asked. Raises as
    ``sandbox_of``.
    """
    sandbox = sandbox_of(today, name)
    vault = today.regions[replica_of(today, name)].vault
    region = Region(vault=vault, vars=sandbox.vars, addresses=sandbox.addresses)
    components = {
        component: known.model_copy(update={"at": {**known.at, name: sandbox.at.get(component, {})}})
        for component, known in carried.components.items()
    }
    questions = today.verify if asked is None else asked
    verify = {component: how for component, how in questions.items() if component in components}
    regions = {**carried.regions, name: region}
    return carried.model_copy(update={"regions": regions, "components": components, "verify": verify})
