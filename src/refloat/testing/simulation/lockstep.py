"""One thing at a time, in an order that one seed decides: what makes a simulated world play the same twice.

refloat's own threads are exchanged for calls in place, and chance for seeded dice. Several processes are
threads of which exactly one runs; at each ``pause`` the dice say which goes on.
"""

from __future__ import annotations

import random
import secrets
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from refloat.digest import Json
from refloat.flows import forget, suspects
from refloat.point import capture, evaluate, worker
from refloat.point import language as cel
from refloat.run import engine
from refloat.testing.disk import folder_in_memory
from refloat.testing.remembered import StandIn, remembered
from refloat.vault import (
    check,
    first_word,
    keyfile,
    keyobjects,
    lane,
    ranges,
    replica,
    replicate,
    trial,
    writer,
)

T = TypeVar("T")
R = TypeVar("R")

TURN_SECONDS_MAX = (
    60.0  # a process that does not hand over the turn in this time waits for one that cannot run
)


class InPlace:
    """An executor whose ``submit`` has done the work when it returns."""

    def __init__(self, max_workers: int | None = None, thread_name_prefix: str = "") -> None:
        """Takes what ``ThreadPoolExecutor`` takes."""

    def __enter__(self) -> InPlace:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to wait for."""

    def submit(self, call: Callable[..., T], *args: Any) -> Future[T]:
        """Do it; what it raises comes out of the future, as from a thread."""
        future: Future[T] = Future()
        try:
            future.set_result(call(*args))
        except BaseException as error:  # noqa: BLE001 - handed to who asks for the result
            future.set_exception(error)
        return future

    def map(self, call: Callable[[T], R], things: Iterable[T]) -> Iterator[R]:
        """The results, in order."""
        return map(call, things)

    def shutdown(self, wait: bool = True, cancel_futures: bool = False) -> None:
        """Nothing is left to wait for."""


class _InPlaceThread:
    """A thread whose ``start`` has run it to its end."""

    def __init__(self, target: Callable[..., None], args: Sequence[Any] = (), **_: object) -> None:
        self._target = target
        self._args = args

    def start(self) -> None:
        self._target(*self._args)


class _Timeless:
    """A clock that says that nothing takes any time."""

    @staticmethod
    def monotonic() -> float:
        return 0.0


def _now(
    seconds: float, what: str, call: Callable[[], T], cancelled: object = None, *, grace_s: float = 0.0
) -> T:
    """``deadline.within``, without a thread: nothing hangs here."""
    return call()


def _answers(
    evaluator: evaluate.Evaluator, expressions: Sequence[str], variables: Mapping[str, Json]
) -> tuple[list[dict[str, object]], str]:
    """What the worker would have said, without its process."""
    context = cel.Context(variables=dict(variables))
    return [worker.verdict(asked, context) for asked in expressions], ""


@contextmanager
def in_step(dice: random.Random) -> Iterator[None]:
    """Let refloat run without threads and without chance of its own while the context is open."""
    stand_ins: list[StandIn] = [
        (check, "ThreadPoolExecutor", InPlace),
        (first_word, "begun", InPlace().submit),
        (lane, "ThreadPoolExecutor", InPlace),
        (writer, "ThreadPoolExecutor", InPlace),
        (ranges, "ThreadPoolExecutor", InPlace),
        (ranges, "time", _Timeless),  # however busy the machine is, no store is far
        (replica, "ThreadPoolExecutor", InPlace),
        (replicate, "ThreadPoolExecutor", InPlace),
        (trial, "ThreadPoolExecutor", InPlace),
        (forget, "ThreadPoolExecutor", InPlace),
        (suspects, "ThreadPoolExecutor", InPlace),
        (capture, "within", _now),
        (engine, "within", _now),
        (engine, "threading", SimpleNamespace(Thread=_InPlaceThread, Event=threading.Event)),
        (evaluate.Evaluator, "_answers", _answers),
        (secrets, "token_bytes", lambda count=32: dice.randbytes(count)),
        (secrets, "token_hex", lambda count=32: dice.randbytes(count).hex()),
        (uuid, "uuid4", lambda: uuid.UUID(bytes=dice.randbytes(16), version=4)),
        (keyfile, "Ed25519PrivateKey", _seeded(Ed25519PrivateKey, dice)),
        (keyobjects, "X25519PrivateKey", _seeded(X25519PrivateKey, dice)),
        *remembered(),  # most of the time that a simulation takes
    ]
    with ExitStack() as stack, folder_in_memory() as scratch:
        # one of its own: the seed names what is in it, and another process may play the same seed
        stack.enter_context(mock.patch.object(tempfile, "tempdir", str(scratch)))
        for where, name, stand_in in stand_ins:
            stack.enter_context(mock.patch.object(where, name, stand_in))
        yield


def _seeded(private: Any, dice: random.Random) -> SimpleNamespace:
    """A class of private keys whose new ones come from the dice."""
    return SimpleNamespace(
        generate=lambda: private.from_private_bytes(dice.randbytes(32)),
        from_private_bytes=private.from_private_bytes,
    )


@dataclass
class _Task:
    name: str
    call: Callable[[], object]
    turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    done: bool = False
    result: object = None
    error: BaseException | None = None


class Lockstep:
    """Plays several calls against each other. ``switch`` is the chance of a change at each pause."""

    def __init__(self, dice: random.Random, switch: float) -> None:
        self._dice = dice
        self._switch = switch
        self._back = threading.Semaphore(0)
        self._current: _Task | None = None

    def play(self, calls: Mapping[str, Callable[[], object]]) -> dict[str, object]:
        """What each call returned, or the error that it raised; all have ended."""
        tasks = [_Task(name, call) for name, call in calls.items()]
        threads = [threading.Thread(target=self._run, args=(task,), daemon=True) for task in tasks]
        for thread in threads:
            thread.start()
        while waiting := [task for task in tasks if not task.done]:
            self._current = task = self._dice.choice(waiting)
            task.turn.release()
            if not self._back.acquire(timeout=TURN_SECONDS_MAX):
                raise TimeoutError(f"{task.name} did not hand over its turn")
        for thread in threads:
            thread.join()
        return {task.name: task.error if task.error is not None else task.result for task in tasks}

    def pause(self) -> None:
        """Somebody else may go on here. Called by whoever has the turn."""
        if self._dice.random() < self._switch:
            self.give_way()

    def give_way(self) -> None:
        """The dice say anew who goes on."""
        task = self._current
        if task is not None:
            self._back.release()
            task.turn.acquire()

    def _run(self, task: _Task) -> None:
        task.turn.acquire()
        try:
            task.result = task.call()
        except BaseException as error:  # noqa: BLE001 - it is this call's result
            task.error = error
        task.done = True
        self._back.release()
