"""What a sandbox would use, held against everything that lives: a trial must not touch any of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from refloat.contracts import Holding
from refloat.digest import Json
from refloat.errors import RefloatError, Refused, plug_in
from refloat.flows.components import Components
from refloat.holding import Holds, shared
from refloat.manifest.sandbox import in_sandbox

SHARED = "sandbox_shared"
"""The rule against a trial in a place that something alive uses, or may use. Nobody can override it."""
GIVE = "give the sandbox a place of its own: `vars`, `addresses` and `at` under `sandboxes` in the manifest"


@dataclass(frozen=True)
class Held:
    """Something that uses places, as people call it."""

    what: str
    holds: Holds


def alive(components: Components) -> list[Held]:
    """What every region of a manifest uses: components, probes, addresses and the vault. Raises as ``held``."""
    regions = components.manifest.regions
    found = [one for region in regions for one in held(components, region, components.names)]
    return found + [_vault(components, region) for region in regions]


def other_sandboxes(components: Components, name: str) -> list[Held]:
    """What the manifest's sandboxes use but for one. Raises as ``held``."""
    manifest = components.manifest
    found: list[Held] = []
    for other in (other for other in manifest.sandboxes if other != name):
        there = Components(in_sandbox(manifest, manifest, other), components.resolver)
        found += held(there, other, there.names)
    return found


def held(components: Components, region: str, names: Sequence[str]) -> Iterator[Held]:
    """What components use in one region, how they are asked there, and its addresses.

    Raises ``Refused`` (rule ``sandbox_shared``) where that cannot be told, since it may be anything.
    """
    manifest = components.manifest
    for name in names:
        connector = components.connector(name)
        if not isinstance(connector, Holding):
            kind = connector.spec.kind
            raise Refused(
                SHARED,
                f"a component of kind {kind} does not say what it uses, so {name} cannot be tried in a sandbox",
                component=name,
                next="try other components: --component NAME",
            )
        with _told(f"what {name} uses in {region}"), plug_in(f"asking what {name} uses", component=name):
            yield Held(f"{name} in {region}", connector.holds(components.place(name, region)))
    for name, verification in manifest.verify.items():
        with _told(f"where {name} is asked in {region}"):
            probe = components.resolver.value(verification.probe, manifest, region)
        yield Held(f"the probe of {name} in {region}", _holds(_texts(probe)))
    with _told(f"which addresses {region} has"):
        addresses = [
            components.resolver.value(address, manifest, region)
            for address in manifest.regions[region].addresses.values()
        ]
    yield Held(f"an address of {region}", _holds(addresses))


def require_apart(mine: Iterable[Held], others: Sequence[Held], sandbox: str) -> None:
    """Raises ``Refused`` (rule ``sandbox_shared``) where a sandbox would use what something else does."""
    for one in mine:
        for other in others:
            if (what := shared(one.holds, other.holds)) is not None:
                raise Refused(
                    SHARED,
                    f"{one.what} would use {what}, which is used by {other.what}; nothing was staged in {sandbox}",
                    next=GIVE,
                )


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except Refused:
        raise
    except RefloatError as error:
        raise Refused(
            SHARED,
            f"{what} cannot be told here, so whether the sandbox is apart from it is not known: {error.message}",
            next=error.next,
        ) from error


def _vault(components: Components, region: str) -> Held:
    with _told(f"where the vault of {region} lies"):
        return Held(
            f"the vault of {region}", _holds([str(components.resolver.vault(components.manifest, region))])
        )


def _texts(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, below in value.items():
            # a relative path is one as well, and nothing but its key tells
            yield from (str(Path(str(below)).absolute()),) if key == "log" and below else _texts(below)
    elif isinstance(value, Sequence):
        for below in value:
            yield from _texts(below)


def _holds(texts: Iterable[str]) -> Holds:
    """Addresses as they are, and what is none as a path; what is only a word counts for nothing."""
    known = list(texts)
    return Holds(
        urls=tuple(text for text in known if "://" in text),
        paths=tuple(Path(text) for text in known if "://" not in text and text.startswith("/")),
    )
