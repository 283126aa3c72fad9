"""Measures refloat and writes what it found to ``RESULTS.md`` beside this file: ``python bench/run.py``."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from types import FrameType

from rich.console import Console

from machine import machine, versions
from measure import CommandFailed, Setting
from refloat.errors import RefloatError
from report import Report, Section, draw, markdown

SECTIONS = ("start", "evaluate", "vault", "silent", "example")
"""Each a module of this folder with ``measure(setting)``; they run one after the other, never at once."""

EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143
PIPED_COLUMNS = 120  # where nothing says how wide the paper is
RESULTS = Path(__file__).with_name("RESULTS.md")


def arguments(line: Sequence[str]) -> argparse.Namespace:
    """What was asked for."""
    return parsed(parser_of(__doc__, RESULTS, SECTIONS), line)


def parser_of(
    about: str | None,
    results: Path,
    only: Collection[str],
    *,
    quick: str = "small and few",
    alone: str = "this section",
) -> argparse.ArgumentParser:
    """What every run of this folder may be asked: ``only`` are its parts, of which one is measured ``alone``."""
    parser = argparse.ArgumentParser(description=about)
    parser.set_defaults(results=results)
    parser.add_argument("--quick", action="store_true", help=f"{quick}: only shows that it works")
    parser.add_argument("--only", choices=only, help=f"{alone} alone")
    parser.add_argument("--date", type=date.fromisoformat, help="the date that the results carry; else today")
    parser.add_argument("--folder", type=Path, help="where to read and write; else the temporary folder")
    parser.add_argument(
        "--output",
        type=Path,
        help=f"the file to write; a whole run writes bench/{results.name}, a quick or partial one only prints",
    )
    return parser


def parsed(parser: argparse.ArgumentParser, line: Sequence[str]) -> argparse.Namespace:
    """What a line asks for; one that names no place to write ends here, and not after all the measuring."""
    asked = parser.parse_args(line)
    if asked.output is not None and not asked.output.parent.is_dir():
        parser.error(f"there is no folder {asked.output.parent}")
    return asked


def teller(console: Console) -> Callable[[str], None]:
    """Says what goes on, and how long after now."""
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(
            f"{time.monotonic() - began:6.1f} s  {text}", style="dim", highlight=False, markup=False
        )

    return say


def destination(asked: argparse.Namespace) -> Path | None:
    """The file to write: none, unless one is named, for a run that measured only a part or only a little."""
    partial = asked.quick or asked.only is not None
    return asked.output or (None if partial else asked.results)


def main(line: Sequence[str]) -> int:
    """As ``carried_out``, with every section or the one that was asked for."""
    asked = arguments(line)

    def measured(work: Path, console: Console) -> tuple[Section, ...]:
        names = [asked.only] if asked.only else SECTIONS
        return tuple(_measured(name, work, console, quick=asked.quick) for name in names)

    return carried_out(asked, measured, versions)


def carried_out(
    asked: argparse.Namespace,
    measured: Callable[[Path, Console], tuple[Section, ...]],
    versions: Callable[[], Mapping[str, str]],
    **named: str,
) -> int:
    """Measure, show and write; 1 where something could not be measured, and then nothing is written.

    ``named`` goes into the report: its ``command``, where it is another one.
    """
    console = Console(width=None if sys.stdout.isatty() else PIPED_COLUMNS)
    signal.signal(signal.SIGTERM, terminated)
    output = destination(asked)
    try:
        with tempfile.TemporaryDirectory(prefix="refloat-bench-", dir=asked.folder) as work:
            about = machine(Path(work))
            sections = measured(Path(work), console)
    except (CommandFailed, RefloatError) as error:
        console.print(f"Not measured, and nothing written: {error}", style="bold red", markup=False)
        return 1
    when = asked.date or datetime.now(UTC).date()
    if output is not None:
        report = Report(when.isoformat(), asked.quick, about, versions(), sections, **named)
        output.write_text(markdown(report))
        console.print(f"wrote {output}", markup=False)
    return 0


def _measured(name: str, work: Path, console: Console, *, quick: bool) -> Section:
    """Measure one section in a folder of its own and show it."""
    (work / name).mkdir()
    say = teller(console)
    section: Section = importlib.import_module(name).measure(
        Setting(work / name, quick, lambda text: say(f"{name}: {text}"))
    )
    draw(section, console)
    return section


def terminated(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM ends the run as Ctrl-C does: every process and folder of it goes with it."""
    raise SystemExit(EXIT_TERMINATED)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
