"""The small changes that ``make score`` tries: each kind is made, one at a time, and words are left alone."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def changing() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "mutants_changes", ROOT / "tests" / "mutants" / "changes.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


changes = changing().changes


@pytest.mark.parametrize(
    ("source", "others"),
    [
        ("x < y", {"x <= y"}),
        ("x == y", {"x != y"}),
        ("x is not y", {"x is y"}),
        ("x in y", {"x not in y"}),
        ("x and y", {"x or y"}),
        ("not x", {"x"}),
        ("x + 3", {"x - 3", "x + 4", "x + 2"}),
        ("x = True", {"x = False"}),
        ("x.y = z", {"pass"}),
        ("f(x)", {"pass"}),
        ("x += y", {"pass", "x -= y"}),
        ("raise X", {"pass"}),
        ("a if b else c", {"a if not b else c"}),
        ("def f():\n    return x", {"def f():\n    return None"}),
        ("def f(x: int=1) -> 'A | B':\n    yield x", {"def f(x: int=2)", "def f(x: int=0)"}),
        ("while x:\n    break", {"while not x:\n    break", "while x:\n    continue"}),
        ("'what a message says'", set()),
        ("f'{x + 1} of {y}'", set()),
        ("@f(1)\nclass A:\n    x: int", set()),
    ],
)
def test_each_kind_of_change_is_made(source: str, others: set[str]) -> None:
    found = changes("a.py", source)
    for other in others:
        assert any(one.text.startswith(other) for one in found), (
            f"{other} is not among {[c.text for c in found]}"
        )
    assert len(found) >= len(others)
    if not others:
        assert found == []


def test_each_change_is_another_program_and_says_where_it_is() -> None:
    path = ROOT / "src" / "refloat" / "vault" / "pack.py"
    source = path.read_text()
    found = changes("pack.py", source)
    assert len(found) > 80
    assert len({change.text for change in found}) == len(found)
    whole = ast.unparse(ast.parse(source))
    for change in found:
        assert change.text != whole
        assert 1 <= change.first <= change.last <= source.count("\n") + 1
    assert ast.unparse(ast.parse(source)) == whole
