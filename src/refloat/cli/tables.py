"""How rows and columns are laid out in the width that there is: no word of a table is ever broken or cut.

Where a line is too narrow for what is in the columns, first their headings are broken between words, then what stands
in the widest columns; where that does not do, each row becomes a block of lines, one for each column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest

from refloat.cli.wrapping import between_words

EDGE = " "
GAP = "  "
RULE = "\N{BOX DRAWINGS LIGHT HORIZONTAL}"
TEXT_COLUMNS_MIN = 12  # a column of fewer would be a ladder of single words

Style = Callable[[str, str], str]
"""A part of a line, and the whole text that it is of, empty for a heading: the part as it is written."""


def laid_out(
    headings: Sequence[str], rows: Iterable[Sequence[str]], columns: int | None, style: Style
) -> list[str]:
    """The lines of a table of at most so many columns, as far as no single word is longer; None is any width."""
    known = [tuple(row) for row in rows]
    widths = _widths(headings, known, columns)
    if widths is None:
        return [line for row in known for line in _block(headings, row, columns or 0, style)]
    lines = _row(headings, widths, lambda part, _: style(part, ""))
    lines.append(EDGE + RULE * (sum(widths) + len(GAP) * (len(widths) - 1)))
    return lines + [line for row in known for line in _row(row, widths, style)]


def _widths(headings: Sequence[str], rows: Sequence[Sequence[str]], columns: int | None) -> list[int] | None:
    """How wide each column is; None where even the words of the texts do not fit beside each other."""
    cells = [[row[at] for row in rows] for at in range(len(headings))]
    contents = [max(map(width, column), default=0) for column in cells]
    wanted = [max(own, width(heading)) for own, heading in zip(contents, headings, strict=True)]
    if columns is None:
        return wanted
    room = columns - len(EDGE) - len(GAP) * (len(headings) - 1)
    if sum(wanted) <= room:
        return wanted
    least = [max(own, _longest_word([heading])) for own, heading in zip(contents, headings, strict=True)]
    words = [
        max(_longest_word([heading, *column]), TEXT_COLUMNS_MIN)
        for heading, column in zip(headings, cells, strict=True)
    ]
    while sum(least) > room:
        widest = max(range(len(headings)), key=lambda at: least[at] * (least[at] > words[at]))
        if least[widest] <= words[widest]:
            return None
        least[widest] -= 1
    for at in range(len(headings)):  # what is left goes to the headings, from the first on
        least[at] += min(wanted[at] - least[at], room - sum(least))
    return least


def _row(cells: Sequence[str], widths: Sequence[int], style: Style) -> list[str]:
    parts = [between_words(cell, columns) for cell, columns in zip(cells, widths, strict=True)]
    lines = []
    for line in zip_longest(*parts, fillvalue=""):
        drawn = [
            style(part, cell) + " " * (columns - width(part))
            for part, cell, columns in zip(line, cells, widths, strict=True)
        ]
        lines.append((EDGE + GAP.join(drawn)).rstrip())
    return lines


def _block(headings: Sequence[str], row: Sequence[str], columns: int, style: Style) -> list[str]:
    """One row as lines: the first column, and below it each other one that says something."""
    lines: list[str] = []
    for heading, cell in zip(headings, row, strict=True):
        indent = "   " if lines else EDGE
        if cell or not lines:
            name = f"{heading}: " if heading else ""
            first, *more = between_words(f"{name}{cell}", columns - len(indent), "  ")
            if first.startswith(name):
                first = (
                    style(name, "") + style(first.removeprefix(name), cell) if name else style(first, cell)
                )
            lines += [f"{indent}{first}", *(f"{indent}{style(line, cell)}" for line in more)]
    return lines


def _longest_word(texts: Iterable[str]) -> int:
    return max((width(word) for text in texts for word in text.split()), default=0)


def width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
