"""A search by halves for the newest point that is good, told one verdict after another."""

from __future__ import annotations

from dataclasses import dataclass, replace

UNKNOWN_IN_A_ROW_MAX = (
    3  # trials without a verdict, one after the other: what keeps them from it will keep others
)


@dataclass(frozen=True)
class Search:
    """What is known of ``count`` points, oldest first: the one at ``good`` passes, the one at ``bad`` does not.

    Before the first and after the last nothing is known of any. Those of ``passed_over`` are not tried, and of those of
    ``unknown`` nobody could tell. What went wrong once is taken to be wrong ever since.
    """

    count: int
    good: int
    bad: int
    passed_over: frozenset[int] = frozenset()
    unknown: frozenset[int] = frozenset()
    in_a_row: int = 0

    @classmethod
    def over(
        cls,
        count: int,
        *,
        good: int | None = None,
        bad: int | None = None,
        passed_over: frozenset[int] = frozenset(),
    ) -> Search:
        """The beginning, with what a person knows."""
        return cls(count, -1 if good is None else good, count if bad is None else bad, passed_over)

    @property
    def given_up(self) -> bool:
        """Whether too many trials in a row told nothing."""
        return self.in_a_row >= UNKNOWN_IN_A_ROW_MAX

    @property
    def next(self) -> int | None:
        """The point in the middle of those that are left; None where the search is over."""
        left = [at for at in self.between if at not in self.unknown | self.passed_over]
        return left[len(left) // 2] if left and not self.given_up else None

    @property
    def between(self) -> range:
        """The points of which it is not known whether they are good."""
        return range(self.good + 1, self.bad)

    def after(self, at: int, verdict: bool | None) -> Search:
        """The search once the point at ``at`` was tried; None where that told nothing."""
        if verdict is None:
            return replace(self, unknown=self.unknown | {at}, in_a_row=self.in_a_row + 1)
        return replace(self, good=at, in_a_row=0) if verdict else replace(self, bad=at, in_a_row=0)
