"""What a component uses in one place and must not share with another: folders, files, ports and addresses.

Places on disk are told by where they really are, whatever links and dots they are spelled with. A port of this machine
counts as shared whatever name it is reached by, since one machine has many.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

_HERE = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0", "::", ""})
_WORD = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"',;]+|/[^\s\"',;:=]*|\d{2,5}", re.IGNORECASE)
_WEB = {"http": 80, "https": 443, "ws": 80, "wss": 443}
ROOT_PARTS_MAX = 2  # `/` and one folder, such as `/srv`: what all programs of a machine have in common


@dataclass(frozen=True)
class Holds:
    """What one component uses in one place.

    ``paths`` are files and folders that it reads or writes, ``working`` the folders that its programs run in, ``ports``
    those of this machine, ``urls`` addresses. ``mentions`` are texts that are given to its programs: they may name a
    path, an address or a port, and may hold secrets, so nothing of them is ever shown.
    """

    paths: tuple[Path, ...] = ()
    working: tuple[Path, ...] = ()
    ports: tuple[int, ...] = ()
    urls: tuple[str, ...] = ()
    mentions: tuple[str, ...] = field(default=(), repr=False)


def shared(mine: Holds, theirs: Holds) -> str | None:
    """What of ``theirs`` is used by ``mine`` as well, as people call it; None where they lie apart.

    One path that lies in another is shared. What a text of either names is shared where it is the other's, lies in what
    is the other's, or holds it: mine may name what holds my own places as well, but theirs may be anything that looks
    through all below, so none of it may hold a place of mine.
    """
    own, other = _paths(mine), _paths(theirs)
    mine_on_disk, theirs_on_disk = [*own, *map(_real, mine.working)], [*other, *map(_real, theirs.working)]
    for one, path in product(mine_on_disk, theirs_on_disk):
        if one.is_relative_to(path) or path.is_relative_to(one):
            return f"{path}"
    for asked, server in product(_servers(mine), _servers(theirs)):
        if asked.same_as(server):
            return str(server)
    if known := _common(_buckets(mine), _buckets(theirs)):
        return known
    return _mentioned(mine, theirs, mine_on_disk) or _mentioned(theirs, mine, None)


@dataclass(frozen=True)
class _Server:
    host: str
    port: int

    def same_as(self, other: _Server) -> bool:
        if self.port != other.port:
            return False
        return self.host == other.host or self.is_here or other.is_here

    @property
    def is_here(self) -> bool:
        return self.host in _HERE or self.host in _names_of_this_machine()

    def __str__(self) -> str:
        return f"port {self.port}" + (f" of {self.host}" if self.host not in _HERE else "")


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _paths(holds: Holds) -> list[Path]:
    told = (path for url in holds.urls if (path := _path_in(url)) is not None)
    return [_real(path) for path in (*holds.paths, *told)]


def _path_in(url: str) -> Path | None:
    """The path on this machine that an address such as ``file:///srv/x`` or ``sqlite:////srv/x.db`` leads to."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() in _WEB or not rest.startswith("/"):
        return None
    return Path("/" + rest.partition("?")[0].lstrip("/"))


def _server_of(url: str) -> _Server | None:
    try:
        parts = urlsplit(url)
        port = parts.port or _WEB.get(parts.scheme.lower())
    except ValueError:
        return None
    known = port is not None and (parts.scheme.lower() in _WEB or parts.port is not None)
    return _Server((parts.hostname or "").lower(), port) if known and port else None


def _servers(holds: Holds) -> list[_Server]:
    told = (server for url in holds.urls if (server := _server_of(url)) is not None)
    return [*(_Server("localhost", port) for port in holds.ports), *told]


def _buckets(holds: Holds) -> list[str]:
    """Addresses of what is no web server, without credentials and with a ``/`` at their end."""
    return [
        f"{parts.scheme}://{parts.hostname}{parts.path.rstrip('/')}/"
        for url in holds.urls
        if _path_in(url) is None and _server_of(url) is None and (parts := urlsplit(url)).scheme
    ]


def _mentioned(teller: Holds, other: Holds, own: list[Path] | None) -> str | None:
    """What is the other's and named by a text of the teller: a path, a server, a bucket, or one of its ports alone.

    ``own`` are the teller's places where it may name what holds these; None where it may not.
    """
    paths, servers = _paths(other), _servers(other)
    for word in _words(teller):
        if word.isdigit():
            found = next((str(s) for s in servers if s.port == int(word)), None)
        elif "://" in word and _path_in(word) is None:
            asked, there = _server_of(word), _buckets(Holds(urls=(word,)))
            found = next((str(s) for s in servers if asked is not None and asked.same_as(s)), None)
            found = found or _common(there, _buckets(other))
        else:
            named = _real(_path_in(word) or Path(word))
            found = next((str(path) for path in paths if _leads_to(named, path, own)), None)
        if found is not None:
            return found
    return next((str(path) for path in paths if _is_spelled_out(path, teller)), None)


def _leads_to(named: Path, path: Path, own: list[Path] | None) -> bool:
    if named.is_relative_to(path):
        return True
    if own is None:
        return path.is_relative_to(named) and len(named.parts) > ROOT_PARTS_MAX
    return path.is_relative_to(named) and not any(one.is_relative_to(named) for one in own)


def _is_spelled_out(path: Path, teller: Holds) -> bool:
    """Whether a path that is more than one word of a text stands in one all the same."""
    told = re.compile(re.escape(str(path)) + r"(?![^\s/\"',;:=])")
    return _WORD.fullmatch(str(path)) is None and any(told.search(text) for text in teller.mentions)


def _common(mine: list[str], theirs: list[str]) -> str | None:
    pairs = product(mine, theirs)
    return next((known for one, known in pairs if one.startswith(known) or known.startswith(one)), None)


@cache
def _names_of_this_machine() -> frozenset[str]:
    """What this machine calls itself, and the addresses that its name leads to here; nobody else is asked."""
    name = socket.gethostname().lower()
    found = {name, name.partition(".")[0]}
    with suppress(OSError):
        found |= {str(info[4][0]) for info in socket.getaddrinfo(name, None)}
    return frozenset(found)


def _words(holds: Holds) -> Iterator[str]:
    for text in holds.mentions:
        for match in _WORD.finditer(text):
            yield match[0]
