"""Late values: what ``${env:NAME}``, ``${file:path}`` and ``${region.port}`` stand for in one region."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, overload

from pydantic import BaseModel, ValidationError

from refloat.digest import Json
from refloat.errors import ManifestError
from refloat.manifest.address import Access, Address
from refloat.manifest.document import Path, nearest, shortened
from refloat.manifest.model import Manifest
from refloat.manifest.parse import dotted

SECRET_LENGTH_MIN = 4  # a shorter value is no secret, and hiding it would garble every line
RESOLVED_LENGTH_MAX = 1024 * 1024  # characters; references to references can grow without this

# `$${` is a literal `${`; a `${` without its end is caught as a reference that has none.
_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_FORMS = ("env:NAME", "file:path", "region", "region.NAME", "pipeline")

S = TypeVar("S", bound=BaseModel)


def redact(text: str, secrets: Iterable[str]) -> str:
    """``text`` with every secret replaced by ``***``; the longest first, so that none shows in part."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SECRET_LENGTH_MIN:
            text = text.replace(secret, "***")
    return text


@dataclass(frozen=True)
class _Scope:
    """What a text is resolved for, and the references that led to it.

    ``known`` keeps what each variable came to, so that variables that repeat each other cost nothing.
    """

    manifest: Manifest
    region: str
    path: Path = ()
    through: tuple[str, ...] = ()
    known: dict[str, str] = field(default_factory=dict)

    def below(self, step: str | int) -> _Scope:
        """The same for what stands there under a key or at a position."""
        return replace(self, path=(*self.path, step))

    def wrong(self, message: str, next: str) -> ManifestError:
        """What is wrong with it."""
        place = dotted(self.path) or "the manifest"
        return ManifestError(f"{place}: {message}", path=self.path, next=next)


