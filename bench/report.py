"""What a benchmark found, as values that print: as Markdown for the file, as tables for a terminal."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from refloat.verification.metrics import percentile_interval, samples_needed

MIB = 1024 * 1024
ABSENT = "-"


def figure(value: float) -> str:
    """A number in three significant digits, and never with an exponent: ``0.0123``, ``4.56``, ``1234``."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(max(decimals, 0), 5)}f}"


@dataclass(frozen=True)
class Series:
    """One thing measured again and again, in the order in which it was, in one unit."""

    values: tuple[float, ...]
    unit: str

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a series of nothing")

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        """The median with the smallest and the largest: ``1.23 s (1.20 to 1.31)``."""
        low, high = figure(min(self.values)), figure(max(self.values))
        return f"{figure(self.median)} {self.unit} ({low} to {high})"

    def against(self, most: float) -> str:
        """The aim that the median may be at most ``most``, and whether it is."""
        return f"at most {figure(most)} {self.unit}: {_met(self.median, most)}"


@dataclass(frozen=True)
class Ratio:
    """How many times ``value`` one thing is of another, over pairs measured next to each other.

    ``covers`` says what ``low`` and ``high`` are: a 95 % interval of the median, or all pairs.
    """

    value: float
    low: float
    high: float
    pairs: int
    covers: str

    def __str__(self) -> str:
        """The ratio with its interval: ``1.04 (1.01 to 1.08)``."""
        return f"{figure(self.value)} ({figure(self.low)} to {figure(self.high)})"

    def against(self, most: float) -> str:
        """The aim, and whether it is met; an interval that holds the aim leaves that open."""
        if self.low <= most < self.high:
            return f"at most {figure(most)}: {_met(self.value, most)}, within the noise"
        return f"at most {figure(most)}: {_met(self.value, most)}"

    def reaching(self, least: float) -> str:
        """The aim that the ratio is at least ``least``, judged as in ``against``."""
        open_still = ", within the noise" if self.low < least <= self.high else ""
        return f"at least {figure(least)}: {'met' if self.value >= least else 'NOT MET'}{open_still}"


def _met(value: float, most: float) -> str:
    return "met" if value <= most else "NOT MET"


def paired_ratio(of: Series, to: Series) -> Ratio:
    """The median of the ratios of each pair, with an interval that holds for any distribution.

    Pairs, since what else the machine does moves both of a pair. With fewer than six no two pairs bound the
    median at 95 %, and the interval is the range of all. Raises ``ValueError`` where the two do not pair.
    """
    ratios = [one / other for one, other in zip(of.values, to.values, strict=True)]
    bounds = percentile_interval(ratios, 0.5)
    enough = len(ratios) >= samples_needed(0.5)
    covers = "95 % interval" if enough else "smallest and largest"
    return Ratio(statistics.median(ratios), bounds.low, bounds.high, len(ratios), covers)


@dataclass(frozen=True)
class Table:
    """Rows of cells under headings; the first cell of a row says what was measured."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.headings) for row in self.rows):
            raise ValueError(f"a row of {self.title!r} does not fit its headings")


@dataclass(frozen=True)
class Section:
    """What one part of the benchmark found, and what must be known to read it."""

    name: str
    title: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """One run of the benchmark on one machine."""

    date: str
    quick: bool
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    sections: tuple[Section, ...]
    command: str = "make bench"


# ------------------------------------------------------------------------------------------- Markdown

READ_ME = (
    "Written by `{command}`; what is measured, and how, stands in [README.md](README.md). "
    "Each figure is a median, with the smallest and the largest value in brackets."
)
QUICK = "**A quick run: it shows that everything can be measured. Its figures mean nothing.**"


def markdown(report: Report) -> str:
    """The whole report as a Markdown document."""
    parts = ["# Results", READ_ME.format(command=report.command)]
    if report.quick:
        parts.append(QUICK)
    parts += [f"Measured on {report.date}.", _facts("machine", report.machine)]
    parts += [_facts("version of", report.versions)]
    for section in report.sections:
        parts.append(f"## {section.title}")
        parts += [part for table in section.tables for part in (f"### {table.title}", _rows(table))]
        if section.notes:
            parts.append("\n".join(f"- {note}" for note in section.notes))
    return "\n\n".join(parts) + "\n"


def _facts(heading: str, facts: Mapping[str, str]) -> str:
    return _rows(Table(heading, (heading, ""), tuple(facts.items())))


def _rows(table: Table) -> str:
    rule = ["---", *["---:"] * (len(table.headings) - 1)]
    return "\n".join(_line(cells) for cells in (table.headings, rule, *table.rows))


def _line(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return "| " + " | ".join(escaped) + " |"


# ------------------------------------------------------------------------------------------- terminal


def draw(section: Section, console: Console) -> None:
    """Show a section on a terminal."""
    drawn: list[RenderableType] = [_drawn(table) for table in section.tables]
    notes = [Text(f"  {note}", style="dim") for note in section.notes]
    console.print(Group(Text(section.title, style="bold"), *drawn, *notes, Text("")))


def _drawn(table: Table) -> RichTable:
    drawn = RichTable(title=table.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, heading in enumerate(table.headings):
        drawn.add_column(heading, justify="right" if place else "left", no_wrap=bool(place))
    for row in table.rows:
        drawn.add_row(*[Text(cell, style="bold red" if "NOT " in cell else "") for cell in row])
    return drawn
