"""Measuring under load: every question asked, warm-up left out, bounded in time, honest about what failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from refloat.contracts import Answer, Question
from refloat.digest import json_form
from refloat.errors import ConnectorError, ManifestError, UsageError
from refloat.verification.load import HOPELESS, TRACES, measure
from refloat.verification.model import Measurement


class Clock:
    """Time that passes where a test says so, and else a millisecond for whoever looks."""

    def __init__(self, tick_s: float = 0.001) -> None:
        self._tick_s = tick_s
        self._now_s = 1000.0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return self.pass_by(self._tick_s)

    def sleep(self, seconds: float) -> None:
        self.pass_by(seconds)

    def pass_by(self, seconds: float) -> float:
        with self._lock:
            self._now_s += seconds
            return self._now_s


class Endpoint:
    """What answers: a function of the question and of how many were asked before it."""

    def __init__(self, answer: Callable[[Question, int], Answer] | None = None) -> None:
        self._answer = answer or (lambda question, count: right(question))
        self._lock = threading.Lock()
        self.asked: list[str] = []
        self.traced: list[str] = []
        self.clients = 0
        self.closed = 0
        self.at_once = 0
        self.most_at_once = 0

    def client(self) -> Client:
        self.clients += 1
        return Client(self)

    def ask(self, question: Question) -> Answer:
        with self._lock:
            self.asked.append(question.id)
            count = len(self.asked)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        answer = self._answer(question, count)
        with self._lock:
            self.at_once -= 1
        return answer


class Client:
    """A probe that may be used by one thread alone."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._busy = False

    def ask(self, question: Question) -> Answer:
        assert not self._busy, "two threads share a client"
        self._busy = True
        answer = self._endpoint.ask(question)
        self._busy = False
        return answer

    def trace(self, question: Question) -> Answer:
        self._endpoint.traced.append(question.id)
        answer = self._endpoint._answer(question, 0)
        whole = None if answer.error else 0.25
        return Answer(question, answer.seconds, answer.response, whole, answer.error)

    def close(self) -> None:
        self._endpoint.closed += 1


def right(question: Question, seconds: float = 0.01, **response: Any) -> Answer:
    return Answer(question, seconds, {"topic": question.expected.get("topic"), **response})


def failed(question: Question) -> Answer:
    return Answer(question, None, {}, error="refused")


QUESTIONS = [Question(f"q{number}", {}, {"topic": f"t{number}"}) for number in range(10)]
ACCURACY = {"accuracy": {"equal": {"expected": "topic", "found": "topic"}}}


def taken(endpoint: Endpoint, questions: Sequence[Question] = QUESTIONS, **changes: Any) -> Measurement:
    given: dict[str, Any] = {
        "component": "assistant", "region": "us", "concurrency": 3, "samples": 60, "warmup": 5, "clock": Clock(),
    }  # fmt: skip
    return measure(endpoint.client, questions, **{**given, **changes})


def test_a_measurement_counts_what_was_asked_after_the_warm_up() -> None:
    endpoint = Endpoint()
    found = taken(endpoint, metrics=ACCURACY)
    assert len(endpoint.asked) == 5 + 60
    assert len(endpoint.traced) == TRACES
    assert found.metrics["latency_p50"].samples == 60
    assert found.metrics["errors"].samples == 60 + TRACES
    assert (found.component, found.region, found.concurrency) == ("assistant", "us", 3)
    assert set(found.metrics) == {
        "latency_p50", "latency_p95", "latency_p99", "end_to_end", "throughput", "errors", "accuracy",
    }  # fmt: skip


def test_the_warm_up_does_not_reach_the_figures() -> None:
    endpoint = Endpoint(lambda question, count: right(question, 9.0 if 0 < count <= 5 else 0.01))
    assert taken(endpoint, concurrency=1).metrics["latency_p99"].high == 0.01


def test_every_question_is_asked_even_where_fewer_samples_would_do() -> None:
    questions = [Question(f"q{number}", {}, {}) for number in range(150)]
    found = taken(Endpoint(), questions, samples=20)
    assert len(found.answers) == 150


