"""Predictions: an append-only log of JSON Lines, captured up to a high-water mark while it grows.

A snapshot holds ``log.jsonl``: every whole line that was there at one moment. What is appended later is
what a recovery to this point loses, and the facts say where the log stood: bytes, records, last time.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

from pydantic import Field

from refloat.connectors.allowance import Allowance, os_errors, unlimited
from refloat.connectors.beside import Beside, StagedBeside, located
from refloat.contracts import PROBE_ID_START, Facts, Health, Layer, Op, Place, Settings, Sink, Source, Spec
from refloat.digest import Json
from refloat.durable import opened_file
from refloat.errors import ConnectorError, Retry
from refloat.limits import MIB

LOG = "log.jsonl"
NEWLINE = b"\n"

_BLOCK_BYTES = MIB
_LOOK_BYTES = 4 * MIB  # of the end of a log: the last measurement, without reading all that users asked
_PROBE_ID = re.compile(rb"%s-?%s" % (PROBE_ID_START[:8].encode(), PROBE_ID_START[8:].encode()), re.IGNORECASE)
_LINE_BYTES_MAX = 16 * MIB  # a longer line is no record of a prediction; it is counted, not looked into


class PredictionsSettings(Settings):
    """``path``: the log; a relative one starts at the current directory.

    ``time_field`` and ``id_field`` name the keys of a record that hold its time and its identifier; ``probes`` are the
    keys and values of each record that no user caused, but a question of a verification.
    """

    path: str = Field(min_length=1)
    time_field: str = "time"
    id_field: str = "id"
    probes: Mapping[str, Json] = Field(default_factory=dict)


@dataclass
class _Tally:
    """What is known of a run of whole lines: how many, the digest of the first, and the last one.

    Only the first ``_LINE_BYTES_MAX`` bytes of a line count, so that the digest does not depend on how the
    bytes came in.
    """

    size: int = 0
    records: int = 0
    first: str = ""
    last: bytes = b""
    _open: bytes = b""

    def feed(self, block: bytes) -> None:
        """Take in the next bytes."""
        self.size += len(block)
        end = block.rfind(NEWLINE)
        if end < 0:
            self._open += block[: _LINE_BYTES_MAX - len(self._open)]
            return
        if not self.records:
            self.first = f"sha256:{hashlib.sha256(self._line(block[: block.find(NEWLINE)])).hexdigest()}"
        self.records += block.count(NEWLINE)
        before = block.rfind(NEWLINE, 0, end)
        self.last = self._line(block[:end]) if before < 0 else block[before + 1 : end][:_LINE_BYTES_MAX]
        self._open = block[end + 1 :][:_LINE_BYTES_MAX]

    def _line(self, rest: bytes) -> bytes:
        return (self._open + rest)[:_LINE_BYTES_MAX]

    def facts(self, settings: PredictionsSettings, token: str) -> Facts:
        """The facts of the lines."""
        last = _record(self.last)
        position: dict[str, Json] = {
            "bytes": self.size,
            "records": self.records,
            "last": _scalar(last.get(settings.time_field)),
            "last_id": _scalar(last.get(settings.id_field)),
        }
        return Facts(identity={"first": self.first}, position=position, token=token)


class _Tallied(io.RawIOBase):
    """The first ``length`` bytes of a file, tallied as they are read."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file = file
        self._left = length
        self.tally = _Tally()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        block = self._file.read(min(len(buffer), self._left))
        buffer[: len(block)] = block
        self._left -= len(block)
        self.tally.feed(block)
        return len(block)


