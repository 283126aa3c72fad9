"""What steps that only read have in common: repeating one is harmless, and nothing is to be put back."""

from __future__ import annotations

from refloat.plan.model import Step
from refloat.run.context import Context, Observation


class ReadOnly:
    """The base of an action without a lasting effect."""

    def observe(self, step: Step, context: Context) -> Observation:
        """Always ``undone``, so that it is done again."""
        return "undone"

    def undo(self, step: Step, context: Context) -> None:
        """Nothing to put back."""
