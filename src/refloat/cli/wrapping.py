"""Lines that are longer than a terminal is wide, broken between words; a command in them can still be pasted."""

from __future__ import annotations

import textwrap

from refloat.cli.next_step import spans

_JOINT = "\N{NO-BREAK SPACE}"
"""What keeps the words of a command together while the line around it is broken."""


def wrapped(text: str, columns: int) -> str:
    """``text`` in lines of at most so many columns, as far as no word is longer; what follows is set in.

    A command stays whole where it fits on a line, and is else broken as a shell lets it be, by a backslash.
    """
    return "\n".join(_line(line, columns) if len(line) > columns else line for line in text.split("\n"))


def _line(line: str, columns: int) -> str:
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    whole = line
    for start, end in spans(line):
        whole = whole[:start] + whole[start:end].replace(" ", _JOINT) + whole[end:]
    broken = _broken(whole, columns, indent)
    return "\n".join(
        part.replace(_JOINT, " ") if len(part) <= columns else _continued(part, columns, indent)
        for part in broken
    )


def _continued(part: str, columns: int, indent: str) -> str:
    return " \\\n".join(_broken(part.replace(_JOINT, " "), columns - 2, f"{indent}  "))


def between_words(text: str, columns: int, indent: str = "") -> list[str]:
    """A text in lines of at most so many columns, as far as no word is longer; an empty one is a line too."""
    return _broken(text, max(columns, 1), indent) or [""]


def _broken(text: str, columns: int, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        columns,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        expand_tabs=False,
    )
