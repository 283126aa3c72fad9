"""Golden questions: headings of the documentation turned into questions, with the answers expected.

Half of them are held out: the passages behind them are kept away from training altogether, so that the
quality measured on them is not that of a memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from pydocs_assistant import passages
from pydocs_assistant.passages import Passage
from pydocs_assistant.paths import Region, file_digest, write_whole

QUESTIONS = 200
HELD_OUT_SHARE = 0.5
ANSWERS_PER_QUESTION = 5

Question = dict[str, Any]
"""One line of the golden file: ``id``, ``request``, ``expected``, ``held_out``."""


def write(region: Region) -> str:
    """Choose the questions from the current data set and write them; return their digest."""
    lines = [json.dumps(question, ensure_ascii=False) for question in choose(passages.read(region))]
    write_whole(region.golden, "".join(f"{line}\n" for line in lines).encode())
    return "sha256:" + file_digest(region.golden)


def read(region: Region) -> list[Question]:
    """All golden questions of a region."""
    return [json.loads(line) for line in region.golden.read_text("utf-8").splitlines()]


def choose(documents: Sequence[Passage]) -> list[Question]:
    """The same questions for the same passages, spread over all topics as the passages are.

    The choice follows a hash of each passage's id, so one more passage changes at most one question.
    """
    chosen: dict[str, Passage] = {}
    for passage in sorted(documents, key=lambda passage: hashlib.sha256(passage.id.encode()).digest()):
        if len(chosen) < QUESTIONS:
            chosen.setdefault(question_of(passage), passage)
    held_out = int(len(chosen) * HELD_OUT_SHARE)
    return [
        _question(number, text, passage, held_out=number < held_out)
        for number, (text, passage) in enumerate(chosen.items())
    ]


def question_of(passage: Passage) -> str:
    """The question that a passage's heading makes.

    >>> question_of(Passage("queue.Queue.get", "concurrency", "queue.Queue.get", "…", "queue"))
    'How does Queue get of queue work?'
    """
    if passage.source == "reference":
        return f"What does the language reference say about {passage.title}?"
    if passage.title == passage.source:
        return f"What is the module {passage.source} for?"
    name = passage.title.removeprefix(f"{passage.source}.").replace(".", " ")
    return f"How does {name} of {passage.source} work?"


def held_out_passages(questions: Sequence[Question]) -> set[str]:
    """The ids of the passages that training must not see."""
    return {
        identifier for each in questions if each["held_out"] for identifier in each["expected"]["passages"]
    }


def _question(number: int, text: str, passage: Passage, *, held_out: bool) -> Question:
    return {
        "id": f"golden-{number:03}",
        "request": {"user": f"golden-{number % 40}", "question": text, "k": ANSWERS_PER_QUESTION},
        "expected": {"topic": passage.topic, "passages": [passage.id]},
        "held_out": held_out,
    }
