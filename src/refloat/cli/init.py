"""``refloat init``: write a commented starting manifest, never over an existing one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import examples, on_terminal, session_of
from refloat.durable import as_error, create_file
from refloat.errors import Refused, UsageError

if TYPE_CHECKING:
    from refloat.manifest.template import Start

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_EXAMPLES = examples(
    "refloat init",
    "refloat init --pipeline chat --region eu=s3://dr-eu/chat --region us=s3://dr-us/chat "
    "--primary eu --component models=mlflow:/srv/mlflow --component index=lancedb:/srv/index",
)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("init", epilog=_EXAMPLES)(init)


def init(
    context: typer.Context,
    pipeline: Annotated[str, typer.Option(metavar="NAME", help="The pipeline's name.")] = "",
    region: Annotated[list[str], typer.Option(metavar="NAME=VAULT", help="A region and its vault.")] = [],  # noqa: B006
    primary: Annotated[
        str, typer.Option(metavar="NAME", help="The region where it runs; the first by default.")
    ] = "",
    component: Annotated[
        list[str], typer.Option(metavar="NAME=KIND:PATH", help="A component, and where it lies.")
    ] = [],  # noqa: B006
) -> None:
    """Write a commented starting manifest; asks for what is not given when on a terminal."""
    session = session_of(context)
    _require_nothing_there(session.file)
    asking = on_terminal() and not session.console.json_mode
    pipeline = _name(_given(pipeline, "--pipeline", "Name of the pipeline", asking=asking), "pipeline")
    regions = _regions(_given_some(region, "--region", _REGION_QUESTION, asking=asking))
    primary = _name(primary or next(iter(regions)), "region")
    components = [
        _start(text) for text in _given_some(component, "--component", _COMPONENT_QUESTION, asking=asking)
    ]
    _write_new(session.file, _manifest(pipeline, regions, primary, components))
    session.console.advise(f"wrote {session.file}; read it, then: refloat check")
    session.console.emit({"file": str(session.file), "pipeline": pipeline, "regions": list(regions)})


_REGION_QUESTION = "A region and its vault, as NAME=VAULT (empty: no more)"
_COMPONENT_QUESTION = "A component, as NAME=KIND:PATH (empty: no more)"


def _manifest(pipeline: str, regions: dict[str, str], primary: str, components: list[Start]) -> bytes:
    """The text, parsed once before it is written, so that what is written can be read."""
    from refloat.manifest.parse import parse
    from refloat.manifest.template import template

    content = template(pipeline, regions, primary, components).encode("utf-8", "surrogateescape")
    parse(content, file="the manifest that would be written")
    return content


def _require_nothing_there(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise Refused(
            "manifest_exists", f"{path} exists already", next="edit it, or write another one with -f FILE"
        )


def _write_new(path: Path, content: bytes) -> None:
    try:
        create_file(path, content)
    except FileExistsError:
        _require_nothing_there(path)
    except OSError as error:
        raise UsageError(
            f"the manifest cannot be written: {error.strerror}", file=str(path), next=as_error(error).next
        ) from error


def _given(value: str, option: str, question: str, *, asking: bool) -> str:
    if value:
        return value
    if not asking:
        raise UsageError(
            f"{option} is missing", next="give it, or run on a terminal to be asked: refloat init --help"
        )
    return str(typer.prompt(question, err=True))


def _given_some(values: list[str], option: str, question: str, *, asking: bool) -> list[str]:
    if values:
        return values
    answers = [_given("", option, question, asking=asking)]
    while answer := str(typer.prompt(question, default="", show_default=False, err=True)):
        answers.append(answer)
    return answers


def _name(text: str, noun: str) -> str:
    if not _NAME.fullmatch(text):
        raise UsageError(
            f"{text!r} is not a name for a {noun}",
            next="use lower-case letters, digits and _, starting with a letter",
        )
    return text


def _regions(texts: list[str]) -> dict[str, str]:
    regions: dict[str, str] = {}
    for name, vault in map(_region, texts):
        if name in regions:
            raise UsageError(f"the region {name!r} is given twice", next="give each region once")
        regions[name] = vault
    return regions


def _region(text: str) -> tuple[str, str]:
    name, separator, vault = text.partition("=")
    if not separator or not vault:
        raise UsageError(
            f"{text!r} is not NAME=VAULT", next="for example eu=s3://dr-eu/chat, or eu=/srv/vault"
        )
    return _name(name, "region"), vault


def _start(text: str) -> Start:
    from refloat.manifest.template import Start

    name, first, rest = text.partition("=")
    kind, second, path = rest.partition(":")
    if not (first and second and path):
        raise UsageError(f"{text!r} is not NAME=KIND:PATH", next="for example index=lancedb:/srv/index")
    return Start(_name(name, "component"), _kind(kind), path)


def _kind(kind: str) -> str:
    """A kind that is installed. Raises ``UsageError``, with the nearest one, for any other."""
    from refloat import registry
    from refloat.manifest.document import nearest

    known = registry.names(registry.CONNECTORS)
    if kind not in known:
        hint = nearest(kind, known) or f"the kinds are {', '.join(known)}"
        raise UsageError(f"no kind of component is called {kind!r}", next=hint)
    return kind
