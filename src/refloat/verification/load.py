"""Asks a component its golden questions under load, and measures how it answers."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime

from refloat.clock import Clock
from refloat.contracts import Answer, Probe, Progress, Question, Silent
from refloat.digest import Json
from refloat.errors import UsageError, plug_in
from refloat.verification.metrics import (
    END_TO_END,
    ERRORS,
    LATENCIES,
    SAMPLES_FACTOR_MAX,
    THROUGHPUT,
    TRACES,
    Quality,
    percentile_interval,
    quality,
    rate_interval,
    samples_wanted,
    wilson,
)
from refloat.verification.model import Measurement, Metric

SECONDS_MAX = 300.0  # of one measurement: an endpoint that hangs must not hold up a recovery for longer
BATCHES = 10  # equal parts of a round, between which the rate is compared
HOPELESS = 20  # so many answers without one that is right about nothing: it does not answer at all


@dataclass(frozen=True)
class _Timed:
    """An answer and when it came, in seconds since its round began."""

    answer: Answer
    at_s: float


@dataclass(frozen=True)
class _Round:
    """One stretch of load, in the order in which answers came, and the questions traced before it."""

    traced: tuple[Answer, ...]
    answers: tuple[_Timed, ...]
    seconds: float

    @property
    def answered(self) -> list[_Timed]:
        return [timed for timed in self.answers if not timed.answer.error]


def measure(
    probe_factory: Callable[[], Probe],
    questions: Sequence[Question],
    *,
    component: str,
    region: str,
    concurrency: int,
    samples: int,
    warmup: int,
    clock: Clock,
    metrics: Mapping[str, Mapping[str, Json]] | None = None,
    progress: Progress | None = None,
    more_while: Callable[[Measurement], bool] | None = None,
    samples_max: int | None = None,
    seconds_max: float = SECONDS_MAX,
) -> Measurement:
    """How a component answers ``questions``, asked in turn by ``concurrency`` clients.

    A client asks its next question when it has the answer to its last. ``warmup`` answers are not
    counted; then at least ``samples`` are, and every question once. While ``more_while`` says so of the
    measurement so far, as many again are taken, up to ``samples_max``, by default four times ``samples``.
    After ``seconds_max`` no further question is asked, and the measurement says that it was cut off. A figure for
    which there was no answer is left out.
    Raises ``ManifestError`` for quality metrics that do not fit the questions, ``UsageError`` where there
    is nothing to ask, ``ConnectorError`` for a probe that raises, which none should.
    """
    if not questions or concurrency < 1 or samples < 1:
        raise UsageError(
            "a measurement needs a question, a client and a sample", next="give at least one of each"
        )
    scoring = quality(metrics or {})
    scoring.fits(questions)
    ends = clock.monotonic() + seconds_max
    load = _Load(questions, concurrency, clock, ends, progress or Silent(), f"the probe of {component}")
    round_size = samples_wanted(samples, len(questions))
    limit = max(round_size, samples * SAMPLES_FACTOR_MAX if samples_max is None else samples_max)
    with load.clients(probe_factory):
        load.warm_up(warmup)
        rounds = [load.round(component, round_size)]
        while True:
            so_far = _measurement(component, region, concurrency, clock.now(), rounds, scoring)
            if load.cut_off:
                unasked = _unasked(questions, rounds)
                so_far = so_far.model_copy(update={"cut_off": True, "unasked": unasked})
            taken = sum(len(each.answers) for each in rounds)
            if more_while is None or taken >= limit or load.has_ended() or not more_while(so_far):
                return so_far
            rounds.append(load.round(component, min(samples, limit - taken)))


class _Load:
    """The clients, the questions in turn, and the moment after which no more are asked."""

    def __init__(
        self,
        questions: Sequence[Question],
        concurrency: int,
        clock: Clock,
        ends: float,
        progress: Progress,
        what: str,
    ) -> None:
        self._turn = itertools.cycle(questions)
        self._concurrency = concurrency
        self._clock = clock
        self._ends = ends
        self._progress = progress
        self._what = what
        self._probes: list[Probe] = []
        self._hopeless = False
        self.cut_off = False

    def clients(self, probe_factory: Callable[[], Probe]) -> ExitStack:
        """One probe a client; all are closed when the stack is."""
        with ExitStack() as stack:
            for _ in range(self._concurrency):
                probe = probe_factory()
                stack.callback(self._close, probe)
                self._probes.append(probe)
            return stack.pop_all()

    def _close(self, probe: Probe) -> None:
        with plug_in(self._what):
            probe.close()

    def is_over(self) -> bool:
        """Whether no more questions are asked."""
        return self._clock.monotonic() >= self._ends

    def has_ended(self) -> bool:
        """Whether another round would bring nothing: time is up, or nothing answers."""
        return self._hopeless or self.is_over()

    def warm_up(self, count: int) -> None:
        """Ask without counting, so that what is loaded on first use is there."""
        self._ask(list(itertools.islice(self._turn, count)), lambda: None)

    def round(self, component: str, count: int) -> _Round:
        """Trace a few questions one by one, then ask ``count`` under load."""
        traced = tuple(self._trace())
        asked = list(itertools.islice(self._turn, count))
        self._progress.start(component, len(asked), "questions")
        began = self._clock.monotonic()
        answers = self._ask(asked, lambda: self._progress.advance(component))
        seconds = self._clock.monotonic() - began
        self._progress.finish(component)
        return _Round(traced, tuple(_Timed(timed.answer, timed.at_s - began) for timed in answers), seconds)

    def _trace(self) -> Iterator[Answer]:
        for question in itertools.islice(self._turn, TRACES):
            if self.is_over():
                return
            with plug_in(self._what):
                answer = self._probes[0].trace(question)
            yield answer
            if answer.seconds is None:  # it does not answer: the load will show how often
                return

    def _ask(self, asked: Sequence[Question], after_each: Callable[[], None]) -> list[_Timed]:
        """Ask every question once, by all clients together; ``at_s`` is on the clock's own scale."""
        queue = _Queue(asked, self.is_over)

        def client(probe: Probe) -> None:
            try:
                for question in queue:
                    with plug_in(self._what):
                        answer = probe.ask(question)
                    queue.put(_Timed(answer, self._clock.monotonic()))
                    after_each()
            finally:
                queue.stop()  # nothing is left, or this client broke: then the others stop too

        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="client") as pool:
            try:
                for done in [pool.submit(client, probe) for probe in self._probes]:
                    done.result()
            finally:
                queue.stop()
        self._hopeless = queue.is_hopeless()
        self.cut_off = not self._hopeless and len(queue.answers) < len(asked)
        return sorted(queue.answers, key=lambda timed: timed.at_s)


