"""A recovery point as a value: one atomic set of snapshots of every component, with its verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from refloat.contracts import Facts
from refloat.digest import Json, json_digest
from refloat.manifest.model import Name


class Record(BaseModel):
    """The base of what stands in a point's body: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Grade(StrEnum):
    """How consistent a group is, best first."""

    EXACT = "exact"
    FUZZY = "fuzzy"
    BROKEN = "broken"

    @property
    def rank(self) -> int:
        """0 for the best."""
        return list(Grade).index(self)


class Verdict(Record):
    """What became of one invariant. ``holds`` is None where a fact was missing or it cost too much."""

    must: str
    holds: bool | None
    values: Mapping[str, Json] = Field(default_factory=dict)
    reason: str = ""


class GroupRecord(Record):
    """A group as captured."""

    members: tuple[str, ...]
    grade: Grade
    reason: str = ""
    skew_s: float = 0.0
    invariants: tuple[Verdict, ...] = ()


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


class Point(Record):
    """The body of a recovery point; signed once, the same in every region."""

    format: int = 1
    pipeline: str
    primary: str
    created_at: datetime
    manifest: str = Field(description="chunk name of the tree with the manifest and the files it names")
    components: Mapping[Name, Snapshot]  # a recovery makes folders of these names
    groups: Mapping[str, GroupRecord] = Field(default_factory=dict)
    profile: str = "default"
    versions: Mapping[str, str] = Field(default_factory=dict)

    @property
    def grade(self) -> Grade:
        """The worst group's grade; exact where there is none."""
        return max((group.grade for group in self.groups.values()), key=lambda g: g.rank, default=Grade.EXACT)

    @property
    def identity_digest(self) -> str:
        """The digest of every component's identity: what a baseline is keyed by."""
        return identity_digest({name: snapshot.identity for name, snapshot in self.components.items()})


def identity_digest(identities: Mapping[str, Mapping[str, Json]]) -> str:
    """The digest of the identities of all components, by name."""
    return json_digest({name: dict(identity) for name, identity in identities.items()})