def together(clients: int, then: Callable[[], object] = lambda: None) -> Callable[[Question, int], Answer]:
    """Answers, under load, when every client has asked; ``then`` happens just before."""
    asked = threading.Barrier(clients, then, timeout=60)

    def answer(question: Question, count: int) -> Answer:
        if count:
            asked.wait()
        return right(question)

    return answer


def test_each_client_waits_for_its_answer_and_all_are_closed() -> None:
    endpoint = Endpoint(together(3))
    taken(endpoint, warmup=6)
    assert endpoint.most_at_once == 3
    assert endpoint.clients == endpoint.closed == 3


def test_throughput_is_what_the_clients_together_got() -> None:
    clock = Clock(tick_s=0.0)
    endpoint = Endpoint(together(4, then=lambda: clock.pass_by(1 / 128)))
    rate = taken(endpoint, clock=clock, concurrency=4, samples=160, warmup=0).metrics["throughput"]
    assert rate.low <= rate.value <= rate.high
    assert rate.value == pytest.approx(4 * 128)


def test_failures_are_counted_and_kept_out_of_the_latency() -> None:
    endpoint = Endpoint(
        lambda question, count: failed(question) if count % 4 == 0 and count else right(question)
    )
    found = taken(endpoint, warmup=0)
    assert found.metrics["errors"].value == pytest.approx(15 / (60 + TRACES))
    assert found.metrics["latency_p50"].samples == 45


def test_a_question_that_is_never_answered_scores_nothing_and_has_no_answer() -> None:
    endpoint = Endpoint(lambda question, count: failed(question) if question.id == "q3" else right(question))
    found = taken(endpoint, metrics=ACCURACY)
    assert found.metrics["accuracy"].value == 0.9
    assert found.metrics["accuracy"].samples == 10
    assert sorted(found.answers) == sorted({question.id for question in QUESTIONS} - {"q3"})


def test_the_first_answer_counts_and_one_that_failed_gives_way_to_one_that_came() -> None:
    def learning(question: Question, count: int) -> Answer:
        return failed(question) if 0 < count <= 10 else right(question, turn=count > 20)

    first = taken(Endpoint(learning), warmup=0, concurrency=1, metrics={"exact_match": {"same": ["turn"]}})
    again = taken(
        Endpoint(lambda question, count: right(question, turn=False)),
        metrics={"exact_match": {"same": ["turn"]}},
    )
    assert first.answers == again.answers


def test_more_is_taken_while_noise_would_decide_up_to_a_limit() -> None:
    endpoint, seen = Endpoint(), []

    def undecided(so_far: Measurement) -> bool:
        seen.append(so_far.metrics["latency_p50"].samples)
        return True

    found = taken(endpoint, more_while=undecided)
    assert seen == [60, 120, 180]
    assert found.metrics["latency_p50"].samples == 240
    assert found.metrics["end_to_end"].samples == 4 * TRACES
    assert taken(Endpoint(), more_while=lambda so_far: False).metrics["latency_p50"].samples == 60
    assert taken(Endpoint(), more_while=undecided, samples_max=100).metrics["latency_p50"].samples == 100


def test_where_nothing_answers_it_is_given_up_and_said() -> None:
    endpoint = Endpoint(lambda question, count: failed(question))
    found = taken(endpoint, warmup=0, samples=1000, concurrency=1, more_while=lambda so_far: True)
    assert len(endpoint.asked) == HOPELESS
    assert found.metrics["errors"].value == 1.0
    assert set(found.metrics) == {"errors"}


def test_time_bounds_the_measurement() -> None:
    clock = Clock(tick_s=0.0)

    def slowly(question: Question, count: int) -> Answer:
        clock.pass_by(1 / 16)
        return right(question)

    endpoint = Endpoint(slowly)
    found = taken(
        endpoint,
        clock=clock,
        concurrency=1,
        samples=10_000,
        warmup=0,
        seconds_max=2.0,
        more_while=lambda so_far: True,
    )
    assert len(endpoint.traced) == TRACES
    assert found.metrics["latency_p50"].samples == found.taken == len(endpoint.asked) == 2 * 16 - TRACES
    assert found.cut_off
    enough = taken(
        Endpoint(slowly), clock=clock, concurrency=1, samples=20, warmup=0, seconds_max=(20 + TRACES) / 16
    )
    assert (enough.taken, enough.cut_off) == (20, False), (
        "time was up with the last answer, and nothing was left to ask"
    )


