"""Processes that race for names in a store: what ``store_contract`` starts, each in an interpreter of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

from refloat.contracts import Put
from refloat.vault.stores import open_store

RACE_S = (
    60.0  # a start of eight interpreters on a busy machine; a racer that fails breaks the barrier at once
)


def race_processes(url: str, names: Sequence[str], racers: int) -> dict[str, list[int]]:
    """Let ``racers`` processes create every name at the same moment: who was told that it created which.

    Racer ``n`` writes ``b"n"``. Raises ``RuntimeError`` where one of them fails.
    """
    context = multiprocessing.get_context("spawn")
    together, told = context.Barrier(racers), context.Queue()
    processes = [
        context.Process(target=_race, args=(url, names, racer, together, told), daemon=True)
        for racer in range(racers)
    ]
    for process in processes:
        process.start()
    try:
        answers = [told.get(timeout=RACE_S) for _ in processes]
    finally:
        for process in processes:
            process.join(RACE_S)
            process.kill()
        told.close()
    failed = [str(won) for _, won in answers if isinstance(won, str)]
    if failed:
        raise RuntimeError("; ".join(failed))
    return {name: sorted(racer for racer, won in answers if name in won) for name in names}


def _race(
    url: str, names: Sequence[str], racer: int, together: Barrier, told: Queue[tuple[int, list[str] | str]]
) -> None:
    try:
        store = open_store(url)
        with ThreadPoolExecutor(len(names)) as pool:
            together.wait(RACE_S)
            puts = list(pool.map(lambda name: store.create(name, b"%d" % racer), names))
        told.put((racer, [name for name, put in zip(names, puts, strict=True) if put is Put.CREATED]))
    except Exception as error:  # noqa: BLE001 - told to who started us, and the others are not left waiting
        together.abort()
        told.put((racer, f"{type(error).__name__}: {error}"))
