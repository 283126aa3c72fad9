"""Snapshots read from whichever region has their bytes whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from refloat.contracts import Facts
from refloat.errors import RefloatError, StoreError, VaultError
from refloat.vault.kept import Kept
from refloat.vault.replica import Replica
from refloat.vault.source import Heard, SnapshotSource, unheard
from refloat.vault.unfolded import UNTOLD, Totals

T = TypeVar("T")


class Anywhere:
    """The replicas of one vault as one place to read; threads may share it.

    A chunk is known by its contents, so it does not matter which region it comes from. One that does not answer
    is asked last from then on.
    """

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._replicas = list(replicas)
        self._lock = threading.Lock()

    def read_chunk(self, name: bytes) -> bytes:
        """A chunk's raw bytes, verified. Raises the error of the region asked first where none has it whole."""
        return self._first(lambda replica: replica.read_chunk(name))

    def length_of(self, name: bytes) -> int:
        """How many bytes a chunk has, as some index says. Raises as ``read_chunk``."""
        return self._first(lambda replica: replica.length_of(name))

    def name_of(self, raw: bytes) -> bytes:
        """What the chunk of these bytes is called in this vault."""
        return self._replicas[0].name_of(raw)

    def _first(self, ask: Callable[[Replica], T]) -> T:
        with self._lock:
            replicas = list(self._replicas)
        failed: list[RefloatError] = []
        for replica in replicas:
            try:
                return ask(replica)
            except VaultError as error:
                failed.append(error.at(region=replica.region))
            except StoreError as error:
                failed.append(error.at(region=replica.region))
                self._ask_last(replica)
        raise failed[0]

    def source(self, tree: str, heard: Heard = unheard, totals: Totals = UNTOLD) -> SnapshotSource:
        """The files of a snapshot by its root tree (hex); ``totals`` are what its point says of it."""
        return SnapshotSource(
            self.read_chunk, tree, Facts(), heard=heard, same=Kept(self, heard).same, totals=totals
        )

    def _ask_last(self, replica: Replica) -> None:
        with self._lock:
            self._replicas.remove(replica)
            self._replicas.append(replica)
