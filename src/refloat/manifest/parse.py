"""``refloat.yaml`` to a manifest: every mistake with its line and column, and the nearest right word."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from refloat.digest import Json
from refloat.errors import ManifestError
from refloat.manifest import graph
from refloat.manifest.document import CORRECT, Document, Path, Spot, nearest, read_document, shortened
from refloat.manifest.model import REFERENCE, VERSION, Manifest, Verification

KNOWN_SHOWN_MAX = 20  # names that are listed where none is near
MISTAKES_MAX = 20  # as many as one reads before correcting the first
EXPRESSION_LENGTH_MAX = 1_000  # characters; one of 100,000 overflows the stack of the library that parses it
EXPRESSIONS_LENGTH_MAX = 100_000  # characters, all of them together; half a second of parsing at worst
DURATION_S_MAX = 1000 * 365 * 86400.0  # a thousand years; what is longer cannot be added to a date

# https://github.com/google/cel-spec/blob/master/doc/langdef.md, production IDENT
CEL_RESERVED = frozenset(
    [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)

_WANTED = {
    "tuple_type": "a list",
    "dict_type": "a mapping of keys to values",
    "mapping_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
}

EXPRESSION_ADVICE = "write it in CEL, for example: registry.version == index.version"

_NAMED = re.compile(r"(?<![\w.\"'])([a-z][a-z0-9_]*)\s*[.\[]")
_MACRO_VARIABLE = re.compile(r"\(\s*([a-z][a-z0-9_]*)\s*,")

Syntax = Callable[[str], str | None]
"""What is wrong with an expression's syntax; None where nothing is."""


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong, and where."""

    path: Path
    message: str
    next: str | None = None
    key: bool = False
    known: Collection[str] = ()
    """What the last step of ``path``, or ``word``, could have meant."""
    word: str = ""

    @property
    def advice(self) -> str | None:
        """What to do. The nearest known word is looked for only here, since thousands may be wrong."""
        if not self.known:
            return self.next
        return (
            nearest(self.word, self.known)
            or f"known: {', '.join(itertools.islice(self.known, KNOWN_SHOWN_MAX))}"
        )


Asked = Callable[[Verification], Iterable[Mistake]]
"""What is wrong with how a component is verified, at paths that start at its entry of ``verify``."""


def parse(
    content: bytes, *, file: str = "refloat.yaml", syntax: Syntax | None = None, asked: Asked | None = None
) -> Manifest:
    """The manifest that ``content`` is.

    ``syntax`` judges each group's expressions, ``asked`` each component's verification. Raises ``ManifestError`` that
    names every mistake found, with the line and column of the first.
    """
    document = read_document(content, file=file)
    if not isinstance(document.value, Mapping):
        start = Mistake((), "the manifest must be a mapping of keys to values", "start with `version: 1`")
        raise _error([start], document, file)
    _require_known_version(document, file)
    try:
        manifest = Manifest.model_validate(document.value)
    except ValidationError as error:
        raise _error([*_invalid(error, document), *_field_names(document.value)], document, file) from None
    mistakes = [
        *_field_names(document.value),
        *_contradictions(manifest, syntax),
        *_unmeasurable(manifest, asked),
    ]
    if mistakes:
        raise _error(mistakes, document, file)
    return manifest


def _require_known_version(document: Document, file: str) -> None:
    """Of a manifest that a newer refloat wrote, nothing else can be judged."""
    assert isinstance(document.value, Mapping)  # the caller has looked
    version = document.value.get("version")
    if isinstance(version, int) and version > VERSION:
        words = f"version {version} is of a newer refloat; this one reads version {VERSION}"
        raise _error(
            [Mistake(("version",), words, "install a newer refloat: pip install --upgrade refloat")],
            document,
            file,
        )


def spots(content: bytes, *, file: str = "refloat.yaml") -> Callable[[Path], Spot]:
    """Where things stand in a manifest that ``parse`` accepts: a path's line and column."""
    return read_document(content, file=file).spot


def refused(mistakes: Iterable[Mistake], content: bytes, *, file: str) -> ManifestError:
    """One error for all mistakes, at least one, in a manifest that ``parse`` accepts."""
    return _error(mistakes, read_document(content, file=file), file)


# ------------------------------------------------------------------------------------------------ messages


