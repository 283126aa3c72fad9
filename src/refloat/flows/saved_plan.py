"""A plan in a file: kept for people to agree on, and held against what would be done now."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from refloat.digest import canonical_json
from refloat.durable import replace_file
from refloat.errors import UsageError
from refloat.limits import MIB
from refloat.plan.model import Plan, Value

PLAN_BYTES_MAX = 16 * MIB  # a thousand components take less than one


class _Saved(Value):
    """What stands in the file. ``hash`` is for people: it is computed anew from the plan."""

    format: Literal[1] = 1
    hash: str
    plan: Plan


def save(plan: Plan, path: Path) -> None:
    """Write the plan where nothing is or another saved plan. Raises ``UsageError``, leaving what was there."""
    if path.exists():
        load(path)
    content = canonical_json(_Saved(hash=plan.hash, plan=plan).model_dump(mode="json"))
    try:
        replace_file(path, content + b"\n")
    except OSError as error:
        raise UsageError(
            f"the plan cannot be written: {error.strerror}",
            file=str(path),
            next="name another file with --save",
        ) from error


def load(path: Path) -> Plan:
    """The plan that ``save`` wrote. Raises ``UsageError``."""
    try:
        with path.open("rb") as file:
            content = file.read(PLAN_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(
            f"the saved plan cannot be read: {error.strerror}",
            file=str(path),
            next="name a file that --save wrote",
        ) from error
    try:
        if len(content) > PLAN_BYTES_MAX:
            raise ValueError("it is too large")
        saved = _Saved.model_validate_json(content)
    except ValueError as error:
        why = (
            f"{error.error_count()} of its fields are wrong"
            if isinstance(error, ValidationError)
            else str(error)
        )
        raise UsageError(
            f"this is no plan that refloat saved: {why}", file=str(path), next="name a file that --save wrote"
        ) from error
    return saved.plan
