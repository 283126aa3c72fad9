"""The routes of the endpoint: answers over HTTP, for probes alone while a file fences the region."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException, Response
from pydantic import BaseModel, Field

from pydocs_assistant.answering import Answer, Assistant
from pydocs_assistant.paths import now
from pydocs_assistant.predictions import PredictionLog


class Question(BaseModel):
    """The body of a request. ``id`` is made up where it is missing."""

    id: str | None = Field(default=None, max_length=200)
    user: str = Field(max_length=200)
    question: str = Field(min_length=1, max_length=2_000)
    k: int = Field(default=5, ge=1, le=20)


class Reply(BaseModel):
    """The body of a response. ``passages`` are ids, the best first; ``seconds`` is the time to answer."""

    id: str
    answer: str
    topic: str
    passages: tuple[str, ...]
    topics: tuple[str, ...]
    variant: str
    model_version: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Fence:
    """While its file exists, only probes are answered: the region is being checked before users may come."""

    path: Path

    @property
    def is_up(self) -> bool:
        """Whether users are kept out."""
        return self.path.exists()


def application(assistant: Assistant, log: PredictionLog, fence: Fence) -> FastAPI:
    """The routes of the endpoint."""
    app = FastAPI(title="pydocs_assistant", openapi_url=None)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok", "model_version": assistant.model_version}

    @app.get("/ready")
    def ready(response: Response) -> dict[str, bool]:
        state = {"fenced": fence.is_up, "belongs_together": assistant.belongs_together()}
        if state["fenced"] or not state["belongs_together"]:
            response.status_code = 503
        return state

    @app.post("/answer")
    def answer(question: Question, x_refloat_probe: Annotated[str | None, Header()] = None) -> Reply:
        if fence.is_up and x_refloat_probe is None:
            raise HTTPException(503, "this region is fenced: it answers no users yet")
        began = time.perf_counter()
        found = assistant.answer(question.question, user=question.user, count=question.k)
        reply = _reply(question, found, assistant.model_version, time.perf_counter() - began)
        log.append(_record(question, reply, source="user" if x_refloat_probe is None else "probe"))
        return reply

    return app


def _reply(question: Question, found: Answer, model_version: str, seconds: float) -> Reply:
    return Reply(
        id=question.id or str(uuid.uuid4()),
        answer=found.text,
        topic=found.topic,
        passages=found.passages,
        topics=found.topics,
        variant=found.variant,
        model_version=model_version,
        seconds=round(seconds, 6),
    )


def _record(question: Question, reply: Reply, *, source: str) -> dict[str, object]:
    """What the log keeps: the question, and everything of the reply."""
    asked = {
        "id": reply.id,
        "time": now(),
        "user": question.user,
        "question": question.question,
        "k": question.k,
    }
    return asked | reply.model_dump(exclude={"id"}) | {"source": source}
