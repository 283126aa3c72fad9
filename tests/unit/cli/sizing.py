"""What commands ask of each region's store, counted by ``TracedStore``, and held against a table of docs/SIZING.md.

``REFLOAT_PIN=1`` writes the table anew, in place of comparing it.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from pages import DOCS
from refloat.contracts import Store
from refloat.vault import stores
from refloat.vault.stores.traced import Call, TracedStore
from small_desk import Desk

PAGE = DOCS / "SIZING.md"
READS, LISTINGS, WRITES, BYTES_READ, BYTES_WRITTEN = (
    "reads",
    "listings",
    "writes",
    "bytes read",
    "bytes written",
)
FIGURES = (READS, LISTINGS, WRITES, BYTES_READ, BYTES_WRITTEN)
_OF = {"get": READS, "size": READS, "list": LISTINGS, "create": WRITES, "delete": WRITES}


Row = dict[str, float]
"""Figures by their names; bytes are bytes, though the page says KiB. One that begins with + is for each point more."""


@dataclass
class Tally:
    """What each region was asked since the last command, by its store's address."""

    asked: dict[str, Counter[str]] = field(default_factory=dict)

    def note(self, url: str, call: Call) -> None:
        of = self.asked.setdefault(url, Counter())
        of[_OF[call.op]] += 1
        of[BYTES_WRITTEN if call.op == "create" else BYTES_READ] += call.bytes

    def most(self) -> dict[str, int]:
        """Each figure of the region that has most of it."""
        return {name: max((of[name] for of in self.asked.values()), default=0) for name in FIGURES}

    def of(self, desk: Desk, line: str) -> Row:
        """What a command asks of the region that it asks most."""
        self.asked.clear()
        desk.ask(*line.split())
        return dict(self.most())


@contextmanager
def counted(patch: pytest.MonkeyPatch) -> Iterator[Tally]:
    """Every store that is opened meanwhile is counted, wherever ``open_store`` has been imported to."""
    tally, opened = Tally(), stores.open_store

    def open_store(url: str) -> Store:
        store = opened(url)
        return TracedStore(store, lambda call: tally.note(store.url, call))

    with patch.context() as patched:
        for room in [room for name, room in sys.modules.items() if name.startswith("refloat.")]:
            if getattr(room, "open_store", None) is opened:
                patched.setattr(room, "open_store", open_store)
        yield tally


def require_told(head: str, rows: Mapping[str, Row], columns: tuple[str, ...] = FIGURES) -> None:
    """The page's table below ``head`` says of each command what was counted, within its bounds."""
    page = PAGE.read_text()
    if os.environ.get("REFLOAT_PIN"):
        before, _, rest = page.partition(head)
        PAGE.write_text(before + _table(head, rows, columns) + rest[rest.index("\n\n") :])
        return
    told = _told(page, head)
    assert list(told) == [_said(line) for line in rows]
    wrong = [
        (line, name, cell, rows[line].get(name))
        for line in rows
        for name, cell in zip(columns, told[_said(line)], strict=True)
        if not _is_near(name, cell, rows[line].get(name))
    ]
    assert wrong == []


def _is_near(name: str, told: float | None, found: float | None) -> bool:
    """Within a quarter or a little: the names of folders are in what is stored, and compress as they may."""
    if told is None or found is None or not ((told and found) or name.startswith("+")):
        return told == found
    least = 2.0 if "bytes" in name else 1.0 if name.startswith("+") else 3.0
    found = found / 1024 if "bytes" in name else found
    return abs(told - found) <= max(least, found / 4)


def _table(head: str, rows: Mapping[str, Row], columns: tuple[str, ...]) -> str:
    cells = [[_shown(name, of[name]) if name in of else "" for name in columns] for of in rows.values()]
    lines = [f"| {_said(line)} | {' | '.join(row)} |" for line, row in zip(rows, cells, strict=True)]
    return "\n".join([head, "| --- |" + " ---: |" * len(columns), *lines])


def _shown(name: str, value: float) -> str:
    value = value / 1024 if "bytes" in name else value
    return f"{value:.1f}" if name.startswith("+") else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _said(line: str) -> str:
    command, comma, how = line.partition(",")
    return f"`{command}`{comma}{how}"


def _told(page: str, head: str) -> dict[str, list[float | None]]:
    _, found, text = page.partition(head + "\n")
    assert found, "the page has no such table"
    rows = [line.split("|")[1:-1] for line in text.partition("\n\n")[0].splitlines()[1:]]
    return {row[0].strip(): [_number(cell) for cell in row[1:]] for row in rows}


def _number(cell: str) -> float | None:
    return float(cell.replace(",", "")) if cell.strip() else None
