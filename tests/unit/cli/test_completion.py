"""Shell completion: the scripts that shells load, and what they are answered."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from refloat.cli.main import VERBS, run, whole
from refloat.flows.request import RULES
from small_desk import seated


@pytest.fixture
def answered(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """What bash is answered for a line whose last word is being typed."""

    def complete(line: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        monkeypatch.setenv("_REFLOAT_COMPLETE", "complete_bash")
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            run([])
        out, err = capfd.readouterr()
        assert (left.value.code, err) == (0, "")
        return out.split()

    return complete


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "refloat.yaml").write_text(
        "regions: {eu: {}, us_east: {}, us_west: {}}\ncomponents: {pages: {}, prompts: {}}\n"
    )
    (tmp_path / "other.yaml").write_text("regions: {asia: {}}\n")
    return tmp_path


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_printed_whatever_the_shell_is(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        run(["--show-completion", shell])
    assert left.value.code == 0
    assert f"_REFLOAT_COMPLETE=complete_{shell}" in capsys.readouterr().out


def test_another_shell_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--show-completion", "tcsh"]) == 2
    assert "bash, zsh, fish" in capsys.readouterr().err


def test_completion_is_installed_for_the_shell_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SystemExit):
        run(["--install-completion", "bash"])
    (script,) = (tmp_path / ".bash_completions").iterdir()
    assert "complete_bash" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()


def test_verbs_and_options_are_completed(answered) -> None:
    assert set(answered("refloat ")) == set(VERBS)
    assert answered("refloat rec") == ["recover"]
    assert answered("refloat vault ch") == ["check"]
    assert answered("refloat protect --re") == ["--region", "--require"]
    assert answered("refloat protect --require ") == ["exact"]
    assert answered("refloat --show-completion ") == ["bash", "zsh", "fish"]


def test_regions_and_components_are_those_of_the_manifest(answered, folder: Path) -> None:
    assert answered("refloat protect --region ") == ["eu", "us_east", "us_west"]
    assert answered("refloat recover --to us") == ["us_east", "us_west"]
    assert answered("refloat plan --to eu --only p") == ["pages", "prompts"]
    assert answered("refloat recover -f other.yaml --to ") == ["asia"]


def test_safety_rules_are_completed(answered) -> None:
    assert answered("refloat recover --to us --override ") == list(RULES)
    assert answered("refloat recover --to us --override log_") == ["log_damaged", "log_rolled_back"]
    assert answered("refloat vault repair --override ") == ["foreign_objects", "log_damaged"]


NAMES = {
    "REGION": {"region", "--region", "--from", "--to"},
    "point": {"point", "first", "second", "--point"},
    "run": {"run", "name", "--resume"},
    "component": {"component", "components", "--only"},
    "RULE": {"--override"},
}
ELSEWHERE = {("init", "--region"), ("vault kit", "--to")}
"""What is called like a name that is known, and is none: a new region, a file."""


def parameters(command, path: str = ""):
    """Every parameter of every verb, with the verb."""
    for name, below in getattr(command, "commands", {}).items():
        yield from parameters(below, f"{path} {name}".strip())
    if not hasattr(command, "commands"):
        yield from ((path, parameter) for parameter in command.params)


def test_whatever_takes_a_name_that_is_known_completes_it() -> None:
    named = set().union(*NAMES.values())
    asked = [
        (verb, name, parameter)
        for verb, parameter in parameters(typer.main.get_command(whole()))
        for name in (parameter.opts if parameter.opts else [parameter.name])
        if name in named and (verb, name) not in ELSEWHERE
    ]
    assert len(asked) > 25
    lacking = [(verb, name) for verb, name, parameter in asked if parameter._custom_shell_complete is None]
    assert lacking == []


def test_points_and_runs_are_those_that_the_vault_lists_without_a_key(
    answered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = seated(tmp_path, monkeypatch)
    desk.release(1)
    desk.write_manifest()
    for command in (["vault", "init", "--key", "small.key"], ["protect"], ["recover", "--to", "us"]):
        assert run(["-q", *command]) == 0
    point = sorted((desk.vault("eu") / "points").iterdir())[0].name
    (began,) = [folder.name for folder in (desk.vault("us") / "log" / "runs").iterdir()]
    monkeypatch.delenv("REFLOAT_KEY_FILE")
    assert point[:12] in answered("refloat points show ")
    assert "latest" in answered("refloat vault ls ")
    assert point[:12] in answered(f"refloat plan --to us --point {point[:4]}")
    assert answered(f"refloat vault ls {point[:14]}") == [point]
    assert answered(f"refloat run show {began[:4]}") == [began]
    assert answered("refloat evidence show ") == ["latest", began]
    desk.manifest.unlink()
    assert answered(f"refloat run show --vault {desk.vault('us')} {began[:4]}") == [began]
    assert answered("refloat points show f") == []


@pytest.mark.parametrize(
    "content", [None, b"", b"\xff\xfe", b"regions: [1, 2", b"- regions", b"regions: 3\n"]
)
def test_a_manifest_that_is_none_completes_nothing_and_says_nothing(
    answered, folder: Path, content: bytes | None
) -> None:
    (folder / "refloat.yaml").unlink()
    if content is not None:
        (folder / "refloat.yaml").write_bytes(content)
    assert answered("refloat recover --to ") == []


IN_BASH = """
refloat() { "$PYTHON" -m refloat "$@"; }
env() {  # the script calls env, which knows no functions
  local -a set=(); while [[ $1 == *=* ]]; do set+=("$1"); shift; done
  command env "${set[@]}" "$PYTHON" -m refloat
}
source <(refloat --show-completion bash)
COMP_WORDS=(refloat recover --to us) COMP_CWORD=3
_refloat_completion refloat
printf '%s\\n' "${COMPREPLY[@]}"
complete -p refloat
"""


def test_bash_completes_with_the_script_it_was_given(folder: Path) -> None:
    ran = subprocess.run(
        ["bash", "--norc", "-c", IN_BASH],
        env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [
        "us_east",
        "us_west",
        "complete -o default -F _refloat_completion refloat",
    ]


IN_ZSH = """
autoload -Uz compinit && compinit -u -d "$HOME/dump"
source <(refloat --show-completion zsh)
_arguments() { print -r -- "$@"; }  # what it would offer, without a terminal to offer it on
words=(refloat recover --to us) CURRENT=4
_refloat_completion
print -r -- "$_comps[refloat]"
"""


def in_shell(shell: str, folder: Path, program: str, *options: str) -> str:
    """What a shell says to a program, with refloat on its path; skipped where the shell is not installed."""
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"SCRIPT OF A SHELL NOT TRIED: {shell} is not installed: apt-get install {shell}")
    command = folder / "bin" / "refloat"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m refloat "$@"\n')
    command.chmod(0o700)
    ran = subprocess.run(
        [found, *options, "-c", program],
        env={"PATH": f"{command.parent}:/usr/bin:/bin", "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def test_zsh_completes_with_the_script_it_was_given(folder: Path) -> None:
    offered, registered = in_shell("zsh", folder, IN_ZSH, "-f").splitlines()
    assert "us_east" in offered and "us_west" in offered and '"eu"' not in offered
    assert registered == "_refloat_completion"


def test_fish_completes_with_the_script_it_was_given(folder: Path) -> None:
    program = "refloat --show-completion fish | source; complete --do-complete 'refloat recover --to us'"
    offered = in_shell("fish", folder, program, "--no-config")
    assert offered.split() == ["us_east", "us_west"]
