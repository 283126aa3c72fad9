"""Holds estimates against what then comes, and writes ``RECOVERY.md``: ``python bench/run_recovery.py``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

import recovery
from machine import recovery_versions
from measure import Setting
from report import Section, draw
from run import EXIT_INTERRUPTED, carried_out, parsed, parser_of, teller

RESULTS = Path(__file__).with_name("RECOVERY.md")


def arguments(line: Sequence[str]) -> argparse.Namespace:
    """What was asked for."""
    return parsed(parser_of(__doc__, RESULTS, recovery.SECTIONS), line)


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
    say = teller(console)
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
