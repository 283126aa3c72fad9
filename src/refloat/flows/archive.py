"""Files of a point as one tar archive: to a file that appears when it is whole, or straight into a pipe.

It is the PAX format of POSIX.1-2001, so that names of any bytes and length, times to the nanosecond and sizes of any
number come out as they went in. Every byte is verified before it is handed on. Nothing lies outside of the folders
that are called as the components are: a stored name holds no slash and is never ``..``.
"""

from __future__ import annotations

import io
import os
import shlex
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from refloat.attributes import Principal
from refloat.clock import Clock
from refloat.contracts import Entry, EntryType, Progress, Silent
from refloat.durable import opened_file, partial_of, sync_folder
from refloat.errors import RefloatError, UsageError
from refloat.flows.export import Export, Exported, Part, size_of, sizes_of
from refloat.flows.room import require_room_in
from refloat.patterns import Selection, rank
from refloat.vault.anywhere import Anywhere
from refloat.vault.extract import explained
from refloat.vault.source import SnapshotSource

if TYPE_CHECKING:
    from typing_extensions import Buffer

_KINDS = {
    EntryType.FILE: tarfile.REGTYPE,
    EntryType.DIRECTORY: tarfile.DIRTYPE,
    EntryType.SYMLINK: tarfile.SYMTYPE,
    EntryType.FIFO: tarfile.FIFOTYPE,
}
_ROOT = Principal(0)
_XATTR = "SCHILY.xattr."  # as star, GNU tar and bsdtar write them and take them
_LINK_MODE = 0o777  # what a file system shows of a link
_ROOMIER = (
    "name a file where there is more room, or less of the point: a component, --include GLOB, --exclude GLOB"
)
_SECOND_NS = 10**9
_PRIVATE = 0o600  # what was captured may be secret


def write_archive(
    wanted: Export, reader: Anywhere, out: BinaryIO, clock: Clock, *, progress: Progress | None = None
) -> dict[str, Exported]:
    """Write each part below its name; what was written of each. ``out`` need not be able to seek.

    The archive ends as one does only where all is in it. Raises ``OSError`` of ``out``, and ``VaultError`` or
    ``StoreError`` where a piece is whole nowhere.
    """
    done = {}
    with tarfile.open(
        fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for name, part in wanted.parts.items():
            try:
                done[name] = _part(archive, name, part, wanted.selection, reader, clock, progress or Silent())
            except RefloatError as error:
                raise error.at(component=name) from error.__cause__
    return done


def require_room(path: Path, wanted: Export, reader: Anywhere) -> None:
    """Raises ``Refused`` (rule ``target_full``) where an archive of what is meant does not fit beside ``path``."""
    require_room_in(path, sizes_of(wanted, reader), next=_ROOMIER)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to fill, which has its name when it is whole; nothing is left of it after an error.

    Raises ``UsageError`` where something has that name or its folder is not there, ``ConnectorError`` where it
    cannot be written.
    """
    if os.path.lexists(path):
        raise UsageError("something is there already", file=str(path), next="name a new file with --tar FILE")
    if not path.parent.is_dir():
        raise UsageError(
            f"there is no folder {path.parent}", next=f"mkdir -p {shlex.quote(str(path.parent))}"
        )
    partial = partial_of(path)
    with explained(path), ExitStack() as undo:
        partial.unlink(missing_ok=True)
        undo.callback(partial.unlink, missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        undo.pop_all()
        sync_folder(path.parent)


@contextmanager
def same_file(path: Path) -> Iterator[BinaryIO]:
    """Something to write to that only compares: what is written must be what is in the file, to its last byte.

    Raises ``UsageError`` where it is not, or what is there is no file.
    """
    with ExitStack() as opened:
        try:
            descriptor = opened.enter_context(opened_file(path, follow=False))
        except OSError as error:
            raise _another(path) from error
        there = opened.enter_context(os.fdopen(descriptor, "rb", closefd=False))
        yield cast(BinaryIO, _Compared(path, there))
        if there.read(1):
            raise _another(path)


class _Compared(io.RawIOBase):
    def __init__(self, path: Path, there: BinaryIO) -> None:
        self._path = path
        self._there = there

    def writable(self) -> bool:
        return True

    def write(self, content: Buffer, /) -> int:
        written = bytes(content)
        if self._there.read(len(written)) != written:
            raise _another(self._path)
        return len(written)


def _another(path: Path) -> UsageError:
    return UsageError(
        "something is there already, and is not this archive",
        file=str(path),
        next="name a new file with --tar FILE",
    )


@dataclass
class _Total:
    files: int = 0
    bytes: int = 0


def _part(
    archive: tarfile.TarFile,
    name: str,
    part: Part,
    selection: Selection,
    reader: Anywhere,
    clock: Clock,
    progress: Progress,
) -> Exported:
    begun, total = clock.monotonic(), _Total()
    source = reader.source(part.tree, heard=lambda size: progress.advance(name, size), totals=part.totals)
    progress.start(name, size_of(source, part, selection)[0])
    for entry in _needed_first(source, part.priority, selection):
        _add(archive, f"{name}/{entry.path}", entry, source)
        if entry.type is EntryType.FILE:
            total.files, total.bytes = total.files + 1, total.bytes + entry.size
    progress.finish(name)
    return Exported(total.files, total.bytes, 0, clock.monotonic() - begun)


def _needed_first(source: SnapshotSource, priority: Sequence[str], selection: Selection) -> Iterator[Entry]:
    """What is meant: the files that have priority, in its order, then all else as it is listed."""
    first: list[tuple[int, Entry]] = []
    if priority:
        for entry in source.entries():
            number = rank(priority, entry.path) if entry.type is EntryType.FILE else None
            if number is not None and selection.holds(entry.path):
                first.append((number, entry))
    yield from (entry for _, entry in sorted(first, key=lambda ranked: ranked[0]))
    came = {entry.path for _, entry in first}
    for entry in source.entries():
        if entry.path not in came and selection.holds(entry.path):
            yield entry


def _add(archive: tarfile.TarFile, path: str, entry: Entry, source: SnapshotSource) -> None:
    told = tarfile.TarInfo(path)
    told.type = _KINDS[entry.type]
    told.mode = _LINK_MODE if entry.type is EntryType.SYMLINK else entry.mode
    told.linkname = entry.target
    told.mtime = entry.mtime_ns // _SECOND_NS
    owner, group = entry.attributes.owner or _ROOT, entry.attributes.group or _ROOT
    told.uid, told.uname, told.gid, told.gname = owner.id, owner.name, group.id, group.name
    told.pax_headers = {
        f"{_XATTR}{name}": value.decode("utf-8", "surrogateescape")
        for name, value in entry.attributes.xattrs
        if name.isprintable() and "=" not in name  # a header's key is UTF-8, and ends there
    }
    if entry.mtime_ns % _SECOND_NS:
        told.pax_headers["mtime"] = _seconds(entry.mtime_ns)
    if entry.type is not EntryType.FILE:
        archive.addfile(told)
        return
    told.size = entry.size
    with source.open(entry.path) as content:
        archive.addfile(told, content)


def _seconds(mtime_ns: int) -> str:
    """A time in seconds, all its digits."""
    sign, whole = "-" if mtime_ns < 0 else "", abs(mtime_ns)
    return f"{sign}{whole // _SECOND_NS}.{whole % _SECOND_NS:09d}"
