"""The endpoint: what it answers, what it logs, and when it refuses."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from pydocs_assistant import golden, registry
from pydocs_assistant.answering import Answer, check_classifier, check_origin
from pydocs_assistant.build import rebuild_index
from pydocs_assistant.endpoint import Fence, application
from pydocs_assistant.index import Origin
from pydocs_assistant.paths import Region
from pydocs_assistant.predictions import PredictionLog
from pydocs_assistant.refusals import ForeignIndexError
from pydocs_assistant.registry import Registered
from pydocs_assistant.serve import serve
from pydocs_region import Served, serving

pytestmark = pytest.mark.slow

QUESTION = {"id": "q-1", "user": "ann", "question": "How does enumerate of threading work?"}


def _records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_it_is_healthy_and_ready(served: Served) -> None:
    health = served.client.get("/health")

    assert health.json()["status"] == "ok"
    assert served.client.get("/ready").json() == {"fenced": False, "belongs_together": True}


def test_an_answer_says_what_it_is_made_of(served: Served) -> None:
    answer = served.client.post("/answer", json=QUESTION).json()

    assert answer["id"] == "q-1"
    assert answer["topic"] == "concurrency"
    assert answer["passages"][0] == "threading.enumerate"
    assert len(answer["passages"]) == len(answer["topics"]) == 5
    assert "all Thread objects currently alive" in answer["answer"]
    assert answer["variant"] in {"plain", "see_also"}
    assert answer["model_version"].startswith("embedder/")
    assert answer["seconds"] > 0


def test_a_question_without_any_known_word_has_an_answer_without_passages(served: Served) -> None:
    answer = served.client.post("/answer", json={"user": "ann", "question": "???"})

    assert answer.status_code == 200
    assert answer.json()["passages"] == []
    assert "nothing that would fit" in answer.json()["answer"]


def test_an_answered_question_is_in_the_log_with_its_answer(served: Served) -> None:
    answer = served.client.post(
        "/answer", json={"user": "bob", "question": "What is a lambda?", "k": 3}
    ).json()
    record = _records(served.region.predictions)[-1]

    assert record["id"] == answer["id"]
    assert (record["user"], record["question"], record["k"]) == ("bob", "What is a lambda?", 3)
    assert record["source"] == "user"
    assert {key: record[key] for key in answer} == answer


def test_a_probe_is_marked_as_one_in_the_log(served: Served) -> None:
    served.client.post("/answer", json=QUESTION | {"id": "probe-1"}, headers={"X-Refloat-Probe": "1"})

    assert _records(served.region.predictions)[-1]["source"] == "probe"


def test_questions_asked_at_once_leave_whole_lines(served: Served) -> None:
    ids = [[f"{thread}-{number}" for number in range(8)] for thread in range(4)]

    def ask(mine: list[str]) -> None:
        for each in mine:
            served.client.post("/answer", json=QUESTION | {"id": each}).raise_for_status()

    threads = [threading.Thread(target=ask, args=(mine,)) for mine in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    logged = [record["id"] for record in _records(served.region.predictions)]
    assert sorted(each for each in logged if each.count("-") == 1 and each[0].isdigit()) == sorted(
        [each for mine in ids for each in mine]
    )


@pytest.mark.parametrize(
    "change",
    [{"question": ""}, {"k": 0}, {"k": 21}, {"question": "x" * 2_001}, {"user": None}],
    ids=["empty", "no answers", "too many answers", "too long", "nobody"],
)
def test_a_question_that_makes_no_sense_is_refused_and_not_logged(
    served: Served, change: dict[str, Any]
) -> None:
    before = served.region.predictions.stat().st_size

    assert served.client.post("/answer", json=QUESTION | change).status_code == 422
    assert served.region.predictions.stat().st_size == before


def test_it_answers_far_better_than_chance_also_what_it_never_saw(served: Served) -> None:
    questions = golden.read(served.region)
    for held_out, least_topic, least_recall in ((True, 0.80, 0.85), (False, 0.85, 0.90)):
        asked = [question for question in questions if question["held_out"] is held_out]
        answers = [served.client.post("/answer", json=question["request"]).json() for question in asked]
        pairs = list(zip(asked, answers, strict=True))
        topics = sum(question["expected"]["topic"] == answer["topic"] for question, answer in pairs)
        recalled = sum(
            question["expected"]["passages"][0] in answer["passages"] for question, answer in pairs
        )
        assert topics / len(pairs) >= least_topic  # one of fifteen topics by chance
        assert recalled / len(pairs) >= least_recall  # five of thousands by chance


def test_the_same_question_has_the_same_answer(served: Served) -> None:
    first, second = (served.client.post("/answer", json=QUESTION).json() for _ in range(2))

    assert {**first, "seconds": 0} == {**second, "seconds": 0}


def test_a_fenced_endpoint_answers_probes_alone(served: Served) -> None:
    fence = served.region.root / "FENCE"
    fence.touch()
    try:
        assert served.client.get("/health").status_code == 200
        ready = served.client.get("/ready")
        assert (ready.status_code, ready.json()["fenced"]) == (503, True)
        before = served.region.predictions.stat().st_size
        assert served.client.post("/answer", json=QUESTION).status_code == 503
        assert served.region.predictions.stat().st_size == before
        probe = served.client.post("/answer", json=QUESTION, headers={"X-Refloat-Probe": "1"})
        assert probe.status_code == 200
    finally:
        fence.unlink()
    assert served.client.get("/ready").status_code == 200
    assert served.client.post("/answer", json=QUESTION).status_code == 200


def test_an_index_by_another_embedder_ends_readiness_and_is_refused_at_the_next_start(
    copied: Region, learning: None, capsys: pytest.CaptureFixture[str]
) -> None:
    champion = registry.champion(registry.client_of(copied), "embedder")
    with serving(copied) as endpoint:
        assert rebuild_index(copied.root, dimension=32) == 0
        ready = endpoint.client.get("/ready")
        assert (ready.status_code, ready.json()["belongs_together"]) == (503, False)
    printed = _refused(copied.root, capsys)

    assert "refusing to start: the index holds vectors of length 32" in printed
    assert registry.champion(registry.client_of(copied), "embedder") == champion


def test_an_index_of_the_right_length_by_another_embedder_is_refused_as_well(tmp_path: Path) -> None:
    champion = Registered("embedder", "1", tmp_path, "sha256:1", {"dimension": "96"})

    check_origin(champion, Origin("sha256:1", 96, ""))
    with pytest.raises(
        ForeignIndexError, match="built by the embedder sha256:2, but the champion is version 1"
    ):
        check_origin(champion, Origin("sha256:2", 96, ""))
    with pytest.raises(ForeignIndexError, match="built by the embedder unknown"):
        check_origin(champion, Origin("", 96, ""))


def test_a_classifier_of_another_embedder_is_refused(tmp_path: Path) -> None:
    embedder = Registered("embedder", "2", tmp_path, "sha256:2", {})
    classifier = Registered("classifier", "1", tmp_path, "sha256:9", {"embedder": "sha256:1"})

    with pytest.raises(ForeignIndexError, match="version 1 of the classifier learned from another"):
        check_classifier({"embedder": embedder, "classifier": classifier})


def _refused(root: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Why a start is refused, without waiting for a process that loads everything once more."""
    assert serve(root, host="127.0.0.1", port=1, fence=root / "FENCE") == 3
    return capsys.readouterr().err


