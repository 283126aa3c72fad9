"""Every row of the fault matrix that is promised has a defence, and a test that notices when it is taken out."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PROMISED = (
    *(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 28, 29, 31, 36),
    *(39, 40, 41, 42, 43, 44, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 66),
)
"""Rows of the fault matrix."""


def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants_run", ROOT / "tests" / "mutants" / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


MUTANTS = runner().mutants()


def rows_in(text: str) -> set[int]:
    """The rows that a text names, as in ``fault 9`` and ``faults 1, 18``."""
    found = re.findall(r"\bfaults? (\d+(?:(?:, | and )\d+)*)", text)
    return {int(number) for numbers in found for number in re.findall(r"\d+", numbers)}


def rows_named_by(test: str) -> set[int]:
    """The rows that a test names: at its ``def``, right below it, or in its docstring; a whole file, in its own."""
    file, _, name = test.partition("::")
    source = (ROOT / file).read_text()
    module = ast.parse(source)
    if not name:
        return rows_in(ast.get_docstring(module) or "")
    last = name.rpartition("::")[2].partition("[")[0]
    (found,) = (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef) and node.name == last)
    head = source.splitlines()[found.lineno - 1 : found.body[0].end_lineno]
    return rows_in("\n".join(head))


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_fits_the_source_and_names_tests_that_exist(mutant) -> None:
    source = (ROOT / mutant.file).read_text()
    assert source.count(mutant.old) == 1
    mutated = source.replace(mutant.old, mutant.new)
    assert ast.dump(ast.parse(mutated)) != ast.dump(ast.parse(source)), "nothing changes"
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert (ROOT / file).is_file(), test
        last = name.rpartition("::")[2].partition("[")[0]
        assert f"def {last}" in (ROOT / file).read_text() or not name, test


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_test_of_a_mutant_names_its_row(mutant) -> None:
    assert mutant.fault in {0}.union(*map(rows_named_by, mutant.tests)), mutant.tests


@pytest.mark.parametrize("row", PROMISED)
def test_a_promised_row_has_a_mutant(row: int) -> None:
    assert any(mutant.fault == row for mutant in MUTANTS)
