"""LanceDB for tables in folders, without the client of a remote catalogue, which takes half of the time to load.

Every second that a process takes to load is a second of every recovery.
"""

from __future__ import annotations

import sys
from types import ModuleType

_CLIENT = "lance_namespace_urllib3_client.api"
_PARTS = (
    "branch",
    "data",
    "index",
    "materialized_view",
    "metadata",
    "namespace",
    "table",
    "tag",
    "transaction",
)


def _leave_out() -> None:
    """Stand in for what the client's package imports; a part that a later one has besides is loaded as it is."""
    if "lancedb" in sys.modules:
        return
    for part in _PARTS:
        module = ModuleType(f"{_CLIENT}.{part}_api")
        name = "".join(word.capitalize() for word in part.split("_")) + "Api"
        setattr(module, name, type(name, (), {}))
        sys.modules.setdefault(module.__name__, module)


_leave_out()
import lancedb  # noqa: E402, F401 - by now it is light; from here the others take it
