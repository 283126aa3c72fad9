"""The house rules that no linter knows: sizes, documents that keep up, nothing left unfinished."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MODULE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_can_be_held_in_the_head(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MODULE_LINES_MAX
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{node.name} has {lines} lines"


def test_nothing_is_left_unfinished() -> None:
    unfinished = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b|pragma: no cover")
    found = [str(path) for path in SOURCES if unfinished.search(path.read_text())]
    assert found == []


def test_every_broad_handler_says_why() -> None:
    bare = re.compile(r"except( (Base)?Exception( as \w+)?)?:(?!.*(noqa: BLE001 - |# raised again: ))")
    found = [
        f"{path}:{n}"
        for path in SOURCES
        for n, line in enumerate(path.read_text().splitlines(), 1)
        if bare.search(line)
    ]
    assert found == []


def test_every_manifest_key_is_documented() -> None:
    from refloat.manifest import model

    manual = (ROOT / "docs" / "MANIFEST.md").read_text()
    models = [
        value for value in vars(model).values() if isinstance(value, type) and issubclass(value, model.Model)
    ]
    keys = {field.alias or name for part in models for name, field in part.model_fields.items()}
    missing = sorted(
        key
        for key in keys - {"of_baseline", "seconds"}
        if f"`{key}`" not in manual and f"`{key}:" not in manual
    )
    assert missing == []


def test_every_variable_that_turns_a_test_is_in_their_readme() -> None:
    sources = (path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    asked = {name for text in sources for name in re.findall(r'environ\.get\(\s*"(REFLOAT_[A-Z_]+)"', text)}
    told = (ROOT / "tests" / "README.md").read_text()
    assert "REFLOAT_PIN" in asked
    assert sorted(name for name in asked if f"| `{name}" not in told) == []


def test_every_verb_is_in_the_readme_or_the_manual() -> None:
    from refloat.cli.main import VERBS

    manual = (ROOT / "docs" / "CLI.md").read_text()
    assert [verb for verb in VERBS if f"refloat {verb}" not in manual] == []


def test_every_setting_of_a_connector_is_documented() -> None:
    from refloat import registry

    manual = (ROOT / "docs" / "CONNECTORS.md").read_text()
    missing = [
        f"{kind}.{key}"
        for kind in registry.names(registry.CONNECTORS)
        for key in registry.connector(kind).spec.settings.model_fields
        if f"`{key}`" not in manual
    ]
    assert missing == []
