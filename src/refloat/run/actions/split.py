"""A group of which some members are recovered and others stay: what its invariants say of the two together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from refloat.contracts import Facts
from refloat.errors import RefloatError
from refloat.point.model import Verdict
from refloat.run.target import Target

Evaluate = Callable[[Sequence[str], Mapping[str, Facts]], list[Verdict]]
"""Verdicts on invariants over the members' facts, by component."""


@dataclass(frozen=True)
class Split:
    """A group with the members that stay, of which ``lacking`` are not even there."""

    name: str
    stay: tuple[str, ...]
    lacking: tuple[str, ...]

    @property
    def whole(self) -> str:
        """The options that let the rest of the group come back, too."""
        return " ".join(f"--only {member}" for member in (*self.stay, *self.lacking))

    def why_apart(self, target: Target, recovered: Callable[[str], Facts], evaluate: Evaluate) -> str | None:
        """Why it is not known that all members belong together; None where each invariant holds over them.

        ``recovered`` gives the facts of a member that comes back. Those that stay are looked at where they are.
        """
        group = target.groups[self.name]
        if not group.must:
            return "no invariant says that they do"
        if self.lacking:
            return f"{', '.join(self.lacking)} of it is not there"
        facts: dict[str, Facts] = {}
        for member in group.members:
            try:
                facts[member] = target.live(member) if member in self.stay else recovered(member)
            except RefloatError as error:
                return f"{member} cannot be looked at: {error.message}"
        return "; ".join(spoken(evaluate(group.must, facts))) or None


def split_groups(target: Target, names: Iterable[str]) -> list[Split]:
    """Those of the groups ``names`` that would be a mixture: a part is recovered, and some of the rest is there."""
    recovered = set(target.components)
    rests = {name: [m for m in target.groups[name].members if m not in recovered] for name in names}
    halved = {name: rest for name, rest in rests.items() if 0 < len(rest) < len(target.groups[name].members)}
    there = set(target.beside()) if halved else set()
    return [
        Split(name, tuple(m for m in rest if m in there), tuple(m for m in rest if m not in there))
        for name, rest in halved.items()
        if there.intersection(rest)
    ]


def spoken(verdicts: Iterable[Verdict]) -> list[str]:
    """What is said of each invariant that is not true."""
    return [
        f"`{verdict.must}` "
        + ("does not hold" if verdict.holds is False else f"cannot be told ({verdict.reason})")
        for verdict in verdicts
        if verdict.holds is not True
    ]
