"""Which paths of a component are meant: one rule of matching for everything that includes, excludes or comes first.

A pattern is one of ``fnmatch``: ``*`` is any text, ``?`` one character, ``[abc]`` one of some, and case counts.
One without ``/`` is compared with the last name of a path, at any depth; one with ``/`` with the whole path, and
its ``*`` crosses ``/``. What matches brings everything below it. Bytes that are not UTF-8 are surrogates, each one
character.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


def checked(pattern: str) -> str:
    """``pattern``, unless no path could ever match it. Raises ``ValueError``."""
    if not pattern:
        raise ValueError("an empty pattern matches nothing")
    if pattern.startswith("/") or pattern.endswith("/"):
        raise ValueError(f"{pattern!r} matches nothing: no path begins or ends with a slash")
    return pattern


def matches(patterns: Iterable[str], path: str) -> bool:
    """Whether a pattern matches this very path, not only something above it."""
    return rank(patterns, path) is not None


def rank(patterns: Iterable[str], path: str) -> int | None:
    """Which pattern is the first that matches a path, counted from 0; None where none does."""
    name = path.rpartition("/")[2]
    for number, pattern in enumerate(patterns):
        if fnmatch.fnmatchcase(path if "/" in pattern else name, pattern):
            return number
    return None


def lineage(path: str) -> Iterator[str]:
    """A path, and every folder above it, the nearest first."""
    while path:
        yield path
        path = path.rpartition("/")[0]


@dataclass(frozen=True)
class Selection:
    """The paths that are below one of ``paths`` and match ``include``, where these say anything, and not ``exclude``.

    What is excluded is so with all below it, whatever else names it.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    def holds(self, path: str) -> bool:
        """Whether a path is meant."""
        if self == EVERYTHING:
            return True
        above = [*lineage(path)]
        return (
            (not self.paths or any(one in self.paths for one in above))
            and (not self.include or any(matches(self.include, one) for one in above))
            and not any(matches(self.exclude, one) for one in above)
        )

    def enters(self, folder: str) -> bool:
        """Whether something below a folder may be meant, so that it must be looked into."""
        if matches(self.exclude, folder):
            return False
        return not self.paths or any(
            folder == path or path.startswith(f"{folder}/") or folder.startswith(f"{path}/")
            for path in self.paths
        )


EVERYTHING = Selection()
