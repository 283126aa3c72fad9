"""Groups that were unknown when their point was made: evaluated anew when it is chosen, since it holds their facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from refloat.limits import UNKNOWN_POINTS_MAX
from refloat.point import invariants
from refloat.point.evaluate import Evaluator
from refloat.point.model import Grade, GroupRecord, Point, Snapshot
from refloat.point.select import Candidate, may_be_chosen


def known_anew(record: GroupRecord, snapshots: Mapping[str, Snapshot], evaluator: Evaluator) -> GroupRecord:
    """A group as it was graded; where that is unknown, by its invariants over the snapshots' facts now."""
    if record.grade is not Grade.UNKNOWN:
        return record
    facts = {name: snapshots[name].facts for name in record.members if name in snapshots}
    return invariants.graded_anew(record, evaluator.evaluate(record.must, facts))


def point_anew(point: Point, evaluator: Evaluator | None = None) -> Point:
    """A point with every unknown group evaluated anew."""
    if evaluator is None:
        with Evaluator() as own:
            return point_anew(point, own)
    groups = {name: known_anew(group, point.components, evaluator) for name, group in point.groups.items()}
    return point.model_copy(update={"groups": groups})


def graded_now(
    candidates: Sequence[Candidate],
    read: Callable[[str], Point | None],
    *,
    point: str | None = None,
    at: datetime | None = None,
) -> list[Candidate]:
    """The same candidates, oldest first, of which the unknown ones are graded anew as far as a choice asks.

    That is the named one, else the newest until one is found that can be chosen. A log says of an unknown point that it
    is broken; ``read`` gives the body, which tells, or None where it cannot be read.
    """
    grades: dict[str, Grade] = {}
    left = UNKNOWN_POINTS_MAX
    with Evaluator() as evaluator:
        for candidate in reversed(candidates):
            if not may_be_chosen(candidate, point, at):
                continue
            grade = _grade_told(candidate, read)
            if grade is Grade.UNKNOWN and left and (body := read(candidate.name)) is not None:
                left -= 1
                grade = point_anew(body, evaluator).grade
            grades[candidate.name] = grade
            if point is None and grade.consistent and not candidate.suspect:
                break
    return [replace(candidate, grade=grades.get(candidate.name, candidate.grade)) for candidate in candidates]


def _grade_told(candidate: Candidate, read: Callable[[str], Point | None]) -> Grade:
    """What the log says, and of a broken point the body whether it is only unknown."""
    body = read(candidate.name) if candidate.grade is Grade.BROKEN else None
    return Grade.UNKNOWN if body is not None and body.grade is Grade.UNKNOWN else candidate.grade