def _error(mistakes: Iterable[Mistake], document: Document, file: str) -> ManifestError:
    """All mistakes in one error, in the order of the file."""
    placed = [(document.spot(mistake.path, key=mistake.key), mistake) for mistake in mistakes]
    found = sorted(placed, key=lambda item: (item[0].line, item[0].column))
    spot, first = found[0]
    if len(found) == 1:
        return ManifestError(
            _said(first), line=spot.line, column=spot.column, file=file, next=first.advice or CORRECT
        )
    return ManifestError(
        "\n".join([f"{len(found)} mistakes", *_lines(found)]),
        line=spot.line,
        column=spot.column,
        file=file,
        next="correct them, then run: refloat check",
    )


def _lines(found: Sequence[tuple[Spot, Mistake]]) -> Iterator[str]:
    for spot, mistake in found[:MISTAKES_MAX]:
        advice = mistake.advice
        aside = f" ({shortened(advice)})" if advice else ""
        yield f"  {spot.line}:{spot.column}  {_said(mistake)}{aside}"
    if len(found) > MISTAKES_MAX:
        yield f"  … and {len(found) - MISTAKES_MAX} more"


def _said(mistake: Mistake) -> str:
    message = shortened(mistake.message)
    return f"{dotted(mistake.path)}: {message}" if mistake.path else message


def dotted(path: Path) -> str:
    """A path as people write it: ``components.index.needs[0]``."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part[:80]}" for part in path]
    return "".join(parts).removeprefix(".")


# ------------------------------------------------------------------------------------- what pydantic refuses


def _invalid(error: ValidationError, document: Document) -> Iterable[Mistake]:
    """One mistake for each complaint; where pydantic tried several types for a value, that of the last."""
    found: dict[tuple[Path, str], Mistake] = {}
    for detail in error.errors(include_url=False):
        path, kind = _known_part(detail["loc"], document), detail["type"]
        in_key = "[key]" in detail["loc"]
        if kind == "missing":
            mistake = Mistake(path, f"`{detail['loc'][-1]}` is missing", key=True)
        elif kind == "extra_forbidden":
            mistake = _unknown_key(path)
        else:
            words, hint = complaint(detail)
            mistake = Mistake(path, words, hint, key=in_key)
        tried = len(path) < len(detail["loc"]) and kind != "missing" and not in_key
        found[path, "" if tried else mistake.message] = mistake
    return found.values()


def _known_part(location: tuple[int | str, ...], document: Document) -> Path:
    """The steps of pydantic's location that are in the document; it also names types that it tried."""
    path: Path = ()
    for step in location:
        if (*path, step) in document.values:
            path = (*path, step)
    return path


def _unknown_key(path: Path) -> Mistake:
    known = _fields(path[:-1])
    word = str(path[-1])
    return Mistake(path, f"unknown key {word[:80]!r}", key=True, known=known, word=word)


def complaint(detail: ErrorDetails) -> tuple[str, str | None]:
    """What to say of one value that pydantic refused, and what to do."""
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "string_pattern_mismatch" and context["pattern"] == REFERENCE:
        return "is a secret, and the manifest is stored with every point", "write ${env:NAME} or ${file:path}"
    if kind == "string_pattern_mismatch" and "://" in context["pattern"]:
        return "is no address without credentials", "write https://HOST:PORT, or ${env:NAME}"
    if kind == "string_pattern_mismatch":
        return f"{given!r} is not a name", "use lower-case letters, digits and _, starting with a letter"
    if kind in ("enum", "literal_error"):
        known = re.findall(r"'([^']*)'", str(context["expected"]))
        return f"{given!r} is none of {context['expected']}", nearest(str(given), known)
    if kind in ("too_short", "too_long"):
        bound = "least" if kind == "too_short" else "most"
        count = context["min_length" if kind == "too_short" else "max_length"]
        return f"needs at {bound} {count} {'entry' if count == 1 else 'entries'}", None
    if kind in _WANTED:
        return f"must be {_WANTED[kind]}, not {_kind_of(given)}", _hint_for(kind, given)
    return _in_lower_case(str(context.get("error", detail["msg"].removeprefix("Input ")))), None


def _kind_of(given: object) -> str:
    if given is None:
        return "empty"
    if isinstance(given, Mapping):
        return "a mapping"
    return "a list" if isinstance(given, list) else repr(given)[:80]


