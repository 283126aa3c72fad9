"""Nothing in the source can run what it reads: no unpickling, no unsafe loader, no extraction by others' paths."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "skops"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {"extractall", "unpack_archive", "read_pickle", "unsafe_load", "full_load"}
LOADERS = {"torch": {"load"}, "yaml": {"load", "load_all"}}


def dangers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").partition(".")[0] in MODULES:
                yield str(node.module)
        elif isinstance(node, ast.Call):
            yield from _in_call(node)


def _in_call(call: ast.Call) -> Iterator[str]:
    function = call.func
    if isinstance(function, ast.Name) and function.id in CALLS | BUILTINS:
        yield function.id
    if isinstance(function, ast.Attribute):
        owner = function.value.id if isinstance(function.value, ast.Name) else ""
        if function.attr in CALLS or function.attr in LOADERS.get(owner, set()):
            yield f"{owner}.{function.attr}"
    for keyword in call.keywords:
        truth = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
        if (keyword.arg == "allow_pickle" and truth) or (keyword.arg == "typ" and _is_unsafe(keyword.value)):
            yield str(keyword.arg)


def _is_unsafe(value: ast.expr) -> bool:
    """Whether this is another loader of ruamel.yaml than those that build plain values."""
    return not (isinstance(value, ast.Constant) and value.value in ("safe", "rt", "pure"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_nothing_that_is_read_is_ever_run(path: Path) -> None:
    # fault 59
    assert list(dangers(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import marshal, json",
        "eval('1')",
        "torch.load(path)",
        "archive.extractall(folder)",
        "numpy.load(path, allow_pickle=True)",
        "YAML(typ='unsafe')",
        "yaml.load(text)",
        "__import__(name)",
    ],
)
def test_each_of_them_would_be_noticed(line: str) -> None:
    assert list(dangers(ast.parse(line)))