def test_a_region_without_models_is_refused(copied: Region, capsys: pytest.CaptureFixture[str]) -> None:
    champion = registry.champion(registry.client_of(copied), "embedder")
    (champion.folder / registry.MODEL_FILE).unlink()
    printed = _refused(copied.root, capsys)

    assert "refusing to start: version" in printed
    assert "has no files at" in printed


def test_an_empty_region_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "refusing to start: there is no registry at" in _refused(tmp_path, capsys)
    assert not (tmp_path / "mlflow").exists()


# Without the models: the order of logging and answering, and the log itself.


class _Answers:
    model_version = "none"

    def answer(self, question: str, *, user: str, count: int) -> Answer:
        return Answer(f"about {question}", "files", ("os.open",) * count, ("files",) * count, "plain")

    def belongs_together(self) -> bool:
        return True


@contextmanager
def _log(path: Path) -> Iterator[PredictionLog]:
    log = PredictionLog(path)
    try:
        yield log
    finally:
        log.close()


def test_what_cannot_be_logged_is_not_answered(tmp_path: Path) -> None:
    class Full(PredictionLog):
        def append(self, record: Any) -> None:
            raise OSError("no space left on device")

    log = Full(tmp_path / "log.jsonl")
    app = application(_Answers(), log, Fence(tmp_path / "FENCE"))

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://endpoint") as client:
            return await client.post("/answer", json=QUESTION)

    response = asyncio.run(ask())
    log.close()

    assert response.status_code == 500
    assert "about" not in response.text


def test_a_line_that_was_cut_off_is_dropped_and_the_log_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"id": "a"}\n{"id": "b"}\n{"id": "c", "answ')
    with _log(path) as log:
        log.append({"id": "d"})

    assert [record["id"] for record in _records(path)] == ["a", "b", "d"]


def test_a_log_that_is_nothing_but_a_cut_off_line_becomes_empty(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"id": "a"')
    with _log(path):
        pass

    assert path.read_bytes() == b""


def test_a_log_begins_where_there_was_none(tmp_path: Path) -> None:
    with _log(tmp_path / "predictions" / "log.jsonl") as log:
        log.append({"id": "ü"})

    assert (tmp_path / "predictions" / "log.jsonl").read_bytes() == '{"id": "ü"}\n'.encode()