def _hint_for(kind: str, given: object) -> str | None:
    if kind == "string_type" and isinstance(given, bool | int | float):
        return f'write it in quotes: "{given}"'
    if kind == "string_type" and isinstance(given, Mapping):
        return "put the text in quotes; `: ` and `{` mean something to YAML"
    if kind == "tuple_type" and isinstance(given, str):
        return f"write [{given[:80]}]"
    return None


def _in_lower_case(text: str) -> str:
    return text[:1].lower() + text[1:] if not text[:2].isupper() else text


def _field_names(value: Mapping[str, Json]) -> Iterator[Mistake]:
    """``with_`` is what Python calls ``with``; a manifest may not."""
    components = value.get("components")
    for name, component in components.items() if isinstance(components, Mapping) else ():
        profiles = component.get("profiles") if isinstance(component, Mapping) else None
        if isinstance(component, Mapping) and "with_" in component:
            yield _unknown_key(("components", name, "with_"))
        for profile, settings in profiles.items() if isinstance(profiles, Mapping) else ():
            if isinstance(settings, Mapping) and "with_" in settings:
                yield _unknown_key(("components", name, "profiles", profile, "with_"))


def _fields(path: Path) -> list[str]:
    """The keys that the model knows at ``path``; none where any key will do."""
    here: object = Manifest
    for step in path:
        here = _below(here, str(step))
    model = _model_in(here)
    return [] if model is None else [field.alias or name for name, field in model.model_fields.items()]


def _below(annotation: object, step: str) -> object:
    model = _model_in(annotation)
    if model is None:
        return get_args(annotation)[-1] if get_args(annotation) else None
    by_key = {field.alias or name: field for name, field in model.model_fields.items()}
    return by_key[step].annotation if step in by_key else None


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return next((model for part in get_args(annotation) if (model := _model_in(part))), None)
    return None


# ---------------------------------------------------------------------------------- what contradicts itself


def _contradictions(manifest: Manifest, syntax: Syntax | None) -> Iterator[Mistake]:
    yield from _reserved(manifest)
    yield from _unknown_names(manifest)
    yield from _circles(manifest)
    yield from _endless(manifest)
    yield from _addresses(manifest)
    yield from _expressions(manifest, syntax)


def _reserved(manifest: Manifest) -> Iterator[Mistake]:
    for name in manifest.components:
        if name in CEL_RESERVED:
            yield Mistake(
                ("components", name),
                f"{name!r} means something else in an expression",
                "call it otherwise",
                key=True,
            )


def _unknown_names(manifest: Manifest) -> Iterator[Mistake]:
    components, regions = manifest.components, manifest.regions
    yield from _stranger(("primary",), manifest.primary, "region", regions)
    for name, component in components.items():
        for key in ("needs", "refers_to"):
            yield from _strangers(("components", name, key), getattr(component, key), "component", components)
        yield from _strangers(("components", name, "at"), component.at, "region", regions)
    for name, group in manifest.groups.items():
        yield from _strangers(("groups", name, "members"), group.members, "component", components)
        yield from _twice(("groups", name, "members"), group.members)
    yield from _strangers(("verify",), manifest.verify, "component", components)
    for name, sandbox in manifest.sandboxes.items():
        yield from _strangers(("sandboxes", name, "at"), sandbox.at, "component", components)
        if sandbox.replica is not None:
            yield from _stranger(("sandboxes", name, "replica"), sandbox.replica, "region", regions)
        if name in regions:
            words = f"a region is called {name!r} too, and a sandbox is none"
            yield Mistake(("sandboxes", name), words, "call it otherwise", key=True)
    for name, person in manifest.people.items():
        if person.deputy is not None:
            yield from _stranger(("people", name, "deputy"), person.deputy, "person", manifest.people)


def _strangers(path: Path, names: Iterable[str], noun: str, known: Collection[str]) -> Iterator[Mistake]:
    """The names in a list, or the keys of a mapping, that nothing is called."""
    in_mapping = isinstance(names, Mapping)
    for position, name in enumerate(names):
        yield from _stranger((*path, name if in_mapping else position), name, noun, known, key=in_mapping)


