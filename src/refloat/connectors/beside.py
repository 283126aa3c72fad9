"""Staging beside what is live, and switching to it atomically: for a path that is a file or a folder.

Beside ``index`` there may lie, for an operation with the token ``t``:

    .index.refloat-t             what is staged; after a revert, what was live in between
    .index.refloat-t.done        the record: how far the operation got; without it nothing is whole
    .index.refloat-t.previous    what was live before the switch, until it is discarded
    .index.refloat-t.set-aside   the same where it is somebody else's: nothing here ever discards that
    .index.refloat.json          the marker: which point, run and epoch put there what is live

Of a name of more than 150 bytes only the beginning and a digest stand in these, so that none is ever too long.

Every move is written to the record before it is made, and what lies where is told by the inode and its
time of birth, never by name alone, so each method may be cut at any system call and called again.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from refloat.connectors.allowance import os_errors
from refloat.connectors.births import birth_ns, libc
from refloat.contracts import Instance, Observed, Op, Place
from refloat.digest import Json, canonical_json, json_digest
from refloat.durable import (
    name_beside,
    opened_file,
    opened_folder,
    partial_of,
    remove_tree,
    replace_file,
    sync_folder,
)
from refloat.errors import ConnectorError
from refloat.holding import Holds

_TOKEN_MAX = 64
_PLAIN_TOKEN = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{_TOKEN_MAX - 1}}}")
_OWN_NAME = re.compile(r"\..+\.refloat(\.json|-.+)", re.DOTALL)
_DOCUMENT_BYTES_MAX = 64 * 1024  # a record or a marker has a few hundred
_NO_DOCUMENT = (
    errno.ELOOP,
    errno.EINVAL,
    errno.ENXIO,
)  # a link, a folder or pipe, a socket lies there instead
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h
_NO_EXCHANGE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


class _State(StrEnum):
    """How far an operation got, as its record says."""

    STAGED = "staged"
    SWITCHING = "switching"
    SWITCHED = "switched"
    REVERTING = "reverting"
    REVERTED = "reverted"


@dataclass(frozen=True)
class _Record:
    """What one operation has done so far. ``staged`` and ``before`` are fingerprints."""

    state: _State
    staged: str
    before: str | None = None
    marker_before: Mapping[str, Json] | None = None


def is_own_name(name: str) -> bool:
    """Whether a file's name is one that refloat gives to what it puts beside a component."""
    return _OWN_NAME.fullmatch(name) is not None


def located(place: Place, live: Path) -> Path:
    """Where the instance that ``place`` means lies: ``live`` itself, or what is staged beside it."""
    return live if place.instance is Instance.LIVE else Beside(live, place.token).staged


def marker_of(op: Op) -> dict[str, Json]:
    """What the marker says of an operation. The point is the one in the operation's memory, else the run."""
    return {
        "schema": 1,
        "point": str(op.memory.get("point") or op.run),
        "component": op.place.component,
        "run": op.run,
        "epoch": op.epoch,
        "token": op.token,
    }


