"""Whether an SQLite database was changed, told from outside by any process and without opening it.

``PRAGMA data_version`` compares only within one connection, so it is no use between two runs. The formats:
https://www.sqlite.org/fileformat2.html and https://www.sqlite.org/walformat.html.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from refloat.connectors.beside import fingerprint
from refloat.digest import Json, json_digest
from refloat.durable import opened_file

HEADER_BYTES = 100
WAL_HEADER_BYTES = 32
WAL_INDEX_HEADER_BYTES = 48
_CHANGE_COUNTER = slice(24, 28)
_READ_AND_WRITE_VERSION = slice(18, 20)
_SCHEMA_FORMAT = slice(44, 48)
_KEEPS_A_LOG = b"\x02\x02"
_MAGIC, _VERSION_MAX, _SCHEMA_FORMAT_MAX = b"SQLite format 3\0", 2, 4  # what every SQLite since 2010 reads


def database_token(path: Path) -> str:
    """A digest that differs after every transaction of any process. Raises ``OSError``.

    Without a write-ahead log each transaction counts up the change counter in the header. With one, the
    header moves only at a checkpoint; then the wal-index header (the start of ``-shm``) counts transactions,
    and the log's own header and size tell where no ``-shm`` is. A checkpoint changes the token without a
    change of content, which costs a capture; a change without a new token does not happen.
    """
    found = path.stat()
    counter = _start(path, HEADER_BYTES)[_CHANGE_COUNTER].hex()
    parts: list[Json] = [fingerprint(path), found.st_size, found.st_mtime_ns, counter]
    log = _beside(path, "wal")
    with contextlib.suppress(FileNotFoundError):
        size, changed_ns = log.stat().st_size, log.stat().st_mtime_ns
        if size:
            index = _start(_beside(path, "shm"), WAL_INDEX_HEADER_BYTES)
            parts += [size, changed_ns, _start(log, WAL_HEADER_BYTES).hex(), index.hex()]
    return json_digest(parts)


def is_closed_log(path: Path) -> bool:
    """Whether the database keeps a write-ahead log that no program has open now. Raises ``OSError``."""
    versions = _start(path, HEADER_BYTES)[_READ_AND_WRITE_VERSION]
    return versions == _KEEPS_A_LOG and not _beside(path, "wal").exists()


def is_newer_format(path: Path) -> bool:
    """Whether the header asks for a reader of another time than ours. What cannot be read asks for nothing."""
    try:
        header = _start(path, HEADER_BYTES)
    except OSError:
        return False
    versions, schema = header[_READ_AND_WRITE_VERSION], int.from_bytes(header[_SCHEMA_FORMAT], "big")
    return header.startswith(_MAGIC) and (
        max(versions, default=0) > _VERSION_MAX or schema > _SCHEMA_FORMAT_MAX
    )


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}-{ending}")


def _start(path: Path, length: int) -> bytes:
    try:
        with opened_file(path) as descriptor:
            return os.pread(descriptor, length, 0)
    except FileNotFoundError:
        return b""
