"""Holds estimates against what then comes, and writes ``RECOVERY.md``: ``python bench/run_recovery.py``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from rich.console import Console

import recovery
from machine import recovery_versions
from measure import Setting
from report import Section, draw
from run import EXIT_INTERRUPTED, carried_out

RESULTS = Path(__file__).with_name("RECOVERY.md")


def arguments(line: Sequence[str]) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.set_defaults(results=RESULTS)
    parser.add_argument("--quick", action="store_true", help="small and few: only shows that it works")
    parser.add_argument("--only", choices=recovery.SECTIONS, help="this section alone")
    parser.add_argument("--date", type=date.fromisoformat, help="the date that the results carry; else today")
    parser.add_argument("--folder", type=Path, help="where to read and write; else the temporary folder")
    parser.add_argument(
        "--output",
        type=Path,
        help="the file to write; a whole run writes bench/RECOVERY.md, a quick or partial one only prints",
    )
    asked = parser.parse_args(line)
    if asked.output is not None and not asked.output.parent.is_dir():
        parser.error(f"there is no folder {asked.output.parent}")  # said now, not after all the measuring
    return asked


def main(line: Sequence[str]) -> int:
    """As ``run.carried_out``, with the sections of this file."""
    asked = arguments(line)
    return carried_out(
        asked,
        lambda work, console: _measured(asked, work, console),
        recovery_versions,
        command="make bench-recovery",
    )


def _measured(asked: argparse.Namespace, work: Path, console: Console) -> tuple[Section, ...]:
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(
            f"{time.monotonic() - began:6.1f} s  {text}", style="dim", highlight=False, markup=False
        )

    sections = []
    for name in [asked.only] if asked.only else recovery.SECTIONS:
        (work / name).mkdir()
        sections.append(recovery.SECTIONS[name](Setting(work / name, asked.quick, say)))
        draw(sections[-1], console)
    return tuple(sections)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
