"""Snapshots read from whichever region has their bytes whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar

from refloat.attributes import Withheld
from refloat.contracts import Facts
from refloat.errors import Damaged, Missing, RefloatError, StoreError, VaultError, most_hopeful
from refloat.vault import layout
from refloat.vault.kept import Kept
from refloat.vault.replica import REPAIR, Replica
from refloat.vault.source import Heard, SnapshotSource, unheard
from refloat.vault.unfolded import UNTOLD, Totals

T = TypeVar("T")
PACKS_SHOWN_MAX = 3  # in one remark; the rest is counted
_NOWHERE = (
    f"{REPAIR}; of what no region has whole the next `refloat protect` stores anew what is still live: "
    "then recover from that point, or choose an older one now: `refloat points list`"
)


class Anywhere:
    """The replicas of one vault as one place to read; threads may share it.

    A chunk is known by its contents, so it does not matter which region it comes from. The first region is asked
    first; only what it has not whole is looked for in the others, whose indexes are read no sooner. One that does not
    answer is asked last from then on.
    """

    def __init__(self, replicas: Iterable[Replica]) -> None:
        self._replicas = list(replicas)
        self._home = self._replicas[0]
        self._lock = threading.Lock()
        self._instead: dict[tuple[str, str], set[str]] = {}
        self._silent: dict[tuple[str, str], str] = {}
        for replica in self._replicas:
            replica.look_again()

    def reading_also(self, replicas: Iterable[Replica]) -> None:
        """Look in these regions, too, for what is whole in none before them."""
        with self._lock:
            known = {replica.region for replica in self._replicas}
            others = [replica for replica in replicas if replica.region not in known]
            self._replicas += others
        for replica in others:
            replica.look_again()

    def remarks(self) -> list[str]:
        """What was read in another region than the first that was asked, and why: for people."""
        with self._lock:
            said = [
                f"{region} has not whole what was read in {other} instead ({_named(objects)}): {REPAIR}"
                for (region, other), objects in sorted(self._instead.items())
            ]
            return said + [
                f"{region} did not give all that was asked of it, and {other} was read instead: {why}"
                for (region, other), why in sorted(self._silent.items())
            ]

    def read_chunk(self, name: bytes) -> bytes:
        """A chunk's raw bytes, verified. Where none has it whole, raises the error that leaves the most hope."""
        return self._first(lambda replica: replica.read_chunk(name, base=self._read_base), self._note)

    def _read_base(self, name: bytes, depth: int) -> bytes:
        """What a chunk rests on, wherever it is whole; below that each region goes by its own."""
        return self._first(lambda replica: replica.read_chunk(name, depth), self._note)

    def length_of(self, name: bytes) -> int:
        """How many bytes a chunk has, as some index says. Raises as ``read_chunk``."""
        return self._first(lambda replica: replica.length_of(name))

    def name_of(self, raw: bytes) -> bytes:
        """What the chunk of these bytes is called in this vault."""
        return self._home.name_of(raw)

    def any(self, holds: Callable[[Replica], bool]) -> bool:
        """Whether one of the regions ``holds`` something. Raises ``StoreError`` where none does and one cannot tell."""
        silent: StoreError | None = None
        for replica in self._in_order():
            try:
                if holds(replica):
                    return True
            except StoreError as error:
                silent = error.at(region=replica.region)
                self._ask_last(replica)
        if silent is not None:
            raise silent
        return False

    def source(
        self,
        tree: str,
        facts: Facts | None = None,
        *,
        priority: tuple[str, ...] = (),
        heard: Heard = unheard,
        cancelled: threading.Event | None = None,
        totals: Totals = UNTOLD,
        withheld: Withheld | None = None,
    ) -> SnapshotSource:
        """The files of a snapshot by its root tree (hex), as ``Replica.source``."""
        return SnapshotSource(
            self.read_chunk,
            tree,
            facts or Facts(),
            priority=priority,
            heard=heard,
            same=Kept(self, heard, cancelled).same,
            cancelled=cancelled,
            totals=totals,
            withheld=withheld,
        )

    def _in_order(self) -> list[Replica]:
        with self._lock:
            return list(self._replicas)

    def _first(
        self,
        ask: Callable[[Replica], T],
        note: Callable[[Sequence[RefloatError], Replica], None] = lambda failed, replica: None,
    ) -> T:
        failed: list[RefloatError] = []
        for replica in self._in_order():
            try:
                found = ask(replica)
            except (VaultError, StoreError) as error:
                failed.append(error.at(region=replica.region))
                if isinstance(error, StoreError):
                    self._ask_last(replica)
            else:
                if failed:
                    note(failed, replica)
                return found
        if all(isinstance(error, (Damaged, Missing)) for error in failed):
            failed[0].next = _NOWHERE
        raise most_hopeful(failed)

    def _note(self, failed: Sequence[RefloatError], replica: Replica) -> None:
        """Keep why a region was read in another's stead."""
        with self._lock:
            for error in failed:
                where = (error.region or "", replica.region)
                if isinstance(error, VaultError):
                    self._instead.setdefault(where, set()).add(error.file or "")
                else:
                    self._silent.setdefault(where, error.message)

    def _ask_last(self, replica: Replica) -> None:
        with self._lock:
            self._replicas.remove(replica)
            self._replicas.append(replica)


def _named(objects: Collection[str]) -> str:
    """The packs of which a piece is bad, as far as there is room; what no pack holds has no better name."""
    packs = sorted(name for name in objects if name.startswith(layout.PACKS))
    rest = len(packs) - PACKS_SHOWN_MAX
    shown = packs[:PACKS_SHOWN_MAX] + ([f"{rest} more packs"] if rest > 0 else [])
    return ", ".join([*shown, *([] if len(packs) == len(objects) else ["pieces that are in no pack"])])
