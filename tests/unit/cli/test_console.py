"""What the command line says: to people, to programs, and never a secret."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest

from refloat.cli.console import Console
from refloat.cli.progress import Bars, Lines
from refloat.contracts import Silent
from refloat.errors import ManifestError, Refused, Retry, StoreError


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def test_people_and_programs_are_told_apart(capsys: pytest.CaptureFixture[str]):
    for console in (Console(), Console(json_mode=True)):
        console.print("all is well")
        console.table(["a"], [["1"]])
        console.emit({"ok": True})
    human, json_line = capsys.readouterr().out.split("{", 1)
    assert "all is well" in human
    assert json.loads("{" + json_line) == {"schema": 1, "ok": True}


def test_schema_is_the_first_key(capsys: pytest.CaptureFixture[str]):
    Console(json_mode=True).emit({"a": 1})
    assert capsys.readouterr().out.startswith('{"schema": 1, ')


def test_an_error_says_what_where_and_what_next(capsys: pytest.CaptureFixture[str]):
    error = StoreError("the bucket does not answer", region="eu", retry=Retry.LATER, next="try again later")
    Console().render_error(error.at(component="index", file="packs/ab"))
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == (
        "error: the bucket does not answer\n"
        "  component: index\n  region: eu\n  file: packs/ab\n  next: try again later\n"
    )


def test_an_error_in_json_is_the_one_document(capsys: pytest.CaptureFixture[str]):
    Console(json_mode=True).render_error(Refused("group_broken", "no", component="index", next="mend it"))
    assert document(capsys) == {
        "schema": 1,
        "error": {
            "code": "refused",
            "message": "no",
            "component": "index",
            "region": None,
            "file": None,
            "retry": "never",
            "next": "mend it",
            "rule": "group_broken",
        },
    }


def test_a_manifest_error_points_into_the_file(capsys: pytest.CaptureFixture[str]):
    Console().render_error(ManifestError("no", line=3, column=7, file="m.yaml"))
    assert "  file: m.yaml:3:7\n" in capsys.readouterr().err


def test_an_error_after_the_document_does_not_make_two(capsys: pytest.CaptureFixture[str]):
    console = Console(json_mode=True)
    console.emit({"ok": False})
    console.render_error(StoreError("late"))
    told = capsys.readouterr()
    assert told.out.count("\n") == 1
    assert "error: late" in told.err


def test_no_secret_is_ever_shown(capsys: pytest.CaptureFixture[str]):
    known: set[str] = set()
    for console in (Console(), Console(json_mode=True)):
        console.hide(lambda: known)
        known.add("hunter22")
        console.print("a hunter22 b")
        console.table(["x"], [["hunter22"]], title="")
        console.emit({"deep": [{"x": "say hunter22"}, ("hunter22",)]})
        console.warn("hunter22")
        console.note("hunter22")
        console.progress().say("hunter22")
        console.progress().finish("hunter22", "hunter22")
        console.render_error(StoreError("hunter22", file="hunter22", next="hunter22"))
    told = capsys.readouterr()
    assert "hunter22" not in told.out + told.err
    assert (told.out + told.err).count("***") >= 14


def test_a_name_that_is_not_utf8_is_shown_and_breaks_nothing(capsys: pytest.CaptureFixture[str]):
    Console().print("file \udcff")
    Console(json_mode=True).emit({"file": "\udcff"})
    shown, line = capsys.readouterr().out.splitlines()
    assert shown == "file \\udcff"
    assert json.loads(line)["file"] == "\udcff"


def test_nan_is_a_defect_and_not_a_document():
    with pytest.raises(ValueError, match="JSON"):
        Console(json_mode=True).emit({"x": float("nan")})


def test_a_table_in_a_pipe_is_plain_and_whole(capsys: pytest.CaptureFixture[str]):
    Console().table(["name", "what"], [["a" * 60, "[bold]b[/bold]"], ["c", "d" * 60]], title="things")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "a" * 60 in out
    assert "[bold]b[/bold]" in out
    assert all(line == line.rstrip() for line in out.splitlines())


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch):
    def shown(console: Console) -> str:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        console.warn("x")
        return terminal.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in shown(Console())
    assert "\x1b[" not in shown(Console(color=False))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in shown(Console())


# ------------------------------------------------------------------------------------------------- progress


def test_progress_in_a_log_is_one_line_for_each_piece_of_work(capsys: pytest.CaptureFixture[str]):
    progress = Console().progress()
    assert isinstance(progress, Lines)
    progress.start("index", 4096)
    progress.advance("index", 2048)
    progress.advance("index", 2048)
    progress.finish("index", "carried")
    progress.start("load", 10, "answers")
    progress.advance("load")
    progress.finish("load")
    progress.finish("never begun")
    told = capsys.readouterr()
    assert told.out == ""
    first, second, third = told.err.splitlines()
    assert first.startswith("index: 4.0 KiB, 0.0")
    assert first.endswith("s, carried")
    assert second.startswith("load: 1 answers, ")
    assert third == "never begun: 0.00s"


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str]):
    console = Console(quiet=True)
    assert isinstance(console.progress(), Silent)
    console.note("x")
    assert capsys.readouterr().err == ""


def test_on_a_terminal_there_are_bars_until_the_console_closes(monkeypatch: pytest.MonkeyPatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    console = Console()
    progress = console.progress()
    assert isinstance(progress, Bars)
    assert console.progress() is progress
    progress.start("index", 4096)
    progress.advance("index", 4096)
    progress.say("half [way]")
    progress.advance("never begun")
    progress.finish("index", "carried")
    progress.finish("never begun")
    console.close()
    shown = terminal.getvalue()
    assert "index" in shown
    assert "half [way]" in shown
    assert "carried" in shown
    assert shown.count("\x1b[?25h") == shown.count("\x1b[?25l") == 1  # the cursor is given back


def test_a_bar_says_its_share_its_rate_and_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("refloat.cli.progress.RATE_AFTER_S", 0)
    console = Console(color=False)
    progress = console.progress()
    progress.start("copy", 4096)
    progress.advance("copy", 1024)
    progress._display.refresh()
    console.close()
    assert re.search(
        r"copy \S+ +25%, 1\.0 KiB of 4\.0 KiB, [0-9.]+ [KMGT]?i?B/s, [0-9.]+s left 0:00:00",
        terminal.getvalue(),
    )
