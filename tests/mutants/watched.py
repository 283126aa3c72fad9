"""A plug-in for pytest: which test ran which line and how long it took, for ``score.py``; and no shrinking."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest
from hypothesis import Phase, settings

settings.register_profile("mutants", deadline=None, phases=[Phase.explicit, Phase.generate], derandomize=True)
_took: Counter[str] = Counter()


def function_of(test: str) -> str:
    """A test without its parameters, whose number may be another where the code is another."""
    return test.partition("[")[0]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    watching = coverage.Coverage.current()
    if watching is not None:
        watching.switch_context(function_of(item.nodeid))
    begun = time.monotonic()
    try:
        return (yield)
    finally:
        _took[function_of(item.nodeid)] += time.monotonic() - begun


def pytest_sessionfinish() -> None:
    if told := os.environ.get("WATCHED_TO"):
        Path(told).write_text(json.dumps(_took))