class Resolver:
    """Resolves the references of a manifest against an environment and files.

    ``read_file`` returns a file's text or raises ``OSError``; what it and ``env`` gave is kept as secret.
    """

    def __init__(self, env: Mapping[str, str], read_file: Callable[[str], str]) -> None:
        self._env = env
        self._read_file = read_file
        self._secrets: set[str] = set()

    @property
    def secrets(self) -> frozenset[str]:
        """Every value that came from the environment or a file, so far."""
        return frozenset(self._secrets)

    def settings(self, manifest: Manifest, component: str, region: str, schema: type[S]) -> S:
        """A component's settings in a region: ``with``, changed by what ``at`` says of the region.

        Mappings are merged, lists replaced. Raises ``ManifestError`` for references that lead nowhere and
        for settings that the connector's ``schema`` refuses.
        """
        asked = manifest.components[component]
        merged = _merged(asked.with_, asked.at.get(region, {}))
        resolved = self._json(merged, _Scope(manifest, region, ("components", component, "with")))
        try:
            return schema.model_validate(resolved)
        except ValidationError as error:
            raise self._unfit(error, component, region, schema) from None

    @overload
    def value(self, value: str, manifest: Manifest, region: str, path: Path = ()) -> str: ...
    @overload
    def value(self, value: Json, manifest: Manifest, region: str, path: Path = ()) -> Json: ...
    def value(self, value: Json, manifest: Manifest, region: str, path: Path = ()) -> Json:
        """Any text or JSON of the manifest, resolved for a region. Raises ``ManifestError``; ``path`` is its place."""
        return self._json(value, _Scope(manifest, region, path))

    def vault(self, manifest: Manifest, region: str) -> str:
        """The address of a region's replica, which knows how its store is reached. Raises ``ManifestError``."""
        asked = manifest.regions[region]
        url = self._text(asked.vault, _Scope(manifest, region, ("regions", region, "vault")))
        if asked.store is None:
            return url
        scope = _Scope(manifest, region, ("regions", region, "store"))
        found: dict[str, Any] = {
            key: self._text(value, scope.below(key)) if isinstance(value, str) else value
            for key, value in asked.store.model_dump().items()
        }
        return Address(url, Access(**found))

    def addresses(self, manifest: Manifest, source: str, target: str) -> dict[str, str]:
        """Each address of ``source`` with its counterpart in ``target``, longest first.

        Addresses that are equal are left out. Raises ``ManifestError`` where ``target`` lacks one.
        """
        theirs, ours = manifest.regions[source].addresses, manifest.regions[target].addresses
        lacking = [name for name in theirs if name not in ours]
        if lacking:
            raise ManifestError(
                f"regions.{target}.addresses: no counterpart to {', '.join(lacking)} of {source}",
                next="give the address that takes its place, or the same one if both regions share it",
            )
        pairs = {
            self._address(manifest, source, name): self._address(manifest, target, name) for name in theirs
        }
        return {old: new for old, new in sorted(pairs.items(), key=lambda pair: -len(pair[0])) if old != new}

    def missing(self, manifest: Manifest, regions: Iterable[str]) -> list[str]:
        """Every ``env:NAME`` and ``file:path`` that ``regions`` need and that is not there, once each."""
        found = (
            reference
            for region in regions
            for path, value in _values(manifest, region)
            for reference in self._outside(value, _Scope(manifest, region, path))
        )
        return [reference for reference in dict.fromkeys(found) if self._fetched(reference) is None]

    def lacking(self, value: Json, manifest: Manifest, region: str) -> list[str]:
        """Every ``env:NAME`` and ``file:path`` that one value needs in a region and that is not there, once each."""
        found = dict.fromkeys(self._outside(value, _Scope(manifest, region)))
        return [reference for reference in found if self._fetched(reference) is None]

    def require(self, manifest: Manifest, regions: Iterable[str]) -> None:
        """Raise one ``ManifestError`` that lists all that is ``missing``."""
        lacking = self.missing(manifest, regions)
        if lacking:
            raise _lacking(lacking)

    # -------------------------------------------------------------------------------------- one reference

    def _json(self, value: Json, scope: _Scope) -> Json:
        if isinstance(value, str):
            return self._text(value, scope)
        if isinstance(value, Mapping):
            return {key: self._json(below, scope.below(key)) for key, below in value.items()}
        if isinstance(value, Sequence):
            return [self._json(below, scope.below(position)) for position, below in enumerate(value)]
        return value

    def _text(self, text: str, scope: _Scope) -> str:
        resolved = _REFERENCE.sub(lambda match: self._replacement(match, scope), text)
        if len(resolved) > RESOLVED_LENGTH_MAX:
            words = f"resolves to more than {RESOLVED_LENGTH_MAX} characters"
            raise scope.wrong(words, "shorten the variables that it refers to")
        return resolved

    def _replacement(self, match: re.Match[str], scope: _Scope) -> str:
        if match[0] == "$${":
            return "${"
        if match[1] is None:
            raise scope.wrong("a `${` has no `}`", "write $${ for a literal ${")
        return self._referred(match[1].strip(), scope)

    def _referred(self, reference: str, scope: _Scope) -> str:
        if reference.startswith(("env:", "file:")):
            return self._secret(reference)
        if reference == "region":
            return scope.region
        if reference == "pipeline":
            return scope.manifest.pipeline
        if reference.startswith("region."):
            if reference not in scope.known:
                scope.known[reference] = self._text(*_of_region(reference, scope))
            return scope.known[reference]
        hint = nearest(reference, _FORMS) or f"known: {', '.join(f'${{{form}}}' for form in _FORMS)}"
        raise scope.wrong(f"nothing is called ${{{shortened(reference)}}}", hint)

    def _secret(self, reference: str) -> str:
        found = self._fetched(reference)
        if found is None:
            raise _lacking([reference])
        if found:
            self._secrets.add(found)
        return found

    def _fetched(self, reference: str) -> str | None:
        kind, _, name = reference.partition(":")
        if kind == "env":
            return self._env.get(name)
        try:
            return self._read_file(name).removesuffix("\n")
        except (OSError, UnicodeDecodeError):
            return None

    def _outside(self, value: Json, scope: _Scope) -> Iterator[str]:
        """The references to the environment and to files that resolving ``value`` leads to."""
        if isinstance(value, str):
            for match in _REFERENCE.finditer(value):
                yield from self._outside_of_one((match[1] or "").strip(), scope)
        elif isinstance(value, Mapping):
            for key, below in value.items():
                yield from self._outside(below, scope.below(key))
        elif isinstance(value, Sequence):
            for position, below in enumerate(value):
                yield from self._outside(below, scope.below(position))

    def _outside_of_one(self, reference: str, scope: _Scope) -> Iterator[str]:
        if reference.startswith(("env:", "file:")):
            yield reference
        elif reference.startswith("region.") and reference not in scope.known:
            scope.known[reference] = "looked at"
            yield from self._outside(*_of_region(reference, scope))

    def _address(self, manifest: Manifest, region: str, name: str) -> str:
        scope = _Scope(manifest, region, ("regions", region, "addresses", name))
        return self._text(manifest.regions[region].addresses[name], scope)

    def _unfit(
        self, error: ValidationError, component: str, region: str, schema: type[BaseModel]
    ) -> ManifestError:
        """What the connector refuses of a component's settings; the next step is that of the first."""
        details = error.errors(include_url=False, include_input=False)
        lines = [
            _refusal(component, region, detail["loc"], detail["type"], detail["msg"]) for detail in details
        ]
        first = str(details[0]["loc"][-1]) if details[0]["loc"] else ""
        known = [field.alias or name for name, field in schema.model_fields.items()]
        hint = nearest(first, known) if details[0]["type"] == "extra_forbidden" else None
        return ManifestError(
            redact("; ".join(lines), self._secrets), next=hint or f"this kind takes: {', '.join(known)}"
        )


