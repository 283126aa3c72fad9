"""Files: a folder or one file, such as a data set, a feature file, prompts, flags, or code.

A snapshot holds ``content``: the folder with everything in it, or the file. Symbolic links are stored and
never followed, except that the configured path itself may be one. A named pipe is made again; of a file with several
names each is stored, and they are one file again where the file system can. A socket is made anew by whoever listens on
it: it is left out, and the point says so. A device is refused: exclude it. What refloat itself puts beside components
is left out.

A file that vanishes while the folder is read is not in the snapshot and not in its facts, and one that is
written meanwhile is in both as it was read: the facts that are compared before and after a capture tell.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, TypedDict

from pydantic import Field, field_validator

from refloat.attributes import PLAIN, Attributes, seen
from refloat.connectors.allowance import Allowance, os_errors
from refloat.connectors.beside import Beside, StagedBeside, is_own_name, located
from refloat.connectors.exposed import parse_document
from refloat.connectors.hashed_file import HashedFile, buffer_bytes
from refloat.contracts import (
    EntryType,
    Facts,
    Health,
    Layer,
    Op,
    Place,
    Settings,
    Sink,
    Source,
    Spec,
)
from refloat.digest import Json, json_digest, listing_digest
from refloat.durable import opened_file, opened_folder
from refloat.errors import ConnectorError
from refloat.limits import TREE_DEPTH_MAX
from refloat.patterns import Selection, checked, lineage, matches

CONTENT = "content"
RESERVED = frozenset({"files", "bytes", "digest", "links", "pipes", "position"})

# A kernel may stamp files by a clock that ticks this seldom; a file stamped within the last tick can still
# change without a new stamp, so its token is not believed before the tick is over.
_TICK_NS = 20_000_000
_LEFT_OUT_SHOWN_MAX = 20  # names in a point; the rest is counted
_READS_MAX = 500_000  # remembered digests, some 150 MiB at worst
_KINDS = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK)
# ELOOP: a link took its place; EINVAL: a folder or a pipe; ENXIO: a socket (``open(2)``)
_VANISHED = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO}


class _Kept(TypedDict):
    mode: int
    mtime_ns: int
    attributes: Attributes


class FilesSettings(Settings):
    """``path``: the folder or file; relative ones start at the current directory.

    ``include`` and ``exclude``: patterns of paths below the folder, as ``patterns`` says. Where there is an
    ``include``, only what matches is captured, with the folders above it; an excluded folder is left out with all
    that is in it, and not looked into. ``expose``: small JSON or YAML documents below the folder that become facts,
    each under its name.
    """

    path: str = Field(min_length=1)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    expose: Mapping[str, str] = Field(default_factory=dict)

    @field_validator("include")
    @classmethod
    def _patterns_can_match(cls, include: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(checked(pattern) for pattern in include)

    @field_validator("expose")
    @classmethod
    def _names_are_free(cls, expose: Mapping[str, str]) -> Mapping[str, str]:
        for name, path in expose.items():
            if not name.isidentifier() or name in RESERVED:
                raise ValueError(f"{name!r} cannot be the name of an exposed document")
            if Path(path).is_absolute() or ".." in Path(path).parts:
                raise ValueError(f"{path!r} must lie below the component's path")
        return expose


@dataclass(frozen=True)
class _Found:
    """One path below the root, as ``lstat`` sees it. ``folder`` is an open handle of what holds it.

    ``token`` is equal exactly when a file is unchanged; empty where that cannot be known. ``link`` is the path
    before it that is the same file. Where it is not ``whole``, its extended attributes are more than is stored.
    """

    path: str
    name: str
    stat: os.stat_result
    folder: int
    token: str
    link: str = ""
    attributes: Attributes = PLAIN
    whole: bool = True

    @property
    def kept(self) -> _Kept:
        """What is stored of it besides what is in it."""
        mode, mtime_ns = stat.S_IMODE(self.stat.st_mode), self.stat.st_mtime_ns
        return {"mode": mode, "mtime_ns": mtime_ns, "attributes": self.attributes}


@dataclass(frozen=True)
class _Read:
    """What was read of a file: its digest, and its bytes where they are to be exposed."""

    sha256: str
    document: bytes | None = None


@dataclass
class _Listing:
    """What was found, being put together: digests of files, digests of links, contents to expose."""

    digests: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    pipes: list[str] = field(default_factory=list)
    sockets: list[str] = field(default_factory=list)
    documents: dict[str, bytes] = field(default_factory=dict)
    tokens: list[tuple[str, str]] = field(default_factory=list)
    bloated: list[str] = field(default_factory=list)
    bytes: int = 0

    def _note(self, found: _Found, token: str) -> None:
        """What tells the path from a changed one; empty where that cannot be known."""
        told = found.attributes
        more = f":{hashlib.sha256(repr(told).encode('utf-8', 'replace')).hexdigest()[:16]}" if told else ""
        self.tokens.append((found.path, token and f"{token}{more}"))
        if not found.whole:
            self.bloated.append(found.path)

    def add_root(self, found: _Found) -> None:
        """The folder itself, where it has more than mode and time."""
        if found.attributes or not found.whole:
            self._note(found, "root")

    def add_file(self, found: _Found, read: _Read, size: int) -> None:
        """A file of ``size`` bytes, as it was read."""
        self.see_file(found)
        self.digests[found.path] = read.sha256
        self.bytes += size
        if read.document is not None:
            self.documents[found.path] = read.document

    def see_file(self, found: _Found) -> None:
        """A file that was not read."""
        self._note(found, found.token and f"{found.token}:{found.stat.st_mode:o}")

    def add_link(self, found: _Found, target: str) -> None:
        """A symbolic link to ``target``."""
        self.links[found.path] = hashlib.sha256(os.fsencode(target)).hexdigest()
        self._note(found, f"link:{self.links[found.path]}")

    def add_folder(self, found: _Found) -> None:
        """A folder; its own times say nothing that the paths in it do not."""
        self._note(found, f"folder:{found.stat.st_mode:o}")

    def add_pipe(self, found: _Found) -> None:
        """A named pipe."""
        self.pipes.append(found.path)
        self._note(found, f"pipe:{found.stat.st_mode:o}")

    def leave_out(self, found: _Found) -> None:
        """A socket, of which nothing but its name is known."""
        self.sockets.append(found.path)
        self.tokens.append((found.path, "socket"))

    def facts(self, settings: FilesSettings, *, single: bool) -> Facts:
        """The facts of what was found."""
        digest = listing_digest(self.digests.items())
        if single:
            digest = "sha256:" + "".join(self.digests.values())
        identity: dict[str, Json] = {"files": len(self.digests), "bytes": self.bytes, "digest": digest}
        if self.links:
            identity["links"] = listing_digest(self.links.items())
        if self.pipes:
            identity["pipes"] = listing_digest((path, "") for path in self.pipes)
        for name, path in settings.expose.items():
            identity[name] = parse_document(path, self.documents.get(path))
        return Facts(identity, self._position(), self.token(settings))

    def _position(self) -> dict[str, Json]:
        """What is not captured of it: a part of the point, and none of what must be there again."""
        left_out: dict[str, Json] = {}
        if self.sockets:
            left_out |= {"sockets": len(self.sockets), "names": _shown(self.sockets)}
        if self.bloated:
            left_out |= {"attributes": len(self.bloated), "attributes_of": _shown(self.bloated)}
        return {"left_out": left_out} if left_out else {}

    def token(self, settings: FilesSettings) -> str | None:
        """The token of the facts, which is that of what was found and of what is to be exposed of it."""
        if not all(token for _, token in self.tokens):
            return None
        tokens = [[os.fsencode(path).hex(), token] for path, token in sorted(self.tokens)]
        return json_digest([dict(settings.expose), tokens])


def _shown(paths: list[str]) -> list[Json]:
    return [*sorted(paths)[:_LEFT_OUT_SHOWN_MAX]]


class Files(StagedBeside):
    """The connector of a folder or a file."""

    spec: ClassVar[Spec] = Spec(
        kind="files",
        summary="a folder or a file: data sets, features, prompts, flags, code",
        layer=Layer.DATA,
        settings=FilesSettings,
    )

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Read] = {}

    def inspect(self, place: Place) -> Facts:
        """Count and digest of the files, a digest of the links, and each exposed document.

        Digests are remembered by size, times and inode, so asking again costs a look at each file.
        Raises ``ConnectorError`` where nothing is there or something cannot be read.
        """
        settings = _settings(place)
        listing = _Listing()
        with os_errors("reading the files", _live(settings)):
            root = located(place, _live(settings)).resolve(strict=True)
            if root.is_dir():
                listing.add_root(_top(root))
            for found in _walk(root, settings):
                if stat.S_ISREG(found.stat.st_mode):
                    read = self._read(root, found, settings)
                    if read is not None:
                        listing.add_file(found, read, found.stat.st_size)
                else:
                    _add_other(found, listing)
            return listing.facts(settings, single=not root.is_dir())

    def token(self, place: Place) -> str | None:
        """What the sizes, times and inodes of the files tell: nothing of them is read."""
        settings, listing = _settings(place), _Listing()
        with os_errors("looking at the files", _live(settings)):
            root = located(place, _live(settings)).resolve(strict=True)
            if root.is_dir():
                listing.add_root(_top(root))
            for found in _walk(root, settings):
                if stat.S_ISREG(found.stat.st_mode):
                    listing.see_file(found)
                else:
                    _add_other(found, listing)
        return listing.token(settings)

    def capture(self, sink: Sink, op: Op) -> Facts:
        """Give every file, link and folder to ``sink``; facts of exactly the bytes that it was given.

        A file that is as it was in the snapshot before (by size, times and inode) is carried.
        """
        settings = _settings(op.place)
        allowance = Allowance(op, "capturing the files")
        allowance.check()
        listing = _Listing()
        with os_errors("capturing the files", _live(settings)):
            root = located(op.place, _live(settings)).resolve(strict=True)
            single = not root.is_dir()
            if not single:
                top = _top(root)
                listing.add_root(top)
                sink.directory(CONTENT, **top.kept)
            for found in _walk(root, settings):
                allowance.check()
                path = CONTENT if single else f"{CONTENT}/{found.path}"
                if stat.S_ISREG(found.stat.st_mode):
                    self._capture_file(sink, path, root, found, settings, listing)
                else:
                    _capture_other(sink, path, found, listing)
            return listing.facts(settings, single=single)

    def stage(self, source: Source, op: Op) -> None:
        """Write the snapshot beside what is live."""
        allowance = Allowance(op, "staging the files")
        allowance.check()

        def write(staged: Path) -> None:
            with os_errors("staging the files", staged):
                _write(source, staged)
            allowance.check()

        self.beside(op.place, op.token).stage(write, goes_on=True)

    def beside(self, place: Place, token: str) -> Beside:
        """Staging beside the folder or the file."""
        return Beside(_live(_settings(place)), token)

    def health(self, place: Place) -> Health:
        """Whether everything can be listed and read as far as it is exposed."""
        settings = _settings(place)
        seen = []
        try:
            with os_errors("reading the files", _live(settings)):
                root = located(place, _live(settings)).resolve(strict=True)
                for found in _walk(root, settings):
                    if found.path in settings.expose.values():
                        read = self._read(root, found, settings)
                        parse_document(found.path, read.document if read else None)
                        seen.append(found.path)
        except ConnectorError:
            return Health.SICK
        return Health.HEALTHY if set(seen) == set(settings.expose.values()) else Health.SICK

    def _read(self, root: Path, found: _Found, settings: FilesSettings) -> _Read | None:
        """What is in a file, from memory where it is unchanged; None where it has vanished."""
        keep = found.path in settings.expose.values()
        key = (f"{root}/{found.path}", found.token)
        known = self._known.get(key) if found.token else None
        if known is not None and (known.document is not None or not keep):
            return known
        with _named(root, found), _opened(found) as handle:
            if handle is None:
                return None
            file = HashedFile(handle, found.stat.st_size, keep=keep)
            file.exhaust()
            file.require_whole(found.path)
            unchanged = _stat_token(os.fstat(handle)) == found.token.partition(":l")[0]
        read = _Read(file.sha256, file.document)
        if unchanged:
            self._remember(key, read)
        return read

    def _capture_file(
        self, sink: Sink, path: str, root: Path, found: _Found, settings: FilesSettings, listing: _Listing
    ) -> None:
        carried = self._carried(sink, path, root, found, settings)
        if carried is not None:
            listing.add_file(found, carried, found.stat.st_size)
            return
        with _named(root, found), _opened(found) as handle:
            if handle is None:
                return
            file = HashedFile(handle, found.stat.st_size, keep=found.path in settings.expose.values())
            stream = io.BufferedReader(file, buffer_bytes(found.stat.st_size))

            def token() -> str:
                return found.token and f"{found.token}:{file.sha256}"

            link = f"{CONTENT}/{found.link}" if found.link else ""
            size = sink.file(path, stream, token=token, link=link, **found.kept)
            file.require_whole(found.path)
            unchanged = _stat_token(os.fstat(handle)) == found.token.partition(":l")[0]
        read = _Read(file.sha256, file.document)
        listing.add_file(found, read, size)
        if unchanged:
            self._remember((f"{root}/{found.path}", found.token), read)

    def _carried(
        self, sink: Sink, path: str, root: Path, found: _Found, settings: FilesSettings
    ) -> _Read | None:
        """What is in a file that is as it was in the snapshot before, and is taken over from there; None otherwise."""
        earlier = sink.earlier(path)
        token, _, sha256 = earlier.rpartition(":")
        if not found.token or token != found.token:
            return None
        read: _Read | None = _Read(sha256)
        if found.path in settings.expose.values():
            read = self._read(root, found, settings)
        if (
            read is None
            or read.sha256 != sha256
            or not sink.carry(path, earlier, attributes=found.attributes)
        ):
            return None
        self._remember((f"{root}/{found.path}", found.token), read)
        return read

    def _remember(self, key: tuple[str, str], read: _Read) -> None:
        if len(self._known) >= _READS_MAX:
            self._known.clear()
        self._known[key] = read


def _settings(place: Place) -> FilesSettings:
    return place.settings_as(FilesSettings)


def _live(settings: FilesSettings) -> Path:
    return Path(settings.path).absolute()


# ----------------------------------------------------------------------------------------- the walk


def _top(root: Path) -> _Found:
    """The folder that is captured, itself."""
    found = root.stat()
    attributes, whole = seen(found, str(root))
    return _Found("", "", found, -1, "", attributes=attributes, whole=whole)


def _walk(root: Path, settings: FilesSettings) -> Iterator[_Found]:
    """Everything below ``root`` that is included and not excluded, or ``root`` where that is a file."""
    walked = _all(root, settings)
    if not root.is_dir():
        return walked
    return _with_links(
        _with_folders(walked, Selection(settings.include)) if settings.include else walked,
    )


def _with_links(walked: Iterator[_Found]) -> Iterator[_Found]:
    """The same; each further name of a file says which one came first, and so does its token."""
    first: dict[tuple[int, int], str] = {}
    for found in walked:
        if stat.S_ISREG(found.stat.st_mode) and found.stat.st_nlink > 1:
            path = first.setdefault((found.stat.st_dev, found.stat.st_ino), found.path)
            if path != found.path:
                told = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
                found = replace(found, link=path, token=found.token and f"{found.token}:l{told}")
        yield found


def _all(root: Path, settings: FilesSettings) -> Iterator[_Found]:
    """Every folder below ``root`` and all else that is included, without what is excluded, in a fixed order.

    Folders come before what they hold. Each path is opened below its folder's handle, so that a folder that is
    replaced by a link meanwhile leads nowhere else. Raises ``ConnectorError`` for what cannot be brought back.
    """
    if not root.is_dir():
        with opened_folder(root.parent) as folder:
            yield from _look(Path(settings.path).name, root.name, folder)
        return
    for folder_path, folders, files, folder in os.fwalk(root, onerror=_unless_vanished):
        below = os.path.relpath(folder_path, root)
        prefix = "" if below == os.curdir else f"{below}/"
        folders[:] = sorted(name for name in folders if not _excluded(prefix, name, settings))
        if folders and prefix.count("/") >= TREE_DEPTH_MAX:
            raise ConnectorError(
                f"folders are nested deeper than {TREE_DEPTH_MAX}",
                file=folder_path,
                next="add the folder to `exclude`",
            )
        selection = Selection(settings.include)
        kept = [
            name
            for name in files
            if selection.holds(f"{prefix}{name}") and not _excluded(prefix, name, settings)
        ]
        for name in sorted([*folders, *kept]):
            yield from _look(f"{prefix}{name}", name, folder)


def _with_folders(walked: Iterator[_Found], selection: Selection) -> Iterator[_Found]:
    """What is selected of what is walked; a folder that is not comes all the same, before the first below it."""
    waiting: dict[str, _Found] = {}
    for found in walked:
        if selection.holds(found.path):
            for path in reversed([*lineage(found.path)]):
                if path in waiting:
                    yield waiting.pop(path)
            yield found
        elif stat.S_ISDIR(found.stat.st_mode):
            waiting[found.path] = found


def _look(path: str, name: str, folder: int) -> Iterator[_Found]:
    """The path as it is now; nothing where it has vanished."""
    try:
        found = os.lstat(name, dir_fd=folder)
        if time.time_ns() - found.st_ctime_ns < _TICK_NS:
            time.sleep(_TICK_NS / 1e9)
            found = os.lstat(name, dir_fd=folder)
    except FileNotFoundError:
        return
    kind = stat.S_IFMT(found.st_mode)
    if kind not in _KINDS:
        raise ConnectorError("a device cannot be brought back", file=path, next="add its name to `exclude`")
    settled = time.time_ns() - found.st_ctime_ns >= _TICK_NS
    attributes, whole = seen(found, f"/proc/self/fd/{folder}/{name}")
    token = _stat_token(found) if settled else ""
    yield _Found(path, name, found, folder, token, attributes=attributes, whole=whole)


def _stat_token(found: os.stat_result) -> str:
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_ino}"


def _excluded(prefix: str, name: str, settings: FilesSettings) -> bool:
    return is_own_name(name) or matches(settings.exclude, f"{prefix}{name}")


def _unless_vanished(error: OSError) -> None:
    if error.errno not in _VANISHED:
        raise error


@contextlib.contextmanager
def _named(root: Path, found: _Found) -> Iterator[None]:
    """What goes wrong in here names the file: a failed read names none, and a failed open only its last part."""
    try:
        yield
    except OSError as error:
        error.filename = str(root / found.path) if root.is_dir() else str(root)
        raise


@contextlib.contextmanager
def _opened(found: _Found) -> Iterator[int | None]:
    """A handle of a regular file; None where it has vanished or is no file any more."""
    with contextlib.ExitStack() as stack:
        try:
            handle: int | None = stack.enter_context(
                opened_file(found.name, folder=found.folder, follow=False)
            )
        except OSError as error:
            _unless_vanished(error)
            handle = None
        yield handle


def _add_other(found: _Found, listing: _Listing) -> str | None:
    """Add a folder, a pipe, a socket or a link; the link's target."""
    add = {
        stat.S_IFDIR: listing.add_folder,
        stat.S_IFIFO: listing.add_pipe,
        stat.S_IFSOCK: listing.leave_out,
    }.get(stat.S_IFMT(found.stat.st_mode))
    if add is not None:
        add(found)
        return None
    try:
        target = os.readlink(found.name, dir_fd=found.folder)
    except OSError as error:
        _unless_vanished(error)
        return None
    listing.add_link(found, target)
    return target


def _capture_other(sink: Sink, path: str, found: _Found, listing: _Listing) -> None:
    target = _add_other(found, listing)
    if target is not None:
        sink.symlink(path, target, attributes=found.attributes)
    elif stat.S_ISDIR(found.stat.st_mode):
        sink.directory(path, **found.kept)
    elif stat.S_ISFIFO(found.stat.st_mode):
        sink.fifo(path, **found.kept)


def _write(source: Source, staged: Path) -> None:
    root = next((entry for entry in source.entries() if entry.path == CONTENT), None)
    if root is None:
        raise ConnectorError(
            f"the snapshot holds no {CONTENT!r}", next="see whether it was captured by `files`"
        )
    if root.type is EntryType.FILE:
        source.fetch(CONTENT, staged)
        return
    staged.mkdir(mode=0o700, exist_ok=True)
    staged.chmod(0o700)
    source.under(CONTENT).fetch_all(staged)
    staged.chmod(root.mode)
    os.utime(staged, ns=(root.mtime_ns, root.mtime_ns))
