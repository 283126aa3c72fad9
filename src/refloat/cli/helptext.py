"""Help pages drawn with rich, without the half of it that draws none of ours.

Typer imports rich's Markdown and its tracebacks together with the help; they take half of the time to the first
line, and neither is ever used here.
"""

from __future__ import annotations

from refloat.stand_in import stand_ins


def load() -> None:
    """Import what draws the help, for the next who asks for it."""
    with stand_ins({"rich.markdown": ["Markdown"], "rich.traceback": ["Traceback"]}):
        import typer.rich_utils  # noqa: F401 - as the line above says
