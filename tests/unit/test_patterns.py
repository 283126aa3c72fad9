"""One rule of matching, wherever paths are included, excluded or come first."""

from __future__ import annotations

import pytest

from refloat.patterns import EVERYTHING, Selection, checked, rank

LATIN = b"content/caf\xe9".decode("utf-8", "surrogateescape")
MATCHES = [
    ("*.bin", "content/deep/page.bin", True),
    ("*.bin", "content/deep/page.BIN", False),  # case counts
    ("deep", "content/deep/page.bin", True),  # what matches brings what is below it
    ("deep", "content/deeper/page.bin", False),
    ("content/*.bin", "content/deep/page.bin", True),  # with a slash, * crosses slashes
    ("deep/*", "content/deep/page.bin", False),  # and the whole path is meant
    ("two*", "content/two\nlines", True),
    ("-*", "content/-dash", True),
    ("caf?", LATIN, True),  # a byte that is not UTF-8 is one character
    ("[*]", "content/*", True),
    ("[*]", "content/a", False),
]


@pytest.mark.parametrize(("pattern", "path", "is_meant"), MATCHES)
def test_what_a_pattern_means(pattern: str, path: str, is_meant: bool) -> None:
    assert Selection(include=(pattern,)).holds(path) is is_meant
    assert Selection(exclude=(pattern,)).holds(path) is not is_meant


def test_what_is_excluded_is_so_whatever_else_names_it() -> None:
    chosen = Selection(include=("*.bin",), exclude=("old",), paths=("content/a",))
    assert chosen.holds("content/a/b.bin")
    assert not chosen.holds("content/a/old/b.bin")
    assert not chosen.holds("content/b.bin"), "it is not below a path that was named"
    assert EVERYTHING.holds("anything/at all")


def test_only_folders_that_may_hold_something_are_looked_into() -> None:
    chosen = Selection(exclude=("old",), paths=("a/b",))
    assert [chosen.enters(folder) for folder in ("a", "a/b", "a/b/c")] == [True, True, True]
    assert [chosen.enters(folder) for folder in ("a/bc", "c", "a/b/old")] == [False, False, False]


def test_the_first_pattern_that_matches_says_how_early_a_file_comes() -> None:
    patterns = ("config.json", "*.json", "a/*")
    assert [rank(patterns, path) for path in ("a/config.json", "a/b.json", "a/c", "c")] == [0, 1, 2, None]


@pytest.mark.parametrize("pattern", ["", "/a", "a/"])
def test_a_pattern_that_matches_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="matches nothing"):
        checked(pattern)