class Predictions(StagedBeside):
    """The connector of a prediction log."""

    spec: ClassVar[Spec] = Spec(
        kind="predictions",
        summary="an append-only log of requests and responses, as JSON Lines",
        layer=Layer.DATA,
        settings=PredictionsSettings,
    )

    def inspect(self, place: Place) -> Facts:
        """The first record's digest; bytes, records, and time and identifier of the last whole record.

        An empty log is a log. Raises ``ConnectorError`` where there is none.
        """
        settings = _settings(place)
        path = located(place, _live(settings))
        with os_errors("reading the log", path), _opened(path) as file:
            found = os.fstat(file.fileno())
            return _tally(file, _whole_bytes(file, found.st_size)).facts(settings, _token(found))

    def capture(self, sink: Sink, op: Op) -> Facts:
        """Copy the whole lines that are there now; facts of exactly these.

        Raises ``ConnectorError`` when the log is cut short in the middle of it.
        """
        settings = _settings(op.place)
        path = located(op.place, _live(settings))
        allowance = Allowance(op, "capturing the log")
        allowance.check()
        with os_errors("capturing the log", path), _opened(path) as file:
            found = os.fstat(file.fileno())
            token, length = _token(found), _whole_bytes(file, found.st_size)
            carried = sink.carry(LOG, token)
            tally = _tally(file, length, allowance.check) if carried else _store(sink, file, length, found)
            allowance.check()
            if tally.size < length:
                raise ConnectorError(
                    "the log was cut short while it was read",
                    file=str(path),
                    retry=Retry.NOW,
                    next="rotate by renaming, not by truncating; then protect again",
                )
            return tally.facts(settings, token)

    def stage(self, source: Source, op: Op) -> None:
        """Write the log beside the live one and count its records again."""
        settings = _settings(op.place)
        allowance = Allowance(op, "staging the log")
        allowance.check()

        def write(staged: Path) -> None:
            with os_errors("staging the log", staged):
                source.fetch(LOG, staged)
                with _opened(staged) as file:
                    found = _tally(file, os.fstat(file.fileno()).st_size, allowance.check)
                _require_same(found.facts(settings, "").position, source.facts, staged)
            allowance.check()

        self.beside(op.place, op.token).stage(write)

    def beside(self, place: Place, token: str) -> Beside:
        """Staging beside the log."""
        return Beside(_live(_settings(place)), token)

    def health(self, place: Place) -> Health:
        """Whether the log can be read and its last whole line is a record."""
        path = located(place, _live(_settings(place)))
        try:
            with os_errors("reading the log", path), _opened(path) as file:
                tally = _tally(file, _whole_bytes(file, os.fstat(file.fileno()).st_size))
        except ConnectorError:
            return Health.SICK
        return Health.HEALTHY if not tally.records or _record(tally.last) else Health.SICK

    def remarks(self, place: Place) -> list[ConnectorError]:
        """Whether the end of the log holds questions of a verification that pass for those of users."""
        settings = _settings(place)
        path = located(place, _live(settings))
        with os_errors("reading the log", path), _opened(path) as file:
            size = _whole_bytes(file, os.fstat(file.fileno()).st_size)
            start = max(0, size - _LOOK_BYTES)
            lines = os.pread(file.fileno(), size - start, start).split(NEWLINE)
        found = [record for line in lines if _PROBE_ID.search(line) and (record := _record(line))]
        asked = [record for record in found if _PROBE_ID.match(str(record.get(settings.id_field)).encode())]
        unmarked = [record for record in asked if not _is_marked(record, settings.probes)]
        return [_unmarked(len(unmarked), settings)] if unmarked else []


def _is_marked(record: Mapping[str, object], probes: Mapping[str, Json]) -> bool:
    return bool(probes) and all(record.get(key) == value for key, value in probes.items())


def _unmarked(count: int, settings: PredictionsSettings) -> ConnectorError:
    lack = f"without {dict(settings.probes)}" if settings.probes else "and nothing says how they are marked"
    return ConnectorError(
        f"the log holds questions of a verification, {lack}: {count} of its newest records would pass for users'",
        next="let the endpoint mark or leave out what comes with X-Refloat-Probe, and say how: probes: {source: probe}",
    )


def _settings(place: Place) -> PredictionsSettings:
    return place.settings_as(PredictionsSettings)


def _live(settings: PredictionsSettings) -> Path:
    return Path(settings.path).absolute()


# ----------------------------------------------------------------------------------------- reading


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with opened_file(path) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
        yield file


def _token(found: os.stat_result) -> str:
    return f"{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"


def _whole_bytes(file: BinaryIO, size: int) -> int:
    """How many of the first ``size`` bytes are whole lines: those up to the last newline."""
    end = size
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        newline = os.pread(file.fileno(), end - start, start).rfind(NEWLINE)
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _tally(file: BinaryIO, length: int, check: Callable[[], None] = unlimited) -> _Tally:
    """Read all of it; ``check`` raises once that is no longer wanted."""
    reader = _Tallied(file, length)
    buffer = memoryview(bytearray(_BLOCK_BYTES))
    while reader.readinto(buffer):
        check()
    return reader.tally


def _store(sink: Sink, file: BinaryIO, length: int, found: os.stat_result) -> _Tally:
    reader = _Tallied(file, length)
    sink.file(
        LOG,
        io.BufferedReader(reader, _BLOCK_BYTES),
        mode=stat.S_IMODE(found.st_mode),
        mtime_ns=found.st_mtime_ns,
        token=_token(found),
        length=length,
    )
    return reader.tally


def _record(line: bytes) -> dict[str, object]:
    """A line as a record; an empty one for what is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _scalar(value: object) -> Json:
    return value if isinstance(value, str | int) else None


def _require_same(found: object, captured: Facts, staged: Path) -> None:
    if found != dict(captured.position):
        raise ConnectorError(
            f"the staged log is not the captured one: it holds {found}, not {dict(captured.position)}",
            file=str(staged),
            next="recover from another recovery point, or give the log the same `time_field` and `id_field`",
        )