class _Queue:
    """Questions that several clients take from, and the answers they bring."""

    def __init__(self, asked: Sequence[Question], is_over: Callable[[], bool]) -> None:
        self._left = iter(asked)
        self._is_over = is_over
        self._lock = threading.Lock()
        self._stopped = False
        self.answers: list[_Timed] = []

    def __iter__(self) -> Iterator[Question]:
        while not (self._stopped or self._is_over() or self.is_hopeless()):
            with self._lock:
                question = next(self._left, None)
            if question is None:
                return
            yield question

    def put(self, timed: _Timed) -> None:
        with self._lock:
            self.answers.append(timed)

    def stop(self) -> None:
        self._stopped = True

    def is_hopeless(self) -> bool:
        """Whether there were answers enough to tell that there will be none."""
        return len(self.answers) >= HOPELESS and all(timed.answer.error for timed in self.answers[:HOPELESS])


# ------------------------------------------------------------------------------------------- figures


def _measurement(
    component: str,
    region: str,
    concurrency: int,
    measured_at: datetime,
    rounds: Sequence[_Round],
    scoring: Quality,
) -> Measurement:
    first = _first_answers(rounds)
    return Measurement(
        component=component,
        region=region,
        measured_at=measured_at,
        concurrency=concurrency,
        seconds=math.fsum(each.seconds for each in rounds),
        metrics={**_load_metrics(rounds), **_quality_metrics(first, scoring)},
        answers={name: scoring.digest(answer) for name, answer in first.items() if not answer.error},
    )


def _load_metrics(rounds: Sequence[_Round]) -> dict[str, Metric]:
    traced = [answer for each in rounds for answer in each.traced]
    asked = [*traced, *(timed.answer for each in rounds for timed in each.answers)]
    found: dict[str, Metric] = {}
    if asked:
        found[ERRORS] = wilson(sum(bool(answer.error) for answer in asked), len(asked))
    seconds = [timed.answer.seconds for each in rounds for timed in each.answered]
    answered = [one for one in seconds if one is not None]
    if answered:
        found |= {name: percentile_interval(answered, q) for name, q in LATENCIES.items()}
    batches = [batch for each in rounds for batch in _batches(each)]
    if len(batches) > 1:
        found[THROUGHPUT] = rate_interval(batches, samples=len(answered))
    whole = [answer.end_to_end_s for answer in traced if answer.end_to_end_s is not None]
    if whole:
        found[END_TO_END] = percentile_interval(whole, 0.5)
    return found


def _batches(each: _Round) -> list[float]:
    """Seconds per answer in equal parts of a round; fewer parts where there are few answers."""
    moments = [0.0, *(timed.at_s for timed in each.answered)]
    size = max(2, (len(moments) - 1) // BATCHES)
    ends = range(size, len(moments), size)
    return [max(moments[end] - moments[end - size], 1e-9) / size for end in ends]


def _first_answers(rounds: Sequence[_Round]) -> dict[str, Answer]:
    """The first answer to each question under load; one that failed only where none came."""
    found: dict[str, Answer] = {}
    for timed in (timed for each in rounds for timed in each.answers):
        known = found.get(timed.answer.question.id)
        if known is None or (known.error and not timed.answer.error):
            found[timed.answer.question.id] = timed.answer
    return found


def _unasked(questions: Sequence[Question], rounds: Sequence[_Round]) -> tuple[str, ...]:
    asked = {timed.answer.question.id for each in rounds for timed in each.answers}
    return tuple(question.id for question in questions if question.id not in asked)


def _quality_metrics(first: Mapping[str, Answer], scoring: Quality) -> dict[str, Metric]:
    """The mean score of each quality metric; a question that was never answered scores nothing."""
    if not first:
        return {}
    return {
        name: wilson(
            math.fsum(0.0 if answer.error else score(answer) for answer in first.values()), len(first)
        )
        for name, score in scoring.scores.items()
    }