class Beside:
    """One operation's staging beside one live path.

    ``companions`` are endings of files that belong to a live file and must never meet another one, such
    as ``-wal`` of an SQLite database: they are set aside and put back with it. Every method raises
    ``ConnectorError``, is durable when it returns, and may be repeated.
    """

    def __init__(self, live: Path, token: str, *, companions: tuple[str, ...] = ()) -> None:
        slug = token if _PLAIN_TOKEN.fullmatch(token) else json_digest(token)[:32]
        self.live = live
        self.staged = live.with_name(name_beside(live, f"refloat-{slug}"))
        self.done = self.staged.with_name(f"{self.staged.name}.done")
        self.previous = self.staged.with_name(f"{self.staged.name}.previous")
        self.aside = self.staged.with_name(f"{self.staged.name}.set-aside")
        self.marker = live.with_name(name_beside(live, "refloat.json"))
        self._token = token
        self._companions = companions

    @property
    def belonging(self) -> tuple[Path, ...]:
        """The live path, and those of the companions that it may have."""
        return (self.live, *(_ending(self.live, end) for end in self._companions))

    def stage(self, write: Callable[[Path], None], *, goes_on: bool = False) -> None:
        """Let ``write`` make ``staged`` unless it is whole already; what it leaves unfinished counts not.

        With ``goes_on`` it finds the folder that an earlier attempt has not finished, and nothing otherwise.
        """
        if self.prepare(goes_on=goes_on):
            write(self.staged)
            self.complete()

    def prepare(self, *, goes_on: bool = False) -> bool:
        """Whether ``staged`` is still to be written; then its parent exists and nothing lies in its way.

        With ``goes_on`` a folder stays that an earlier attempt was filling.
        """
        with os_errors("staging", self.staged):
            record = self._record()
            if record and record.state in (_State.SWITCHING, _State.SWITCHED, _State.REVERTING):
                return False
            if record and record.state is _State.STAGED and self._is(self.staged, record.staged):
                return False
            _make_folder(self.live.parent)
            if self.live.is_mount():
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(self.live))
            if record or not (goes_on and _is_folder(self.staged)):
                self._clear()
            return True

    def complete(self) -> None:
        """Declare that ``staged`` is whole, after everything in it is on the disk."""
        with os_errors("staging", self.staged):
            staged = fingerprint(self.staged)
            if staged is None:
                raise ConnectorError("nothing was staged", file=str(self.staged), next="stage again")
            _sync_file_system(self.staged.parent)
            self._write_record(_Record(_State.STAGED, staged))

    def switch(self, marker: Mapping[str, Json]) -> None:
        """Make what is staged live, atomically, and write ``marker`` (with ``run`` and ``epoch``) beside it.

        Raises ``ConnectorError`` when nothing whole is staged, when something put there with a newer epoch
        is live, or when something unknown took the live path in the middle of an earlier attempt.
        """
        with os_errors("switching to what was staged", self.live):
            record = self._to_switch()
            if record is None:
                return
            self._refuse_stale_epoch(marker)
            if record.state is not _State.SWITCHING:
                record = replace(
                    record,
                    state=_State.SWITCHING,
                    before=fingerprint(self.live),
                    marker_before=self._marker(),
                )
                self._write_record(record)
            self._refuse_stranger(record)
            self._bring(record.staged, incoming=self.staged, aside=self.previous)
            _write_document(self.marker, {**marker, "live": record.staged})
            self._write_record(replace(record, state=_State.SWITCHED))

    def revert(self) -> None:
        """Make live again what was live before the switch, or nothing; what was staged is staged again.

        Raises ``ConnectorError`` when what was live before has been discarded or is gone.
        """
        with os_errors("going back to what was live", self.live):
            record = self._record()
            if record is None and self._is_ours():
                raise ConnectorError(
                    "what was live before has been discarded",
                    file=str(self.live),
                    next="recover from a recovery point instead",
                )
            if record is None or record.state in (_State.STAGED, _State.REVERTED):
                return
            self._write_record(replace(record, state=_State.REVERTING))
            self._refuse_stranger(record)
            if record.before is None:
                self._take_away()
            else:
                self._bring(record.before, incoming=self.previous, aside=self.staged)
            self._restore_marker(record)
            self._write_record(replace(record, state=_State.REVERTED))

    def set_aside(self) -> list[Path]:
        """Keep what was live before the switch, with what belongs to it, under another name; those names."""
        with os_errors("setting aside what was live before", self.previous):
            names = [(self.previous, self.aside)]
            names += [(_ending(self.previous, end), _ending(self.aside, end)) for end in self._companions]
            for found, kept in reversed(names):
                if fingerprint(found) is not None:
                    _rename(found, kept)
            _sync_folder(self.aside.parent)
            return [kept for _, kept in names if fingerprint(kept) is not None]

    def discard(self) -> None:
        """Remove what was staged and what the switch set aside; a switch that was cut is undone first."""
        with os_errors("discarding what was staged", self.staged):
            record = self._record()
            if record and record.state in (_State.SWITCHING, _State.REVERTING):
                self.revert()
            self._clear()

    def observe(self) -> Observed:
        """How far the operation got; ``PARTIAL`` for any step that was cut and must be repeated."""
        with os_errors("looking for what was staged", self.staged):
            try:
                record = self._record()
            except ConnectorError:
                return Observed.UNKNOWN
            return self._observe_without_record() if record is None else self._observe(record)

    def try_names(self) -> None:
        """See that the file system takes the longest names that an operation gives, before one is under way.

        Raises ``ConnectorError`` where it does not: what cannot be named cannot be taken away again, either.
        """
        longest = Beside(self.live, "t" * _TOKEN_MAX, companions=self._companions)
        names = [longest.aside, partial_of(longest.done), partial_of(self.marker)]
        names += [_ending(owner, end) for owner in (longest.aside, self.live) for end in self._companions]
        for path in names:
            try:
                fingerprint(path)
            except OSError as error:
                raise ConnectorError(
                    f"the file system does not take the name {path.name}: {error.strerror}",
                    file=str(self.live),
                    next="give the component a path with a shorter name there, or on another file system",
                ) from error

    def holder(self) -> str | None:
        """Who put there what is live, in the terms of ``contracts.Occupied``.

        A marker counts only while what it was written for is what is live.
        """
        with os_errors("looking at what is live", self.live):
            marker = self._marker()
            if marker is not None:
                return str(marker.get("point", ""))
            return None if _is_empty(self.live) else ""

    # ------------------------------------------------------------------------------- what is where

    def _is(self, path: Path, wanted: str) -> bool:
        return fingerprint(path) == wanted

    def _is_ours(self) -> bool:
        marker = self._marker()
        return marker is not None and marker.get("token") == self._token

    def _marker(self) -> dict[str, Json] | None:
        """The marker, where it speaks of what is live now."""
        marker = _read_document(self.marker)
        live = fingerprint(self.live)
        return marker if marker is not None and live is not None and marker.get("live") == live else None

    def _record(self) -> _Record | None:
        try:
            document = _read_document(self.done)
            if document is None:
                return None
            return _Record(**{**document, "state": _State(document["state"])})  # type: ignore[arg-type]
        except (ValueError, KeyError, TypeError) as error:
            raise ConnectorError(
                f"the record of what was staged cannot be read: {error}",
                file=str(self.done),
                next="look at what lies beside the live path, put right by hand what is live, and remove it",
            ) from error

    def _observe_without_record(self) -> Observed:
        if self._is_ours():
            return Observed.ACTIVE
        left = fingerprint(self.staged) or fingerprint(self.previous)
        return Observed.PARTIAL if left else Observed.ABSENT

    def _observe(self, record: _Record) -> Observed:
        match record.state:
            case _State.STAGED:
                return Observed.STAGED if self._is(self.staged, record.staged) else Observed.PARTIAL
            case _State.SWITCHED:
                marker = self._marker()
                mine = marker is None or marker.get("token") == self._token
                return Observed.ACTIVE if mine and fingerprint(self.live) else Observed.UNKNOWN
            case _State.REVERTED:
                return Observed.REVERTED
        return Observed.PARTIAL

    # ------------------------------------------------------------------------------- rules

    def _to_switch(self) -> _Record | None:
        """The record to switch by; None when everything is done already."""
        record = self._record()
        if record and record.state is _State.REVERTING:
            self.revert()
            record = self._record()
        if (record and record.state is _State.SWITCHED) or (record is None and self._is_ours()):
            return None
        if record and (record.state is _State.SWITCHING or self._is(self.staged, record.staged)):
            return record
        raise ConnectorError(
            "nothing whole is staged beside what is live", file=str(self.live), next="stage it again"
        )

    def _refuse_stale_epoch(self, marker: Mapping[str, Json]) -> None:
        found = self._marker()
        if found is None or _epoch(found) <= _epoch(marker):
            return
        raise ConnectorError(
            f"run {found.get('run')} with the newer epoch {_epoch(found)} put there what is live; "
            f"epoch {_epoch(marker)} of run {marker.get('run')} is over",
            file=str(self.marker),
            next=f"stop this run; if that one is over and its vault is gone, remove {self.marker.name}",
        )

    def _refuse_stranger(self, record: _Record) -> None:
        """Refuse to move what neither was live before nor was staged, while the staged one is still held."""
        live = fingerprint(self.live)
        if live in (None, record.before, record.staged):
            return
        if self._is(self.staged, record.staged) or self._is(self.previous, record.staged):
            raise ConnectorError(
                "something else was put at the live path while it was being switched",
                file=str(self.live),
                next="move it away, then run the same command again",
            )

    # ------------------------------------------------------------------------------- moves

    def _bring(self, wanted: str, *, incoming: Path, aside: Path) -> None:
        """Make what has the fingerprint ``wanted`` live; what is live goes ``aside``."""
        if self._is(aside, wanted):  # an earlier move in the other direction was cut
            _rename(aside, incoming)
        if not self._is(self.live, wanted):
            if not self._is(incoming, wanted):
                raise ConnectorError(
                    "what should become live is gone",
                    file=str(incoming),
                    next="see what removed it; nothing was changed by this attempt",
                )
            self._move_companions(self.live, aside)
            self._put(incoming, aside)
        if fingerprint(incoming) is not None:
            _rename(incoming, aside)
        self._move_companions(incoming, self.live)
        _sync_folder(self.live.parent)

    def _put(self, incoming: Path, aside: Path) -> None:
        if fingerprint(self.live) is None:
            _rename(incoming, self.live)
        elif not _exchange(incoming, self.live):
            _rename(self.live, aside)
            _rename(incoming, self.live)

    def _take_away(self) -> None:
        """Leave nothing live, as it was before the switch."""
        self._move_companions(self.live, self.staged)
        if fingerprint(self.live) is not None:
            _rename(self.live, self.staged)
        self._move_companions(self.previous, self.live)
        _sync_folder(self.live.parent)

    def _move_companions(self, owner: Path, to: Path) -> None:
        for ending in self._companions:
            path = _ending(owner, ending)
            if fingerprint(path) is not None:
                _rename(path, _ending(to, ending))

    def _clear(self) -> None:
        """Remove all that is ours, the record first. Where nothing is, nothing is written: it may be read-only."""
        _unlink(self.done)
        _sync_folder(self.done.parent)
        for owner in (self.staged, self.previous):
            for ending in self._companions:
                _unlink(_ending(owner, ending))
            _remove(owner)
        for path in (self.done, self.marker):
            _unlink(partial_of(path))
        _sync_folder(self.done.parent)

    def _write_record(self, record: _Record) -> None:
        _write_document(self.done, asdict(record))

    def _restore_marker(self, record: _Record) -> None:
        if record.marker_before is None:
            self.marker.unlink(missing_ok=True)
            _sync_folder(self.marker.parent)
        else:
            _write_document(self.marker, record.marker_before)


