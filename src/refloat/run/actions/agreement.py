"""What must agree before anything is staged, and again before the first switch: for what stays goes on living."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from refloat.contracts import Facts
from refloat.digest import Json
from refloat.errors import RefloatError, Retry
from refloat.point.model import Verdict
from refloat.run.context import Context
from refloat.run.target import SOURCE_AHEAD, Target

Evaluate = Callable[[Sequence[str], Mapping[str, Facts]], list[Verdict]]
"""Verdicts on invariants over the members' facts, by component."""


@dataclass(frozen=True)
class Agreement:
    """What comes back belongs to what stays; and in a move, what is live in the source is what the point holds."""

    target: Target
    evaluate: Evaluate
    _asking: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _agreed: threading.Event = field(default_factory=threading.Event, repr=False)

    def once(self, context: Context) -> None:
        """Ask both rules, if this process has not asked before its first switch. Raises ``Refused``."""
        with self._asking:
            if not self._agreed.is_set():
                self.of_groups(context)
                if self.target.moves:
                    self.with_source(context)
                self._agreed.set()

    def of_groups(self, context: Context) -> Mapping[str, Json]:
        """A part of a group beside the rest of another moment, where its invariants do not hold over the two."""
        told: Mapping[str, Json] = {}
        for split in split_groups(self.target):
            why = split.why_apart(self.target, self.evaluate)
            if why is not None:
                message = f"group {split.name} belongs together, {', '.join(split.stay)} would stay as it is, and {why}"
                told = context.refuse("group_split", message, next=f"add {split.whole}")
        return told

    def with_source(self, context: Context) -> Mapping[str, Json]:
        """What was written in the source after the point, or cannot be told, would be lost by a move."""
        source, ahead = self.target.point.primary, []
        for name, component in self.target.components.items():
            try:
                token = self.target.token_in_source(name)
            except RefloatError as error:
                if error.retry is not Retry.NEVER:
                    raise
                ahead.append(f"{name} cannot be looked at ({error.message})")
                continue
            if token is None or component.snapshot.token is None:
                ahead.append(f"whether {name} has changed cannot be told")
            elif token != component.snapshot.token:
                ahead.append(f"{name} has changed")
        if not ahead:
            return {"unmoved": source}
        message = f"what is live in {source} is not what the point holds: {', '.join(ahead)}"
        hint = "stop what writes there, then refloat protect, and begin again"
        return context.refuse(SOURCE_AHEAD, message, next=hint)


@dataclass(frozen=True)
class Split:
    """A group with the members that stay, also those of which that cannot be told; ``lacking`` are not there."""

    name: str
    stay: tuple[str, ...]
    lacking: tuple[str, ...]

    @property
    def whole(self) -> str:
        """The options that let the rest of the group come back, too."""
        return " ".join(f"--only {member}" for member in (*self.stay, *self.lacking))

    def why_apart(self, target: Target, evaluate: Evaluate) -> str | None:
        """Why it is not known that all members belong together; None where each invariant holds over them.

        What comes back is as it was captured, and what stays is looked at. Raises what may pass.
        """
        group = target.groups[self.name]
        if not group.must:
            return "no invariant says that they do"
        if self.lacking:
            return f"{', '.join(self.lacking)} of it is not there"
        facts = {
            name: target.components[name].snapshot.facts for name in group.members if name not in self.stay
        }
        for name in self.stay:
            try:
                facts[name] = target.live(name)
            except RefloatError as error:
                if error.retry is not Retry.NEVER:
                    raise
                return f"{name} cannot be looked at: {error.message}"
        return spoken(evaluate(group.must, facts)) or None


def split_groups(target: Target) -> list[Split]:
    """The groups that would be a mixture: a part is recovered, and some of the rest is there."""
    rests = {
        name: [member for member in group.members if member not in target.components]
        for name, group in target.groups.items()
    }
    halved = {name: rest for name, rest in rests.items() if 0 < len(rest) < len(target.groups[name].members)}
    there = set(target.beside()) if halved else set()
    return [
        Split(name, tuple(m for m in rest if m in there), tuple(m for m in rest if m not in there))
        for name, rest in halved.items()
        if there.intersection(rest)
    ]


def spoken(verdicts: Iterable[Verdict]) -> str:
    """What is said of the invariants that are not true; empty where each is."""
    return "; ".join(verdict.spoken for verdict in verdicts if verdict.holds is not True)
