"""How long an object store is waited for, and how often it is asked again."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from refloat.limits import KIB


@dataclass(frozen=True)
class Patience:
    """The limits of one store's calls.

    An attempt ends when nobody said anything for ``silence_s``, or when it took longer than its bytes may:
    ``silence_s`` and ``size / bytes_per_s_min``, at most ``request_s``. A call ends at most ``call_s`` after it began,
    and its last attempt. Waits between attempts are thrown anew (full jitter): anything up to a limit that doubles.

    One that nobody answers ends after ``silences_max`` silences, and before that where something small is not answered
    within ``again_s`` either. A store that never answered yet has ``first_word_s`` for each answer and ``first_call_s``
    for a call: it takes connections, perhaps, and is not there.

    Where a call ended in vain, the next one begins with something small, and fails where that fails; where nobody says
    a word to it, every call fails at once for as long as ``again_s``: so a command that asks a dead store for many
    things waits for few of them. While much is being written, something small is asked every ``silence_s``: a store
    that answers that is only slow.

    A write whose reply was lost is read back after that, which is a call of its own.
    """

    connect_s: float = 5.0  # a server that takes longer to take a connection is not there
    first_word_s: float = 10.0  # an answer to something small takes a second; a busy machine takes more
    first_call_s: float = (
        10.0  # other regions wait for it; a server that is being started again has come by then
    )
    silence_s: float = 10.0  # until the answer begins, and between its parts: beyond it the server hangs
    silences_max: int = 2
    again_s: float = 5.0  # one that was silent a moment ago, and answers, does so at once
    bytes_per_s_min: int = 64 * KIB  # half a Mbit/s: what trickles is no answer
    request_s: float = 300.0  # a 64 MiB pack over a slow line (about 2 Mbit/s)
    call_s: float = 60.0  # no attempt begins later than this after the first
    attempts_max: int = (
        12  # half a minute on average: an outage of some seconds is over by then, however dice fall
    )
    wait_first_s: float = 0.2
    wait_max_s: float = 8.0
    retries_saved_max: int = 100  # see Retries; eight threads that meet one outage of some seconds

    def wait_max_after(self, attempt: int) -> float:
        """What is waited at most before the next attempt, after so many."""
        return min(self.wait_first_s * 2.0 ** (attempt - 1), self.wait_max_s)

    def limit_s(self, size: int) -> float:
        """How long so many bytes may take."""
        return min(self.request_s, self.silence_s + size / self.bytes_per_s_min)


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