class StagedBeside(ABC):
    """What the connectors of one path have in common, once ``stage`` has filled what ``beside`` names.

    Every method raises ``ConnectorError``, as ``Beside`` does, and may be called again after a crash.
    """

    @abstractmethod
    def beside(self, place: Place, token: str) -> Beside:
        """The staging of the operation ``token`` beside the live path of ``place``."""

    def activate(self, op: Op) -> None:
        """Exchange what is live for what is staged, in one rename."""
        self.beside(op.place, op.token).switch(marker_of(op))

    def revert(self, op: Op) -> None:
        """Exchange them back; what was written to the staged one meanwhile is kept with it."""
        self.beside(op.place, op.token).revert()

    def discard(self, op: Op) -> None:
        """Remove what is not live."""
        self.beside(op.place, op.token).discard()

    def set_aside(self, op: Op) -> list[Path]:
        """Keep what was live before the switch; see ``contracts.SetsAside``."""
        return self.beside(op.place, op.token).set_aside()

    def observe(self, op: Op) -> Observed:
        """How far the operation got."""
        return self.beside(op.place, op.token).observe()

    def holder(self, place: Place) -> str | None:
        """Who put there what is live; what is empty counts as nothing. See ``contracts.Occupied``.

        It is asked before anything is staged, so the names that staging will give are tried as well.
        """
        beside = self.beside(place, place.token)
        beside.try_names()
        return beside.holder()

    def holds(self, place: Place) -> Holds:
        """What is live, and what belongs to it under other names; see ``contracts.Holding``."""
        return Holds(paths=self.beside(place, place.token).belonging)

    def sites(self, place: Place) -> Mapping[str, Path]:
        """All of it beside what is live; see ``contracts.Sited``."""
        return {"": self.beside(place, place.token).live}


