"""Reads a golden set: JSON Lines of questions, each with what a right answer names."""

from __future__ import annotations

import json
from typing import NoReturn

from refloat.contracts import Question
from refloat.errors import ManifestError
from refloat.limits import MANIFEST_FILES_BYTES_MAX

_NEXT = 'write one question a line: {"id": "q1", "request": {…}, "expected": {…}}'


def read_golden(content: bytes) -> list[Question]:
    """The questions of ``content``, in order.

    A line is a JSON object with ``id`` (a string that no other line has), ``request`` and ``expected``
    (objects; ``expected`` may be left out). Other keys are the author's own; blank lines are skipped.
    Raises ``ManifestError`` with the line.
    """
    if len(content) > MANIFEST_FILES_BYTES_MAX:
        raise ManifestError(
            f"the golden set is larger than {MANIFEST_FILES_BYTES_MAX} bytes",
            next="keep a sample of it: a few hundred questions decide a bound",
        )
    questions: dict[str, Question] = {}
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            question = _question(line, number)
            if question.id in questions:
                raise _wrong(f"the id {question.id!r} stands on an earlier line already", number)
            questions[question.id] = question
    if not questions:
        raise ManifestError("the golden set holds no question", next=_NEXT)
    return list(questions.values())


def _question(line: bytes, number: int) -> Question:
    record = _parse(line, number)
    if not isinstance(record, dict):
        raise _wrong("not a JSON object", number)
    name, request, expected = record.get("id"), record.get("request"), record.get("expected", {})
    if not isinstance(name, str) or not name:
        raise _wrong("`id` must be a string", number)
    if not isinstance(request, dict):
        raise _wrong("`request` must be an object", number)
    if not isinstance(expected, dict):
        raise _wrong("`expected` must be an object", number)
    return Question(name, request, expected)


def _parse(line: bytes, number: int) -> object:
    try:
        return json.loads(line.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _wrong(f"not JSON: {error}", number) from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _wrong(message: str, number: int) -> ManifestError:
    return ManifestError(f"the golden set, line {number}: {message}", line=number, next=_NEXT)
