"""How long an object store is waited for, and how often it is asked again."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """The limits of one store's calls. A call ends at most ``call_s`` + ``request_s`` after it began.

    One that nobody answers ends after ``silences_max`` times ``silence_s``, and where the store never answered yet,
    after one: it takes connections, and is not there. Each call after that first asks something small, and ends
    ``again_s`` later where that is not answered either. While much is being written, something small is asked every
    ``silence_s``: a store that answers that is only slow, and one that does not is given up.

    A write whose reply was lost is read back after that, which is a call of its own.
    """

    connect_s: float = 5.0  # a server that takes longer to take a connection is not there
    silence_s: float = 10.0  # until the answer begins, and between its parts: beyond it the server hangs
    silences_max: int = 3  # a recovery has nothing but this store: half a minute without a word is borne
    again_s: float = 5.0  # one that was silent a moment ago, and answers, does so at once
    request_s: float = 300.0  # a 64 MiB pack over a slow line (about 2 Mbit/s), and a body that trickles
    call_s: float = 60.0  # no attempt begins later than this after the first
    attempts_max: int = 8  # with three answers in ten being "busy", one call in 15,000 sees nothing else
    wait_first_s: float = 0.2
    wait_max_s: float = 8.0
    retries_saved_max: int = 50  # see Retries


class Retries:
    """What a store may still be asked again: each retry costs one, each success gives one back.

    A store that is down altogether is so asked once for a call after the first ``saved_max`` retries, by all
    threads together, instead of many times: a storm is not fed. While most answers are good it never runs out.
    """

    def __init__(self, saved_max: int) -> None:
        self._saved_max = saved_max
        self._saved = saved_max
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Use one up; False where none is left."""
        with self._lock:
            if self._saved == 0:
                return False
            self._saved -= 1
            return True

    def give_back(self) -> None:
        """A request succeeded."""
        with self._lock:
            self._saved = min(self._saved + 1, self._saved_max)
