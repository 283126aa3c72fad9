"""Objects in this process's memory: for tests, and the shortest example of a store."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from refloat.contracts import ObjectInfo, Put
from refloat.errors import Missing
from refloat.vault.stores.names import checked, checked_prefix


class MemoryStore:
    """A store that forgets everything when the process ends."""

    def __init__(self, name: str = "nameless") -> None:
        self.url = f"memory://{name}"
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def create(self, name: str, content: bytes | memoryview) -> Put:
        """Keep a copy of ``content`` unless the name is taken."""
        checked(name)
        copy = bytes(content)
        with self._lock:
            if name in self._objects:
                return Put.EXISTS
            self._objects[name] = copy
        return Put.CREATED

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """``length`` bytes from ``start``, fewer where the object ends. Raises ``Missing``."""
        content = self._objects.get(checked(name))
        if content is None:
            raise Missing(f"{name} is not in {self.url}", file=name)
        return content[start:] if length is None else content[start : start + length]

    def size(self, name: str) -> int | None:
        """The object's size in bytes, or None."""
        content = self._objects.get(checked(name))
        return None if content is None else len(content)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects below ``prefix``, as they were when the listing began."""
        checked_prefix(prefix)
        with self._lock:
            found = [(name, len(content)) for name, content in self._objects.items()]
        return (ObjectInfo(name, size) for name, size in found if name.startswith(prefix))

    def delete(self, name: str) -> None:
        """Forget an object."""
        with self._lock:
            self._objects.pop(checked(name), None)
