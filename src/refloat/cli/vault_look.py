"""``refloat vault ls`` and ``refloat vault cat``: what a point holds, file by file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from refloat.cli.common import Session, examples, session_of
from refloat.cli.completion import POINT_HELP, components, points
from refloat.cli.places import VaultOption, sound_place
from refloat.errors import RefloatError, UsageError

if TYPE_CHECKING:
    from refloat.contracts import Entry, Progress
    from refloat.digest import Json
    from refloat.point.model import Point
    from refloat.vault.anywhere import Anywhere
    from refloat.vault.source import SnapshotSource

LS = examples(
    "refloat vault ls 3f2a",
    "refloat vault ls 3f2a answers",
    "refloat vault ls 3f2a manifest --vault s3://bucket/name",
)
CAT = examples(
    "refloat vault cat 3f2a prompts system.txt",
    "refloat vault cat 3f2a models embedder/weights.bin > weights.bin",
    "refloat vault cat 3f2a manifest refloat.yaml",
    "refloat vault cat 3f2a prompts -- -starts-with-a-dash",
)
MANIFEST_TREE = "manifest"
"""What the manifest and its golden sets are called where a component is named, unless a component is."""
_READ_BYTES = 1024 * 1024  # handed on at a time; a chunk is in memory anyway
COMPARED_MAX = 1000  # names that a wrong one is compared with; more would take seconds
_LETTERS = {"file": "-", "directory": "d", "fifo": "p"}
_WORDS = {"directory": "folder", "symlink": "symbolic link", "fifo": "pipe"}

PointArgument = Annotated[str, typer.Argument(help=POINT_HELP, autocompletion=points)]


def ls(
    context: typer.Context,
    point: PointArgument,
    component: Annotated[
        str | None,
        typer.Argument(help="A component, or `manifest`.", autocompletion=components),
    ] = None,
    vault: VaultOption = None,
) -> int:
    """What a point holds: its components, or every path of one of them."""
    session = session_of(context)
    look = _look(session, point, vault)
    if component is None:
        _show_components(session, look)
        return 0
    entries = look.source(component).entries()
    if session.console.json_mode:
        listed = [_document(entry) for entry in entries]
        session.console.emit({"point": look.name, "component": component, "entries": listed})
        return 0
    with until_nobody_reads():
        for entry in entries:  # as they come: a snapshot may hold more than anybody wants in memory
            session.console.verbatim(_line(entry))
    _warn_elsewhere(session, look)
    return 0


def cat(
    context: typer.Context,
    point: PointArgument,
    component: Annotated[str, typer.Argument(help="A component, or `manifest`.", autocompletion=components)],
    path: Annotated[str, typer.Argument(help="A file in it, as `vault ls` shows it.")],
    vault: VaultOption = None,
) -> int:
    """A file of a point to standard output, every byte verified before it is handed on."""
    import sys

    session = session_of(context)
    if session.console.json_mode:
        raise UsageError("the bytes of a file are no JSON document", next="leave out --json")
    if sys.stdout is None:
        raise UsageError("standard output is closed", next="send it somewhere: > FILE")
    look = _look(session, point, vault)
    source = look.source(component)
    with _opened(source, path, f"{look.name[:12]} {component}") as file, until_nobody_reads():
        progress = _progress_of(session, source.size(path))
        progress.start(escaped(path), source.size(path))
        while piece := file.read(_READ_BYTES):
            sys.stdout.buffer.write(piece)
            progress.advance(escaped(path), len(piece))
        sys.stdout.buffer.flush()
        progress.finish(escaped(path))
    _warn_elsewhere(session, look)
    return 0


def _warn_elsewhere(session: Session, look: _Look) -> None:
    for remark in look.bytes.remarks():
        session.console.warn(remark)


def _progress_of(session: Session, size: int) -> Progress:
    """Where it is told how far a file is: nowhere for a small one, nor where its bytes are on the screen."""
    import sys

    from refloat.contracts import Silent
    from refloat.vault.extract import LARGE_BYTES

    told = size >= LARGE_BYTES and not sys.stdout.isatty()
    return session.console.progress() if told else Silent()


@dataclass(frozen=True)
class _Look:
    """A point, and where its bytes are read."""

    name: str
    body: Point
    bytes: Anywhere

    def source(self, component: str) -> SnapshotSource:
        """The files of a component as captured. Raises ``UsageError`` for one that the point does not hold."""
        from refloat.flows.into import totals_of
        from refloat.manifest.document import nearest
        from refloat.vault.unfolded import MANIFEST_TOTALS

        if component in self.body.components:
            snapshot = self.body.components[component]
            return self.bytes.source(snapshot.tree, totals=totals_of(snapshot))
        if component == MANIFEST_TREE:
            return self.bytes.source(self.body.manifest, totals=MANIFEST_TOTALS)
        known = [*self.body.components, MANIFEST_TREE]
        hint = nearest(component, known) or f"it holds {', '.join(known)}"
        raise UsageError(f"the point {self.name[:12]} holds no component {component!r}", next=hint)


def _look(session: Session, point: str, vault: str | None) -> _Look:
    from refloat.flows.points import find
    from refloat.vault.anywhere import Anywhere

    replicas = list(sound_place(session, vault).replicas.values())
    name, body, _ = find(replicas, point)
    return _Look(name, body, Anywhere(replicas))


@contextmanager
def until_nobody_reads() -> Iterator[None]:
    """Who reads may have seen enough, as ``head`` has: that is no error to speak of, and not the whole either."""
    import os
    import sys
    from pathlib import Path

    try:
        yield
    except BrokenPipeError as error:
        with Path(os.devnull).open(
            "wb"
        ) as nowhere:  # else the interpreter complains when it flushes at its end
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise typer.Exit(1) from error


# ------------------------------------------------------------------------------------------------ ls


def _show_components(session: Session, look: _Look) -> None:
    from refloat.units import format_size, format_time

    name, body = look.name, look.body
    session.console.print(f"point {name}, graded {body.grade}")
    session.console.table(
        ("component", "kind", "as of", "files", "size"),
        [
            (n, s.kind, format_time(s.as_of)[:19] + "Z", str(s.files), format_size(s.bytes))
            for n, s in body.components.items()
        ],
    )
    session.console.emit(
        {
            "point": name,
            "components": {
                n: {"kind": s.kind, "files": s.files, "bytes": s.bytes, "as_of": format_time(s.as_of)}
                for n, s in body.components.items()
            },
        }
    )


def _line(entry: Entry) -> str:
    import stat

    link, file = entry.type == "symlink", entry.type == "file"
    mode = "lrwxrwxrwx" if link else _LETTERS[entry.type] + stat.filemode(entry.mode)[1:]
    size, made = str(entry.size) if file else "-", "-" if link else _time(entry)[:19] + "Z"
    to = f" -> {escaped(entry.target)}" if link else ""
    return f"{mode}  {size:>12}  {made:<20}  {escaped(entry.path)}{to}"


def escaped(path: str) -> str:
    """``path`` as one line that says nothing else: what is not printable, or not UTF-8, with backslashes."""
    return "".join(_escaped(c) for c in path)


def _escaped(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # how a byte that is not UTF-8 comes out of ``surrogateescape``
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def _document(entry: Entry) -> dict[str, Json]:
    link, file = entry.type == "symlink", entry.type == "file"
    path, path_bytes = texts(entry.path)
    target, target_bytes = texts(entry.target)
    return {
        "path": path,
        "path_bytes": path_bytes,
        "type": str(entry.type),
        "mode": None if link else entry.mode,
        "size": entry.size if file else None,
        "mtime": None if link else _time(entry),
        "target": target if link else None,
        "target_bytes": target_bytes if link else None,
    }


def texts(path: str) -> tuple[str, str | None]:
    """A path as JSON can hold it, and where that is not what it is, its bytes as base64."""
    import base64

    stored = path.encode("utf-8", "surrogateescape")
    try:
        return stored.decode("utf-8"), None
    except UnicodeDecodeError:
        return stored.decode("utf-8", "replace"), base64.b64encode(stored).decode("ascii")


def _time(entry: Entry) -> str:
    from datetime import UTC, datetime, timedelta

    from refloat.units import format_time

    return format_time(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=entry.mtime_ns // 1000))


# ------------------------------------------------------------------------------------------------ cat


def _opened(source: SnapshotSource, path: str, within: str) -> BinaryIO:
    """The file at ``path``. Raises ``UsageError``, with what is near, where there is none."""
    from refloat.errors import Missing

    try:
        return source.open(path)
    except Missing:
        raise no_file(source, path, within) from None


def no_file(source: SnapshotSource, path: str, within: str) -> RefloatError:
    """Why ``path`` is no file of ``within``: what it is instead, or what in its folder is called nearly so.

    Raises ``VaultError`` where that cannot be told, since a folder is not whole.
    """
    from refloat.manifest.document import nearest

    wanted = path.rstrip("/")
    folder, _, name = wanted.rpartition("/")
    beside: list[str] = []
    for entry in source.entries():
        above, _, own = entry.path.rpartition("/")
        if entry.path == wanted and entry.type != "file":
            return UsageError(f"{escaped(path)} is a {_WORDS[entry.type]}", next=_instead(entry, within))
        if (above == folder or own == name) and len(beside) < COMPARED_MAX:
            beside.append(entry.path)
    elsewhere = next((near for near in beside if near.rpartition("/")[2] == name), None)
    hint = f"did you mean {elsewhere!r}?" if elsewhere else nearest(wanted, beside)
    return UsageError(
        f"there is no file {escaped(path)}", next=hint or f"`refloat vault ls {within}` shows what is there"
    )


def _instead(entry: Entry, within: str) -> str:
    if entry.type == "symlink":
        return f"it leads to {escaped(entry.target)}, and is not followed: name that file"
    if entry.type == "fifo":
        return "a pipe holds nothing: name a file"
    return f"name a file in it: `refloat vault ls {within}` shows them below {escaped(entry.path)}/"