def _stranger(
    path: Path, name: str, noun: str, known: Collection[str], *, key: bool = False
) -> Iterator[Mistake]:
    if name not in known:
        yield Mistake(path, f"no {noun} is called {name!r}", key=key, known=known, word=name)


def _twice(path: Path, names: Sequence[str]) -> Iterator[Mistake]:
    seen = set[str]()
    for position, name in enumerate(names):
        if name in seen:
            yield Mistake((*path, position), f"{name!r} stands twice", "keep one of them")
        seen.add(name)


def _circles(manifest: Manifest) -> Iterator[Mistake]:
    for key in ("needs", "refers_to"):
        edges = {name: getattr(component, key) for name, component in manifest.components.items()}
        circle = graph.cycle_in(edges)
        if circle:
            verb = "needs" if key == "needs" else "refers to"
            yield Mistake(
                ("components", circle[0], key),
                f"goes in a circle: {f' {verb} '.join(circle)}",
                "remove one of these references",
            )


def _endless(manifest: Manifest) -> Iterator[Mistake]:
    for path, seconds in _durations(manifest):
        if seconds is not None and seconds > DURATION_S_MAX:
            yield Mistake(path, "is longer than a thousand years", "write what is meant: 90s, 5m, 2h, 7d")


def _durations(manifest: Manifest) -> Iterator[tuple[Path, float | None]]:
    for tier, change in manifest.tiers.items():
        for key in ("rto", "rpo", "every"):
            yield ("tiers", str(tier), key), getattr(change, key)
    for name, component in manifest.components.items():
        yield ("components", name, "protect", "every"), component.protect.every
        yield ("components", name, "deadline"), component.deadline
        yield ("components", name, "hold"), component.hold
    for name, group in manifest.groups.items():
        yield ("groups", name, "skew"), group.skew
    yield ("notify", "remind"), manifest.notify.remind


def _unmeasurable(manifest: Manifest, asked: Asked | None) -> Iterator[Mistake]:
    for name, verification in manifest.verify.items() if asked else ():
        for mistake in asked(verification) if asked else ():
            yield replace(mistake, path=("verify", name, *mistake.path))


def _addresses(manifest: Manifest) -> Iterator[Mistake]:
    for name, region in manifest.regions.items():
        _, separator, rest = region.vault.partition("://")
        if not region.vault:
            yield Mistake(
                ("regions", name, "vault"), "is empty", "write a path, or an address: s3://bucket/prefix"
            )
        elif separator and ("@" in rest.partition("/")[0] or "?" in rest):
            words = "an address holds no credentials: the manifest is stored with every point"
            yield Mistake(
                ("regions", name, "vault"),
                words,
                "give them by reference in `store`, or in the environment (AWS_ACCESS_KEY_ID and the like)",
            )


def _expressions(manifest: Manifest, syntax: Syntax | None) -> Iterator[Mistake]:
    left = EXPRESSIONS_LENGTH_MAX
    for name, group in manifest.groups.items():
        for position, expression in enumerate(group.must):
            left -= len(expression)
            path: Path = ("groups", name, "must", position)
            if left < 0:
                words = f"the expressions have more than {EXPRESSIONS_LENGTH_MAX} characters together"
                yield Mistake(path, words, "keep those that matter")
                return
            yield from _expression(path, expression, manifest, group.members, syntax)


def _expression(
    path: Path, expression: str, manifest: Manifest, members: Collection[str], syntax: Syntax | None
) -> Iterator[Mistake]:
    if len(expression) > EXPRESSION_LENGTH_MAX:
        words = f"an expression has at most {EXPRESSION_LENGTH_MAX} characters"
        yield Mistake(path, words, "write several: each of them must hold")
        return
    wrong = None if syntax is None else syntax(expression)
    if wrong:
        yield Mistake(path, f"is not an expression: {wrong}", EXPRESSION_ADVICE)
    for outside in _outside(expression, manifest, members):
        words = f"speaks of {outside!r}, which is no member of group {path[1]!r}"
        yield Mistake(path, words, f"add {outside} to `members`")


def _outside(expression: str, manifest: Manifest, members: Collection[str]) -> list[str]:
    """Components outside a group whose facts an expression names; a macro's own variable is none."""
    named = dict.fromkeys(_NAMED.findall(expression))
    own = set(_MACRO_VARIABLE.findall(expression))
    return [name for name in named if name in manifest.components and name not in members and name not in own]
