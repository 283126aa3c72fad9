"""What holds for a store behind a bad line, whichever server it asks."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from threading import Barrier

import pytest

from refloat.contracts import Put
from refloat.errors import Retry, StoreError
from refloat.testing.toxic import Line, Toxic, ToxicProxy
from refloat.vault.stores.object import ObjectStore, open_bucket
from refloat.vault.stores.patience import Patience

QUICK = Patience(
    connect_s=0.5, silence_s=0.25, request_s=0.5, call_s=0.5, wait_first_s=0.001, wait_max_s=0.01
)
"""For calls that must fail: what is asked of a line that answers in the end is asked with ``PATIENT``."""

PATIENT = Patience(wait_first_s=0.001, wait_max_s=0.01)
"""As a user's store, but for the waits: a server that is only slow, on a busy machine, changes nothing."""


def become(shop: ObjectStore, patience: Patience) -> None:
    """From now on the store has another patience, wherever it is held."""
    vars(shop).update(vars(open_bucket(shop.url, patience)))


def storm(refusal: Toxic) -> Toxic:
    """Three requests in ten are refused, and none so often in a row that a call gives up: luck decides nothing."""
    dice, lock, refused = Random(7), threading.Lock(), Counter[tuple[str, str]]()

    def toxic(line: Line) -> None:
        what = (line.command, line.path)
        with lock:
            refuses = dice.random() < 0.3 and refused[what] < PATIENT.attempts_max - 2
            refused[what] = refused[what] + 1 if refuses else 0
        refusal(line) if refuses else line.reply(line.forward())

    return toxic


def require_one_winner(shop: ObjectStore) -> None:
    """Of four who create one name at once, one does, and its bytes are there."""
    together = Barrier(4)

    def race(racer: int) -> Put:
        together.wait()
        return shop.create("log/points/0", b"%d" % racer)

    with ThreadPoolExecutor(4) as pool:
        puts = list(pool.map(race, range(4)))
    assert puts.count(Put.CREATED) == 1
    assert shop.get("log/points/0") == b"%d" % puts.index(Put.CREATED)


def require_an_end_in_time(
    shop: ObjectStore, proxy: ToxicProxy, ask: Callable[[ObjectStore], object], *, creates: bool
) -> None:
    """With patience ``QUICK`` a call ends with an error that says that another try may help.

    The line is bad for longer than any test runs, so that a call that waited for it would not end.
    """
    become(shop, QUICK)
    with pytest.raises(StoreError) as caught:
        ask(shop)
    settling = 2 if creates else 1  # what may have landed is asked for once more
    assert caught.value.retry is Retry.LATER and caught.value.next
    assert len(proxy.seen) <= settling * QUICK.attempts_max
