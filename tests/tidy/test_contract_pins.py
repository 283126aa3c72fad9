"""The contract of the command line: what is pinned is what the manual says, and no change goes unsaid.

The pins are the shapes in ``tests/unit/cli/contract/``: real documents of real commands, by command and case.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest
import typer.main

from refloat.cli.main import whole

ROOT = Path(__file__).resolve().parents[2]
PINS = ROOT / "tests" / "unit" / "cli" / "contract"
MARK = re.compile(r"^[-* ] .*<!-- contract ([0-9a-f]{16}) -->$", re.MULTILINE)
NO_JSON = {"vault cat": "it hands on bytes"}
NOT_PINNED = {"demo": "it takes a minute, and tests/scenarios/test_demo_story.py plays it"}
EMPTY = {"[]", "{}"}
"""The types of a list and a mapping that hold nothing, so that nothing below them can be seen."""


def manual() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cli_manual", ROOT / "docs" / "cli_manual.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MANUAL = manual()
DOCUMENTS: Mapping[str, list[str]] = {
    verb: [path for path, _ in rows] for verb, rows in MANUAL.DOCUMENTS.items() if verb not in NOT_PINNED
}


def pins_of(verb: str) -> Path:
    return PINS / f"{'-'.join(re.findall('[a-z]+', verb))}.json"


def pinned(verb: str) -> Mapping[str, set[str]]:
    """Every path that some document of a command has, with the types of what stood there."""
    cases: Mapping[str, Mapping[str, str]] = json.loads(pins_of(verb).read_text())
    found: dict[str, set[str]] = {}
    for shape in cases.values():
        for path, kinds in shape.items():
            found.setdefault(path, set()).update(kinds.split("|"))
    return found


def words(path: str) -> list[str]:
    return path.replace("[]", ".[]").split(".")


def is_below(path: str, row: str) -> bool:
    """Whether a row of the manual speaks of a path: of it, or of something above it."""
    wanted, found = words(row), words(path)
    pairs = zip(wanted, found, strict=False)
    return len(wanted) <= len(found) and all(want == got or "NAME" in (want, got) for want, got in pairs)


# ---------------------------------------------------------------------------------------- the manual


def leaves(command: object, name: str = "") -> Iterator[str]:
    below: Mapping[str, object] = getattr(command, "commands", {})
    for word, one in below.items():
        yield from leaves(one, f"{name} {word}".strip())
    if not below:
        yield name


def test_every_command_that_prints_a_document_is_described_and_pinned() -> None:
    commands = set(leaves(typer.main.get_command(whole()))) - NO_JSON.keys()
    assert commands <= MANUAL.DOCUMENTS.keys()
    assert [verb for verb in DOCUMENTS if not pins_of(verb).exists()] == []
    assert sorted(PINS.glob("*.json")) == sorted(map(pins_of, DOCUMENTS))


@pytest.mark.parametrize("verb", DOCUMENTS)
def test_the_manual_describes_everything_that_is_pinned(verb: str) -> None:
    rows = DOCUMENTS[verb]
    unsaid = {path: of for path, of in pinned(verb).items() if not any(is_below(path, row) for row in rows)}
    empty = {path for path, of in unsaid.items() if of <= EMPTY and any(is_below(row, path) for row in rows)}
    assert unsaid.keys() - empty == set()


@pytest.mark.parametrize("verb", DOCUMENTS)
def test_some_document_has_what_the_manual_says(verb: str) -> None:
    found = pinned(verb)
    never = {
        row
        for row in DOCUMENTS[verb]
        if not any(is_below(path, row) and of - {"null"} for path, of in found.items())
    }
    assert never == set(), "let a test of tests/unit/cli/test_contract*.py print it, and pin that"


def test_a_row_speaks_of_what_is_below_it_and_of_nothing_else() -> None:
    assert is_below("steps[].error.code", "steps[].error")
    assert is_below("groups.serving.grade", "groups.NAME.grade")
    assert not is_below("steps", "steps[].error")
    assert not is_below("groups.serving.reason", "groups.NAME.grade")


# ------------------------------------------------------------------------------------- the changelog


def digest() -> str:
    """Of every pinned shape: which command, which case, which keys of which types."""
    shapes = {file.name: json.loads(file.read_text()) for file in PINS.glob("*.json")}
    return hashlib.sha256(json.dumps(shapes, sort_keys=True).encode()).hexdigest()[:16]


def test_the_documents_changed_only_with_a_line_in_the_changelog() -> None:
    marks = MARK.findall((ROOT / "CHANGELOG.md").read_text())
    assert marks[:1] == [digest()], (
        "the documents that commands print are not those that CHANGELOG.md knows: say what changed in a line of its "
        f"newest section, and end that line with <!-- contract {digest()} -->. A key that goes or changes its meaning "
        "raises `schema` as well."
    )


def test_a_mark_counts_only_at_the_end_of_a_line_that_says_something() -> None:
    assert MARK.findall("- `plan` has `x`. <!-- contract 0123456789abcdef -->\n") == ["0123456789abcdef"]
    assert MARK.findall("  and more. <!-- contract 0123456789abcdef -->\n") == ["0123456789abcdef"]
    assert MARK.findall("<!-- contract 0123456789abcdef -->\n") == []
