"""Several regions are asked at the same time, and those that answer do not wait long for one that says nothing.

Silence is no answer: who was not waited for is unknown, and is told of like any region that does not answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from typing import Generic, Protocol, TypeVar, runtime_checkable

from refloat.contracts import Store
from refloat.deadline import begun
from refloat.errors import Retry, StoreError
from refloat.vault.layout import VAULT

T = TypeVar("T")

FIRST_WORD_S = (
    5.0  # beyond what another region took for all: a first word waits 3 s where two packets are lost
)


@runtime_checkable
class Answering(Protocol):
    """A store behind a line, which may be dead: it knows whether anybody was ever heard there."""

    @property
    def has_answered(self) -> bool:
        """Whether the store has said a word yet, be it that something is missing."""


class Asking(Generic[T]):
    """One region that is being asked something, in a thread of its own."""

    def __init__(self, store: Store, ask: Callable[[], T]) -> None:
        self.store = store
        self.answer: Future[T] = begun(ask)

    @property
    def is_silent(self) -> bool:
        """Whether nobody said a word there, as far as the store can tell; who said one is waited for by its store."""
        return not self.answer.done() and isinstance(self.store, Answering) and not self.store.has_answered


def answers(
    asked: Mapping[str, Asking[T]],
    is_well: Callable[[T], bool],
    awaited: Collection[str] | None = None,
    beside: Collection[str] = (),
) -> dict[str, T | StoreError]:
    """What each region answers, in the order of ``asked``; of one that was not waited for, the error that says so.

    Once one is well, and at once where regions ``beside`` these are, another that has not said a word yet has
    ``FIRST_WORD_S`` for it, but for the ``awaited`` (None is all): those have as long as their store gives them. What
    an asking raises comes out here.
    """
    awaited = asked.keys() if awaited is None else awaited
    left = {one.answer for one in asked.values()}
    until: float | None = None
    while left:
        if until is None and (beside or _well(asked, is_well)):
            until = time.monotonic() + FIRST_WORD_S
        left_s = None if until is None else max(0.0, until - time.monotonic())
        if left_s == 0.0:
            left -= {one.answer for region, one in asked.items() if one.is_silent and region not in awaited}
            left_s = None
        left = wait(left, timeout=left_s, return_when=FIRST_COMPLETED).not_done
    well = [*beside, *_well(asked, is_well)]
    return {
        region: one.answer.result() if one.answer.done() else _not_heard(region, one.store, well)
        for region, one in asked.items()
    }


def silent(stores: Mapping[str, Store]) -> dict[str, StoreError]:
    """The regions that say nothing to something small, where another one does: why they are not to be asked more."""

    def ask(store: Store) -> bool:
        try:
            store.size(VAULT)
        except StoreError:
            return False
        return True

    asked = {region: Asking(store, partial(ask, store)) for region, store in stores.items()}
    found = answers(asked, bool, awaited=())
    return {region: error for region, error in found.items() if isinstance(error, StoreError)}


def _well(asked: Mapping[str, Asking[T]], is_well: Callable[[T], bool]) -> list[str]:
    return [region for region, one in asked.items() if one.answer.done() and is_well(one.answer.result())]


def _not_heard(region: str, store: Store, well: Collection[str]) -> StoreError:
    others = " and ".join(well)
    return StoreError(
        f"{store.url} said nothing in {FIRST_WORD_S:g} s, and {others} had answered: {region} was not heard",
        region=region,
        file=VAULT,
        retry=Retry.LATER,
        next="see whether the store answers, and try again",
    )
