"""A command line as words: which of them are global options, and in what order typer wants them."""

from __future__ import annotations

from collections.abc import Sequence

LENGTH_MAX = 500  # characters of a command line that is shown again
_FLAGS = frozenset({"--json", "--debug", "--quiet", "-q", "--no-color"})
FILE = frozenset({"-f", "--file"})  # which take a value


def hoisted(arguments: Sequence[str]) -> list[str]:
    """The global options first, wherever they stood, so that ``refloat check --json`` works too."""
    before: list[str] = []
    after: list[str] = []
    ahead = iter(arguments)
    for argument in ahead:
        if argument == "--":
            return [*before, *after, argument, *ahead]
        if argument in FILE:
            before += [argument, *([value] if (value := next(ahead, None)) is not None else [])]
        elif argument in _FLAGS or argument.startswith("--file="):
            before.append(argument)
        else:
            after.append(argument)
    return before + after


def behind_globals(arguments: Sequence[str]) -> list[str]:
    """The verb and what belongs to it, in the order in which it stood."""
    words = hoisted(arguments)
    while words and (words[0] in FILE or words[0] in _FLAGS or words[0].startswith("--file=")):
        words = words[2 if words[0] in FILE else 1 :]
    return words