def _refusal(component: str, region: str, location: tuple[int | str, ...], kind: str, message: str) -> str:
    where = ".".join(["components", component, "with", *map(str, location)])
    said = {"missing": "is missing", "extra_forbidden": "is not known"}.get(
        kind, message.removeprefix("Value error, ")
    )
    return f"{where} (in {region}): {said}"


def _of_region(reference: str, scope: _Scope) -> tuple[str, _Scope]:
    """The text that ``region.NAME`` stands for, and where its own references are resolved."""
    region = scope.manifest.regions[scope.region]
    known = {**region.addresses, **region.vars}
    name = reference.removeprefix("region.")
    if name not in known:
        hint = nearest(name, known) or f"known in {scope.region}: {', '.join(known) or 'none'}"
        raise scope.wrong(f"{scope.region} has no variable or address called {shortened(name)!r}", hint)
    if reference in scope.through:
        circle = " to ".join((*scope.through[scope.through.index(reference) :], reference))
        raise ManifestError(
            f"regions.{scope.region}: references go in a circle: {circle}",
            path=("regions", scope.region),
            next="write one of these values out",
        )
    return known[name], _Scope(
        scope.manifest, scope.region, scope.path, (*scope.through, reference), scope.known
    )


def _values(manifest: Manifest, region: str) -> Iterator[tuple[Path, Json]]:
    """Everything of a manifest that is resolved when one region is worked on, and where it stands."""
    yield ("regions", region, "vault"), manifest.regions[region].vault
    for name, address in manifest.regions[region].addresses.items():
        yield ("regions", region, "addresses", name), address
    store = manifest.regions[region].store
    if store is not None:
        yield ("regions", region, "store"), store.model_dump()
    for name, component in manifest.components.items():
        yield ("components", name, "with"), _merged(component.with_, component.at.get(region, {}))
    for name, verification in manifest.verify.items():
        yield ("verify", name, "probe"), verification.probe
        yield ("verify", name, "golden"), verification.golden


def _merged(under: Mapping[str, Json], over: Mapping[str, Json]) -> dict[str, Json]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = _merged(below, value)
        merged[key] = value
    return merged


def _lacking(references: Sequence[str]) -> ManifestError:
    names = {
        kind: [ref.partition(":")[2] for ref in references if ref.startswith(kind)]
        for kind in ("env", "file")
    }
    parts = []
    if names["env"]:
        parts.append(f"environment variables that are not set: {', '.join(names['env'])}")
    if names["file"]:
        parts.append(f"files that cannot be read: {', '.join(names['file'])}")
    return ManifestError(
        "the manifest refers to " + "; ".join(parts), next="set them, or change the manifest"
    )
