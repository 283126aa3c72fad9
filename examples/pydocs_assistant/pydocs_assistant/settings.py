"""The settings of the ranking, which are configuration and lie beside the code in every region."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pydocs_assistant.paths import write_json


@dataclass(frozen=True, slots=True)
class Settings:
    """How passages are ranked.

    ``candidates`` passages come from the index. To the similarity of each (-1 to 1) are added
    ``title_weight`` times the share of its title that the question names, ``popularity_weight`` for each
    tenfold of mentions, and ``code_weight`` times its share of code.
    """

    candidates: int = 60
    title_weight: float = 0.6
    popularity_weight: float = 0.01
    code_weight: float = 0.02

    @classmethod
    def read(cls, path: Path) -> Settings:
        """The settings in a JSON file. Raises ``OSError``, and ``ValueError`` for what is no setting."""
        try:
            return cls(**json.loads(path.read_bytes()))
        except TypeError as error:
            raise ValueError(f"{path}: {error}") from error

    def write(self, path: Path) -> None:
        """Write the settings to a JSON file."""
        write_json(path, asdict(self))
