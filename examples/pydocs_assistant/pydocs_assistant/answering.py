"""How a question is answered: embed it, search, rank by features as well, render the user's variant."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from pydocs_assistant import (
    embedding,
    features,
    index,
    prompts,
    registry,
)
from pydocs_assistant.features import Features
from pydocs_assistant.local_lance import lancedb
from pydocs_assistant.paths import Region
from pydocs_assistant.refusals import ForeignIndexError
from pydocs_assistant.registry import Champions, Registered
from pydocs_assistant.settings import Settings

Row = dict[str, Any]
"""A passage as the index gives it: id, topic, title, text and _distance."""


@dataclass(frozen=True, slots=True)
class Models:
    """The two champions; ``version`` names the versions of both, for the log."""

    embedder: Pipeline
    classifier: LogisticRegression
    embedded_by: Registered
    version: str

    @classmethod
    def of(cls, champions: Champions) -> Models:
        """Load the models of the champions."""
        embedder, classifier = champions["embedder"], champions["classifier"]
        version = f"embedder/{embedder.version} classifier/{classifier.version}"
        return cls(registry.load_model(embedder), registry.load_model(classifier), embedder, version)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and where it comes from; ``passages`` are ids, the best first, ``topics`` are theirs."""

    text: str
    topic: str
    passages: tuple[str, ...]
    topics: tuple[str, ...]
    variant: str


class Assistant:
    """Answers questions from one region; safe to use from several threads."""

    def __init__(self, region: Region, models: Models, table: lancedb.table.Table) -> None:
        self._region = region
        self._models = models
        self._table = table
        self._settings = Settings.read(region.app / "settings.json")
        self._experiment = prompts.read_experiment(region)
        self._rerank = prompts.read_flags(region)["rerank"]
        self._online = features.open_online(region)
        self._one_at_a_time = threading.Lock()

    @property
    def model_version(self) -> str:
        """The versions of the models that answer."""
        return self._models.version

    def answer(self, question: str, *, user: str, count: int) -> Answer:
        """Answer from the ``count`` best passages, by the variant that ``user`` belongs to."""
        words = embedding.plain_words(question)
        vector = embedding.embed(self._models.embedder, [words])
        topic = str(self._models.classifier.predict(vector)[0])
        rows = index.nearest(self._table, vector[0], max(count, self._settings.candidates)).to_pylist()
        best = self._ranked(rows, set(words.split()))[:count]
        variant = self._experiment.variant_of(user)
        text = prompts.render(
            variant,
            question=question,
            topic=topic,
            texts=[row["text"] for row in best[:1]],
            titles=[row["title"] for row in best[1:]],
        )
        return Answer(
            text, topic, tuple(row["id"] for row in best), tuple(row["topic"] for row in best), variant.name
        )

    def belongs_together(self) -> bool:
        """Whether the index as it lies there now was made by the embedder that answers."""
        try:
            check_origin(self._models.embedded_by, index.origin_of(index.open_table(self._region.index)))
        except (ForeignIndexError, ValueError, OSError):
            return False
        return True

    def _ranked(self, rows: Sequence[Row], words: set[str]) -> list[Row]:
        known = self._features_of(rows) if self._rerank else {}
        scored = [(-self._score(row, words, known.get(row["id"])), row["id"], row) for row in rows]
        return [row for _, _, row in sorted(scored, key=lambda entry: entry[:2])]

    def _score(self, row: Row, words: set[str], known: Features | None) -> float:
        similarity = 1.0 - float(row["_distance"])
        if known is None:
            return similarity
        title = set(embedding.plain_words(row["title"]).split())
        named = len(title & words) / max(1, len(title))
        return (
            similarity
            + self._settings.title_weight * named
            + self._settings.popularity_weight * math.log10(1 + known.popularity)
            + self._settings.code_weight * known.code_share
        )

    def _features_of(self, rows: Sequence[Row]) -> dict[str, Features]:
        with self._one_at_a_time:
            return features.look_up(self._online, [row["id"] for row in rows])


def load(region: Region, champions: Champions) -> Assistant:
    """Load the champions and everything they need.

    Raises ``ForeignIndexError``; ``OSError``, ``ValueError`` or ``sqlite3.Error`` for a missing part.
    """
    table = index.open_table(region.index)
    check_origin(champions["embedder"], index.origin_of(table))
    check_classifier(champions)
    return Assistant(region, Models.of(champions), table)


def check_origin(embedded_by: Registered, origin: index.Origin) -> None:
    """Raise ``ForeignIndexError`` unless an index was made by this embedder, in this dimension."""
    dimension = int(embedded_by.tags["dimension"])
    if origin.dimension != dimension:
        raise ForeignIndexError(
            f"the index holds vectors of length {origin.dimension}, but version {embedded_by.version} of the"
            f" embedder makes vectors of length {dimension}"
        )
    if origin.embedder != embedded_by.digest:
        raise ForeignIndexError(
            f"the index was built by the embedder {origin.embedder or 'unknown'}, but the champion is version"
            f" {embedded_by.version} with {embedded_by.digest}"
        )


def check_classifier(champions: Champions) -> None:
    """Raise ``ForeignIndexError`` unless the classifier learned from this embedder's vectors."""
    if champions["classifier"].tags["embedder"] != champions["embedder"].digest:
        raise ForeignIndexError(
            f"version {champions['classifier'].version} of the classifier learned from another embedder's"
            f" vectors than those of the champion, version {champions['embedder'].version}"
        )
