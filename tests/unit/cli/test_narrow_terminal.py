"""On a terminal of 80 columns: no word is broken, commands can be pasted, and an error stands last."""

from __future__ import annotations

import io
import re
import shlex
import sys

import pytest

from refloat.cli.console import Console
from refloat.cli.main import run
from refloat.cli.tables import laid_out
from refloat.cli.wrapping import wrapped
from refloat.errors import Interrupted
from small_desk import set_clock

COMMAND = (
    "refloat -f '/srv/pipelines/our assistant/refloat.yaml' recover --vault s3://refloat-us/chat --to us"
)


class Terminal(io.StringIO):
    """A stream of somebody who sits before a screen."""

    def isatty(self) -> bool:
        return True


def before_80_columns(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """The screen that everything is told on from now on."""
    screen = Terminal()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def test_a_long_line_is_broken_between_words_and_set_in() -> None:
    line = "  next: " + "stop what runs in eu and see that nothing answers there any more, " * 3
    broken = wrapped(line, 80).splitlines()
    assert len(broken) > 2 and max(map(len, broken)) <= 80
    assert all(part.startswith("    ") for part in broken[1:])
    assert " ".join(part.strip() for part in broken) == line.strip()


def test_a_word_that_is_too_long_and_a_line_that_fits_stay_as_they_are() -> None:
    assert wrapped("a" * 100, 80) == "a" * 100
    assert wrapped("one\n  two  three", 80) == "one\n  two  three"


def test_a_command_stays_whole_where_it_fits_and_else_is_broken_as_a_shell_lets_it() -> None:
    text = "  next: put right what is half done and then go on with it: refloat recover --to us --resume 3f2a9c01d4e5"
    assert "refloat recover --to us --resume 3f2a9c01d4e5" in wrapped(text, 80).splitlines()[-1]
    broken = wrapped(f"  next: {COMMAND} --resume 3f2a9c01d4e5", 80)
    assert max(map(len, broken.splitlines())) <= 80
    pasted = broken.partition("next:")[2].replace("\\\n", " ")
    assert shlex.split(pasted) == shlex.split(f"{COMMAND} --resume 3f2a9c01d4e5")


def test_after_an_interrupt_the_error_is_last_and_no_bar_of_what_was_not_done_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = before_80_columns(monkeypatch)
    console = Console(color=False)
    progress = console.progress()
    progress.start("check room", None, "step")
    progress.finish("check room")
    progress.start("stage answers", 100)
    progress.advance("stage answers", 100)
    progress.finish("stage answers")
    progress.start("stage models", 1000)
    progress.advance("stage models", 10)
    console.render_error(
        Interrupted("run 3f2a was interrupted", next="refloat recover --to us --resume 3f2a")
    )
    console.close()
    told = screen.getvalue()
    last = told[told.rindex("stage answers") :]
    assert last.rstrip().endswith("next: refloat recover --to us --resume 3f2a")
    assert "stage models" not in last and "check room" not in last
    assert "100 B" in last


def test_a_bar_says_how_much_of_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = before_80_columns(monkeypatch)
    console = Console(color=False)
    progress = console.progress()
    progress.start("stage documents_of_the_whole_company_and_more", 4096)
    progress.advance("stage documents_of_the_whole_company_and_more", 1024)
    progress._display.refresh()
    console.close()
    assert "1.0 KiB of 4.0 KiB" in screen.getvalue()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())  # without what moves the cursor
    assert max(len(line.rstrip()) for line in re.split("[\r\n]", shown)) <= 80


# --------------------------------------------------------------------------------------------------- tables


def shown(desk, patch: pytest.MonkeyPatch, columns: int, *arguments: str) -> str:
    """What a person reads of a command on a screen of so many columns."""
    screen = Terminal()
    with patch.context() as here:
        here.setenv("COLUMNS", str(columns))
        here.setattr(sys, "stdout", screen)
        run(["-f", str(desk.manifest), "--no-color", "-q", *arguments])
    return screen.getvalue()


def words(text: str) -> set[str]:
    return {
        word.removesuffix(":")
        for word in text.split()
        if not set(word) <= {"\N{BOX DRAWINGS LIGHT HORIZONTAL}"}
    }


def test_no_word_of_a_table_is_broken_or_cut_however_narrow_the_screen_is(desk, monkeypatch) -> None:
    desk.ask("recover", "--to", "us")
    set_clock(desk, monkeypatch, 3 * 3600)  # ages that do not change while they are looked at
    for verb in (
        ("status",),
        ("plan", "--to", "us", "--override", "target_primary"),
        ("points", "list", "--all"),
        ("points", "why"),
        ("points", "show", "latest"),
        ("points", "forget", "--dry-run"),
        ("evidence", "list"),
        ("evidence", "show", "latest"),
        ("run", "list", "--to", "us"),
        ("run", "show", "latest", "--to", "us"),
        ("vault", "keys", "list"),
        ("vault", "ls", "latest"),
    ):
        whole = words(shown(desk, monkeypatch, 500, *verb))
        assert whole, verb
        for columns in (80, 60, 40):
            told = shown(desk, monkeypatch, columns, *verb)
            assert words(told) <= whole, (verb, columns, "a word was broken")
            assert len(words(told)) >= len(whole) - 1, (verb, columns, "a word was cut")  # of an empty column
            for line in told.splitlines():
                assert len(line) <= columns or len(line.split()) <= 3, (verb, columns, line)


HEADINGS = ("point", "made by hand", "why")
ROWS = [("3f2a9c01d4e5", "no", "held by hand, and the newest one of its week"), ("9c01", "", "gone")]


def plain(part: str, cell: str) -> str:
    return part


def test_headings_are_broken_first_then_the_longest_text_and_then_a_row_becomes_a_block() -> None:
    assert laid_out(HEADINGS, ROWS, 74, plain)[0] == " point         made by hand  why"
    assert laid_out(HEADINGS, ROWS, 68, plain)[:2] == [" point         made by  why", "               hand"]
    assert laid_out(HEADINGS, ROWS, 45, plain)[-3:] == [
        " 3f2a9c01d4e5  no    held by hand, and the",
        "                     newest one of its week",
        " 9c01                gone",
    ]
    assert laid_out(HEADINGS, ROWS, 32, plain) == [
        " point: 3f2a9c01d4e5",
        "   made by hand: no",
        "   why: held by hand, and the",
        "     newest one of its week",
        " point: 9c01",
        "   why: gone",
    ]


def test_what_is_wide_on_a_screen_counts_so() -> None:
    lines = laid_out(("name", "x"), [("\u6587\u66f8", "1"), ("ab", "2")], 80, plain)
    assert lines[0] == " name  x" and lines[2:] == [" \u6587\u66f8  1", " ab    2"]


def test_a_listed_path_and_a_printed_manifest_are_left_as_they_are(desk, monkeypatch) -> None:
    path = "a name of many words that is longer than any narrow screen is wide"
    (desk.root / "eu" / "pages" / path).write_text("x")
    desk.ask("protect")
    assert path in shown(desk, monkeypatch, 40, "vault", "ls", "latest", "pages")
    manifest = shown(desk, monkeypatch, 40, "points", "show", "latest", "--manifest")
    assert manifest.rstrip() == desk.manifest.read_text().rstrip()
