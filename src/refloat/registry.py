"""Plug-ins by name, found through entry points; the built-in ones come through the same door."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points, version
from typing import cast

from refloat.contracts import Connector, Probe
from refloat.errors import UsageError, plug_in

CONNECTORS = "refloat.connectors"
PROBES = "refloat.probes"


@functools.cache
def _group(group: str) -> Mapping[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


@functools.cache
def refloat_version() -> str:
    """The version of refloat that is installed; looked for once, since it takes as long as a small recovery's step."""
    return version("refloat")


def names(group: str) -> list[str]:
    """The names that are installed in a group, sorted."""
    return sorted(_group(group))


def _load(group: str, noun: str, name: str) -> object:
    point = _group(group).get(name)
    if point is None:
        near = difflib.get_close_matches(name, _group(group), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"installed: {', '.join(names(group))}"
        raise UsageError(f"no {noun} is called {name!r}", next=hint)
    with plug_in(f"loading the {noun} {name!r}"):
        try:
            return point.load()
        except ImportError as error:
            raise UsageError(
                f"the {noun} {name!r} needs a package that is not installed: {error.name or error}",
                next="install it into the environment that refloat runs in",
            ) from error


@functools.cache
def connector(kind: str) -> Connector:
    """The connector of a kind. Raises ``UsageError`` for one that is not installed, ``ConnectorError`` for a defect."""
    make = cast("type[Connector]", _load(CONNECTORS, "connector", kind))
    with plug_in(f"loading the connector {kind!r}"):
        return make()


def probe(kind: str) -> type[Probe]:
    """The class of a probe. Raises as ``connector``."""
    return cast("type[Probe]", _load(PROBES, "probe", kind))
