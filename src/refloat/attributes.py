"""Whose a file is and what else its file system keeps of it: owner, group, extended attributes, access lists.

Read where something is captured and set where it is written, as far as the one who restores may; a ``Withheld`` counts
what could not be. Of the extended attributes those of users are kept, and POSIX access lists, which are stored as
such; what a system makes by itself (``security.selinux``, ``trusted.*``) is not, and nothing that would make whoever
runs a file more than they are: set-user-id bits and capabilities.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache

from refloat.limits import ATTRIBUTE_NAME_BYTES_MAX, ATTRIBUTES_BYTES_MAX, ATTRIBUTES_MAX

ACCESS_LIST = "system.posix_acl_access"
DEFAULT_LIST = "system.posix_acl_default"
_OWN = "user."  # the names that anybody may use
_PRINCIPAL_CHARS_MAX = 256  # LOGIN_NAME_MAX on Linux
_LOOKED_UP_MAX = 4096  # names of users and groups that are remembered
# tag, permissions, id; after four bytes of version (linux/posix_acl_xattr.h)
_ACL_ENTRY = struct.Struct("<HHI")
_ACL_GROUP = 0x04


@dataclass(frozen=True)
class Principal:
    """A user or a group: its number, and its name where it had one."""

    id: int
    name: str = ""


@dataclass(frozen=True)
class Attributes:
    """What is kept of a path besides mode and time. An owner or group that is not told is root's."""

    owner: Principal | None = None
    group: Principal | None = None
    xattrs: tuple[tuple[str, bytes], ...] = ()

    def __bool__(self) -> bool:
        return self != PLAIN


PLAIN = Attributes()
"""Of what belongs to root and has nothing else: a restorer's own."""


def may_be_named(name: str) -> bool:
    """Whether a user or a group of this name is captured as such, and taken from a vault."""
    return len(name) <= _PRINCIPAL_CHARS_MAX and name.isprintable()


def may_be_kept(name: str) -> bool:
    """Whether an extended attribute of this name is captured, and taken from a vault."""
    return name in (ACCESS_LIST, DEFAULT_LIST) or (
        name.startswith(_OWN)
        and "\0" not in name
        and len(name.encode("utf-8", "surrogateescape")) <= ATTRIBUTE_NAME_BYTES_MAX
    )


def within_limits(xattrs: tuple[tuple[str, bytes], ...]) -> bool:
    """Whether these are few and small enough to be stored with an entry."""
    size = sum(len(name) + len(value) for name, value in xattrs)
    return len(xattrs) <= ATTRIBUTES_MAX and size <= ATTRIBUTES_BYTES_MAX


# --------------------------------------------------------------------------------------------- capture


def seen(found: os.stat_result, path: str) -> tuple[Attributes, bool]:
    """What is kept of a path, which is not followed; False where its extended attributes are too many or too large."""
    owner = Principal(found.st_uid, _user_name(found.st_uid)) if found.st_uid else None
    group = Principal(found.st_gid, _group_name(found.st_gid)) if found.st_gid else None
    has_some = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
    xattrs = _xattrs(path) if has_some else ()
    whole = within_limits(xattrs)
    return Attributes(owner, group, xattrs if whole else ()), whole


def _xattrs(path: str) -> tuple[tuple[str, bytes], ...]:
    if sys.platform != "linux":
        return ()
    try:
        names = sorted(name for name in os.listxattr(path, follow_symlinks=False) if may_be_kept(name))
        return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)
    except OSError:
        return ()  # its file system has none, or it vanished or lost one meanwhile: its time of change tells


@lru_cache(_LOOKED_UP_MAX)
def _user_name(number: int) -> str:
    return _told(lambda: pwd.getpwuid(number).pw_name)


@lru_cache(_LOOKED_UP_MAX)
def _group_name(number: int) -> str:
    return _told(lambda: grp.getgrgid(number).gr_name)


def _told(look_up: Callable[[], str]) -> str:
    """The name that is found; empty where there is none, or none that is taken from a vault."""
    try:
        name = look_up()
    except KeyError:
        return ""
    return name if may_be_named(name) else ""


# --------------------------------------------------------------------------------------------- restore


@dataclass
class Withheld:
    """What of what was captured could not be set, counted; threads may share it."""

    paths: int = 0
    first: str = ""
    why: str = ""
    kinds: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, name: bytes, failed: dict[str, OSError]) -> None:
        """One path has not all of it; nothing where all could be set."""
        if not failed:
            return
        with self._lock:
            self.paths += 1
            self.kinds |= failed.keys()
            if not self.first:
                error = next(iter(failed.values()))
                self.first, self.why = name.decode("utf-8", "backslashreplace"), error.strerror or str(error)

    def remarks(self) -> list[str]:
        """The sentence that says so, or none."""
        if not self.paths:
            return []
        return [
            f"{self.paths} file{'' if self.paths == 1 else 's and folders'} came back without "
            f"{', '.join(sorted(self.kinds))}, which could not be set ({self.why}), the first of them "
            f"{self.first!r}; where the owner is lacking they belong to whoever ran this: run it as root to have "
            "them as they were"
        ]


def put(descriptor: int, mode: int, attributes: Attributes) -> dict[str, OSError]:
    """Give an open file or folder its owner and group, then its mode, then all else; what failed, and why.

    Without its access list a file grants its group no more than the list did. Raises ``OSError`` where even the mode
    cannot be set.
    """
    failed = put_owner(
        os.fstat(descriptor), attributes, lambda owner, group: os.fchown(descriptor, owner, group)
    )
    os.fchmod(descriptor, mode)  # after the owner, whose change takes bits of it away
    for name, value in attributes.xattrs:
        try:
            _set(descriptor, name, value)
        except OSError as error:
            failed[_kind(name)] = error
            if name == ACCESS_LIST:
                os.fchmod(descriptor, mode & _without_list(value))
    return failed


def put_owner(
    found: os.stat_result, attributes: Attributes, chown: Callable[[int, int], None]
) -> dict[str, OSError]:
    """Change owner and group of what is ``found`` to those captured, by name where that is known here, else by number.

    What failed, and why.
    """
    failed = {}
    owner = _here(attributes.owner, lambda name: pwd.getpwnam(name).pw_uid)
    group = _here(attributes.group, lambda name: grp.getgrnam(name).gr_gid)
    if group not in (None, found.st_gid):
        try:
            chown(-1, group)
        except OSError as error:
            failed["group"] = error
    if owner not in (None, found.st_uid):
        try:
            chown(owner, -1)
        except OSError as error:
            failed["owner"] = error
    return failed


def _here(principal: Principal | None, number_of: Callable[[str], int]) -> int | None:
    """The number that the name has here, else the one that was captured."""
    if principal is None:
        return None
    with suppress(KeyError):
        if principal.name:
            return number_of(principal.name)
    return principal.id


def _set(descriptor: int, name: str, value: bytes) -> None:
    if sys.platform == "linux":
        os.setxattr(descriptor, name, value)
    else:
        raise OSError("this system has none of Linux's extended attributes")


def _kind(name: str) -> str:
    return "access lists" if name in (ACCESS_LIST, DEFAULT_LIST) else "extended attributes"


def _without_list(access_list: bytes) -> int:
    """A mask for a mode whose bits for the group are the list's widest: what the list says of the group itself."""
    body = access_list[4:]
    for tag, permissions, _ in _ACL_ENTRY.iter_unpack(body[: len(body) - len(body) % _ACL_ENTRY.size]):
        if tag == _ACL_GROUP:
            return ~stat.S_IRWXG | (int(permissions) & 0o7) << 3
    return ~stat.S_IRWXG
