"""What the signed bodies of the points say of them: told anew each time. Which are suspect, and which unknown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from refloat.errors import Malformed, StoreError, VaultError
from refloat.flows import points
from refloat.flows.anew import graded_now
from refloat.point.model import Grade, Point, Snapshot
from refloat.point.select import Candidate
from refloat.point.suspicion import GONE_MIN, SOURCE_REWRITTEN, SOURCE_SHRANK, Part, Suspects, judge
from refloat.vault.forgotten import Forgotten, forgotten
from refloat.vault.replica import GETS_AT_ONCE, CommittedPoint, Replica
from refloat.vault.tree import chunk_names


@dataclass(frozen=True)
class Judged:
    """The points that some regions list and have not forgotten: their bodies, which are suspect, which no points."""

    bodies: Mapping[str, Point]
    suspects: Suspects
    malformed: frozenset[str] = frozenset()

    def mark(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """The same candidates, each with why it is suspect; unknown where a log can only say that it is broken."""
        return [
            replace(
                candidate,
                suspect=self.suspects.get(candidate.name, {}),
                grade=self._grade(candidate),
                malformed=candidate.name in self.malformed,
            )
            for candidate in candidates
        ]

    def _grade(self, candidate: Candidate) -> Grade:
        if candidate.name in self.malformed:
            return Grade.BROKEN
        body = self.bodies.get(candidate.name)
        unknown = candidate.grade is Grade.BROKEN and body is not None and body.grade is Grade.UNKNOWN
        return Grade.UNKNOWN if unknown else candidate.grade

    def graded_now(
        self,
        candidates: Sequence[Candidate],
        replicas: Sequence[Replica],
        *,
        point: str | None = None,
        at: datetime | None = None,
    ) -> list[Candidate]:
        """The same, those evaluated anew that a choice asks for: see ``anew.graded_now``."""

        def read(name: str) -> Point | None:
            found = self.bodies.get(name)
            return _first(replicas, name) if found is None else found

        return graded_now(self.mark(candidates), read, point=point, at=at)


def judged(replicas: Sequence[Replica]) -> Judged:
    """What is known of all points that these regions list and have not forgotten. It reads each one's body.

    A region or a body that cannot be read says nothing here.
    """
    logs: list[tuple[Sequence[CommittedPoint], Forgotten]] = []
    bodies: dict[str, Point] = {}
    malformed: set[str] = set()
    for replica in replicas:
        with suppress(VaultError, StoreError):
            log, told = replica.points(), forgotten(replica)
            logs.append((log, told))
            known = told.points.keys() | bodies.keys() | malformed
            bodies |= _read(replica, [p.name for p in log if p.name not in known], malformed)
    oldest_first = sorted(bodies.items(), key=lambda item: (item[1].created_at, item[0]))
    parts = [(name, {n: part_of(s) for n, s in body.components.items()}) for name, body in oldest_first]
    return Judged(bodies, judge(parts, accepted(logs), Listings(replicas)), frozenset(malformed))


def suspects(replicas: Sequence[Replica]) -> Suspects:
    """The suspect points among them."""
    return judged(replicas).suspects


def marked(
    candidates: Sequence[Candidate],
    replicas: Sequence[Replica],
    *,
    point: str | None = None,
    at: datetime | None = None,
) -> list[Candidate]:
    """The same candidates, ready to choose from: each with why it is suspect, and unknown ones evaluated anew."""
    return judged(replicas).graded_now(candidates, replicas, point=point, at=at)


def part_of(snapshot: Snapshot) -> Part:
    """What is judged of a component's snapshot."""
    return Part(
        snapshot.files,
        snapshot.bytes,
        snapshot.new_bytes,
        snapshot.stored_bytes,
        snapshot.tree,
        snapshot.kind,
    )


def overridden(logs: Iterable[tuple[Sequence[CommittedPoint], Forgotten]]) -> dict[str, frozenset[str]]:
    """By safety rule of forgetting, the points that were there when a person overrode it."""
    names: dict[str, set[str]] = {}
    for log, told in logs:
        for rule, slot in told.accepted.items():
            names.setdefault(rule, set()).update(point.name for point in log if point.slot <= slot)
    return {rule: frozenset(there) for rule, there in names.items()}


def accepted(logs: Collection[tuple[Sequence[CommittedPoint], Forgotten]]) -> dict[str, frozenset[str]]:
    """The same of the rules of suspicion, and the points that a person found good, each alone."""
    good = frozenset(name for _, told in logs for name in told.good)
    before = overridden(logs)
    return {rule: before.get(rule, frozenset()) | good for rule in (SOURCE_REWRITTEN, SOURCE_SHRANK)}


class Listings:
    """Tells contents apart by their chunks, in the first region that holds them; what cannot be read is not alike."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._replicas = replicas
        self._alike: dict[tuple[str, str], bool] = {}
        self._savings: dict[str, float] = {}

    def alike(self, part: Part, good: Part) -> bool:
        """As ``suspicion.Contents.alike``."""
        key = (part.tree, good.tree)
        if key not in self._alike:
            self._alike[key] = any(_alike(replica, *key) for replica in self._replicas)
        return self._alike[key]

    def saving(self, part: Part) -> float:
        """As ``suspicion.Contents.saving``."""
        if part.tree not in self._savings:
            found = (_saving(replica, part.tree) for replica in self._replicas)
            self._savings[part.tree] = next((saving for saving in found if saving is not None), 0.0)
        return self._savings[part.tree]


def _alike(replica: Replica, tree: str, good: str) -> bool:
    with suppress(VaultError, StoreError):
        sizes, old = _sizes(replica, tree), _sizes(replica, good)
        shared = sum(raw for name, (raw, _) in sizes.items() if name in old)
        return shared > sum(raw for raw, _ in sizes.values()) * GONE_MIN
    return False


def _saving(replica: Replica, tree: str) -> float | None:
    with suppress(VaultError, StoreError):
        sizes = _sizes(replica, tree).values()
        return 1 - sum(stored for _, stored in sizes) / max(1, sum(raw for raw, _ in sizes))
    return None


def _sizes(replica: Replica, tree: str) -> Mapping[bytes, tuple[int, int]]:
    """Every chunk of a tree, how many bytes it holds and what it takes."""
    names = set(chunk_names(bytes.fromhex(tree), replica.read_chunk))
    places = {name: next(iter(replica.locate(name)), None) for name in names}
    return {name: (it.raw_length, it.stored_length) for name, it in places.items() if it is not None}


def _first(replicas: Sequence[Replica], name: str) -> Point | None:
    """A point's body from the first region that has it."""
    return next(
        (body for replica in replicas if (body := _read(replica, [name], set()).get(name)) is not None), None
    )


def _read(replica: Replica, names: Sequence[str], malformed: set[str]) -> dict[str, Point]:
    """The bodies that can be read; names of what is signed and no point are added to ``malformed``."""

    def read(name: str) -> Point | None:
        try:
            return points.read(replica, name)
        except Malformed:
            malformed.add(name)
        except (VaultError, StoreError):
            pass
        return None

    with ThreadPoolExecutor(GETS_AT_ONCE, thread_name_prefix="points") as pool:
        found = zip(names, pool.map(read, names), strict=True)
        return {name: body for name, body in found if body is not None}
