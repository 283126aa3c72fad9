"""Whether a store keeps what a vault rests on: of several creates under one name one succeeds, and its bytes stay.

It is tried out before a vault is made, with two creates at the same moment: a store that ignores the condition
takes both, and so does one that looks first and writes a moment later.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from refloat.contracts import Put, Store
from refloat.errors import Missing, RefloatError, Refused, StoreError
from refloat.vault import layout

CONTENTS = (b"one of two that race to be written", b"the other of them")
CREATE_IGNORED = "create_ignored"


def try_out(stores: Mapping[str, Store]) -> None:
    """Try every region's store, all at the same time: four requests each, the last of which removes the trial.

    Raises ``Refused`` (``create_ignored``) for a store whose creates replace what is there, ``StoreError`` for one
    that does not answer or takes no write. One that lets nothing be removed keeps an object ``layout.TRIAL``.
    """
    with ThreadPoolExecutor(len(stores), thread_name_prefix="trial") as pool:
        trials = [pool.submit(_try_out, region, store) for region, store in stores.items()]
        for trial in trials:
            trial.exception()  # what ends this wait ends it here, and then each removes what it tried out first
    for trial in trials:
        trial.result()


def clear(stores: Iterable[Store]) -> None:
    """Remove what trials that were killed have left in places that are replicas now, as far as it may be removed."""
    for store in stores:
        with suppress(StoreError):
            for left in list(store.list(layout.TRIAL)):
                store.delete(left.name)


def honoured(puts: Sequence[Put], kept: bytes | None) -> bool:
    """Whether one create of ``CONTENTS`` alone succeeded, and its bytes are what is read back."""
    return puts.count(Put.CREATED) == 1 and kept == CONTENTS[puts.index(Put.CREATED)]


def _try_out(region: str, store: Store) -> None:
    name = layout.TRIAL + secrets.token_hex(16)
    removed = False
    try:
        puts = _race(store, name)
        kept = _kept(store, name)
    except RefloatError as error:
        error.at(region=region)
        raise
    finally:
        with suppress(StoreError):  # this writer may not delete
            store.delete(name)
            removed = True
    if not honoured(puts, kept):
        raise Refused(
            CREATE_IGNORED,
            f"{store.url} lets a second write replace the first, so two writers would undo each other's points",
            region=region,
            next="use a store that honours conditional writes (If-None-Match: *), and no proxy before it that takes "
            "the condition away" + ("" if removed else f"; {name} is left there, remove it"),
        )


def _race(store: Store, name: str) -> list[Put]:
    with ThreadPoolExecutor(len(CONTENTS), thread_name_prefix="trial") as pool:
        racers = [pool.submit(store.create, name, content) for content in CONTENTS]
    return [racer.result() for racer in racers]


def _kept(store: Store, name: str) -> bytes | None:
    with suppress(Missing):
        return store.get(name)
    return None
