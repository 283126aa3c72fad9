"""Measures the vault beside restic and borg on what real training leaves: ``python bench/run_vault.py``.

It writes what it found to ``VAULT.md`` beside this file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

import beside
import far
import large_index
import training
from machine import vault_versions
from measure import Setting
from report import Section, draw
from run import EXIT_INTERRUPTED, carried_out, parsed, parser_of, teller

ROUNDS, QUICK_ROUNDS = 5, 1
RESULTS = Path(__file__).with_name("VAULT.md")
SOURCES = Path(tempfile.gettempdir()) / "refloat-bench-sources"


def arguments(line: Sequence[str]) -> argparse.Namespace:
    """What was asked for."""
    parser = parser_of(__doc__, RESULTS, beside.STORIES, quick="small and once", alone="these sources")
    parser.add_argument(
        "--rounds", type=int, help=f"how often everything is measured; {ROUNDS}, or 1 if quick"
    )
    parser.add_argument(
        "--sources", type=Path, default=SOURCES, help=f"where what training made is kept; else {SOURCES}"
    )
    asked = parsed(parser, line)
    if asked.rounds is not None and asked.rounds < 1:
        parser.error("--rounds is at least 1")
    asked.rounds = asked.rounds or (QUICK_ROUNDS if asked.quick else ROUNDS)
    return asked


def main(line: Sequence[str]) -> int:
    """As ``run.carried_out``, with the sections of this file."""
    asked = arguments(line)
    return carried_out(
        asked,
        lambda work, console: _measured(asked, work, console),
        vault_versions,
        command="make bench-vault",
    )


def _measured(asked: argparse.Namespace, work: Path, console: Console) -> tuple[Section, ...]:
    say = teller(console)
    made = training.sources(asked.sources.resolve(), quick=asked.quick, say=say)
    setting = Setting(work, asked.quick, say)
    sections = [beside.measure(setting, made, rounds=asked.rounds, only=asked.only)]
    if asked.only is None:
        sections.append(far.measure(setting, made.root / training.SERIES, asked.rounds))
        sections.append(large_index.measure(setting))
    for section in sections:
        draw(section, console)
    return tuple(sections)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
