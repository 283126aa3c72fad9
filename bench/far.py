"""The vault alone with a store that is far away: every request takes 50 ms longer than on the local disk."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from inprocess import Alone, taken
from measure import Setting, alternating
from refloat.contracts import ObjectInfo, Put, Store
from refloat.vault.stores.local import LocalStore
from report import Section, Series, Table, paired_ratio

DELAY_S = 0.05
SPEED_KEPT_MIN = 0.7
ROUND_TRIPS = 8  # one after the other, that nobody can do without: to open, to find the head, to commit


class FarStore:
    """The same store, each request to which takes longer; what it counts is how many there were."""

    def __init__(self, inner: Store) -> None:
        self.url = inner.url
        self.requests = 0
        self.delay_s = 0.0
        self._inner = inner

    def _travel(self) -> None:
        self.requests += 1
        time.sleep(self.delay_s)

    def create(self, name: str, content: bytes | memoryview) -> Put:
        """As the inner store's, later."""
        self._travel()
        return self._inner.create(name, content)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """As the inner store's, later."""
        self._travel()
        return self._inner.get(name, start, length)

    def size(self, name: str) -> int | None:
        """As the inner store's, later."""
        self._travel()
        return self._inner.size(name)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """As the inner store's, later."""
        self._travel()
        return self._inner.list(prefix)

    def delete(self, name: str) -> None:
        """As the inner store's, later."""
        self._travel()
        self._inner.delete(name)


@dataclass(frozen=True)
class Way:
    """Seconds of a capture and of a restore, and how many requests each made."""

    capture_s: float
    restore_s: float
    capture_requests: int
    restore_requests: int


def went(folder: Path, work: Path, delay_s: float) -> Way:
    """Capture a folder into an empty vault, and restore it."""
    with tempfile.TemporaryDirectory(dir=work) as made:
        store = FarStore(LocalStore(f"{made}/vault"))
        alone = Alone(store)
        store.delay_s, store.requests = delay_s, 0
        capture_s, _ = taken(lambda: alone.capture(folder, "live"))
        captured = store.requests
        restore_s, _ = taken(lambda: alone.restore(Path(made) / "back"))
        return Way(capture_s, restore_s, captured, store.requests - captured)


def measure(setting: Setting, folder: Path, rounds: int) -> Section:
    """Both ways in alternating order, round by round."""
    near: list[Way] = []
    far: list[Way] = []
    for number, order in enumerate(alternating([(near, 0.0), (far, DELAY_S)], rounds)):
        setting.say(f"round {number + 1} of {rounds}: near and far")
        for ways, delay_s in order:
            ways.append(went(folder, setting.work, delay_s))
    rows = (
        _row(
            "capture", [way.capture_s for way in near], far, lambda way: (way.capture_s, way.capture_requests)
        ),
        _row(
            "restore", [way.restore_s for way in near], far, lambda way: (way.restore_s, way.restore_requests)
        ),
    )
    headings = ("work", "near", "far", "requests", "of its speed near", "aim")
    return Section(
        name="far store",
        title=f"With {DELAY_S * 1000:.0f} ms on every request, {rounds} interleaved rounds",
        tables=(Table("Far", headings, rows),),
        notes=(
            f"In one Python process, into a local directory. Of the time far away, {ROUND_TRIPS} round trips are "
            "subtracted, before it is compared: they cannot but follow each other.",
        ),
    )


def _row(
    work: str, near: list[float], far: list[Way], of: Callable[[Way], tuple[float, int]]
) -> tuple[str, ...]:
    seconds = [of(way)[0] for way in far]
    there = Series(tuple(max(one - ROUND_TRIPS * DELAY_S, 0.001) for one in seconds), "s")
    kept = paired_ratio(Series(tuple(near), "s"), there)
    requests = str(round(statistics.median(of(way)[1] for way in far)))
    figures = (str(Series(tuple(near), "s")), str(Series(tuple(seconds), "s")))
    return (work, *figures, requests, str(kept), kept.reaching(SPEED_KEPT_MIN))
