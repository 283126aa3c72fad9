"""docs/SIZING.md, held against a count: each figure of its tables within a quarter, or three requests, or 2 KiB."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pages import blocks
from refloat.flows import protect as protecting
from refloat.limits import MIB, PACK_BYTES_MAX
from refloat.vault.writer import Writer
from sizing import BYTES_READ, BYTES_WRITTEN, FIGURES, PAGE, READS, WRITES, Row, Tally, counted, require_told
from small_desk import Desk, seated

HEAD = "| of the small pipeline | reads | listings | writes | KiB read | KiB written | reads a point | KiB a point |"
COLUMNS = (*FIGURES, f"+{READS}", f"+{BYTES_READ}")
FILES = 20
FEW, MORE = 3, 4
"""Points before the first count, and before the second."""
LOOKING = ("protect --due", "status", "check", "points list", "plan --to us", "vault check")


class Small:
    """A pipeline of twenty small files in two regions, one of which changes before each point."""

    def __init__(self, desk: Desk, tally: Tally) -> None:
        self.desk, self._tally, self._changes = desk, tally, 0
        folder = desk.root / "eu" / "pages"
        folder.mkdir(parents=True)
        for n in range(FILES):
            (folder / f"{n}.txt").write_text(f"what page {n} says\n" * 500)
        (manifest,) = blocks(PAGE.read_text(), "yaml")
        desk.manifest.write_text(manifest)
        desk.ask("vault", "init", "--key", "small.key")

    def change(self) -> None:
        self._changes += 1
        page = self.desk.root / "eu" / "pages" / "0.txt"
        page.write_text(f"what it says now, for the {self._changes}. time\n" * 500)

    def asks(self, line: str) -> Row:
        return self._tally.of(self.desk, line)

    def counted(self) -> dict[str, Row]:
        """What each command asks, by the words of the page."""
        self.change()
        protects = ("protect, one file changed", "protect, nothing changed")
        return {line: self.asks(line.partition(",")[0]) for line in (*protects, *LOOKING)}


@pytest.fixture
def small(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Small]:
    desk = seated(tmp_path, monkeypatch, capsys)
    with counted(monkeypatch) as tally:
        yield Small(desk, tally)


def measured(small: Small) -> dict[str, Row]:
    """The rows of the page: what each command asks, and what each point more adds to that."""
    rows = {"protect, the first": small.asks("protect")}
    for _ in range(FEW - 1):
        small.change()
        small.asks("protect")
    before = small.counted()
    for _ in range(MORE - 2):  # with the two that counting makes
        small.change()
        small.asks("protect")
    after = small.counted()
    for line, of in before.items():
        more = {f"+{name}": (after[line][name] - of[name]) / MORE for name in (READS, BYTES_READ)}
        rows[line] = {**of, **more}
    rows["recover --to us"] = small.asks("recover --to us")
    return rows


@pytest.mark.slow
def test_the_page_says_what_commands_ask_of_a_region(small: Small) -> None:
    require_told(HEAD, measured(small), COLUMNS)


def test_content_is_written_in_packs_and_is_hardly_more(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With packs of 4 MiB in place of 64: one write for each, beside the index object and the two of the point."""
    monkeypatch.setattr(protecting, "Writer", partial(Writer, pack_bytes_max=4 * MIB))
    small.asks("protect")
    (small.desk.root / "eu" / "pages" / "new.bin").write_bytes(random.Random(7).randbytes(16 * MIB))
    of = small.asks("protect")
    assert 2 <= of[WRITES] - 3 <= 8  # a pack is as full as its pieces fit, and two are sealed at a time
    assert 16 * MIB < of[BYTES_WRITTEN] < 16.16 * MIB
    assert f"{PACK_BYTES_MAX // MIB} MiB" in PAGE.read_text()
