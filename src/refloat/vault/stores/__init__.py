"""Where objects live: a directory, an object store, memory; and wrappers that fail or trace."""

from __future__ import annotations

import threading
from urllib.parse import unquote, urlsplit

from refloat.contracts import Store
from refloat.errors import UsageError
from refloat.manifest.address import Address
from refloat.vault.stores.local import LocalStore
from refloat.vault.stores.memory import MemoryStore

OBJECT_SCHEMES = ("s3", "gs", "az")

_memories: dict[str, MemoryStore] = {}
_memories_lock = threading.Lock()


def open_store(url: str) -> Store:
    """The store at an address; nothing is written, and nothing is asked of it yet.

    A path or ``file://`` is a directory, ``memory://NAME`` is this process's own, and ``s3://``, ``gs://``
    and ``az://`` are buckets, configured by the access that an ``Address`` has, else from the usual environment.
    Raises ``UsageError`` for any other.
    """
    scheme, separator, rest = url.partition("://")
    if isinstance(url, Address) and scheme not in OBJECT_SCHEMES:
        raise UsageError(f"{url} is no bucket, and needs no `store` to be reached", next="remove `store`")
    if not separator:
        return LocalStore(_path(url))
    if scheme == "file":
        return LocalStore(_file_path(url))
    if scheme == "memory":
        return _memory(rest)
    if scheme in OBJECT_SCHEMES:
        from refloat.vault.stores.object import open_bucket  # obstore is loaded only where it is used

        return open_bucket(url)
    raise UsageError(
        f"{scheme!r} is not a kind of store",
        next="write a path, file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix",
    )


def _path(text: str) -> str:
    if not text:
        raise UsageError("the address of a store is empty", next="write a path or a URL")
    return text


def _file_path(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise UsageError(f"{url!r} is not a file on this machine", next="write file:///absolute/path")
    return unquote(parts.path)


def _memory(name: str) -> MemoryStore:
    if not name:
        raise UsageError("a store in memory needs a name", next="write memory://NAME")
    with _memories_lock:
        return _memories.setdefault(name, MemoryStore(name))
