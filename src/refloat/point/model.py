"""A recovery point as a value: one atomic set of snapshots of every component, with its verdicts."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_serializer, field_validator

from refloat.contracts import Facts
from refloat.digest import Json, json_digest
from refloat.manifest.model import Name

NOT_EVALUATED = "not evaluated"
"""How the reason of a verdict begins that says nothing of the facts: nobody came to evaluate it."""


class Record(BaseModel):
    """The base of what stands in a point's body: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Grade(StrEnum):
    """How consistent a group is, best first."""

    EXACT = "exact"
    FUZZY = "fuzzy"
    UNKNOWN = "unknown"
    BROKEN = "broken"

    @property
    def rank(self) -> int:
        """0 for the best."""
        return list(Grade).index(self)

    @property
    def consistent(self) -> bool:
        """Whether a recovery takes it by itself."""
        return self in (Grade.EXACT, Grade.FUZZY)


class Verdict(Record):
    """What became of one invariant. ``holds`` is None where a fact was missing or it was not evaluated."""

    must: str
    holds: bool | None
    values: Mapping[str, Json] = Field(default_factory=dict)
    reason: str = ""

    @property
    def evaluated(self) -> bool:
        """Whether it says anything of the facts; what was not evaluated may be another time."""
        return self.holds is not None or not self.reason.startswith(NOT_EVALUATED)

    @property
    def spoken(self) -> str:
        """What is said of it where it is not true."""
        how = "does not hold" if self.holds is False else f"cannot be told ({self.reason})"
        return f"`{self.must}` {how}"


class GroupRecord(Record):
    """A group as captured.

    One that is broken by nothing but invariants that were not evaluated is unknown. It is stored as broken, which no
    reader takes for good.
    """

    members: tuple[str, ...]
    invariants: tuple[Verdict, ...] = ()
    grade: Grade
    reason: str = ""
    skew_s: float = 0.0

    @property
    def must(self) -> tuple[str, ...]:
        """Its invariants, as they were asked."""
        return tuple(verdict.must for verdict in self.invariants)

    @field_validator("grade")
    @classmethod
    def _told_from_broken(cls, grade: Grade, known: ValidationInfo) -> Grade:
        unknown = grade is Grade.BROKEN and all_but_evaluated(known.data.get("invariants", ()))
        return Grade.UNKNOWN if unknown else grade

    @field_serializer("grade")
    def _stored(self, grade: Grade) -> str:
        return str(Grade.BROKEN if grade is Grade.UNKNOWN else grade)


def all_but_evaluated(verdicts: Sequence[Verdict]) -> bool:
    """Whether nothing speaks against a group but that some of its invariants were not evaluated."""
    against = [verdict for verdict in verdicts if verdict.holds is not True]
    return bool(against) and not any(verdict.evaluated for verdict in against)


class Snapshot(Record):
    """One component's captured files and the facts of exactly those bytes.

    ``tree`` is the chunk name of its root tree, in hex. ``as_of`` is the start of the capture, or the last
    proof that nothing had changed since. ``new_bytes`` were not in the vault before; ``stored_bytes`` is
    what they take there.
    """

    kind: str
    tree: str
    identity: Mapping[str, Json]
    position: Mapping[str, Json]
    token: str | None = None
    as_of: datetime
    captured_from: datetime
    captured_to: datetime
    files: int = 0
    bytes: int = 0
    new_bytes: int = 0
    stored_bytes: int = 0
    seconds: float = 0.0
    carried: bool = False

    @property
    def facts(self) -> Facts:
        """The facts as the contracts know them."""
        return Facts(identity=self.identity, position=self.position, token=self.token)


def _format(known: Mapping[str, object]) -> int:
    return 2 if known["not_captured"] else 1


class Point(Record):
    """The body of a recovery point; signed once, the same in every region.

    ``not_captured`` says, of each component that is as old as in the point before, why it could not be captured.
    """

    pipeline: str
    primary: str
    created_at: datetime
    manifest: str = Field(description="chunk name of the tree with the manifest and the files it names")
    components: Mapping[Name, Snapshot]  # a recovery makes folders of these names
    groups: Mapping[str, GroupRecord] = Field(default_factory=dict)
    profile: str = "default"
    versions: Mapping[str, str] = Field(default_factory=dict)
    not_captured: Mapping[Name, str] = Field(default_factory=dict, exclude_if=operator.not_)
    format: int = Field(default_factory=_format)

    @property
    def grade(self) -> Grade:
        """The worst group's grade; exact where there is none."""
        return max((group.grade for group in self.groups.values()), key=lambda g: g.rank, default=Grade.EXACT)

    @property
    def identity_digest(self) -> str:
        """The digest of every component's identity."""
        return identity_digest({name: snapshot.identity for name, snapshot in self.components.items()})


def identity_digest(identities: Mapping[str, Mapping[str, Json]]) -> str:
    """The digest of the identities of all components, by name."""
    return json_digest({name: dict(identity) for name, identity in identities.items()})