def test_a_warm_up_that_takes_all_the_time_leaves_a_measurement_that_was_cut_off() -> None:
    clock = Clock(tick_s=0.0)

    def slowly(question: Question, count: int) -> Answer:
        clock.pass_by(1.0)
        return right(question)

    found = taken(Endpoint(slowly), clock=clock, concurrency=1, warmup=50, seconds_max=10.0)
    assert (found.taken, found.cut_off) == (0, True)


def test_the_golden_questions_that_there_was_no_time_for_are_named() -> None:
    clock = Clock(tick_s=0.0)

    def slowly(question: Question, count: int) -> Answer:
        clock.pass_by(1.0)
        return failed(question) if question.id == "q1" and count else right(question)

    found = taken(Endpoint(slowly), clock=clock, concurrency=1, warmup=0, seconds_max=TRACES + 7.0)
    assert found.unasked == ("q7", "q8", "q9")
    assert sorted(found.answers) == ["q0", "q2", "q3", "q4", "q5", "q6"], "q1 was asked, and failed"
    assert taken(Endpoint(slowly), clock=clock, concurrency=1, seconds_max=TRACES + 40.0).unasked == ()


def test_what_was_given_up_for_want_of_answers_was_not_cut_off_by_time() -> None:
    questions = [Question(f"q{number}", {}, {}) for number in range(90)]
    found = taken(Endpoint(lambda question, count: failed(question)), questions, warmup=0)
    assert (found.cut_off, found.unasked) == (False, ())


def test_the_questions_that_were_asked_are_counted_whether_answered_or_not() -> None:
    endpoint = Endpoint(lambda question, count: failed(question) if count % 4 == 1 else right(question))
    assert taken(endpoint, warmup=0).taken == 60


def test_only_a_measurement_that_was_cut_off_says_so_where_it_is_kept() -> None:
    found = taken(Endpoint())
    assert "cut_off" not in json_form(found)
    assert "unasked" not in json_form(found)
    cut = json_form(found.model_copy(update={"cut_off": True, "unasked": ("q1",)}))
    assert (cut["cut_off"], cut["unasked"]) == (True, ["q1"])


def test_a_client_that_breaks_stops_the_others_and_is_heard() -> None:
    def broken(question: Question, count: int) -> Answer:
        if threading.current_thread().name == "client_2":
            raise RuntimeError("a defect in the probe")
        time.sleep(0.01)
        return right(question)

    endpoint = Endpoint(broken)
    with pytest.raises(ConnectorError, match="unexpectedly: RuntimeError: a defect in the probe"):
        taken(endpoint, samples=100_000, warmup=0)
    assert endpoint.closed == 3


def test_wrong_metrics_are_refused_before_anything_is_asked() -> None:
    endpoint = Endpoint()
    with pytest.raises(ManifestError, match="expects no 'author'"):
        taken(endpoint, metrics={"accuracy": {"equal": {"expected": "author", "found": "author"}}})
    with pytest.raises(UsageError):
        taken(endpoint, [])
    assert endpoint.asked == endpoint.traced == []


def test_progress_is_told_of_every_answer() -> None:
    said: list[tuple[object, ...]] = []

    class Watching:
        def start(self, task: str, total: int | None = None, unit: str = "bytes") -> None:
            said.append((task, total, unit))

        def advance(self, task: str, amount: int = 1) -> None:
            said.append((amount,))

        def finish(self, task: str, note: str = "") -> None:
            said.append(("finished",))

        def say(self, text: str) -> None:
            said.append((text,))

    taken(Endpoint(), progress=Watching())
    assert said == [("assistant", 60, "questions"), *[(1,)] * 60, ("finished",)]
