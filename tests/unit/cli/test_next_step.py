"""What an error says to do next can be pasted as it stands: every command of every text, with what was typed."""

from __future__ import annotations

import ast
import functools
import re
import shlex
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

import refloat
from refloat.cli.line import hoisted
from refloat.cli.main import verb_of, whole
from refloat.cli.next_step import Typed, commands, spans

SOURCE = Path(refloat.__file__).parent
PLACEHOLDERS = {"REGION": "us", "RUN": "3f2a9c01d4e5", "POINT": "3f2a", "FILE": "file", "DIR": "dir"}
TYPED = Typed.of(
    ["-f", "my other.yaml", "recover", "--vault", "/srv/the vault", "--to", "us", "--resume", "3f2a"]
)


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every text that may be shown: no docstring, and no example of a `--help`, which another test types."""
    nodes = deque([tree])
    while nodes:
        for node in ast.iter_child_nodes(nodes.popleft()):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "examples":
                continue
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "x1" for part in node.values]
                yield node.lineno, "".join(str(part) for part in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.lineno, node.value
            else:
                nodes.append(node)


SHOWN = [
    (f"{path.relative_to(SOURCE)}:{line}", command)
    for path in sorted(SOURCE.rglob("*.py"))
    if re.search("refloat (?!import)", source := path.read_text())
    for line, text in texts(ast.parse(source))
    for command in commands(text, verb_of)
]

refloat_command = functools.cache(lambda: typer.main.get_command(whole()))


def typed(command: str) -> None:
    """Parse a command line as typer does, without running it; what it complains about comes out."""
    words = hoisted(shlex.split(re.sub(r"\b[A-Z]+\b", lambda m: PLACEHOLDERS.get(m[0], m[0]), command))[1:])
    while words[:1] == ["-f"]:
        words = words[2:]
    known = refloat_command()
    while hasattr(known, "commands") and words and not words[0].startswith("-"):
        known, words = known.commands[words[0]], words[1:]
    if not words or words != ["--help"]:
        assert not hasattr(known, "commands") or words == ["--version"], "a group does nothing by itself"
        known.make_context("refloat", words)


def test_the_source_says_many_commands() -> None:
    assert len(SHOWN) > 60


@pytest.mark.parametrize(("place", "command"), SHOWN, ids=[place for place, _ in SHOWN])
def test_every_command_that_is_said_anywhere_can_be_typed(place: str, command: str) -> None:
    typed(command)


@pytest.mark.parametrize(("place", "command"), SHOWN, ids=[place for place, _ in SHOWN])
def test_and_so_it_can_with_what_the_user_had_typed(place: str, command: str) -> None:
    whole = TYPED.completed(command, verb_of)
    assert "'my other.yaml'" in whole or "-f " in command
    assert "REGION" not in whole and "RUN" not in whole.split()
    typed(whole)


@pytest.mark.parametrize(
    ("said", "line", "expected"),
    [
        ("refloat protect", "-f b.yaml protect", "refloat -f b.yaml protect"),
        ("refloat protect", "-f'b c.yaml' check", "refloat -f 'b c.yaml' protect"),
        ("then refloat protect", "--file=b.yaml check", "then refloat -f b.yaml protect"),
        ("`refloat points list` shows", "plan --vault v --to us", "`refloat points list --vault v` shows"),
        ("refloat protect", "recover --vault v --to us", "refloat protect"),  # which takes none
        ("refloat run show RUN --to REGION", "recover --to us --resume r", "refloat run show r --to us"),
        ("refloat run show RUN --to REGION", "check", "refloat run show RUN --to REGION"),
        ("refloat -f c.yaml check", "-f b.yaml check", "refloat -f c.yaml check"),
        ("refloat plan --vault w --to us", "plan --vault v --to us", "refloat plan --vault w --to us"),
        (
            "read it, then: refloat check; or not",
            "-f 'b c' init",
            "read it, then: refloat -f 'b c' check; or not",
        ),
        ("refloat keeps it; pip install refloat", "-f b.yaml check", "refloat keeps it; pip install refloat"),
    ],
)
def test_a_command_gets_what_says_where_everything_is(said: str, line: str, expected: str) -> None:
    assert Typed.of(shlex.split(line)).completed(said, verb_of) == expected


RULES = [
    (f"{path.relative_to(SOURCE)}:{line}", text)
    for path in sorted(SOURCE.rglob("*.py"))
    if "--override" in (source := path.read_text())
    for line, text in texts(ast.parse(source))
    if re.search(r"--override \w", text)
]


def test_the_source_names_many_rules() -> None:
    assert len(RULES) > 10


@pytest.mark.parametrize(("place", "text"), RULES, ids=[place for place, _ in RULES])
def test_a_rule_that_may_be_overridden_is_named_in_a_command(place: str, text: str) -> None:
    told = TYPED.completed(text, verb_of)
    found = [told[start:end] for start, end in spans(told)]
    assert len(re.findall("--override", told)) == sum("--override" in command for command in found)
    for command in found:
        typed(command)


@pytest.mark.parametrize(
    ("said", "line", "expected"),
    [
        (
            "stop it, or name the rule: --override r",
            "recover --to us --only a -f 'b c'",
            "stop it, or name the rule: refloat -f 'b c' recover --to us --only a --override r",
        ),
        ("--override r uses it", "recover --to us", "`refloat recover --to us --override r` uses it"),
        ("see `--override r`, then", "recover --to us", "see `refloat recover --to us --override r`, then"),
        (
            "stop it, or: --override r; or refloat protect --override r",
            "recover --to us",
            "stop it, or: refloat recover --to us --override r; or refloat protect --override r",
        ),
        ("name the rule: --override r", "check", "name the rule: --override r"),
        ("name the rule: --override r", "vault cat -- --to x", "name the rule: --override r"),
        ("name the rule: --override r", f"recover --to {'u' * 500}", "name the rule: --override r"),
        (
            "--override r",
            "--json -q recover --to us --override s",
            "refloat --json -q recover --to us --override s --override r",
        ),
    ],
)
def test_a_rule_is_named_on_the_line_that_was_typed(said: str, line: str, expected: str) -> None:
    assert Typed.of(shlex.split(line)).completed(said, verb_of) == expected


def test_an_error_is_told_so_on_a_screen_and_in_a_document(desk) -> None:
    vault = str(desk.vault("us"))
    hint = f"refloat -f {desk.manifest} points list --vault {vault}"
    error = desk.error("plan", "--vault", vault, "--to", "us", "--point", "zz", exits=2)
    assert hint in error["next"]
    desk.read("plan", "--vault", vault, "--to", "us", "--point", "zz")
    assert hint in desk.said


def test_check_says_it_so(unprotected) -> None:
    nexts = {problem["next"] for problem in unprotected.ask("check")["problems"]}
    assert f"refloat -f {unprotected.manifest} protect" in nexts
