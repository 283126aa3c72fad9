"""What holds for a store behind a bad line, whichever server it asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from refloat.contracts import Put
from refloat.errors import Retry, StoreError
from refloat.testing.toxic import ToxicProxy
from refloat.vault.stores.object import ObjectStore
from refloat.vault.stores.patience import Patience

QUICK = Patience(
    connect_s=0.5, silence_s=0.25, request_s=0.5, call_s=0.5, wait_first_s=0.001, wait_max_s=0.01
)
CALL_S_MAX = QUICK.call_s + QUICK.request_s + 2.0  # the last two seconds are this machine's


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
    """With patience ``QUICK`` a call ends soon, with an error that says that another try may help."""
    begun = time.monotonic()
    with pytest.raises(StoreError) as caught:
        ask(shop)
    settling = 2 if creates else 1  # what may have landed is asked for once more
    assert time.monotonic() - begun < settling * CALL_S_MAX
    assert caught.value.retry is Retry.LATER and caught.value.next
    assert len(proxy.seen) <= settling * QUICK.attempts_max
