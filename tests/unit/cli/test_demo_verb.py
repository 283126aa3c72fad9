"""``refloat demo`` without what it is made of says how to get that, before it begins."""

from __future__ import annotations

import importlib.metadata
import io
import json
import shlex
import sys
from pathlib import Path

import pytest

from refloat.cli.common import Session
from refloat.cli.console import Console
from refloat.cli.demo import _say_how, _Scenes, _show, lacking_extras
from refloat.cli.main import run
from refloat.demo.scenery import Scenery
from refloat.demo.story import Told


def test_what_is_lacking_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("fastapi", "scikit-learn"):
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert run(["demo", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["message"].endswith("not installed: fastapi, scikit-learn")
    assert error["next"].endswith("-m pip install 'refloat[demo]'")


def test_nothing_is_lacking_where_its_extras_are_installed() -> None:
    assert lacking_extras() == []


def test_what_is_kept_is_told_in_commands_that_a_shell_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenery = Scenery(tmp_path / "of demos", {"eu": 1, "us": 2}, tmp_path)
    _say_how(Session(), scenery)
    said = capsys.readouterr().out
    look = shlex.split(said.partition("look:")[2].partition("\n")[0])
    assert look == [
        f"REFLOAT_KEY_FILE={scenery.key_file}", "refloat", "points", "list", "--vault", str(scenery.vault("us"))
    ]  # fmt: skip
    assert shlex.split(said.partition("end it:")[2])[-1] == str(scenery.root)


def test_each_scene_says_how_many_there_are_and_how_long_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    scenes = _Scenes(Session())
    for text in ("Both regions are directories.", "1/7 Building.", "   a remark", "2/7 A mistake first."):
        scenes.say(text)
    scenes.end()
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in said] == [
        "Both regions are directories.", "1/7 Building.", "   a remark", "scene 1/7",
        "2/7 A mistake first.", "scene 2/7",
    ]  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [80, 60, 40])
def test_what_came_of_it_is_told_whole_however_narrow_the_screen_is(
    columns: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    part = {
        "layer": "features", "tier": "operational", "bytes": 2048,
        "rto": {"seconds": 3.0, "objective_s": 14400.0}, "rpo": {"seconds": 4.5, "objective_s": 1800.0},
    }  # fmt: skip
    check = {
        "name": "latency_p95", "component": "assistant", "baseline": 0.0125, "recovered": 0.02,
        "bound": "at most 3x", "samples": 400, "verdict": "pass", "unit": "s",
    }  # fmt: skip
    recover = {
        "to": "us", "verified": True, "rto": {"seconds": 12.5, "objective_s": 300.0},
        "components": {"features_offline_of_the_assistant": part}, "checks": [check],
    }  # fmt: skip
    back = {"protect": {"regions": {"us": {"complete": True}}, "unverifiable": {}}}
    screen = Terminal()
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stdout", screen)
    told = Told({}, recover, {}, back, {}, {"answered": 90, "lost": 41}, 41.0)
    _show(Session(console=Console(color=False)), told, None)
    said = screen.getvalue()
    assert "\N{HORIZONTAL ELLIPSIS}" not in said and max(map(len, said.splitlines())) <= columns
    words = said.split()
    for word in ("features_offline_of_the_assistant", "operational", "latency_p95", "answers", "KiB"):
        assert word in words, word
    _show(Session(console=Console(json_mode=True)), told, picture := tmp_path / "story.svg")
    assert "latency_p95" in picture.read_text()
