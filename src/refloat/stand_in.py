"""Importing a library without the half of it that nobody here uses, and that takes most of the time."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def stand_ins(parts: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """While the context lasts, each module that is not loaded yet is one with empty classes of these names alone.

    A module of another name stays as it is, so a later version of the library that needs more loads more. The
    stand-ins are gone afterwards: whoever wants the real module imports it.
    """
    made = {name: ModuleType(name) for name in parts if name not in sys.modules}
    for name, module in made.items():
        for attribute in parts[name]:
            setattr(module, attribute, type(attribute, (), {}))
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in made:
            sys.modules.pop(name, None)
