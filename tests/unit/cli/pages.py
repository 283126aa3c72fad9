"""A page of the manual as its reader types it: the commands of each section, in their order."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from small_desk import Desk

DOCS = Path(__file__).resolve().parents[3] / "docs"
_SECTION = re.compile(r"^## (.*)$", re.MULTILINE)
_EXITS = re.compile(r"# exits with (\d)")


def blocks(page: str, language: str) -> list[str]:
    """The contents of a text's blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def sections(name: str) -> dict[str, list[str]]:
    """The lines that each section of a page has in its blocks of shell."""
    _, *parts = _SECTION.split((DOCS / name).read_text())
    titles, texts = parts[::2], parts[1::2]
    return {
        title: [line for block in blocks(text, "sh") for line in block.splitlines()]
        for title, text in zip(titles, texts, strict=True)
    }


Program = Callable[[Desk, list[str]], None]
"""Stands in for one that is not here: it is given the words after its name."""


def typed(desk: Desk, line: str, programs: Mapping[str, Program] = MappingProxyType({})) -> list[str]:
    """Type one line, which ends as it says, and give its words; ``programs`` stand in for some by their names."""
    words = shlex.split(line, comments=True)
    said = _EXITS.search(line)
    if words[0] == "refloat":
        desk.ask(*words[1:], exits=int(said[1]) if said else 0)
    elif words[0] == "export":
        os.environ.update([words[1].split("=", 1)])  # which `seated` puts back
    elif words[0] in programs:
        programs[words[0]](desk, words[1:])
    else:
        subprocess.run(["sh", "-c", line], cwd=desk.root, check=True)
    return words
