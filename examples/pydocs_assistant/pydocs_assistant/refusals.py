"""Why the endpoint refuses to start."""

from __future__ import annotations


class RefusalError(Exception):
    """The parts of the region do not make an assistant that could be trusted."""


class NoChampionError(RefusalError):
    """The registry names no champion of a model, or cannot be asked, or a model's files are gone."""


class ForeignIndexError(RefusalError):
    """Models and index were not made for each other, so that answers would mean nothing."""
