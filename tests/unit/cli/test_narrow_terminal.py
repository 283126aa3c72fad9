"""On a terminal of 80 columns: no word is broken, commands can be pasted, and an error stands last."""

from __future__ import annotations

import io
import re
import shlex
import sys

import pytest

from refloat.cli.console import Console
from refloat.cli.wrapping import wrapped
from refloat.errors import Interrupted

COMMAND = (
    "refloat -f '/srv/pipelines/our assistant/refloat.yaml' recover --vault s3://refloat-us/chat --to us"
)


class Terminal(io.StringIO):
    """Standard error of somebody who sits before 80 columns."""

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
