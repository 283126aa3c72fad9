"""``refloat vault export``: files of a point into a folder or a tar archive, what serving needs first, no recovery."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import Session, examples, session_of
from refloat.cli.completion import components
from refloat.cli.places import VaultOption, sound_place
from refloat.cli.vault_look import PointArgument, escaped, no_file, texts, until_nobody_reads
from refloat.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from refloat.flows.export import Export, Exported, Part, Ready
    from refloat.manifest.model import Manifest
    from refloat.point.model import Point
    from refloat.vault.anywhere import Anywhere

EXPORT = examples(
    "refloat vault export 3f2a --into ./out",
    "refloat vault export 3f2a models --into ./out --include '*.safetensors' --exclude '*/optimizer*'",
    "refloat vault export 3f2a prompts content/system.txt --into ./out",
    "refloat vault export 3f2a --into ./out --events",
    "refloat vault export 3f2a models --tar - | ssh gpu7 tar x -C /srv",
)
STANDARD_OUTPUT = "-"
_PATTERN = "GLOB"


def export(
    context: typer.Context,
    point: PointArgument,
    component: Annotated[
        str | None,
        typer.Argument(help="Only this component, or `manifest`.", autocompletion=components),
    ] = None,
    path: Annotated[
        list[str] | None,
        typer.Argument(help="Only these files and folders of it, as `vault ls` shows them."),
    ] = None,
    into: Annotated[
        str,
        typer.Option(
            "--into", metavar="DIR", help="A folder that is empty or not there yet; or begun by this."
        ),
    ] = "",
    tar: Annotated[
        str | None,
        typer.Option(
            "--tar", metavar="FILE", help="Instead of --into: a new tar archive, `-` for standard output."
        ),
    ] = None,
    include: Annotated[
        list[str], typer.Option("--include", metavar=_PATTERN, help="Only what matches; may be given again.")
    ] = [],  # noqa: B006 - typer copies it
    exclude: Annotated[
        list[str], typer.Option("--exclude", metavar=_PATTERN, help="Not what matches; may be given again.")
    ] = [],  # noqa: B006 - typer copies it
    events: Annotated[
        bool, typer.Option("--events", help="A line of JSON on stdout for all that is ready, as it comes.")
    ] = False,
    vault: VaultOption = None,
) -> int:
    """Files of a point into a folder, what serving needs first; the same command again goes on. Or as a tar archive."""
    from refloat.flows import export as flow
    from refloat.flows.landing import usable
    from refloat.flows.points import find
    from refloat.patterns import Selection
    from refloat.vault.anywhere import Anywhere

    session = session_of(context)
    if events and session.console.json_mode:
        raise UsageError("--json prints one document, --events many", next="leave out one of them")
    if tar is None:
        folder = usable(into)
    else:
        _require_archivable(session, tar, into, events=events)
    selection = Selection(
        _sound(include, point), _sound(exclude, point), tuple(one.rstrip("/") for one in path or ())
    )
    replicas = list(sound_place(session, vault).replicas.values())
    name, body, _ = find(replicas, point)
    reader = Anywhere(replicas)
    parts = flow.parts_of(body, _manifest(session, reader, body), component)
    _require_there(reader, name, parts, selection.paths)
    wanted = flow.Export(name, parts, selection)
    if tar is not None:
        _archive(session, wanted, reader, tar, str(body.grade))
        return 0
    grade = str(body.grade)
    session.console.note(f"exporting from point {name[:12]} ({grade}) to {folder}: {', '.join(parts)}")
    done, remarks = _export(session, wanted, reader, folder, events=events)
    _show(session, wanted, str(folder), grade, done, remarks, events=events)
    return 0


def _export(
    session: Session, wanted: Export, reader: Anywhere, folder: Path, *, events: bool
) -> tuple[dict[str, Exported], list[str]]:
    """What was written, and what could not be set, which a warning says too."""
    from refloat.attributes import Withheld
    from refloat.flows.export import export

    progress, withheld = session.console.progress(), Withheld()

    def ready(told: Ready) -> None:
        if events:
            session.console.event(_event(told))
        progress.say(f"ready {told.component}{'' if told.path is None else f' {escaped(told.path)}'}")

    done = export(wanted, reader, folder, session.clock, progress=progress, ready=ready, withheld=withheld)
    session.console.close()
    return done, _remarked(session, [*reader.remarks(), *withheld.remarks()])


def _remarked(session: Session, remarks: list[str]) -> list[str]:
    """The same, and a warning of each."""
    for remark in remarks:
        session.console.warn(remark)
    return remarks


def _require_archivable(session: Session, tar: str, into: str, *, events: bool) -> None:
    """Raises ``UsageError`` for what does not go with an archive, or with one on standard output."""
    import sys

    if into or events:
        other = "--into" if into else "--events"
        raise UsageError(f"{other} is of a folder, --tar writes an archive", next="leave out one of them")
    if tar != STANDARD_OUTPUT:
        return
    if session.console.json_mode:
        raise UsageError("an archive is no JSON document", next="leave out --json, or --tar FILE")
    if sys.stdout is None or sys.stdout.isatty():
        raise UsageError("an archive is not for a terminal", next="--tar FILE, or send it somewhere: | tar x")


def _archive(session: Session, wanted: Export, reader: Anywhere, tar: str, grade: str) -> None:
    import os
    import sys
    from pathlib import Path

    from refloat.flows.archive import new_file, require_room, same_file, write_archive

    progress = session.console.progress()
    if tar == STANDARD_OUTPUT:
        with until_nobody_reads():
            write_archive(wanted, reader, sys.stdout.buffer, session.clock, progress=progress)
            sys.stdout.buffer.flush()
        _remarked(session, reader.remarks())
        return
    path = Path(tar).absolute()
    if os.path.lexists(path):
        with same_file(path) as there:
            done = write_archive(wanted, reader, there, session.clock, progress=progress)
        session.console.close()
        session.console.note(f"{path} was there already, and is this archive to its last byte")
        _show(session, wanted, str(path), grade, done, _remarked(session, reader.remarks()))
        return
    path = path.resolve()
    with new_file(path) as file:
        require_room(path, wanted, reader)
        done = write_archive(wanted, reader, file, session.clock, progress=progress)
    session.console.close()
    _show(session, wanted, str(path), grade, done, _remarked(session, reader.remarks()))


def _sound(patterns: Iterable[str], point: str) -> tuple[str, ...]:
    from refloat.patterns import checked

    try:
        return tuple(checked(pattern) for pattern in patterns)
    except ValueError as error:
        raise UsageError(
            str(error), next=f"paths are as `refloat vault ls {shlex.quote(point)}` shows them"
        ) from error


def _manifest(session: Session, reader: Anywhere, body: Point) -> Manifest | None:
    """The manifest that the point carries: it says what is needed first. Without it all comes all the same."""
    from refloat.errors import RefloatError
    from refloat.flows.into import manifest_of

    try:
        return manifest_of(reader, body)
    except RefloatError as error:
        session.console.warn(f"what is needed first is not known: {error.message}")
        return None


def _require_there(reader: Anywhere, point: str, parts: dict[str, Part], paths: Iterable[str]) -> None:
    """Raises ``UsageError``, with what is near, for a path that the component does not hold."""
    for path in paths:
        ((component, part),) = parts.items()
        source = reader.source(part.tree)
        if not source.holds(path):
            raise no_file(source, path, f"{point[:12]} {component}")


def _event(told: Ready) -> dict[str, object]:
    if told.path is None:
        size: dict[str, object] = {"files": told.files, "bytes": told.bytes}
        return {"event": "ready", "component": told.component, "path": None, "path_bytes": None, **size}
    path, path_bytes = texts(told.path)
    return {"event": "ready", "component": told.component, "path": path, "path_bytes": path_bytes}


def _show(
    session: Session,
    wanted: Export,
    into: str,
    grade: str,
    done: dict[str, Exported],
    remarks: Sequence[str] = (),
    *,
    events: bool = False,
) -> None:
    from refloat.units import format_duration, format_size

    document = {
        "point": wanted.point,
        "grade": grade,
        "into": into,
        "components": {name: part.document() for name, part in done.items()},
        "remarks": list(remarks),
    }
    if events:
        session.console.event({"event": "done", **document})
        return
    rows = [
        (name, str(part.files), format_size(part.bytes), str(part.kept), format_duration(part.seconds))
        for name, part in done.items()
    ]
    session.console.table(("component", "files", "size", "were there", "written in"), rows)
    session.console.print(f"point {wanted.point} is in {into}, as far as was asked; nothing was started")
    session.console.emit(document)