def fingerprint(path: Path) -> str | None:
    """What tells a file or folder from every other on its file system, wherever it is renamed to.

    The inode alone is given to the next file as soon as this one is removed; with the time of birth
    (``statx(2)``, where the file system keeps it) it is not. None where nothing lies there.
    """
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return f"{found.st_ino}:{birth_ns(path)}"


def _ending(owner: Path, ending: str) -> Path:
    """The companion of a file whose name ends so."""
    return owner.with_name(owner.name + ending)


def _epoch(marker: Mapping[str, Json]) -> int:
    epoch = marker.get("epoch")
    return epoch if isinstance(epoch, int) else 0


def _is_folder(path: Path) -> bool:
    """Whether a folder lies there itself, and no link to one."""
    return path.is_dir() and not path.is_symlink()


def _is_empty(path: Path) -> bool:
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    if stat.S_ISDIR(found.st_mode):
        with os.scandir(path) as entries:
            return next(entries, None) is None
    return stat.S_ISREG(found.st_mode) and found.st_size == 0


# ----------------------------------------------------------------------------------------- documents


def _write_document(path: Path, document: Mapping[str, Json]) -> None:
    replace_file(path, canonical_json(document) + b"\n")


def _read_document(path: Path) -> dict[str, Json] | None:
    try:
        with opened_file(path, follow=False) as descriptor:
            document = json.loads(os.pread(descriptor, _DOCUMENT_BYTES_MAX, 0))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError) as error:
        if path.name.endswith(".done") or (isinstance(error, OSError) and error.errno not in _NO_DOCUMENT):
            raise
        return None  # a marker that cannot be read marks nothing
    return document if isinstance(document, dict) else None


# ----------------------------------------------------------------------------------------- system calls


def _rename(source: Path, target: Path) -> None:
    source.rename(target)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one step (``renameat2(2)``); False where the file system cannot."""
    call = getattr(libc(), "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NO_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(other))


def _sync_folder(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        sync_folder(path)


def _sync_file_system(path: Path) -> None:
    """Bring everything written to a file system to its disk (``syncfs(2)``)."""
    with opened_folder(path) as handle:
        call = getattr(libc(), "syncfs", None)
        if call is None:
            os.sync()
        elif call(handle) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))


def _make_folder(path: Path) -> None:
    """Make a folder and those above it, each durable in the one that holds it."""
    if path.is_dir():
        return
    _make_folder(path.parent)
    path.mkdir(exist_ok=True)
    _sync_folder(path.parent)


def _unlink(path: Path) -> None:
    """Remove a file, if one is there: a read-only file system refuses even to remove nothing."""
    if fingerprint(path) is not None:
        path.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    """Remove a file or a folder with everything in it, read-only folders included."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        path.unlink()
        return
    remove_tree(path)
