"""Plug-ins that cannot be loaded, or raise what none of ours would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint

import pytest

from refloat import registry
from refloat.errors import ConnectorError, RefloatError, UsageError


class Broken:
    def __init__(self) -> None:
        raise ZeroDivisionError("while it was made")


class Entry:
    """An entry point whose module does this when it is imported."""

    def __init__(self, load: Callable[[], object]) -> None:
        self.load = load


def importing(error: Exception) -> Callable[[], object]:
    def load() -> object:
        raise error

    return load


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Entry]]:
    found: dict[str, Entry] = {}
    monkeypatch.setattr(registry, "_group", lambda group: found)
    registry.connector.cache_clear()
    yield found
    registry.connector.cache_clear()


def test_entries_are_what_the_standard_library_says() -> None:
    assert callable(EntryPoint.load)


@pytest.mark.parametrize(
    ("load", "kind", "words"),
    [
        (importing(ImportError("no module", name="weaviate")), UsageError, "needs a package"),
        (importing(SyntaxError("invalid syntax")), ConnectorError, "SyntaxError: invalid syntax"),
        (importing(ZeroDivisionError("at import")), ConnectorError, "ZeroDivisionError: at import"),
        (lambda: Broken, ConnectorError, "ZeroDivisionError: while it was made"),
    ],
)
def test_a_plug_in_that_cannot_be_loaded_is_named(
    installed: dict[str, Entry], load: Callable[[], object], kind: type[RefloatError], words: str
) -> None:
    installed["odd"] = Entry(load)
    with pytest.raises(kind, match=words) as error:
        registry.connector("odd")
    assert "'odd'" in error.value.message
