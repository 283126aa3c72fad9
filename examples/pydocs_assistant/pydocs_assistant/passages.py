"""Ingestion: passages of Python's own documentation become a versioned data set.

Two sources that every Python carries along: the language reference in ``pydoc_data.topics``, cut at its
headings, and the docstrings of the standard library, read from its source files. No module is imported to
read its docstrings, because some do things when they are imported.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydocs_assistant.paths import Region, folder_digest, write_json
from pydocs_assistant.topics import LANGUAGE, topic_of

VERSION = 1
PASSAGES_MAX = 4_000  # enough for a meaningful search, and small enough to build in seconds
TEXT_CHARS_MIN = 80  # shorter docstrings say no more than the name
TEXT_CHARS_MAX = 1_600  # a screen of text
_SKIPPED = {"test", "tests", "__pycache__"}
_DOCUMENTED_AS = {"_pydecimal": "decimal", "_pydatetime": "datetime", "_collections_abc": "collections"}
_UNDERLINE = re.compile(r"""^([*=\-~^"])\1{2,}$""")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of documentation. ``source`` is ``reference`` or the module's dotted name."""

    id: str
    topic: str
    title: str
    text: str
    source: str


def collect() -> list[Passage]:
    """All passages of this Python, at most ``PASSAGES_MAX``, the reference first, always in one order."""
    from_library = list(_library())
    reference = list(_reference())
    room = max(0, PASSAGES_MAX - len(reference))
    return _with_unique_ids(reference + _thinned(from_library, room))


def write(region: Region) -> str:
    """Write the data set and name it the current one; return its digest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    passages = collect()
    folder = region.data_set / "passages" / f"v{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder.parent / ".part-0.parquet.new"
    pq.write_table(pa.Table.from_pylist([asdict(passage) for passage in passages]), beside)
    beside.replace(folder / "part-0.parquet")
    digest = folder_digest(folder)
    current = {"version": VERSION, "rows": len(passages), "digest": digest}
    write_json(region.data_set / "CURRENT.json", current)
    return digest


def read(region: Region) -> list[Passage]:
    """The passages of the current version of the data set."""
    import pyarrow.parquet as pq

    part = region.data_set / "passages" / f"v{current(region)['version']}" / "part-0.parquet"
    return [Passage(**row) for row in pq.ParquetFile(part).read().to_pylist()]


def current(region: Region) -> dict[str, int | str]:
    """The current version of the data set: ``version``, ``rows`` and ``digest``."""
    document: dict[str, int | str] = json.loads((region.data_set / "CURRENT.json").read_bytes())
    return document


def _thinned(passages: list[Passage], count: int) -> list[Passage]:
    """``count`` passages evenly spread over all, so that no topic is cut off at the end of the alphabet."""
    if len(passages) <= count:
        return passages
    return [passages[index * len(passages) // count] for index in range(count)]


def _with_unique_ids(passages: list[Passage]) -> list[Passage]:
    seen: dict[str, int] = {}
    unique = []
    for passage in passages:
        seen[passage.id] = number = seen.get(passage.id, 0) + 1
        unique.append(passage if number == 1 else replace(passage, id=f"{passage.id}~{number}"))
    return unique


# The language reference.


def _reference() -> Iterator[Passage]:
    from pydoc_data.topics import topics

    for name, text in sorted(topics.items()):
        for title, section in sections(text):
            if len(section) >= TEXT_CHARS_MIN:
                yield Passage(
                    f"reference/{name}/{_slug(title)}", LANGUAGE, title, _shortened(section), "reference"
                )


def sections(text: str) -> Iterator[tuple[str, str]]:
    """The sections of a page of the reference as (heading, text).

    A heading is a line that is underlined by at least three equal marks, as reStructuredText has it.
    """
    lines = text.splitlines()
    heads = [
        index
        for index, (line, under) in enumerate(itertools.pairwise(lines))
        if line.strip() and not line.startswith(" ") and _UNDERLINE.match(under)
    ]
    for head, following in itertools.pairwise([*heads, len(lines)]):
        yield lines[head].strip(), "\n".join(lines[head + 2 : following]).strip()


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


# The standard library.


def _library() -> Iterator[Passage]:
    library = Path(sysconfig.get_path("stdlib"))
    files = [file for entry in sorted(library.iterdir()) for file in _sources(entry)]
    if not files:
        raise FileNotFoundError(f"no source files of the standard library below {library}")
    for file in files:
        module = _module_name(file.relative_to(library))
        topic = topic_of(module)
        if topic is not None:
            yield from _docstrings(module, topic, file)


def _sources(entry: Path) -> list[Path]:
    """The source files of one module or package of the library, without its tests."""
    if entry.suffix == ".py":
        return [entry]
    if topic_of(entry.name) is None:
        return []
    return [file for file in sorted(entry.rglob("*.py")) if not _SKIPPED & set(file.relative_to(entry).parts)]


def _module_name(relative: Path) -> str:
    parts = list(relative.with_suffix("").parts)
    parts[0] = _DOCUMENTED_AS.get(parts[0], parts[0])
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _docstrings(module: str, topic: str, file: Path) -> Iterator[Passage]:
    tree = ast.parse(file.read_bytes())
    for title, docstring in _documented(module, tree):
        if len(docstring) >= TEXT_CHARS_MIN:
            yield Passage(title, topic, title, _shortened(docstring), module)


def _documented(
    name: str, node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
) -> Iterator[tuple[str, str]]:
    """The dotted name and docstring of a module or class, and of the public ones directly in it."""
    yield name, ast.get_docstring(node) or ""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and child.name[0] != "_":
            yield from _documented(f"{name}.{child.name}", child)


def _shortened(text: str) -> str:
    """At most ``TEXT_CHARS_MAX`` characters, cut between lines where that is possible."""
    if len(text) <= TEXT_CHARS_MAX:
        return text
    cut = text.rfind("\n", TEXT_CHARS_MAX // 2, TEXT_CHARS_MAX)
    return text[: cut if cut > 0 else TEXT_CHARS_MAX].rstrip()
